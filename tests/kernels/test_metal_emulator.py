"""The Metal emulator: what it computes, what it refuses, what it counts."""

from __future__ import annotations

import threading
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels import metal_emulator
from neurosim.kernels.metal_emulator import (
    MetalError,
    _compile,
    emulate,
    emulate_traced,
    unavailable,
)

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

ORDERS = ("forward", "reverse", "shuffled")


def _kernel(source: str, inputs: str = "x", outputs: str = "o", **options):
    return mx.fast.metal_kernel(
        name="test", input_names=inputs.split(), output_names=outputs.split(),
        source=source, **options,
    )  # fmt: skip


def _map(kernel, *inputs, dtype=mx.float32, threads=64, group=64, **options):
    """One output of one element per thread."""
    (out,) = emulate(
        kernel, inputs=inputs, output_shapes=[(threads,)], output_dtypes=[dtype],
        grid=(threads, 1, 1), threadgroup=(group, 1, 1), **options,
    )  # fmt: skip
    return out


# --------------------------------------------------------------------------- whole kernels

LIF = """
    uint n = thread_position_in_grid.x, lane = thread_index_in_simdgroup;
    int steps = x_shape[0], neurons = x_shape[1];
    float v = 0;
    uint count = 0;
    for (int t = 0; t < steps; ++t) {
        v = p[0] * v + float(x[t * neurons + n]);
        bool s = v > p[1];
        v = s ? v - p[1] : v;
        count += s;
        uint word = (uint)(uint64_t)(simd_vote::vote_t)simd_ballot(s);
        if (lane == 0) bits[t * (neurons / 32) + n / 32] = word;
    }
    uint total = simd_sum(count);
    if (lane == 0) counts[n / 32] = total;
"""


