"""The same counts on several systems: the memristor chip, neuromorphic and digital prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neurosim.chip.description import ChipDescription
from neurosim.energy.accelerator import accelerator_prices
from neurosim.energy.compare import SHARING
from neurosim.energy.counts import PhaseCounts
from neurosim.energy.digital import digital_token_energy
from neurosim.energy.model import chip_prices, token_energy
from neurosim.energy.neuromorphic import neuromorphic_token_energy
from neurosim.energy.report import BOUNDARY, EXCLUDES
from neurosim.energy.terms import Breakdown
from neurosim.reporting.walk import Walk

DIGITAL = ("digital_45nm", "digital_7nm")
NEUROMORPHIC = ("loihi1", "loihi1_fitted")
SYSTEMS = ("chip", *NEUROMORPHIC, *DIGITAL)
WHAT = {
    "chip": "the simulated memristor chip: counts, integrated device energy, static power",
    "loihi1": "the counts at Loihi 1's published constants; no claim that it was mapped to it",
    "loihi1_fitted": "the counts at constants fitted to Loihi 1 silicon (SANA-FE)",
    "digital_45nm": "the counts on a digital accelerator, 45 nm, weights in SRAM",
    "digital_7nm": "the counts on a digital accelerator, 7 nm, weights in SRAM",
}
_SPIKES = "the same network, exact integers, from a token's embedding row to its logits"
_LOIHI = {
    "counted": f"{_SPIKES}: synaptic operations (with their weight reads), neuron updates of every "
    "time step, spikes and hops (as placed on the memristor chip's mesh), attention, sums and "
    "tables (each as a synaptic operation, assumed), static power over the barrier or the "
    "operations of the busiest core, whichever takes longer",
    "excludes": [
        "host, tokenizer, sampling; the management processors and input and output of the chip",
        "power supply and conversion losses, cooling; programming of the weights",
        "time of neuron updates, attention, sums and spikes on the mesh",
        "sums on their way between cores; mapping: fan-in, core and word-length limits",
    ],
}
_DIGITAL_PARTS = "static power of tiles that hold the weights, tables and states"
_NOT_DIGITAL = [
    "host, tokenizer, sampling; chip input and output",
    "routing between tiles, control (0, band 0 to 1), clock",
    "power supply and conversion losses, cooling; loading of the weights; refresh of a DRAM",
]
_DIGITAL = {
    "counted": f"{_SPIKES}: additions, weight fetches, events read and written, neuron state and "
    f"one update a window, sums, attention state, embedding, {_DIGITAL_PARTS}",
    "excludes": [*_NOT_DIGITAL, "time of neuron updates and sums (favours it)"],
}
BOUNDARIES: Mapping[str, Mapping[str, Any]] = {
    "chip": {"counted": BOUNDARY, "excludes": list(EXCLUDES)},
    **dict.fromkeys(NEUROMORPHIC, _LOIHI),
    **dict.fromkeys(DIGITAL, _DIGITAL),
}
"""System -> what its joules hold, and what they do not."""
TWIN_BOUNDARY: Mapping[str, Any] = {
    "counted": "a dense transformer from a token's embedding row to its logits: multiplications "
    "and additions, weight reads, activations, key-value cache, norms, rotation, softmax and "
    f"squared ReLU, embedding, {_DIGITAL_PARTS}, the cache among them where it is in SRAM",
    "excludes": [*_NOT_DIGITAL, "time of norms, softmax and elementwise work (favours it)"],
}


@dataclass(frozen=True)
class System:
    """One way to price the counts of a walk."""

    name: str
    chip: ChipDescription

    def __post_init__(self) -> None:
        if self.name not in SYSTEMS:
            raise ValueError(f"expected a system out of {', '.join(SYSTEMS)}, got {self.name!r}")

    @property
    def title(self) -> str:
        """The name to print."""
        return self.chip.name if self.name == "chip" else self.name

    def price(self, walked: Walk, counts: PhaseCounts, phase: str, batch: int = 1) -> Breakdown:
        """Energy of one token of a phase, `batch` texts decoded at once."""
        network, placement = walked.network, walked.placement
        prices = chip_prices(self.chip.numbers())
        if self.name == "chip":
            evidence = self.chip.evidence.weakest
            return token_energy(network, prices, placement, phase, counts, evidence, batch)
        if self.name in NEUROMORPHIC:
            return neuromorphic_token_energy(
                network, counts, placement.depth, self.name, phase, batch
            )
        prefill = phase == "prefill"
        shared = min(counts.tokens, SHARING) if prefill else batch
        accelerator = accelerator_prices(prices, self.name)
        return digital_token_energy(network, accelerator, counts, prefill, shared, batch)


def plain(breakdown: Breakdown) -> dict[str, Any]:
    """A breakdown in plain values."""
    return {
        "J_per_token": breakdown.total,
        "seconds_per_token": breakdown.seconds_per_token,
        "static_share": breakdown.of("static") / breakdown.total,
        "evidence": breakdown.evidence,
        "by_layer_and_mechanism_J": breakdown.by_layer_and_mechanism(),
    }


def price_list(breakdowns: Mapping[str, Breakdown]) -> list[dict[str, Any]]:
    """Every price used, by the system that used it: value, unit, source, evidence, band."""
    rows: list[dict[str, Any]] = []
    for system, breakdown in breakdowns.items():
        for name, price in sorted(breakdown.prices().items()):
            quantity = price.quantity
            rows.append(
                {
                    "system": system,
                    "name": name,
                    "value": price.value,
                    "unit": quantity.unit,
                    "source": quantity.source,
                    "evidence": quantity.evidence,
                    "band": quantity.band and list(quantity.band),
                }
            )
    return rows
