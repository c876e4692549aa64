"""The definition of right for engines in continuous time: one heap, one event at a time, no tricks.

Rules: inputs that arrive at a neuron at the same time sum before it is compared with its threshold;
what a neuron does on its own at that time comes before them; spikes are sorted by time, then
neuron; events after the end are left out, those at the end are not.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.optimize import brentq

from neurosim.devices.threshold_switch import Drive, ThresholdSwitch
from neurosim.events.exact.trains import build_drives, build_sources, interval
from neurosim.populations import CrossbarSynapses, CurrentLIF, SpikingNetwork, SwitchNeuron


class Lif:
    """One LIF neuron; `step` does what is due at `next`, and says whether it spikes."""

    def __init__(self, parameters: dict[str, float], voltage: float) -> None:
        self.p, self.voltage, self.last = parameters, voltage, 0.0
        self.next = self._crossing()

    def _crossing(self) -> float:
        gap = self.p["threshold_voltage"] - self.voltage
        if gap <= 0.0:
            return self.last
        drive = self.p["resting_voltage"] - self.p["threshold_voltage"]
        if drive <= 0.0 or math.isinf(self.p["time_constant"]):
            return math.inf
        return self.last + self.p["time_constant"] * math.log1p(gap / drive)

    def _advance(self, time: float) -> None:
        if time > self.last:
            rest = self.p["resting_voltage"]
            decay = math.exp(-(time - self.last) / self.p["time_constant"])
            self.voltage = rest + (self.voltage - rest) * decay
            self.last = time

    def step(self) -> bool:
        self.last = self.next + self.p["refractory_period"]
        self.voltage = self.p["reset_voltage"]
        self.next = self._crossing()
        return True

    def receive(self, time: float, receptor: int, weight: float) -> None:
        if time >= self.last:
            self._advance(time)
            self.voltage += weight

    def compare(self, time: float) -> None:
        if time >= self.last:
            self.next = self._crossing()


def voltage(time: Any, start: float, rest: float, r: float, g: Any, rates: Any) -> Any:
    """V after `time` (s, a number or an array) under currents g that decay at `rates`."""
    total = rest + (start - rest) * np.exp(-r * time)
    for amplitude, s in zip(g, rates, strict=True):
        if abs(s - r) < 1e-9 * r:
            total = total + amplitude * r * time * np.exp(-r * time)
        else:
            total = total + amplitude * r / (s - r) * (np.exp(-r * time) - np.exp(-s * time))
    return total


class CurrentLif:
    """One LIF neuron with exponential currents; crossings by a fine grid and Brent's method."""

    def __init__(self, parameters: dict[str, float], start: list[float]) -> None:
        self.p, (self.voltage, *self.g), self.last = parameters, start, 0.0
        self.ready = 0.0
        self.next = self._crossing()

    def _rates(self) -> list[float]:
        return [
            1.0 / self.p["excitatory_time_constant"],
            1.0 / self.p["inhibitory_time_constant"],
        ]

    def _after(self, time: Any) -> Any:
        """V `time` s after both V and the currents are those of now."""
        r, rest = 1.0 / self.p["time_constant"], self.p["resting_voltage"]
        return voltage(time, self.voltage, rest, r, self.g, self._rates())

    def _decay(self, time: float) -> None:
        self.g = [g * math.exp(-s * time) for g, s in zip(self.g, self._rates(), strict=True)]

    def _crossing(self) -> float:
        before, wait = list(self.g), max(self.ready - self.last, 0.0)
        self._decay(wait)
        found = self._first_root()
        self.g = before
        return self.last + wait + found

    def _first_root(self) -> float:
        threshold = self.p["threshold_voltage"]
        if self.voltage >= threshold:
            return 0.0
        horizon = 40.0 * max(self.p["time_constant"], *(1.0 / s for s in self._rates()))
        grid = np.linspace(0.0, horizon, 20001)
        above = np.flatnonzero(self._after(grid) >= threshold)
        if not above.size:
            return math.inf
        low, high = grid[above[0] - 1], grid[above[0]]
        return float(brentq(lambda t: self._after(t) - threshold, low, high, xtol=1e-16))

    def _advance(self, time: float) -> None:
        held = max(min(self.ready, time) - self.last, 0.0)
        self._decay(held)
        self.last += held
        if time > self.last:
            voltage = self._after(time - self.last)
            self._decay(time - self.last)
            self.voltage, self.last = voltage, time

    def step(self) -> bool:
        time = self.next
        self._advance(time)
        self.voltage, self.last = self.p["reset_voltage"], time
        self.ready = time + self.p["refractory_period"]
        self.next = self._crossing()
        return True

    def receive(self, time: float, receptor: int, weight: float) -> None:
        self._advance(time)
        self.g[receptor] += weight

    def compare(self, time: float) -> None:
        self.next = self._crossing()


