"""Attention without decay: checks, and its way to a backend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import host
from neurosim.kernels._dispatch import choose
from neurosim.kernels._training import constant, known
from neurosim.kernels.packed import PackedSpikes, pack
from neurosim.kernels.spike_attention._types import INSTEAD, NAME, Attention, Counts, Memory, planes

_INT8, _INT16, _INT32 = np.dtype(np.int8), np.dtype(np.int16), np.dtype(np.int32)
_LARGEST = 2**31 - 1
_FEWER = "use fewer tokens, levels or channels"


def attend(
    backends: Mapping[str, Any],
    given: tuple[Any, Any, Any],
    state: Any,
    backend: str,
    causal: bool,
    threshold: npt.ArrayLike | None,
) -> Attention:
    """`spike_attention` where decay_shift is None; spikes if there is a threshold."""
    known(NAME, *given, state)
    mlx = isinstance(given[0], mx.array)
    q, k, v = (packed(x) for x in given)
    _check_shapes(q, k, v, "(..., L, D)", 2)
    lead, tokens = q.shape[:-2], q.shape[-2]
    groups, size, columns = math.prod(lead), q.shape[-1], v.shape[-1]
    start = 0
    if state is None:
        memory = np.empty((groups, 1, size, columns), np.int32)
    else:
        first = np.asarray(state)
        _check_state(first, (*lead, size, columns))
        memory = np.array(first, np.int32, order="C").reshape(groups, 1, size, columns)
        start = max(int(memory.max(initial=0)), -int(memory.min(initial=0)))
    largest = size * q.levels * (start + tokens * k.levels * v.levels)
    if largest > _LARGEST:
        raise ValueError(
            f"expected sums within int32, got up to {largest} for {tokens} tokens of {size} "
            f"channels and a state up to {start}; {_FEWER}"
        )
    edges = None if threshold is None else _thresholds(threshold, lead, columns)
    module = choose("spike_attention", backend, backends, size, mlx=mlx)
    operands = [planes(x, groups, tokens) for x in (q, k, v)]
    out = module.linear(*operands, memory, state is None, causal, edges)
    memory = memory.reshape(*lead, size, columns)
    if edges is None:
        out = np.ascontiguousarray(out).reshape(*lead, tokens, columns)
        out = constant(NAME, INSTEAD, mx.array(out), *given, state) if mlx else out
    else:
        words = out.reshape(1, groups * tokens, out.shape[-1])
        out = PackedSpikes.trusted(words, (*lead, tokens, columns))
    last = constant(NAME, INSTEAD, mx.array(memory), *given, state) if mlx else memory
    return Attention(out, last)


def step(backends: Mapping[str, Any], state: Any, given: tuple[Any, Any, Any], backend: str) -> Any:
    """`spike_attention_step` where decay_shift is None."""
    known(f"{NAME}_step", state, *given)
    mlx = isinstance(state, mx.array)
    q, k, v = given
    if not (type(q) is type(k) is type(v) is PackedSpikes):
        q, k, v = (packed(x) for x in given)
    _check_shapes(q, k, v, "(..., D)", 1)
    shape = *q.shape, v.shape[-1]
    memory: Memory = np.array(state) if mlx else state
    _check_state(memory, shape)
    flags = memory.flags
    if not (flags.c_contiguous and flags.writeable):  # vector stores would write all the same
        raise ValueError("expected a writable C-contiguous state to update in place; pass a copy")
    *lead, size, columns = shape
    groups = math.prod(lead)
    module = choose("spike_attention", backend, backends, size, mlx=mlx)
    operands = planes(q, groups, 1), planes(k, groups, 1), planes(v, groups, 1)
    sums, fits = module.linear_step(*operands, memory.reshape(groups, 1, size, columns))
    if not fits:
        raise ValueError(
            f"expected a state within {memory.dtype} and sums within int32, got an overflow; "
            f"use an int32 state, or {_FEWER.removeprefix('use ')}"
        )
    out = sums.reshape(*lead, columns)
    if mlx:
        state[:] = mx.array(memory)
        return constant(f"{NAME}_step", INSTEAD, mx.array(out), *given)
    return out


def packed(x: Any) -> PackedSpikes:
    """Packed spikes as they are, int8 counts packed."""
    if isinstance(x, PackedSpikes):
        return x
    counts = host(x)
    if counts.dtype != _INT8 or counts.ndim == 0:
        raise ValueError(
            f"expected PackedSpikes or int8 spike counts, got {counts.dtype} {counts.shape}; "
            "convert with astype(np.int8) or pack()"
        )
    low, high = int(counts.min(initial=0)), int(counts.max(initial=0))
    if low < -127:
        raise ValueError("expected counts -127..127, got -128, which cannot be packed; clip them")
    return pack(counts, max(1, high, -low), low < 0, "bits")


def _check_shapes(q: PackedSpikes, k: PackedSpikes, v: PackedSpikes, letters: str, n: int) -> None:
    if q.shape != k.shape or v.shape[:-1] != q.shape[:-1] or len(q.shape) < n:
        raise ValueError(
            f"expected q and k of one shape {letters}, and v of that shape but for its channels; "
            f"got {q.shape}, {k.shape}, {v.shape}"
        )


def _check_state(state: Memory, shape: tuple[int, ...]) -> None:
    if not isinstance(state, np.ndarray):
        raise ValueError(f"expected the state as an array, got {type(state).__name__}")
    if state.shape != shape or state.dtype not in (_INT16, _INT32):
        raise ValueError(
            f"expected an int16 or int32 state of shape {shape}, got {state.dtype} {state.shape}"
        )


def _thresholds(threshold: npt.ArrayLike, lead: tuple[int, ...], columns: int) -> Counts:
    """One level of thresholds, (1, groups or 1, V)."""
    edges = np.asarray(threshold)
    if edges.dtype.kind not in "iu":
        raise ValueError(
            f"expected integer thresholds (sums are integers), got {edges.dtype}; round them up"
        )
    if edges.size and not -_LARGEST <= edges.min() <= edges.max() <= _LARGEST:
        raise ValueError(f"expected thresholds within int32, got {edges.min()}..{edges.max()}")
    if edges.ndim == 0:
        return np.full((1, 1, columns), edges, np.int32)
    try:
        full = np.broadcast_to(edges, lead)
    except ValueError:
        raise ValueError(
            f"expected one threshold, or thresholds that broadcast to the leading axes {lead}, got "
            f"shape {edges.shape}"
        ) from None
    rows = full.reshape(1, full.size, 1).astype(np.int32)
    return np.ascontiguousarray(np.broadcast_to(rows, (1, full.size, columns)))
