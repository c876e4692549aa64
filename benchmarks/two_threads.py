"""Wall time with one and two threads, taking turns: `python -m benchmarks.two_threads`.

Only a quiet machine with two cores can tell: the load is printed before and after. Spikes are
taken as fresh, so event lists are built in every call (by one thread).
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from neurosim.kernels import PackedSpikes, PackedWeight, lif_scan, pack, spike_conv2d, spike_linear
from neurosim.profiling.environment import restart

SAMPLES, SAMPLE_SECONDS = 9, 0.02
Threaded = Callable[[int], object]


def _fresh(spikes: PackedSpikes) -> PackedSpikes:
    """The same spikes with nothing derived yet."""
    return PackedSpikes.trusted(spikes.words[:], spikes.shape)


def cases() -> Iterator[tuple[str, Threaded]]:
    """Name, and what is run with so many threads."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-8, 8, (512, 512))
    for rows, density in ((1024, 0.1), (4096, 0.1), (4096, 0.5)):
        spikes = pack(rng.random((rows, 512)) < density)
        for bits in (32, 8, 4):
            panels = PackedWeight.pack(
                weight.astype(np.float32 if bits == 32 else np.int8), bits=bits
            )
            yield (
                f"spike_linear, {bits} bits, {rows} x 512 x 512, p = {density}",
                lambda threads, s=spikes, w=panels: spike_linear(_fresh(s), w, threads=threads),
            )
    wide = PackedWeight.pack(rng.standard_normal((4096, 4096)).astype(np.float32), bits=32)
    token = pack(rng.random((4, 4096)) < 0.2)
    yield (
        "decode T = 4, float32, 4096 x 4096, p = 0.2",
        lambda threads: spike_linear(_fresh(token), wide, threads=threads),
    )
    x = rng.standard_normal((4, 4096, 512)).astype(np.float32)
    yield (
        "lif_scan, packed, 4 x 4096 x 512",
        lambda threads: lif_scan(x, output="packed", keep_state=False, threads=threads),
    )
    image = pack(rng.random((8, 16, 16, 128)) < 0.1)
    kernel = rng.standard_normal((3, 3, 128, 256)).astype(np.float32)
    yield (
        "spike_conv2d, 8 x 16 x 16, 128 to 256 channels, p = 0.1",
        lambda threads: spike_conv2d(image, kernel, padding="same", threads=threads),
    )


def _wall(run: Threaded, threads: int, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run(threads)
    return (time.perf_counter() - start) / calls


def main() -> None:
    """Print medians, spreads and factors."""
    restart([sys.executable, "-m", "benchmarks.two_threads", *sys.argv[1:]], 1)
    print(f"ms of wall time, median (second smallest .. second largest of {SAMPLES})")
    print("load", *os.getloadavg())
    for name, run in cases():
        _wall(run, 1, 1), _wall(run, 2, 1)
        calls = max(2, int(SAMPLE_SECONDS / _wall(run, 1, 2)))
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(SAMPLES):
            for threads in (1, 2):
                times[threads - 1].append(1e3 * _wall(run, threads, calls))
        parts = []
        for values in times:
            low, *_, high = sorted(values)[1:-1]
            parts.append(f"{statistics.median(values):6.3f} ({low:.3f} .. {high:.3f})")
        factor = statistics.median(times[0]) / statistics.median(times[1])
        print(f"{name:56s} {' | '.join(parts)} | {factor:.2f}x", flush=True)
    print("load", *os.getloadavg())


if __name__ == "__main__":
    main()
