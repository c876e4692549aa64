"""What no engine in continuous time can carry, and the width of its windows."""

from __future__ import annotations

import math

import numpy as np

from neurosim.populations.models import PoissonSource, Population, SpikeSource
from neurosim.populations.network import SpikingNetwork

_NEURON_RATE = 10.0  # Hz; firing rates are not known before the simulation


# A window is this much shorter than the shortest delay, so that rounding cannot put two deliveries
# of the same time into different windows (until times exceed 1e9 delays).
_MARGIN = 1.0 - 1e-6


def widest_window(network: SpikingNetwork) -> float:
    """Longest window in which nothing a simulated neuron sends can arrive, s; infinite: any."""
    return _MARGIN * shortest_own_delay(network)


def shortest_own_delay(network: SpikingNetwork) -> float:
    """Shortest delay behind a neuron that is simulated, s; infinite if there is none.

    What source populations send is known beforehand and may arrive at once.
    """
    delays = [
        projection.synapses.shortest_delay
        for projection in network.projections
        if not network[projection.source].is_source
    ]
    return min(delays, default=math.inf)


def common_refusal(network: SpikingNetwork) -> str | None:
    """None, or why windows of the shortest delay are impossible."""
    for projection in network.projections:
        source = network[projection.source]
        if not source.is_source and projection.synapses.shortest_delay <= 0.0:
            return (
                f"projection {projection.source} -> {projection.target} has synapses without "
                "delay; simulated neurons need a delay above 0 s (sources may have none)"
            )
    return None


def assumed_rate(population: Population) -> float:
    """Rate of a population for the prediction of a simulation's cost, Hz: sources have theirs."""
    model = population.model
    if isinstance(model, PoissonSource):
        return float(np.mean(model.rate))
    if isinstance(model, SpikeSource):
        last = float(model.times.max(initial=0.0))
        return len(model.times) / (population.size * last) if last else 0.0
    return _NEURON_RATE