@pytest.mark.parametrize("order", ORDERS)
def test_lif_scan_packs_spikes_by_ballot(order: str) -> None:
    rng = np.random.default_rng(0)
    steps, neurons = 12, 128
    x = rng.normal(0.3, 0.5, (steps, neurons)).astype(np.float16)
    kernel = _kernel(LIF, "x p", "bits counts")
    (bits, counts), trace = emulate_traced(
        kernel, inputs=[x, mx.array([0.875, 1.0])], grid=(neurons, 1, 1), threadgroup=(64, 1, 1),
        output_shapes=[(steps, neurons // 32), (neurons // 32,)],
        output_dtypes=[mx.uint32, mx.uint32], order=order,
    )  # fmt: skip
    v, spikes = np.zeros(neurons, np.float32), np.zeros((steps, neurons), bool)
    for t in range(steps):
        v = np.float32(0.875) * v + x[t].astype(np.float32)
        spikes[t] = v > 1
        v = v - spikes[t]
    packed = np.packbits(spikes, axis=1, bitorder="little").view(np.uint32)
    np.testing.assert_array_equal(bits, packed)
    np.testing.assert_array_equal(counts, spikes.sum(0).reshape(-1, 32).sum(1))
    traffic = {buffer.name: buffer for buffer in trace.buffers}
    assert traffic["x"].read == traffic["x"].unique_read == x.nbytes
    assert traffic["bits"].written == traffic["bits"].unique_written == bits.nbytes
    assert traffic["x"].written == traffic["bits"].read == 0
    assert trace.per_thread()["ballot"] == steps
    assert (trace.operations["reduce"], trace.barriers) == (neurons, 0)
    assert (trace.threads, trace.threadgroups, trace.threadgroup_memory) == (neurons, 2, 0)


TILED = """
    threadgroup uint tile[BK * W];
    uint row = thread_position_in_grid.y, first = thread_position_in_threadgroup.x;
    uint threads = threads_per_threadgroup.x * threads_per_threadgroup.y;
    int tokens = q_shape[0];
    for (int k0 = 0; k0 < tokens; k0 += BK) {
        for (uint i = thread_index_in_threadgroup; i < BK * W; i += threads)
            tile[i] = k[k0 * W + i];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (int j = first; j < BK; j += threads_per_threadgroup.x) {
            uint sum = 0;
            for (int w = 0; w < W; ++w) sum += popcount(q[row * W + w] & tile[j * W + w]);
            o[row * tokens + k0 + j] = T(sum);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
"""


@pytest.mark.parametrize("order", ORDERS)
def test_tiled_popcount_scores(order: str) -> None:
    rng = np.random.default_rng(1)
    tokens, words = 32, 2
    q, k = (rng.integers(0, 2**32, (tokens, words), dtype=np.uint32) for _ in range(2))
    kernel = _kernel(TILED, "q k", header="constant constexpr int BK = 8;\n")
    (out,), trace = emulate_traced(
        kernel, inputs=[q, k], template=[("T", mx.float32), ("W", words)], grid=(4, tokens, 1),
        threadgroup=(4, 16, 1), output_shapes=[(tokens, tokens)], output_dtypes=[mx.float32],
        order=order,
    )  # fmt: skip
    q_bits, k_bits = (np.unpackbits(a.view(np.uint8), axis=1).astype(int) for a in (q, k))
    np.testing.assert_array_equal(out, q_bits @ k_bits.T)
    assert trace.threadgroup_memory == 8 * words * 4
    assert trace.threadgroup_written == 2 * k.nbytes  # two threadgroups fill all tiles
    assert trace.threadgroup_read == tokens * tokens * words * 4
    assert trace.barriers == 2 * 2 * tokens // 8
    assert trace.operations["popcount"] == tokens * tokens * words


@pytest.mark.parametrize("order", ORDERS)
def test_histogram_by_atomics_on_a_ragged_grid(order: str) -> None:
    x = mx.array(np.random.default_rng(2).random(1000) * 0.99).astype(mx.bfloat16)
    kernel = _kernel(
        "int bin = int(float(x[thread_position_in_grid.x]) * 8);\n"
        "atomic_fetch_add_explicit(&o[bin], 1u, memory_order_relaxed);",
        atomic_outputs=True,
    )
    (out,), trace = emulate_traced(
        kernel, inputs=[x], grid=(1000, 1, 1), threadgroup=(256, 1, 1), output_shapes=[(8,)],
        output_dtypes=[mx.uint32], init_value=0, order=order,
    )  # fmt: skip
    bins = (np.array(x.astype(mx.float32)) * 8).astype(int)
    np.testing.assert_array_equal(out, np.bincount(bins, minlength=8))
    histogram = trace.buffers[1]
    assert (histogram.read, histogram.written, histogram.unique_written) == (4000, 4000, 32)
    assert (trace.threads, trace.operations["atomic"]) == (1000, 1000)


# ------------------------------------------------------------------------ what is refused

FAULTS = """
    uint i = thread_position_in_grid.x;
    threadgroup float tile[64];
    tile[i] = x[i];
    float y = 0;
    switch (mode) {
        case 0: threadgroup_barrier(mem_flags::mem_threadgroup); y = tile[63 - i]; break;
        case 1: y = tile[63 - i]; break;
        case 2: threadgroup_barrier(mem_flags::mem_device); y = tile[63 - i]; break;
        case 3: if (i % 2 == 0) threadgroup_barrier(mem_flags::mem_threadgroup); break;
        case 4:
            if (i < 32) threadgroup_barrier(mem_flags::mem_threadgroup);
            else threadgroup_barrier(mem_flags::mem_threadgroup);
            break;
        case 5: if (i > 40) return; threadgroup_barrier(mem_flags::mem_threadgroup); break;
        case 6: if (i % 32 < 16) y = simd_sum(x[i]); break;
        case 7: y = i < 7 ? simd_sum(x[i]) : simd_max(x[i]); break;
        case 8: y = x[i + 1]; break;
        case 9: y = x[int(i) - 1]; break;
        case 10: y = tile[i + 60]; break;
        case 11: y = x[i + (1 << 28)]; break;
        case 12: o[i + 1 + 63 * (i == 63)] = 0; break;
        case 13: const_cast<device float*>(x)[i] = 0; break;
        case 14: o[0] = x[i]; break;
        case 15: if (i % 32 > 9) return; y = simd_sum(1.0f); break;
        case 16:
            tile[i] = i;
            simdgroup_barrier(mem_flags::mem_threadgroup);
            y = tile[i ^ 1];
            break;
        case 17: y = mode_table[i]; break;
    }
    o[i] = y;
"""
FAULT_KERNEL = dict(source=FAULTS, inputs="x mode", header="constant float mode_table[64] = {7};\n")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (1, r"data race: .* threadgroup memory.*barrier"),
        (2, r"data race: .* threadgroup memory.*mem_flags"),
        (3, r"divergent threadgroup_barrier: .*returned"),
        (4, r"divergent threadgroup_barrier: .*same one"),
        (5, r"divergent threadgroup_barrier: .*23 threads that returned"),
        (7, r"divergent simd_(sum|max): thread .*source line 1[0-9]"),
        (8, r"out-of-bounds read of 4 bytes at x\[64\], .*64 elements .*\(63, 0, 0\)"),
        (9, r"out-of-bounds read of 4 bytes at x\[-1\], .*\(0, 0, 0\)"),
        (10, r"out-of-bounds read of 4 bytes at threadgroup memory, byte"),
        (11, r"read of 4 bytes at an address outside every buffer"),
        (12, r"(out-of-bounds write .* o\[127\]|data race)"),
        (13, r"write of 4 bytes to the input x\[\d+\]"),
        (14, r"data race: write of 4 bytes at o\[0\]"),
    ],
    ids=str,
)
def test_faults_are_refused(mode: int, message: str, order: str) -> None:
    with pytest.raises(MetalError, match=message):
        _map(_kernel(**FAULT_KERNEL), np.ones(64, np.float32), mode, order=order, seed=3)


