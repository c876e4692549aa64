"""Spike attention in plain numpy: the definition, one token after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels.packed import reference as packed
from neurosim.kernels.spike_attention._types import (
    Counts,
    Memory,
    Planes,
    Shifts,
    Spikes,
    State,
    Sums,
)


def largest(array: Spikes | State) -> int:
    """Largest absolute value."""
    return int(np.abs(array.astype(np.int64)).max(initial=0))


def scan(
    q: Spikes,
    k: Spikes,
    v: Spikes,
    decay_shift: Shifts,
    fraction_bits: int,
    state: State,
    bound: int,
) -> Sums:
    """All tokens in order; updates `state`, in which no size exceeds `bound` on the way."""
    out = np.zeros(q.shape, np.int64)
    for token in range(q.shape[0]):
        step(state, q[token], k[token], v[token], decay_shift, fraction_bits, out[token])
    return out


def step(
    state: State,
    q: Spikes,
    k: Spikes,
    v: Spikes,
    decay_shift: Shifts,
    fraction_bits: int,
    out: Sums,
) -> None:
    """One token; updates `state` and fills `out`."""
    for head in range(q.shape[0]):
        memory = state[head]  # (D, D)
        if decay_shift[head] > 0:
            memory -= memory >> decay_shift[head]  # arithmetic: rounds towards minus infinity
        value = v[head].astype(np.int32) << fraction_bits
        for channel, count in enumerate(k[head].astype(np.int64)):
            for _ in range(abs(count)):
                memory[channel] += value if count > 0 else -value
        out[head] = 0
        for channel, count in enumerate(q[head].astype(np.int64)):
            for _ in range(abs(count)):
                out[head] += memory[channel] if count > 0 else -memory[channel].astype(np.int64)


def counts_of(x: Planes) -> npt.NDArray[np.int64]:
    """Spike counts (G, L, H, D)."""
    planes, groups, tokens, heads, width = x.words.shape
    flat = x.words.reshape(planes, groups * tokens * heads, width)
    counts = packed.unpack(flat, x.levels, x.signed, x.code, x.columns, np.int8)
    return counts.astype(np.int64).reshape(groups, tokens, heads, x.columns)


def linear(
    q: Planes,
    k: Planes,
    v: Planes,
    state: State | None,
    fresh: bool,
    causal: bool,
    thresholds: Counts | None,
) -> Any:
    """Attention without decay of G x H streams.

    `state` (G, H, D, V) receives the sum of k v^T, added to what it holds unless `fresh`; None
    if nobody asks for it. Thresholds are (levels, E, V), those of stream s = g H + h in row s mod
    E: a count is the number of levels that a sum reaches.

    Returns sums (G, L, H, V), or with thresholds words (levels, G, L, H, ceil(V / 64)).
    """
    queries, keys, values = (counts_of(x) for x in (q, k, v))
    groups, tokens, heads, columns = values.shape
    memory = np.zeros((groups, heads, q.columns, columns), np.int64)
    if state is not None and not fresh:
        memory += state
    if not causal:
        memory += np.einsum("glhd,glhv->ghdv", keys, values)
    out = np.zeros(values.shape, np.int64)
    for t in range(tokens):
        if causal:
            memory += np.einsum("ghd,ghv->ghdv", keys[:, t], values[:, t])
        out[:, t] = np.einsum("ghd,ghdv->ghv", queries[:, t], memory)
    if state is not None:
        state[:] = memory
    if thresholds is None:
        return out.astype(np.int32)
    rows = np.arange(groups * heads).reshape(groups, 1, heads) % max(1, thresholds.shape[1])
    words = []
    for level in thresholds:  # (E, V)
        fired = (out >= level[rows]).astype(np.int8).reshape(groups * tokens * heads, columns)
        words.append(packed.pack(fired, 1, False, "thermometer")[0])
    return np.concatenate(words).reshape(len(words), groups, tokens, heads, v.words.shape[4])


def linear_step(q: Planes, k: Planes, v: Planes, state: Memory) -> tuple[Counts, bool]:
    """One token; `state` (G, H, D, V) is updated in place.

    Returns sums (G H, V), and whether state and sums fit their types; if not, the state is as
    before and the sums mean nothing.
    """
    queries, keys, values = (counts_of(x)[:, 0] for x in (q, k, v))
    memory = state + np.einsum("ghd,ghv->ghdv", keys, values)
    out = np.einsum("ghd,ghdv->ghv", queries, memory)
    fits = all(
        np.iinfo(kind).min <= array.min(initial=0) and array.max(initial=0) <= np.iinfo(kind).max
        for array, kind in ((memory, state.dtype), (out, np.dtype(np.int32)))
    )
    if fits:
        state[:] = memory
    return out.astype(np.int32).reshape(keys.shape[0] * keys.shape[1], v.columns), fits
