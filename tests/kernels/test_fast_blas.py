"""Fast BLAS for MLX: right in every form of product, off when it must be, restored when wrong."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels import _gemv, _slots, fast_blas

CPU = mx.cpu
SIZES = (1, 2, 7, 63, 123)


@pytest.fixture()
def enabled() -> Iterator[None]:
    description = fast_blas.enable()
    if "OpenBLAS" not in description:
        pytest.skip(description)
    yield
    fast_blas.enable()


def _stored(rng: np.random.Generator, rows: int, columns: int, transposed: bool) -> tuple:
    """A random (rows, columns) as numpy and as MLX, the latter a transposed view if asked for."""
    x = rng.standard_normal((rows, columns)).astype(np.float32)
    if transposed:
        stored = mx.array(np.ascontiguousarray(x.T))
        mx.eval(stored)
        return x, stored.T
    return x, mx.array(x)


@pytest.mark.parametrize("transpose_b", [False, True], ids=["B", "B^T"])
@pytest.mark.parametrize("transpose_a", [False, True], ids=["A", "A^T"])
def test_products_equal_numpy(enabled: None, transpose_a: bool, transpose_b: bool) -> None:
    rng = np.random.default_rng(1)
    for m in SIZES:
        for n in SIZES:
            for k in (1, 5, 64, 123):
                left, a = _stored(rng, m, k, transpose_a)
                right, b = _stored(rng, k, n, transpose_b)
                np.testing.assert_allclose(
                    np.array(mx.matmul(a, b, stream=CPU)),
                    left.astype(np.float64) @ right,
                    rtol=1e-4,
                    atol=1e-4,
                    err_msg=f"({m}, {k}) @ ({k}, {n})",
                )


@pytest.mark.parametrize("transpose_b", [False, True], ids=["B", "B^T"])
@pytest.mark.parametrize("transpose_a", [False, True], ids=["A", "A^T"])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, -2.0), (2.0, 0.0)])
def test_addmm_equals_numpy(
    enabled: None, transpose_a: bool, transpose_b: bool, alpha: float, beta: float
) -> None:
    rng = np.random.default_rng(2)
    for m, n, k in ((1, 63, 123), (63, 1, 123), (1, 1, 5), (7, 9, 11)):
        left, a = _stored(rng, m, k, transpose_a)
        right, b = _stored(rng, k, n, transpose_b)
        c = rng.standard_normal((m, n)).astype(np.float32)
        out = mx.addmm(mx.array(c), a, b, alpha=alpha, beta=beta, stream=CPU)
        expected = alpha * (left.astype(np.float64) @ right) + beta * c
        np.testing.assert_allclose(np.array(out), expected, rtol=1e-4, atol=1e-4)


def test_slices_batches_and_other_types(enabled: None) -> None:
    rng = np.random.default_rng(3)
    big = rng.standard_normal((40, 50)).astype(np.float32)
    row, block = big[3:4, 5:25], big[10:30, 7:21]
    a, b = mx.array(big)[3:4, 5:25], mx.array(big)[10:30, 7:21]
    np.testing.assert_allclose(np.array(mx.matmul(a, b, stream=CPU)), row @ block, atol=1e-4)
    batch = rng.standard_normal((3, 1, 20)).astype(np.float32)
    np.testing.assert_allclose(
        np.array(mx.matmul(mx.array(batch), b, stream=CPU)), batch @ block, atol=1e-4
    )
    for dtype in (mx.float64, mx.complex64):
        out = mx.matmul(a.astype(dtype, stream=CPU), b.astype(dtype, stream=CPU), stream=CPU)
        np.testing.assert_allclose(np.array(out), row @ block, atol=1e-4)


def test_linear_algebra_equals_numpy(enabled: None) -> None:
    matrix = np.random.default_rng(4).standard_normal((30, 30)).astype(np.float32)
    matrix = matrix @ matrix.T + 30 * np.eye(30, dtype=np.float32)
    x = mx.array(matrix)
    u, s, vt = (np.array(part) for part in mx.linalg.svd(x, stream=CPU))
    np.testing.assert_allclose(u * s @ vt, matrix, atol=1e-3)
    q, r = (np.array(part) for part in mx.linalg.qr(x, stream=CPU))
    np.testing.assert_allclose(q @ r, matrix, atol=1e-3)
    factor = np.array(mx.linalg.cholesky(x, stream=CPU))
    np.testing.assert_allclose(factor @ factor.T, matrix, atol=1e-3)
    values = np.array(mx.linalg.eigvalsh(x, stream=CPU))
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix), rtol=1e-4)


@pytest.mark.parametrize(("m", "n", "k"), [(1, 5, 3), (5, 1, 3), (1, 1, 1), (4, 3, 2), (1, 4, 0)])
@pytest.mark.parametrize("transpose_b", [False, True], ids=["B", "B^T"])
@pytest.mark.parametrize("transpose_a", [False, True], ids=["A", "A^T"])
@pytest.mark.parametrize("beta", [0.0, -1.5])
def test_route_with_leading_dimensions(
    enabled: None, m: int, n: int, k: int, transpose_a: bool, transpose_b: bool, beta: float
) -> None:
    """CBLAS arguments MLX does not produce: padded rows, beta = 0 over NaN, an empty inner size."""
    rng = np.random.default_rng(5)
    a = rng.standard_normal(((k, m) if transpose_a else (m, k))[:1] + (9,)).astype(np.float32)
    b = rng.standard_normal(((n, k) if transpose_b else (k, n))[:1] + (11,)).astype(np.float32)
    c = rng.standard_normal((m, 7)).astype(np.float32)
    op_a = a[:, :m].T if transpose_a else a[:, :k]
    op_b = b[:, :k].T if transpose_b else b[:, :n]
    expected = c.copy()
    expected[:, :n] = 0.5 * (op_a @ op_b) + beta * c[:, :n]
    if beta == 0:
        c[:, :n] = np.nan
    bundle = fast_blas._bundled_openblas()
    addresses = [fast_blas._address(bundle, f"cblas_{name}") for name in ("sgemm", "sgemv")]
    assert addresses[0] is not None and addresses[1] is not None
    function = _gemv.route(addresses[0], addresses[1])
    integer, real, pointer = ctypes.c_int32, ctypes.c_float, ctypes.c_void_p
    call = ctypes.CFUNCTYPE(
        None, *(integer,) * 6, real, *(pointer, integer) * 2, real, pointer, integer
    )(function.address)
    call(
        101, 111 + transpose_a, 111 + transpose_b, m, n, k,
        0.5, a.ctypes.data, 9, b.ctypes.data, 11, beta, c.ctypes.data, 7,
    )  # fmt: skip
    np.testing.assert_allclose(c, expected, rtol=1e-5, atol=1e-5)  # padding included


def test_enable_is_idempotent_and_disable_restores(enabled: None) -> None:
    library = _slots.loaded("libmlx.so")
    switched = _slots.read(library.slots)
    assert fast_blas.enable() == fast_blas.active()
    assert _slots.read(library.slots) == switched
    fast_blas.disable()
    assert fast_blas.active() == "MLX default: disabled"
    assert _slots.read(library.slots)["cblas_sgemm"] != switched["cblas_sgemm"]
    a = mx.array(np.eye(3, dtype=np.float32))
    np.testing.assert_array_equal(np.array(mx.matmul(a, a, stream=CPU)), np.eye(3))
    fast_blas.disable()  # nothing left to do
    assert fast_blas.enable().startswith("OpenBLAS")


PRELUDE = """
import ctypes, sys
import numpy as np
import mlx.core as mx
from neurosim.kernels import _slots, fast_blas
fast_blas_text = lambda: print(fast_blas.active())
def product_is_right():
    x = np.random.default_rng(0).standard_normal((30, 30)).astype(np.float32)
    error = np.abs(np.array(mx.matmul(mx.array(x), mx.array(x), stream=mx.cpu)) - x @ x).max()
    print("right" if error < 1e-4 else "wrong")
