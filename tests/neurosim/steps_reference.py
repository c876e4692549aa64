"""One time step after the other in plain NumPy: what the compiled step engines must reproduce."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import poisson

from neurosim.devices.counter_random import stream_key
from neurosim.events.exact.trains import build_sources, interval
from neurosim.events.simulate import Options
from neurosim.events.steps.propagators import propagators
from neurosim.populations import ConductanceLIF, CrossbarSynapses, CurrentLIF, SpikingNetwork

M32 = np.uint64(0xFFFFFFFF)


def to_steps(times, dt):
    return np.floor(np.asarray(times) / dt + 0.5).astype(np.int64)


def exponential(x):
    """Taylor's series after the range reduction of `_vectors.exponential`, in the type of x."""
    t = x.dtype.type
    x = np.maximum(x, t(-87.0))
    power = np.rint(x * t(1.4426950408889634))
    r = x - power * t(0.693145751953125)
    r = r - power * t(1.42860682030941723212e-6)
    terms = 7 if t is np.float32 else 13
    y = np.full_like(x, t(1.0 / math.factorial(terms)))
    for k in range(terms - 1, -1, -1):
        y = y * r + t(1.0 / math.factorial(k))
    return y * np.exp2(power).astype(t)


def scrambled(x, key):
    """Wellons' triple32 of numbers below 2^32, a key added after the first product."""
    x = x ^ (x >> np.uint64(17))
    x = (x * np.uint64(0xED5AD4BB) + key) & M32
    x = x ^ (x >> np.uint64(11))
    x = (x * np.uint64(0xAC4C1B51)) & M32
    x = x ^ (x >> np.uint64(15))
    x = (x * np.uint64(0x31848BAB)) & M32
    return x ^ (x >> np.uint64(14))


def drive_counts(network, options, index, step):
    """Poisson counts of one drive at one step, by inversion of its distribution function."""
    drive = network.drives[index]
    first, size = network.first[drive.target], network[drive.target].size
    mean = drive.rate * options.time_step
    repeats = max(1, math.ceil(mean / 4.0))
    key = stream_key(np.uint64(options.seed), np.uint64(0x5EED0D21FE000000 + index))
    total = np.zeros(size, np.int64)
    for repeat in range(repeats):
        both = np.uint64(stream_key(np.uint64(key), np.uint64(step * (1 << 20) + repeat)))
        x = np.arange(first, first + size, dtype=np.uint64) ^ (both >> np.uint64(32))
        x = scrambled(x, both & M32)
        for k in range(40):
            below = round(2**32 * poisson.cdf(k, mean / repeats))
            total += x >= np.uint64(below)
    return total


def given_spikes(network, options, last):
    """Step -> sorted neurons of the sources."""
    sources = build_sources(network, options.seed)
    steps = list(to_steps(sources.times, options.time_step))
    neurons = list(sources.neurons)
    for k, neuron in enumerate(sources.poisson):
        time, number = sources.next[k], 0
        while to_steps(time, options.time_step) <= last:
            steps.append(to_steps(time, options.time_step))
            neurons.append(neuron)
            number += 1
            time += interval(sources.keys[k], number, sources.rates[k])
    found: dict[int, list[int]] = {}
    for step, neuron in zip(steps, neurons, strict=True):
        found.setdefault(int(step), []).append(int(neuron))
    return {step: sorted(items) for step, items in found.items()}


