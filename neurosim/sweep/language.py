"""Language models on chips: what a point of a sweep measures, with the code of `neurosim run`.

A `LanguageModel` holds what workers need (network, tokenizer, texts as tokens), so that the model
folder is read once, by the process that starts the sweep; the workers need neither it nor MLX.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.chip.description import ChipDescription
from neurosim.energy import chip_prices, energy_report
from neurosim.events.engine import Simulator
from neurosim.events.mesh.report import PhaseTraffic
from neurosim.models.checkpoint import DEFAULT, load
from neurosim.models.evaluation import bits_per_byte
from neurosim.models.held_out import test_stream
from neurosim.models.sampling import Sampler
from neurosim.models.text.corpus import sample_documents
from neurosim.models.text.tokenizer import Tokenizer, token_stream
from neurosim.network import Network, Readout
from neurosim.pipeline import prompt_tokens, spiking, text_losses
from neurosim.sweep.design import digest, tails
from neurosim.sweep.spec import SHIPPED, SweepSpec

Row = dict[str, Any]
_TEXT_SEED = 0  # order of the bundled sample's documents, as `neurosim run` takes it


@dataclass(frozen=True, eq=False)
class QualityWork:
    """Bits per byte of a token stream (L + 1,): the first token is given, L are predicted."""

    stream: npt.NDArray[np.integer]
    kind: str = "quality"
    prompt: str = ""

    @property
    def amount(self) -> float:
        """Tokens to simulate."""
        return len(self.stream) - 1


@dataclass(frozen=True, eq=False)
class GenerationWork:
    """Continue the prompt (ids, end-of-text first) by `generated` tokens."""

    ids: tuple[int, ...]
    generated: int
    sampler: Sampler
    prompt: str
    kind: str = "generate"

    @property
    def amount(self) -> float:
        """Tokens to simulate."""
        return len(self.ids) + self.generated


Work = QualityWork | GenerationWork


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A lowered spiking model with its tokenizer and the works of a sweep."""

    name: str
    sha256: str
    network: Network
    tokenizer: Tokenizer
    context: int
    works: tuple[Work, ...] = ()
    unit: str = "tokens"

    @classmethod
    def load_all(cls, spec: SweepSpec) -> list[LanguageModel]:
        """The models of a specification, called by as much of their paths as tells them apart."""
        folders = [DEFAULT if name == SHIPPED else spec.folder / name for name in spec.models]
        names = tails([folder.resolve() for folder in folders])
        return [cls.load(*model, spec) for model in zip(names, folders, strict=True)]

    @classmethod
    def load(cls, name: str, folder: Path, spec: SweepSpec) -> LanguageModel:
        """Read a model folder and cut the texts into tokens."""
        loaded = load(folder)
        network = spiking(loaded).lower()
        works: list[Work] = []
        if spec.quality is not None:
            if spec.quality.text == "sample":
                stream = token_stream(sample_documents(), loaded.tokenizer, _TEXT_SEED)
            else:
                stream = test_stream(loaded.tokenizer)
            if len(stream) - 1 < spec.quality.tokens:
                raise ValueError(
                    f"quality.tokens: expected at most {len(stream) - 1}, all that the text "
                    f"{spec.quality.text!r} has for {loaded.folder}, got {spec.quality.tokens}"
                )
            works.append(QualityWork(stream[: spec.quality.tokens + 1]))
        if spec.generate is not None:
            banned = loaded.tokenizer.end_of_text
            sampler = Sampler(spec.generate.temperature, spec.generate.top_k, banned)
            for i, prompt in enumerate(spec.generate.prompts):
                try:
                    ids = prompt_tokens(loaded, prompt)
                except ValueError as error:
                    raise ValueError(f"generate.prompts[{i}]: {error}") from error
                works.append(GenerationWork(tuple(ids), spec.generate.tokens, sampler, prompt))
        return cls(
            name,
            loaded.sha256,
            network,
            loaded.tokenizer,
            loaded.model.config.context,
            tuple(works),
        )

    @cached_property
    def work_digests(self) -> tuple[str, ...]:
        """Identity of each work on this model."""
        network = digest(self.network)
        return tuple(digest([network, self.context, work]) for work in self.works)

    def measure(self, index: int, given: ChipDescription, seed: int) -> Row:
        """Run one work on one drawn chip; column -> value."""
        simulator = Simulator(self.network, given, seed)
        work = self.works[index]
        row: Row = {}
        if isinstance(work, QualityWork):
            losses, targets = text_losses(simulator, work.stream, self.context)
            row["bits_per_byte"] = bits_per_byte(losses, targets, self.tokenizer)
        else:
            row["text"] = self._generate(simulator, work, seed)
        return row | _account(simulator)

    def _generate(self, simulator: Simulator, work: GenerationWork, seed: int) -> str:
        """The prompt and its continuation; same draws as `neurosim run` with this seed."""
        scale = next(node.scale for node in self.network if isinstance(node, Readout))
        generator = np.random.default_rng((seed, len(work.ids)))
        logits = np.zeros(0)
        for token in work.ids:
            logits = simulator.step(token)
        simulator.begin("decode")
        ids = list(work.ids)
        for _ in range(work.generated):
            ids.append(work.sampler.choose(logits * scale, generator))
            logits = simulator.step(ids[-1])
        return self.tokenizer.decode(ids[1:])


def _account(simulator: Simulator) -> Row:
    """Energy, counts and spikes of what was simulated; decode's if something was generated."""
    run, chip, placement = simulator.run(), simulator.chip, simulator.placement
    energy = energy_report(
        simulator.network,
        chip_prices(chip.numbers()),
        placement,
        run.phases,
        chip.evidence.weakest,
        chip.flags,
    )
    phase = "decode" if "decode" in run.phases else "prefill"
    counts = run.phases[phase]
    row: Row = {
        "phase": phase,
        "tokens": counts.tokens,
        "energy_J_per_token": energy.main.total,
        "prefill_J_per_token": energy.phases["prefill"].total,
        "seconds_per_token": energy.main.seconds_per_token,
        "spike_rate": run.spike_rate,
        "tiles": placement.used_tiles,
        "windows_per_token": placement.depth,
    }
    if phase in run.traffic:
        row |= _latencies(run.traffic[phase])
    row |= {f"energy.{name}": joules for name, joules in energy.main.by_mechanism().items()}
    return row | {f"count.{name}": value for name, value in counts.totals().items()}


def _latencies(traffic: PhaseTraffic) -> Row:
    """What packets on queueing links did; only where they take time (`routing.transport`)."""
    row: Row = {
        "packet_latency_s": traffic.spikes.mean,
        "packet_latency_p99_s": traffic.spikes.quantile(0.99),
        "congestion": traffic.spikes.congestion,
        "busiest_link": float(traffic.utilisation.max(initial=0.0)),
        "late_packets": traffic.window_late,
        "dropped_packets": traffic.dropped,
    }
    if traffic.token_seconds:
        row["token_latency_s"] = statistics.median(traffic.token_seconds)
    return row
