"""What a simulation of populations leaves behind: spikes in time, counts, traces, energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neurosim.populations.network import SpikingNetwork

Floats = npt.NDArray[np.float64]
Neurons = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Recording:
    """A finished or interrupted simulation.

    `times` (K,) s and `neurons` (K,): every spike, sorted by time, then neuron; neurons are
    numbered through the network (`SpikingNetwork.first`). `counts`: exact totals, in every engine
    "spikes" (all of `times`), "source_spikes" (those of sources), "synaptic_events" (synapses that
    an input has reached; a crossbar's row counts whole, as `CrossbarSynapses.count` does) and
    "drive_events"; an engine may add its own, as "neuron_updates" of clock-driven ones.
    `traces`: population -> (time (S,), values (S, recorded neurons)). `energy`: population ->
    mechanism -> J, for populations whose device has an energy. `engine` ran it.
    """

    network: SpikingNetwork
    engine: str
    duration: float
    """Simulated time, s; less than asked for if `interrupted`."""
    times: Floats
    neurons: Neurons
    counts: Mapping[str, int]
    seed: int = 0
    traces: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict)
    energy: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    interrupted: bool = False

    def _mask(self, population: str) -> npt.NDArray[np.bool_]:
        first, size = self.network.first[population], self.network[population].size
        return (self.neurons >= first) & (self.neurons < first + size)

    def spikes(self, population: str) -> tuple[Floats, Neurons]:
        """Times (s) and neuron numbers within the population."""
        chosen = self._mask(population)
        return self.times[chosen], self.neurons[chosen] - self.network.first[population]

    def rate(self, population: str) -> float:
        """Mean rate of a population's neurons, Hz; 0 where nothing was simulated."""
        size = self.network[population].size
        return float(self._mask(population).sum()) / (size * self.duration or np.inf)

    def intervals(self, population: str) -> Floats:
        """Inter-spike intervals of all its neurons, s."""
        times, neurons = self.spikes(population)
        order = np.lexsort((times, neurons))
        gaps: Floats = np.diff(times[order])
        same: Floats = gaps[np.diff(neurons[order]) == 0]
        return same

    def __repr__(self) -> str:
        state = ", interrupted" if self.interrupted else ""
        return (
            f"Recording({len(self.times)} spikes of {self.network.size} neurons in "
            f"{self.duration:g} s by {self.engine}{state})"
        )
