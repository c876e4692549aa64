"""The main job: text through a spiking model on a simulated chip, checked, and what it costs."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim import __version__
from neurosim.chip.description import ChipDescription, load_chip
from neurosim.energy import DenseTransformerSizes, chip_prices, compare, energy_report
from neurosim.energy.table import to_html
from neurosim.events.engine import Simulator
from neurosim.events.recorder import Run
from neurosim.kernels import fast_blas
from neurosim.models.checkpoint import DEFAULT, LoadedModel, load
from neurosim.models.evaluation import bits_per_byte, log_softmax, windows
from neurosim.models.sampling import Sampler
from neurosim.models.spike_transformer import SpikeTransformer
from neurosim.models.spike_transformer_folded import FoldedSpikeTransformer
from neurosim.models.text.corpus import sample_documents
from neurosim.models.text.tokenizer import token_stream
from neurosim.network import Network, Readout

DEFAULT_PROMPT = "The history of the city"
DEFAULT_CHIP = "ag_v2c_w"
QUALITY_TOKENS = 256
QUALITY_SEEDS = 3
Progress = Callable[[str, int, int], None]


def _quiet(stage: str, done: int, total: int) -> None:
    """No progress."""


@dataclass(frozen=True, eq=False)
class RunReport:
    """What `run` found: `data` is plain (see `to_dict`), the rest is for plots and files.

    `words`: the tokens as text.
    """

    data: Mapping[str, Any]
    result: Run
    simulator: Simulator
    words: tuple[str, ...]

    @property
    def spikes(self) -> Mapping[str, npt.NDArray[np.int8]]:
        """Bank -> signed spike counts (T, N)."""
        return self.result.spikes

    @property
    def network(self) -> Network:
        """What ran."""
        return self.simulator.network

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain values, ready for JSON; J, s, and counts that are exact integers."""
        return dict(self.data)

    def __repr__(self) -> str:
        energy, check = self.data["energy"], self.data.get("check")
        checked = f", {check['mismatches']} mismatches" if check else ""
        return (
            f"RunReport({self.data['model']['name']} on {self.data['chip']['name']}: "
            f"{self.data['tokens']['generated']} tokens, "
            f"{energy[energy['phase'] + '_J_per_token']:.4g} J/token{checked})"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.data['text'])}</p>{to_html(self.data)}"


def spiking(loaded: LoadedModel) -> FoldedSpikeTransformer:
    """The integer form of a loaded spiking model; refuses others."""
    if not isinstance(loaded.model, SpikeTransformer):
        raise ValueError(
            f"{loaded.folder} holds a {type(loaded.model).__name__}; expected a spiking model "
            "(model_type spike_transformer) to run on a chip"
        )
    return FoldedSpikeTransformer.fold(loaded.model)