def pointers():
    return _slots.read(_slots.loaded("libmlx.so").slots)
"""
WRONG = """
integer, real, pointer = ctypes.c_int32, ctypes.c_float, ctypes.c_void_p
kind = ctypes.CFUNCTYPE(None, *(integer,) * 6, real, pointer, integer, pointer, integer, real,
                        pointer, integer)
calls = []
@kind
def wrong(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    calls.append(m)
    np.ctypeslib.as_array(ctypes.cast(c, ctypes.POINTER(real)), (m, ldc))[:, :n] = 1
address = ctypes.cast(wrong, pointer).value
"""


def _run(script: str, **environment: str) -> list[str]:
    """Lines printed by the script in a fresh interpreter."""
    result = subprocess.run(
        [sys.executable, "-c", PRELUDE + script],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_environment_switch(enabled: None) -> None:
    script = "before = pointers()\nfast_blas.enable()\nfast_blas_text()\nproduct_is_right()\n"
    script += "after = pointers()\nprint(before['sgetrf_'] == after['sgetrf_'])"
    text, right, untouched = _run(script, NEUROSIM_FAST_BLAS="0")
    assert text == "MLX default: switched off by NEUROSIM_FAST_BLAS=0"
    assert (right, untouched) == ("right", "True")
    text, right, untouched = _run(script, NEUROSIM_FAST_BLAS="1")
    assert text.startswith("OpenBLAS")
    assert (right, untouched) == ("right", "False")


@pytest.mark.parametrize("where", ["everywhere", "route"])
def test_wrong_function_is_noticed_and_pointers_are_restored(enabled: None, where: str) -> None:
    """A wrong sgemm: all off if the library's own is wrong, route off if only the route is."""
    script = WRONG + (
        "product_is_right()\nbefore = pointers()\n"
        "real_replacements = fast_blas._replacements\n"
        "def broken(*arguments):\n"
        "    pointers = arguments[0] if where == 'route' else real_replacements(*arguments)\n"
        "    return {**pointers, 'cblas_sgemm': address}\n"
        f"where = {where!r}\n"
        "if where == 'route':\n"
        "    fast_blas._with_gemv_route = broken\n"
        "else:\n"
        "    fast_blas._replacements = broken\n"
        "fast_blas.enable()\nfast_blas_text()\nproduct_is_right()\nprint(len(calls) > 0)\n"
        "after = pointers()\nprint(address in after.values())\n"
        "print(before['cblas_sgemm'] == after['cblas_sgemm'], before == after)"
    )
    right_before, text, right, was_called, wrong_left, restored = _run(script)
    assert (right_before, right, was_called, wrong_left) == ("right", "right", "True", "False")
    if where == "everywhere":
        assert text.startswith("MLX default: A B of 64 x 64 mlx.core.float32 was wrong by")
        assert restored == "True True"
    else:
        assert text.startswith("OpenBLAS") and "no GEMV route: A B of 64 x 64" in text


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        ("sys.platform = 'darwin'", "not needed on darwin"),
        ("fast_blas._bundled_openblas = lambda: ctypes.CDLL('nowhere.so')", "nowhere.so"),
        ("fast_blas._slots.loaded = lambda name: 1 / 0", "division by zero"),
        ("fast_blas._slots._SLOT_TYPES.clear()", "no jump-slot layout"),
        (
            "fast_blas._slots.loaded = lambda name: _slots.Library('x', ('libopenblas.so',), {})",
            "MLX is not linked to a reference libblas",
        ),
        (
            "def fail(): raise RuntimeError('no CPU stream')\nfast_blas._verify = fail",
            "no CPU stream",
        ),
    ],
    ids=["macos", "no-openblas", "unreadable", "other-machine", "other-blas", "mlx-raises"],
)
def test_every_failing_step_leaves_it_off(enabled: None, patch: str, reason: str) -> None:
    script = f"before = pointers()\n{patch}\nfast_blas.enable()\nfast_blas_text()\n"
    script += "sys.platform = 'linux'\nproduct_is_right()\n"
    text, right = _run(script)
    assert text.startswith("MLX default: ") and reason in text
    assert right == "right"