class Reference:
    """Runs at once; `spikes`: (step, neuron) pairs, `voltages`: population -> V per step."""

    def __init__(self, network: SpikingNetwork, options: Options, last: int) -> None:
        self.network, self.options = network, options
        self.t = np.dtype(options.precision).type
        self.given = given_spikes(network, options, last)
        self.spikes: list[tuple[int, int]] = []
        self.by_step: dict[int, list[int]] = {}
        self.events = 0
        self.pending: dict[tuple, np.ndarray] = {}
        self.inputs = self._inputs()
        self.state, self.until, self.values = {}, {}, {}
        self.voltages: dict[str, list[np.ndarray]] = {}
        for population in network:
            if population.is_source:
                continue
            name, size, model = population.name, population.size, population.model
            reset = population.parameter("reset_voltage")
            start = {"voltage": reset}
            self.state[name] = {
                key: np.broadcast_to(population.initial.get(key, start.get(key, 0.0)), size).astype(
                    self.t
                )
                for key in model.states
            }
            self.until[name] = np.full(size, -1)
            self.values[name] = [
                value.astype(self.t) for value in propagators(population, options.time_step)
            ]
            self.voltages[name] = []
        self._finish(0)
        for n in range(1, last + 1):
            self._step(n)

    def _inputs(self):
        """(target, receptor) -> ordered keys (weight, or None for own weights)."""
        inputs: dict[tuple[str, str], list] = {}
        for projection in self.network.projections:
            synapses = projection.synapses
            own = isinstance(synapses, CrossbarSynapses) or not synapses.uniform
            keys = inputs.setdefault((projection.target, projection.receptor), [])
            weight = None if own else float(synapses.weight)
            if weight not in keys:
                keys.append(weight)
        for drive in self.network.drives:
            keys = inputs.setdefault((drive.target, drive.receptor), [])
            if drive.weight not in keys:
                keys.append(drive.weight)
        return inputs

    def _buffer(self, n, target, receptor, weight):
        size = self.network[target].size
        kind = self.t if weight is None else np.int64
        return self.pending.setdefault((n, target, receptor, weight), np.zeros(size, kind))

    def _deliver(self, n):
        for projection in self.network.projections:
            synapses = projection.synapses
            if isinstance(synapses, CrossbarSynapses):
                rows = synapses.weight
                offsets = np.arange(rows.shape[0] + 1) * rows.shape[1]
                targets = np.tile(np.arange(rows.shape[1]), rows.shape[0])
                weight, delay = rows.reshape(-1), synapses.delay
            else:
                offsets, targets = synapses.offsets, synapses.targets
                weight, delay = synapses.weight, synapses.delay
            if not len(targets):
                continue
            delays = np.broadcast_to(to_steps(delay, self.options.time_step), len(targets))
            lag = delays.min()
            first = self.network.first[projection.source]
            for neuron in self.by_step.get(n - lag, []):
                source = neuron - first
                if not 0 <= source < synapses.source_count:
                    continue
                for j in range(offsets[source], offsets[source + 1]):
                    own = np.ndim(weight) > 0
                    buffer = self._buffer(
                        n + delays[j] - lag,
                        projection.target,
                        projection.receptor,
                        None if own else float(weight),
                    )
                    buffer[targets[j]] += self.t(weight[j]) if own else 1

    def _arrived(self, n, name, receptor):
        t, total = self.t, np.zeros(self.network[name].size, self.t)
        for weight in self.inputs.get((name, receptor), []):
            buffer = self.pending.pop((n, name, receptor, weight), None)
            if buffer is not None:
                total = total + (buffer if weight is None else t(weight) * buffer.astype(t))
        return total

    def _step(self, n):
        self._deliver(n)
        for k, drive in enumerate(self.network.drives):
            self._buffer(n, drive.target, drive.receptor, drive.weight)[:] += drive_counts(
                self.network, self.options, k, n
            )
        for name, state in self.state.items():
            model, v, p = self.network[name].model, state["voltage"], self.values[name]
            until = self.until[name]
            if not isinstance(model, CurrentLIF):
                v = np.where(n > until, v * p[0] + p[1], v)
                v = np.where(n >= until, v + self._arrived(n, name, "voltage"), v)
            else:
                e, h = state["excitatory"], state["inhibitory"]
                if isinstance(model, ConductanceLIF):
                    total = (self.t(1.0) + e) + h
                    goal = ((p[1] + e * p[4]) + h * p[5]) / total
                    moved = goal + (v - goal) * exponential(total * p[0])
                else:
                    moved = (v * p[0] + p[1]) + (e * p[4] + h * p[5])
                v = np.where(n > until, moved, v)
                state["excitatory"] = e * p[6] + self._arrived(n, name, "excitatory")
                state["inhibitory"] = h * p[7] + self._arrived(n, name, "inhibitory")
            state["voltage"] = v
        self._finish(n)

    def _finish(self, n):
        """Threshold, reset, spikes; what is almost 0 becomes 0 every 64 steps."""
        fired = list(self.given.get(n, []))
        for name, state in self.state.items():
            population, p = self.network[name], self.values[name]
            high = state["voltage"] >= p[2]
            state["voltage"] = np.where(high, p[3], state["voltage"])
            holds = to_steps(population.parameter("refractory_period"), self.options.time_step)
            self.until[name] = np.where(high, n + holds, self.until[name])
            fired += list(np.flatnonzero(high) + self.network.first[name])
            if n and n % 64 == 0:
                for key, value in state.items():
                    state[key] = np.where(np.abs(value) < 1e-30, self.t(0.0), value)
            self.voltages[name].append(state["voltage"])
        self.by_step[n] = sorted(int(neuron) for neuron in fired)
        self.spikes += [(n, neuron) for neuron in self.by_step[n]]