def versions() -> dict[str, str]:
    """Versions of what computed the numbers."""
    names = ("numpy", "scipy", "numba", "mlx")
    found = {"neurosim": __version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def check(folded: FoldedSpikeTransformer, run: Run) -> dict[str, int]:
    """Compare every spike count of every site and token with the model's own forward pass."""
    _, expected = folded.forward(np.array(run.tokens))
    if set(expected) != set(run.spikes):
        raise ValueError(f"sites differ: {sorted(set(expected) ^ set(run.spikes))}")
    return {
        "sites": len(expected),
        "spikes_compared": sum(int(rows.size) for rows in expected.values()),
        "mismatches": sum(int((run.spikes[site] != expected[site]).sum()) for site in expected),
    }


def chip_bits_per_byte(
    network: Network,
    chip: ChipDescription,
    loaded: LoadedModel,
    stream: npt.NDArray[np.integer],
    seed: int,
    most: int | None = None,
    progress: Progress = _quiet,
    chips: int = 1,
) -> float:
    """Held-out quality on the chip, over windows of the model's context that start afresh."""
    simulator = Simulator(
        network,
        _untimed(chip),
        seed,
        chips,
        progress=lambda done, total: progress(f"programming, seed {seed}", done, total),
    )
    context = loaded.model.config.context

    def tell(done: int, total: int) -> None:
        progress(f"quality on {chip.name}, seed {seed}", done, total)

    losses, targets = text_losses(simulator, stream, context, most, tell)
    return bits_per_byte(losses, targets, loaded.tokenizer)


def _untimed(chip: ChipDescription) -> ChipDescription:
    """The chip without the times of its packets, where they change no spike: faster."""
    if chip.routing.late == "drop":
        return chip
    return replace(chip, routing=replace(chip.routing, transport="instant"))


def text_losses(
    simulator: Simulator,
    stream: npt.NDArray[np.integer],
    context: int,
    most: int | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """-log p in nats of every predicted token of a stream on the chip, and those tokens.

    Windows of `context` tokens start afresh; `tell` is called with (done, total) tokens.
    """
    scale = next(node.scale for node in simulator.network if isinstance(node, Readout))
    losses, targets = [], []
    parts = list(windows(stream, context, most))
    total = sum(len(part) - 1 for part in parts)
    for part in parts:
        simulator.forget()
        for token, target in zip(part[:-1], part[1:], strict=True):
            log_p = log_softmax(simulator.step(int(token)) * scale)
            losses.append(-log_p[target])
            targets.append(target)
            tell(len(losses), total)
    return np.array(losses), np.array(targets)


def _quality(
    network: Network,
    chip: ChipDescription,
    loaded: LoadedModel,
    seed: int,
    progress: Progress,
    chips: int,
) -> dict[str, Any]:
    """Bits per byte of the bundled text on ideal hardware and on the chip, several seeds."""
    stream = token_stream(sample_documents(), loaded.tokenizer, 0)[: QUALITY_TOKENS + 1]
    ideal = chip_bits_per_byte(network, load_chip("ideal"), loaded, stream, seed, None, progress)
    seeds = [] if chip.computes_exactly else [seed + i for i in range(QUALITY_SEEDS)]
    return {
        "text": "bundled sample, not seen in training (`neurosim eval` uses the test split)",
        "tokens": len(stream) - 1,
        "ideal_bits_per_byte": ideal,
        "chip_bits_per_byte": {
            str(s): chip_bits_per_byte(network, chip, loaded, stream, s, None, progress, chips)
            for s in seeds
        },
    }


def prompt_tokens(loaded: LoadedModel, prompt: str) -> list[int]:
    """End-of-text and the prompt's tokens; refuses one that is empty or exceeds the context."""
    if not prompt.strip():
        raise ValueError("expected a prompt, got an empty one; pass some text with --prompt")
    tokens = loaded.tokenizer.encode(prompt)
    context = loaded.model.config.context
    if len(tokens) + 1 > context:
        raise ValueError(
            f"expected a prompt of at most {context - 1} tokens (the model's context), "
            f"got {len(tokens)}; shorten it"
        )
    return [loaded.tokenizer.end_of_text, *tokens]


def transformer_sizes(loaded: LoadedModel) -> DenseTransformerSizes:
    """The dense transformer of a model's size, in numbers."""
    config = loaded.model.config
    return DenseTransformerSizes(
        config.vocab_size,
        config.width,
        config.layers,
        config.heads,
        config.width * config.ratio,
        ngram_rows=config.ngram_rows,
    )


def run(
    prompt: str = DEFAULT_PROMPT,
    model: str | Path | LoadedModel = DEFAULT,
    chip: str | Path | ChipDescription = DEFAULT_CHIP,
    tokens: int = 32,
    seed: int = 0,
    sampler: Sampler | None = None,
    compare_spikes: bool = False,
    quality: bool = True,
    progress: Progress = _quiet,
    chips: int = 1,
    record_times: bool = False,
) -> RunReport:
    """Generate text with every spike simulated on the chip, and account for its energy.

    Args:
        prompt: text to continue; it must fit the model's context.
        model: a model folder or a loaded model (spiking).
        chip: `ideal`, `ag_v2c_w`, a TOML file, or a description.
        tokens: how many tokens to generate, >= 1.
        seed: of the chip's devices and noise, and of the sampling.
        sampler: how the next token is chosen; see `neurosim.models.sampling`.
        compare_spikes: compare every spike with the model's own forward pass.
        quality: measure bits per byte on the bundled text, ideal and on the chip.
        progress: called with (stage, done, total).
        chips: over how many chips to spread the network.
        record_times: keep when every spike fired (`result.spike_times`).

    Returns:
        The report; `to_dict()` gives text, counts (exact), energy (modelled, J) and evidence.
    """
    started = time.perf_counter()
    if tokens < 1:
        raise ValueError(f"expected tokens >= 1, got {tokens}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"expected seed >= 0, got {seed}; seeds end at 2^63")
    fast_blas.enable()
    loaded = model if isinstance(model, LoadedModel) else load(model)
    description = chip if isinstance(chip, ChipDescription) else load_chip(chip)
    folded = spiking(loaded)
    network = folded.lower()
    ids = prompt_tokens(loaded, prompt)
    sampler = sampler or Sampler(banned=loaded.tokenizer.end_of_text)
    simulator = Simulator(
        network,
        description,
        seed,
        chips,
        record_times,
        lambda done, total: progress("programming", done, total),
    )
    generator = np.random.default_rng((seed, len(ids)))
    logits = np.zeros(0)
    for done, token in enumerate(ids, 1):
        logits = simulator.step(token)
        progress("prefill", done, len(ids))
    simulator.begin("decode")
    for done in range(1, tokens + 1):
        ids.append(sampler.choose(logits * folded.logit_unit, generator))
        logits = simulator.step(ids[-1])
        progress("decode", done, tokens)
    result = simulator.run()
    prices = chip_prices(description.numbers())
    energy = energy_report(
        network,
        prices,
        simulator.placement,
        result.phases,
        description.evidence.weakest,
        description.flags,
    )
    prefilled = result.phases["prefill"].tokens
    comparison = compare(
        network,
        energy,
        prices,
        transformer_sizes(loaded),
        prefilled + tokens // 2,
        trained_context=loaded.model.config.context,
    )
    baseline = comparison.to_dict()
    data: dict[str, Any] = {
        "model": {
            "name": loaded.name,
            "sha256": loaded.sha256,
            "parameters": loaded.parameters,
            "training": dict(loaded.training),
        },
        "chip": {
            "name": description.name,
            "exact": description.computes_exactly,
            "evidence": description.evidence.weakest,
            "assumed": list(description.evidence.assumed),
            "inherited": list(description.inherited),
            "flags": list(description.flags),
            **simulator.placement.to_dict(),
        },
        "text": loaded.tokenizer.decode(ids[1:]),
        "tokens": {"prompt": prefilled - 1, "prefill": prefilled, "generated": tokens},
        "spikes": {"total": result.total_spikes, "rate": result.spike_rate},
        "counts": energy.count_totals(),
        "energy": energy.to_dict(),
        "baseline": baseline,
        "seed": seed,
        "sampling": {"temperature": sampler.temperature, "top_k": sampler.top_k},
        "versions": versions(),
    }
    if result.traffic:
        data["traffic"] = {name: part.to_dict() for name, part in result.traffic.items()}
    if simulator.calibration is not None:
        data["calibration"] = simulator.calibration.to_dict()
    if compare_spikes:
        data["check"] = check(folded, result)
    if quality:
        data["quality"] = _quality(network, description, loaded, seed, progress, chips)
    data["wall_s"] = time.perf_counter() - started
    words = tuple(loaded.tokenizer.decode([token]) for token in ids)
    return RunReport(data, result, simulator, words)
