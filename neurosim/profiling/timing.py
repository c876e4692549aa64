"""CPU time of candidates that take turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Run = Callable[[], Any]


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        samples: of each candidate; the median of them is reported.
        seconds: of calls in one sample.
        slow_seconds: a candidate whose single call takes longer gets `slow_samples` only.
        slow_samples: of slow candidates.
    """

    samples: int
    seconds: float
    slow_seconds: float = 0.1
    slow_samples: int = 3

    def __post_init__(self) -> None:
        if self.samples < 1 or self.slow_samples < 1 or self.seconds < 0:
            raise ValueError(f"expected at least one sample of some time, got {self}")


SHORT = Effort(samples=7, seconds=0.0015, slow_seconds=0.04)
LONG = Effort(samples=15, seconds=0.004, slow_seconds=0.02, slow_samples=7)


@dataclass(frozen=True)
class Spread:
    """Seconds per call: the median, the 20 and the 80 percentile of the samples."""

    median: float
    p20: float
    p80: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """From seconds per call of every sample."""
        low, middle, high = np.percentile(samples, (20, 50, 80))
        return cls(float(middle), float(low), float(high))

    def to_dict(self) -> dict[str, float]:
        """Microseconds."""
        return {"median": self.median * 1e6, "p20": self.p20 * 1e6, "p80": self.p80 * 1e6}


@dataclass(frozen=True)
class Times:
    """One candidate's times; the clock that counts is CPU time, or wall time where a GPU works."""

    cpu: Spread
    wall: Spread
    calls: int
    by_wall: bool = False

    @property
    def counted(self) -> Spread:
        """On the clock that counts."""
        return self.wall if self.by_wall else self.cpu

    @property
    def median(self) -> float:
        """Seconds per call on the clock that counts."""
        return self.counted.median

    def to_dict(self) -> dict[str, Any]:
        """For JSON lines."""
        return {
            "cpu_us": self.cpu.to_dict(), "wall_us": self.wall.to_dict(), "calls": self.calls,
            "clock": "wall" if self.by_wall else "cpu",
        }  # fmt: skip


def interleaved(
    candidates: Mapping[str, Run], effort: Effort, by_wall: bool = False
) -> dict[str, Times]:
    """Time all candidates in turn; process CPU time, because MLX computes in threads of its own.

    The first call of each, which may compile, is not measured. `by_wall`: wall time counts, as it
    must where some candidates run on a GPU.
    """
    clock = time.perf_counter if by_wall else time.process_time  # others' load must not count
    calls: dict[str, int] = {}
    wanted: dict[str, int] = {}
    cpu: dict[str, list[float]] = {name: [] for name in candidates}
    wall: dict[str, list[float]] = {name: [] for name in candidates}
    for name, run in candidates.items():
        run()
        start = clock()
        run()
        seconds = max(clock() - start, 1e-7)
        calls[name] = max(1, int(effort.seconds / seconds))
        slow = seconds > effort.slow_seconds
        wanted[name] = min(effort.samples, effort.slow_samples) if slow else effort.samples
    for sample in range(effort.samples):
        for name, run in candidates.items():
            if sample >= wanted[name]:
                continue
            started, used = time.perf_counter(), time.process_time()
            for _ in range(calls[name]):
                run()
            used, taken = time.process_time() - used, time.perf_counter() - started
            cpu[name].append(used / calls[name])
            wall[name].append(taken / calls[name])
    return {
        name: Times(
            Spread.of(cpu[name]), Spread.of(wall[name]), calls[name] * len(cpu[name]), by_wall
        )
        for name in candidates
    }