def test_faults_name_the_source_line() -> None:
    line = 2 + next(n for n, text in enumerate(FAULTS.split("\n")) if "case 8:" in text)
    with pytest.raises(MetalError, match="source line (\\d+)") as error:
        _map(_kernel(**FAULT_KERNEL), np.ones(64, np.float32), 8)
    assert f"source line {line - 1}" in str(error.value)


@pytest.mark.parametrize("order", ORDERS)
def test_what_looks_like_a_fault_and_is_none(order: str) -> None:
    x, threads = np.arange(64, dtype=np.float32), np.arange(64)
    kernel = _kernel(**FAULT_KERNEL)
    np.testing.assert_array_equal(_map(kernel, x, 0, order=order), x[::-1])
    np.testing.assert_array_equal(_map(kernel, x, 16, order=order), threads ^ 1)
    np.testing.assert_array_equal(_map(kernel, x, 17, order=order), [7] + [0] * 63)
    returned = _map(kernel, x, 15, order=order)
    np.testing.assert_array_equal(returned[threads % 32 <= 9], 10)
    assert np.isnan(returned[threads % 32 > 9]).all()  # never written
    assert np.isfinite(_map(kernel, x, 14, order=order, check_races=False)[1:]).all()


def test_lanes_that_ended_do_not_take_part() -> None:
    """Lanes that return make an operation partial; lanes that go on make it divergent only if
    they meet another operation, which a branch's end is not."""
    out = _map(_kernel(**FAULT_KERNEL), np.ones(64, np.float32), 6)
    np.testing.assert_array_equal(out, np.where(np.arange(64) % 32 < 16, 16, 0))


def test_a_missing_barrier_shows_in_shuffled_order() -> None:
    x, kernel = np.arange(64, dtype=np.float32), _kernel(**FAULT_KERNEL)
    for order in ORDERS:
        out = _map(kernel, x, 1, order=order, check_races=False)
        assert np.isnan(out).any()  # poison of the threadgroup memory
        assert not np.array_equal(out, x[::-1])
    seeds = [_map(kernel, x, 1, order="shuffled", seed=s, check_races=False) for s in (0, 0, 1)]
    np.testing.assert_array_equal(seeds[0], seeds[1])
    assert not np.array_equal(seeds[0], seeds[2], equal_nan=True)


def test_race_between_threadgroups() -> None:
    kernel = _kernel(
        "uint g = threadgroup_position_in_grid.x, i = thread_position_in_grid.x;\n"
        "if (g == 0) o[i] = x[i];\n"
        "threadgroup_barrier(mem_flags::mem_device);\n"
        "if (g == 1) o[i] = o[i - 32];\n"
    )
    for order in ORDERS:
        with pytest.raises(MetalError, match="threads of another threadgroup also touched"):
            _map(kernel, np.ones(64, np.float32), group=32, order=order)


def test_threadgroup_memory_limit() -> None:
    source = "threadgroup float a[N / 2], b[N / 2]; uint i = thread_position_in_grid.x;\n"
    kernel = _kernel(source + "a[i] = x[i]; b[i] = a[i]; o[i] = b[i];")
    x = np.ones(64, np.float32)
    np.testing.assert_array_equal(_map(kernel, x, template=[("N", 8192)]), x)
    with pytest.raises(MetalError, match="at most 32768 bytes of threadgroup memory, got 32788"):
        _map(kernel, x, template=[("N", 8194)])


COPY = "o[thread_position_in_grid.x] = x[thread_position_in_grid.x];"