class Switch:
    """One threshold-switching neuron, by `ThresholdSwitch`; `pairs`: its (V_th, V_h) per cycle."""

    def __init__(
        self, nominal: ThresholdSwitch, current: float, pairs: Any, voltage: float
    ) -> None:
        self.nominal, self.pairs, self.cycle = nominal, pairs, 0
        self.drive, self.voltage, self.last = Drive(current), voltage, 0.0
        self.phase, self.wait = "off", 0.0
        self.next = self._plan()

    @property
    def switch(self) -> ThresholdSwitch:
        import dataclasses

        threshold, hold = self.pairs[self.cycle]
        return dataclasses.replace(self.nominal, threshold_voltage=threshold, hold_voltage=hold)

    def _plan(self) -> float:
        if self.phase in ("setting", "resetting"):
            return self.wait
        on = self.phase == "on"
        return self.last + self.switch.next_crossing(self.voltage, on, self.drive)

    def _advance(self, time: float) -> None:
        on = self.phase in ("on", "resetting")
        self.voltage = self.switch.voltage(self.voltage, time - self.last, on, self.drive)
        self.last = time

    def step(self) -> bool:
        time, switch, fired = self.next, self.switch, False
        self._advance(time)
        if self.phase == "off":
            self.voltage = max(self.voltage, switch.upper)
            self.phase, self.wait = "setting", time + switch.set_delay
        elif self.phase == "setting":
            fired = self.voltage > switch.lower
            self.phase = "on" if fired else "off"
            self.cycle += 0 if fired else 1
        elif self.phase == "on":
            self.voltage = min(self.voltage, switch.lower)
            self.phase, self.wait = "resetting", time + switch.reset_delay
        else:
            self.phase, self.cycle = "off", self.cycle + 1
        self.next = self._plan()
        return fired

    def receive(self, time: float, receptor: int, weight: float) -> None:
        self._advance(time)
        self.voltage += weight / self.nominal.capacitance

    def compare(self, time: float) -> None:
        self.next = self._plan()


def _cells(network: SpikingNetwork, seed: int) -> Iterator[Any]:
    for population in network:
        model = population.model
        for k in range(population.size):
            if population.is_source:
                yield None
            elif isinstance(model, SwitchNeuron):
                nominal = model.device.switch()
                threshold, hold = nominal.threshold_voltage, nominal.hold_voltage
                pairs: Any = [(threshold, hold)] * 2000
                if model.stochastic:
                    number = network.first[population.name] + k
                    drawn = model.device.statistics().cycles(threshold, hold, 1, 2000, seed, number)
                    pairs = drawn[0]
                start = np.broadcast_to(population.initial.get("voltage", hold), population.size)
                yield Switch(nominal, float(population.parameter("current")[k]), pairs, start[k])
            else:
                names = [f for f in dir(model) if f.endswith(("_voltage", "_constant", "_period"))]
                values = {name: float(population.parameter(name)[k]) for name in names}
                rest = {"voltage": values["reset_voltage"], "excitatory": 0.0, "inhibitory": 0.0}
                start = [
                    float(np.broadcast_to(population.initial.get(s, rest[s]), population.size)[k])
                    for s in model.states
                ]
                if isinstance(model, CurrentLIF):
                    yield CurrentLif(values, start)
                else:
                    yield Lif(values, start[0])


