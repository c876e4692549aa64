"""The energy report of a run: boundary first, then J per token, its parts, and its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neurosim.energy.counts import PhaseCounts, multiplies
from neurosim.energy.model import Placed, token_energy
from neurosim.energy.prices import PriceList
from neurosim.energy.terms import Breakdown
from neurosim.network import Accumulator, DigitalUnit, Network
from neurosim.quantity import weakest

PHASES = ("prefill", "decode")
BOUNDARY = (
    "one chip, from a token's embedding row to its logits: synapses, word lines, neurons, "
    "conversions, accumulators, attention state, embedding, routing, static power"
)
EXCLUDES = (
    "host, tokenizer, sampling",
    "chip input and output (token in, logits out)",
    "power supply and conversion losses, cooling",
    "DRAM and its refresh (none is used)",
    "programming of the weights",
    "clock, window control and spike counters beyond the control band",
    "delay lines of the short convolutions (taps - 1 older tokens of every channel)",
    "sample-and-hold, mirror bias and per-channel gain between a column and its neurons",
    "negative net charge of unsigned banks (dumped to ground); on exact neurons, charge that "
    "does not reach a spike",
    "time of conversions, reads and additions between windows (neither in the energy nor in the "
    "time per token)",
    "prefill: residual sums of tokens in flight beyond one bank a tile",
)
UNTIMED = "time of packets and words (routing.transport = instant: none)"
ASSUMES = (
    "bipolar word lines: a signed (ON and OFF) channel drives one row with pulses of both signs; "
    "two rows a channel would take more tiles and static power",
    "a convolution's taps are pairs of a diagonal array, each read alone",
)
UNIT_TIME = (
    "time of the digital units, which act between two windows; their working memory beyond tables "
    "and caches"
)
UNCOUNTED_WORDS = "words moved over the mesh to and from accumulators"


@dataclass(frozen=True)
class EnergyReport:
    """Energy per token by phase, the counts behind it, and what it leaves out.

    `phases`: "prefill" and/or "decode" -> `Breakdown`; `counts` likewise. `flags`: what every
    output made with this chip must say.
    """

    phases: Mapping[str, Breakdown]
    counts: Mapping[str, PhaseCounts]
    multiplies: int
    excludes: tuple[str, ...]
    flags: tuple[str, ...]

    @property
    def main(self) -> Breakdown:
        """Decode, or prefill where nothing was generated."""
        return self.phases.get("decode") or self.phases["prefill"]

    @property
    def evidence(self) -> str:
        """The weakest evidence class behind any phase."""
        return weakest([breakdown.evidence for breakdown in self.phases.values()])

    def count_totals(self) -> dict[str, int]:
        """Exact counts over all phases, and the multiplications that the network needs for them."""
        totals: dict[str, int] = {}
        for phase in self.counts.values():
            for name, value in phase.totals().items():
                totals[name] = totals.get(name, 0) + value
        tokens = sum(phase.tokens for phase in self.counts.values())
        of_units = totals["float_multiplies"]
        return {**totals, "multiplies": self.multiplies * tokens + of_units}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, J per token; tables and plots are made from it alone."""
        main = self.main
        return {
            "boundary": BOUNDARY,
            "excludes": list(self.excludes),
            "assumes": list(ASSUMES),
            "flags": list(self.flags),
            "kind": "counts are counted; joules are modelled (count x price, or integrated)",
            "evidence": self.evidence,
            **{
                f"{name}_J_per_token": self.phases[name].total if name in self.phases else None
                for name in PHASES
            },
            "phase": "decode" if "decode" in self.phases else "prefill",
            "by_mechanism_J": main.by_mechanism(),
            "by_layer_J": main.by_layer(),
            "by_layer_and_mechanism_J": main.by_layer_and_mechanism(),
            "evidence_by_mechanism": main.evidence_by_mechanism(),
            "phases": {
                name: {
                    "tokens": self.counts[name].tokens,
                    "J_per_token": breakdown.total,
                    "seconds_per_token": breakdown.seconds_per_token,
                    "by_mechanism_J": breakdown.by_mechanism(),
                    "counts_per_token": self.counts[name].per_token(),
                }
                for name, breakdown in self.phases.items()
            },
            "prices": {
                name: {
                    "value": price.value,
                    "unit": price.quantity.unit,
                    "source": price.quantity.source,
                    "evidence": price.quantity.evidence,
                    "band": price.quantity.band and list(price.quantity.band),
                }
                for name, price in sorted(main.prices().items())
            },
        }

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {b.total:.4g} J/token" for name, b in self.phases.items())
        return f"EnergyReport({parts}; {self.evidence})"


def energy_report(
    network: Network,
    prices: PriceList,
    placement: Placed,
    phases: Mapping[str, PhaseCounts],
    integrated_evidence: str = "derived",
    flags: tuple[str, ...] = (),
) -> EnergyReport:
    """Account for a run on the chip.

    Args:
        network: what ran.
        prices: `chip_prices(chip.numbers())`.
        placement: tiles, depth and packet bits.
        phases: "prefill" and/or "decode" -> what was counted and integrated.
        integrated_evidence: class of the device numbers behind the integrated energies.
        flags: sentences that every output of this chip carries.
    """
    unknown = sorted(set(phases) - set(PHASES))
    if unknown or not phases:
        raise ValueError(f"expected phases out of {', '.join(PHASES)}, got {sorted(phases)}")
    breakdowns = {
        name: token_energy(network, prices, placement, name, phases[name], integrated_evidence)
        for name in PHASES
        if name in phases
    }
    moved = any(phase.total("value_hops") for phase in phases.values())
    extra = () if moved or not network.of(Accumulator) else (UNCOUNTED_WORDS,)
    if any(phase.seconds is None for phase in phases.values()):
        extra = (*extra, UNTIMED)
    if network.of(DigitalUnit):
        extra = (*extra, UNIT_TIME)
    return EnergyReport(breakdowns, dict(phases), multiplies(network), (*EXCLUDES, *extra), flags)
