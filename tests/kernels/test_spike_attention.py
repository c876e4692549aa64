"""Spike attention: backends against the reference, scan against steps, causality, the bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels.spike_attention import (
    BACKENDS,
    reference,
    spike_attention,
    spike_attention_step,
)
from neurosim.kernels.spike_attention._bound import state_bound

SHAPES = [(1, 1, 1), (5, 8, 24), (4, 4, 48), (3, 2, 63), (3, 1, 123), (7, 3, 7), (2, 2, 64)]
EMPTY = [(0, 2, 8), (3, 0, 8), (3, 2, 0), (0, 0, 0)]
RUNNABLE = [name for name in BACKENDS if not name.startswith("metal")]
SHIFTS = (0, 1, 3, 8, 2, 5, 30, 4)


def _spikes(rng: np.random.Generator, shape: tuple[int, ...], density: float, levels: int):
    size = rng.integers(1, levels + 1, shape) * rng.choice([-1, 1], shape)
    return np.where(rng.random(shape) < density, size, 0).clip(-128, 127).astype(np.int8)


def _qkv(seed: int, shape: tuple[int, ...], density: float = 0.5, levels: int = 4):
    rng = np.random.default_rng(seed)
    return tuple(_spikes(rng, shape, density, levels) for _ in range(3))


def _expected(q, k, v, shifts, fraction_bits, state=None):
    """The equations in Python integers, matrix products and all: independent of every backend."""
    tokens, heads, channels = q.shape
    memory = np.zeros((heads, channels, channels), object) + (0 if state is None else state)
    out = np.zeros(q.shape, object)
    for t in range(tokens):
        for h in range(heads):
            if shifts[h]:
                memory[h] = memory[h] - memory[h] // 2 ** int(shifts[h])
            outer = np.outer(k[t, h].astype(object), v[t, h].astype(object))
            memory[h] = memory[h] + outer * 2**fraction_bits
            out[t, h] = q[t, h].astype(object) @ memory[h]
    return out, memory


@pytest.mark.parametrize("shape", SHAPES + EMPTY, ids=str)
@pytest.mark.parametrize("backend", RUNNABLE)
def test_equals_the_equations(backend: str, shape: tuple[int, int, int]) -> None:
    q, k, v = _qkv(0, shape)
    shifts = np.array(SHIFTS[: shape[1]], np.int64)
    start = np.random.default_rng(1).integers(-5000, 5000, (shape[1], shape[2], shape[2]))
    for state in (None, start.astype(np.int32)):
        before = None if state is None else state.copy()
        out, after = spike_attention(q, k, v, shifts, 6, state, backend=backend)
        expected, memory = _expected(q, k, v, shifts, 6, state)
        assert (out.dtype, after.dtype) == (np.int64, np.int32)
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(after, memory)
        np.testing.assert_array_equal(state, before)  # not changed


@pytest.mark.parametrize("levels", [1, 4, 128])
@pytest.mark.parametrize("density", [0.0, 0.05, 1.0], ids=["silent", "sparse", "firing"])
@pytest.mark.parametrize("backend", RUNNABLE)
def test_densities_and_levels(backend: str, density: float, levels: int) -> None:
    q, k, v = _qkv(2, (3, 3, 13), density, levels)
    shifts = np.array([0, 2, 4], np.uint8)
    out, state = spike_attention(q, k, v, shifts, 2, backend=backend)
    expected, memory = _expected(q, k, v, shifts, 2)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(state, memory)
    if density == 0:
        assert not out.any() and not state.any()


@examples(40)
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(0, 12),
    heads=st.integers(0, 4),
    channels=st.integers(0, 33),
    density=st.sampled_from([0.05, 0.5, 1.0]),
    levels=st.sampled_from([1, 4, 100]),
    fraction_bits=st.integers(0, 10),
)
def test_scan_equals_steps_on_every_backend(
    seed: int,
    tokens: int,
    heads: int,
    channels: int,
    density: float,
    levels: int,
    fraction_bits: int,
) -> None:
    q, k, v = _qkv(seed, (tokens, heads, channels), density, levels)
    shifts = np.random.default_rng(seed).integers(0, 9, heads)
    wanted, final = spike_attention(q, k, v, shifts, fraction_bits, backend="reference")
    for backend in RUNNABLE:
        out, state = spike_attention(q, k, v, shifts, fraction_bits, backend=backend)
        np.testing.assert_array_equal(out, wanted)
        np.testing.assert_array_equal(state, final)
        state = np.zeros((heads, channels, channels), np.int32)
        for t in range(tokens):
            step = spike_attention_step(
                state, q[t], k[t], v[t], shifts, fraction_bits, backend=backend
            )
            np.testing.assert_array_equal(step, wanted[t])
        np.testing.assert_array_equal(state, final)


@pytest.mark.parametrize("backend", RUNNABLE)
def test_causal_and_resumable(backend: str) -> None:
    q, k, v = _qkv(3, (20, 4, 24))
    shifts = np.array([0, 2, 4, 6])
    out, end = spike_attention(q, k, v, shifts, 6, backend=backend)
    q2, k2, v2 = (x.copy() for x in (q, k, v))
    for x in (q2, k2, v2):
        x[12:] = -x[12:]
    changed, _ = spike_attention(q2, k2, v2, shifts, 6, backend=backend)
    np.testing.assert_array_equal(changed[:12], out[:12])
    assert (changed[12:] != out[12:]).any()
    first, middle = spike_attention(q[:7], k[:7], v[:7], shifts, 6, backend=backend)
    rest, last = spike_attention(q[7:], k[7:], v[7:], shifts, 6, middle, backend=backend)
    np.testing.assert_array_equal(np.concatenate([first, rest]), out)
    np.testing.assert_array_equal(last, end)


def test_long_run_does_not_drift() -> None:
    """2000 tokens at full fire: Numba still equals the equations, and the state stays bounded."""
    shape = (2000, 2, 8)
    q, k, v = (np.full(shape, 4, np.int8) for _ in range(3))
    k[:, 1] = -4
    shifts = np.array([3, 5])
    out, state = spike_attention(q, k, v, shifts, 8)
    expected, memory = _expected(q, k, v, shifts, 8)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(state, memory)
    assert state.max() <= 2**3 * (16 * 2**8 + 1) - 1
    assert state.min() >= -(2**5 * 16 * 2**8 + 2**5)


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(1, 40),
    levels=st.sampled_from([1, 4, 128]),
    shift=st.integers(0, 8),
    fraction_bits=st.integers(0, 6),
    start=st.integers(-(2**20), 2**20),
    sign=st.sampled_from([-1, 0, 1]),
)
def test_bound_holds(
    seed: int, tokens: int, levels: int, shift: int, fraction_bits: int, start: int, sign: int
) -> None:
    """No |S| on the way exceeds the bound, also at constant sign, where it is nearly reached."""
    q, k, v = _qkv(seed, (tokens, 1, 3), 0.8, levels)
    if sign:
        k, v = np.maximum(np.abs(k), k), np.maximum(np.abs(v), v)
        k = (np.maximum(k, 1) * sign).astype(np.int8)
    state = np.full((1, 3, 3), start, np.int32)
    shifts = np.array([shift])
    bound = state_bound(state, k, v, shifts, fraction_bits)
    for t in range(tokens):
        spike_attention_step(state, q[t], k[t], v[t], shifts, fraction_bits, backend="reference")
        assert reference.largest(state) <= bound


@pytest.mark.parametrize(("heads", "channels"), [(0, 3), (3, 0), (40, 48), (3, 700), (1, 2100)])
def test_bound_of_many_columns(heads: int, channels: int) -> None:
    """Heads that end in the middle of a block of columns, or take several."""
    rng = np.random.default_rng(channels)
    k, v = (
        rng.integers(-127, 128, (5, heads, channels)) // rng.integers(1, 9, (heads, 1))
        for _ in range(2)
    )
    state = rng.integers(-50, 51, (heads, channels, channels)).astype(np.int32)
    growth = 5 * abs(k).max((0, 2), initial=0) * abs(v).max((0, 2), initial=0) << 6
    expected = (growth + abs(state).max((1, 2), initial=0)).max(initial=0)
    shifts = np.zeros(heads, np.int64)
    assert state_bound(state, k.astype(np.int8), v.astype(np.int8), shifts, 6) == expected


@pytest.mark.parametrize("backend", RUNNABLE)
def test_overflow_is_refused_at_the_limit(backend: str) -> None:
    """K = 2^20 without decay: 2047 tokens fit, 2048 do not; the state is left alone."""
    spikes = np.full((2048, 1, 2), 4, np.int8)
    shifts = np.array([0])
    fits = spikes[:2047]
    _, state = spike_attention(fits, fits, fits, shifts, 16, backend=backend)
    assert state.max() == 2047 * 2**20
    with pytest.raises(ValueError, match=r"within int32, got \|S\| up to 2147483648"):
        spike_attention(spikes, spikes, spikes, shifts, 16, backend=backend)
    before = state.copy()
    one = spikes[0]
    with pytest.raises(ValueError, match="use fewer fraction bits"):
        spike_attention_step(state, one, one, one, shifts, 16, backend=backend)
    np.testing.assert_array_equal(state, before)
    # With decay the same input fits for ever, and 2^11 (2^20 + 1) - 1 no longer does.
    spike_attention(spikes, spikes, spikes, np.array([10]), 16, backend=backend)
    with pytest.raises(ValueError, match="smaller decay shift"):
        spike_attention(spikes, spikes, spikes, np.array([11]), 16, backend=backend)


GOOD = np.zeros((2, 3, 4), np.int8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": GOOD.astype(np.int32)}, "int8 spike counts q, k, v of one shape"),
        ({"k": GOOD[:1]}, r"got int8 \(2, 3, 4\), int8 \(1, 3, 4\)"),
        ({"q": GOOD[0], "k": GOOD[0], "v": GOOD[0]}, r"\(L, H, D\)"),
        ({"decay_shift": np.zeros(2, int)}, r"one integer decay shift per head, \(3,\)"),
        ({"decay_shift": np.zeros(3)}, "got float64"),
        ({"decay_shift": np.array([0, 1, -1])}, "decay shifts 0..30"),
        ({"decay_shift": np.array([0, 1, 31])}, "decay shifts 0..30"),
        ({"fraction_bits": -1}, "fraction_bits 0..30, got -1"),
        ({"fraction_bits": 31}, "fraction_bits 0..30, got 31"),
        ({"state": np.zeros((3, 4, 4))}, "int32 state of shape"),
        ({"state": np.zeros((3, 4), np.int32)}, r"got int32 \(3, 4\)"),
        ({"backend": "gpu"}, "expected backend auto, cpu, reference, metal, .*; got 'gpu'"),
    ],
    ids=lambda x: "" if isinstance(x, str) else "-".join(x),
)
def test_bad_input(change: dict, message: str) -> None:
    arguments = {"q": GOOD, "k": GOOD, "v": GOOD, "decay_shift": [0, 1, 2], "fraction_bits": 4}
    spike_attention(**arguments)
    with pytest.raises(ValueError, match=message):
        spike_attention(**{**arguments, **change})


def test_bad_step() -> None:
    token, state = GOOD[0], np.zeros((3, 4, 4), np.int32)
    with pytest.raises(ValueError, match=r"one shape \(H, D\)"):
        spike_attention_step(state, GOOD, GOOD, GOOD, [0, 1, 2], 4)
    with pytest.raises(ValueError, match="C-contiguous state"):
        spike_attention_step(np.asfortranarray(state), token, token, token, [0, 1, 2], 4)
