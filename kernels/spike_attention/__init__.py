"""Accumulate-only attention: a decaying state per head, read by the query's spikes."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

from neurosim.kernels._dispatch import choose
from neurosim.kernels.spike_attention import cpu, reference
from neurosim.kernels.spike_attention._bound import state_bound
from neurosim.kernels.spike_attention._types import Shifts, Spikes, State, Sums

__all__ = ["BACKENDS", "spike_attention", "spike_attention_step"]

BACKENDS: dict[str, ModuleType] = {"cpu": cpu, "reference": reference}
_INT8, _INT32, _INT64 = np.dtype(np.int8), np.dtype(np.int32), np.dtype(np.int64)
_LARGEST = 2**31 - 1
_MOST_BITS = 30  # of fraction, and of decay


def spike_attention(
    q: Spikes,
    k: Spikes,
    v: Spikes,
    decay_shift: npt.ArrayLike,
    fraction_bits: int,
    state: State | None = None,
    backend: str = "auto",
) -> tuple[Sums, State]:
    """Causal attention over L tokens by additions, subtractions and shifts of integers.

    Per token and head, with S in fixed point (F = `fraction_bits`):

        S -= S >> n      decay by 1 - 2^-n, arithmetic shift; not at all where n = 0
        S += k v^T 2^F   row i gets v added |k_i| times
        out = q S        row i of S is added |q_i| times

    That is sum over tokens j <= i of (q_i . k_j) v_j decayed, linear attention without softmax
    (Katharopoulos et al., 2020) with a per-head power-of-two decay. Exact: all backends give the
    same integers, and L tokens at once the same as L single steps.

    int32 cannot overflow: with K = max|k| max|v| 2^F of a head,
    |S| <= min(|S_0| + L K, max(|S_0|, 2^n (K + 1) - 1)), the second only for n > 0 (geometric
    series). Input for which this exceeds 2^31 - 1 is refused. `out` needs no check: D 128 2^31 is
    far inside int64.

    Args:
        q, k, v: signed spike counts, int8, (L, H, D).
        decay_shift: n of each head, integers 0..30, (H,).
        fraction_bits: F, 0..30.
        state: S before the first token, int32, (H, D, D); zero if None. Not changed.
        backend: "auto", "cpu" (Numba, one thread) or "reference" (numpy).

    Returns:
        out, int64, (L, H, D), in units of 2^-F; the state after the last token, int32, (H, D, D).
    """
    _check_spikes(q, k, v, "(L, H, D)", 3)
    _, heads, channels = q.shape
    shifts = _shifts(decay_shift, heads, fraction_bits)
    if state is None:
        state = np.zeros((heads, channels, channels), np.int32)
    else:
        _check_state(state, heads, channels)
        state = np.array(state, order="C")
    q, k, v = np.ascontiguousarray(q), np.ascontiguousarray(k), np.ascontiguousarray(v)
    _check_bound(state, k, v, shifts, fraction_bits)
    module = choose("spike_attention", backend, BACKENDS)
    return module.scan(q, k, v, shifts, fraction_bits, state), state


def spike_attention_step(
    state: State,
    q: Spikes,
    k: Spikes,
    v: Spikes,
    decay_shift: npt.ArrayLike,
    fraction_bits: int,
    backend: str = "auto",
) -> Sums:
    """One token of `spike_attention`; `state` is updated in place.

    Refused, with `state` unchanged, if the bound given there (L = 1) exceeds int32.

    Args:
        state: int32, (H, D, D), C-contiguous.
        q, k, v: signed spike counts, int8, (H, D).
        decay_shift, fraction_bits, backend: as there.

    Returns:
        out, int64, (H, D).
    """
    _check_spikes(q, k, v, "(H, D)", 2)
    heads, channels = q.shape
    shifts = _shifts(decay_shift, heads, fraction_bits)
    _check_state(state, heads, channels)
    if not state.flags.c_contiguous:
        raise ValueError("expected a C-contiguous state to update in place; pass a copy")
    q, k, v = np.ascontiguousarray(q), np.ascontiguousarray(k), np.ascontiguousarray(v)
    _check_bound(state, k[None], v[None], shifts, fraction_bits)
    out = np.empty((heads, channels), np.int64)
    choose("spike_attention", backend, BACKENDS).step(state, q, k, v, shifts, fraction_bits, out)
    return out


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
    if state.dtype != _INT32 or state.shape != (heads, channels, channels):
        raise ValueError(
            f"expected an int32 state of shape {(heads, channels, channels)}, got {state.dtype} "
            f"{state.shape}"
        )


def _shifts(decay_shift: npt.ArrayLike, heads: int, fraction_bits: int) -> Shifts:
    shifts = np.asarray(decay_shift)
    if shifts.dtype.kind not in "iu" or shifts.shape != (heads,):
        raise ValueError(
            f"expected one integer decay shift per head, ({heads},), got {shifts.dtype} "
            f"{shifts.shape}"
        )
    values = shifts.tolist()
    if values and not 0 <= min(values) <= max(values) <= _MOST_BITS:
        raise ValueError(f"expected decay shifts 0..{_MOST_BITS}, got {values}")
    if not 0 <= fraction_bits <= _MOST_BITS:
        raise ValueError(f"expected fraction_bits 0..{_MOST_BITS}, got {fraction_bits}")
    return shifts if shifts.dtype == _INT64 else shifts.astype(_INT64)


def _check_bound(
    state: State, k: Spikes, v: Spikes, decay_shift: Shifts, fraction_bits: int
) -> None:
    bound = state_bound(state, k, v, decay_shift, fraction_bits)
    if bound > _LARGEST:
        raise ValueError(
            f"expected an attention state within int32, got |S| up to {bound} for {k.shape[0]} "
            f"tokens, {fraction_bits} fraction bits and decay shifts {decay_shift.tolist()}; "
            "use fewer fraction bits, fewer levels or a smaller decay shift"
        )
