"""Float rows times weights: close to double precision, and the same bits however they are asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels import IntegerWeight, row_linear

SIZES = (1, 15, 16, 17, 63, 64, 65, 123, 512, 545, 1000)
KINDS = pytest.mark.parametrize("kind", [np.float32, np.float64])
FORMS = pytest.mark.parametrize("form", ["floats", "8 bits", "4 bits"])


def _weight(rng: np.random.Generator, outputs: int, inputs: int, form: str, kind: type):
    values = rng.standard_normal((outputs, inputs)).astype(kind)
    return values if form == "floats" else IntegerWeight.quantise(values, int(form[0]))


def _check(x: np.ndarray, weight, **options) -> np.ndarray:
    """Within the error of a sum of so many terms."""
    found = row_linear(x, weight, **options)
    plain = weight.dequantise() if isinstance(weight, IntegerWeight) else weight
    exact = x.astype(np.float64) @ plain.astype(np.float64).T
    size = np.abs(x.astype(np.float64)) @ np.abs(plain.astype(np.float64)).T
    scaled = 2e-7 if isinstance(weight, IntegerWeight) else 0  # dequantise() rounds to float32
    limit = (np.finfo(x.dtype).eps * (x.shape[-1] / 16 + 8) + scaled) * size
    assert found.dtype == x.dtype
    assert (np.abs(found - exact) <= limit).all()
    return found


@FORMS
@KINDS
@pytest.mark.parametrize("inputs", SIZES)
def test_awkward_sizes(inputs: int, kind: type, form: str) -> None:
    rng = np.random.default_rng(inputs)
    for rows, outputs in ((1, 1), (2, 9), (7, 65), (4, 8)):
        weight = _weight(rng, outputs, inputs, form, kind)
        x = rng.standard_normal((rows, inputs)).astype(kind)
        _check(x, weight)
        _check(x, weight, backend="reference")


@FORMS
@KINDS
@pytest.mark.parametrize("inputs", [65, 600])
def test_bits_of_a_row_are_its_own(inputs: int, kind: type, form: str) -> None:
    """Alone, among others, in views, in other places, by other threads, with fewer outputs."""
    rng = np.random.default_rng(1)
    weight = _weight(rng, 203, inputs, form, kind)
    x = rng.standard_normal((71, inputs)).astype(kind)
    whole = row_linear(x, weight)
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(row_linear(x, weight, threads), whole)
    for row in range(0, 71, 7):
        np.testing.assert_array_equal(row_linear(x[row], weight), whole[row])
    for first, end in ((0, 2), (1, 4), (3, 9), (64, 71)):
        np.testing.assert_array_equal(row_linear(x[first:end], weight), whole[first:end])
    np.testing.assert_array_equal(row_linear(x[::-2], weight), whole[::-2])
    x[1:] = np.nan
    np.testing.assert_array_equal(row_linear(x, weight)[0], whole[0])
    if form == "floats":
        np.testing.assert_array_equal(row_linear(x[:1], weight[3:80:2]), whole[:1, 3:80:2])


@FORMS
@pytest.mark.parametrize("shape", [(0, 5, 7), (2, 0, 7), (2, 5, 0), (0, 0, 0)], ids=str)
def test_empty(shape: tuple[int, int, int], form: str) -> None:
    rows, inputs, outputs = shape
    weight = _weight(np.random.default_rng(0), outputs, inputs, form, np.float32)
    found = row_linear(np.ones((rows, inputs), np.float32), weight)
    np.testing.assert_array_equal(found, np.full((rows, outputs), found.sum() if inputs else 0)[:])
    assert found.shape == (rows, outputs) and found.dtype == np.float32


@examples(80)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 9),
    inputs=st.integers(0, 700),
    outputs=st.integers(0, 40),
    form=st.sampled_from(["floats", "8 bits", "4 bits"]),
    kind=st.sampled_from([np.float32, np.float64]),
)
def test_any_size(seed, rows, inputs, outputs, form, kind) -> None:
    rng = np.random.default_rng(seed)
    weight = _weight(rng, outputs, inputs, form, kind)
    x = rng.standard_normal((rows, inputs)).astype(kind)
    x.flags.writeable = False
    found = _check(x, weight, threads=1 + seed % 3)
    if rows:
        np.testing.assert_array_equal(row_linear(x[rows - 1], weight), found[rows - 1])


def test_refusals() -> None:
    x = np.ones((2, 5), np.float32)
    for wrong in (x.astype(np.float16), [[1.0]], np.float32(1)):
        with pytest.raises(ValueError, match="float32 or float64 rows"):
            row_linear(wrong, x)  # type: ignore[arg-type]
    for weight in (x.astype(np.float64), x[0], [[1.0]]):
        with pytest.raises(ValueError, match="IntegerWeight or float32 weights"):
            row_linear(x, weight)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 4 inputs and 5 columns"):
        row_linear(x[:, 1:], x)
    with pytest.raises(ValueError, match="at least 1 thread"):
        row_linear(x, x, 0)
