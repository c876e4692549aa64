"""What the Metal emulator understands: inputs, types, positions, SIMD, functions, atomics."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from emulated_kernels import ORDERS, mapped, metal_kernel

from neurosim.kernels.metal_emulator import (
    emulate,
    emulate_traced,
    unavailable,
)

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


# --------------------------------------------------------------------- arguments and types


def test_header_helpers_and_templates() -> None:
    header = """
        #include <metal_stdlib>
        using namespace metal;
        template <typename T, int N> METAL_FUNC T total(const device T* values, uint i) {
            T sum = 0;
            for (int j = 0; j < N; ++j) sum += values[i * N + j];
            return sum;
        }
        inline void put(threadgroup float* tile, uint i, float v) { tile[i] = v; }
    """
    kernel = metal_kernel(
        "threadgroup float tile[64]; uint i = thread_position_in_threadgroup.x;\n"
        "put(tile, i, total<float, N>(x, thread_position_in_grid.x));\n"
        "threadgroup float* mine = tile + i; thread float value = *mine;\n"
        "if (NEGATE) value = -value;\n"
        "o[thread_position_in_grid.x] = static_cast<T>(value);",
        header=header,
    )
    x = np.arange(128, dtype=np.float32)
    for count, negate, dtype in ((1, False, mx.float32), (2, True, mx.float16)):
        out = mapped(kernel, x, dtype=dtype,
                   template=[("T", dtype), ("N", count), ("NEGATE", negate)])  # fmt: skip
        expected = x[: 64 * count].reshape(64, count).sum(1) * (-1 if negate else 1)
        np.testing.assert_array_equal(out, expected)


def test_scalars_small_and_empty_inputs() -> None:
    """ndim 0 arrives as a reference, fewer than 8 elements in `constant`."""
    kernel = metal_kernel(
        "constexpr bool small = is_same_v<decltype(y), const constant float*>;\n"
        "o[thread_position_in_grid.x] = s + n + t + y[1] + y_shape[0] + e_shape[0] + (b ? 1 : 0);",
        "s n b t y e", header="using std::is_same_v;\n",
    )  # fmt: skip
    half = mx.array(0.25, mx.bfloat16)
    for size in (2, 7, 8):
        y = np.full(size, 2, np.float32)
        out = mapped(kernel, 0.5, 3, True, half, y, mx.zeros((0, 3)), threads=1, group=1)
        np.testing.assert_array_equal(out, [6.75 + size])


@pytest.mark.parametrize("row_contiguous", [True, False])
def test_strided_inputs(row_contiguous: bool) -> None:
    kernel = metal_kernel(
        "long i = thread_position_in_grid.x;\n"  # signed: one case has a negative stride
        "o[i] = x[elem_to_loc(i, x_shape, x_strides, x_ndim)];",
        ensure_row_contiguous=row_contiguous,
    )
    x = mx.arange(24.0).reshape(2, 3, 4)
    cases = [x, x.transpose(2, 0, 1), x[:, 1:, ::2], mx.broadcast_to(x[:, :, :1], (2, 3, 4)),
             x[:, ::-1], x.astype(mx.bfloat16).transpose(1, 0, 2)]  # fmt: skip
    for case in cases:
        (out,), trace = emulate_traced(
            kernel, inputs=[case], output_shapes=[case.shape], output_dtypes=[mx.float32],
            grid=(case.size, 1, 1), threadgroup=(8, 1, 1),
        )  # fmt: skip
        np.testing.assert_array_equal(out, np.array(case.astype(mx.float32)))
        assert trace.buffers[0].read == case.nbytes
    broadcast = emulate_traced(
        kernel, inputs=[cases[3]], output_shapes=[(2, 3, 4)], output_dtypes=[mx.float32],
        grid=(24, 1, 1), threadgroup=(8, 1, 1),
    )[1].buffers[0]  # fmt: skip
    assert broadcast.unique_read == (24 if row_contiguous else 6) * 4


@pytest.mark.parametrize("dtype", [mx.bool_, mx.uint8, mx.int64, mx.float16, mx.bfloat16], ids=str)
def test_types_round_trip_and_outputs_start_poisoned(dtype: mx.Dtype) -> None:
    kernel = metal_kernel("uint i = thread_position_in_grid.x; if (i < 9) o[i] = x[i];")
    x = mx.array([0, 1, 2, 3, 100, 5, 6, 7, 8]).astype(dtype)
    expected = np.array(x.astype(mx.float32))
    out = mapped(kernel, x, dtype=dtype, threads=12, group=12)
    np.testing.assert_array_equal(out[:9].astype(np.float32), expected)
    if np.issubdtype(out.dtype, np.floating):
        assert np.isnan(out[9:]).all()
    else:
        assert (np.array(out[9:]).view(np.uint8) == (1 if dtype == mx.bool_ else 0xA5)).all()
    filled = mapped(kernel, x, dtype=dtype, threads=12, group=12, init_value=1)
    np.testing.assert_array_equal(filled.astype(np.float32), [*expected, 1, 1, 1])


def test_same_name_other_source() -> None:
    x = np.arange(64, dtype=np.float32)
    for factor in (2, 3, 2):
        kernel = mx.fast.metal_kernel(
            name="same", input_names=["x"], output_names=["o"],
            source=f"o[thread_position_in_grid.x] = {factor} * x[thread_position_in_grid.x];",
        )  # fmt: skip
        np.testing.assert_array_equal(mapped(kernel, x), factor * x)


ATTRIBUTES = """
    uint3 p = thread_position_in_grid, g = threadgroup_position_in_grid;
    uint3 l = thread_position_in_threadgroup, size = threads_per_threadgroup;
    uint3 all = threads_per_grid, groups = threadgroups_per_grid;
    uint i = p.x + all.x * (p.y + all.y * p.z);
    uint values[] = {
        p.x, p.y, p.z, g.x, g.y, g.z, l.x, l.y, l.z, size.x, size.y, size.z, groups.x, groups.y,
        groups.z, thread_index_in_threadgroup, thread_index_in_simdgroup,
        simdgroup_index_in_threadgroup, simdgroups_per_threadgroup, threads_per_simdgroup,
        dispatch_threads_per_threadgroup.x};
    for (int j = 0; j < 21; ++j) o[i * 21 + j] = values[j];
