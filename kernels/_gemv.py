"""A `cblas_sgemm` that sends products with a single row or column to `sgemv`.

MLX computes x (1, K) @ W through sgemm with M = 1, which first copies all of W into packed blocks:
three times the memory traffic of sgemv. This entry point has sgemm's C signature and calls sgemv
or sgemm of the same library.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import binding  # type: ignore[import-untyped]
from numba import types

_ROW_MAJOR, _NO_TRANSPOSE, _TRANSPOSE = np.int32(101), np.int32(111), np.int32(112)
_ONE = np.int32(1)
_GEMM = types.void(
    *(types.int32,) * 6,  # order, transposes of A and B, m, n, k
    *(types.float32, types.voidptr, types.int32),  # alpha, A, lda
    *(types.voidptr, types.int32),  # B, ldb
    *(types.float32, types.voidptr, types.int32),  # beta, C, ldc
)
_GEMV = types.void(
    *(types.int32,) * 4,  # order, transpose of A, rows and columns of A as stored
    *(types.float32, types.voidptr, types.int32),  # alpha, A, lda
    *(types.voidptr, types.int32),  # x, increment
    *(types.float32, types.voidptr, types.int32),  # beta, y, increment
)
# Bound by name when the code is linked: the addresses change from process to process, the compiled
# code cached on disk does not.
_sgemm = types.ExternalFunction("neurosim_cblas_sgemm", _GEMM)
_sgemv = types.ExternalFunction("neurosim_cblas_sgemv", _GEMV)


def route(sgemm: int, sgemv: int) -> Any:
    """The entry point as a C function object (`.address`); keep it as long as it may be called.

    Args:
        sgemm, sgemv: addresses of the LP64 CBLAS functions to call.
    """
    binding.add_symbol("neurosim_cblas_sgemm", sgemm)
    binding.add_symbol("neurosim_cblas_sgemv", sgemv)
    return numba.cfunc(_GEMM, cache=True)(_product)


def _product(
    order: int,
    transpose_a: int,
    transpose_b: int,
    m: int,
    n: int,
    k: int,
    alpha: float,
    a: Any,
    lda: int,
    b: Any,
    ldb: int,
    beta: float,
    c: Any,
    ldc: int,
) -> None:
    """C (m, n) = alpha op(A) (m, k) op(B) (k, n) + beta C, row-major CBLAS arguments."""
    # With k = 0 sgemv returns at once, where sgemm still scales C. Column-major calls never come
    # from MLX and keep to sgemm.
    if order != _ROW_MAJOR or k == 0 or n == 0 or m == 0 or (m != 1 and n != 1):
        _sgemm(order, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
        return
    length, step = (n, _ONE) if m == 1 else (m, ldc)
    if beta == 0:  # C is only written then; some releases of OpenBLAS's sgemv read it (0 NaN = NaN)
        result = numba.carray(c, ((length - 1) * step + 1,), np.float32)
        for i in range(length):
            result[i * step] = 0
    step_a = _ONE if transpose_a == _NO_TRANSPOSE else lda  # between elements of A's one row
    step_b = ldb if transpose_b == _NO_TRANSPOSE else _ONE  # between elements of B's one column
    if m == 1 and transpose_b == _NO_TRANSPOSE:  # B is stored (k, n)
        _sgemv(order, _TRANSPOSE, k, n, alpha, b, ldb, a, step_a, beta, c, _ONE)
    elif m == 1:  # B is stored (n, k)
        _sgemv(order, _NO_TRANSPOSE, n, k, alpha, b, ldb, a, step_a, beta, c, _ONE)
    elif transpose_a == _NO_TRANSPOSE:  # A is stored (m, k)
        _sgemv(order, _NO_TRANSPOSE, m, k, alpha, a, lda, b, step_b, beta, c, ldc)
    else:  # A is stored (k, m)
        _sgemv(order, _TRANSPOSE, k, m, alpha, a, lda, b, step_b, beta, c, ldc)
