"""What this machine can do: bytes per second that can be read and added, products per second."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels import _simd
from neurosim.kernels._jit import compiled
from neurosim.profiling.case import Traffic
from neurosim.profiling.environment import caches

_VECTOR = _simd.Vector("float32", 16)
_load, _add = _simd.load(_VECTOR), _simd.binary(_VECTOR, "fadd")
_zero, _store = _simd.zero(_VECTOR), _simd.store(_VECTOR)
_LANES, _UNROLL = 16, 8
_FALLBACK = {"L1": 32 * 1024, "L2": 512 * 1024, "L3": 8 * 2**20}
_MOST = 512 * 2**20
_PRODUCT = 768


@compiled
def _read_and_add(x: npt.NDArray[np.float32], passes: int, out: npt.NDArray[np.float32]) -> None:
    """Add all of x, `passes` times, in eight accumulators."""
    a, b, c, d = _zero(), _zero(), _zero(), _zero()
    e, f, g, h = _zero(), _zero(), _zero(), _zero()
    for _ in range(passes):
        for i in range(0, x.size, 128):
            a, b = _add(a, _load(x, i)), _add(b, _load(x, i + 16))
            c, d = _add(c, _load(x, i + 32)), _add(d, _load(x, i + 48))
            e, f = _add(e, _load(x, i + 64)), _add(f, _load(x, i + 80))
            g, h = _add(g, _load(x, i + 96)), _add(h, _load(x, i + 112))
    total = _add(_add(_add(a, b), _add(c, d)), _add(_add(e, f), _add(g, h)))
    _store(out, 0, total)


@dataclass(frozen=True)
class Level:
    """One point: an array of `size` bytes is read and added at `bandwidth` bytes per second."""

    name: str
    size: int
    bandwidth: float


@dataclass(frozen=True)
class Roofline:
    """Measured limits of one thread.

    Attributes:
        levels: by size; the last one is main memory as far as arrays may be that large.
        products: multiply-adds per second of a float32 matrix product.
    """

    levels: tuple[Level, ...]
    products: float

    def bandwidth(self, reused: int) -> float:
        """Bytes per second for data of this size: between measured sizes, straight in log-log."""
        sizes = [math.log(level.size) for level in self.levels]
        rates = [math.log(level.bandwidth) for level in self.levels]
        return math.exp(float(np.interp(math.log(max(reused, 1)), sizes, rates)))

    def fraction(self, traffic: Traffic, seconds: float) -> float:
        """Bytes per second over those that can be read from the memory level of the reused data.

        Above 1 where a kernel needs fewer bytes than one addition after the other would: tables of
        partial sums, bins of time patterns.
        """
        return traffic.moved / seconds / self.bandwidth(traffic.reused)

    def to_dict(self) -> dict[str, Any]:
        """GB/s and 10^9 multiply-adds per second."""
        return {
            "read_and_add_GB_per_s": {
                level.name: {"bytes": level.size, "GB_per_s": level.bandwidth / 1e9}
                for level in self.levels
            },
            "sgemm_GMAC_per_s": self.products / 1e9,
        }


def sizes_to_measure(found: dict[str, int]) -> list[tuple[str, int]]:
    """Names and bytes: half of each cache (16 and 64 MB of a large shared one), and far beyond."""
    found = found or _FALLBACK
    sizes = []
    for name, size in found.items():
        sizes.append((name, min(size // 2, 16 * 2**20)))
        if size >= 128 * 2**20:
            sizes.append((f"{name} far", 64 * 2**20))
    largest = max(found.values())
    memory = min(max(4 * largest, 64 * 2**20), _MOST)
    return [*sizes, ("DRAM" if memory > 1.5 * largest else "large", memory)]


def measure(sizes: Sequence[tuple[str, int]] | None = None, seconds: float = 0.01) -> Roofline:
    """Measure; best of five, because a limit is what is reached undisturbed."""
    wanted = sizes_to_measure(caches()) if sizes is None else sizes
    out = np.empty(_LANES, np.float32)
    levels = []
    for name, size in sorted(wanted, key=lambda pair: pair[1]):
        x = _aligned(max(size // 4 // 128, 1) * 128)
        _read_and_add(x, 1, out)
        passes = max(1, int(seconds * 2e10 / x.nbytes))
        best = min(_cpu(_read_and_add, x, passes, out) for _ in range(5))
        levels.append(Level(name, x.nbytes, x.nbytes * passes / best))
    a, b = (np.ones((_PRODUCT, _PRODUCT), np.float32) for _ in range(2))
    product = np.empty_like(a)
    np.dot(a, b, out=product)
    best = min(_cpu(np.dot, a, b, product) for _ in range(5))
    return Roofline(tuple(levels), _PRODUCT**3 / best)


def _aligned(size: int) -> npt.NDArray[np.float32]:
    """Ones that start at a cache line: loads that straddle two lines halve the rate of L1."""
    memory = np.empty(size + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    x = memory[start : start + size]
    x[:] = 1
    return x


def _cpu(function: Any, *arguments: Any) -> float:
    start = time.process_time()
    function(*arguments)
    return max(time.process_time() - start, 1e-9)
