"""The gradient of weights as Metal kernels, in the emulator and on a GPU where there is one."""

from __future__ import annotations

import functools

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels import grad_weight, pack
from neurosim.kernels._metal import Launch, on_gpu
from neurosim.kernels.grad_weight import metal
from neurosim.kernels.metal_emulator import emulate, unavailable
from neurosim.kernels.spike_linear import reference

NO_EMULATOR = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
LAUNCHERS = [
    pytest.param(functools.partial(emulate, order=order), id=order, marks=NO_EMULATOR)
    for order in ("forward", "reverse", "shuffled")
] + [
    pytest.param(
        on_gpu, id="gpu", marks=pytest.mark.skipif(not mx.metal.is_available(), reason="no GPU")
    )
]


def _check(launch: Launch, counts: np.ndarray, gradient: np.ndarray, levels, signed, code) -> None:
    """The same bits as sums in ascending order, and close to the product in float64."""
    words = pack(counts, levels, signed, code).words
    found = np.asarray(
        metal.grad_weight(launch, words, levels, signed, code, counts.shape[1], gradient)
    )
    assert found.dtype == np.float32
    np.testing.assert_array_equal(
        found, reference.spike_linear(np.ascontiguousarray(counts.T), gradient)
    )
    exact = counts.T.astype(np.float64) @ gradient.astype(np.float64)
    scale = np.abs(counts.T.astype(np.float64)) @ np.abs(gradient.astype(np.float64)) + 1
    assert (np.abs(found - exact) <= 1e-5 * scale).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (63, 65, 3), (64, 7, 33), (130, 40, 150)])
@pytest.mark.parametrize("launch", LAUNCHERS)
def test_gradient(launch: Launch, shape: tuple[int, int, int]) -> None:
    rows, inputs, outputs = shape
    rng = np.random.default_rng(rows)
    gradient = rng.standard_normal((rows, outputs)).astype(np.float32)
    binary = (rng.random((rows, inputs)) < 0.2).astype(np.int8)
    _check(launch, binary, gradient, 1, False, "thermometer")
    counts = rng.integers(-3, 4, (rows, inputs)).astype(np.int8)
    for code in ("thermometer", "bits"):
        _check(launch, counts, gradient, 3, True, code)


@examples(40)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 140),
    inputs=st.integers(0, 100),
    outputs=st.integers(0, 70),
    density=st.sampled_from([0.0, 0.1, 1.0]),
)
@NO_EMULATOR
def test_any_gradient(seed: int, rows: int, inputs: int, outputs: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    counts = (rng.random((rows, inputs)) < density).astype(np.int8)
    gradient = rng.standard_normal((rows, outputs)).astype(np.float32)
    _check(emulate, counts, gradient, 1, False, "thermometer")


@NO_EMULATOR
def test_public_function() -> None:
    rng = np.random.default_rng(0)
    counts = (rng.random((5, 2, 40)) < 0.3).astype(np.int8)
    gradient = rng.standard_normal((5, 2, 9)).astype(np.float32)
    found = grad_weight(pack(counts), mx.array(gradient), backend="metal-emulated")
    assert isinstance(found, mx.array)
    by_name = grad_weight(pack(counts), gradient, algo="gather", backend="metal-emulated")
    np.testing.assert_array_equal(by_name, found)
    expected = np.einsum("tbi,tbo->io", counts.astype(np.float64), gradient)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
