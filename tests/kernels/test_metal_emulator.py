"""The Metal emulator: what it computes, what it refuses, what it counts."""

from __future__ import annotations

import threading
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from emulated_kernels import ORDERS, mapped, metal_kernel

from neurosim.kernels import metal_emulator
from neurosim.kernels.metal_emulator import (
    MetalError,
    _compile,
    emulate,
    emulate_traced,
    unavailable,
)

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


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
    kernel = metal_kernel(LIF, "x p", "bits counts")
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
    kernel = metal_kernel(TILED, "q k", header="constant constexpr int BK = 8;\n")
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
    kernel = metal_kernel(
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
        case 18: y = (tile + 60)[i]; break;
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
        (10, r"out-of-bounds index \d+ of an array 'float \[64\]' .*source line"),
        (11, r"read of 4 bytes at an address outside every buffer"),
        (12, r"(out-of-bounds write .* o\[127\]|data race)"),
        (13, r"write of 4 bytes to the input x\[\d+\]"),
        (14, r"data race: write of 4 bytes at o\[0\]"),
        (18, r"out-of-bounds read of 4 bytes at threadgroup memory, byte"),
    ],
    ids=str,
)
def test_faults_are_refused(mode: int, message: str, order: str) -> None:
    with pytest.raises(MetalError, match=message):
        mapped(metal_kernel(**FAULT_KERNEL), np.ones(64, np.float32), mode, order=order, seed=3)


def test_faults_name_the_source_line() -> None:
    line = 2 + next(n for n, text in enumerate(FAULTS.split("\n")) if "case 8:" in text)
    with pytest.raises(MetalError, match="source line (\\d+)") as error:
        mapped(metal_kernel(**FAULT_KERNEL), np.ones(64, np.float32), 8)
    assert f"source line {line - 1}" in str(error.value)


@pytest.mark.parametrize("order", ORDERS)
def test_what_looks_like_a_fault_and_is_none(order: str) -> None:
    x, threads = np.arange(64, dtype=np.float32), np.arange(64)
    kernel = metal_kernel(**FAULT_KERNEL)
    np.testing.assert_array_equal(mapped(kernel, x, 0, order=order), x[::-1])
    np.testing.assert_array_equal(mapped(kernel, x, 16, order=order), threads ^ 1)
    np.testing.assert_array_equal(mapped(kernel, x, 17, order=order), [7] + [0] * 63)
    returned = mapped(kernel, x, 15, order=order)
    np.testing.assert_array_equal(returned[threads % 32 <= 9], 10)
    assert np.isnan(returned[threads % 32 > 9]).all()  # never written
    assert np.isfinite(mapped(kernel, x, 14, order=order, check_races=False)[1:]).all()


def test_lanes_that_ended_do_not_take_part() -> None:
    """Lanes that return make an operation partial; lanes that go on make it divergent only if
    they meet another operation, which a branch's end is not."""
    out = mapped(metal_kernel(**FAULT_KERNEL), np.ones(64, np.float32), 6)
    np.testing.assert_array_equal(out, np.where(np.arange(64) % 32 < 16, 16, 0))


def test_a_missing_barrier_shows_in_shuffled_order() -> None:
    x, kernel = np.arange(64, dtype=np.float32), metal_kernel(**FAULT_KERNEL)
    for order in ORDERS:
        out = mapped(kernel, x, 1, order=order, check_races=False)
        assert np.isnan(out).any()  # poison of the threadgroup memory
        assert not np.array_equal(out, x[::-1])
    seeds = [mapped(kernel, x, 1, order="shuffled", seed=s, check_races=False) for s in (0, 0, 1)]
    np.testing.assert_array_equal(seeds[0], seeds[1])
    assert not np.array_equal(seeds[0], seeds[2], equal_nan=True)


def test_race_between_threadgroups() -> None:
    kernel = metal_kernel(
        "uint g = threadgroup_position_in_grid.x, i = thread_position_in_grid.x;\n"
        "if (g == 0) o[i] = x[i];\n"
        "threadgroup_barrier(mem_flags::mem_device);\n"
        "if (g == 1) o[i] = o[i - 32];\n"
    )
    for order in ORDERS:
        with pytest.raises(MetalError, match="threads of another threadgroup also touched"):
            mapped(kernel, np.ones(64, np.float32), group=32, order=order)


