"""What the Metal emulator refuses beyond buffers: private arrays, tables, integer divisions."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from emulated_kernels import mapped, metal_kernel

from neurosim.kernels.metal_emulator import MetalError, emulate, emulate_traced, unavailable

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

HEADER = """
    template <class T> struct Row {
        int n;
        T values[4];
        T at(int i) const { return values[i]; }
    };
    constant int table[4] = {1, 2, 3, 4};
    template <class T> METAL_FUNC T pick(thread T* a, uint i) { return a[i]; }
    template <class T> METAL_FUNC T pick_of(thread T (&a)[4], uint i) { return a[i]; }
"""
PRIVATE = """
    uint i = thread_position_in_grid.x;
    T a[4], m[2][3], y = T(0.0f);
    vec<T, 4> v[2];
    Row<T> row;
    for (int j = 0; j < 4; ++j) a[j] = row.values[j] = v[0][j] = v[1][j] = T(x[j]);
    for (int j = 0; j < 6; ++j) m[j / 3][j % 3] = T(x[j]);
    switch (mode) {
        case 0: y = a[i]; break;
        case 1: y = m[1][i]; break;
        case 2: y = m[i][2]; break;
        case 3: y = row.values[i]; break;
        case 4: y = row.at(i); break;
        case 5: y = pick_of(a, i); break;
        case 6: y = pick(a, i); break;
        case 7: y = T(float(table[i])); break;
        case 8: a[i] = T(x[i]); y = a[i % 4]; break;
        case 9: a[i] += T(1.0f); y = a[i % 4]; break;
        case 10: y = v[0][i]; break;
        case 11: y = v[i][1]; break;
        case 12: y = v[i].y; break;
        case 13: v[i] += vec<T, 4>(T(1.0f)); y = v[i % 2].x; break;
        case 14: y = a[3 - int(i)]; break;
        case 15: y = a[i << 20]; break;
        case 16: y = -a[i]; break;
        case 17: for (uint j = 0; j <= i; ++j) { a[j] = T(x[j + 1]); y = a[j]; } break;
    }
    o[i] = float(y);
"""


def line_of(source: str, mode: int) -> int:
    lines = source.split("\n")
    return 1 + next(n for n, text in enumerate(lines) if f"case {mode}:" in text)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)  # bfloat is a class here
@pytest.mark.parametrize(
    ("mode", "expected", "message"),  # what the threads in bounds get; the next one is outside
    [
        (0, [1, 2, 3, 4], r"index 4 of an array 'float \[4\]'"),
        (1, [4, 5, 6], r"index 3 of an array 'float \[3\]'"),
        (2, [3, 6], r"index 2 of an array 'float \[2\]\[3\]'"),
        (3, [1, 2, 3, 4], r"index 4 of an array 'float \[4\]'"),
        (4, [1, 2, 3, 4], r"index 4 of an array 'float \[4\]'"),
        (5, [1, 2, 3, 4], r"index 4 of an array 'float \[4\]'"),
        (6, [1, 2, 3, 4], "read of 'float' beyond its private array"),
        (7, [1, 2, 3, 4], r"index 4 of an array 'int \[4\]'"),
        (8, [1, 2, 3, 4], r"index 4 of an array 'float \[4\]'"),
        (9, [2, 3, 4, 5], "read of 'float' beyond its private array"),
        (10, [1, 2, 3, 4], "index 4 of a vector of 4"),
        (11, [2, 2], "access to an element just past the end"),
        (12, [2, 2], r"index 2 of an array 'vec \[2\]'"),
        (13, [2, 2], "access to an element just past the end"),
        (14, [4, 3, 2, 1], r"index -1 of an array 'float \[4\]'"),
        (15, [1], r"index 1048576 of an array 'float \[4\]'"),
        (16, [-1, -2, -3, -4], r"index 4 of an array 'float \[4\]'"),
        (17, [2, 3, 4, 5], r"index 4 of an array 'float \[4\]'"),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_private_arrays(mode: int, expected: list[int], message: str, dtype: mx.Dtype) -> None:
    kernel = metal_kernel(PRIVATE, "x mode", header=HEADER)
    x, inside = np.arange(1.0, 65, dtype=np.float32), len(expected)
    options = {"template": [("T", dtype)], "group": 64}
    np.testing.assert_array_equal(mapped(kernel, x, mode, threads=inside, **options), expected)
    line = "header line" if mode in (4, 5, 6) else f"source line {line_of(PRIVATE, mode)}\\)"
    what = message if dtype == mx.float32 else ""  # the test that notices a bfloat may be another
    with pytest.raises(
        MetalError, match=rf"out-of-bounds {what}.*\(thread \({inside}, 0, 0\), {line}"
    ):
        mapped(kernel, x, mode, threads=inside + 1, **options)


def test_counts_are_those_of_arrays_in_registers() -> None:
    """Checks of pointers into private arrays would read x again after each store: not counted."""
    kernel = metal_kernel(
        "uint i = thread_position_in_grid.x; float a[4] = {}; int n = mode;\n"
        "a[n] += x[i]; a[3 - n] += x[i]; a[n ^ 1] -= x[i];\n"
        "o[i] = a[n];",
        "x mode",
    )
    call = {"output_shapes": [(8,)], "output_dtypes": [mx.float32], "grid": (8, 1, 1),
            "threadgroup": (8, 1, 1)}  # fmt: skip
    x = np.arange(8, dtype=np.float32)
    (out,), trace = emulate_traced(kernel, inputs=[x, 1], **call)
    np.testing.assert_array_equal(out, x)
    np.testing.assert_array_equal(emulate(kernel, inputs=[x, 1], **call)[0], x)
    assert trace.buffers[0].read == x.nbytes
    with pytest.raises(MetalError, match=r"out-of-bounds index 4 of an array 'float \[4\]'"):
        emulate_traced(kernel, inputs=[x, 4], **call)


DIVISIONS = """
    uint i = thread_position_in_grid.x;
    T a = p[i], b = q[i];
    switch (mode) {
        case 0: a = a / b; break;
        case 1: a = a % b; break;
        case 2: a /= b; break;
        case 3: a = (vec<T, 2>(a, T(7)) / vec<T, 2>(b, T(1))).x; break;
        case 4: a = (a % vec<T, 4>(T(1), T(2), T(3), b)).w; break;
        case 5: a = ceildiv(a, b); break;
    }
    o[i] = a;
