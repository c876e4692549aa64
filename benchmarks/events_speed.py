"""Speed of the exact event engines: `python -m benchmarks.events_speed`.

LIF networks of 4,000 neurons with delta synapses, one thread, CPU time; medians (least .. most). A
synaptic event is one delivery at one synapse. Beside it a binary heap engine: the same network with
one global heap of crossings and deliveries (device.md 3.11), compiled the same way. Then the cost
per input of the calendar engine, predicted cost over measured, and the break-even against clock-
driven steps.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.devices import load_device
from neurosim.events import calendar, frames
from neurosim.events.exact import build_wiring
from neurosim.events.simulate import Options
from neurosim.events.steps import clock
from neurosim.kernels._jit import compiled
from neurosim.populations import (
    LIF,
    CurrentLIF,
    NetworkBuilder,
    PoissonSource,
    SpikingNetwork,
    SwitchNeuron,
    cuba,
)
from neurosim.profiling.environment import restart

SAMPLES = 5
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def recurrent(
    weights: tuple[float, float], probability: float, delay: float, resting: float = -49e-3
) -> SpikingNetwork:
    """4,000 neurons, 80 % excitatory, as CUBA but with delta synapses (kernels.md 5.4)."""
    model = LIF(20e-3, resting, -50e-3, -60e-3, 5e-3)
    build, rng = NetworkBuilder(7), np.random.default_rng(3)
    cells = [
        build.population(name, size, model, voltage=rng.uniform(-60e-3, -50e-3, size))
        for name, size in (("excitatory", 3200), ("inhibitory", 800))
    ]
    for source, weight in zip(cells, weights, strict=True):
        for target in cells:
            build.connect(source, target, weight=weight, delay=delay, probability=probability)
    return build.network()


@compiled
def _push(times: Floats, items: Integers, size: int, time: float, item: int) -> int:
    at = size
    while at > 0 and times[(at - 1) >> 1] > time:
        up = (at - 1) >> 1
        times[at], items[at] = times[up], items[up]
        at = up
    times[at], items[at] = time, item
    return size + 1


@compiled
def _pop(times: Floats, items: Integers, size: int) -> int:
    size -= 1
    time, item, at = times[size], items[size], 0
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        if down + 1 < size and times[down + 1] < times[down]:
            down += 1
        if times[down] >= time:
            break
        times[at], items[at] = times[down], items[down]
        at = down
    times[at], items[at] = time, item
    return size


@compiled
def _heap_engine(
    offsets: Integers,
    targets: Any,
    weights: Floats,
    voltage: Floats,
    constants: Any,
    delay: float,
    duration: float,
) -> tuple[int, int]:
    """Spikes and synaptic events of `recurrent` by one heap; item < N: crossing, else delivery."""
    tau, rest, threshold, reset, refractory = constants
    count = voltage.size
    times, items, size = np.empty(4_000_000), np.empty(4_000_000, np.int64), 0
    last, queued, due = np.zeros(count), np.empty(count), np.empty(count)
    drive = rest - threshold
    for i in range(count):
        due[i] = tau * math.log((rest - voltage[i]) / drive)
        queued[i] = due[i]
        size = _push(times, items, size, due[i], i)
    spikes = events = 0
    while size > 0 and times[0] < duration:
        now, item = times[0], items[0]
        size = _pop(times, items, size)
        low, high = (offsets[item - count], offsets[item - count + 1]) if item >= count else (0, 1)
        events += high - low if item >= count else 0
        for j in range(low, high):
            k = np.int64(targets[j]) if item >= count else item
            fires = item < count
            if fires and now != queued[k]:
                continue
            if fires and due[k] > now:
                queued[k] = due[k]
                size = _push(times, items, size, due[k], k)
                continue
            if not fires:
                if now < last[k]:
                    continue
                after = rest + (voltage[k] - rest) * math.exp((last[k] - now) / tau)
                after += weights[item - count]
                voltage[k], last[k] = after, now
                fires = after >= threshold
            if fires:
                spikes += 1
                voltage[k], last[k] = reset, now + refractory
                size = _push(times, items, size, now + delay, k + count)
            due[k] = last[k] + tau * math.log((rest - voltage[k]) / drive)
            if fires or due[k] < queued[k]:
                queued[k] = due[k]
                size = _push(times, items, size, due[k], k)
    return spikes, events


def _heap(network: SpikingNetwork, duration: float) -> tuple[int, int, float]:
    """Spikes, synaptic events and CPU seconds of the heap engine."""
    wires = build_wiring(network, lambda projection: 0)
    voltage = np.concatenate([np.asarray(p.initial["voltage"]) for p in network])
    constants = (20e-3, -49e-3, -50e-3, -60e-3, 5e-3)
    start = time.process_time()
    found = _heap_engine(
        wires.begin, wires.targets, wires.weights, voltage, constants, 1e-3, duration
    )
    return *found, time.process_time() - start


def seconds(engine: Any, network: SpikingNetwork, duration: float) -> tuple[list[float], Any]:
    """Sorted CPU seconds of `SAMPLES` runs, and the last simulation."""
    simulation = engine.begin(network, Options())
    simulation.advance(0.02 * duration)
    taken = []
    for _ in range(SAMPLES):
        simulation = engine.begin(network, Options())
        start = time.process_time()
        simulation.advance(duration)
        taken.append(time.process_time() - start)
    return sorted(taken), simulation


def compare_with_heap() -> None:
    """Frames and the heap on the same networks."""
    for name, weights, probability in (
        ("CUBA-like, 80 synapses", (0.4e-3, -4.5e-3), 0.02),
        ("weak, 80 synapses", (0.1e-3, -0.5e-3), 0.02),
        ("CUBA-like, 400 synapses", (0.08e-3, -0.9e-3), 0.1),
        ("CUBA-like, 1600 synapses", (0.02e-3, -0.225e-3), 0.4),
    ):
        network = recurrent(weights, probability, 1e-3)
        taken, simulation = seconds(frames, network, 1.0)
        counts = simulation.counts()
        middle = statistics.median(taken)
        events = 1e-6 * counts["synaptic_events"]
        _heap(network, 0.02)
        heap_spikes, heap_events, heap_seconds = _heap(network, 1.0)
        heap_speed = 1e-6 * heap_events / heap_seconds
        print(
            f"frames, {name}: {events / middle:.0f} M events/s "
            f"({events / taken[-1]:.0f} .. {events / taken[0]:.0f}), {middle:.4f} s per s, "
            f"{counts['spikes'] / 4000:.1f} Hz; heap {heap_speed:.1f} M/s, "
            f"{heap_spikes / 4000:.1f} Hz: frames x {events / middle / heap_speed:.1f}"
        )


def inputs(
    model: Any, weight: float, rate: float, receptor: str, size: int = 4000
) -> SpikingNetwork:
    """Neurons that do nothing but receive: 100 inputs each from Poisson sources."""
    build = NetworkBuilder(1)
    source = build.population("source", 1000, PoissonSource(rate))
    cells = build.population("cells", size, model)
    build.connect(source, cells, weight=weight, delay=1e-3, probability=0.1, receptor=receptor)
    return build.network()


def cost_per_input() -> None:
    """ns of one input, of each engine and model; predicted over measured."""
    demo = load_device("demo")
    quantum = demo.switch().quantum
    lif = LIF(20e-3, -65e-3, -50e-3, -60e-3, 2e-3)
    current = CurrentLIF(20e-3, -52e-3, -50e-3, -60e-3, 2e-3)
    for name, engine, model, weight, receptor in (
        ("frames, LIF", frames, lif, 0.1e-3, "voltage"),
        ("calendar, LIF", calendar, lif, 0.1e-3, "voltage"),
        ("calendar, CurrentLIF", calendar, current, 0.2e-3, "excitatory"),
        ("calendar, SwitchNeuron", calendar, SwitchNeuron(demo), 0.01 * quantum, "charge"),
    ):
        network = inputs(model, weight, 10.0, receptor)
        taken, simulation = seconds(engine, network, 0.5)
        middle = statistics.median(taken)
        events = simulation.counts()["synaptic_events"]
        ratio = engine.cost(network, Options()) / (middle / 0.5)
        print(
            f"{name}: {1e9 * middle / events:.1f} ns per input "
            f"({1e9 * taken[0] / events:.1f} .. {1e9 * taken[-1] / events:.1f}); "
            f"predicted / measured {ratio:.2f}"
        )


def break_even() -> None:
    """CPU seconds per s against the rate of inputs per neuron; steps of 0.1 ms in float64."""
    model = LIF(20e-3, -65e-3, -50e-3, -60e-3, 2e-3)
    for per_ms in (0.1, 0.3, 1.0, 3.0, 10.0):
        network = inputs(model, 1e-3 * 0.1 / per_ms, 10.0 * per_ms, "voltage")
        row = []
        for engine in (frames, calendar, clock):
            taken, _ = seconds(engine, network, 0.2)
            row.append(statistics.median(taken) / 0.2)
        print(
            f"{per_ms:g} inputs per neuron and ms: frames {row[0]:.4f}, calendar {row[1]:.4f}, "
            f"steps {row[2]:.4f} CPU s per s"
        )


def main() -> None:
    """Print everything."""
    restart([sys.executable, "-m", "benchmarks.events_speed", *sys.argv[1:]], 1)
    print("load", *os.getloadavg())
    compare_with_heap()
    cost_per_input()
    break_even()
    taken, simulation = seconds(calendar, cuba(), 0.2)
    events = simulation.counts()["synaptic_events"]
    print(
        f"calendar, CUBA 4000 exact: {statistics.median(taken) / 0.2:.3f} CPU s per s, "
        f"{1e9 * statistics.median(taken) / events:.0f} ns per synaptic event"
    )
    print("load", *os.getloadavg())


if __name__ == "__main__":
    main()
