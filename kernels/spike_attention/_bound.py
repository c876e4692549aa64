"""How large the attention state can get: the check that keeps int32 from overflowing."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels.spike_attention._types import Shifts, Spikes, State

_CAP = 2**31  # beyond int32; keeps the products below inside int64


@inlined
def _magnitude(value: Any) -> Any:
    return abs(np.int64(value))  # widened first: -(-128) is no int8


@compiled
def state_bound(state: State, k: Spikes, v: Spikes, decay_shift: Shifts, fraction_bits: int) -> int:
    """A bound on every |S| while k, v (L, H, D) are taken in, starting from `state` (H, D, D).

    With K = max|k| max|v| 2^F of a head, one token takes |S| to at most
    (|S| + 1)(1 - 2^-n) + K for decay shift n > 0: a geometric series with limit 2^n (K + 1) - 1,
    which it never passes from below. Without decay (n = 0) it grows by K a token. So
    |S| <= min(|S_0| + L K, max(|S_0|, 2^n (K + 1) - 1)).
    """
    tokens, heads, channels = k.shape
    columns = heads * channels
    extremes = np.zeros((4, columns), np.int8)  # lowest and highest k, lowest and highest v
    for token in range(tokens):
        keys, values = k[token].reshape(-1), v[token].reshape(-1)
        for i in range(columns):
            extremes[0, i] = min(extremes[0, i], keys[i])
            extremes[1, i] = max(extremes[1, i], keys[i])
            extremes[2, i] = min(extremes[2, i], values[i])
            extremes[3, i] = max(extremes[3, i], values[i])
    worst = 0
    for head in range(heads):
        flat = state[head].reshape(-1)
        low, high = np.int32(0), np.int32(0)
        for i in range(flat.shape[0]):
            low, high = min(low, flat[i]), max(high, flat[i])
        start = max(_magnitude(low), _magnitude(high))
        largest_k, largest_v = 0, 0
        for i in range(head * channels, (head + 1) * channels):
            largest_k = max(largest_k, _magnitude(extremes[0, i]), _magnitude(extremes[1, i]))
            largest_v = max(largest_v, _magnitude(extremes[2, i]), _magnitude(extremes[3, i]))
        step = min((largest_k * largest_v) << fraction_bits, _CAP)
        bound = start + tokens * step
        shift = decay_shift[head]
        if shift > 0:
            bound = min(bound, max(start, ((step + 1) << shift) - 1))
        worst = max(worst, bound)
    return worst