"""


@pytest.mark.parametrize("mode", range(6))
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32, np.int64, np.uint64])
def test_integer_divisions(dtype: type[np.integer], mode: int) -> None:
    kernel = metal_kernel(DIVISIONS, "p q mode")
    output = mx.array(np.zeros(1, dtype)).dtype
    p, q = np.array([7, 0, 100, 23], dtype), np.array([2, 5, 100, 4], dtype)

    def run() -> np.ndarray:
        return mapped(kernel, p, q, mode, dtype=output, threads=4, template=[("T", output)])

    expected = p % q if mode in (1, 4) else -(-p.astype(int) // q) if mode == 5 else p // q
    np.testing.assert_array_equal(run(), expected)
    message = (
        r"integer division or remainder: {} by {}, of type '[a-z ]+' "
        rf"\(thread \(2, 0, 0\), source line {line_of(DIVISIONS, mode)}\)"
    )
    p[2], q[2] = 99, 0
    with pytest.raises(MetalError, match=message.format(98 if mode == 5 else 99, 0)):
        run()  # ceildiv adds b - 1 to a
    p[2], q[2] = np.iinfo(dtype).min, np.array(-1).astype(dtype)
    if dtype in (np.int32, np.int64) and mode != 5:
        with pytest.raises(MetalError, match=message.format(p[2], -1)):
            run()
    else:  # defined: the quotient of two shorts is an int, and ceildiv adds -2 to the minimum
        run()


LEGAL = """
    uint i = thread_position_in_grid.x;
    float a[4], sum = 0;
    threadgroup float tile[8][8];
    for (thread float* p = a; p != &a[4]; ++p) *p = x[p - a];
    for (int j = 3; j >= 0; --j) sum += a[j];
    sum += i < 4 ? a[i] : 0.0f;
    int zero = int(x[0]) - 1, most = INT_MAX - zero;
    sum += zero ? 5 / zero : 0;
    sum += zero != 0 && 5 % zero > 0 ? 1 : 0;
    most += 1;
    sum += most == INT_MIN && -most == INT_MIN && abs(most) == INT_MIN && most * 2 == 0;
    sum += (most / 2 < 0) + (-7 / (zero - 1) == 7) + (1 << (zero + 31) == INT_MIN);
    tile[i / 8][i % 8] = 1;
    sum += sizeof(tile) / sizeof(tile[0]) == 8 ? tile[i / 8][i % 8] : 0.0f;
    o[i] = sum;
"""


def test_what_is_defined_passes() -> None:
    """The address past the end, guarded indices and divisions, signed numbers that wrap."""
    x = np.arange(1.0, 65, dtype=np.float32)
    expected = 10 + np.where(np.arange(64) < 4, x, 0) + 5
    np.testing.assert_array_equal(mapped(metal_kernel(LEGAL), x), expected)
