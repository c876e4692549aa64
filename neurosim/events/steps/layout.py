"""Where populations lie in the flat arrays of a step simulation."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.events.steps import _tables as T
from neurosim.events.steps._kernels import Kernel, address
from neurosim.events.steps._update import update_conductance, update_current, update_delta
from neurosim.events.steps.grid import to_steps
from neurosim.events.steps.propagators import propagators
from neurosim.kernels._aligned import aligned
from neurosim.populations.models import LIF, ConductanceLIF, CurrentLIF, Population
from neurosim.populations.network import SpikingNetwork

Integers = npt.NDArray[np.int64]
Steps = npt.NDArray[np.int32]
Array = npt.NDArray[Any]
_VECTOR = 16  # stored copies of a value that all neurons share: the lanes of the widest vector
_KERNELS: dict[int, Kernel] = {
    T.DELTA: update_delta,
    T.CURRENT: update_current,
    T.CONDUCTANCE: update_conductance,
}


@dataclass(frozen=True, eq=False)
class Layout:
    """Populations as a table and flat arrays; `params` grows by the weights of inputs."""

    pops: Integers
    state: Array
    until: Steps
    params: list[Array]
    holds: Steps


def _kind(population: Population) -> int:
    if population.is_source:
        return T.SOURCE
    if isinstance(population.model, ConductanceLIF):
        return T.CONDUCTANCE
    return T.CURRENT if isinstance(population.model, CurrentLIF) else T.DELTA


def _own(population: Population) -> bool:
    """Whether its neurons have parameters of their own."""
    return any(np.ndim(getattr(population.model, f.name)) for f in fields(population.model))


def padded(size: int) -> int:
    """Neurons up to a whole word of a bitmap."""
    return -(-size // T.LANES) * T.LANES


def _spread(values: Array, own: bool, room: int) -> Array:
    """Parameter values as stored: one for all in every lane, or one each, padded."""
    if not own:
        return np.full(_VECTOR, values[0])
    return np.concatenate([values, np.full(room - len(values), values[-1])])


def build_layout(network: SpikingNetwork, time_step: float, precision: str) -> Layout:
    """Populations at t = 0, before the neurons at or above threshold have fired.

    Neurons that pad a population are held for ever.
    """
    pops = np.zeros((len(network.populations), T.POPULATION_COLUMNS), np.int64)
    state: list[Array] = []
    until: list[Array] = []
    params: list[Array] = []
    holds: list[Array] = []
    lengths = [0, 0, 0, 0]
    for row, population in zip(pops, network, strict=True):
        size, room = population.size, padded(population.size)
        row[[T.KIND, T.SIZE, T.PADDED]] = _kind(population), size, room
        row[T.FIRST] = network.first[population.name]
        row[[T.VOLTAGE, T.UNTIL, T.PARAMS, T.HOLDS]] = lengths
        if not isinstance(population.model, LIF):
            continue
        row[T.UPDATE] = address(_KERNELS[int(row[T.KIND])], precision)
        own = _own(population)
        row[[T.SPAN, T.STRIDE]] = room if own else _VECTOR, int(own)
        reset = population.parameter("reset_voltage")
        parts: list[list[Array]] = [[], [], [], []]
        for name in population.model.states:
            value = population.initial.get(name, reset if name == "voltage" else 0.0)
            full = np.full(room, reset[-1] if name == "voltage" else 0.0)
            full[:size] = value
            parts[0].append(full)
        parts[1].append(np.where(np.arange(room) < size, -1, np.iinfo(np.int32).max))
        values = propagators(population, time_step)
        parts[2].extend(_spread(value, own, room) for value in values)
        hold = to_steps(population.parameter("refractory_period"), time_step)
        parts[3].append(_spread(hold, own, room))
        for k, (store, part) in enumerate(zip((state, until, params, holds), parts, strict=True)):
            store.extend(part)
            lengths[k] += sum(len(item) for item in part)
    return Layout(
        pops, _joined(state, precision), _joined(until, np.int32), params, _joined(holds, np.int32)
    )


def _joined(parts: list[Array], dtype: npt.DTypeLike) -> Array:
    """One aligned array of that type; never empty."""
    whole = aligned((max(sum(len(part) for part in parts), _VECTOR),), dtype)
    whole[:] = 0
    if parts:
        whole[: sum(len(part) for part in parts)] = np.concatenate(parts)
    return whole