def test_sizes_are_checked() -> None:
    x = np.ones(64, np.float32)
    kernel = _kernel(COPY)
    with pytest.raises(MetalError, match="at most 1024 threads in a threadgroup, got 1025"):
        _map(kernel, x, group=1025)
    np.testing.assert_array_equal(_map(kernel, x, group=1024), x)
    for grid in ((64, 1), (64, 0, 1)):
        with pytest.raises(MetalError, match="three positive sizes as grid"):
            emulate(kernel, inputs=[x], output_shapes=[(64,)], output_dtypes=[mx.float32],
                    grid=grid, threadgroup=(1, 1, 1))  # fmt: skip
    with pytest.raises(MetalError, match=r"fewer than 2\^31 threads"):
        emulate(kernel, inputs=[x], output_shapes=[(1,)], output_dtypes=[mx.float32],
                grid=(2**16, 2**16, 1), threadgroup=(1, 1, 1))  # fmt: skip


def test_bad_calls() -> None:
    x = np.ones(64, np.float32)
    with pytest.raises(MetalError, match="expected order forward, reverse, shuffled; got 'random'"):
        _map(_kernel(COPY), x, order="random")
    with pytest.raises(MetalError, match="Expected `inputs` to have size 1"):
        _map(_kernel(COPY), x, x)
    with pytest.raises(MetalError, match=r"expected an mx.fast.metal_kernel, .* 0 of them"):
        _map(lambda inputs, **_: inputs[0], x)
    with pytest.raises(MetalError, match="got .*complex64"):
        _map(_kernel(COPY), mx.zeros((64,), mx.complex64))
    with pytest.raises(MetalError, match="ASCII source.*'µ'"):
        _map(_kernel(COPY + " // µ"), x)
    with pytest.raises(MetalError, match="at most 31 buffers.* got 32"):
        names = [f"x{i}" for i in range(31)]
        _map(_kernel("o[thread_position_in_grid.x] = x0[0];", " ".join(names)), *[x] * 31)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("uint i = 0;\no[i] = undefined_name;", "source:2:.*undefined_name"),
        ("double y = 1; o[0] = y;", "double"),
        ("float big[8192]; for (int j = 0; j < 8192; ++j) big[j] = x[j % 9];\n"
         "o[0] = big[int(x[0])];", "frame size"),
    ],
)  # fmt: skip
def test_what_does_not_compile(source: str, message: str) -> None:
    with pytest.raises(MetalError, match=message):
        _map(_kernel(source), np.ones(64, np.float32))


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MetalError, match=r"expected the compiler g\+\+ .*apt install g\+\+"):
        _map(_kernel(COPY), np.ones(64, np.float32))


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
    kernel = _kernel(
        "threadgroup float tile[64]; uint i = thread_position_in_threadgroup.x;\n"
        "put(tile, i, total<float, N>(x, thread_position_in_grid.x));\n"
        "threadgroup float* mine = tile + i; thread float value = *mine;\n"
        "if (NEGATE) value = -value;\n"
        "o[thread_position_in_grid.x] = static_cast<T>(value);",
        header=header,
    )
    x = np.arange(128, dtype=np.float32)
    for count, negate, dtype in ((1, False, mx.float32), (2, True, mx.float16)):
        out = _map(kernel, x, dtype=dtype,
                   template=[("T", dtype), ("N", count), ("NEGATE", negate)])  # fmt: skip
        expected = x[: 64 * count].reshape(64, count).sum(1) * (-1 if negate else 1)
        np.testing.assert_array_equal(out, expected)


def test_scalars_small_and_empty_inputs() -> None:
    """ndim 0 arrives as a reference, fewer than 8 elements in `constant`."""
    kernel = _kernel(
        "constexpr bool small = is_same_v<decltype(y), const constant float*>;\n"
        "o[thread_position_in_grid.x] = s + n + t + y[1] + y_shape[0] + e_shape[0] + (b ? 1 : 0);",
        "s n b t y e", header="using std::is_same_v;\n",
    )  # fmt: skip
    half = mx.array(0.25, mx.bfloat16)
    for size in (2, 7, 8):
        y = np.full(size, 2, np.float32)
        out = _map(kernel, 0.5, 3, True, half, y, mx.zeros((0, 3)), threads=1, group=1)
        np.testing.assert_array_equal(out, [6.75 + size])


