"""Gradients of spiking networks through the kernels: against MLX operations and differences.

The surrogate network is smooth: around the values a network has, each spike moves as the primitive
of the surrogate does. Its central differences in float64 are what the gradients must be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels import Neuron, trainable_lif, trainable_linear, trainable_linear_lif

SURROGATES = ("atan", "fast_sigmoid", "boxcar")
NEURONS = [
    Neuron(reset, None, surrogate, 1.5, detach)
    for reset, surrogate, detach in product(("soft", "hard"), SURROGATES, (True, False))
] + [Neuron(levels=4), Neuron(levels=4, detach_reset=False)]
DECAY, GAIN, THRESHOLD = 0.5, 0.75, 1.0
Weights = list[np.ndarray]


def _name(neuron: Neuron) -> str:
    kind = "integer" if neuron.levels else f"{neuron.reset}-{neuron.surrogate}"
    return f"{kind}-{'detached' if neuron.detach_reset else 'through'}"


ALL = pytest.mark.parametrize("neuron", NEURONS, ids=_name)
STEPS = pytest.mark.parametrize("steps", [1, 4, 7])


def _network(steps: int, widths: tuple[int, ...], rows: int = 8) -> tuple[np.ndarray, Weights]:
    """Data spikes (T, R, I) and one weight per layer; a quarter of the neurons fire, or more."""
    rng = np.random.default_rng(steps + sum(widths))
    data = (rng.random((steps, rows, widths[0])) < 0.3).astype(np.float32)
    weights = [
        (rng.standard_normal(shape) * 2.5 / math.sqrt(0.3 * shape[0])).astype(np.float32)
        for shape in zip(widths, widths[1:], strict=False)
    ]
    return data, weights


def _first(rows: int, width: int) -> np.ndarray:
    """Membranes before the first step, so that no silent input leaves one at exactly 0."""
    rng = np.random.default_rng(rows + width)
    return (0.1 * rng.standard_normal((rows, width))).astype(np.float32)


def _primitive(u: np.ndarray, neuron: Neuron) -> np.ndarray:
    """The function of which the surrogate is the slope."""
    z, a = u - THRESHOLD, neuron.sharpness
    if neuron.levels is not None:
        return np.asarray(np.clip(u / THRESHOLD, 0, neuron.levels))
    if neuron.surrogate == "atan":
        return np.asarray(np.arctan(math.pi / 2 * a * z) / math.pi)
    if neuron.surrogate == "fast_sigmoid":
        return np.asarray(z / (1 + a * np.abs(z)))
    return np.asarray(np.clip(a * z, -0.5, 0.5))


def _fire(u: np.ndarray, neuron: Neuron) -> np.ndarray:
    if neuron.levels is None:
        return (u >= THRESHOLD).astype(np.float64)
    return np.asarray(np.clip(np.floor(u / THRESHOLD + 0.5), 0, neuron.levels))


class Surrogate:
    """The surrogate network in float64: two spiking layers and a linear one, its loss a dot product
    with `direction`, around the spikes that it has with `weights`."""

    def __init__(
        self, data: np.ndarray, weights: Weights, neuron: Neuron, direction: np.ndarray
    ) -> None:
        self.neuron, self.direction, self.data = neuron, direction, data.astype(np.float64)
        self.spikes: list[np.ndarray] = []
        self.offsets: list[np.ndarray] = []
        x = self.data
        for weight in weights[:-1]:
            x = self._layer(x @ weight.astype(np.float64), None)

    def _layer(self, x: np.ndarray, index: int | None) -> np.ndarray:
        """Smooth spikes of layer `index`; None adds a layer, which fires."""
        neuron, v, found = self.neuron, _first(*x.shape[1:]).astype(np.float64), []
        fired, offsets = [], []
        for t in range(len(x)):
            u = DECAY * v + GAIN * x[t]
            smooth = _primitive(u, neuron)
            if index is None:
                fired.append(_fire(u, neuron))
                offsets.append(fired[t] - smooth)
            else:
                fired.append(self.spikes[index][t])
                offsets.append(self.offsets[index][t])
            s = offsets[t] + smooth
            reset = fired[t] if neuron.detach_reset else s
            v = u * (1 - reset) if neuron.reset == "hard" else u - THRESHOLD * reset
            found.append(s)
        if index is None:
            self.spikes.append(np.array(fired))
            self.offsets.append(np.array(offsets))
        return np.array(found)

    def loss(self, weights: list[np.ndarray]) -> float:
        x = self.data
        for index, weight in enumerate(weights[:-1]):
            x = self._layer(x @ weight, index)
        return float(((x @ weights[-1]) * self.direction).sum())

    def slope(self, weights: Weights, towards: Weights, step: float = 1e-6) -> float:
        """Central difference of the loss along a direction in weights."""
        sides = [
            self.loss([w + sign * step * d for w, d in zip(weights, towards, strict=True)])
            for sign in (1.0, -1.0)
        ]
        return (sides[0] - sides[1]) / (2 * step)


def _fused(x: Any, weight: mx.array, neuron: Neuron) -> mx.array:
    state = mx.array(_first(x.shape[1], weight.shape[1]))
    return trainable_linear_lif(x, weight, THRESHOLD, DECAY, GAIN, neuron, state)[0]


def _apart(x: Any, weight: mx.array, neuron: Neuron) -> mx.array:
    state = mx.array(_first(x.shape[1], weight.shape[1]))
    return trainable_lif(trainable_linear(x, weight), THRESHOLD, DECAY, GAIN, neuron, state)[0]


def _operations(x: Any, weight: mx.array, neuron: Neuron) -> mx.array:
    """MLX operations; spikes get the gradient of the primitive."""
    x, a, spikes = mx.array(x) @ weight, neuron.sharpness, []
    v = mx.array(_first(*x.shape[1:]))
    for t in range(x.shape[0]):
        u = DECAY * v + GAIN * x[t]
        z = u - THRESHOLD
        if neuron.levels is not None:
            fired = mx.clip(mx.floor(u / THRESHOLD + 0.5), 0, neuron.levels)
            smooth = mx.clip(u / THRESHOLD, 0, neuron.levels)
        else:
            fired = (z >= 0).astype(mx.float32)
            smooth = {
                "atan": lambda z=z: mx.arctan(math.pi / 2 * a * z) / math.pi,
                "fast_sigmoid": lambda z=z: z / (1 + a * mx.abs(z)),
                "boxcar": lambda z=z: mx.clip(a * z, -0.5, 0.5),
            }[neuron.surrogate]()
        s = mx.stop_gradient(fired - smooth) + smooth
        s = mx.stop_gradient(mx.round(s) - s) + s  # exactly 0, 1, ... again
        reset = mx.stop_gradient(s) if neuron.detach_reset else s
        v = u * (1 - reset) if neuron.reset == "hard" else u - THRESHOLD * reset
        spikes.append(s)
    return mx.stack(spikes)


LAYERS = {"fused": _fused, "apart": _apart}
FORMS = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)


def _gradients(
    data: np.ndarray, weights: Weights, neuron: Neuron, direction: np.ndarray, layer: Any
) -> tuple[float, Weights]:
    """Loss and its gradients through MLX."""
    last = (lambda x, w: x @ w) if layer is _operations else trainable_linear

    def loss(weights: list[mx.array]) -> mx.array:
        x: Any = data
        for weight in weights[:-1]:
            x = layer(x, weight, neuron)
        return (last(x, weights[-1]) * mx.array(direction.astype(np.float32))).sum()

    value, gradients = mx.value_and_grad(loss)([mx.array(weight) for weight in weights])
    return value.item(), [np.asarray(gradient) for gradient in gradients]


@ALL
@STEPS
@FORMS
def test_gradients_equal_differences(
    layer: Callable[..., mx.array], steps: int, neuron: Neuron
) -> None:
    """Every weight of a small network of two spiking layers and a linear one."""
    data, weights = _network(steps, (6, 5, 4, 3))
    direction = np.random.default_rng(0).standard_normal((steps, 8, 3))
    surrogate = Surrogate(data, weights, neuron, direction.astype(np.float32))
    assert all(spikes.mean() > 0 for spikes in surrogate.spikes)
    value, found = _gradients(data, weights, neuron, direction, layer)
    wide = [weight.astype(np.float64) for weight in weights]
    assert value == pytest.approx(surrogate.loss(wide), rel=1e-5, abs=1e-5)
    for index, gradient in enumerate(found):
        wanted = np.zeros(gradient.shape)
        for where in np.ndindex(gradient.shape):
            towards = [np.zeros(weight.shape) for weight in weights]
            towards[index][where] = 1
            wanted[where] = surrogate.slope(wide, towards)
        error = np.sqrt(np.mean((gradient - wanted) ** 2) / np.mean(wanted**2))
        assert error < 1e-5, f"weight {index}: relative RMS {error:.2g}"


@ALL
@STEPS
@pytest.mark.parametrize("width", [1, 63, 65, 123])
def test_gradients_at_awkward_widths(width: int, steps: int, neuron: Neuron) -> None:
    """Fused and apart equal MLX operations; and the slope along the gradient is its length."""
    data, weights = _network(steps, (70, width, width, 3), rows=5)
    direction = np.random.default_rng(1).standard_normal((steps, 5, 3))
    value, wanted = _gradients(data, weights, neuron, direction, _operations)
    surrogate = Surrogate(data, weights, neuron, direction.astype(np.float32))
    wide = [weight.astype(np.float64) for weight in weights]
    for name, layer in LAYERS.items():
        loss, found = _gradients(data, weights, neuron, direction, layer)
        assert loss == pytest.approx(value, rel=1e-5, abs=1e-5)
        for index, (a, b) in enumerate(zip(found, wanted, strict=True)):
            size = np.sqrt(np.mean(b.astype(np.float64) ** 2))
            error = np.sqrt(np.mean((a - b) ** 2))
            assert error <= 1e-5 * size, f"{name}, weight {index}: {error:.2g} of {size:.2g}"
        length = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in found))
        if length > 0:
            towards = [g.astype(np.float64) / length for g in found]
            assert surrogate.slope(wide, towards) == pytest.approx(length, rel=1e-5)


def test_a_network_learns() -> None:
    """A few steps of gradient descent through two spiking layers lower the loss by half."""
    data, weights = _network(4, (40, 64, 64, 3), rows=32)
    labels = np.random.default_rng(2).integers(0, 3, 32)
    target = mx.array(np.eye(3, dtype=np.float32)[labels])
    neuron = Neuron(surrogate="boxcar", sharpness=1.0)

    def loss(weights: list[mx.array]) -> mx.array:
        x: Any = data
        for weight in weights[:-1]:
            x = _fused(x, weight, neuron)
        return ((trainable_linear(x, weights[-1]).mean(0) - target) ** 2).mean()

    trained = [mx.array(weight) for weight in weights]
    first = loss(trained).item()
    for _ in range(40):
        gradients = mx.grad(loss)(trained)
        trained = [w - 0.05 * g for w, g in zip(trained, gradients, strict=True)]
    assert loss(trained).item() < 0.5 * first
