"""How large the attention state can get: the check that keeps int32 from overflowing."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._scratch import on_stack
from neurosim.kernels.spike_attention._types import Shifts, Spikes, State

_CAP = 2**31  # beyond int32; keeps the products below inside int64
_COLUMNS = 1024  # at a time: their extremes are on the stack
_extremes = on_stack(np.int8, _COLUMNS)


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
    low_k, high_k, low_v, high_v = _extremes(), _extremes(), _extremes(), _extremes()
    worst, largest_k, largest_v = 0, 0, 0
    for first in range(0, columns, _COLUMNS):
        last = min(first + _COLUMNS, columns)
        for each in (low_k, high_k, low_v, high_v):
            each[: last - first] = 0
        for token in range(tokens):
            keys, values = k[token].reshape(-1)[first:last], v[token].reshape(-1)[first:last]
            for i in range(last - first):
                low_k[i], high_k[i] = min(low_k[i], keys[i]), max(high_k[i], keys[i])
                low_v[i], high_v[i] = min(low_v[i], values[i]), max(high_v[i], values[i])
        for head in range(first // channels, (last - 1) // channels + 1):
            for i in range(
                max(first, head * channels) - first, min(last, (head + 1) * channels) - first
            ):
                largest_k = max(largest_k, _magnitude(low_k[i]), _magnitude(high_k[i]))
                largest_v = max(largest_v, _magnitude(low_v[i]), _magnitude(high_v[i]))
            if (head + 1) * channels > last:
                break  # the rest of this head comes next
            step = min((largest_k * largest_v) << fraction_bits, _CAP)
            largest_k, largest_v = 0, 0
            flat = state[head].reshape(-1)
            low, high = np.int32(0), np.int32(0)
            for i in range(flat.shape[0]):
                low, high = min(low, flat[i]), max(high, flat[i])
            start = max(_magnitude(low), _magnitude(high))
            bound = start + tokens * step
            shift = decay_shift[head]
            if shift > 0:
                bound = min(bound, max(start, ((step + 1) << shift) - 1))
            worst = max(worst, bound)
    return worst
