"""A trainable stack: against layer by layer, MLX operations and differences; what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import test_training_gradients as network
from test_training_gradients import DECAY, GAIN, NEURONS, THRESHOLD, Surrogate, Weights

from neurosim.kernels import Neuron, pack, trainable_linear, trainable_linear_lif, trainable_stack

ALL = pytest.mark.parametrize("neuron", NEURONS, ids=network._name)
BOXCAR = Neuron(surrogate="boxcar", sharpness=1.0)


@pytest.fixture
def from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of test_training_gradients, with membranes that start at 0 (bar integers)."""
    monkeypatch.setattr(network, "_first", lambda rows, width: np.zeros((rows, width), np.float32))


def _stack(spikes: Any, weights: list[mx.array], neuron: Neuron) -> mx.array:
    return trainable_stack(spikes, weights[:-1], weights[-1], THRESHOLD, DECAY, GAIN, neuron)


def _close(name: str, found: Any, wanted: Any, limit: float = 1e-5) -> None:
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape, name
    size = np.sqrt(np.mean(wanted**2)) if wanted.size else 0.0
    error = np.sqrt(np.mean((found - wanted) ** 2)) if wanted.size else 0.0
    assert error <= limit * size, f"{name}: relative RMS {error / max(size, 1e-30):.2g}"


def _gradients(
    data: np.ndarray, weights: Weights, neuron: Neuron, direction: np.ndarray
) -> tuple[float, Weights]:
    """Loss and gradients of the stack; `direction` (R, C) is that of the mean over time."""

    def loss(weights: list[mx.array]) -> mx.array:
        return (_stack(data, weights, neuron) * mx.array(direction)).sum()

    value, found = mx.value_and_grad(loss)([mx.array(weight) for weight in weights])
    return value.item(), [np.asarray(gradient) for gradient in found]


def _direction(rows: int, classes: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, classes)).astype(np.float32)


@ALL
@pytest.mark.parametrize("steps", [1, 4, 7])
def test_gradients_equal_differences(from_zero: None, steps: int, neuron: Neuron) -> None:
    """Central differences in float64 of the smooth network, weight by weight."""
    data, weights = network._network(steps, (6, 5, 4, 3))
    if neuron.levels:
        data[0] = 1  # an integer neuron whose membrane is exactly 0 has two slopes
    direction = _direction(8, 3)
    surrogate = Surrogate(data, weights, neuron, np.tile(direction / steps, (steps, 1, 1)))
    assert all(spikes.mean() > 0 for spikes in surrogate.spikes)
    value, found = _gradients(data, weights, neuron, direction)
    wide = [weight.astype(np.float64) for weight in weights]
    assert value == pytest.approx(surrogate.loss(wide), rel=1e-5, abs=1e-5)
    for index, gradient in enumerate(found):
        wanted = np.zeros(gradient.shape)
        for where in np.ndindex(gradient.shape):
            towards = [np.zeros(weight.shape) for weight in weights]
            towards[index][where] = 1
            wanted[where] = surrogate.slope(wide, towards)
        _close(f"weight {index}", gradient, wanted)


@ALL
@pytest.mark.parametrize("steps", [1, 4, 7])
@pytest.mark.parametrize("width", [1, 63, 64, 65, 123, 300])
def test_gradients_equal_mlx_operations(
    from_zero: None, width: int, steps: int, neuron: Neuron
) -> None:
    data, weights = network._network(steps, (70, width, width, 3), rows=5)
    neuron = replace(neuron, clip_bounds=False)  # as mx.clip: no gradient for u = 0
    direction = _direction(5, 3)
    over_time = np.tile(direction / steps, (steps, 1, 1))
    operations = network._operations
    value, wanted = network._gradients(data, weights, neuron, over_time, operations)
    loss, found = _gradients(data, weights, neuron, direction)
    assert loss == pytest.approx(value, rel=1e-5, abs=1e-5)
    for index, (a, b) in enumerate(zip(found, wanted, strict=True)):
        _close(f"weight {index}", a, b)