@pytest.mark.parametrize("row_contiguous", [True, False])
def test_strided_inputs(row_contiguous: bool) -> None:
    kernel = _kernel(
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
    kernel = _kernel("uint i = thread_position_in_grid.x; if (i < 9) o[i] = x[i];")
    x = mx.array([0, 1, 2, 3, 100, 5, 6, 7, 8]).astype(dtype)
    expected = np.array(x.astype(mx.float32))
    out = _map(kernel, x, dtype=dtype, threads=12, group=12)
    np.testing.assert_array_equal(out[:9].astype(np.float32), expected)
    if np.issubdtype(out.dtype, np.floating):
        assert np.isnan(out[9:]).all()
    else:
        assert (np.array(out[9:]).view(np.uint8) == (1 if dtype == mx.bool_ else 0xA5)).all()
    filled = _map(kernel, x, dtype=dtype, threads=12, group=12, init_value=1)
    np.testing.assert_array_equal(filled.astype(np.float32), [*expected, 1, 1, 1])


def test_same_name_other_source() -> None:
    x = np.arange(64, dtype=np.float32)
    for factor in (2, 3, 2):
        kernel = mx.fast.metal_kernel(
            name="same", input_names=["x"], output_names=["o"],
            source=f"o[thread_position_in_grid.x] = {factor} * x[thread_position_in_grid.x];",
        )  # fmt: skip
        np.testing.assert_array_equal(_map(kernel, x), factor * x)


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
        _kernel(ATTRIBUTES, inputs=""), inputs=[], output_shapes=[(3, 3, 10, 21)],
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
        _kernel(SIMD), inputs=[x], output_shapes=[(50, 21)], output_dtypes=[mx.int32],
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
        _kernel(FUNCTIONS), inputs=[x], output_shapes=[(40, 30)], output_dtypes=[mx.float32],
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
        _kernel(VECTORS), inputs=[x], output_shapes=[(8, 4)], output_dtypes=[mx.float32],
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
    kernel = _kernel(
        LANGUAGE, "x index", header="constant int table[4] = {1, 2, 3, 4};\n#define BK 8\n"
    )
    x, index = np.arange(64, dtype=np.float32), np.array([3, 2, 1, 0], np.int32)
    out = _map(kernel, x, index, threads=1024, group=group, template=[("T", mx.bfloat16)])
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
        _kernel(ATOMICS, atomic_outputs=True), inputs=[x], output_shapes=[(8,)], init_value=8,
        output_dtypes=[mx.int32], grid=(200, 1, 1), threadgroup=(64, 1, 1), order=order,
    )  # fmt: skip
    reduce = np.bitwise_or.reduce(x), np.bitwise_and.reduce(x), np.bitwise_xor.reduce(x)
    np.testing.assert_array_equal(
        out,
        [8 - x.sum(), 8 | reduce[0], 8 & reduce[1], 8 ^ reduce[2], max(8, x.max()),
         min(8, x.min()), 8 + x.sum(), 8 + x.sum()],
    )  # fmt: skip


# -------------------------------------------------------------------------------- the cache


def test_cache_is_filled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROSIM_CACHE", str(tmp_path))
    x, kernel = np.ones(64, np.float32), _kernel(COPY)
    _map(kernel, x)
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "metal").iterdir()}
    assert sorted(Path(name).suffix for name in files) == [".o", ".so"]  # no scratch left
    _compile._library.cache_clear()  # as in a new process
    monkeypatch.setattr(_compile, "_build", None)
    np.testing.assert_array_equal(_map(kernel, x), x)
    assert files == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "metal").iterdir()}


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEUROSIM_CACHE", str(tmp_path / "file"))
    with pytest.raises(MetalError, match="cannot write compiled kernels to .*set NEUROSIM_CACHE"):
        _map(_kernel(COPY), np.ones(64, np.float32))


def test_portable_fibers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ucontext fallback of other processors."""
    monkeypatch.setenv("NEUROSIM_CACHE", str(tmp_path))
    monkeypatch.setattr(_compile, "_OPTIONS", (*_compile._OPTIONS, "-DEMULATOR_UCONTEXT"))
    _compile._fingerprint.cache_clear()
    x = np.arange(64, dtype=np.float32)
    np.testing.assert_array_equal(_map(_kernel(**FAULT_KERNEL), x, 0, order="shuffled"), x[::-1])
    _compile._fingerprint.cache_clear()


def test_threads_may_share_a_kernel() -> None:
    kernel, x = _kernel(COPY), np.arange(64, dtype=np.float32)
    results: dict[int, np.ndarray] = {}

    def work(factor: int) -> None:
        results[factor] = _map(kernel, factor * x, order="shuffled", seed=factor)

    threads = [threading.Thread(target=work, args=(factor,)) for factor in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for factor in range(4):
        np.testing.assert_array_equal(results[factor], factor * x)


def test_exports() -> None:
    assert sorted(metal_emulator.__all__) == metal_emulator.__all__
