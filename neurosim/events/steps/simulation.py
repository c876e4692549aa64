"""A clock-driven simulation: state in flat arrays, advanced by one compiled loop."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.events.simulate import Options
from neurosim.events.steps import _tables as T
from neurosim.events.steps._run import run
from neurosim.events.steps.book import Book
from neurosim.events.steps.costs import useful_threads
from neurosim.events.steps.grid import LAST_STEP, steps_until
from neurosim.events.steps.layout import build_layout
from neurosim.events.steps.log import SpikeLog
from neurosim.events.steps.sources import GivenSpikes
from neurosim.events.steps.undelivered import events_under_way
from neurosim.events.steps.wiring import build_wiring
from neurosim.kernels._aligned import aligned
from neurosim.populations.network import SpikingNetwork

Array = npt.NDArray[Any]
_LOG_ROOM, _LOG_STEPS = 1 << 16, 2  # spikes of a log, at least; and all neurons so often


class StepSimulation:
    """All populations of a network, one time step after the other; see `_run.run`."""

    def __init__(self, network: SpikingNetwork, options: Options, bitmaps: bool) -> None:
        self._network, self._options = network, options
        self._threads = useful_threads(network, options, bitmaps)
        dtype = np.dtype(options.precision)
        layout = build_layout(network, options.time_step, options.precision)
        self._pops, self._state, self._until = layout.pops, layout.state, layout.until
        self._holds = layout.holds
        wiring = build_wiring(
            network, options.time_step, options.precision, options.seed, layout.pops, bitmaps
        )
        self._wiring = wiring
        self._params = _params(layout.params, wiring.weights, wiring.inputs, dtype)
        self._counts = aligned((max(wiring.room[0], 16),), np.int32)
        self._sums = aligned((max(wiring.room[1], 16),), dtype)
        self._counts[:], self._sums[:] = 0, 0
        self._bounds = _bounds(layout.pops, self._threads)
        ring = wiring.longest_lag + wiring.window + 1
        room = max(_LOG_ROOM, _LOG_STEPS * network.size)
        self._log = SpikeLog(self._threads, ring, len(layout.pops), room)
        self._given = GivenSpikes(network, options.time_step, options.seed)
        columns = len(wiring.deliveries) + len(wiring.drives)
        self._totals = np.zeros((self._threads, columns), np.int64)
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        self._neurons = int(layout.pops[layout.pops[:, T.KIND] != T.SOURCE, T.SIZE].sum())
        self._traced = _traced(network, options)
        self._trace_every = max(1, round(options.trace_step / options.time_step))
        self._samples: list[Array] = []
        self._unit = dtype.type(0)
        self._meeting = np.zeros(1, np.int64)
        self._steps = self._given_neurons = np.empty(0, np.int32)
        self._book = Book()
        self._write_book()
        self._step = 0
        self.time = 0.0
        self._begin()

    def _write_book(self) -> None:
        """What stays where it is from step to step."""
        wiring, log, threads = self._wiring, self._log, self._threads
        self._book.place(T.POPS, self._pops)
        self._book.place(T.INPUTS, wiring.inputs)
        self._book.place(T.DELIVERIES, wiring.deliveries)
        self._book.place(T.DRIVES, wiring.drives)
        self._book.place(T.DRIVE_BOUNDS, wiring.drive_bounds)
        self._book.place(T.BIT_PLANES, wiring.planes)
        self._book.place(T.BOUNDS, self._bounds)
        self._book.place(T.STATE, self._state)
        self._book.place(T.UNTIL_STEPS, self._until)
        self._book.place(T.VALUES, self._params)
        self._book.place(T.HOLD_STEPS, self._holds)
        self._book.place(T.COUNTS, self._counts)
        self._book.place(T.SUMS, self._sums)
        self._book.place(T.TOTALS, self._totals)
        self._book.place(T.TRACED, self._traced)
        self._book.place(T.STARTS, log.starts)
        self._book.place(T.LENGTHS, log.lengths)
        self._book.place(T.RAMP, np.arange(16, dtype=np.uint32))
        self._book.place(T.SCRATCH, np.zeros((threads, 16), np.int32))
        self._book.place(T.NOW, np.zeros((threads, 2, len(wiring.inputs)), np.int64))
        self._book.place(T.FULL, np.full(threads, -1, np.int64))
        self._book.place(T.MEETING, self._meeting)
        numbers = {
            T.POP_COUNT: len(self._pops),
            T.INPUT_COUNT: len(wiring.inputs),
            T.DELIVERY_COUNT: len(wiring.deliveries),
            T.DRIVE_COUNT: len(wiring.drives),
            T.PARTS: threads,
            T.RING: log.starts.shape[1],
            T.WINDOW: wiring.window,
            T.TRACED_COUNT: len(self._traced),
            T.TRACE_EVERY: self._trace_every,
        }
        for entry, number in numbers.items():
            self._book.entries[entry] = number

    def _begin(self) -> None:
        """The spikes at t = 0: given ones, and neurons that start at or above their threshold."""
        steps, neurons = self._given.take(0, 0)
        fired = [neurons]
        for row in self._pops[self._pops[:, T.KIND] != T.SOURCE]:
            size, room = int(row[T.SIZE]), int(row[T.PADDED])
            chosen = np.arange(size) * row[T.STRIDE]
            threshold, reset = (
                self._params[row[T.PARAMS] + k * row[T.SPAN] + chosen] for k in (2, 3)
            )
            voltage = self._state[row[T.VOLTAGE] : row[T.VOLTAGE] + size]
            high = voltage >= threshold
            voltage[high] = reset[high]
            until = self._until[row[T.UNTIL] : row[T.UNTIL] + room][:size]
            until[high] = self._holds[row[T.HOLDS] + chosen][high]
            fired.append((np.flatnonzero(high) + row[T.FIRST]).astype(np.int32))
        every = np.sort(np.concatenate(fired))
        self._fill_log(np.zeros(len(every), np.int32), every)
        if len(self._traced):
            self._samples.append(self._voltages()[None])

    def _voltages(self) -> Array:
        """Of the traced neurons (M,)."""
        offsets = self._pops[self._traced[:, 0], T.VOLTAGE] + self._traced[:, 1]
        values: Array = self._state[offsets]
        return values

    def _fill_log(self, steps: Array, neurons: Array) -> None:
        firsts = np.append(self._pops[:, T.FIRST], self._network.size)
        owners = np.zeros(len(neurons), np.int64)
        population = np.searchsorted(firsts, neurons, side="right") - 1
        inside = neurons - firsts[population]
        for part in range(1, self._threads):
            begins, ends = self._bounds[part, population, 0], self._bounds[part, population, 1]
            owners[(inside >= begins) & (inside < ends)] = part
        owners[self._pops[population, T.KIND] == T.SOURCE] = 0
        self._log.fill(steps, neurons, self._step, firsts, owners)
        self._place_log()

    def advance(self, until: float) -> None:
        """Simulate all steps up to `until` (s)."""
        last = steps_until(until, self._options.time_step)
        if last >= LAST_STEP:
            raise ValueError(
                f"expected fewer than {LAST_STEP} time steps, got {last}; use a longer time_step"
            )
        while self._step < last:
            self._advance(min(last, self._step + self._given.steps_at_once))
        self.time = until

    def _advance(self, last: int) -> None:
        """Simulate steps up to `last`; their given spikes are made first."""
        book, entries, every = self._book, self._book.entries, self._trace_every
        begun, most, samples = self._step // every, 0, None
        if self._given.any:
            self._steps, self._given_neurons = self._given.take(self._step + 1, last)
            if len(self._steps):
                most = int(np.bincount(self._steps - self._step).max())
            book.place(T.GIVEN_STEPS, self._steps)
            book.place(T.GIVEN_NEURONS, self._given_neurons)
            entries[T.GIVEN_COUNT] = len(self._steps)
        if len(self._traced):
            samples = np.empty((last // every - begun, len(self._traced)), self._state.dtype)
            book.place(T.SAMPLES, samples)
            self._samples.append(samples)
        entries[T.STEP_ROOM] = self._neurons + most
        wanted = (self._neurons + most) * (1 if self._pool is None else 2 * self._wiring.window)
        while self._step < last:
            if self._log.make_room(self._step, wanted):
                self._place_log()
            cursor = int(np.searchsorted(self._steps, self._step + 1)) if most else 0
            arguments = (self._step, last, cursor, self._step // every - begun, book.address)
            if self._pool is None:
                self._step = run(self._unit, 0, *arguments)
                continue
            self._meeting[0] = 0
            parts = range(self._threads)
            tasks = [self._pool.submit(run, self._unit, part, *arguments) for part in parts]
            self._step = max([task.result() for task in tasks])

    def _place_log(self) -> None:
        self._book.place(T.LOG_NEURONS, self._log.neurons)
        self._book.place(T.LOG_STEPS, self._log.steps)
        self._book.entries[T.LOG_ROOM] = self._log.neurons.shape[1]

    def spikes(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """All spikes so far: times (K,) s and neurons (K,), sorted."""
        steps, neurons = self._log.all()
        times: npt.NDArray[np.float64] = steps.astype(np.float64) * self._options.time_step
        return times, neurons.astype(np.int64)

    def counts(self) -> dict[str, int]:
        """Exact totals; "synaptic_events" have arrived, at refractory neurons too."""
        steps, neurons = self._log.all()
        table = self._wiring.deliveries
        totals = self._totals.sum(axis=0)
        begun = int(totals[: len(table)].sum())
        way = events_under_way(
            self._network, self._options.time_step, steps, neurons, self._step, table[:, T.LAG]
        )
        sources = np.searchsorted(
            np.append(self._pops[:, T.FIRST], self._network.size), neurons, side="right"
        )
        given = int((self._pops[sources - 1, T.KIND] == T.SOURCE).sum()) if len(neurons) else 0
        return {
            "spikes": len(steps),
            "source_spikes": given,
            "synaptic_events": begun - way,
            "drive_events": int(totals[len(table) :].sum()),
            "neuron_updates": self._neurons * self._step,
        }

    def traces(self) -> dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
        """Population -> times (S,) and voltages (S, neurons), at every `trace_step`."""
        if not len(self._traced):
            return {}
        values = np.concatenate(self._samples).astype(np.float64)
        times: npt.NDArray[np.float64] = np.arange(len(values), dtype=np.float64)
        times *= self._trace_every * self._options.time_step
        names = [population.name for population in self._network]
        return {
            name: (times, values[:, self._traced[:, 0] == names.index(name)])
            for name in self._options.trace
        }

    def energy(self) -> dict[str, dict[str, float]]:
        """None: no device is simulated."""
        return {}

    def state(self) -> dict[str, Array]:
        """Everything needed to go on, the same for any number of threads."""
        steps, neurons = self._log.all()
        empty = np.empty((0, len(self._traced)), self._state.dtype)
        return {
            "step": np.array(self._step),
            "time": np.array(self.time),
            "state": self._state.copy(),
            "until": self._until.copy(),
            "counts": self._counts.copy(),
            "sums": self._sums.copy(),
            "totals": self._totals.sum(axis=0),
            "spike_steps": steps,
            "spike_neurons": neurons,
            "samples": np.concatenate([empty, *self._samples]),
            **self._given.state(),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on from `state()` of the same network and options."""
        self._step, self.time = int(state["step"]), float(state["time"])
        for name in ("state", "until", "counts", "sums"):
            getattr(self, f"_{name}")[:] = state[name]
        self._totals[:] = 0
        self._totals[0] = state["totals"]
        self._samples = [state["samples"]]
        self._given.restore(state)
        self._fill_log(state["spike_steps"], state["spike_neurons"])

    def __repr__(self) -> str:
        return f"StepSimulation({self._network}, {self._options.precision}, step {self._step})"


