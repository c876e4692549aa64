"""Attention over a cache in Numba: the heads of a group together, so that keys are read once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels._softmax_tiles import mix_tile, soften
from neurosim.kernels._threads import pool
from neurosim.kernels._tiles import LANES, dot_tile

Array = npt.NDArray[Any]
_KEYS = 4  # of a block of scores
_WIDE = 4  # vectors of a block of values


def cached_attention(
    q: Array, keys: Array, values: Array, first: Array, offset: int, threads: int = 1
) -> Array:
    """See the package."""
    out = np.empty(q.shape, q.dtype)
    if not out.size:
        return out
    keys, values = (
        x if x.strides[3] == x.itemsize and x.flags.aligned else np.ascontiguousarray(x)
        for x in (keys, values)
    )
    queries, heads = np.ascontiguousarray(q), q.shape[2] // keys.shape[1]
    scale = q.dtype.type(1 / np.sqrt(q.shape[3]))

    def work(part: int) -> None:
        scores = np.empty((heads, offset + q.shape[1] + 1), q.dtype)
        attend(queries, keys, values, first, offset, scale, part, threads, scores, out)

    if threads == 1:
        work(0)
    else:
        list(pool(threads).map(work, range(threads)))
    return out


def _scores_of(height: int) -> Any:
    @inlined
    def scores(
        q: Any, q_at: int, size: int, keys: Any, k_at: int, step: int, seen: int, out: Any,
        out_at: int, room: int,
    ) -> None:  # fmt: skip
        """q k^T of `height` heads and all keys; out has rows of `room`."""
        whole = seen // _KEYS * _KEYS
        for key in range(0, whole, _KEYS):
            at = k_at + key * step
            dot_tile(q, q_at, size, keys, at, step, size, out, out_at + key, room, height, _KEYS)
        for key in range(whole, seen):
            at = k_at + key * step
            dot_tile(q, q_at, size, keys, at, step, size, out, out_at + key, room, height, 1)

    return scores


def _mixed_by(height: int) -> Any:
    @inlined
    def mixed(
        weights: Any, w_at: int, room: int, values: Any, v_at: int, step: int, seen: int, out: Any,
        out_at: int, size: int,
    ) -> None:  # fmt: skip
        """weights v of `height` heads; out has rows of `size`."""
        wide, whole = size // (LANES * _WIDE) * LANES * _WIDE, size // LANES * LANES
        for d in range(0, wide, LANES * _WIDE):
            mix_tile(
                weights, w_at, room, values, v_at + d, step, seen, out, out_at + d, size, LANES,
                height, _WIDE,
            )  # fmt: skip
        for d in range(wide, size, LANES):
            lanes = LANES if d < whole else size - whole
            mix_tile(
                weights, w_at, room, values, v_at + d, step, seen, out, out_at + d, size, lanes,
                height, 1,
            )  # fmt: skip

    return mixed


_scores_4, _scores_2, _scores_1 = (_scores_of(height) for height in (4, 2, 1))
_mixed_4, _mixed_2, _mixed_1 = (_mixed_by(height) for height in (4, 2, 1))


@compiled
def attend(
    q: Any, keys: Any, values: Any, first: Any, offset: int, scale: Any, part: int, parts: int,
    scores: Any, out: Any,
) -> None:  # fmt: skip
    """Every `parts`-th row of a group of heads from `part` on; scores (A / G, > offset + L)."""
    batch, length, heads, size = q.shape
    groups = keys.shape[1]
    each, room = heads // groups, scores.shape[1]
    queries, weights, results = q.reshape(-1), scores.reshape(-1), out.reshape(-1)
    k_step, v_step = keys.strides[2] // keys.itemsize, values.strides[2] // values.itemsize
    for b in range(batch):
        for group in range(groups):
            for row in range((part - b - group) % parts, length, parts):
                start = min(first[b], offset + row)
                seen = offset + row + 1 - start
                k_at, v_at = _index(keys, b, group, start), _index(values, b, group, start)
                at = ((b * length + row) * heads + group * each) * size
                head = 0
                while head < each:
                    high = 4 if head + 4 <= each else (2 if head + 2 <= each else 1)
                    to, w_at = at + head * size, head * room
                    if high == 4:
                        _scores_4(queries, to, size, keys, k_at, k_step, seen, weights, w_at, room)
                    elif high == 2:
                        _scores_2(queries, to, size, keys, k_at, k_step, seen, weights, w_at, room)
                    else:
                        _scores_1(queries, to, size, keys, k_at, k_step, seen, weights, w_at, room)
                    for h in range(head, head + high):
                        weights[h * room + seen] = soften(weights, h * room, seen, scale)
                    if high == 4:
                        _mixed_4(weights, w_at, room, values, v_at, v_step, seen, results, to, size)
                    elif high == 2:
                        _mixed_2(weights, w_at, room, values, v_at, v_step, seen, results, to, size)
                    else:
                        _mixed_1(weights, w_at, room, values, v_at, v_step, seen, results, to, size)
                    for h in range(high):
                        total = weights[w_at + h * room + seen]
                        for d in range(to + h * size, to + (h + 1) * size):
                            results[d] /= total
                    head += high


@inlined
def _index(array: Any, b: int, group: int, slot: int) -> int:
    """Elements from the start of an array (B, G, S, D) to a row of it."""
    steps = array.strides
    return (b * steps[0] + group * steps[1] + slot * steps[2]) // array.itemsize  # type: ignore[no-any-return]