"""


def test_positions_on_a_ragged_grid() -> None:
    grid, group = (10, 3, 3), (8, 8, 2)
    (out,) = emulate(
        metal_kernel(ATTRIBUTES, inputs=""), inputs=[], output_shapes=[(3, 3, 10, 21)],
        output_dtypes=[mx.uint32], grid=grid, threadgroup=group,
    )  # fmt: skip
    full = np.minimum(group, grid)
    for z, y, x in np.ndindex(3, 3, 10):
        p = np.array([x, y, z])
        at, local = p // full, p % full
        size = np.minimum(full, grid - at * full)
        index = local[0] + size[0] * (local[1] + size[1] * local[2])
        groups = -(-np.array(grid) // full)
        expected = [*p, *at, *local, *size, *groups, index, index % 32, index // 32,
                    -(-size.prod() // 32), 32, full[0]]  # fmt: skip
        np.testing.assert_array_equal(out[z, y, x], expected)


# ----------------------------------------------------------------------------- operations

SIMD = """
    uint i = thread_position_in_grid.x, lane = thread_index_in_simdgroup;
    int v = x[i];
    int values[] = {
        simd_sum(v), simd_max(v), simd_min(v), simd_or(v), simd_and(v), simd_xor(v),
        simd_prefix_exclusive_sum(v), simd_prefix_inclusive_sum(v), simd_broadcast(v, 3),
        simd_shuffle(v, (lane * 7) % 16), simd_shuffle_xor(v, 1), simd_shuffle_up(v, 2),
        simd_shuffle_down(v, 2), simd_all(v > -100), simd_all(v > 0), simd_any(v > 0),
        simd_any(v > 100), (int)(uint64_t)(simd_vote::vote_t)simd_ballot(v > 0),
        simd_broadcast_first(v), simd_shuffle_rotate_down(v, 1), simd_is_first()};
    for (int j = 0; j < 21; ++j) o[i * 21 + j] = values[j];
