"""Events of spike counts in numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

EventCounts = dict[str, npt.NDArray[np.int64]]
CODES = ("unary", "bit_plane", "signed_digit", "graded")


def event_counts(counts: npt.NDArray[np.int8]) -> EventCounts:
    """Along the last axis."""
    size = np.abs(counts.astype(np.int64))
    planes = np.bitwise_count(size).astype(np.int64)
    digits = np.bitwise_count((3 * size) ^ size).astype(np.int64)
    events = (size, planes, digits, size != 0)
    sums = (np.asarray(x.sum(axis=-1), np.int64) for x in events)
    return dict(zip(CODES, sums, strict=True))
