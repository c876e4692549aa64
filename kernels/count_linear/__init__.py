"""Dense spike counts, and float rows, times integer weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._dispatch import choose
from neurosim.kernels._threads import check_threads
from neurosim.kernels.count_linear import cpu, reference
from neurosim.kernels.count_linear._weight import IntegerWeight

__all__ = ["BACKENDS", "IntegerWeight", "count_linear", "row_linear"]


class _NoMetal:
    """Kept in the table so that asking for it says why."""

    @staticmethod
    def unavailable() -> str:
        """Why it cannot run."""
        return "count_linear has no Metal kernel; on a GPU use mx.quantized_matmul or float weights"

    def supports(self, *arguments: Any) -> str:
        """The same."""
        return self.unavailable()


BACKENDS: dict[str, Any] = {"cpu": cpu, "reference": reference, "metal": _NoMetal()}
_MOST = {8: 128 * 127, 4: 128 * 7 * 63}  # largest |count * integer|
_INT32_MAX = 2**31 - 1


def count_linear(
    counts: npt.NDArray[np.int8],
    weight: IntegerWeight,
    threads: int = 1,
    backend: str = "auto",
) -> npt.NDArray[np.int32]:
    """Exact products of spike counts with integer weights: out[l, o] = sum_i n[l, i] w[o, i].

    Every input costs the same, silent or not: for the counts of a quantiser, of which nearly all
    are not 0 (`spike_linear` is for those that are mostly silent). Multiply by `weight.scale` and
    the scale of the counts for the float result. A few rows read the weights once, at the speed
    of memory; many use the processor's 8-bit dot products (AVX-512 VNNI), plain integer vectors
    where it has none. All give the same integers, whatever the rows, threads and machine.

    Args:
        counts: int8, (..., I).
        weight: (O, I), 8 or 4 bits.
        threads: that share the outputs, of the CPU backend.
        backend: "auto", "cpu" (Numba) or "reference" (numpy); there is no Metal kernel.

    Returns:
        int32 (..., O).

    Raises:
        ValueError: wrong types or sizes; so many inputs that an int32 sum could overflow.
    """
    if not isinstance(counts, np.ndarray) or counts.dtype != np.int8 or counts.ndim == 0:
        got = f"{getattr(counts, 'dtype', type(counts).__name__)} {getattr(counts, 'shape', '')}"
        raise ValueError(f"expected numpy int8 counts of shape (..., I), got {got}")
    if not isinstance(weight, IntegerWeight):
        raise ValueError(
            f"expected an IntegerWeight, got {type(weight).__name__}; make it with "
            "IntegerWeight.quantise"
        )
    inputs = weight.shape[1]
    _check_inputs(counts, inputs)
    most = _INT32_MAX // _MOST[weight.bits]
    if inputs > most:
        raise ValueError(
            f"expected at most {most} inputs of {weight.bits} bits, so that int32 sums cannot "
            f"overflow, got {inputs}; split the inputs and add the results as int64"
        )
    check_threads(threads)
    module = choose("count_linear", backend, BACKENDS)
    rows = counts.reshape(-1, inputs) if inputs else np.empty((_lead(counts), 0), np.int8)
    sums: npt.NDArray[np.int32] = module.count_linear(rows, weight, threads)
    return sums.reshape(*counts.shape[:-1], weight.shape[0])


def row_linear(
    x: npt.NDArray[Any],
    weight: IntegerWeight | npt.NDArray[Any],
    threads: int = 1,
    backend: str = "auto",
) -> npt.NDArray[Any]:
    """Float rows times weights, each row by itself: out[l, o] = sum_i x[l, i] w[o, i].

    The bits of a row of the result depend on that row of x and the weights alone: not on the other
    rows, their number, the threads or the machine. (A BLAS gives none of this.) So a decoder with a
    cache computes the same bits as one without. The order: 16 partial sums of fused multiply-adds
    of every sixteenth input (4 bits: every 512th, one per group of a block, times its multiplier),
    then a tree; integers are summed as they are and scaled once, at the end.

    Args:
        x: float32 or float64, (..., I).
        weight: IntegerWeight (O, I), or an array (O, I) of the type of x.
        threads: that share the outputs, of the CPU backend.
        backend: "auto", "cpu" (Numba), "reference" (numpy, double precision inside; other bits).

    Returns:
        (..., O) in the type of x.

    Raises:
        ValueError: wrong types or sizes.
    """
    if not isinstance(x, np.ndarray) or x.dtype not in (np.float32, np.float64) or x.ndim == 0:
        got = f"{getattr(x, 'dtype', type(x).__name__)} {getattr(x, 'shape', '')}"
        raise ValueError(f"expected numpy float32 or float64 rows (..., I), got {got}")
    if not isinstance(weight, IntegerWeight) and (
        not isinstance(weight, np.ndarray) or weight.dtype != x.dtype or weight.ndim != 2
    ):
        got = f"{getattr(weight, 'dtype', type(weight).__name__)} {getattr(weight, 'shape', '')}"
        raise ValueError(f"expected an IntegerWeight or {x.dtype} weights (O, I), got {got}")
    outputs, inputs = weight.shape
    _check_inputs(x, inputs)
    check_threads(threads)
    module = choose("row_linear", backend, BACKENDS)
    rows = x.reshape(-1, inputs) if inputs else np.empty((_lead(x), 0), x.dtype)
    sums: npt.NDArray[Any] = module.row_linear(rows, weight, threads)
    return sums.reshape(*x.shape[:-1], outputs)


def _check_inputs(rows: npt.NDArray[Any], inputs: int) -> None:
    if rows.shape[-1] != inputs:
        raise ValueError(
            f"expected one column of weights (O, I) per input, got {rows.shape[-1]} inputs and "
            f"{inputs} columns"
        )


def _lead(rows: npt.NDArray[Any]) -> int:
    return int(np.prod(rows.shape[:-1], dtype=np.int64))
