"""Integer neurons, the folded form: every backend equals the equation, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels.neuron import BACKENDS, integer_spikes


def _spikes_of_one(charge: int, half: int, bias: int, levels: int, signed: bool) -> int:
    """The equation of neurosim.network in Python's own integers."""
    total = charge + bias
    if signed:
        size = min((abs(total) + half) // (2 * half), levels)
        return -size if total < 0 else size
    return max(0, min((total + half) // (2 * half), levels))


def _usable(name: str) -> str | None:
    reason = getattr(BACKENDS[name], "unavailable", lambda: None)()
    return None if reason is None else str(reason)


NAMES = [name for name in BACKENDS if _usable(name) is None]
EVERY = pytest.mark.parametrize("backend", NAMES)


@examples(80)
@given(data=st.data(), levels=st.integers(1, 127), signed=st.booleans())
def test_folded_spikes_of_any_integers(data: st.DataObject, levels: int, signed: bool) -> None:
    channels, rows = data.draw(st.integers(1, 6)), data.draw(st.integers(0, 4))
    half = data.draw(
        st.lists(
            st.one_of(st.integers(1, 5), st.integers(1, 2**31 - 1)),
            min_size=channels,
            max_size=channels,
        )
    )
    bias = data.draw(st.lists(st.integers(-(2**31), 2**31), min_size=channels, max_size=channels))
    charge = np.zeros((rows, channels), np.int64)
    for where in np.ndindex(charge.shape):  # near a multiple of the threshold, or anywhere
        near = data.draw(st.integers(-130, 130)) * half[where[1]] - bias[where[1]]
        charge[where] = near + data.draw(st.integers(-2, 2))
    expected = [
        [_spikes_of_one(int(row[c]), half[c], bias[c], levels, signed) for c in range(channels)]
        for row in charge
    ]
    for backend in NAMES:
        out = integer_spikes(charge, np.array(half), np.array(bias), levels, signed, backend)
        assert out.dtype == np.int8
        np.testing.assert_array_equal(out, np.array(expected, np.int8).reshape(charge.shape))


@EVERY
@pytest.mark.parametrize("levels", [1, 3, 4, 5, 127])
@pytest.mark.parametrize("channels", [1, 63, 64, 65, 123, 1100])
def test_folded_spikes_of_awkward_sizes(channels: int, levels: int, backend: str) -> None:
    rng = np.random.default_rng(channels)
    charge = rng.integers(-1000, 1000, (3, channels))
    half, bias = rng.integers(1, 300, channels), rng.integers(-99, 99, channels)
    for signed in (False, True):
        out = integer_spikes(charge, half, bias, levels, signed, backend)
        wanted = [
            [
                _spikes_of_one(*map(int, part), levels, signed)
                for part in zip(row, half, bias, strict=True)
            ]
            for row in charge
        ]
        np.testing.assert_array_equal(out, wanted)
    assert integer_spikes(charge[:0], half, bias, levels, True, backend).shape == (0, channels)


@EVERY
@pytest.mark.parametrize("kind", [np.int8, np.int32, np.int64])
def test_folded_spikes_of_every_integer_type(kind: type, backend: str) -> None:
    """No overflow in a narrow type; any leading axes."""
    charge = np.array([[[-128, -3, 0]], [[3, 100, 127]]], kind)
    half, bias = np.array([3, 3, 3], np.int32), np.array([-100, 0, 100], np.int16)
    out = integer_spikes(charge, half, bias, 127, True, backend)
    expected = [[[-38, -1, 17]], [[-16, 17, 38]]]
    np.testing.assert_array_equal(out, expected)


@EVERY
def test_folded_spikes_silent_and_saturated(backend: str) -> None:
    half, bias = np.full(123, 10), np.zeros(123, np.int64)
    silent = np.zeros((2, 123), np.int64)
    assert not integer_spikes(silent, half, bias, 4, True, backend).any()
    for charge, wanted in ((10**12, 4), (-(10**12), -4)):
        np.testing.assert_array_equal(
            integer_spikes(silent + charge, half, bias, 4, True, backend), wanted
        )
    assert not integer_spikes(silent - 10**12, half, bias, 4, False, backend).any()


@EVERY
def test_folded_spikes_refuse_more_levels_than_int8_holds(backend: str) -> None:
    """128 spikes would come back as -128."""
    one = np.ones(1, np.int64)
    with pytest.raises(ValueError, match="127"):
        integer_spikes(np.array([[10**6]]), one, one, 128, False, backend)


@pytest.mark.parametrize(
    ("charge", "half", "bias"), [((2, 4), 3, 3), ((2, 3), 4, 3), ((2, 3), 3, 4)], ids=str
)
def test_folded_spikes_refuse_wrong_shapes(charge: tuple[int, int], half: int, bias: int) -> None:
    with pytest.raises(ValueError, match=r"expected charge \(\.\.\., N\)"):
        integer_spikes(
            np.zeros(charge, np.int64), np.ones(half, np.int64), np.zeros(bias, np.int64), 4, True
        )


def test_folded_spikes_refuse_an_unknown_backend() -> None:
    one = np.ones(1, np.int64)
    with pytest.raises(ValueError, match="got 'gpu'"):
        integer_spikes(one[None], one, one, 4, True, "gpu")
