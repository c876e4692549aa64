"""Spikes of the source populations as entries of the log, step by step.

The trains are those of the engines in continuous time (`neurosim.events.exact.trains`): the same
seed gives the same spikes, here rounded to the nearest step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.events.exact.trains import Sources, build_sources, interval
from neurosim.events.steps.grid import to_steps
from neurosim.kernels._jit import compiled
from neurosim.populations.network import SpikingNetwork

Steps = npt.NDArray[np.int32]
_AT_ONCE = 1 << 20  # spikes made at a time, about


@compiled
def _take(
    last: int,
    time_step: float,
    poisson: npt.NDArray[np.int64],
    rates: npt.NDArray[np.float64],
    keys: npt.NDArray[np.uint64],
    following: npt.NDArray[np.float64],
    number: npt.NDArray[np.int64],
    steps: Steps,
    neurons: Steps,
) -> int:
    """Spikes up to step `last`; -1, with nothing changed, if they need more room."""
    used = 0
    for k in range(poisson.size):
        time, count = following[k], number[k]
        while np.floor(time / time_step + 0.5) <= last:
            if used < steps.size:
                steps[used] = np.int32(np.floor(time / time_step + 0.5))
                neurons[used] = poisson[k]
            used += 1
            count += 1
            time += interval(keys[k], count, rates[k])
    if used > steps.size:
        return -used
    for k in range(poisson.size):
        while np.floor(following[k] / time_step + 0.5) <= last:
            number[k] += 1
            following[k] += interval(keys[k], number[k], rates[k])
    return used


class GivenSpikes:
    """Spikes of lists and Poisson sources, sorted by step, then neuron; `any`: if there are any."""

    def __init__(self, network: SpikingNetwork, time_step: float, seed: int) -> None:
        self.any = any(population.is_source for population in network)
        self._time_step = time_step
        self.steps_at_once = 2**30
        if not self.any:
            return
        self._sources: Sources = build_sources(network, seed)
        self._list_steps = to_steps(self._sources.times, time_step)
        total = float(self._sources.rates.sum()) * time_step
        self.steps_at_once = int(min(max(_AT_ONCE / max(total, 1e-9), 1), 2**30))

    def take(self, first: int, last: int) -> tuple[Steps, Steps]:
        """Steps and neurons of the spikes at steps first .. last; called in order, once each."""
        if not self.any:
            return np.empty(0, np.int32), np.empty(0, np.int32)
        sources = self._sources
        begin, end = np.searchsorted(self._list_steps, (first, last + 1))
        # rounded steps keep the order of the times
        steps = [self._list_steps[begin:end].astype(np.int32)]
        neurons = [sources.neurons[begin:end].astype(np.int32)]
        if sources.poisson.size:
            expected = float(sources.rates.sum()) * self._time_step * (last - first + 1)
            room = int(expected + 6.0 * np.sqrt(expected)) + 16
            used = -1
            while used < 0:
                drawn = np.empty(room, np.int32), np.empty(room, np.int32)
                used = _take(
                    last,
                    self._time_step,
                    sources.poisson,
                    sources.rates,
                    sources.keys,
                    sources.next,
                    sources.number,
                    *drawn,
                )
                room = -used
            steps.append(drawn[0][:used])
            neurons.append(drawn[1][:used])
        step, neuron = np.concatenate(steps), np.concatenate(neurons)
        order = np.lexsort((neuron, step))
        return step[order], neuron[order]

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Where the Poisson trains are."""
        if not self.any:
            return {}
        return {
            "source_next": self._sources.next.copy(),
            "source_number": self._sources.number.copy(),
        }

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from `state()`."""
        if not self.any:
            return
        self._sources.next[:] = state["source_next"]
        self._sources.number[:] = state["source_number"]
