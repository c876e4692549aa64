"""Trainable spike linear and spiking layer: against MLX operations, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels import (
    Neuron,
    pack,
    trainable_lif,
    trainable_linear,
    trainable_linear_lif,
)

SIZES = ((1, 1), (63, 65), (64, 64), (65, 123), (123, 63), (300, 320))
DENSITIES = pytest.mark.parametrize("density", [0.0, 0.05, 0.2, 1.0])
NEURONS = {
    "atan": Neuron(),
    "boxcar": Neuron(surrogate="boxcar"),
    "boxcar-through": Neuron(surrogate="boxcar", detach_reset=False),
    "hard": Neuron("hard", surrogate="boxcar"),
    "fast_sigmoid": Neuron("hard", surrogate="fast_sigmoid"),
    "integer": Neuron(levels=4),
    "signed": Neuron(levels=2, signed=True, rounding="half_even"),
    "open-ended": Neuron(levels=1, clip_bounds=False),
    "sigmoid": Neuron(surrogate="sigmoid", sharpness=4.0),
}
KINDS = pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)


def _close(name: str, found: Any, wanted: Any, limit: float = 1e-5) -> None:
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape, name
    size = np.sqrt(np.mean(wanted**2)) if wanted.size else 0.0
    error = np.sqrt(np.mean((found - wanted) ** 2)) if wanted.size else 0.0
    assert error <= limit * size, f"{name}: relative RMS {error / max(size, 1e-30):.2g}"


def _normal(seed: int, *shape: int) -> mx.array:
    values = np.random.default_rng(seed).standard_normal(shape)
    return mx.array(values.astype(np.float32))


def _counts(density: float, levels: int, *shape: int) -> np.ndarray:
    """Signed counts, `density` of them nonzero."""
    rng = np.random.default_rng(5)
    size = rng.integers(1, levels + 1, shape) * rng.choice([-1, 1], shape)
    return np.where(rng.random(shape) < density, size, 0).astype(np.float32)


@DENSITIES
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_linear_equals_a_product(sizes: tuple[int, int], density: float) -> None:
    """Sum and both gradients, sparse and dense, with signed counts up to 4; 600 rows."""
    inputs, outputs = sizes
    spikes = mx.array(_counts(density, 4, 4, 150, inputs))
    weight, direction = _normal(1, inputs, outputs), _normal(2, 4, 150, outputs)

    def loss(product: Callable[[mx.array, mx.array], mx.array]) -> Callable[..., mx.array]:
        return lambda spikes, weight: (product(spikes, weight) * direction).sum()

    _close("sum", trainable_linear(spikes, weight), spikes @ weight)
    every = (0, 1)
    found = mx.grad(loss(trainable_linear), every)(spikes, weight)
    wanted = mx.grad(loss(lambda s, w: s @ w), every)(spikes, weight)
    _close("gradient of spikes", found[0], wanted[0])
    _close("gradient of weight", found[1], wanted[1])


@pytest.mark.parametrize("share", [0.02, 0.1, 0.6])
def test_a_sparse_gradient_is_listed(share: float) -> None:
    spikes, weight = mx.array(_counts(0.1, 1, 200, 70)), _normal(1, 70, 130)
    direction = mx.array(_counts(share, 1, 200, 130)) * _normal(2, 200, 130)
    found = mx.grad(lambda s: (trainable_linear(s, weight) * direction).sum())(spikes)
    _close("gradient of spikes", found, direction @ weight.T)


def test_tall_matrices_take_narrow_panels() -> None:
    """More inputs than a wide panel holds in the cache, and more rows."""
    spikes, weight = mx.array(_counts(0.02, 1, 1100, 1500)), _normal(1, 1500, 260)
    direction = _normal(2, 1100, 260)
    _close("sum", trainable_linear(spikes, weight), spikes @ weight)
    found = mx.grad(lambda w: (trainable_linear(spikes, w) * direction).sum())(weight)
    _close("gradient of weight", found, spikes.T @ direction)


@pytest.mark.parametrize("kind", ["int8", "bool", "packed", "strided"])
def test_data_gets_no_gradient(kind: str) -> None:
    counts = np.abs(_counts(0.1, 1, 6, 7, 65))
    data: Any = {
        "int8": counts.astype(np.int8),
        "bool": counts > 0,
        "packed": pack(counts),
        "strided": np.repeat(counts, 2, axis=-1)[..., ::2],
    }[kind]
    weight, direction = _normal(1, 65, 40), _normal(2, 6, 7, 40)
    found, wanted = (
        mx.value_and_grad(lambda w, f=f: (f(w) * direction).sum())(weight)
        for f in (lambda w: trainable_linear(data, w), lambda w: mx.array(counts) @ w)
    )
    _close("value", found[0], wanted[0])
    _close("gradient", found[1], wanted[1])


@KINDS
@pytest.mark.parametrize("steps", [1, 4, 7])
@pytest.mark.parametrize("sizes", [(1, 63), (64, 128), (123, 65)], ids=str)
@pytest.mark.parametrize("learn", [False, True], ids=["numbers", "arrays"])
def test_layer_equals_linear_and_neurons(
    learn: bool, sizes: tuple[int, int], steps: int, neuron: Neuron
) -> None:
    """Spikes bit for bit, where sums are; every gradient, with and without one of the state."""
    inputs, outputs = sizes
    weight = mx.round(4 * _normal(1, inputs, outputs))  # sums of whole numbers are exact
    spikes, first = mx.array(_counts(0.1, 2, steps, 5, inputs)), _normal(3, 5, outputs)
    direction = _normal(2, steps, 5, outputs)
    parts: list[Any] = [6.0, 0.5, 0.75]
    if learn:
        decay = mx.array(np.random.default_rng(0).random(outputs).astype(np.float32))
        parts = [mx.full((outputs,), 6.0), decay, mx.array(0.75)]
    every = tuple(range(6 if learn else 3))
    for last in (0.0, 1.0):

        def loss(layer: Any, spikes: Any, weight: Any, first: Any, *parts: Any) -> mx.array:
            fired, state = layer(spikes, weight, *parts, neuron, first)
            return (fired * direction).sum() + last * (state * direction[0]).sum()  # noqa: B023

        def apart(spikes: Any, weight: Any, *others: Any) -> Any:
            return trainable_lif(spikes @ weight, *others)

        fired = trainable_linear_lif(spikes, weight, *parts, neuron, first)[0]
        assert mx.array_equal(fired, apart(spikes, weight, *parts, neuron, first)[0])
        found, wanted = (
            mx.grad(lambda *a, f=f: loss(f, *a), every)(spikes, weight, first, *parts)
            for f in (trainable_linear_lif, apart)
        )
        names = ("spikes", "weight", "state", "threshold", "decay", "gain")
        for name, a, b in zip(names, found, wanted, strict=False):
            _close(f"gradient of {name}", a, b)


def test_layer_without_a_state_or_rows() -> None:
    data = _counts(0.2, 1, 4, 3, 20)
    weight = _normal(1, 20, 70)
    fired, state = trainable_linear_lif(data, weight)
    wanted, last = trainable_lif(mx.array(data) @ weight, state=mx.zeros((3, 70)))
    assert mx.array_equal(fired, wanted)
    _close("state", state, last)
    fired, state = trainable_linear_lif(mx.zeros((4, 0, 20)), weight)
    assert fired.shape == (4, 0, 70) and state.shape == (0, 70)
    assert trainable_linear(mx.zeros((0, 20)), weight).shape == (0, 70)
    gradient = mx.grad(lambda w: trainable_linear(mx.zeros((0, 20)), w).sum())(weight)
    assert mx.array_equal(gradient, mx.zeros((20, 70)))


def test_forward_passes_may_be_repeated() -> None:
    """mx.checkpoint runs the forward pass twice; the same layer in one loss twice keeps apart."""
    weight, spikes = _normal(1, 30, 30), mx.array(_counts(0.2, 1, 4, 3, 30))

    def layer(spikes: mx.array, weight: mx.array) -> mx.array:
        return trainable_linear_lif(spikes, weight)[0]

    def loss(layer: Any, weight: mx.array) -> mx.array:
        return (layer(layer(spikes, weight), weight) * spikes).sum()

    plain = mx.grad(lambda w: loss(layer, w))(weight)
    assert mx.array_equal(mx.grad(lambda w: loss(mx.checkpoint(layer), w))(weight), plain)
    wanted = mx.grad(lambda w: loss(lambda s, w: trainable_lif(s @ w)[0], w))(weight)
    _close("gradient", plain, wanted)


FUNCTIONS = {
    "spike_linear": lambda x: trainable_linear(x, mx.ones((4, 3))),
    "spike_linear_lif": lambda x: trainable_linear_lif(x, mx.ones((4, 3)))[0],
}


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda f, x: mx.compile(f)(x), "outside mx.compile and mx.vmap only"),
        (lambda f, x: mx.eval(mx.vmap(f)(x)), "mx.vmap"),
        (lambda f, x: mx.jvp(f, [x], [x]), "got mx.jvp"),
        (
            lambda f, x: mx.eval(mx.grad(lambda y: mx.grad(lambda z: f(z).sum())(y).sum())(x)),
            "first derivatives only",
        ),
    ],
    ids=["compile", "vmap", "jvp", "second"],
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_transforms_are_refused(name: str, transform: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        transform(FUNCTIONS[name], mx.ones((2, 3, 5, 4)))


@pytest.mark.parametrize(
    ("spikes", "weight", "message"),
    [
        (mx.ones((3, 4)), mx.ones((5, 2)), r"expected spikes \(.*5\) .* got \(3, 4\)"),
        (mx.ones((3, 4)), mx.ones((4,)), r"expected a float32 MLX weight \(I, O\).* \(4,\)"),
        (mx.ones((3, 4)), mx.ones((4, 2)).astype(mx.float16), "got mlx.core.float16"),
        (mx.ones((3, 4)), np.ones((4, 2), np.float32), "got ndarray"),
        (mx.ones((3, 4), mx.int8), mx.ones((4, 2)), "float32 spikes, got mlx.core.int8"),
    ],
)
def test_wrong_arguments(spikes: Any, weight: Any, message: str) -> None:
    for function in (trainable_linear, trainable_linear_lif):
        with pytest.raises(ValueError, match=message):
            function(spikes, weight)


def test_wrong_neurons() -> None:
    spikes, weight = mx.ones((3, 2, 4)), mx.ones((4, 5))
    for arguments, message in (
        ({"threshold": 0.0}, "positive thresholds, got 0"),
        ({"decay": mx.ones(3)}, r"decay of shape \(\) or \(5,\)"),
        ({"state": mx.ones((2, 4))}, r"state of shape \(2, 5\)"),
    ):
        with pytest.raises(ValueError, match=message):
            trainable_linear_lif(spikes, weight, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected spikes \(T, ..., 4\)"):
        trainable_linear_lif(spikes[0, 0], weight)
