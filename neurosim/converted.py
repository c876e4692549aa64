"""Text from a BrainGPT, Qwen2 or Llama folder, with its spikes counted and a token's energy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Group
from rich.text import Text

from neurosim.models.braingpt.energy import TokenEnergy, energy_report
from neurosim.models.braingpt.energy_table import terminal
from neurosim.models.braingpt.sites import EventCounter
from neurosim.models.generation import GenerationResponse, speed, stream_generate
from neurosim.models.loading import LoadedBrainGPT
from neurosim.models.sampling import Sampler
from neurosim.pipeline import versions

CONTEXTS = (128, 4096)
Show = Callable[[GenerationResponse], None]


@dataclass(frozen=True, eq=False)
class ConvertedReport:
    """What `run_converted` found; `energy` at each context, None for a model without spikes."""

    data: dict[str, Any]
    energy: tuple[TokenEnergy, ...]
    last: GenerationResponse

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return self.data | {"energy": [part.to_dict() for part in self.energy]}

    def __rich__(self) -> Group:
        """What a terminal shows below the text."""
        lines = [
            Text(f"{self.data['how']} of {self.data['model']['name']}"),
            Text(speed(self.last)),
        ]
        if not self.energy:
            return Group(*lines, Text("no spikes, no events: nothing is priced in this mode"))
        return Group(*lines, Text(), terminal([part.to_dict() for part in self.energy]))


class _Phases:
    """Counts the prompt's events and those of generated tokens apart."""

    def __init__(self) -> None:
        self.prompt, self.decode = EventCounter(), EventCounter()
        self.decoding = False

    def site(
        self, name: str, counts: npt.NDArray[np.int8], scale: npt.NDArray[Any], fan_out: int
    ) -> None:
        """Pass on to the counter of the phase."""
        counter = self.decode if self.decoding else self.prompt
        counter.site(name, counts, scale, fan_out)


def run_converted(
    loaded: LoadedBrainGPT,
    prompt: str | Sequence[int],
    tokens: int = 32,
    sampler: Sampler | None = None,
    seed: int = 0,
    contexts: Sequence[int] = CONTEXTS,
    show: Show = lambda response: None,
) -> ConvertedReport:
    """Generate text, count every spike, and price a decoded token.

    Args:
        loaded: from `neurosim.models.load`.
        prompt: text to continue, or token ids.
        tokens: the most to generate, >= 2 (the first one's spikes are the prompt's).
        sampler: default: the largest logit.
        seed: of the sampling.
        contexts: tokens in the cache at which a token is priced. Its linear layers' events are
            those counted here; what grows with the context follows from the sizes.
        show: called with every response as it comes.

    Returns:
        The report. Where the model is in mode "ann", or stops at once, there is no energy.
    """
    if tokens < 2:
        raise ValueError(f"expected tokens >= 2 to count a decoded token's spikes, got {tokens}")
    model, phases = loaded.model, _Phases()
    spiking = model.options.mode != "ann"
    started, parts = time.perf_counter(), []
    responses = stream_generate(
        model,
        loaded.tokenizer,
        prompt,
        tokens,
        sampler or Sampler(temperature=0.0, banned=None),
        (),
        seed,
        None,
        phases if spiking else None,
    )
    for response in responses:
        phases.decoding = True
        parts.append(response.text)
        show(response)
    weight_bits = getattr(model, "weight_bits", None) or model.config.weight_bits
    energy: tuple[TokenEnergy, ...] = ()
    if phases.decode.elements:
        energy = tuple(
            energy_report(
                phases.decode, model.config, context, weight_bits, silu=model.options.silu
            )
            for context in contexts
        )
    data = {
        "model": {
            "name": loaded.name,
            "sha256": loaded.sha256,
            "parameters": loaded.parameters,
            "source": dict(model.config.source),
        },
        "how": repr(model),
        "text": "".join(parts),
        "tokens": {"prompt": response.prompt_tokens, "generated": response.generation_tokens},
        "tokens_per_s": {"prompt": response.prompt_tps, "decode": response.generation_tps},
        "events": {
            phase: {
                "operations": counter.operations,
                "per_mac": counter.per_mac(),
                "multiply_accumulates": counter.multiply_accumulates,
                "sites": counter.events,
            }
            for phase, counter in (("prompt", phases.prompt), ("decode", phases.decode))
        },
        "finish_reason": response.finish_reason,
        "seed": seed,
        "versions": versions(),
        "wall_s": time.perf_counter() - started,
    }
    return ConvertedReport(data, energy, response)
