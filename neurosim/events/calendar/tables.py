"""The tables of neurons and devices of a network at t = 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.devices.counter_random import stream_key
from neurosim.events.calendar import layout as at
from neurosim.events.calendar.switch import arm
from neurosim.events.calendar.three_exponentials import LARGEST_POWER
from neurosim.kernels._jit import compiled
from neurosim.populations.models import CurrentLIF, Population, SwitchNeuron
from neurosim.populations.network import SpikingNetwork

Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]
_PLAIN = {
    at.REST: "resting_voltage",
    at.THRESHOLD: "threshold_voltage",
    at.RESET: "reset_voltage",
    at.REFRACTORY: "refractory_period",
}


def neuron_table(network: SpikingNetwork) -> Floats:
    """`cells` (N, 16); of switches only what all neurons have."""
    cells = np.zeros((network.size, at.CELL_COLUMNS))
    cells[:, at.CROSSING] = np.inf
    devices = 0
    for population in network:
        first = network.first[population.name]
        rows = cells[first : first + population.size]
        model = population.model
        if population.is_source:
            continue
        if isinstance(model, SwitchNeuron):
            rows[:, at.KIND] = at.SWITCH_KIND
            rows[:, at.DEVICE] = np.arange(devices, devices + population.size)
            hold = model.device.switch().hold_voltage
            rows[:, at.VOLTAGE] = population.initial.get("voltage", hold)
            devices += population.size
            continue
        rows[:, at.KIND] = at.LIF_KIND
        for column, key in _PLAIN.items():
            rows[:, column] = population.parameter(key)
        rows[:, at.RATE] = 1.0 / population.parameter("time_constant")
        rows[:, at.VOLTAGE] = population.initial.get("voltage", rows[:, at.RESET])
        if isinstance(model, CurrentLIF):
            _currents(population, rows)
    return cells


def _currents(population: Population, rows: Floats) -> None:
    """The columns of `CurrentLIF` alone."""
    rows[:, at.KIND] = at.CURRENT_KIND
    for state, rate, power in (
        ("excitatory", at.E_RATE, at.E_POWER),
        ("inhibitory", at.I_RATE, at.I_POWER),
    ):
        constant = population.parameter(f"{state}_time_constant")
        rows[:, rate] = 1.0 / constant
        ratio = population.parameter("time_constant") / constant
        whole = np.rint(np.minimum(ratio, LARGEST_POWER))
        is_power = (np.abs(ratio - whole) <= 1e-14 * ratio) & (whole >= 1.0)
        rows[:, power] = np.where(is_power, whole, 0.0)
        column = at.EXCITATORY if state == "excitatory" else at.INHIBITORY
        rows[:, column] = population.initial.get(state, 0.0)


def device_table(network: SpikingNetwork, cells: Floats, seed: int) -> tuple[Floats, Keys]:
    """`devices` (M, 34) with the thresholds of the first cycle armed, and the keys of draws (M,).

    A device's draws are those of `devices.Population` with the neuron's network number.
    """
    tables = [np.empty((0, at.DEVICE_COLUMNS))]
    numbers = [np.empty(0, np.int64)]
    for population in network:
        model = population.model
        if isinstance(model, SwitchNeuron):
            first = network.first[population.name]
            numbers.append(np.arange(first, first + population.size))
            start = cells[first : first + population.size, at.VOLTAGE]
            tables.append(_devices(population, model, start, first, seed))
    table, number = np.concatenate(tables), np.concatenate(numbers)
    keys = np.empty(number.size, np.uint64)
    _prepare(table, number, np.uint64(seed), keys)
    return table, keys


def _devices(
    population: Population, model: SwitchNeuron, start: Floats, first: int, seed: int
) -> Floats:
    switch = model.device.switch()
    rows = np.zeros((population.size, at.DEVICE_COLUMNS))
    current = population.parameter("current")
    on_branch = switch.on_resistance + switch.output_resistance
    off_branch = switch.off_resistance + switch.output_resistance
    constants: dict[int, Any] = {
        at.START: start,
        at.CAPACITANCE: switch.capacitance,
        at.DRIVE: current + switch.leak_conductance * switch.leak_voltage,
        at.OFF: switch.leak_conductance + 1.0 / off_branch,
        at.ON: switch.leak_conductance + 1.0 / on_branch,
        at.SET_DELAY: switch.set_delay,
        at.RESET_DELAY: switch.reset_delay,
        at.UP: 1.0 + switch.output_resistance / switch.off_resistance,
        at.DOWN: 1.0 + switch.output_resistance / switch.on_resistance,
        at.ON_BRANCH: on_branch,
        at.OFF_BRANCH: off_branch,
        at.OUTPUT: switch.output_resistance,
        at.LEAK: switch.leak_conductance,
        at.LEAK_VOLTAGE: switch.leak_voltage,
        at.CURRENT: current,
    }
    for column, value in constants.items():
        rows[:, column] = value
    means = (switch.threshold_voltage, switch.hold_voltage)
    rows[:, at.MEANS : at.MEANS_END] = means
    if model.stochastic:
        statistics = model.device.statistics()
        rows[:, at.SPREADS : at.SPREADS_END] = statistics.cycle_spreads(*means)
        if statistics.threshold_device > 0.0 or statistics.hold_device > 0.0:
            rows[:, at.MEANS : at.MEANS_END] = statistics.device_means(
                *means, population.size, seed, first
            )
    return rows


@compiled
def _prepare(devices: Floats, numbers: npt.NDArray[np.int64], seed: np.uint64, keys: Keys) -> None:
    for m in range(numbers.size):
        keys[m] = stream_key(seed, np.uint64(numbers[m]))
        arm(devices, keys, m)