"""


@pytest.mark.parametrize("order", ORDERS)
def test_simd_operations(order: str) -> None:
    """Two SIMD-groups, the second of 18 lanes: lanes that do not exist contribute nothing."""
    x = np.random.default_rng(3).integers(-50, 50, 50).astype(np.int32)
    (out,) = emulate(
        metal_kernel(SIMD), inputs=[x], output_shapes=[(50, 21)], output_dtypes=[mx.int32],
        grid=(50, 1, 1), threadgroup=(50, 1, 1), order=order,
    )  # fmt: skip
    undefined = np.full(4, 0xA5, np.uint8).view(np.int32)[0]
    for v, got in ((x[:32], out[:32]), (x[32:], out[32:])):
        n, lane = len(v), np.arange(len(v))

        def take(source, v=v, n=n, undefined=undefined):
            return np.where(source < n, v[np.minimum(source, n - 1)], undefined)

        expected = [
            v.sum(), v.max(), v.min(), np.bitwise_or.reduce(v), np.bitwise_and.reduce(v),
            np.bitwise_xor.reduce(v), np.cumsum(v) - v, np.cumsum(v), v[3], v[(lane * 7) % 16],
            take(lane ^ 1), np.where(lane >= 2, v[np.maximum(lane - 2, 0)], v),
            np.where(lane < 30, take(lane + 2), v), 1, (v > 0).all(), (v > 0).any(), 0,
            np.array(((v > 0).astype(np.uint64) << lane.astype(np.uint64)).sum(), np.uint64)
            .astype(np.uint32).astype(np.int32),
            v[0], take((lane + 1) % 32), lane == 0,
        ]  # fmt: skip
        for column, values in enumerate(expected):
            np.testing.assert_array_equal(got[:, column], values, err_msg=str(column))


FUNCTIONS = """
    uint i = thread_position_in_grid.x;
    float a = x[i];
    half h = half(a);
    uint u = as_type<uint>(a);
    float values[] = {
        exp(a), exp2(a), precise::tanh(a), fast::exp(a), log(abs(a)), sqrt(abs(a)), rsqrt(abs(a)),
        floor(a), sign(a), fma(a, a, 1.0f), clamp(a, -1.0f, 1.0f), mix(a, 2.0f, 0.25f),
        step(0.5f, a), select(a, 1.0f, a < 0), min(a, 0.5f), max(a, NAN), pow(abs(a), 1.5f),
        float(exp(h)), a * 1.0 / 3.0, float(popcount(u)), float(ctz(u)), float(clz(u)),
        float(ctz(0u) + clz(0ul)), float(popcount(uint8_t(u))), float(clz(ushort(u))),
        as_type<float>(u), float(h * 3.0h), float(bfloat(a)), numeric_limits<half>::max(),
        float(as_type<ushort>(h))};
    for (int j = 0; j < 30; ++j) o[i * 30 + j] = values[j];
"""


def test_functions() -> None:
    x = np.random.default_rng(4).normal(0, 2, 40).astype(np.float32)
    (out,) = emulate(
        metal_kernel(FUNCTIONS), inputs=[x], output_shapes=[(40, 30)], output_dtypes=[mx.float32],
        grid=(40, 1, 1), threadgroup=(8, 1, 1),
    )  # fmt: skip
    u, h, size = x.view(np.uint32), x.astype(np.float16), np.abs(x)
    bits = [f"{word:032b}" for word in u]
    short = [word[16:] for word in bits]

    def leading(words: list[str]) -> list[int]:
        return [len(word) - len(word.lstrip("0")) for word in words]

    expected = [
        np.exp(x), np.exp2(x), np.tanh(x), np.exp(x), np.log(size), np.sqrt(size),
        1 / np.sqrt(size), np.floor(x), np.sign(x), x * x + 1, x.clip(-1, 1), x + (2 - x) / 4,
        x >= 0.5, np.where(x < 0, 1, x), np.minimum(x, 0.5), x, size**1.5, np.exp(h),
        x / np.float32(3), [b.count("1") for b in bits], leading([b[::-1] for b in bits]),
        leading(bits), np.full(40, 96),
        [b[24:].count("1") for b in bits], leading(short), x, h * np.float16(3),
        np.array(mx.array(x).astype(mx.bfloat16).astype(mx.float32)), np.full(40, 65504),
        h.view(np.uint16),
    ]  # fmt: skip
    for column, values in enumerate(expected):
        rtol = 1e-3 if column in (17, 26) else 3e-6
        np.testing.assert_allclose(out[:, column], values, rtol, 1e-7, err_msg=str(column))


VECTORS = """
    uint i = thread_position_in_grid.x;
    const device float4* rows = reinterpret_cast<const device float4*>(x);
    float4 a = rows[i], b = 2.0f * a + float4(1, 2, 3, 4);
    b += a;
    uchar4 bytes = as_type<uchar4>(0x04030201u);
    uint2 pair = uint2(i, 7) ^ uint2(1);
    half4 narrow = half4(b);
    float sum = dot(a, b) + float(bytes.w) + float(pair.x + pair.y) + (any(a > b) ? 0.5f : 0.0f);
    device float4* out = (device float4*)o;
    out[i] = select(float4(sum, b.x, float(narrow.y), b[2]), float4(0), bool4(false));
