"""Softmax attention of new tokens over a cache of keys and values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._dispatch import choose
from neurosim.kernels._threads import check_threads
from neurosim.kernels.cached_attention import cpu, reference

__all__ = ["BACKENDS", "cached_attention"]

BACKENDS: dict[str, Any] = {"cpu": cpu, "reference": reference}
_KINDS = (np.dtype(np.float32), np.dtype(np.float64))


def cached_attention(
    q: npt.NDArray[Any],
    keys: npt.NDArray[Any],
    values: npt.NDArray[Any],
    first: npt.ArrayLike,
    offset: int,
    threads: int = 1,
    backend: str = "auto",
) -> npt.NDArray[Any]:
    """Causal softmax attention: out = softmax(q k^T / sqrt(D)) v over the slots a token may see.

    Token l of sequence b has slot offset + l of the cache and sees slots first[b] .. offset + l;
    a token before first[b] (padding on the left) sees only itself. Head a reads the keys and values
    of group a // (A / G).

    The bits of a row depend on its query and the keys and values it sees, in their order: not on
    the other tokens of the call, how many there are, the batch, slots it does not see (which may
    hold anything, NaN too), or the threads. So decoding with a cache computes the bits of one full
    run. Sums of scores are those of `row_linear`; weights are added to 16 partial sums in turn, and
    values by fused multiply-adds from the first slot to the last; the exponential is within 2e-7
    (float32) or 3e-16 (float64) of exact, relatively.

    Args:
        q: float32 or float64, (B, L, A, D).
        keys, values: of the same type, (B, G, S, D); views of a longer cache are read in place
            where the last axis is contiguous.
        first: whole numbers >= 0, (B,).
        offset: slot of token 0; offset + L <= S.
        threads: of the CPU backend.
        backend: "auto", "cpu" (Numba) or "reference" (numpy, double precision inside).

    Returns:
        (B, L, A, D) in the type of q.

    Raises:
        ValueError: wrong types or shapes, or slots beyond the cache.
    """
    starts = np.asarray(first)
    _check(q, keys, values, starts, offset)
    check_threads(threads)
    module = choose("cached_attention", backend, BACKENDS)
    out: npt.NDArray[Any] = module.cached_attention(
        q, keys, values, starts.astype(np.int64), int(offset), threads
    )
    return out


def _check(q: Any, keys: Any, values: Any, first: Any, offset: int) -> None:
    arrays = {"q": q, "keys": keys, "values": values}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype not in _KINDS or array.ndim != 4:
            got = f"{getattr(array, 'dtype', type(array).__name__)} {getattr(array, 'shape', '')}"
            raise ValueError(f"expected {name} a float32 or float64 array of 4 axes, got {got}")
    if not q.dtype == keys.dtype == values.dtype:
        raise ValueError(
            f"expected one type, got {q.dtype}, {keys.dtype} and {values.dtype}; convert with "
            "astype"
        )
    batch, length, heads, size = q.shape
    if (
        keys.shape != values.shape
        or keys.shape[0] != batch
        or keys.shape[3] != size
        or size == 0
        or (heads and (keys.shape[1] == 0 or heads % keys.shape[1]))
    ):
        raise ValueError(
            "expected q (B, L, A, D) and keys and values (B, G, S, D) with A a multiple of G, got "
            f"{q.shape}, {keys.shape} and {values.shape}"
        )
    if first.shape != (batch,) or first.dtype.kind not in "iu" or (first < 0).any():
        raise ValueError(f"expected first of shape ({batch},), whole numbers >= 0, got {first!r}")
    if not 0 <= offset <= keys.shape[2] - length:
        raise ValueError(
            f"expected slots offset .. offset + L within the cache of {keys.shape[2]}, got offset "
            f"{offset} and {length} tokens"
        )
