"""The short ways to one token of attention: equal to the reference, and what they leave alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels.packed import pack
from neurosim.kernels.spike_attention import spike_attention_step
from neurosim.kernels.spike_attention.cpu import quick_decaying_step, quick_step

LONG = 2**15 - 1


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


@examples(80)
@given(
    seed=st.integers(0, 2**32 - 1),
    heads=st.sampled_from([0, 1, 4, 8]),
    channels=st.sampled_from([0, 1, 5, 16, 24, 48, 63, 64]),
    density=st.sampled_from([0.0, 0.2, 1.0]),
    levels=st.sampled_from([1, 4, 128]),
    bits=st.sampled_from([0, 6, 20, 30]),
    start=st.sampled_from([0, 1000, 2**30, 2**31 - 1]),
)
def test_quick_decaying_step_equals_the_reference(
    seed: int, heads: int, channels: int, density: float, levels: int, bits: int, start: int
) -> None:
    """Or says that it cannot tell; then nothing has changed, and the long way decides."""
    rng = np.random.default_rng(seed)
    shape = heads, channels

    def counts() -> np.ndarray:
        drawn = rng.integers(-levels, min(levels, 127) + 1, shape)
        return (drawn * (rng.random(shape) < density)).astype(np.int8)

    shifts = rng.integers(0, 31, heads)
    memory = rng.integers(-start - 1, start, (*shape, channels), endpoint=True).astype(np.int32)
    for _ in range(3):
        q, k, v = counts(), counts(), counts()
        wanted, before = memory.copy(), memory.copy()
        try:
            expected = spike_attention_step(wanted, q, k, v, shifts, bits, backend="reference")
        except ValueError:
            assert quick_decaying_step(memory, q, k, v, shifts, bits) is None
            np.testing.assert_array_equal(memory, before)
            with pytest.raises(ValueError, match="state within int32"):
                spike_attention_step(memory, q, k, v, shifts, bits)
            np.testing.assert_array_equal(memory, before)
            return
        out = quick_decaying_step(memory, q, k, v, shifts, bits)
        if out is None:
            assert start > 1000 or bits > 6, "a small state is no reason to look closer"
            np.testing.assert_array_equal(memory, before)
            out = spike_attention_step(memory, q, k, v, shifts, bits)
        assert out.dtype == np.int64
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(memory, wanted)


def test_quick_bound_does_not_wrap() -> None:
    """The largest counts, fraction and shift: their product shifted twice exceeds int64."""
    counts, state = np.full((1, 5), -128, np.int8), np.zeros((1, 5, 5), np.int32)
    for shift in range(31):
        arguments = [state, counts, counts, counts, np.array([shift]), 30]
        assert quick_decaying_step(*arguments) is None
        with pytest.raises(ValueError, match="state within int32"):
            spike_attention_step(*arguments)
    assert not state.any()


def test_quick_decaying_step_leaves_the_rest() -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.integers(-4, 5, (4, 24)).astype(np.int8) for _ in range(3))
    state, shifts = np.zeros((4, 24, 24), np.int32), np.arange(4)
    frozen = state.copy()
    frozen.flags.writeable = False
    wrong: list[tuple[list[Any], str]] = [
        ([frozen, q, k, v, shifts, 6], "writable C-contiguous"),
        ([state.T, q, k, v, shifts, 6], "state of shape"),
        ([np.asfortranarray(state), q, k, v, shifts, 6], "writable C-contiguous"),
        ([state[:3].copy(), q, k, v, shifts, 6], "state of shape"),
        ([state.astype(np.int16), q, k, v, shifts, 6], "int32 state"),
        ([state, q[:3], k, v, shifts, 6], "of one shape"),
        ([state, q, k[:, :20], v, shifts, 6], "of one shape"),
        ([state, q, k, v[0], shifts, 6], "of one shape"),
        ([state, q.astype(np.int16), k, v, shifts, 6], "int8 spike counts"),
        ([state, q, k, v, shifts[:3], 6], "decay shift per head"),
        ([state, q, k, v, shifts - 1, 6], r"decay shifts 0\.\.30"),
        ([state, q, k, v, shifts + 28, 6], r"decay shifts 0\.\.30"),
        ([state, q, k, v, shifts[:, None], 6], "decay shift per head"),
        ([state, q, k, v, shifts, 31], r"fraction_bits 0\.\.30"),
        ([state, q, k, v, shifts, None], r"fraction_bits 0\.\.30"),
    ]
    for arguments, message in wrong:
        assert quick_decaying_step(*arguments) is None
        with pytest.raises(ValueError, match=message):
            spike_attention_step(*arguments)
    assert not state.any()
    plain = state.copy()
    expected = spike_attention_step(plain, q, k, v, shifts, 6)
    columns = np.asfortranarray(k)
    for arguments in (
        [state.copy(), q, columns, v, shifts, 6],
        [state.copy(), q, k, v, shifts.astype(np.int32), 6],
        [state.copy(), q, k, v, shifts.tolist(), 6],
        [state.copy(), q, k, v, shifts, np.int64(6)],
        [state.copy(), *(pack(x, 4, True) for x in (q, k, v)), shifts, 6],
    ):
        assert quick_decaying_step(*arguments) is None
        np.testing.assert_array_equal(spike_attention_step(*arguments), expected)
        np.testing.assert_array_equal(arguments[0], plain)


@examples(40)
@given(
    seed=st.integers(0, 2**32 - 1),
    decays=st.booleans(),
    channels=st.sampled_from([16, 63, 64]),
    strided=st.booleans(),
)
def test_automatic_choice_equals_the_cpu(
    seed: int, decays: bool, channels: int, strided: bool
) -> None:
    """Many tokens in turn, with operands that lie anyhow: the same sums and state."""
    rng = np.random.default_rng(seed)
    kind = np.int32 if decays or seed % 2 else np.int16
    states = [np.zeros((3, channels, channels), kind) for _ in range(2)]
    options: list[Any] = [rng.integers(0, 8, 3), 6] if decays else []
    for _ in range(5):
        counts = rng.integers(0, 2, (3, 3, 2 * channels)).astype(np.int8)
        token: list[Any] = list(counts[..., ::2] if strided else counts[..., :channels].copy())
        if not decays:
            token = [pack(x) for x in token]
        sums = [
            spike_attention_step(state, *token, *options, backend=backend)
            for state, backend in zip(states, ("auto", "cpu"), strict=True)
        ]
        assert sums[0].dtype == sums[1].dtype
        np.testing.assert_array_equal(*sums)
        np.testing.assert_array_equal(*states)
