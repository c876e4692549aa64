"""Events of spike counts in four codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from properties import examples

from neurosim.kernels import event_counts

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "spike_neuron_golden.npz")
BACKENDS = pytest.mark.parametrize("backend", ["cpu", "reference"])


def _non_adjacent(n: int) -> int:
    """Nonzero digits of the non-adjacent form, digit by digit."""
    count = 0
    while n:
        if n & 1:
            count += 1
            n -= 2 - (n & 3)
        n >>= 1
    return count


@BACKENDS
def test_recorded(backend: str) -> None:
    n = GOLDEN["events.n"].astype(np.int8)
    found = event_counts(n[..., None], backend=backend)
    for name, key in (("unary", "rate"), ("bit_plane", "bitplane"), ("signed_digit", "naf")):
        np.testing.assert_array_equal(found[name], GOLDEN[f"events.{key}"])


@BACKENDS
def test_every_count(backend: str) -> None:
    n = np.arange(-128, 128, dtype=np.int8)
    found = event_counts(n[:, None], backend=backend)
    size = [abs(int(x)) for x in n]
    assert found["unary"].tolist() == size
    assert found["bit_plane"].tolist() == [x.bit_count() for x in size]
    assert found["signed_digit"].tolist() == [_non_adjacent(x) for x in size]
    assert found["graded"].tolist() == [int(x != 0) for x in size]


@BACKENDS
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1000, 4095, 4096, 4097, 20000])
def test_long_rows_do_not_overflow(size: int, backend: str) -> None:
    for value in (0, -128, 127, 85):
        row = np.full((1, size), value, np.int8)
        one = event_counts(row[:, :1], backend="reference")
        for code, total in event_counts(row, backend=backend).items():
            assert total.dtype == np.int64
            assert total.tolist() == [size * int(one[code][0])] if size else [0]


@examples(100)
@given(data=st.data())
def test_any_axis(data: st.DataObject) -> None:
    n = data.draw(arrays.arrays(np.int8, arrays.array_shapes(max_dims=3, min_side=0, max_side=9)))
    n.flags.writeable = False
    axis = data.draw(st.one_of(st.none(), st.integers(-n.ndim, n.ndim - 1)))
    other = event_counts(n, axis, backend="reference")
    for code, one in event_counts(n, axis).items():
        np.testing.assert_array_equal(one, other[code])
        assert one.shape == n.sum(axis=axis).shape


def test_refusals() -> None:
    with pytest.raises(ValueError, match="expected int8 counts"):
        event_counts(np.zeros(3, np.int32))
    with pytest.raises(ValueError, match="expected int8 counts"):
        event_counts(np.int8(3))
    with pytest.raises(ValueError, match="expected an axis of 1, got 1"):
        event_counts(np.zeros(3, np.int8), 1)
