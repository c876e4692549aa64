"""Which algorithm is the fastest: a linear model of time, with measured coefficients."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled
from neurosim.kernels._simd_masks import count_bits
from neurosim.kernels.packed import PackedSpikes, pack
from neurosim.kernels.spike_linear._run import far, run
from neurosim.kernels.spike_linear._weight import PackedWeight

ALGORITHMS = ("gather", "lut", "pattern", "dense")


@dataclass(frozen=True)
class Costs:
    """Nanoseconds of one thread, for one type of weights.

    Attributes:
        row, event: gather, per row and panel, and per listed input and output.
        block, lookup: lut, per input and output (once for 1,024 rows), and the same and row.
        group, union: pattern, per four rows and panel, and per input listed for them and output.
        convert, multiply: dense, per input and output, and the same and row.
    """

    row: float
    event: float
    block: float
    lookup: float
    group: float
    union: float
    convert: float
    multiply: float


MEASURED: Mapping[tuple[int, bool], Costs] = {
    (32, False): Costs(17.4, 0.0282, 0.311, 0.00535, 119, 0.0336, 0.652, 0.0131),
    (32, True): Costs(596, 0.0813, 0.312, 0.00906, 3680, 0.0951, 1.46, 0.00709),
    (16, False): Costs(12.6, 0.0351, 0.296, 0.00533, 103, 0.0396, 2.86, 0.0133),
    (16, True): Costs(200, 0.0528, 0.165, 0.00633, 1720, 0.0637, 3.93, 0.00526),
    (8, False): Costs(36.4, 0.0112, 0.141, 0.00304, 279, 0.0172, 1.07, 0.0175),
    (8, True): Costs(398, 0.0213, 0.0898, 0.00229, 1780, 0.0241, 3.22, 0),
    (4, False): Costs(39.8, 0.0101, 0.109, 0.00186, 280, 0.0155, 1.12, 0.0146),
    (4, True): Costs(224, 0.017, 0.0344, 0.00186, 1240, 0.0183, 3.42, 0),
}
"""By bits, and whether the weights come from memory: `calibrate()` on one core of an Emerald
Rapids Xeon (AVX-512, 2 MB second-level cache), numpy with OpenBLAS. Elsewhere the ratios differ,
but the results do not: integers are exact whatever is chosen."""

_GATHER_LISTED, _PATTERN_LISTED, _PATTERN_CALL = 0.5, 1.0, 8e3
"""Nanoseconds for an input that gather lists, for one that pattern lists, and that a call of
pattern takes more than the others. They decide where outputs or rows are few, and are 0 to a tenth
of what `calibrate` measures. Over 396 products of 64 to 2,048 outputs, 4 to 256 rows and densities
of 0.02 to 0.5, the choice took 1.3 % longer than the best algorithm, and without them 4.6 %."""


@dataclass(frozen=True)
class Work:
    """What a product has to do: sizes, and how many of its inputs are active.

    Attributes:
        rows, inputs, outputs: R, I and O, all of all panels.
        panels: of the weights.
        active: inputs of all rows with a count other than 0.
        union: inputs of all groups of four rows that are active in one of them; 0 without groups.
        classes: lists of a row, one for binary spikes.
        planes: that `lut` goes through, one for binary spikes.
    """

    rows: int
    inputs: int
    outputs: int
    panels: int
    active: int
    union: int
    classes: int = 1
    planes: int = 1

    @classmethod
    def of(cls, spikes: PackedSpikes, weight: PackedWeight, active: int | None = None) -> Work:
        """Counted in the packed bits; or without them, and without a union, from `active`."""
        active, union = _counted(spikes.words) if active is None else (active, 0)
        panels = weight.panels.shape[0]
        sides = 1 + spikes.signed
        planes = sides * min(spikes.levels.bit_length(), len(spikes) // sides)
        sizes = (spikes.rows, spikes.size, panels * weight.width, panels)
        return cls(*sizes, int(active), int(union), sides * spikes.levels, planes)

    def times(self, costs: Costs) -> dict[str, float]:
        """Predicted nanoseconds of every algorithm that can do it."""
        matrix = self.inputs * self.outputs
        tables = -(-self.rows // 1024) * costs.block
        times = {
            "gather": self.rows * self.classes * self.panels * costs.row
            + self.active * self.outputs * costs.event,
            "lut": self.planes * matrix * (tables + self.rows * costs.lookup),
            "dense": matrix * (costs.convert + self.rows * costs.multiply),
        }
        if cannot("pattern", self.rows, self.classes) is None:
            groups = self.rows // 4 * self.panels
            times["pattern"] = groups * costs.group + self.union * self.outputs * costs.union
        return times

    def listing(self, algo: str) -> float:
        """Predicted nanoseconds before the sums, which no number of outputs multiplies."""
        if algo == "pattern":
            return _PATTERN_CALL + self.union * _PATTERN_LISTED
        return self.active * _GATHER_LISTED if algo == "gather" else 0.0


def cannot(algo: str, rows: int, classes: int) -> str | None:
    """Why an algorithm cannot do it, or None."""
    if algo == "pattern" and rows % 4:
        return f"expected rows in groups of 4, the steps of a token, got {rows} rows"
    if algo == "pattern" and classes > 1:
        return f"expected binary spikes, got counts of {classes} values besides 0"
    return None


def cheapest(
    spikes: PackedSpikes,
    weight: PackedWeight,
    among: tuple[str, ...] = ALGORITHMS,
    active: int | None = None,
) -> str:
    """The algorithm that should be the fastest.

    Args:
        spikes, weight: the factors; of spikes only sizes are read where `active` is given.
        among: the algorithms to choose from.
        active: neurons with a count other than 0, counted if None. Without the bits the work of
            "pattern" is unknown: leave it out of `among`.
    """
    work = Work.of(spikes, weight, active)
    times = work.times(MEASURED[weight.bits, far(work.rows, weight)])
    possible = (algo for algo in times if algo in among)
    return min(possible, key=lambda algo: times[algo] + work.listing(algo))


@compiled
def _counted(words: Any) -> Any:
    """Neurons of words (P, R, W) set in any plane; and those set in any of four rows."""
    active, union = np.int64(0), np.int64(0)
    groups = words.shape[1] // 4 if words.shape[1] % 4 == 0 else 0
    for row in range(words.shape[1]):
        for w in range(words.shape[2]):
            word = words[0, row, w]
            for plane in range(1, words.shape[0]):
                word |= words[plane, row, w]
            active += count_bits(word)
    if words.shape[0] == 1:
        for group in range(groups):
            first = 4 * group
            for w in range(words.shape[2]):
                upper = words[0, first, w] | words[0, first + 1, w]
                lower = words[0, first + 2, w] | words[0, first + 3, w]
                union += count_bits(upper | lower)
    return active, union


CACHED, FROM_MEMORY = (512, (128, 1024)), (4096, (4, 16))
"""Sides of square weights, and rows of spikes, that `calibrate` measures."""


def calibrate(
    seconds: float = 0.02,
    cached: tuple[int, tuple[int, ...]] = CACHED,
    from_memory: tuple[int, tuple[int, ...]] = FROM_MEMORY,
) -> dict[tuple[int, bool], Costs]:
    """Measure `MEASURED` on this machine; about a minute, mostly weights of 64 MB.

    Every algorithm is timed (CPU time of this thread, the least of 7 samples of at least `seconds`,
    because neighbours on a machine only add) at two densities and two row counts; its two
    coefficients are the least-squares solution, not negative.
    """
    found = {}
    for bits in (32, 16, 8, 4):
        for distant, (size, row_counts) in ((False, cached), (True, from_memory)):
            weight = _some_weight(size, bits)
            points: dict[str, list[tuple[float, float, float]]] = {a: [] for a in ALGORITHMS}
            for rows in row_counts:
                for density in (0.05, 0.3):
                    spikes = pack(np.random.default_rng(rows).random((rows, size)) < density)
                    work = Work.of(spikes, weight)
                    for algo in ALGORITHMS:
                        point = _features(work, algo)
                        points[algo].append((*point, _nanoseconds(algo, spikes, weight, seconds)))
            solved = [value for algo in ALGORITHMS for value in _solve(points[algo])]
            found[bits, distant] = Costs(*solved)
    return found


def _some_weight(size: int, bits: int) -> PackedWeight:
    values = np.random.default_rng(0).integers(-8, 8, (size, size))
    return PackedWeight.pack(values.astype(np.int8 if bits < 16 else np.float32), bits)


def _features(work: Work, algo: str) -> tuple[float, float]:
    """What the two coefficients of an algorithm are multiplied by."""
    units = np.eye(len(fields(Costs)))
    first = 2 * ALGORITHMS.index(algo)
    both = (work.times(Costs(*units[first + i]))[algo] for i in (0, 1))
    one, two = both
    return one, two


def _nanoseconds(algo: str, spikes: PackedSpikes, weight: PackedWeight, seconds: float) -> float:
    def once() -> None:  # lists are made every time, as they are for new spikes
        run(algo, PackedSpikes.trusted(spikes.words, spikes.shape), weight)

    return 1e9 * least_time(once, seconds)


def least_time(once: Callable[[], None], seconds: float) -> float:
    """CPU seconds of a call: the least of 7 samples that last at least `seconds`."""
    once()
    start = time.thread_time()
    once()
    repeats = max(1, round(seconds / max(time.thread_time() - start, 1e-6)))
    samples = []
    for _ in range(7):
        start = time.thread_time()
        for _ in range(repeats):
            once()
        samples.append((time.thread_time() - start) / repeats)
    return min(samples)


def _solve(points: list[tuple[float, float, float]]) -> tuple[float, float]:
    """Coefficients >= 0 with the least relative error."""
    table: npt.NDArray[np.float64] = np.array(points)
    table = table / table[:, 2:]
    best = np.linalg.lstsq(table[:, :2], table[:, 2], rcond=None)[0]
    if best.min() < 0:  # only one of them matters
        column = table[:, int(np.argmax(best))]
        best = np.where(best < 0, 0.0, (column @ table[:, 2]) / (column @ column))
    one, two = (float(value) for value in best)
    return one, two


def rounded(costs: Costs) -> Costs:
    """Three digits: for the table above."""
    return Costs(*(float(f"{value:.3g}") for value in astuple(costs)))