def test_threadgroup_memory_limit() -> None:
    source = "threadgroup float a[N / 2], b[N / 2]; uint i = thread_position_in_grid.x;\n"
    kernel = metal_kernel(source + "a[i] = x[i]; b[i] = a[i]; o[i] = b[i];")
    x = np.ones(64, np.float32)
    np.testing.assert_array_equal(mapped(kernel, x, template=[("N", 8192)]), x)
    with pytest.raises(MetalError, match="at most 32768 bytes of threadgroup memory, got 32788"):
        mapped(kernel, x, template=[("N", 8194)])


COPY = "o[thread_position_in_grid.x] = x[thread_position_in_grid.x];"


def test_sizes_are_checked() -> None:
    x = np.ones(64, np.float32)
    kernel = metal_kernel(COPY)
    with pytest.raises(MetalError, match="at most 1024 threads in a threadgroup, got 1025"):
        mapped(kernel, x, group=1025)
    np.testing.assert_array_equal(mapped(kernel, x, group=1024), x)
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
        mapped(metal_kernel(COPY), x, order="random")
    with pytest.raises(MetalError, match="Expected `inputs` to have size 1"):
        mapped(metal_kernel(COPY), x, x)
    with pytest.raises(MetalError, match=r"expected an mx.fast.metal_kernel, .* 0 of them"):
        mapped(lambda inputs, **_: inputs[0], x)
    with pytest.raises(MetalError, match="got .*complex64"):
        mapped(metal_kernel(COPY), mx.zeros((64,), mx.complex64))
    with pytest.raises(MetalError, match="ASCII source.*'µ'"):
        mapped(metal_kernel(COPY + " // µ"), x)
    with pytest.raises(MetalError, match="at most 31 buffers.* got 32"):
        names = [f"x{i}" for i in range(31)]
        mapped(metal_kernel("o[thread_position_in_grid.x] = x0[0];", " ".join(names)), *[x] * 31)


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
        mapped(metal_kernel(source), np.ones(64, np.float32))


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MetalError, match=r"expected the compiler g\+\+ .*apt install g\+\+"):
        mapped(metal_kernel(COPY), np.ones(64, np.float32))


# -------------------------------------------------------------------------------- the cache


def test_cache_is_filled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROSIM_CACHE", str(tmp_path))
    x, kernel = np.ones(64, np.float32), metal_kernel(COPY)
    mapped(kernel, x)
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "metal").iterdir()}
    assert sorted(Path(name).suffix for name in files) == [".o", ".so"]  # no scratch left
    _compile._library.cache_clear()  # as in a new process
    monkeypatch.setattr(_compile, "_build", None)
    np.testing.assert_array_equal(mapped(kernel, x), x)
    assert files == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "metal").iterdir()}


def test_checks_belong_to_the_compiler_and_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROSIM_CACHE", str(tmp_path))
    x, kernel = np.ones(64, np.float32), metal_kernel(COPY)
    assert any("bounds-strict" in option for option in _compile._checks(True))
    for n, checks in enumerate([_compile._CHECKS, ("-fsanitize=bounds",)], 1):
        monkeypatch.setattr(_compile, "_CHECKS", checks)
        mapped(kernel, x)
        assert len(list(tmp_path.glob("metal/*.so"))) == n
    monkeypatch.undo()
    monkeypatch.setattr(_compile, "_compiler", lambda: "Apple clang version 16.0.0")
    assert any("=array-bounds," in option for option in _compile._checks(False))


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEUROSIM_CACHE", str(tmp_path / "file"))
    with pytest.raises(MetalError, match="cannot write compiled kernels to .*set NEUROSIM_CACHE"):
        mapped(metal_kernel(COPY), np.ones(64, np.float32))


def test_portable_fibers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ucontext fallback of other processors."""
    monkeypatch.setenv("NEUROSIM_CACHE", str(tmp_path))
    monkeypatch.setattr(_compile, "_OPTIONS", (*_compile._OPTIONS, "-DEMULATOR_UCONTEXT"))
    _compile._fingerprint.cache_clear()
    x = np.arange(64, dtype=np.float32)
    np.testing.assert_array_equal(
        mapped(metal_kernel(**FAULT_KERNEL), x, 0, order="shuffled"), x[::-1]
    )
    _compile._fingerprint.cache_clear()


def test_threads_may_share_a_kernel() -> None:
    kernel, x = metal_kernel(COPY), np.arange(64, dtype=np.float32)
    results: dict[int, np.ndarray] = {}

    def work(factor: int) -> None:
        results[factor] = mapped(kernel, factor * x, order="shuffled", seed=factor)

    threads = [threading.Thread(target=work, args=(factor,)) for factor in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for factor in range(4):
        np.testing.assert_array_equal(results[factor], factor * x)


def test_exports() -> None:
    assert sorted(metal_emulator.__all__) == metal_emulator.__all__