def _synapses(network: SpikingNetwork) -> list[list[tuple[float, int, int, float]]]:
    """Per neuron: (delay, target, receptor, weight)."""
    rows: list[list[tuple[float, int, int, float]]] = [[] for _ in range(network.size)]
    for projection in network.projections:
        synapses, target = projection.synapses, network[projection.target]
        first_source = network.first[projection.source]
        first_target = network.first[projection.target]
        receptor = target.model.receptors.index(projection.receptor)
        if isinstance(synapses, CrossbarSynapses):
            for i, row in enumerate(synapses.weight.tolist()):
                for j, weight in enumerate(row):
                    rows[first_source + i].append(
                        (synapses.delay, first_target + j, receptor, weight)
                    )
            continue
        weights = np.broadcast_to(synapses.weight, synapses.count)
        delays = np.broadcast_to(synapses.delay, synapses.count)
        for i in range(synapses.source_count):
            for j in range(synapses.offsets[i], synapses.offsets[i + 1]):
                goal = first_target + int(synapses.targets[j])
                rows[first_source + i].append((float(delays[j]), goal, receptor, float(weights[j])))
    return rows


def _given(network: SpikingNetwork, duration: float, seed: int, heap: list[Any]) -> Any:
    """Source spikes; drives' spikes go into the heap as deliveries."""
    sources = build_sources(network, seed)
    spikes = list(zip(sources.times.tolist(), sources.neurons.tolist(), strict=True))
    for p, neuron in enumerate(sources.poisson.tolist()):
        time, number = sources.next[p], 0
        while time <= duration:
            spikes.append((time, neuron))
            number += 1
            time += interval(sources.keys[p], number, sources.rates[p])
    drives = build_drives(network, seed)
    for neuron in range(network.size):
        for e in range(drives.first[neuron], drives.first[neuron + 1]):
            time, rate, weight, receptor = drives.trains[e].tolist()
            number = 0
            while time <= duration:
                heapq.heappush(heap, (time, neuron, int(receptor), weight, 0))
                number += 1
                time += interval(drives.keys[e], number, rate)
    return [spike for spike in spikes if spike[0] <= duration]


def reference(
    network: SpikingNetwork, duration: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, int]:
    """Times, neurons and the number of synaptic events delivered."""
    cells, rows = list(_cells(network, seed)), _synapses(network)
    heap: list[Any] = []
    spikes = _given(network, duration, seed, heap)
    events = 0

    def send(time: float, neuron: int) -> None:
        for delay, target, receptor, weight in rows[neuron]:
            heapq.heappush(heap, (time + delay, target, receptor, weight, 1))

    for time, neuron in spikes:
        send(time, neuron)
    while True:
        own = min((cell.next for cell in cells if cell is not None), default=math.inf)
        now = min(own, heap[0][0] if heap else math.inf)
        if now > duration:
            break
        for neuron, cell in enumerate(cells):
            if cell is not None and cell.next == now and cell.step():
                spikes.append((now, neuron))
                send(now, neuron)
        touched = set()
        while (
            heap
            and heap[0][0] == now
            and not any(cell is not None and cell.next == now for cell in cells)
        ):
            _, target, receptor, weight, counted = heapq.heappop(heap)
            cells[target].receive(now, receptor, weight)
            events += counted
            touched.add(target)
        for target in touched:
            cells[target].compare(now)
    spikes.sort()
    return (
        np.array([time for time, _ in spikes], dtype=np.float64),
        np.array([neuron for _, neuron in spikes], dtype=np.int64),
        events,
    )
