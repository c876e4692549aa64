"""Packed weights: what goes in comes out, and what does not fit is refused."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels import PackedWeight

ALL_BITS = (32, 16, 8, 4)


def some_weight(rng: np.random.Generator, shape: tuple[int, int], bits: int) -> np.ndarray:
    """Values that the bits hold exactly, the extremes among them."""
    if bits >= 16:
        return rng.standard_normal(shape).astype(np.float16 if bits == 16 else np.float32)
    low = -(1 << (bits - 1))
    return rng.integers(low, -low, shape).astype(np.int8)


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    inputs=st.integers(0, 70),
    outputs=st.integers(0, 300),
    bits=st.sampled_from(ALL_BITS),
    panel=st.sampled_from(["auto", 64, 128]),
)
def test_round_trip(seed: int, inputs: int, outputs: int, bits: int, panel: int | str) -> None:
    values = some_weight(np.random.default_rng(seed), (inputs, outputs), bits)
    packed = PackedWeight.pack(values, bits, panel)
    assert packed.shape == (inputs, outputs)
    assert packed.width in (64, 128) if panel == "auto" else packed.width == panel
    assert packed.unpack().dtype == values.dtype
    np.testing.assert_array_equal(packed.unpack(), values)
    assert packed.panels.ctypes.data % 64 == 0 or not values.size
    assert packed.nbytes == packed.panels.shape[0] * inputs * packed.width * bits // 8


@pytest.mark.parametrize("panel", [64, 128])
def test_fields_of_an_element(panel: int) -> None:
    """The documented outputs of every element, which GPU kernels read as well."""
    row = np.arange(-128, panel - 128)[None]
    stored = PackedWeight.pack(row, 8, panel).panels[0, 0].astype(int)
    for e, element in enumerate(stored):
        first = e % 32 + 64 * (e // 32)
        assert [element & 255, element >> 8] == [row[0, first] + 128, row[0, first + 32] + 128]
    row = (np.arange(panel) % 16 - 8)[None]
    stored = PackedWeight.pack(row, 4, panel).panels[0, 0].astype(int)
    for e, element in enumerate(stored):
        fields = [element >> (4 * f) & 15 for f in range(4)]
        assert fields == [row[0, e + f * panel // 4] + 8 for f in range(4)]


def test_other_types_of_input() -> None:
    values = np.array([[-8, 7], [0, 1]])
    for given_as in (values, values.astype(np.float64), values.tolist(), mx.array(values)):
        np.testing.assert_array_equal(PackedWeight.pack(given_as, 4).unpack(), values)
    double = np.array([[0.1]])
    assert PackedWeight.pack(double).unpack()[0, 0] == np.float32(0.1)
    assert PackedWeight.pack(double, 16).unpack()[0, 0] == np.float16(0.1)
    infinite = np.array([[np.inf]], np.float32)
    assert PackedWeight.pack(infinite, 16).unpack()[0, 0] == np.inf
    fortran = np.asfortranarray(np.arange(12, dtype=np.int8).reshape(3, 4))
    np.testing.assert_array_equal(PackedWeight.pack(fortran[::2], 8).unpack(), fortran[::2])


@pytest.mark.parametrize("bits", [8, 4])
def test_quantise(bits: int) -> None:
    rng = np.random.default_rng(bits)
    weight = rng.standard_normal((50, 30)).astype(np.float32)
    weight[:, 3] = 0
    weight[:, 4] = 1e-44  # a scale below the smallest float32
    packed = PackedWeight.quantise(weight, bits)
    values, limit = packed.unpack().astype(np.float64), (1 << (bits - 1)) - 1
    assert packed.scale is not None and packed.scale[3] == 1
    assert np.abs(values).max() == limit
    assert (np.abs(values).max(axis=0)[np.arange(30) > 4] == limit).all()
    error = np.abs(values * packed.scale - weight)
    assert (error <= 0.5001 * packed.scale + 1e-44).all()


def test_quantise_rounds_half_to_even() -> None:
    weight = np.array([[127.0], [0.5], [1.5], [-0.5], [-2.5]])
    assert PackedWeight.quantise(weight).unpack()[:, 0].tolist() == [127, 0, 2, 0, -2]


def test_it_is_read_only_and_says_its_size() -> None:
    packed = PackedWeight.pack(np.zeros((3, 130), np.int8), 4, scale=np.ones(130))
    assert repr(packed) == "PackedWeight(3, 130) 4 bits, 3 panels of 64, scaled, 808 bytes"
    with pytest.raises(ValueError, match="read-only"):
        packed.panels[0] = 1


@pytest.mark.parametrize(
    ("weight", "options", "message"),
    [
        (np.zeros(3), {}, r"expected weights of shape \(I, O\)"),
        (np.zeros((3, 2), complex), {}, "expected weights of shape"),
        (np.zeros((3, 2)), {"bits": 2}, "expected 32, 16, 8 or 4 bits, got 2"),
        (np.zeros((3, 2)), {"panel": 32}, "expected panel auto, 64 or 128, got 32"),
        (np.full((3, 2), 8), {"bits": 4}, r"4-bit weights -8..7, got 8..8; use more bits"),
        (np.full((3, 2), -9), {"bits": 4}, "4-bit weights -8..7"),
        (np.full((3, 2), 128), {"bits": 8}, "8-bit weights -128..127, got 128..128"),
        (np.full((3, 2), np.nan), {"bits": 8}, "got nan..nan"),
        (np.full((3, 2), 0.5), {"bits": 8}, "expected whole weights, got fractions"),
        (np.full((3, 2), 70000.0), {"bits": 16}, "for float16, got 70000.0; use 32 bits"),
        (np.zeros((3, 2)), {"scale": np.ones(2)}, "no scale with float weights"),
        (np.zeros((3, 2)), {"bits": 8, "scale": np.ones(3)}, r"scale per output \(2,\)"),
        (np.zeros((3, 2)), {"bits": 8, "scale": [1, np.inf]}, "expected a finite float32 scale"),
    ],
)
def test_refused(weight: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PackedWeight.pack(weight, **options)


def test_refused_floats_and_panels() -> None:
    with pytest.raises(ValueError, match="expected 8 or 4 bits, got 16"):
        PackedWeight.quantise(np.zeros((2, 2)), 16)
    with pytest.raises(ValueError, match="expected finite weights"):
        PackedWeight.quantise(np.full((2, 2), np.nan))
    for panels in (np.zeros((1, 2, 65), np.float32), np.zeros((1, 2, 64)), np.zeros((2, 64))):
        with pytest.raises(ValueError, match="make them with PackedWeight.pack"):
            PackedWeight(panels, (2, 64))
    with pytest.raises(ValueError, match="expected 32, 16, 8 or 4 bits, got 7"):
        PackedWeight(np.zeros((1, 2, 64), np.float32), (2, 64), 7)
