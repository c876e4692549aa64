"""Speed of IR drop on one core: `python -m benchmarks.chip_wires`, one JSON line a measurement.

solve: the nodal solution of one input pattern on an n x n crossbar with wires. transfer: the exact
transfer matrix for all patterns of a tile of n x n differential pairs. badcrossbar: the same
pattern there, where it is installed (it factorises for all patterns at once). Seconds are medians
of CPU time; `error` is the largest difference from badcrossbar, or of the transfer matrix from the
nodal solution, relative to the largest column current.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.devices.synapse_wires import solve_wires
from neurosim.devices.wire_transfer import transfer
from neurosim.profiling.environment import restart

SAMPLES = 5
VOLTAGE = 0.1
Floats = npt.NDArray[np.float64]


def _timed(run: Callable[[], Any]) -> tuple[Any, list[float]]:
    """The result, and sorted CPU seconds."""
    result = run()
    taken = []
    for _ in range(SAMPLES):
        start = time.process_time()
        result = run()
        taken.append(time.process_time() - start)
    return result, sorted(taken)


def _line(what: str, size: int, ohms: float, seconds: list[float], **more: float) -> None:
    print(
        json.dumps(
            {
                "benchmark": "chip_wires",
                "what": what,
                "rows": size,
                "ohm_per_segment": ohms,
                "cpu_s": round(statistics.median(seconds), 5),
                "cpu_s_range": [round(seconds[0], 5), round(seconds[-1], 5)],
                **more,
                "load": round(os.getloadavg()[0], 2),
            }
        ),
        flush=True,
    )


def _badcrossbar(g: Floats, volts: Floats, ohms: float) -> tuple[Floats, float] | None:
    """Column currents and CPU seconds, None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import badcrossbar
    except ImportError:
        return None
    logging.disable(logging.INFO)  # it tells its steps on stdout
    start = time.process_time()
    found = badcrossbar.compute(volts[:, None], 1.0 / g, r_i=ohms)
    return np.asarray(found.currents.output)[0], time.process_time() - start


def main() -> None:
    """Print the lines."""
    restart([sys.executable, "-m", "benchmarks.chip_wires", *sys.argv[1:]], 1)
    rng = np.random.default_rng(0)
    for size in (64, 128, 256):
        g = rng.uniform(1e-6, 40e-6, (size, size))
        volts = VOLTAGE * rng.integers(0, 2, size).astype(np.float64)
        for ohms in (0.1, 1.0, 10.0, 100.0):
            solution, seconds = _timed(partial(solve_wires, g, volts, ohms))
            columns = solution.columns[0]
            _line("solve", size, ohms, seconds)
            peer = _badcrossbar(g, volts, ohms) if ohms == 1.0 else None
            if peer is not None:
                error = float(np.abs(peer[0] - columns).max() / np.abs(columns).max())
                _line("badcrossbar", size, ohms, [peer[1]], error=error)
        pairs = rng.uniform(1e-6, 40e-6, (size, 2 * size))
        found, seconds = _timed(partial(transfer, pairs, 1.0, differential=True))
        nodal = solve_wires(pairs, volts, 1.0).columns[0]
        nodal = nodal[0::2] - nodal[1::2]
        error = float(np.abs(volts @ found.current - nodal).max() / np.abs(nodal).max())
        _line("transfer", size, 1.0, seconds, error=error)


if __name__ == "__main__":
    main()
