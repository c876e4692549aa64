"""Attention over a cache in numpy, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def cached_attention(
    q: Array, keys: Array, values: Array, first: Array, offset: int, threads: int = 1
) -> Array:
    """In double precision, rounded once."""
    batch, length, heads, size = q.shape
    out = np.empty(q.shape, q.dtype)
    for b in range(batch):
        for row in range(length):
            slot = offset + row
            seen = slice(min(int(first[b]), slot), slot + 1)
            for head in range(heads):
                group = head // (heads // keys.shape[1])
                query = q[b, row, head].astype(np.float64)
                scores = keys[b, group, seen].astype(np.float64) @ query / np.sqrt(size)
                weights = np.exp(scores - scores.max())
                mixed = weights @ values[b, group, seen].astype(np.float64)
                out[b, row, head] = mixed / weights.sum()
    return out
