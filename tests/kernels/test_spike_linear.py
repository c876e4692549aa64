"""Spike linear: every backend against the reference and against an integer matrix product."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels.spike_linear import BACKENDS, reference, spike_linear

RUNNABLE = [
    name
    for name, backend in BACKENDS.items()
    if not name.startswith("metal") or backend.unavailable() is None
]
AWKWARD = (1, 63, 64, 65, 123, 128, 192, 300)


def _counts(rng: np.random.Generator, shape: tuple[int, int], density: float, levels: int):
    """Signed counts within -levels..levels (an int8 ends at 127), `density` of them nonzero."""
    size = rng.integers(1, levels + 1, shape) * rng.choice([-1, 1], shape)
    return np.where(rng.random(shape) < density, size, 0).clip(-128, 127).astype(np.int8)


def _weights(rng: np.random.Generator, shape: tuple[int, int], kind: type):
    if kind is np.int8:
        return rng.integers(-128, 128, shape).astype(np.int8)
    return rng.standard_normal(shape).astype(np.float32)


def _check(spikes: np.ndarray, weight: np.ndarray, backend: str) -> None:
    out = spike_linear(spikes, weight, backend=backend)
    assert out.dtype == (np.int32 if weight.dtype == np.int8 else np.float32)
    assert out.shape == (spikes.shape[0], weight.shape[1])
    np.testing.assert_array_equal(out, reference.spike_linear(spikes, weight))
    if weight.dtype == np.int8:
        np.testing.assert_array_equal(out, spikes.astype(np.int64) @ weight.astype(np.int64))
    else:
        expected = spikes.astype(np.float64) @ weight.astype(np.float64)
        scale = np.abs(spikes.astype(np.float64)) @ np.abs(weight.astype(np.float64)) + 1
        assert (np.abs(out - expected) <= 1e-5 * scale).all()


@pytest.mark.parametrize("kind", [np.int8, np.float32], ids=["int8", "float32"])
@pytest.mark.parametrize("outputs", AWKWARD)
@pytest.mark.parametrize("inputs", AWKWARD)
@pytest.mark.parametrize("backend", RUNNABLE)
def test_awkward_sizes(backend: str, inputs: int, outputs: int, kind: type) -> None:
    rng = np.random.default_rng(inputs * 1000 + outputs)
    for tokens, levels in ((1, 4), (3, 1)):
        spikes = _counts(rng, (tokens, inputs), 0.4, levels)
        _check(spikes, _weights(rng, (inputs, outputs), kind), backend)


@pytest.mark.parametrize("kind", [np.int8, np.float32], ids=["int8", "float32"])
@pytest.mark.parametrize("shape", [(0, 5, 70), (2, 0, 70), (2, 5, 0), (0, 0, 0)], ids=str)
@pytest.mark.parametrize("backend", RUNNABLE)
def test_empty(backend: str, shape: tuple[int, int, int], kind: type) -> None:
    tokens, inputs, outputs = shape
    spikes = np.ones((tokens, inputs), np.int8)
    out = spike_linear(spikes, np.ones((inputs, outputs), kind), backend=backend)
    assert out.shape == (tokens, outputs)
    assert not out.any()


@pytest.mark.parametrize("outputs", [40, 64, 200])
@pytest.mark.parametrize("backend", RUNNABLE)
def test_silent_and_firing(backend: str, outputs: int) -> None:
    """Nothing fires; everything fires at the extremes, past every 16-bit limit on the way."""
    rng = np.random.default_rng(0)
    inputs = 1200
    for kind in (np.int8, np.float32):
        weight = _weights(rng, (inputs, outputs), kind)
        _check(np.zeros((2, inputs), np.int8), weight, backend)
        _check(np.ones((2, inputs), np.int8), weight, backend)
    for extreme in (-128, 127):
        weight = np.full((inputs, outputs), extreme, np.int8)
        for count in (-128, -127, -1, 1, 127):
            _check(np.full((1, inputs), count, np.int8), weight, backend)


@pytest.mark.parametrize("backend", RUNNABLE)
def test_many_tokens_and_strided_input(backend: str) -> None:
    rng = np.random.default_rng(1)
    spikes, weight = _counts(rng, (37, 80), 0.3, 4), _weights(rng, (80, 130), np.int8)
    _check(spikes, weight, backend)
    _check(spikes[::2, ::2], weight[::2], backend)
    _check(spikes.T[:80, :], np.asfortranarray(weight[:37]), backend)


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(0, 20),
    inputs=st.integers(0, 300),
    outputs=st.integers(0, 300),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    levels=st.sampled_from([1, 4, 128]),
    kind=st.sampled_from([np.int8, np.float32]),
)
def test_any_input(
    seed: int, tokens: int, inputs: int, outputs: int, density: float, levels: int, kind: type
) -> None:
    rng = np.random.default_rng(seed)
    spikes = _counts(rng, (tokens, inputs), density, levels)
    weight = _weights(rng, (inputs, outputs), kind)
    for backend in RUNNABLE:
        _check(spikes, weight, backend)


def test_float_order_is_the_documented_one() -> None:
    """Counts 2, 1, -1 of 2^24, 1, 1: the order decides whether the small ones are lost."""
    weight = np.array([[2**24], [1.0], [1.0]], np.float32).repeat(64, axis=1)
    spikes = np.array([[2, 1, 1]], np.int8)
    running = np.float32(2**24)
    total = running
    running = np.float32(np.float32(running + np.float32(1)) + np.float32(1))
    total = np.float32(total + running)
    for backend in RUNNABLE:
        np.testing.assert_array_equal(spike_linear(spikes, weight, backend=backend), total)


@pytest.mark.parametrize(
    ("spikes", "weight", "message"),
    [
        (np.zeros((1, 3), np.int32), np.zeros((3, 2), np.int8), "expected int8 spike counts"),
        (np.zeros(3, np.int8), np.zeros((3, 2), np.int8), "add a token axis"),
        (np.zeros((1, 3), np.int8), np.zeros((3, 2), np.int32), "int8 or float32 weights"),
        (np.zeros((1, 3), np.int8), np.zeros(3, np.int8), "of shape \\(I, O\\)"),
        (np.zeros((1, 3), np.int8), np.zeros((2, 3), np.int8), "one weight row per input"),
        (np.zeros((1, 131072), np.int8), np.zeros((131072, 1), np.int8), "at most 131071 inputs"),
    ],
)
def test_bad_input(spikes: np.ndarray, weight: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spike_linear(spikes, weight)


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match="expected backend auto, cpu, reference, .*; got 'gpu'"):
        spike_linear(np.zeros((1, 3), np.int8), np.zeros((3, 2), np.int8), backend="gpu")
