"""Counts times integer weights: exact integers, whatever the rows, threads and processor."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels import IntegerWeight, count_linear

SIZES = (1, 31, 32, 63, 64, 65, 123, 300, 511, 512, 545, 1000)
BITS = pytest.mark.parametrize("bits", [8, 4])


def weight_of(rng: np.random.Generator, outputs: int, inputs: int, bits: int) -> IntegerWeight:
    values = rng.standard_normal((outputs, inputs)) * np.exp(rng.standard_normal((outputs, 1)))
    return IntegerWeight.quantise(values.astype(np.float32), bits)


def counts_of(rng: np.random.Generator, rows: int, inputs: int) -> np.ndarray:
    return rng.integers(-127, 128, (rows, inputs)).astype(np.int8)


def _exact(counts: np.ndarray, weight: IntegerWeight) -> np.ndarray:
    return counts.astype(np.int64) @ weight.integers().astype(np.int64).T


def _check(counts: np.ndarray, weight: IntegerWeight, **options) -> None:
    found = count_linear(counts, weight, **options)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, _exact(counts, weight))


@BITS
@pytest.mark.parametrize("inputs", SIZES)
def test_awkward_sizes(inputs: int, bits: int) -> None:
    rng = np.random.default_rng(inputs)
    for rows, outputs in ((1, 1), (2, 7), (3, 65), (4, 8), (7, 9), (9, 4)):
        weight, counts = weight_of(rng, outputs, inputs, bits), counts_of(rng, rows, inputs)
        for threads in (1, 2, 3):
            _check(counts, weight, threads=threads)
        _check(counts, weight, backend="reference")


@BITS
@pytest.mark.parametrize("shape", [(0, 5, 7), (2, 0, 7), (2, 5, 0), (0, 0, 0)], ids=str)
def test_empty(shape: tuple[int, int, int], bits: int) -> None:
    rows, inputs, outputs = shape
    weight = IntegerWeight.quantise(np.zeros((outputs, inputs), np.float32), bits)
    for backend in ("cpu", "reference"):
        found = count_linear(np.ones((rows, inputs), np.int8), weight, backend=backend)
        np.testing.assert_array_equal(found, np.zeros((rows, outputs)))


@BITS
@pytest.mark.parametrize("inputs", [64, 11008])
def test_extremes(inputs: int, bits: int) -> None:
    """The largest counts and weights of either sign; 11,008 inputs are a 3B model's widest."""
    for sign in (-1.0, 1.0):
        weight = IntegerWeight.quantise(np.full((5, inputs), sign, np.float32), bits)
        assert np.abs(weight.integers()).min() == (127 if bits == 8 else 441)
        for count in (-128, -127, 0, 127):
            for rows in (1, 5):
                _check(np.full((rows, inputs), count, np.int8), weight)


@BITS
def test_rows_do_not_depend_on_each_other(bits: int) -> None:
    rng = np.random.default_rng(2)
    weight, counts = weight_of(rng, 131, 577, bits), counts_of(rng, 70, 577)
    whole = count_linear(counts, weight)
    for row in (0, 1, 68, 69):
        np.testing.assert_array_equal(count_linear(counts[row], weight), whole[row])
    shaped = counts.reshape(7, 10, 577)
    np.testing.assert_array_equal(count_linear(shaped, weight, 2), whole.reshape(7, 10, 131))


@BITS
def test_views_and_mapped_codes(bits: int, tmp_path) -> None:
    """Strided counts; codes that are read from a file in place."""
    rng = np.random.default_rng(3)
    weight = weight_of(rng, 33, 200, bits)
    whole = counts_of(rng, 12, 400)
    whole.flags.writeable = False
    for counts in (whole[::2, ::2], whole[:5, 200:], whole.T[:200, :3].T):
        _check(counts, weight)
    np.save(tmp_path / "codes.npy", weight.codes)
    codes = np.load(tmp_path / "codes.npy", mmap_mode="r")
    mapped = IntegerWeight(codes, weight.scale, bits, weight.shape, weight.multiplier)
    assert np.shares_memory(mapped.codes, codes)
    _check(whole[:3, :200], mapped)


@examples(100)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 9),
    inputs=st.integers(0, 1100),
    outputs=st.integers(0, 40),
    bits=st.sampled_from([8, 4]),
    threads=st.integers(1, 3),
)
def test_any_size(seed, rows, inputs, outputs, bits, threads) -> None:
    rng = np.random.default_rng(seed)
    weight = weight_of(rng, outputs, inputs, bits)
    _check(rng.integers(-128, 128, (rows, inputs)).astype(np.int8), weight, threads=threads)


