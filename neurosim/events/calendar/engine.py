"""What the engine "calendar" can carry, what it costs, and its simulation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from neurosim.events.calendar import layout as at
from neurosim.events.calendar.kernel import QUEUED, run, start
from neurosim.events.calendar.ledger import energies
from neurosim.events.calendar.lif import current_advance
from neurosim.events.calendar.switch import voltage_at
from neurosim.events.calendar.tables import device_table, neuron_table
from neurosim.events.exact import ExactSimulation, build_wiring, common_refusal
from neurosim.events.exact.support import assumed_rate, widest_window
from neurosim.populations.models import LIF, CurrentLIF, SwitchNeuron
from neurosim.populations.network import SpikingNetwork

if TYPE_CHECKING:
    from neurosim.events.simulate import Options

NAME = "calendar"
_CARRIED = (LIF, CurrentLIF, SwitchNeuron)
_LONGEST_BUCKET = 1e3  # s; where no delay limits it, nor what sources send in it:
_SOURCE_SPIKES = 10_000.0
_BUCKETS = 4096  # of the neurons' calendar; later events wait in the last one
# ns, see `cost`; a CurrentLIF whose two currents are both active has a crossing to search for
_EVENT = {LIF: 150.0, CurrentLIF: 220.0, SwitchNeuron: 350.0}
_BOTH_CURRENTS = 1000.0
_ITEM, _SPIKE, _BUCKET = 250.0, 300.0, 600.0
Floats = npt.NDArray[np.float64]


def supports(network: SpikingNetwork, options: Options) -> str | None:
    """None, or why a neuron's crossings have no closed form here."""
    for population in network:
        if not population.is_source and type(population.model) not in _CARRIED:
            return (
                f"{population.name} is {type(population.model).__name__}, whose threshold "
                "crossing has no closed form; use a clock-driven engine"
            )
    return common_refusal(network)


def _width(network: SpikingNetwork) -> float:
    width = widest_window(network)
    if math.isfinite(width):
        return width
    given = sum(p.size * assumed_rate(p) for p in network if p.is_source)
    return min(_LONGEST_BUCKET, _SOURCE_SPIKES / given) if given > 0.0 else _LONGEST_BUCKET


class CalendarSimulation(ExactSimulation):
    """Exact event-driven simulation of LIF, CurrentLIF and threshold-switching neurons."""

    def __init__(self, network: SpikingNetwork, options: Options) -> None:
        def receptor(projection: Any) -> int:
            return network[projection.target].model.receptors.index(projection.receptor)

        super().__init__(
            network,
            build_wiring(network, receptor),
            _width(network),
            options.seed,
            options.trace,
            options.trace_step,
        )
        cells = neuron_table(network)
        devices, self._keys = device_table(network, cells, options.seed)
        self._is_source = cells[:, at.KIND] == at.SOURCE
        links = np.full((network.size, 3), -1, np.int64)
        heads = np.full(_BUCKETS, -1, np.int64)
        start(self._width, cells, devices, self._drives.earliest, heads, links)
        self._state["cells"], self._state["devices"] = cells, devices
        self._state["queue_heads"], self._state["queue_links"] = heads, links
        self._state["touched"] = np.zeros(network.size, np.bool_)

    def _run(self, until: float) -> None:
        state = self._state
        ring, items, fired, kept = run(
            until,
            self._width,
            self._wire_arrays(),
            self._is_source,
            self._source_arrays(),
            self._drive_arrays(),
            state["cells"],
            state["devices"],
            self._keys,
            state["queue_heads"],
            state["queue_links"],
            state["touched"],
            state["numbers"],
            self._ring(),
            self._pair("due"),
            self._pair("fired"),
            self._pair("kept"),
        )
        self._take(ring, items, fired, kept)

    def _voltages(self, neurons: npt.NDArray[np.int64]) -> Floats:
        found = np.empty(neurons.size)
        for k, n in enumerate(neurons.tolist()):
            row = self._state["cells"][n : n + 1].copy()
            if row[0, at.KIND] == at.SWITCH_KIND:
                found[k] = voltage_at(row, self._state["devices"], 0, self.time)
                continue
            if row[0, at.KIND] == at.CURRENT_KIND:
                current_advance(row, 0, self.time)
                found[k] = row[0, at.VOLTAGE]
                continue
            rest, elapsed = row[0, at.REST], max(self.time - row[0, at.LAST], 0.0)
            decay = math.exp(-elapsed * row[0, at.RATE])
            found[k] = rest + (row[0, at.VOLTAGE] - rest) * decay
        return found

    def counts(self) -> dict[str, int]:
        """The totals of all exact engines, and switches in lock-up now."""
        rows = self._state["cells"]
        switches = rows[:, at.KIND] == at.SWITCH_KIND
        if not switches.any():
            return super().counts()
        phases = self._state["devices"][rows[switches, at.DEVICE].astype(int), at.PHASE]
        stuck = np.isinf(rows[switches, at.CROSSING]) & (phases == at.ON_PHASE)
        return {**super().counts(), "locked": int(stuck.sum())}

    def energy(self) -> dict[str, dict[str, float]]:
        """Switch population -> mechanism -> J up to `time`; see `ledger.energies`."""
        cells, devices = self._state["cells"], self._state["devices"]
        return {
            population.name: energies(
                cells, devices, self._network.first[population.name], population.size, self.time
            )
            for population in self._network
            if isinstance(population.model, SwitchNeuron)
        }

    def __repr__(self) -> str:
        waiting = int((self._state["queue_links"][:, QUEUED] >= 0).sum())
        return f"CalendarSimulation({self._network!r}, {self.time:g} s, {waiting} neurons queued)"


def _input_cost(network: SpikingNetwork, target: str) -> float:
    """ns of one input."""
    model = network[target].model
    used = {item.receptor for item in network.projections if item.target == target}
    used |= {item.receptor for item in network.drives if item.target == target}
    return _BOTH_CURRENTS if len(used) > 1 else _EVENT[type(model)]


def cost(network: SpikingNetwork, options: Options) -> float:
    """Predicted CPU seconds per simulated second, for neurons that fire at the assumed rate.

    Inputs by the model that receives them, items, spikes and buckets, each times its measured
    constant: docs/engines.md.
    """
    total = _BUCKET / _width(network)
    total += sum(p.size * assumed_rate(p) * _SPIKE for p in network)
    for drive in network.drives:
        count = drive.rate * network[drive.target].size
        total += 1.5 * count * _input_cost(network, drive.target)
    for projection in network.projections:
        source = network[projection.source]
        spikes = source.size * assumed_rate(source)
        events = spikes * projection.synapses.count / source.size
        items = events if np.ndim(projection.synapses.delay) else spikes
        total += events * _input_cost(network, projection.target) + items * _ITEM
    return 1e-9 * total


def begin(network: SpikingNetwork, options: Options) -> CalendarSimulation:
    """A simulation at t = 0."""
    return CalendarSimulation(network, options)
