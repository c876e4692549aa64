"""Speed of the closed forms on one core: `python -m benchmarks.device_speed`.

An update moves one neuron through one segment in closed form, ledger included: a piece of constant
drive is one segment, and every spike in it adds two. Medians (smallest .. largest) of CPU time.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from neurosim.devices import Population, Stimulus, ThresholdStatistics, firing_rates, load_device
from neurosim.devices.population import device_rows
from neurosim.profiling.environment import restart

SAMPLES = 7
NEURONS, SEGMENTS, SEGMENT_SECONDS = 20_000, 50, 100e-6
DEVICES, CURRENTS = 100_000, 100


def _seconds(run: Callable[[], object]) -> list[float]:
    run()
    taken = []
    for _ in range(SAMPLES):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return sorted(taken)


def main() -> None:
    """Print millions of segments per second, and seconds of a family of f-I curves."""
    restart([sys.executable, "-m", "benchmarks.device_speed", *sys.argv[1:]], 1)
    print("load", *os.getloadavg())
    demo = load_device("demo").switch()
    rng = np.random.default_rng(0)
    for name, low, high, drawn in (
        ("below threshold", 0.0, 0.02e-6, None),
        ("some fire", 0.0, 1e-6, None),
        ("some fire, drawn thresholds", 0.0, 1e-6, ThresholdStatistics(0.01, 0.003)),
    ):
        current = rng.uniform(low, high, (NEURONS, SEGMENTS))
        stimulus = Stimulus.of_current(np.full(SEGMENTS, SEGMENT_SECONDS), current)
        population = Population(demo, NEURONS, drawn)
        spikes = int(population.run(stimulus).spikes.sum())
        times = _seconds(lambda p=population, s=stimulus: p.run(s))
        updates = 1e-6 * (NEURONS * SEGMENTS + 2 * spikes)
        print(
            f"{name}: {updates / statistics.median(times):.1f} M updates/s "
            f"({updates / times[-1]:.1f} .. {updates / times[0]:.1f}), "
            f"{spikes / (NEURONS * SEGMENTS):.2f} spikes per neuron and piece of drive"
        )
    rows = np.repeat(device_rows([demo]), DEVICES, axis=0)
    rows[:, 3] *= rng.normal(1.0, 0.05, DEVICES)  # V_th
    currents = np.geomspace(2e-8, 4e-5, CURRENTS)
    times = _seconds(lambda: firing_rates(rows, currents))
    print(
        f"f-I of {DEVICES} devices x {CURRENTS} currents: {statistics.median(times):.3f} s "
        f"({times[0]:.3f} .. {times[-1]:.3f})"
    )
    print("load", *os.getloadavg())


if __name__ == "__main__":
    main()
