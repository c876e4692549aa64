"""Integer sums of spike-driven self-attention in plain numpy: the definition of right."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.kernels.packed import reference as packed
from neurosim.kernels.packed._words import Words

Spikes = npt.NDArray[np.int8]
Sums = npt.NDArray[np.int32]


def column_sums(k: Words, v: Words | None, columns: int) -> Sums:
    """Tokens in which k AND v fires (k alone for None): words (G, L, W) -> (G, C)."""
    groups, tokens, width = k.shape
    both = k if v is None else k & v
    bits = packed.unpack(both.reshape(1, groups * tokens, width), 1, False, "thermometer", columns)
    return np.asarray(bits.reshape(groups, tokens, columns).sum(axis=1), np.int32)


def masked(q: Words, mask: Words) -> Words:
    """q AND mask for every token: words (G, L, W) and (G, W) -> (G, L, W)."""
    return np.asarray(q & mask[:, None])


def products(q: Spikes, k: Spikes, v: Spikes, heads: int) -> Sums:
    """q (k^T v) of every head: q, k (G, L, C), v (G, L, V) -> (G, L, V)."""
    groups, tokens, _ = q.shape
    split = [x.reshape(groups, tokens, heads, x.shape[2] // heads) for x in (q, k, v)]
    q64, k64, v64 = (x.astype(np.int64) for x in split)
    state = np.einsum("glhc,glhv->ghcv", k64, v64)
    out = np.einsum("glhc,ghcv->glhv", q64, state)
    return np.asarray(out, np.int32).reshape(v.shape)
