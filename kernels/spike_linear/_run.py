"""One product on the CPU: lists, scratch, kernels, threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._aligned import aligned
from neurosim.kernels._threads import pool
from neurosim.kernels.packed import Events, PackedSpikes, pack
from neurosim.kernels.spike_linear import _gather, _lut, _pattern
from neurosim.kernels.spike_linear._partial import LONGEST
from neurosim.kernels.spike_linear._types import Sums
from neurosim.kernels.spike_linear._weight import PackedWeight

FAR_BYTES = 1 << 20
"""Weights larger than this are taken to come from memory, where only a few rows use them."""
FAR_ROWS = 16
_EXACT_FLOAT32 = 1 << 24
SUMS: dict[int, type[Any]] = {32: np.float32, 16: np.float32, 8: np.int16, 4: np.uint16}

Piece = tuple[int, int, int, int]


def run(algo: str, spikes: PackedSpikes, weight: PackedWeight, threads: int = 1) -> Sums:
    """spikes (..., I) times weight (I, O) by one algorithm: (R, O) float32 or int32."""
    inputs, outputs = weight.shape
    kind: type[Any] = np.int32 if weight.integer else np.float32
    if not (spikes.words.shape[1] and inputs and outputs):
        silent: Sums = np.zeros((spikes.words.shape[1], outputs), kind)
        return silent
    if algo == "dense":
        return _dense(spikes, weight)
    count = weight.panels.shape[0]
    out = aligned((spikes.words.shape[1], count * weight.width), kind)
    fill = {"gather": _gather_into, "lut": _lut_into, "pattern": _pattern_into}[algo]
    fill(spikes, weight, out, threads)
    return out if out.shape[1] == outputs else np.ascontiguousarray(out[:, :outputs])


def far(rows: int, weight: PackedWeight) -> bool:
    """Whether weights come from memory."""
    return rows <= FAR_ROWS and weight.panels.nbytes > FAR_BYTES


def bound(weight: PackedWeight, levels: int) -> int:
    """The largest size of any sum of integer weights."""
    return weight.shape[0] * levels << (weight.bits - 1)


def _gather_into(spikes: PackedSpikes, weight: PackedWeight, out: Any, threads: int) -> None:
    panels, flat, columns = _flat(weight), out.reshape(-1), out.shape[1]
    kind = (weight.bits, weight.width, int(far(spikes.words.shape[1], weight)))
    if len(spikes) == 1:
        lists = spikes.events
        kernel = _gather.gather(*kind)
        arguments: tuple[Any, ...] = (*lists, panels, flat, columns)
    else:
        lists, classes = classed(spikes)
        kernel = _gather.gather_counts(*kind)
        arguments = (*lists, spikes.levels, classes // spikes.levels, panels, flat, columns)
    _spread(
        lambda piece: kernel(*arguments, *piece), panels.shape[0], spikes.words.shape[1], threads
    )


def _lut_into(spikes: PackedSpikes, weight: PackedWeight, out: Any, threads: int) -> None:
    panels, flat, columns = _flat(weight), out.reshape(-1), out.shape[1]
    if spikes.code == "thermometer" and spikes.levels > 2:  # fewer planes: 3 instead of 4 to 7
        spikes = pack(spikes.unpack(), spikes.levels, spikes.signed, "bits")
    lanes = _lut.lanes_of(weight.bits, weight.width)
    kind = SUMS[weight.bits]
    nibbles = weight.bits == 4
    kernel = _lut.lut_nibbles(weight.width) if nibbles else _lut.lut(weight.bits, weight.width)

    def fill(piece: Piece) -> None:
        table = aligned((16 * _lut.GROUPS * lanes,), kind)
        rows = min(_lut.ROWS, piece[3] - piece[2])
        sums = aligned((rows * lanes * (1 + nibbles),), kind)
        for plane, factor in enumerate(spikes.plane_weights):
            rest = (weight.shape[0], panels, table, sums, flat, columns, *piece)
            kernel(spikes.words[plane], factor, plane == 0, *rest)

    _spread(fill, panels.shape[0], spikes.words.shape[1], threads)


def _pattern_into(spikes: PackedSpikes, weight: PackedWeight, out: Any, threads: int) -> None:
    panels, flat, columns = _flat(weight), out.reshape(-1), out.shape[1]
    from_memory, groups = far(spikes.words.shape[1], weight), spikes.words.shape[1] // 4
    if from_memory and not weight.integer:
        lists = _pattern.unions(spikes.words[0], spikes.size)
        stream = _pattern.streamed(weight.bits, weight.width)

        def fill(piece: Piece) -> None:
            bins = aligned((16 * weight.width,), np.float32)
            stream(*lists, bins, panels, flat, columns, *piece)

        _spread(fill, panels.shape[0], groups, threads)
        return
    short = (  # from memory, the widening hides behind the loads
        not from_memory and weight.integer and int(spikes.row_counts.max()) <= LONGEST[weight.bits]
    )
    make = _pattern.pattern_short if short else _pattern.pattern
    kernel = make(weight.bits, weight.width, int(from_memory))
    arguments = (*spikes.patterns, panels, flat, columns)
    _spread(lambda piece: kernel(*arguments, *piece), panels.shape[0], groups, threads)


def _dense(spikes: PackedSpikes, weight: PackedWeight) -> Sums:
    """BLAS; integers in float32 where every sum is below 2^24 and so exact, else in float64."""
    exact = not weight.integer or bound(weight, spikes.levels) <= _EXACT_FLOAT32
    kind = np.float32 if exact else np.float64
    left = spikes.unpack(kind).reshape(spikes.words.shape[1], spikes.size)
    product = left @ weight.unpack().astype(kind, copy=False)
    sums: Sums = product.astype(np.int32) if weight.integer else product
    return sums


def classed(spikes: PackedSpikes) -> tuple[Events, int]:
    """Event lists by count, and how many to a row: levels, -levels (if signed), levels - 1, ..."""
    if spikes.code != "thermometer":
        spikes = pack(spikes.unpack(), spikes.levels, spikes.signed)
    levels, sides = spikes.levels, 1 + spikes.signed
    above = spikes.words.reshape(sides, levels, *spikes.words.shape[1:])  # count > level
    exactly = above.copy()
    exactly[:, :-1] &= ~above[:, 1:]
    ordered = exactly[:, ::-1].transpose(2, 1, 0, 3)  # (R, levels, sides, W)
    words = np.ascontiguousarray(ordered).reshape(1, -1, spikes.words.shape[2])
    lists = PackedSpikes.trusted(words, (words.shape[1], spikes.size)).events
    return lists, levels * sides


def _flat(weight: PackedWeight) -> npt.NDArray[Any]:
    """Panels as rows."""
    return weight.panels.reshape(weight.panels.shape[0], -1)


def _spread(fill: Callable[[Piece], None], panels: int, rows: int, threads: int) -> None:
    """Fill all panels and rows, in pieces by panels first; no sum is ever split.

    Kernels release the interpreter lock, so plain Python threads run them side by side. Numba's own
    parallel loops are not used: their OpenMP barriers spin for milliseconds on a busy machine, and
    their work queue may not be entered by two Python threads at once.
    """
    if threads == 1:
        fill((0, panels, 0, rows))
        return
    first, *others = _pieces(panels, rows, threads)
    results = pool(threads - 1).map(fill, others)
    fill(first)  # by the caller, which would only wait
    for _ in results:
        pass


def spread_rows(fill: Callable[[int, int], None], rows: int, threads: int) -> None:
    """Fill all rows, in blocks."""
    if threads == 1 or rows == 0:
        fill(0, rows)
        return
    _spread(lambda piece: fill(piece[2], piece[3]), 1, rows, threads)


def _pieces(panels: int, rows: int, threads: int) -> Iterator[Piece]:
    across = min(panels, threads)
    down = min(rows, -(-threads // across))
    for p in range(across):
        for r in range(down):
            yield (
                *(panels * p // across, panels * (p + 1) // across),
                *(rows * r // down, rows * (r + 1) // down),
            )
