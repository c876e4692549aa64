"""The part of a simulation that all engines in continuous time share.

Time goes in windows that are no longer than the shortest delay: nothing a neuron sends can arrive
in the window in which it fires. A window may be cut anywhere; the bits of the result do not change.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.events.exact.layout import DRIVEN, EVENTS, FIRED, KEPT, SAMPLES
from neurosim.events.exact.ring import bucket_count, new_ring
from neurosim.events.exact.trains import build_drives, build_sources
from neurosim.events.exact.wiring import Wiring
from neurosim.populations.network import SpikingNetwork

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_RING = ("ring_heads", "ring_links", "ring_times", "ring_segments", "ring_pool")


class ExactSimulation(ABC):
    """Owns the state as named arrays; an engine adds its own and moves them on in `_run`.

    `_state`: ring of deliveries; the window's deliveries (`due_*`) and spikes (`fired_*`); finished
    windows' spikes (`kept_*`); trains; `numbers`.
    """

    def __init__(
        self,
        network: SpikingNetwork,
        wiring: Wiring,
        width: float,
        seed: int,
        trace: Mapping[str, Any],
        trace_step: float,
    ) -> None:
        self.time = 0.0
        self._network, self._wiring, self._width = network, wiring, width
        self._sources = build_sources(network, seed)
        self._drives = build_drives(network, seed)
        starts = network.first
        self._source_ranges = [
            (starts[p.name], starts[p.name] + p.size) for p in network if p.is_source
        ]
        ring = new_ring(bucket_count(wiring.longest_delay, width))
        self._state: dict[str, npt.NDArray[Any]] = dict(zip(_RING, ring, strict=True))
        for name in ("due", "fired", "kept"):
            self._state[f"{name}_times"] = np.empty(0)
            self._state[f"{name}_numbers"] = np.empty(0, np.int64)
        self._state["numbers"] = np.zeros(9, np.int64)
        self._state["source_next"] = self._sources.next
        self._state["source_number"] = self._sources.number
        self._state["drive_trains"] = self._drives.trains
        self._state["drive_number"] = self._drives.number
        self._state["drive_earliest"] = self._drives.earliest
        self._trace_step = trace_step
        self._traced = {name: _neurons(network, name, chosen) for name, chosen in trace.items()}
        for name, chosen in self._traced.items():
            self._state[f"trace {name}"] = np.empty((0, chosen.size))

    @abstractmethod
    def _run(self, until: float) -> None:
        """Simulate all events up to and including `until` (s)."""

    @abstractmethod
    def _voltages(self, neurons: Integers) -> Floats:
        """Voltages (K,) at `time` of neurons (K,) of the network, V; must not change the state."""

    @abstractmethod
    def energy(self) -> dict[str, dict[str, float]]:
        """Population -> mechanism -> J."""

    def advance(self, until: float) -> None:
        """Simulate the events up to and including `until` (s)."""
        if not (math.isfinite(until) and until >= self.time):
            raise ValueError(f"expected a time from {self.time:g} s on, got {until}")
        numbers = self._state["numbers"]
        rows: dict[str, list[Floats]] = {name: [] for name in self._traced}
        while self._traced and numbers[SAMPLES] * self._trace_step <= until:
            self.time = max(self.time, float(numbers[SAMPLES] * self._trace_step))
            self._run(self.time)
            for name, chosen in self._traced.items():
                rows[name].append(self._voltages(chosen))
            numbers[SAMPLES] += 1
        for name, found in rows.items():
            if found:
                self._state[f"trace {name}"] = np.vstack([self._state[f"trace {name}"], *found])
        self._run(until)
        self.time = until

    def _source_arrays(self) -> tuple[Any, ...]:
        """The arrays of `Sources`, in their order."""
        given, state = self._sources, self._state
        fixed = (given.times, given.neurons, given.poisson, given.rates, given.keys)
        return *fixed, state["source_next"], state["source_number"]

    def _wire_arrays(self) -> tuple[Any, ...]:
        """The arrays of `Wiring`, in their order."""
        wires = self._wiring
        segments = (wires.first, wires.delay, wires.group, wires.events, wires.begin)
        return *segments, wires.targets, wires.weights, wires.step

    def _drive_arrays(self) -> tuple[Any, ...]:
        """Drives: first, trains, keys, number, earliest."""
        fixed = (self._drives.first, self._state["drive_trains"], self._drives.keys)
        return *fixed, self._state["drive_number"], self._state["drive_earliest"]

    def _ring(self) -> tuple[Any, ...]:
        return tuple(self._state[name] for name in _RING)

    def _pair(self, name: str) -> tuple[Any, Any]:
        return self._state[f"{name}_times"], self._state[f"{name}_numbers"]

    def _take(self, ring: Any, *pairs: Any) -> None:
        """Store what a run returned: the ring, and pairs called due, fired, kept."""
        self._state.update(zip(_RING, ring, strict=True))
        for name, (times, numbers) in zip(("due", "fired", "kept"), pairs, strict=True):
            self._state[f"{name}_times"], self._state[f"{name}_numbers"] = times, numbers

    def spikes(self) -> tuple[Floats, Integers]:
        """Spikes up to `time`, those of sources included."""
        state, numbers = self._state, self._state["numbers"]
        kept, fired = numbers[KEPT], numbers[FIRED]
        times = np.concatenate([state["kept_times"][:kept], state["fired_times"][:fired]])
        neurons = np.concatenate([state["kept_numbers"][:kept], state["fired_numbers"][:fired]])
        chosen = times <= self.time
        return times[chosen], neurons[chosen]

    def counts(self) -> dict[str, int]:
        """Spikes (sources included; and theirs), synaptic and drive events that were delivered."""
        numbers, fired = self._state["numbers"], self.spikes()[1]
        given = [fired[(fired >= low) & (fired < high)].size for low, high in self._source_ranges]
        return {
            "spikes": int(fired.size),
            "source_spikes": sum(given),
            "synaptic_events": int(numbers[EVENTS]),
            "drive_events": int(numbers[DRIVEN]),
        }

    def traces(self) -> dict[str, tuple[Floats, Floats]]:
        """Population -> sample times (S,) and voltages after the events of that time, (S, K)."""
        times = np.arange(self._state["numbers"][SAMPLES]) * self._trace_step
        return {name: (times, self._state[f"trace {name}"]) for name in self._traced}

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Copies of all arrays."""
        numbers = self._state["numbers"]
        lengths = {"kept": int(numbers[KEPT]), "fired": int(numbers[FIRED])}
        copies = {
            name: value[: lengths.get(name.split("_")[0], len(value))].copy()
            for name, value in self._state.items()
        }
        return {"time": np.array(self.time), **copies}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from `state()`."""
        expected = {"time", *self._state}
        if set(state) != expected:
            raise ValueError(
                f"expected the state of this simulation, {sorted(expected)}, got {sorted(state)}"
            )
        self.time = float(state["time"])
        for name, value in self._state.items():
            self._state[name] = np.array(state[name], dtype=value.dtype)


def _neurons(network: SpikingNetwork, name: str, chosen: Any) -> Integers:
    """Network numbers of traced neurons."""
    population = network[name]
    if population.is_source:
        raise ValueError(f"trace of {name}: expected neurons, a spike source has no voltage")
    numbers = np.asarray(chosen, dtype=np.int64).reshape(-1)
    if numbers.size and (numbers.min() < 0 or numbers.max() >= population.size):
        raise ValueError(
            f"trace of {name}: expected neurons 0..{population.size - 1}, got {numbers.tolist()}"
        )
    return numbers + network.first[name]
