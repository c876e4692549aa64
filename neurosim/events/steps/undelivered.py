"""Events that were handed over to a ring of delays but have not arrived yet."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.events.steps.grid import to_steps
from neurosim.populations.network import SpikingNetwork
from neurosim.populations.synapses import SparseSynapses


def events_under_way(
    network: SpikingNetwork,
    time_step: float,
    steps: npt.NDArray[np.int32],
    neurons: npt.NDArray[np.int32],
    step: int,
    lags: npt.NDArray[np.int64],
) -> int:
    """Synapses with delays of their own, handed over by step `step`, that act after it.

    Rows are handed over `lags` (projections,) steps after the spike, their shortest delay.
    """
    total = 0
    for projection, lag in zip(network.projections, lags.tolist(), strict=True):
        synapses = projection.synapses
        if not isinstance(synapses, SparseSynapses) or np.ndim(synapses.delay) == 0:
            continue
        delays: Any = to_steps(synapses.delay, time_step)
        first, size = network.first[projection.source], synapses.source_count
        recent = slice(int(np.searchsorted(steps, step - int(delays.max(initial=0)))), None)
        for spike, neuron in zip(steps[recent].tolist(), neurons[recent].tolist(), strict=True):
            if first <= neuron < first + size and spike + lag <= step:
                row = slice(synapses.offsets[neuron - first], synapses.offsets[neuron - first + 1])
                total += int(np.count_nonzero(delays[row] + spike > step))
    return total
