"""Arrays read as objects by compiled code, and the one-token attention that is called so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import types
from properties import examples

from neurosim.kernels._entry import (
    ARRAY,
    available,
    axes_of,
    elements_of,
    entry,
    is_plain,
    size_of,
)
from neurosim.kernels._jit import compiled
from neurosim.kernels.packed import pack
from neurosim.kernels.spike_attention import spike_attention_step
from neurosim.kernels.spike_attention._step_binary import quick_step

LONG = 2**15 - 1


@compiled
def _seen(array: Any, axis: int) -> tuple[int, int, int, bool]:
    return elements_of(array), axes_of(array), size_of(array, axis), is_plain(array)


def test_arrays_are_read_as_they_are() -> None:
    assert available()
    seen = entry(_seen, ARRAY, types.intp)
    whole = np.zeros((3, 5, 7), np.int16)
    frozen = whole[1:]
    frozen.flags.writeable = False
    odd = np.zeros(20, np.int8)[1:9].view(np.int16)
    for array in (whole, frozen, whole[:, 1:], whole.T, whole[::-1], odd, np.zeros((0, 4))):
        for axis in range(array.ndim):
            found = seen(array, axis)
            assert found == (array.ctypes.data, array.ndim, array.shape[axis], array.flags.carray)


def _token(rng: np.random.Generator, streams: int, density: float) -> list[Any]:
    return [pack(rng.random((streams, 64)) < density) for _ in range(3)]


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    streams=st.sampled_from([0, 1, 3, 32]),
    density=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    start=st.sampled_from([-LONG - 1, -3, 0, 5, LONG - 2, LONG]),
    shift=st.sampled_from([0, 1, 8, 31]),
)
def test_quick_step_equals_the_reference(
    seed: int, streams: int, density: float, start: int, shift: int
) -> None:
    """Wherever the state lies, and up to its limits."""
    rng = np.random.default_rng(seed)
    memory = np.zeros(streams * 4096 + shift, np.int16)[shift:].reshape(streams, 64, 64)
    memory[:] = np.clip(start + rng.integers(-2, 3, memory.shape), -LONG - 1, LONG)
    wanted = memory.copy()
    for _ in range(3):
        token = _token(rng, streams, density)
        try:
            expected = spike_attention_step(wanted, *token, backend="reference")
        except ValueError:
            before = memory.copy()
            assert quick_step(memory, *token) is None
            np.testing.assert_array_equal(memory, before)
            with pytest.raises(ValueError, match="state within int16"):
                spike_attention_step(memory, *token)
            np.testing.assert_array_equal(memory, before)
            return
        out = quick_step(memory, *token)
        assert out is not None and out.dtype == np.int32
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(memory, wanted)


def test_quick_step_leaves_the_rest() -> None:
    """Other shapes, types, planes and states take the way with all checks, or are refused there."""
    rng = np.random.default_rng(0)
    q, k, v = _token(rng, 4, 0.3)
    state = np.zeros((4, 64, 64), np.int16)
    frozen = state.copy()
    frozen.flags.writeable = False
    for bad, message in (
        (frozen, "writable C-contiguous"),
        (np.zeros((64, 64, 4), np.int16).T, "writable C-contiguous"),
        (state[:3].copy(), "state of shape"),
        (np.zeros((4, 64, 128), np.int16), "state of shape"),
        (np.zeros((4, 64, 64), np.uint16), "got uint16"),
        (np.zeros((4, 64, 64), ">i2"), "got >i2"),
        (state.tolist(), "as an array"),
    ):
        assert quick_step(bad, q, k, v) is None
        with pytest.raises(ValueError, match=message):
            spike_attention_step(bad, q, k, v)
    assert quick_step(state, q, k, pack(np.ones((4, 60), bool))) is None
    assert quick_step(state, q, pack(k.unpack()[:3]), v) is None
    with pytest.raises(ValueError, match="of one shape"):
        spike_attention_step(state, q, pack(k.unpack()[:3]), v)
    plain = state.copy()
    expected = spike_attention_step(plain, q, k, v)
    cases: list[tuple[Any, list[Any], Any]] = [
        (state.astype(np.int32), [q, k, v], expected),
        (state.copy(), [x.unpack() for x in (q, k, v)], expected),
        (state.copy(), [pack(x.unpack(), 1, True) for x in (q, k, v)], expected),
        (state.copy(), [q, pack(k.unpack(), 3), v], expected),
        (
            state.reshape(2, 2, 64, 64).copy(),
            [pack(x.unpack().reshape(2, 2, 64)) for x in (q, k, v)],
            expected.reshape(2, 2, 64),
        ),
    ]
    for memory, token, wanted in cases:
        assert quick_step(memory, *token) is None
        np.testing.assert_array_equal(spike_attention_step(memory, *token), wanted)
        np.testing.assert_array_equal(memory.reshape(4, 64, 64), plain)
    with pytest.raises(ValueError, match="no fraction_bits"):
        spike_attention_step(state, q, k, v, fraction_bits=3)
    with pytest.raises(ValueError, match="expected backend"):
        spike_attention_step(state, q, k, v, backend="none")
