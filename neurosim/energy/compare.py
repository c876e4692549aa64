"""The spiking chip beside its baselines: ANN twin, spikes on a digital chip, the legacy line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from neurosim.energy.accelerator import accelerator_prices
from neurosim.energy.baseline import DenseTransformerSizes, dense_token_energy
from neurosim.energy.counts import PhaseCounts
from neurosim.energy.digital import digital_token_energy
from neurosim.energy.prices import PriceList
from neurosim.energy.published import operations_only
from neurosim.energy.report import EnergyReport
from neurosim.energy.terms import Breakdown
from neurosim.energy.uncertainty import sensitivity, uncertainty
from neurosim.network import AttentionUnit, Network

CONTEXTS = (1, 128, 1024, 8192)
SHARING = 64
ASSUMPTIONS = (
    "ANN twin: int8 weights, activations and key-value cache, batch 1; its quality is measured "
    "with int8 weights and float32 activations",
    "the twin does not skip zeros, although most outputs of its squared ReLU are zero",
    "weights and cache of the digital chips in SRAM banks the size of a tile's weights; norms, "
    "softmax at int8 prices",
    "tiles of the twin leak as the chip's tiles do, for the time it needs: one matrix at a time",
    f"prefill on digital chips: at most {SHARING} tokens share a weight fetch",
    "routing of the digital chips is not counted (favours them)",
    "an ANN on the same crossbars is not modelled: the ratio without static power is mostly "
    "weights that are not fetched, not a gain of spiking alone",
)
LEGACY = "operations only, 45 nm FP32: 4.6 pJ a MAC, 0.9 pJ an AC; excludes memory and static power"


@dataclass(frozen=True)
class Comparison:
    """Baselines by phase, the curve over contexts, and the legacy line; J per token.

    `ratio` is the twin's energy over the spiking chip's: above 1 the spiking chip needs less.
    """

    spiking: Breakdown
    twin: Mapping[str, Breakdown]
    digital: Mapping[str, Breakdown]
    phase: str
    context: int
    sizes: DenseTransformerSizes
    curve: Mapping[int, Mapping[str, float]]
    legacy: Mapping[str, float]
    trained_context: int | None = None
    """Tokens of context the spiking model was trained with, if known."""

    @property
    def ratio(self) -> float:
        return self.twin[self.phase].total / self.spiking.total

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        theirs = self.twin[self.phase]
        curve = {str(context): dict(row) for context, row in self.curve.items()}
        result: dict[str, Any] = {
            "phase": self.phase,
            "context": self.context,
            "trained_context": self.trained_context,
            "ratio": self.ratio,
            "ratio_is": "twin / spiking chip",
            "ratio_digital": theirs.total / self.digital[self.phase].total,
            "ratio_without_static": (theirs.total - theirs.of("static"))
            / (self.spiking.total - self.spiking.of("static")),
            "static_share": {
                "spiking_chip": self.spiking.of("static") / self.spiking.total,
                "ann_twin": theirs.of("static") / theirs.total,
            },
        }
        for phase in self.twin:
            result[f"ann_twin_{phase}_J_per_token"] = self.twin[phase].total
            result[f"spiking_on_digital_{phase}_J_per_token"] = self.digital[phase].total
        return {
            **result,
            "ann_twin_by_mechanism_J": theirs.by_mechanism(),
            "spiking_on_digital_by_mechanism_J": self.digital[self.phase].by_mechanism(),
            "ann_twin_seconds_per_token": theirs.seconds_per_token,
            "contexts_decode_J_per_token": curve,
            "uncertainty": uncertainty(self.spiking, theirs),
            "sensitivity": sensitivity(self.spiking, theirs),
            "legacy": {"label": LEGACY, **self.legacy},
            "sizes": asdict(self.sizes),
            "assumptions": list(ASSUMPTIONS),
        }


def legacy_joules(
    network: Network, phase: PhaseCounts, sizes: DenseTransformerSizes, context: float
) -> dict[str, float]:
    """The AC/MAC-only line of the literature, J per token; see `LEGACY`."""
    attention = sum(phase.of(node.name, "additions") for node in network.of(AttentionUnit))
    additions = (phase.total("synaptic_operations") + attention) / phase.tokens
    macs = sizes.weights + 2 * sizes.layers * sizes.width * context
    spiking = operations_only(0, additions)
    twin = operations_only(macs, 0)
    return {"spiking_J": spiking, "ann_twin_J": twin, "ratio": twin / spiking if spiking else 0.0}


def compare(
    network: Network,
    report: EnergyReport,
    chip: PriceList,
    sizes: DenseTransformerSizes,
    context: int,
    digital: str = "digital_45nm",
    trained_context: int | None = None,
) -> Comparison:
    """Baselines for a run whose decode tokens attend to `context` tokens on average.

    `trained_context`: tokens the spiking model was trained with; shown beside the context curve,
    whose spiking rows take this run's spike rates at every length.
    """
    if context < 1:
        raise ValueError(f"expected a context of at least one token, got {context}")
    prices = accelerator_prices(chip, digital)
    twin: dict[str, Breakdown] = {}
    spikes: dict[str, Breakdown] = {}
    for phase, counts in report.counts.items():
        tokens, prefill = counts.tokens, phase == "prefill"
        shared = min(tokens, SHARING) if prefill else 1
        seen = (tokens + 1) / 2 if prefill else context
        twin[phase] = dense_token_energy(sizes, prices, seen, tokens, prefill, shared)
        spikes[phase] = digital_token_energy(network, prices, counts, prefill, shared)
    phase = "decode" if "decode" in report.phases else "prefill"
    curve = {
        length: {
            "spiking_chip": report.main.total,
            "spiking_on_digital": spikes[phase].total,
            "ann_twin": dense_token_energy(sizes, prices, length).total,
            "ann_twin_cache_in_dram": dense_token_energy(
                sizes, prices, length, cache_level="dram"
            ).total,
        }
        for length in CONTEXTS
    }
    seen = context if phase == "decode" else (report.counts[phase].tokens + 1) / 2
    legacy = legacy_joules(network, report.counts[phase], sizes, seen)
    return Comparison(
        report.main, twin, spikes, phase, context, sizes, curve, legacy, trained_context
    )
