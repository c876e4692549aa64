"""Spike taps: backends bit for bit, against a plain sum, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurosim.kernels import spike_taps
from neurosim.kernels.spike_taps import BACKENDS

EVERY = pytest.mark.parametrize("backend", BACKENDS)


def _inputs(steps: int, channels: int, taps: int, kind: Any) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(steps + channels)
    spikes = rng.integers(-128, 128, (steps, channels)) * (rng.random((steps, channels)) < 0.4)
    weight = rng.standard_normal((taps, channels)) * 100
    return spikes.astype(np.int8), weight.astype(kind)


@EVERY
@pytest.mark.parametrize("kind", [np.int8, np.int32, np.float32])
@pytest.mark.parametrize("channels", [1, 63, 64, 65, 123, 1000])
@pytest.mark.parametrize(("steps", "taps"), [(0, 3), (1, 4), (3, 4), (9, 4), (9, 1), (5, 0)])
def test_taps(steps: int, taps: int, channels: int, kind: Any, backend: str) -> None:
    spikes, weight = _inputs(steps, channels, taps, kind)
    wide: Any = np.float64 if kind == np.float32 else np.int64
    found = spike_taps(spikes, weight, backend)
    assert found.dtype == wide and found.shape == spikes.shape
    for step in range(steps):
        wanted = np.zeros(channels, wide)
        for age in range(min(taps, step + 1)):
            wanted += spikes[step - age].astype(wide) * weight[age].astype(wide)
        np.testing.assert_array_equal(found[step], wanted)


@EVERY
def test_largest_sums_and_strides(backend: str) -> None:
    """Products and sums beyond int32, and views."""
    spikes = np.full((3, 4), -128, np.int8)
    weight = np.full((3, 4), -(2**31), np.int64).astype(np.int32)
    assert spike_taps(spikes, weight, backend)[2, 0] == 3 * 128 * 2**31
    spikes, weight = _inputs(8, 20, 6, np.float32)
    np.testing.assert_array_equal(
        spike_taps(spikes[::2, ::3], weight[::2, ::3], backend),
        spike_taps(spikes[::2, ::3].copy(), weight[::2, ::3].copy(), "reference"),
    )


S, W = np.zeros((3, 4), np.int8), np.zeros((2, 4), np.float32)


@pytest.mark.parametrize(
    ("spikes", "weight", "backend", "message"),
    [
        (S.astype(np.int16), W, "auto", "int8 spike counts .* got int16"),
        (S[0], W, "auto", "add a time axis"),
        (S, W[:, :3], "auto", r"weights of shape \(K, 4\), got float32 \(2, 3\)"),
        (S, W.astype(np.float64), "auto", "got float64"),
        (S, W, "metal", "expected backend auto, cpu, reference; got 'metal'"),
    ],
)
def test_refusals(spikes: Any, weight: Any, backend: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spike_taps(spikes, weight, backend)
