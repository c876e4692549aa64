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
