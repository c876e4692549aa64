"""Spike attention as an MLX function with a gradient."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._training import differentiable, values

Floats = npt.NDArray[np.float32]

_NAME = "trainable_attention"
_MOST_SHIFT = 30
_CHUNK = 64  # tokens of which the scores are formed; states carry what came before


def trainable_attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    decay_shift: npt.ArrayLike | None = None,
    causal: bool = True,
) -> mx.array:
    """The sums of `spike_attention` for training: works in `mx.grad` and `nn.value_and_grad`.

    With keep = 1 - 2^-n for decay shift n > 0, and 1 for n = 0 or without decay:

        out_i = sum_{j <= i} keep^(i - j) (q_i . k_j) v_j        all j, and no decay, if not causal

    This is what `spike_attention` computes, but for the rounding of its shifts; without decay it
    gives the same integers as long as they fit float32 (2^24). The function is smooth, so its
    gradients are exact; a neuron behind it (`trainable_lif`) brings its surrogate. With gradient g,

        dq_i = sum_{j <= i} keep^(i - j) (g_i . v_j) k_j
        dk_j = sum_{i >= j} keep^(i - j) (v_j . g_i) q_i
        dv_j = sum_{i >= j} keep^(i - j) (k_j . q_i) g_i

    are attention of the same kind, the last two backwards in time. Chunks of tokens are products of
    numpy's BLAS, linked by states, so that time and memory grow with L, not L^2. mx.compile,
    mx.vmap, mx.jvp and second derivatives are refused.

    Args:
        q, k, v: spikes or any numbers, float32, (..., L, D), v (..., L, V).
        decay_shift: integers 0..30, one or some that broadcast to the leading axes, such as (H,)
            for (..., H, L, D); None for no decay. Not trained.
        causal: whether token i sees tokens 0..i only; must be so with decay.

    Returns:
        float32, (..., L, V).
    """
    _check(q, k, v)
    lead = tuple(q.shape[:-2])
    groups = math.prod(lead)
    if decay_shift is not None and not causal:
        raise ValueError(f"{_NAME}: expected causal attention with decay_shift, got causal=False")
    keep = _kept(decay_shift, lead)

    def forward(*arrays: mx.array) -> tuple[mx.array]:
        queries, keys, contents = (values(_NAME, x) for x in arrays)
        return (mx.array(attend(queries, keys, contents, keep, causal)),)

    def backward(primals: Any, cotangents: Any, outputs: Any) -> list[mx.array]:
        queries, keys, contents, gradient = (values(_NAME, x) for x in (*primals, *cotangents))
        late = [x[:, ::-1] if causal else x for x in (queries, keys, contents, gradient)]
        gradients = []
        for (a, b, c), flipped in (
            ((gradient, contents, keys), False),
            ((late[2], late[3], late[0]), causal),
            ((late[1], late[0], late[3]), causal),
        ):
            one = attend(a, b, c, keep, causal)
            gradients.append(mx.array(one[:, ::-1].copy() if flipped else one))
        return gradients

    flat = (x.reshape(groups, *x.shape[-2:]) for x in (q, k, v))
    (out,) = differentiable(_NAME, forward, backward)(*flat)
    shaped: mx.array = out.reshape(v.shape)
    return shaped


def attend(q: Floats, k: Floats, v: Floats, keep: npt.NDArray[np.float64], causal: bool) -> Floats:
    """Attention of G streams with factors `keep` (G,) per token: (G, L, D), (G, L, V) -> v's."""
    if not causal:
        return np.asarray(q @ (k.swapaxes(1, 2) @ v))
    groups, tokens, _ = q.shape
    size = min(_CHUNK, max(tokens, 1))
    chunks = -(-tokens // size)
    q, k, v = (_chunked(x, chunks, size) for x in (q, k, v))  # (G, chunks, C, D)
    power = keep[:, None] ** np.arange(size + 1)  # (G, C + 1)
    distance = np.arange(size)[:, None] - np.arange(size)
    mask: Floats = np.where(distance >= 0, power[:, np.abs(distance)], 0).astype(np.float32)
    scores: Floats = q @ k.swapaxes(2, 3)
    scores *= mask[:, None]
    out: Floats = scores @ v
    if chunks > 1:
        factors = power[:, None, :, None].astype(np.float32)
        before, after = factors[:, :, 1:], factors[:, :, -2::-1]  # keep^(i + 1), keep^(C - 1 - i)
        state = (k[:, :-1] * after).swapaxes(2, 3) @ v[:, :-1]  # (G, chunks - 1, D, V)
        for i in range(1, chunks - 1):
            state[:, i] += factors[:, 0, -1:] * state[:, i - 1]
        out[:, 1:] += (q[:, 1:] * before) @ state
    whole: Floats = out.reshape(groups, chunks * size, v.shape[3])
    return whole[:, :tokens]


def _chunked(x: Floats, chunks: int, size: int) -> Floats:
    """(G, L, D) as (G, chunks, C, D), with zeros after the last token."""
    groups, tokens, channels = x.shape
    missing = chunks * size - tokens
    padded = np.pad(x, ((0, 0), (0, missing), (0, 0))) if missing else np.ascontiguousarray(x)
    return padded.reshape(groups, chunks, size, channels)


def _check(q: mx.array, k: mx.array, v: mx.array) -> None:
    given = (q, k, v)
    if not all(isinstance(x, mx.array) and x.dtype == mx.float32 for x in given):
        kinds = ", ".join(str(getattr(x, "dtype", type(x).__name__)) for x in given)
        raise ValueError(
            f"{_NAME}: expected float32 MLX arrays q, k and v, got {kinds}; use astype, or "
            "spike_attention where no gradient is needed"
        )
    if q.ndim < 2 or q.shape != k.shape or v.ndim != q.ndim or v.shape[:-1] != q.shape[:-1]:
        raise ValueError(
            f"{_NAME}: expected q and k of one shape (..., L, D), and v of that shape but for its "
            f"channels; got {', '.join(str(tuple(x.shape)) for x in given)}"
        )


def _kept(decay_shift: npt.ArrayLike | None, lead: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """1 - 2^-n of every stream, 1 for n = 0."""
    shifts = np.asarray(0 if decay_shift is None else decay_shift)
    if shifts.dtype.kind not in "iu" or (
        shifts.size and not 0 <= shifts.min() <= shifts.max() <= _MOST_SHIFT
    ):
        raise ValueError(
            f"{_NAME}: expected integer decay shifts 0..{_MOST_SHIFT}, got {decay_shift!r}"
        )
    try:
        full = np.broadcast_to(shifts, lead).reshape(-1)
    except ValueError:
        raise ValueError(
            f"{_NAME}: expected one decay shift, or some that broadcast to the leading axes "
            f"{lead}, got shape {shifts.shape}"
        ) from None
    return np.where(full > 0, 1 - 0.5**full, 1.0)
