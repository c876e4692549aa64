"""Events of spike counts in Numba: the four sums as fields of one word."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled
from neurosim.kernels.event_counts import reference
from neurosim.kernels.event_counts.reference import CODES, EventCounts

_CHUNK = 4096  # counts whose four sums fit the fields of a word
_PLANES, _DIGITS, _GRADED = 20, 36, 51  # first bits of these fields; unary starts at 0


def event_counts(counts: npt.NDArray[np.int8]) -> EventCounts:
    """See reference.py."""
    shape = counts.shape[:-1]
    rows = np.ascontiguousarray(counts).reshape(math.prod(shape), counts.shape[-1])
    sums = np.zeros((4, rows.shape[0]), np.int64)
    count_events(rows, _TABLE, sums)
    return dict(zip(CODES, (x.reshape(shape) for x in sums), strict=True))


@compiled
def count_events(counts: Any, table: Any, sums: Any) -> None:
    """sums (4, R), given as zeros, of counts (R, N): fields of a table's words, added together."""
    rows, size = counts.shape
    for row in range(rows):
        for first in range(0, size, _CHUNK):
            word = np.uint64(0)
            for i in range(first, min(first + _CHUNK, size)):
                word += table[counts[row, i] + 128]
            sums[0, row] += word & np.uint64((1 << _PLANES) - 1)
            planes = word >> np.uint64(_PLANES)
            sums[1, row] += planes & np.uint64((1 << (_DIGITS - _PLANES)) - 1)
            digits = word >> np.uint64(_DIGITS)
            sums[2, row] += digits & np.uint64((1 << (_GRADED - _DIGITS)) - 1)
            sums[3, row] += word >> np.uint64(_GRADED)


def _table() -> npt.NDArray[np.uint64]:
    """The events of every int8 count, as fields of a word."""
    each = reference.event_counts(np.arange(-128, 128, dtype=np.int8)[:, None])
    firsts = (0, _PLANES, _DIGITS, _GRADED)
    shifted = (
        x.astype(np.uint64) << np.uint64(f) for x, f in zip(each.values(), firsts, strict=True)
    )
    table: npt.NDArray[np.uint64] = np.sum(list(shifted), axis=0, dtype=np.uint64)
    return table


_TABLE = _table()