def test_without_vector_dot_products() -> None:
    """The same integers and floats on a processor that has no AVX-512."""
    script = """
import numpy as np
from neurosim.kernels import IntegerWeight, cached_attention, count_linear, row_linear
from neurosim.kernels._features import has
rng = np.random.default_rng(0)
found = []
for bits in (8, 4):
    weight = IntegerWeight.quantise(rng.standard_normal((13, 601)).astype(np.float32), bits)
    found.append(count_linear(rng.integers(-128, 128, (5, 601)).astype(np.int8), weight))
    found.append(row_linear(rng.standard_normal((5, 601)).astype(np.float32), weight))
q, k = (rng.standard_normal((1, 3, 4, 9, 40)).astype(np.float32) for _ in range(2))
found.append(cached_attention(q[0], k[0], k[0], [1, 0, 2], 0))
import hashlib
digest = hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in found)).hexdigest()
print(has("avx512vnni"), digest)
"""
    results = []
    for settings in ({}, {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "+avx2,+fma"}):
        out = subprocess.run(
            [sys.executable, "-c", script.replace("(1, 3, 4, 9, 40)", "(1, 3, 4, 4, 40)")],
            env=os.environ | settings, capture_output=True, text=True, check=True,
        )  # fmt: skip
        results.append(out.stdout.split())
    assert results[1][0] == "False"
    assert results[0][1] == results[1][1]


@BITS
def test_rounding(bits: int) -> None:
    """Nearest codes; nothing is off by more than half a step."""
    rng = np.random.default_rng(4)
    values = rng.standard_normal((40, 300)).astype(np.float32)
    values[3] = 0
    values[4, 32:] = 0
    weight = IntegerWeight.quantise(values, bits)
    error = np.abs(weight.dequantise() - values)
    assert weight.scale[3] == 1 and not weight.integers()[3].any()
    if bits == 8:
        assert (error <= weight.scale[:, None] * 0.5001).all()
        np.testing.assert_array_equal(weight.codes, np.rint(values / weight.scale[:, None]))
    else:
        step = np.repeat(weight.multiplier, 32, axis=1)[:, :300] * weight.scale[:, None]
        inside = np.abs(values) <= 7.5 * step
        assert (error[inside] <= (0.5001 * step)[inside]).all()
        relative = np.sqrt((error**2).mean() / (values**2).mean())
        assert relative < 0.105  # the plain absolute maximum gives 0.112 here
        assert weight.multiplier.min() >= 1 and weight.multiplier.max() <= 63


@BITS
def test_rows_and_sizes(bits: int) -> None:
    rng = np.random.default_rng(5)
    values = rng.standard_normal((50, 70)).astype(np.float32)
    weight = IntegerWeight.quantise(values, bits)
    whole = weight.dequantise()
    assert whole.dtype == np.float32 and whole.shape == (50, 70)
    np.testing.assert_array_equal(whole, weight.integers() * weight.scale[:, None])
    ids = np.array([[3, 3], [0, 49]])
    np.testing.assert_array_equal(weight.rows(ids), whole[ids])
    np.testing.assert_array_equal(weight.dequantise([7, 2]), whole[[7, 2]])
    assert weight.rows([]).shape == (0, 70)
    assert weight.nbytes == 50 * (70 + 4 if bits == 8 else 48 + 3 + 4)
    assert repr(weight) == f"IntegerWeight(50, 70) {bits} bits, {weight.nbytes} bytes"
    for kind in (np.float16, np.float64):
        again = IntegerWeight.quantise(values.astype(kind).T.copy().T, bits)
        expected = IntegerWeight.quantise(values.astype(kind).astype(np.float32), bits)
        np.testing.assert_array_equal(again.codes, expected.codes)
    with pytest.raises(ValueError, match="rows from 0 to 49, got 50 to 50"):
        weight.rows(50)
    with pytest.raises(ValueError, match="whole row numbers"):
        weight.rows([1.0])


