"""`trainable_linear` and `trainable_linear_lif` through Metal kernels, emulated and on a GPU."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels import Neuron, pack, trainable_linear, trainable_linear_lif
from neurosim.kernels._metal import gpu_unavailable
from neurosim.kernels.metal_emulator import unavailable

NO_GPU, NO_EMULATOR = gpu_unavailable(), unavailable()
BACKENDS = [
    pytest.param(
        "metal-emulated", marks=pytest.mark.skipif(bool(NO_EMULATOR), reason=str(NO_EMULATOR))
    ),
    pytest.param("metal", marks=pytest.mark.skipif(bool(NO_GPU), reason=str(NO_GPU))),
]
CODES = [(1, False), (3, False), (2, True)]


def _case(levels: int, signed: bool, *shape: int) -> tuple[mx.array, mx.array, mx.array]:
    """Counts (..., I), half of them 0, weights (I, O) and a direction (..., O)."""
    rng = np.random.default_rng(levels)
    *lead, inputs, outputs = shape
    counts = rng.integers(-levels if signed else 0, levels + 1, (*lead, inputs))
    counts *= rng.random(counts.shape) < 0.5
    arrays = (
        counts,
        rng.standard_normal((inputs, outputs)) / 4,
        rng.standard_normal((*lead, outputs)),
    )
    spikes, weight, direction = (mx.array(x.astype(np.float32)) for x in arrays)
    return spikes, weight, direction


def _close(found: mx.array, wanted: mx.array) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 65, 33), (2, 70, 40, 130)], ids=str)
@pytest.mark.parametrize(("levels", "signed"), CODES)
def test_linear_equals_a_product(
    levels: int, signed: bool, shape: tuple[int, ...], backend: str
) -> None:
    """Sums and both gradients."""
    spikes, weight, direction = _case(levels, signed, *shape)

    def loss(s: mx.array, w: mx.array) -> mx.array:
        return (trainable_linear(s, w, backend, levels, signed) * direction).sum()

    _close(trainable_linear(spikes, weight, backend, levels, signed), spikes @ weight)
    found = mx.grad(loss, (0, 1))(spikes, weight)
    wanted = mx.grad(lambda s, w: ((s @ w) * direction).sum(), (0, 1))(spikes, weight)
    for one, other in zip(found, wanted, strict=True):
        _close(one, other)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("neuron", [Neuron(), Neuron("hard", surrogate="fast_sigmoid")], ids=str)
def test_layer_equals_the_cpu(neuron: Neuron, backend: str) -> None:
    """Spikes, the last state and the gradients of spikes, weights, decay and first state."""
    spikes, weight, direction = _case(1, False, 4, 3, 65, 33)
    decay, start = mx.full((33,), 0.5), mx.array(np.linspace(-1, 1, 99, dtype=np.float32))

    def loss(chosen: str) -> Any:
        def total(s: mx.array, w: mx.array, d: mx.array, v: mx.array) -> mx.array:
            fired, last = trainable_linear_lif(
                s, w, 0.7, d, 1.5, neuron, v.reshape(3, 33), backend=chosen, levels=1
            )
            return (fired * direction).sum() + last.sum()

        return mx.value_and_grad(total, (0, 1, 2, 3))(spikes, weight, decay, start)

    (value, found), (expected, wanted) = loss(backend), loss("cpu")
    _close(value, expected)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_data_and_nothing(backend: str) -> None:
    """Packed data get no gradient; no rows and no inputs give zeros."""
    spikes, weight, direction = _case(1, False, 6, 65, 40)
    packed = pack(np.asarray(spikes))
    found = mx.grad(lambda w: (trainable_linear(packed, w, backend, 1) * direction).sum())(weight)
    _close(found, spikes.T @ direction)
    for counts in (2 * np.asarray(spikes), -np.asarray(spikes)):  # the range of data is known
        data = counts.astype(np.int8)
        _close(trainable_linear(data, weight, backend, 1), mx.array(counts) @ weight)
    packed = pack(2 * np.asarray(spikes), 2)
    _close(trainable_linear(packed, weight, backend, 1), 2 * spikes @ weight)
    nothing = trainable_linear(mx.zeros((2, 3, 0)), mx.zeros((0, 5)), backend, 1)
    np.testing.assert_array_equal(np.asarray(nothing), np.zeros((2, 3, 5)))
    empty = mx.zeros((0, 65))
    assert trainable_linear(empty, weight, backend, 1).shape == (0, 40)
    found = mx.grad(lambda w: trainable_linear(empty, w, backend, 1).sum())(weight)
    _close(found, mx.zeros_like(weight))


@pytest.mark.parametrize("function", [trainable_linear, trainable_linear_lif])
def test_refusals(function: Any) -> None:
    spikes, weight = mx.ones((3, 2, 4)), mx.ones((4, 5))
    for levels in (None, 0, 128, 1.5):
        with pytest.raises(ValueError, match=r"expected levels 1\.\.127, the largest count"):
            function(spikes, weight, backend="metal-emulated", levels=levels)
    with pytest.raises(ValueError, match="the largest count"):
        function(spikes, weight, backend="cpu", levels=0)
    with pytest.raises(
        ValueError, match=r"expected whole counts -127\.\.127 on Metal, got 0\.\.0.5"
    ):
        function(np.full((3, 2, 4), 0.5), weight, backend="metal-emulated")
    for arguments, message in (
        ({"neuron": "soft"}, "expected neuron as Neuron, got 'soft'"),
        ({"threshold": "a"}, "expected a finite threshold"),
        ({"state": np.zeros((2, 5), np.float32)}, "expected state as array, got ndarray; convert"),
    ):
        if function is trainable_linear_lif:
            with pytest.raises(ValueError, match=message):
                function(spikes, weight, **arguments)
    with pytest.raises(ValueError, match="expected backend auto, cpu, metal, metal-emulated"):
        function(spikes, weight, backend="gpu")
    if NO_GPU:
        with pytest.raises(ValueError, match="backend 'metal' cannot run this: MLX has no Metal"):
            function(spikes, weight, backend="metal", levels=1)
    with pytest.raises(ValueError, match=r"expected spikes \(.*4\)"):
        function(mx.ones((3, 2, 7)), weight, backend="metal-emulated", levels=1)
