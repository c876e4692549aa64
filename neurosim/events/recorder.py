"""What a run leaves behind: the spikes of every site, exact counts, and integrated energies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neurosim.energy.counts import PhaseCounts
from neurosim.events.mesh.report import PhaseTraffic


@dataclass
class Ledger:
    """Counts and joules of one phase while it runs: node -> name -> total.

    `each_token`: what the structure adds for every token, whatever spikes; multiplied at the end.
    """

    each_token: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tokens: int = 0
    counts: dict[str, dict[str, int]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(int))
    )
    joules: dict[str, dict[str, float]] = field(default_factory=dict)

    def count(self, node: str, **amounts: int) -> None:
        """Add integers to the counts of a node."""
        totals = self.counts[node]
        for name, amount in amounts.items():
            totals[name] += amount

    def burn(self, node: str, amounts: Mapping[str, float]) -> None:
        """Add joules to the mechanisms of a node."""
        totals = self.joules.setdefault(node, {})
        for name, amount in amounts.items():
            totals[name] = totals.get(name, 0.0) + amount

    def freeze(self, seconds: float | None = None) -> PhaseCounts:
        """The finished phase; `seconds` that it took, if they were simulated."""
        counts = {
            node: {name: amount * self.tokens for name, amount in amounts.items()}
            for node, amounts in self.each_token.items()
        }
        for node, amounts in self.counts.items():
            totals = counts.setdefault(node, {})
            for name, amount in amounts.items():
                totals[name] = totals.get(name, 0) + int(amount)
        joules = {node: dict(joules) for node, joules in self.joules.items()}
        return PhaseCounts(self.tokens, counts, joules, seconds)


@dataclass(frozen=True, eq=False)
class Run:
    """A finished simulation: tokens in, logits (T, V), spikes by site (T, N) int8, phases."""

    tokens: tuple[int, ...]
    logits: npt.NDArray[np.float64]
    spikes: Mapping[str, npt.NDArray[np.int8]]
    phases: Mapping[str, PhaseCounts]
    neurons: int
    """Physical neurons of the chip."""
    window_s: float
    windows_per_token: int
    traffic: Mapping[str, PhaseTraffic] = field(default_factory=dict)
    """Phase -> what the mesh did; empty where packets take no time."""
    spike_times: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """Bank -> when its spikes fired, (T, N, levels), s from their window's start; entries beyond
    |n| mean nothing. Empty unless they were recorded."""
    phase_of: tuple[str, ...] = ()
    """The phase of every token."""

    @property
    def total_spikes(self) -> int:
        """Spikes of all neurons over all tokens."""
        return sum(phase.total("neuron_spikes") for phase in self.phases.values())

    @property
    def spike_rate(self) -> float:
        """Spikes per physical neuron and window; 0 where digital units emit all of them."""
        windows = self.neurons * len(self.tokens)
        return self.total_spikes / windows if windows else 0.0

    def __repr__(self) -> str:
        return (
            f"Run({len(self.tokens)} tokens, {len(self.spikes)} sites, "
            f"{self.total_spikes} spikes, rate {self.spike_rate:.3f})"
        )
