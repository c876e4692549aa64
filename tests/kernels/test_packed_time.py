"""Packed spikes over time: the order of rows, and lists by the pattern of four steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels.packed import PackedSpikes, pack, reference

SIZES = (1, 63, 64, 65, 123, 1000)


def _check_patterns(x: np.ndarray, spikes: PackedSpikes) -> None:
    """Lists of rows x (4 G, D) of every plane against the spikes themselves."""
    planes = [x > d for d in range(spikes.levels)]
    weights = np.array([1, 2, 4, 8])
    pointer, channels = spikes.patterns
    assert pointer.dtype == np.int64
    assert channels.dtype == np.uint16
    i = 0
    for plane in planes:
        for group in plane.reshape(x.shape[0] // 4, 4, x.shape[1]):
            pattern = weights @ group
            for wanted in range(1, 16):
                found = channels[pointer[i] : pointer[i + 1]]
                np.testing.assert_array_equal(found, np.nonzero(pattern == wanted)[0])
                i += 1
    assert pointer[i] == channels.size
    flat = spikes.words.reshape(len(spikes) * len(x), spikes.words.shape[2])
    for ours, theirs in zip(spikes.patterns, reference.patterns(flat, x.shape[1]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("density", [0, 0.02, 0.3, 1])
def test_patterns_of_awkward_sizes(density: float, size: int, levels: int) -> None:
    rng = np.random.default_rng(size)
    x = (rng.random((8, size)) < density) * rng.integers(1, levels + 1, (8, size))
    _check_patterns(x, pack(x, levels))


@examples(200)
@given(seed=st.integers(0, 2**32), groups=st.integers(0, 5), size=st.integers(0, 140))
def test_any_patterns(seed: int, groups: int, size: int) -> None:
    """Every neuron has a rate of its own, so that rare and common patterns meet."""
    rng = np.random.default_rng(seed)
    x = (rng.random((4 * groups, size)) < rng.random(size)).astype(np.int8)
    _check_patterns(x, pack(x))


def test_channels_beyond_uint16() -> None:
    x = np.zeros((4, 65537), np.int8)
    x[1, [0, 65536]] = x[3, 65536] = 1
    pointer, channels = pack(x).patterns
    assert channels.dtype == np.int32
    assert channels.tolist() == [0, 65536]
    assert np.diff(pointer).nonzero()[0].tolist() == [2 - 1, 10 - 1]


@pytest.mark.parametrize("shape", [(4, 3, 70), (5, 2, 3, 65), (1, 4, 9), (4, 70), (3, 0, 5)])
def test_time_can_be_first_or_innermost(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 4, shape).astype(np.int8)
    spikes = pack(x, 3, time_axis=0)
    tokens = spikes.token_major
    moved = np.moveaxis(x, 0, -2)
    assert tokens.shape == moved.shape
    assert tokens.time_axis == len(shape) - 2
    np.testing.assert_array_equal(tokens.unpack(), moved)
    np.testing.assert_array_equal(tokens.words, pack(moved, 3).words)
    back = tokens.time_major
    assert (back.shape, back.time_axis) == (shape, 0)
    np.testing.assert_array_equal(back.words, spikes.words)
    assert spikes.time_major is spikes
    assert tokens.token_major is tokens
    assert spikes.token_major is tokens


def test_time_in_the_middle() -> None:
    x = np.random.default_rng(1).integers(0, 2, (2, 3, 4, 5, 70)).astype(np.int8)
    spikes = pack(x, time_axis=2)
    np.testing.assert_array_equal(spikes.token_major.unpack(), np.moveaxis(x, 2, 3))
    np.testing.assert_array_equal(spikes.time_major.unpack(), np.moveaxis(x, 2, 0))


def test_four_rows_are_the_steps_of_a_token() -> None:
    """A channel that fires in steps 1 and 3 of a token has pattern 2 + 8."""
    x = np.zeros((4, 6, 100), np.int8)
    x[[1, 3], 5, 70] = 1
    pointer, channels = pack(x, time_axis=0).token_major.patterns
    assert channels.tolist() == [70]
    assert np.diff(pointer).nonzero()[0].tolist() == [15 * 5 + (2 + 8) - 1]


def test_refusals() -> None:
    x = np.zeros((6, 5), np.int8)
    with pytest.raises(ValueError, match="groups of 4, got 6 rows"):
        _ = pack(x).patterns
    for name in ("token_major", "time_major"):
        with pytest.raises(ValueError, match="give time_axis="):
            getattr(pack(x), name)
    for axis in (1, -1):
        with pytest.raises(ValueError, match=rf"time axis 0\.\.0 of \(6, 5\), got {axis}"):
            pack(x, time_axis=axis)
        with pytest.raises(ValueError, match="time axis"):
            PackedSpikes(pack(x).words, x.shape, time_axis=axis)
