"""Spike-driven self-attention in plain numpy: the definition of right."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.kernels.packed import reference as packed
from neurosim.kernels.packed._words import Words
from neurosim.kernels.spike_attention.reference import linear

__all__ = ["column_sums", "gated", "linear"]

Sums = npt.NDArray[np.int32]


def column_sums(k: Words, v: Words | None, columns: int, causal: bool) -> Sums:
    """Tokens in which k AND v fires (k alone for None): words (G, L, W) -> (G, 1, C).

    Where causal, the tokens so far: (G, L, C).
    """
    groups, tokens, width = k.shape
    both = (k if v is None else k & v).reshape(1, groups * tokens, width)
    bits = packed.unpack(both, 1, False, "thermometer", columns, np.int8)
    fired = bits.reshape(groups, tokens, columns)
    if causal:
        return np.cumsum(fired, axis=1, dtype=np.int32)
    return np.asarray(fired.sum(axis=1, keepdims=True), np.int32)


def gated(q: Words, k: Words, v: Words | None, columns: int, edge: int, causal: bool) -> Words:
    """q where the column sum reaches `edge`, at least 0: words (G, L, W)."""
    groups, _, width = q.shape
    above = (column_sums(k, v, columns, causal) >= edge).astype(np.int8)
    rows = above.reshape(groups * above.shape[1], columns)
    mask, _ = packed.pack(rows, 1, False, "thermometer")
    return np.asarray(q & mask.reshape(groups, above.shape[1], width))
