"""Text from a BrainGPT, Qwen2 or Llama folder, with its spikes counted and a token's energy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Group
from rich.text import Text

from neurosim.chip.description import ChipDescription
from neurosim.energy import chip_prices
from neurosim.energy import energy_report as chip_energy
from neurosim.energy.units import joules, with_unit
from neurosim.events.engine import Simulator
from neurosim.models.braingpt.energy import TokenEnergy, energy_report
from neurosim.models.braingpt.energy_table import terminal
from neurosim.models.braingpt.lowered import lower
from neurosim.models.braingpt.sites import EventCounter, Listener, SiteRecord
from neurosim.models.generation import GenerationResponse, prompt_ids, speed, stream_generate
from neurosim.models.loading import LoadedBrainGPT
from neurosim.models.sampling import Sampler
from neurosim.pipeline import versions

CONTEXTS = (128, 4096)
Show = Callable[[GenerationResponse], None]


class ChipModel:
    """A BrainGPT with every linear layer on simulated crossbars, as generation calls a model.

    Args:
        model: the compiled engine with integer weights (`weight_bits` 8 or 4).
        chip: on what.
        context: tokens that its caches hold.
        drive: "pulse_width" (|n| pulses a word line) or "bit_plane" (7 binary reads).
        seed: of the chip's devices and noise.
        check: compare every token with the engine's own; see `differences`.
        chips: over how many chips to spread the network.
    """

    def __init__(
        self,
        model: Any,
        chip: ChipDescription,
        context: int,
        drive: str = "pulse_width",
        seed: int = 0,
        check: bool = False,
        chips: int = 1,
    ) -> None:
        self.config, self.options, self.chip = model.config, model.options, chip
        self._seen, self._engine, self._cache = SiteRecord(), model, model.new_cache()
        self._check, self._switch = check, _Switch(self._seen)
        self.network = lower(model, drive, context, self._switch)
        self.simulator = Simulator(self.network, chip, seed, chips)
        self.compared = self.differences = 0

    def __repr__(self) -> str:
        return f"{self._engine} on {self.chip.name}, {self.simulator.placement.used_tiles} tiles"

    def new_cache(self) -> list[int]:
        """A new text: the caches on the chip are emptied."""
        self.simulator.forget()
        self._cache = self._engine.new_cache()
        return []

    def __call__(
        self, ids: Any, cache: Any = None, *, listener: Any = None, last: bool = True
    ) -> npt.NDArray[np.float64]:
        """Logits (V,) after ids (L,), one token at a time."""
        if cache is None or not last:
            raise ValueError("a chip gives the last token's logits of one text; use new_cache()")
        logits = np.zeros(0)
        for token in np.asarray(ids).tolist():
            self._switch.other = listener
            logits = self.simulator.step(token)
            if self._check:
                self._compare(token, logits)
        return logits

    def _compare(self, token: int, logits: npt.NDArray[np.float64]) -> None:
        """Every count of every site, and the logits, against the engine's."""
        expected = SiteRecord()
        wanted = self._engine(np.array([token]), self._cache, listener=expected, last=True)
        self.differences += int((logits != wanted).sum())
        self.compared += wanted.size
        for site, counts in expected.counts.items():
            self.differences += int((self._seen.counts[site] != counts).sum())
            self.compared += counts.size

    def report(self) -> dict[str, Any]:
        """Placement and energy of the generated tokens (of the prompt's, where it stopped at
        once), J, in plain values."""
        run = self.simulator.run()
        prices = chip_prices(self.chip.numbers())
        energy = chip_energy(
            self.network,
            prices,
            self.simulator.placement,
            run.phases,
            self.chip.evidence.weakest,
            self.chip.flags,
        )
        found = {
            "name": self.chip.name,
            "evidence": self.chip.evidence.weakest,
            "flags": list(self.chip.flags),
            **self.simulator.placement.to_dict(),
            "energy": energy.to_dict(),
            "J_per_token": energy.main.total,
            "by_mechanism_J": energy.main.by_mechanism(),
            "seconds_per_token": energy.main.seconds_per_token,
        }
        if self._check:
            found["check"] = {"compared": self.compared, "differences": self.differences}
        return found


