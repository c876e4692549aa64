"""What the engine "frames" can carry, what it costs, and its simulation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from neurosim.events.exact import ExactSimulation, build_wiring, common_refusal
from neurosim.events.exact.support import assumed_rate, widest_window
from neurosim.events.frames.kernel import run
from neurosim.populations.models import LIF, Population
from neurosim.populations.network import SpikingNetwork

if TYPE_CHECKING:
    from neurosim.events.simulate import Options

NAME = "frames"
_SHARED = ("time_constant", "resting_voltage", "threshold_voltage")
_LONGEST_REFRACTORY = 100.0  # time constants; e^100 is far from overflow
_WIDEST = 20.0  # time constants in one window
_EVENT, _ITEM, _DRIVE, _WINDOW, _LOOK = 2.5, 250.0, 60.0, 600.0, 0.7  # ns, see `cost`
_IDLE_WIDTH = 10e-3  # s; window where neither delays nor time constants limit it
Floats = npt.NDArray[np.float64]


def supports(network: SpikingNetwork, options: Options) -> str | None:
    """None, or why the network is not LIF neurons with delta synapses and shared frames."""
    for population in network:
        model = population.model
        if population.is_source:
            continue
        if type(model) is not LIF:
            return f"{population.name} is {type(model).__name__}; only LIF and sources"
        for key in _SHARED:
            if np.ptp(np.nan_to_num(population.parameter(key))) > 0.0:
                return f"{population.name} has different values of {key}"
        longest = population.parameter("refractory_period").max()
        if longest > _LONGEST_REFRACTORY * population.parameter("time_constant")[0]:
            return f"{population.name} is refractory for more than 100 time constants"
    return common_refusal(network)


def _class_of(population: Population) -> tuple[float, ...]:
    return tuple(float(population.parameter(key)[0]) for key in _SHARED)


def window_width(network: SpikingNetwork) -> float:
    """Length of a window, s: the shortest delay, or some time constants where that is less."""
    constants = [p.parameter("time_constant").min() for p in network if not p.is_source]
    width = min(widest_window(network), _WIDEST * min(constants, default=math.inf))
    return float(width) if math.isfinite(width) else _IDLE_WIDTH


class FrameSimulation(ExactSimulation):
    """Exact event-driven simulation of LIF neurons with delta synapses."""

    def __init__(self, network: SpikingNetwork, options: Options) -> None:
        neurons = [population for population in network if not population.is_source]
        kinds = sorted({_class_of(population) for population in neurons})
        numbers = {population.name: kinds.index(_class_of(population)) for population in neurons}
        wiring = build_wiring(network, lambda projection: numbers[projection.target])
        super().__init__(
            network,
            wiring,
            window_width(network),
            options.seed,
            options.trace,
            options.trace_step,
        )
        rows = np.array(kinds or [(math.inf, 0.0, math.inf)])
        self._rest = rows[:, 1]
        first = network.first
        ranges = [(numbers[p.name], first[p.name], first[p.name] + p.size) for p in neurons]
        self._classes = (
            1.0 / rows[:, 0],
            rows[:, 2] - rows[:, 1],
            np.array(ranges, np.int64).reshape(-1, 3),
        )
        frame = np.zeros(network.size)
        self._cells = np.zeros((network.size, 2))
        self._is_source = np.ones(network.size, np.bool_)
        self._class = np.zeros(network.size, np.int64)
        for population, (kind, low, high) in zip(neurons, ranges, strict=True):
            rest = rows[kind, 1]
            start = population.initial.get("voltage", population.parameter("reset_voltage"))
            frame[low:high] = start - rest
            self._cells[low:high, 0] = population.parameter("reset_voltage") - rest
            self._cells[low:high, 1] = population.parameter("refractory_period")
            self._is_source[low:high] = False
            self._class[low:high] = kind
        self._state["frame"] = frame
        self._state["ready"] = np.zeros(network.size)
        self._state["origin"] = np.zeros(1)

    def _run(self, until: float) -> None:
        state = self._state
        ring, items, fired, kept = run(
            until,
            self._width,
            self._wire_arrays(),
            self._is_source,
            self._source_arrays(),
            self._drive_arrays(),
            self._classes,
            self._cells,
            state["frame"],
            state["ready"],
            state["origin"],
            state["numbers"],
            self._ring(),
            self._pair("due"),
            self._pair("fired"),
            self._pair("kept"),
        )
        self._take(ring, items, fired, kept)

    def _voltages(self, neurons: npt.NDArray[np.int64]) -> Floats:
        kinds = self._class[neurons]
        scale = np.exp((self._state["origin"][0] - self.time) * self._classes[0][kinds])
        free = self._rest[kinds] + self._state["frame"][neurons] * scale
        held = self._rest[kinds] + self._cells[neurons, 0]
        voltage: Floats = np.where(self._state["ready"][neurons] > self.time, held, free)
        return voltage

    def energy(self) -> dict[str, dict[str, float]]:
        """None: no device is simulated."""
        return {}

    def __repr__(self) -> str:
        return f"FrameSimulation({self._network!r}, {self.time:g} s)"


def cost(network: SpikingNetwork, options: Options) -> float:
    """Predicted CPU seconds per simulated second, for neurons that fire at the assumed rate.

    Deliveries, spikes, drive events, windows and looks at neurons that fire on their own, each
    times its measured constant: docs/engines.md.
    """
    windows = 1.0 / window_width(network)
    total = windows * _WINDOW
    for population in network:
        model = population.model
        if type(model) is LIF:
            alone = np.any(population.parameter("resting_voltage") > model.threshold_voltage)
            driven = any(drive.target == population.name for drive in network.drives)
            total += windows * population.size * _LOOK * bool(alone or driven)
    for drive in network.drives:
        total += drive.rate * network[drive.target].size * _DRIVE
    for projection in network.projections:
        source = network[projection.source]
        spikes = source.size * assumed_rate(source)
        synapses = projection.synapses
        events = spikes * synapses.count / source.size
        items = events if np.ndim(synapses.delay) else spikes
        total += events * _EVENT + items * _ITEM
    return 1e-9 * total


def begin(network: SpikingNetwork, options: Options) -> Any:
    """A simulation at t = 0."""
    return FrameSimulation(network, options)
