"""Attention with decay: checks, and its way to a backend."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import host
from neurosim.kernels._dispatch import choose
from neurosim.kernels._training import constant, known
from neurosim.kernels.packed import PackedSpikes, pack
from neurosim.kernels.spike_attention._bound import state_bound
from neurosim.kernels.spike_attention._types import (
    INSTEAD,
    NAME,
    Attention,
    Shifts,
    Spikes,
    State,
    Sums,
)

_INT8, _INT32, _INT64 = np.dtype(np.int8), np.dtype(np.int32), np.dtype(np.int64)
_LARGEST = 2**31 - 1
_MOST_BITS = 30  # of fraction, and of decay


def attend(
    backends: Mapping[str, Any],
    given: tuple[Any, Any, Any],
    decay_shift: npt.ArrayLike,
    fraction_bits: int | None,
    state: Any,
    backend: str,
    threshold: npt.ArrayLike | None,
) -> Attention:
    """`spike_attention` with a decay_shift; spikes if there is a threshold."""
    known(NAME, *given, state)
    mlx = isinstance(given[0], mx.array)
    q, k, v = (_counts(x) for x in given)
    _check_spikes(q, k, v, "(L, H, D)", 3)
    _, heads, channels = q.shape
    shifts = _shifts(decay_shift, heads, fraction_bits)
    if state is None:
        memory = np.zeros((heads, channels, channels), np.int32)
    else:
        memory = np.array(state, order="C")
        _check_state(memory, heads, channels)
    q, k, v = np.ascontiguousarray(q), np.ascontiguousarray(k), np.ascontiguousarray(v)
    bits = fraction_bits or 0
    bound = _check_bound(memory, k, v, shifts, bits)
    module = choose("spike_attention", backend, backends, channels, mlx=mlx)
    out = module.scan(q, k, v, shifts, bits, memory, bound)
    if threshold is not None:
        out = pack(out >= _thresholds(threshold, heads)[:, None])
    elif mlx:
        out = constant(NAME, INSTEAD, mx.array(out), *given, state)
    last = constant(NAME, INSTEAD, mx.array(memory), *given, state) if mlx else memory
    return Attention(out, last)


def step(
    backends: Mapping[str, Any],
    state: Any,
    given: tuple[Any, Any, Any],
    decay_shift: npt.ArrayLike,
    fraction_bits: int | None,
    backend: str,
) -> Any:
    """`spike_attention_step` with a decay_shift."""
    known(f"{NAME}_step", state, *given)
    mlx = isinstance(state, mx.array)
    q, k, v = (_counts(x) for x in given)
    _check_spikes(q, k, v, "(H, D)", 2)
    heads, channels = q.shape
    shifts = _shifts(decay_shift, heads, fraction_bits)
    memory: State = np.array(state) if mlx else state
    _check_state(memory, heads, channels)
    flags = memory.flags
    if not (flags.c_contiguous and flags.writeable):  # vector stores would write all the same
        raise ValueError("expected a writable C-contiguous state to update in place; pass a copy")
    q, k, v = np.ascontiguousarray(q), np.ascontiguousarray(k), np.ascontiguousarray(v)
    bits = fraction_bits or 0
    _check_bound(memory, k[None], v[None], shifts, bits)
    out: Sums = np.empty((heads, channels), np.int64)
    module = choose("spike_attention", backend, backends, channels, mlx=mlx)
    module.step(memory, q, k, v, shifts, bits, out)
    if mlx:
        state[:] = mx.array(memory)
        return constant(f"{NAME}_step", INSTEAD, mx.array(out), *given)
    return out


def _counts(x: Any) -> Spikes:
    if isinstance(x, np.ndarray):
        return x
    counts: Spikes = np.asarray(x.unpack()) if isinstance(x, PackedSpikes) else host(x)
    return counts


def _check_spikes(q: Spikes, k: Spikes, v: Spikes, letters: str, dimensions: int) -> None:
    if not (
        q.dtype == _INT8 and k.dtype == _INT8 and v.dtype == _INT8
        and q.ndim == dimensions and q.shape == k.shape and q.shape == v.shape
    ):  # fmt: skip
        raise ValueError(
            f"expected int8 spike counts q, k, v of one shape {letters}, got "
            + ", ".join(f"{x.dtype} {x.shape}" for x in (q, k, v))
        )


def _check_state(state: State, heads: int, channels: int) -> None:
    if not isinstance(state, np.ndarray):
        raise ValueError(f"expected the state as an array, got {type(state).__name__}")
    if state.dtype != _INT32 or state.shape != (heads, channels, channels):
        raise ValueError(
            f"expected an int32 state of shape {(heads, channels, channels)}, got {state.dtype} "
            f"{state.shape}"
        )


def _shifts(decay_shift: npt.ArrayLike, heads: int, fraction_bits: int | None) -> Shifts:
    shifts = np.asarray(decay_shift)
    if shifts.dtype.kind not in "iu" or shifts.shape != (heads,):
        raise ValueError(
            f"expected one integer decay shift per head, ({heads},), got {shifts.dtype} "
            f"{shifts.shape}"
        )
    values = shifts.tolist()
    if values and not 0 <= min(values) <= max(values) <= _MOST_BITS:
        raise ValueError(f"expected decay shifts 0..{_MOST_BITS}, got {values}")
    if not isinstance(fraction_bits, Integral) or not 0 <= fraction_bits <= _MOST_BITS:
        raise ValueError(f"expected fraction_bits 0..{_MOST_BITS}, got {fraction_bits}")
    return shifts if shifts.dtype == _INT64 else shifts.astype(_INT64)


def _thresholds(threshold: npt.ArrayLike, heads: int) -> npt.NDArray[np.int64]:
    """One threshold per head, (H,)."""
    edges = np.asarray(threshold)
    if edges.dtype.kind not in "iu" or edges.shape not in ((), (heads,)):
        raise ValueError(
            f"expected one integer threshold, or one per head ({heads},), got {edges.dtype} "
            f"{edges.shape}"
        )
    return np.broadcast_to(edges, (heads,)).astype(np.int64)


def _check_bound(
    state: State, k: Spikes, v: Spikes, decay_shift: Shifts, fraction_bits: int
) -> int:
    bound = state_bound(state, k, v, decay_shift, fraction_bits)
    if bound > _LARGEST:
        raise ValueError(
            f"expected an attention state within int32, got |S| up to {bound} for {k.shape[0]} "
            f"tokens, {fraction_bits} fraction bits and decay shifts {decay_shift.tolist()}; "
            "use fewer fraction bits, fewer levels or a smaller decay shift"
        )
    return bound