def _params(
    params: list[Array], weights: list[float], inputs: Array, dtype: npt.DTypeLike
) -> Array:
    """Parameters, then the weight of every input in every lane; notes where they are."""
    length = sum(len(part) for part in params)
    for k in range(len(inputs)):
        inputs[k, T.WEIGHT] = length + 16 * k
    parts = [*params, np.repeat(np.asarray([*weights, 0.0], np.float64), 16)]
    whole = aligned((sum(len(part) for part in parts),), dtype)
    whole[:] = np.concatenate(parts)
    return whole


def _bounds(pops: Array, parts: int) -> npt.NDArray[np.int64]:
    """Neurons of each part (parts, populations, 2): whole words of 512, the last one cut short."""
    bounds = np.zeros((parts, len(pops), 2), np.int64)
    words = pops[:, T.PADDED] // T.LANES
    for part in range(parts):
        bounds[part, :, 0] = words * part // parts * T.LANES
        bounds[part, :, 1] = words * (part + 1) // parts * T.LANES
    vectors = -(-pops[:, T.SIZE] // 16) * 16
    whole: npt.NDArray[np.int64] = np.minimum(bounds, vectors[None, :, None])
    return whole


def _traced(network: SpikingNetwork, options: Options) -> npt.NDArray[np.int64]:
    """(M, 2): population and neuron of each trace."""
    names = [population.name for population in network]
    rows: list[tuple[int, int]] = []
    for name, neurons in options.trace.items():
        rows.extend((names.index(name), int(neuron)) for neuron in neurons)
    return np.array(rows, np.int64).reshape(-1, 2)