"""


def test_vectors() -> None:
    x = np.arange(32, dtype=np.float32).reshape(8, 4)
    (out,), trace = emulate_traced(
        metal_kernel(VECTORS), inputs=[x], output_shapes=[(8, 4)], output_dtypes=[mx.float32],
        grid=(8, 1, 1), threadgroup=(8, 1, 1),
    )  # fmt: skip
    b, i = 3 * x + [1, 2, 3, 4], np.arange(8)
    sums = (x * b).sum(1) + 4 + (i ^ 1) + 6
    np.testing.assert_array_equal(out, np.stack([sums, b[:, 0], b[:, 1], b[:, 2]], 1))
    assert (trace.read, trace.written) == (x.nbytes, out.nbytes)


LANGUAGE = """
    // threadgroup float not_this[3]; a comment's quote
    threadgroup float tile[BK][BK + 1]; threadgroup half4 rows[4], one; threadgroup T flag;
    const uint i = thread_position_in_grid.x, l = thread_position_in_threadgroup.x;
    if (l == 0) { flag = T(0); one = half4(1.0h, 2, 3, 4); }
    for (int r = l; r < BK * BK; r += threads_per_threadgroup.x) tile[r / BK][r % BK] = x[r];
    if (l < 4) rows[l] = half4(half(l));
    threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
    device float* p = o + i;
    *p = 0;
    *p += tile[l % BK][l / BK % BK];
    device float& r = o[i];
    r += float(rows[l % 4].x) + float(one.w) + float(flag);
    const device auto* q = x;
    const constant int* small = table;
    MLX_MTL_PRAGMA_UNROLL
    for (short j = 0; j < 2; j++) r += q[j] + small[index[i % 4]];
    float2 v = float2(1, 2) * 0.5;
    v.x += M_PI_F * 0;
    bool2 c = v > 0.75f;
    r += v.x + v.y + (c.y && !c.x && x[0] < INFINITY && x[0] < FLT_MAX ? 1 : 0);
    uint3 next = thread_position_in_grid;
    next = next + 1;
    r += max(next.y, next.z) * 1.0 + ceildiv(7, 2);
"""


@pytest.mark.parametrize("group", [32, 64, 1024])
def test_language(group: int) -> None:
    kernel = metal_kernel(
        LANGUAGE, "x index", header="constant int table[4] = {1, 2, 3, 4};\n#define BK 8\n"
    )
    x, index = np.arange(64, dtype=np.float32), np.array([3, 2, 1, 0], np.int32)
    out = mapped(kernel, x, index, threads=1024, group=group, template=[("T", mx.bfloat16)])
    i, local = np.arange(1024), np.arange(1024) % group
    tile = x[local % 8 * 8 + local // 8 % 8]
    np.testing.assert_array_equal(out, tile + local % 4 + 4 + 1 + 2 * (4 - i % 4) + 2.5 + 1 + 4)


ATOMICS = """
    uint i = thread_position_in_grid.x;
    int v = x[i];
    atomic_fetch_sub_explicit(&o[0], v, memory_order_relaxed);
    atomic_fetch_or_explicit(&o[1], v, memory_order_relaxed);
    atomic_fetch_and_explicit(&o[2], v, memory_order_relaxed);
    atomic_fetch_xor_explicit(&o[3], v, memory_order_relaxed);
    atomic_fetch_max_explicit(&o[4], v, memory_order_relaxed);
    atomic_fetch_min_explicit(&o[5], v, memory_order_relaxed);
    int seen = atomic_load_explicit(&o[6], memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(
        &o[6], &seen, seen + v, memory_order_relaxed, memory_order_relaxed)) {}
    threadgroup atomic_int total;
    if (thread_index_in_threadgroup == 0) atomic_store_explicit(&total, 0, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    atomic_fetch_add_explicit(&total, v, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (thread_index_in_threadgroup == 0)
        atomic_fetch_add_explicit(
            &o[7], atomic_load_explicit(&total, memory_order_relaxed), memory_order_relaxed);
"""


@pytest.mark.parametrize("order", ORDERS)
def test_atomics(order: str) -> None:
    x = np.random.default_rng(5).integers(1, 1000, 200).astype(np.int32)
    (out,) = emulate(
        metal_kernel(ATOMICS, atomic_outputs=True), inputs=[x], output_shapes=[(8,)], init_value=8,
        output_dtypes=[mx.int32], grid=(200, 1, 1), threadgroup=(64, 1, 1), order=order,
    )  # fmt: skip
    reduce = np.bitwise_or.reduce(x), np.bitwise_and.reduce(x), np.bitwise_xor.reduce(x)
    np.testing.assert_array_equal(
        out,
        [8 - x.sum(), 8 | reduce[0], 8 & reduce[1], 8 ^ reduce[2], max(8, x.max()),
         min(8, x.min()), 8 + x.sum(), 8 + x.sum()],
    )  # fmt: skip