@pytest.mark.parametrize("density", [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [1, 4])
@pytest.mark.parametrize("reads", [True, False], ids=["readout", "spikes"])
def test_equals_layer_by_layer(reads: bool, levels: int, density: float) -> None:
    """Three layers that differ; trained spikes with signed counts; two leading axes.

    Weights are whole numbers and halves are exact, so that spikes agree bit for bit.
    """
    rng = np.random.default_rng(3)
    sizes = (70, 130, 64, 65)
    counts = rng.integers(1, levels + 1, (4, 3, 2, 70)) * rng.choice([-1, 1], (4, 3, 2, 70))
    spikes = mx.array(np.where(rng.random(counts.shape) < density, counts, 0).astype(np.float32))
    drawn = [np.rint(3 * rng.standard_normal(shape)) for shape in pairwise(sizes)]
    weights = [mx.array(weight.astype(np.float32)) for weight in drawn]
    last = mx.array(rng.standard_normal((65, 10)).astype(np.float32))
    parts: Any = ((4.0, 6.0, 5.0), (0.5, 0.25, 1.0), (1.0, 0.5, 2.0))
    neurons = [BOXCAR, Neuron(levels=3), Neuron("hard")]
    direction = mx.array(rng.standard_normal((3, 2, 10) if reads else (4, 3, 2, 65)))

    def apart(spikes: mx.array, last: mx.array, *weights: mx.array) -> mx.array:
        for weight, *scales, neuron in zip(weights, *parts, neurons, strict=True):
            spikes = trainable_linear_lif(spikes, weight, *scales, neuron)[0]
        return trainable_linear(spikes, last).mean(axis=0) if reads else spikes

    def stack(spikes: mx.array, last: mx.array, *weights: mx.array) -> mx.array:
        return trainable_stack(spikes, weights, last if reads else None, *parts, neurons)

    arguments = (spikes, last, *weights)
    _close("output", stack(*arguments), apart(*arguments))
    found, wanted = (
        mx.grad(lambda *a, f=f: (f(*a) * direction).sum(), tuple(range(5)))(*arguments)
        for f in (stack, apart)
    )
    for index, (a, b) in enumerate(zip(found, wanted, strict=True)):
        _close(f"argument {index}", a, b)


@pytest.mark.parametrize("kind", ["float32", "int8", "bool", "packed", "bits", "strided"])
def test_data_of_any_kind(kind: str) -> None:
    """Data get no gradient; the packed form serves many calls."""
    rng = np.random.default_rng(1)
    counts = ((rng.random((4, 6, 65)) < 0.2) * rng.integers(1, 4, (4, 6, 65))).astype(np.float32)
    counts = np.minimum(counts, 1) if kind == "bool" else counts
    data: Any = {
        "float32": lambda: counts,
        "int8": lambda: counts.astype(np.int8),
        "bool": lambda: counts > 0,
        "packed": lambda: pack(counts, 3, time_axis=0),
        "bits": lambda: pack(counts, 3, code="bits"),
        "strided": lambda: np.repeat(counts, 2, axis=-1)[..., ::2],
    }[kind]()
    weights = [mx.array(rng.standard_normal(shape).astype("f4")) for shape in ((65, 40), (40, 10))]
    found, wanted = (
        mx.value_and_grad(lambda w, s=s: mx.square(_stack(s, w, BOXCAR)).sum())(weights)
        for s in (data, mx.array(counts))
    )
    assert found[0].item() == wanted[0].item()
    for a, b in zip(found[1], wanted[1], strict=True):
        assert mx.array_equal(a, b)


def test_without_rows_and_repeated() -> None:
    """No rows; mx.checkpoint runs the forward pass twice; one loss may use a stack twice."""
    weights = [mx.array(_direction(30, 30)), mx.array(_direction(30, 5))]
    for rows in (0, 3):
        spikes = mx.array((np.random.default_rng(0).random((4, rows, 30)) < 0.2).astype(np.float32))

        def once(spikes: mx.array, first: mx.array) -> mx.array:
            return trainable_stack(spikes, [first], neuron=BOXCAR)

        def loss(layer: Any, first: mx.array) -> mx.array:
            return (layer(layer(spikes, first), first) @ weights[1]).sum()  # noqa: B023

        assert once(spikes, weights[0]).shape == (4, rows, 30)
        assert _stack(spikes, weights, BOXCAR).shape == (rows, 5)
        plain = mx.grad(lambda w: loss(once, w))(weights[0])  # noqa: B023
        again = mx.grad(lambda w: loss(mx.checkpoint(once), w))(weights[0])  # noqa: B023
        assert mx.array_equal(plain, again)
        wanted = mx.grad(
            lambda w: loss(lambda s, w: trainable_linear_lif(s, w, neuron=BOXCAR)[0], w)  # noqa: B023
        )(weights[0])
        _close("gradient", plain, wanted)


def test_a_stack_learns() -> None:
    data, weights = network._network(4, (40, 64, 64, 3), rows=32)
    labels = np.random.default_rng(2).integers(0, 3, 32)
    target = mx.array(np.eye(3, dtype=np.float32)[labels])

    def loss(weights: list[mx.array]) -> mx.array:
        return ((_stack(data, weights, BOXCAR) - target) ** 2).mean()

    trained = [mx.array(weight) for weight in weights]
    first = loss(trained).item()
    for _ in range(40):
        gradients = mx.grad(loss)(trained)
        trained = [w - 0.05 * g for w, g in zip(trained, gradients, strict=True)]
    assert math.isfinite(first) and loss(trained).item() < 0.5 * first


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
def test_transforms_are_refused(transform: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"trainable_stack.*{message}"):
        transform(lambda x: trainable_stack(x, [mx.ones((4, 3))]), mx.ones((2, 3, 5, 4)))


GOOD = mx.ones((4, 5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((mx.ones((3, 2, 4)), []), "a weight per spiking layer, got none"),
        ((mx.ones(4), [GOOD]), r"expected spikes \(T, ..., I\), T >= 1, got \(4,\)"),
        ((mx.ones((0, 2, 4)), [GOOD]), r"T >= 1, got \(0, 2, 4\)"),
        ((mx.ones((3, 4), mx.int8), [GOOD]), "float32 spikes, got mlx.core.int8"),
        ((mx.ones((3, 4)), [GOOD, GOOD]), r"\(5, O\) at place 1, got mlx.core.float32 \(4, 5\)"),
        ((mx.ones((3, 4)), [GOOD], GOOD), r"weight \(5, O\) at place 1"),
        ((mx.ones((3, 4)), [np.ones((4, 5), np.float32)]), "got ndarray"),
        ((mx.ones((3, 4)), [GOOD], None, [1.0, 2.0]), "threshold of 1 layers, got 2"),
        ((mx.ones((3, 4)), [GOOD], None, 0.0), "positive thresholds, got 0"),
        ((np.full((3, 4), 200), [GOOD]), r"counts -127..127, got 0.0..200.0"),
        ((np.full((3, 4), 0.5), [GOOD]), "whole"),
        ((np.full((3, 4), np.nan), [GOOD]), "counts -127..127"),
        ((pack(np.ones((2, 3, 4)), time_axis=1), [GOOD]), "time as the first axis, got 1"),
        ((np.ones((3, 4)), [GOOD], None, 1.0, 0.5, 1.0, Neuron(levels=1, signed=True)), "unsigned"),
    ],
)
def test_wrong_arguments(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainable_stack(*arguments)