class _Switch:
    """Passes spike counts on to a record and to whoever else listens."""

    def __init__(self, record: SiteRecord) -> None:
        self._record = record
        self.other: Listener | None = None

    def site(
        self, name: str, counts: npt.NDArray[np.int8], scale: npt.NDArray[Any], fan_out: int
    ) -> None:
        """One quantisation."""
        self._record.site(name, counts, scale, fan_out)
        if self.other is not None:
            self.other.site(name, counts, scale, fan_out)


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
        if "chip" in self.data:
            lines += _chip_lines(self.data["chip"])
        if not self.energy:
            why = "no spikes, no events: nothing is priced in this mode"
            if self.data["events"]["prompt"]["multiply_accumulates"]:
                why = "it stopped at the first token: no decoded token's spikes to price"
            return Group(*lines, Text(why))
        lines += [
            Text(),
            Text("a token's energy as arithmetic of a digital processor, beside the ANN's"),
        ]
        if self.data["attention"] == "spiking":
            lines.append(Text("attention is priced in floating point: its spikes are not counted"))
        return Group(*lines, terminal([part.to_dict() for part in self.energy]))


def _chip_lines(chip: Mapping[str, Any]) -> list[Text]:
    """What the chip took, in words."""
    parts = sorted(chip["by_mechanism_J"].items(), key=lambda part: -part[1])
    kind = "generated" if chip["energy"]["phase"] == "decode" else "prompt"
    lines = [
        f"linear layers on the simulated chip {chip['name']}: {chip['tiles']} tiles, "
        f"{chip['windows_per_token']} windows a token, "
        f"{with_unit(chip['seconds_per_token'], 's')}, {joules(chip['J_per_token'])} a {kind} "
        f"token (evidence {chip['evidence']})",
        "  " + ", ".join(f"{name} {joules(value)}" for name, value in parts if value),
        *chip["flags"],
    ]
    if "check" in chip:
        check = chip["check"]
        lines.append(
            f"check: {check['differences']} of {check['compared']} spike counts and logits differ "
            "from the model's own"
        )
    return [Text(line) for line in lines]


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
    chip: ChipDescription | None = None,
    drive: str = "pulse_width",
    check: bool = False,
    chips: int = 1,
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
        chip: simulate the linear layers on its crossbars, see `ChipModel`; `seed` draws it too.
        drive: of the word lines.
        check: compare every count with the model's own.
        chips: over how many chips to spread it.
        show: called with every response as it comes.

    Returns:
        The report. Where the model is in mode "ann", or stops at once, there is no energy.
    """
    if tokens < 2:
        raise ValueError(f"expected tokens >= 2 to count a decoded token's spikes, got {tokens}")
    model, phases = loaded.model, _Phases()
    ids = prompt_ids(loaded.tokenizer, prompt)
    if len(ids) + tokens > model.config.max_position_embeddings:
        raise ValueError(
            f"expected prompt and text to fit the model's context of "
            f"{model.config.max_position_embeddings} tokens, got {len(ids)} and {tokens}"
        )
    if chip is not None:
        model = ChipModel(model, chip, len(ids) + tokens, drive, seed, check, chips)
    spiking = model.options.mode != "ann"
    started, parts = time.perf_counter(), []
    responses = stream_generate(
        model,
        loaded.tokenizer,
        ids,
        tokens,
        sampler or Sampler(temperature=0.0, banned=None),
        (),
        seed,
        None,
        phases if spiking else None,
    )
    for response in responses:
        if chip is not None and not phases.decoding:
            model.simulator.begin("decode")
        phases.decoding = True
        parts.append(response.text)
        show(response)
    weight_bits = getattr(loaded.model, "weight_bits", None) or model.config.weight_bits
    energy: tuple[TokenEnergy, ...] = ()
    if phases.decode.elements:
        energy = tuple(
            energy_report(
                phases.decode,
                model.config,
                context,
                weight_bits,
                silu=model.options.silu,
                gains=loaded.model.gained,
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
        "attention": model.options.attention,
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
    if chip is not None:
        data["chip"] = model.report()
    return ConvertedReport(data, energy, response)
