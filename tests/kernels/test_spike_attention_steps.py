"""Attention without decay, one token at a time: equal to the scan, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels.packed import pack
from neurosim.kernels.spike_attention import BACKENDS, spike_attention, spike_attention_step

RUNNABLE = ["auto", *(name for name in BACKENDS if not name.startswith("metal"))]
CODES = ("thermometer", "bits")
STATE = np.zeros((2, 8, 8), np.int32)


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    groups=st.integers(0, 3),
    tokens=st.integers(0, 12),
    size=st.sampled_from([0, 1, 5, 64, 130]),
    columns=st.sampled_from([0, 1, 64, 65, 128]),
    density=st.sampled_from([0.05, 0.5, 1.0]),
    levels=st.sampled_from([1, 4, 100]),
    signed=st.booleans(),
    code=st.sampled_from(CODES),
    kind=st.sampled_from([np.int16, np.int32]),
)
def test_steps_equal_the_scan(
    seed: int,
    groups: int,
    tokens: int,
    size: int,
    columns: int,
    density: float,
    levels: int,
    signed: bool,
    code: str,
    kind: type,
) -> None:
    rng = np.random.default_rng(seed)
    low = -levels if signed else 0

    def counts(n: int) -> np.ndarray:
        shape = groups, tokens, n
        return (rng.integers(low, levels + 1, shape) * (rng.random(shape) < density)).astype("i1")

    q, k, v = counts(size), counts(size), counts(columns)
    wanted, final = spike_attention(
        *(pack(x, levels, signed, code) for x in (q, k, v)), backend="reference"
    )
    for backend in RUNNABLE:
        state = np.zeros((groups, size, columns), kind)
        for t in range(tokens):
            exact = k[:, t, :, None].astype(int) * v[:, t, None] + state
            token = (pack(x[:, t], levels, signed, code) for x in (q, k, v))
            if np.abs(exact).max(initial=0) > np.iinfo(kind).max:
                before = state.copy()
                with pytest.raises(ValueError, match="state within int16"):
                    spike_attention_step(state, *token, backend=backend)
                np.testing.assert_array_equal(state, before)
                break
            out = spike_attention_step(state, *token, backend=backend)
            assert (out.dtype, out.shape) == (np.int32, (groups, columns))
            np.testing.assert_array_equal(out, wanted[:, t])
        else:
            np.testing.assert_array_equal(state, final)


@pytest.mark.parametrize("columns", [64, 65])
@pytest.mark.parametrize("kind", [np.int16, np.int32])
@pytest.mark.parametrize("backend", RUNNABLE)
def test_step_refuses_overflow(backend: str, kind: type, columns: int) -> None:
    """Of a count, up and down, at the limit; and of a sum."""
    top = np.iinfo(kind).max
    one, none = pack(np.ones((1, columns), np.int8)), pack(np.zeros((1, columns), np.int8))
    shape = 1, columns, columns
    state = np.full(shape, top - 1, kind)
    spike_attention_step(state, none, one, one, backend=backend)
    assert (state == top).all()
    with pytest.raises(ValueError, match=f"state within {state.dtype}.*got an overflow"):
        spike_attention_step(state, none, one, one, backend=backend)
    assert (state == top).all()
    minus = pack(-np.ones((1, columns), np.int8), 1, True)
    state = np.full(shape, -top, kind)
    spike_attention_step(state, none, minus, one, backend=backend)
    assert (state == -top - 1).all()
    with pytest.raises(ValueError, match="use an int32 state, or fewer tokens"):
        spike_attention_step(state, none, minus, one, backend=backend)
    assert (state == -top - 1).all()
    fits = 2**31 // columns if kind == np.int32 else 30_000  # 64 of them are 2^31 exactly
    state = np.full(shape, fits, kind)
    if kind == np.int32 and columns == 64:
        with pytest.raises(ValueError, match="sums within int32"):
            spike_attention_step(state, one, none, one, backend=backend)
        assert (state == fits).all()
        state -= 1
    out = spike_attention_step(state, one, none, one, backend=backend)
    assert (out == columns * int(state[0, 0, 0])).all()


@pytest.mark.parametrize("backend", RUNNABLE)
def test_sum_that_overflows_only_on_the_way(backend: str) -> None:
    """Signed queries: the first partial sums leave int32, the sum does not."""
    q = np.ones((1, 64), np.int8)
    q[0, 32:] = -1
    state = np.full((1, 64, 64), 2**30, np.int32)
    silent = np.zeros((1, 64), np.int8)
    assert not spike_attention_step(state, q, silent, silent, backend=backend).any()


def test_bad_step() -> None:
    token = pack(np.ones((2, 8), np.int8))
    for state, message in (
        (STATE[:1], "state of shape"),
        (np.asfortranarray(STATE.swapaxes(0, 2)).swapaxes(0, 2)[:, ::-1], "C-contiguous"),
        (STATE.astype(np.uint16), "got uint16"),
    ):
        with pytest.raises(ValueError, match=message):
            spike_attention_step(state, token, token, token)
    with pytest.raises(ValueError, match="no fraction_bits"):
        spike_attention_step(STATE.copy(), token, token, token, fraction_bits=3)
