"""Spike linear of packed spikes and weights: every algorithm against an integer matrix product."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from test_packed_weight import ALL_BITS, some_weight

from neurosim.kernels import PackedSpikes, PackedWeight, _dispatch, pack, spike_linear

ALGORITHMS = ("gather", "lut", "pattern", "dense", "auto")
AWKWARD = (1, 63, 64, 65, 123, 192, 1000)


def some_counts(
    rng: np.random.Generator, shape: tuple[int, ...], density: float, levels: int, signed: bool
) -> np.ndarray:
    """Counts up to the levels, `density` of them not 0."""
    counts = rng.integers(1, levels + 1, shape) * rng.choice([-1, 1] if signed else [1], shape)
    return np.where(rng.random(shape) < density, counts, 0).astype(np.int8)


def check(
    counts: np.ndarray, packed: PackedSpikes, weight: PackedWeight, algo: str, threads: int = 1
) -> None:
    """Integers are exact; floats within the error of any order of summation."""
    out = spike_linear(packed, weight, algo, threads=threads)
    assert out.shape == (*counts.shape[:-1], weight.shape[1])
    if weight.integer:
        assert out.dtype == np.int32
        exact = counts.astype(np.int64) @ weight.unpack().astype(np.int64)
        np.testing.assert_array_equal(out, exact, err_msg=algo)
        return
    assert out.dtype == np.float32
    values = weight.unpack().astype(np.float64)
    scale = np.abs(counts.astype(np.float64)) @ np.abs(values)
    error = np.abs(out - counts.astype(np.float64) @ values)
    assert (error <= 2e-6 * scale + 1e-30).all(), (algo, error.max())


def cannot_run(algo: str, counts: np.ndarray, packed: PackedSpikes) -> bool:
    return algo == "pattern" and (len(packed) > 1 or int(np.prod(counts.shape[:-1])) % 4 > 0)


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("outputs", AWKWARD)
def test_awkward_sizes(outputs: int, bits: int) -> None:
    rng = np.random.default_rng(outputs)
    for inputs in AWKWARD:
        counts = some_counts(rng, (4, inputs), 0.4, 1, False)
        weight = PackedWeight.pack(some_weight(rng, (inputs, outputs), bits), bits)
        for algo in ALGORITHMS:
            check(counts, pack(counts), weight, algo)


@pytest.mark.parametrize("panel", [64, 128])
@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize(
    ("levels", "signed", "code"),
    [
        (1, True, "thermometer"),
        (2, False, "thermometer"),
        (4, False, "thermometer"),
        (4, True, "bits"),
        (16, False, "bits"),
        (16, True, "thermometer"),
        (127, True, "bits"),
    ],
    ids=str,
)
def test_counts(levels: int, signed: bool, code: str, bits: int, panel: int) -> None:
    rng = np.random.default_rng(levels)
    for inputs, density in ((70, 0.9), (700, 0.2)):
        counts = some_counts(rng, (2, 3, inputs), density, levels, signed)
        packed = pack(counts, levels, signed, code)
        weight = PackedWeight.pack(some_weight(rng, (inputs, 150), bits), bits, panel)
        for algo in ("gather", "lut", "dense", "auto"):
            check(counts, packed, weight, algo)


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("shape", [(0, 5, 70), (4, 0, 70), (4, 5, 0), (0, 0, 0)], ids=str)
def test_empty(shape: tuple[int, int, int], bits: int) -> None:
    tokens, inputs, outputs = shape
    counts = np.ones((tokens, inputs), np.int8)
    weight = PackedWeight.pack(np.ones((inputs, outputs)), bits)
    for algo in ALGORITHMS:
        check(counts, pack(counts), weight, algo, threads=3)
    plain = spike_linear(counts, np.ones((inputs, outputs), np.int8), threads=3)
    assert plain.shape == (tokens, outputs) and not plain.any()


@pytest.mark.parametrize("inputs", [255, 256, 257, 4352, 4400, 9000])
@pytest.mark.parametrize("bits", [8, 4])
def test_extremes(bits: int, inputs: int) -> None:
    """Nothing and everything fires, past every limit of 8- and 16-bit partial sums."""
    for value in (-(1 << (bits - 1)), (1 << (bits - 1)) - 1):
        weight = PackedWeight.pack(np.full((inputs, 70), value), bits)
        for count, levels in ((0, 1), (1, 1), (16, 16), (-3, 3)):
            counts = np.full((4, inputs), count, np.int8)
            packed = pack(counts, levels, count < 0)
            for algo in ALGORITHMS:
                if not cannot_run(algo, counts, packed):
                    check(counts, packed, weight, algo)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_many_rows_and_weights_from_memory(bits: int) -> None:
    """More rows than a table serves at once; weights that the cache does not hold."""
    rng = np.random.default_rng(bits)
    counts = some_counts(rng, (2052, 70), 0.2, 1, False)
    weight = PackedWeight.pack(some_weight(rng, (70, 65), bits), bits)
    for algo in ALGORITHMS:
        check(counts, pack(counts), weight, algo)
    weight = PackedWeight.pack(some_weight(rng, (2100, 1100), bits), bits)
    for levels, signed in ((1, False), (1, True), (3, False)):
        counts = some_counts(rng, (4, 2100), 0.3, levels, signed)
        packed = pack(counts, levels, signed)
        for algo in ALGORITHMS:
            if not cannot_run(algo, counts, packed):
                check(counts, packed, weight, algo)


def test_dense_leaves_float32_where_it_is_not_exact() -> None:
    """An odd sum above 2^24 has no float32."""
    counts = np.full((1, 2001), 127, np.int8)
    weight = np.full((2001, 1), 127, np.int8)
    assert 127 * 127 * 2001 > 2**24
    assert spike_linear(pack(counts, 127), weight, "dense")[0, 0] == 127 * 127 * 2001


@examples(40)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 9),
    inputs=st.integers(0, 400),
    outputs=st.integers(0, 200),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    code=st.sampled_from(["thermometer", "bits"]),
    levels=st.sampled_from([1, 1, 2, 5, 16]),
    signed=st.booleans(),
    bits=st.sampled_from(ALL_BITS),
    threads=st.sampled_from([1, 2, 3, 7]),
)
def test_any_input(
    seed: int,
    rows: int,
    inputs: int,
    outputs: int,
    density: float,
    code: str,
    levels: int,
    signed: bool,
    bits: int,
    threads: int,
) -> None:
    rng = np.random.default_rng(seed)
    counts = some_counts(rng, (rows, inputs), density, levels, signed)
    packed = pack(counts, levels, signed, code)
    weight = PackedWeight.pack(some_weight(rng, (inputs, outputs), bits), bits)
    for algo in ALGORITHMS:
        if not cannot_run(algo, counts, packed):
            check(counts, packed, weight, algo, threads)


@pytest.mark.parametrize("bits", [32, 16])
@pytest.mark.parametrize("algo", ["gather", "lut", "pattern"])
def test_threads_do_not_change_floats(algo: str, bits: int) -> None:
    rng = np.random.default_rng(3)
    for rows, inputs, outputs in ((1030, 200, 300), (8, 3000, 700)):
        packed = pack(rng.random((rows + rows % 4, inputs)) < 0.3)
        weight = PackedWeight.pack(some_weight(rng, (inputs, outputs), bits), bits)
        alone = spike_linear(packed, weight, algo)
        for threads in (2, 3, 8, 31):
            together = spike_linear(packed, weight, algo, threads=threads)
            np.testing.assert_array_equal(together, alone)


def test_callers_in_several_threads() -> None:
    rng = np.random.default_rng(4)
    spikes = pack(rng.random((64, 300)) < 0.2)
    weight = PackedWeight.pack(rng.integers(-8, 8, (300, 200)), 4)
    expected = spike_linear(spikes, weight, "dense")
    jobs = [(algo, threads) for algo in ALGORITHMS for threads in (1, 2)] * 4
    with ThreadPoolExecutor(4) as pool:
        sums = pool.map(lambda job: spike_linear(spikes, weight, job[0], threads=job[1]), jobs)
        for out in sums:
            np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("levels", [1, 3])
def test_gather_has_the_same_bits_however_spikes_are_stored(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for rows, signed in ((3, False), (3, True), (40, True), (40, False)):
        counts = some_counts(rng, (rows, 500), 0.3, levels, signed)
        values = rng.standard_normal((500, 200)).astype(np.float32)
        expected = spike_linear(counts, values, backend="reference")
        for weight in (values, PackedWeight.pack(values), PackedWeight.pack(values, panel=128)):
            for spikes in (
                counts,
                pack(counts, levels, signed),
                pack(counts, levels, signed, "bits"),
            ):
                for backend in ("cpu", "reference"):
                    out = spike_linear(spikes, weight, "gather", backend)
                    np.testing.assert_array_equal(out, expected)
        automatic = spike_linear(counts, PackedWeight.pack(values))  # fixed for arrays
        np.testing.assert_array_equal(automatic, expected)


def test_half_precision_gather_is_the_reference() -> None:
    rng = np.random.default_rng(5)
    packed = pack(rng.random((5, 300)) < 0.3)
    weight = PackedWeight.pack(rng.standard_normal((300, 100)), 16)
    out = spike_linear(packed, weight, "gather")
    np.testing.assert_array_equal(out, spike_linear(packed, weight, backend="reference"))


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_arrays_take_every_algorithm(algo: str) -> None:
    rng = np.random.default_rng(6)
    counts = some_counts(rng, (4, 90), 0.3, 1, False)
    for bits, kind in ((8, np.int8), (32, np.float32)):
        values = some_weight(rng, (90, 80), bits)
        assert values.dtype == kind
        for weight in (values, PackedWeight.pack(values, bits)):
            for threads in (1, 3):
                out = spike_linear(counts, weight, algo, threads=threads)
                expected = counts.astype(np.float64) @ values.astype(np.float64)
                np.testing.assert_allclose(out, expected, atol=0 if bits == 8 else 1e-4)


def test_counts_of_minus_128() -> None:
    counts = np.full((2, 70), -128, np.int8)
    weight = PackedWeight.pack(np.full((70, 80), -128), 8)
    assert (spike_linear(counts, weight, "gather") == 70 * 128 * 128).all()
    assert (spike_linear(counts, weight) == 70 * 128 * 128).all()
    half = PackedWeight.pack(np.full((70, 80), 0.5), 16)
    assert (spike_linear(counts, half) == -70 * 64).all()
    with pytest.raises(ValueError, match="expected counts -127..127 .*; use algo='gather'"):
        spike_linear(counts, weight, "lut")


def test_scale_and_type_of_result() -> None:
    rng = np.random.default_rng(7)
    counts = some_counts(rng, (5, 60), 0.5, 4, True)
    weight = PackedWeight.quantise(rng.standard_normal((60, 70)), 8)
    sums = spike_linear(pack(counts, 4, True), weight)
    assert sums.dtype == np.int32
    scaled = spike_linear(pack(counts, 4, True), weight, out_dtype=np.float32)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, sums.astype(np.float32) * weight.scale)
    plain = spike_linear(counts, weight.unpack(), out_dtype="float32")
    np.testing.assert_array_equal(plain, sums)
    with pytest.raises(ValueError, match="expected out_dtype float32 or int32 .* got float64"):
        spike_linear(counts, weight, out_dtype=np.float64)
    with pytest.raises(ValueError, match="expected out_dtype float32 with .* got int32"):
        spike_linear(counts, np.zeros((60, 2), np.float32), out_dtype=np.int32)


def test_mlx_arrays_in_and_out() -> None:
    rng = np.random.default_rng(8)
    counts = some_counts(rng, (5, 60), 0.5, 4, True)
    values = rng.integers(-128, 128, (60, 70)).astype(np.int8)
    expected = spike_linear(counts, values)
    for spikes in (mx.array(counts), pack(counts, 4, True)):
        out = spike_linear(spikes, mx.array(values))
        assert isinstance(out, mx.array) and out.dtype == mx.int32
        np.testing.assert_array_equal(np.asarray(out), expected)
    out = spike_linear(mx.array(counts), PackedWeight.pack(values, 8), out_dtype=np.float32)
    assert isinstance(out, mx.array) and out.dtype == mx.float32


def test_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    _dispatch.announce.cache_clear()
    weight, spikes = PackedWeight.pack(np.ones((64, 64)), 4), pack(np.zeros((1, 64), np.int8))
    with caplog.at_level(logging.INFO, logger="neurosim.kernels"):
        for _ in range(3):
            spike_linear(spikes, weight)
    assert [record.getMessage() for record in caplog.records] == [
        "spike_linear runs on cpu",
        "spike_linear of 4-bit weights runs on gather, by predicted cost",
    ]


def test_refused() -> None:
    counts, weight = np.ones((3, 8), np.int8), PackedWeight.pack(np.ones((8, 2)), 8)
    with pytest.raises(ValueError, match="'pattern' cannot run this: .* groups of 4.* got 3 rows"):
        spike_linear(pack(counts), weight, "pattern")
    with pytest.raises(ValueError, match="expected binary spikes, got counts of 2 values"):
        spike_linear(pack(np.ones((4, 8)), 2), weight, "pattern")
    with pytest.raises(ValueError, match="expected algo auto, gather, .*; got 'fast'"):
        spike_linear(pack(counts), weight, "fast")
    with pytest.raises(ValueError, match="expected at least 1 thread, got 0"):
        spike_linear(pack(counts), weight, threads=0)
    with pytest.raises(ValueError, match="expected algo 'gather' and 1 thread on backend 'refer"):
        spike_linear(pack(counts), weight, "lut", "reference")
    with pytest.raises(ValueError, match="got 'gather' and 2; only the CPU has others"):
        spike_linear(pack(counts), weight, "gather", "reference", threads=2)
    with pytest.raises(ValueError, match="got 9 inputs and weights \\(8, 2\\)"):
        spike_linear(pack(np.ones((3, 9))), weight)
    few = PackedWeight.pack(np.ones((132_105, 1)), 8)
    silent = np.zeros((1, 132_105), np.int8)
    with pytest.raises(ValueError, match="at most 132104 inputs, so that int32 sums"):
        spike_linear(pack(silent, 127), few)
    assert spike_linear(pack(silent, 126), few)[0, 0] == 0


@pytest.mark.parametrize("rows_firing", [255, 258, 4352, 4370])
@pytest.mark.parametrize("bits", [8, 4])
def test_patterns_of_short_and_long_rows(bits: int, rows_firing: int) -> None:
    """Up to 255 spikes (8 bits) and 4,352 (4 bits) of a row are summed in 16 bits."""
    counts = np.zeros((20, rows_firing), np.int8)  # too many rows to count as from memory
    counts[3] = counts[7] = 1
    counts[6, ::2] = 1
    for value in (-(1 << (bits - 1)), (1 << (bits - 1)) - 1):
        weight = PackedWeight.pack(np.full((rows_firing, 130), value), bits)
        check(counts, pack(counts), weight, "pattern")
