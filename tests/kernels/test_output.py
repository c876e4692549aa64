"""Results on their way to MLX, and scratch that grows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels import spike_attention_step, spike_linear
from neurosim.kernels._arrays import Output


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("shape", [(), (3,), (0, 5), (7, 3), (1024, 1024), (3, 700, 1025)], ids=str)
def test_what_is_written_arrives(shape: tuple[int, ...], zeros: bool) -> None:
    """Of small and of large results; zeros where asked for."""
    out = Output(shape, zeros)
    assert out.view.shape == shape and out.view.dtype == np.float32
    if zeros:
        assert not out.view.any()
    expected = np.arange(out.view.size, dtype=np.float32).reshape(shape)
    out.view[...] = expected
    assert out.array.dtype == mx.float32 and out.array.shape == shape
    np.testing.assert_array_equal(np.asarray(out.array), expected)


def test_two_gigabytes_are_no_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLX counts an axis in 31 bits; not allocated here."""
    asked, zeros = [], mx.zeros

    def small(shape: tuple[int, ...], kind: mx.Dtype) -> mx.array:
        asked.append(shape)
        return zeros((4,), kind)

    monkeypatch.setattr(mx, "zeros", small)
    Output((1 << 15, 1 << 14))
    assert asked == [(1 << 15, 4 << 14)]


def test_counts_with_more_inputs_than_the_first_scratch_holds() -> None:
    """16 rows of 9,000 inputs and their ends are 148,000 integers; a thread starts with 65,536."""
    rng = np.random.default_rng(0)
    counts = rng.integers(-3, 4, (16, 9000)).astype(np.int8)
    for weight in (rng.integers(-9, 9, (9000, 70)).astype(np.int8), np.ones((9000, 70), "f4")):
        with ThreadPoolExecutor(1) as thread:  # a new one: nothing has grown its scratch
            found = thread.submit(spike_linear, counts, weight).result()
        np.testing.assert_array_equal(found, counts.astype(np.int64) @ weight.astype(np.int64))


@pytest.mark.parametrize("channels", [64, 300, 700])
def test_a_step_of_wide_heads(channels: int) -> None:
    """From 128 channels on the first scratch is too small; two steps, because it then grows."""
    rng = np.random.default_rng(channels)
    q, k, v = rng.integers(-2, 3, (3, 2, 1, channels)).astype(np.int8)
    shifts = np.array([3])

    def two_steps() -> tuple[np.ndarray, np.ndarray]:
        state = np.zeros((1, channels, channels), np.int32)
        outs = [spike_attention_step(state, q[t], k[t], v[t], shifts, 4) for t in range(2)]
        return state, np.stack(outs)

    with ThreadPoolExecutor(1) as thread:
        state, outs = thread.submit(two_steps).result()
    expected = np.zeros((channels, channels), np.int64)
    for t in range(2):
        expected -= expected >> 3
        expected += np.outer(k[t, 0], v[t, 0].astype(np.int64)) << 4
        np.testing.assert_array_equal(outs[t, 0], q[t, 0].astype(np.int64) @ expected)
    np.testing.assert_array_equal(state[0], expected)