def test_layout_is_the_documented_one() -> None:
    """Files keep the codes, so their layout must not change."""
    inputs = 32 * 19 + 5  # 20 groups: a block of 16 and one of 4
    groups = -(-inputs // 32)
    codes = np.full((1, 16 * groups), 0x88, np.uint8)
    for i, value in ((0, 1), (5, 2), (33, 3), (31, 4), (512, 5), (inputs - 1, 6)):
        group, within = divmod(i, 32)
        block, lane = divmod(group, 16)
        size = 4 if block else 16
        q, half, t = within // 8, within % 8 // 4, within % 4
        at = 256 * block + 4 * (q * size + lane) + t
        codes[0, at] = (codes[0, at] & (0xF0 >> 4 * half)) | (value + 8) << (4 * half)
    multiplier = np.arange(1, groups + 1, dtype=np.uint8)[None]
    weight = IntegerWeight(codes, np.ones(1, np.float32), 4, (1, inputs), multiplier)
    found = weight.integers()[0]
    wanted = {0: 1, 5: 2, 33: 6, 31: 4, 512: 5 * 17, inputs - 1: 6 * 20}
    assert {int(i): int(found[i]) for i in np.flatnonzero(found)} == wanted


def _parts(bits: int = 8) -> dict[str, object]:
    weight = IntegerWeight.quantise(np.ones((3, 40), np.float32), bits)
    return {
        "codes": weight.codes, "scale": weight.scale, "bits": bits, "shape": (3, 40),
        "multiplier": weight.multiplier,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("bits", "changes", "message"),
    [
        (8, {"bits": 5}, "8 or 4 bits, got 5"),
        (8, {"codes": np.zeros((3, 39), np.int8)}, r"codes C-contiguous int8 \(3, 40\), got int8"),
        (8, {"codes": np.zeros((3, 40), np.uint8)}, "int8"),
        (8, {"codes": np.zeros((40, 3), np.int8).T}, "C-contiguous"),
        (8, {"codes": [[1]]}, "got list"),
        (8, {"codes": np.full((3, 40), -128, np.int8)}, "codes -127..127, got -128"),
        (8, {"scale": np.ones(3)}, r"a scale C-contiguous float32 \(3,\), got float64"),
        (8, {"scale": np.zeros(3, np.float32)}, "positive finite scales"),
        (8, {"scale": np.full(3, np.nan, np.float32)}, "positive finite scales"),
        (8, {"multiplier": np.ones((3, 2), np.uint8)}, "no multiplier for 8 bits"),
        (4, {"multiplier": None}, "a multiplier for 4 bits"),
        (4, {"multiplier": np.ones((3, 1), np.uint8)}, r"a multiplier .* \(3, 2\)"),
        (4, {"multiplier": np.zeros((3, 2), np.uint8)}, r"multipliers 1\.\.63, got 0\.\.0"),
        (4, {"multiplier": np.full((3, 2), 64, np.uint8)}, r"got 64\.\.64"),
        (4, {"codes": np.full((3, 32), 0x80, np.uint8)}, "half-bytes 1..15"),
        (4, {"codes": np.full((3, 32), 0x08, np.uint8)}, "half-bytes 1..15"),
        (4, {"codes": np.full((3, 20), 0x88, np.uint8)}, r"uint8 \(3, 32\)"),
    ],
)
def test_codes_are_checked(bits: int, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IntegerWeight(**_parts(bits) | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
@BITS
def test_floats_are_checked(bits: int, bad: float) -> None:
    for place in (0, 37):
        values = np.ones((3, 38))
        values[1, place] = bad
        with pytest.raises(ValueError, match="expected finite weights"):
            IntegerWeight.quantise(values, bits)
    with pytest.raises(ValueError, match="shape"):
        IntegerWeight.quantise(np.ones(3), bits)
    with pytest.raises(ValueError, match="8 or 4 bits, got 16"):
        IntegerWeight.quantise(np.ones((3, 3)), 16)


def test_refusals() -> None:
    weight = IntegerWeight.quantise(np.ones((3, 40), np.float32))
    counts = np.ones((2, 40), np.int8)
    for wrong in (counts.astype(np.int32), [[1]], np.int8(1)):
        with pytest.raises(ValueError, match="expected numpy int8 counts"):
            count_linear(wrong, weight)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 39 inputs and 40 columns"):
        count_linear(counts[:, 1:], weight)
    with pytest.raises(ValueError, match="expected an IntegerWeight, got ndarray"):
        count_linear(counts, np.ones((3, 40), np.int8))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1 thread, got 0"):
        count_linear(counts, weight, 0)
    with pytest.raises(ValueError, match="cannot run this: count_linear has no Metal kernel"):
        count_linear(counts, weight, backend="metal")
    for bits, most in ((8, 132104), (4, 38043)):
        wide = IntegerWeight.quantise(np.ones((1, most + 1), np.float32), bits)
        with pytest.raises(ValueError, match=f"at most {most} inputs of {bits} bits"):
            count_linear(np.ones((1, most + 1), np.int8), wide)
        fits = IntegerWeight.quantise(np.ones((1, most), np.float32), bits)
        _check(np.full((1, most), -128, np.int8), fits)


@pytest.mark.parametrize("inputs", [1, 33, 40, 63])
def test_a_short_last_group_ends_in_zeros(inputs: int) -> None:
    """Codes as of weights padded to whole groups of 32, whatever was in the group before."""
    weight = np.random.default_rng(inputs).standard_normal((5, inputs)).astype(np.float32)
    weight[:, : inputs // 32 * 32] *= 9
    padded = np.pad(weight, ((0, 0), (0, 64 - inputs)))
    found, expected = (IntegerWeight.quantise(w, 4).integers() for w in (weight, padded))
    np.testing.assert_array_equal(found, expected[:, :inputs])
