"""Events of spike counts in numpy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class EventCounts(NamedTuple):
    """Sums of events in four codes, int64 arrays of one shape."""

    unary: npt.NDArray[np.int64]
    bit_plane: npt.NDArray[np.int64]
    signed_digit: npt.NDArray[np.int64]
    graded: npt.NDArray[np.int64]


def event_counts(counts: npt.NDArray[np.int8]) -> EventCounts:
    """Along the last axis."""
    size = np.abs(counts.astype(np.int64))
    planes = np.bitwise_count(size).astype(np.int64)
    digits = np.bitwise_count((3 * size) ^ size).astype(np.int64)
    return EventCounts(
        *(np.asarray(x.sum(axis=-1), np.int64) for x in (size, planes, digits, size != 0))
    )
