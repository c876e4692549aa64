"""Surrogate gradients: backends, drift, and the differences of a network that is smooth."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
import pytest
from lif_cases import EVERY, SIZES, assert_close, inputs

from neurosim.kernels.lif_scan import (
    LifWorkspace,
    Neuron,
    lif_backward,
    lif_scan,
    reference,
    trainable_lif,
)

ALL = pytest.mark.parametrize("neuron", EVERY.values(), ids=EVERY)


@ALL
def test_512_steps_do_not_drift(neuron: Neuron) -> None:
    """float32 against float64: spikes equal, membranes and gradients close to the end."""
    x, parts = inputs((512, 1, 65), 3)
    weight = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    last = weight[0]
    fast = lif_scan(x, neuron=neuron, save_membrane=True, **parts)
    wide = {name: part.astype(np.float64) for name, part in parts.items()}
    state, order = wide["state"], (wide["decay"], wide["gain"], wide["threshold"])
    spikes, _, membrane = reference.scan(x.astype(np.float64), *order, neuron, state, False, True)
    np.testing.assert_array_equal(fast.spikes, spikes)
    assert membrane is not None and fast.membrane is not None
    assert np.abs(fast.membrane - membrane).max() < 2e-4 * np.abs(membrane).max()
    found = lif_backward(weight, x, fast.membrane, neuron=neuron, state_gradient=last, **parts)
    wanted = reference.backward(
        weight.astype(np.float64), last.astype(np.float64), x.astype(np.float64), membrane, state,
        *order, neuron, True,
    )  # fmt: skip
    for name, ours, theirs in zip(found._fields, found, wanted, strict=True):
        assert_close(f"gradient of {name}", ours, theirs, 2e-4)


@ALL
@pytest.mark.parametrize("size", SIZES)
def test_gradients_of_the_backends(size: int, neuron: Neuron) -> None:
    x, parts = inputs((4, 3, size), size)
    membrane = lif_scan(x, neuron=neuron, save_membrane=True, **parts).membrane
    assert membrane is not None
    weight = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    arguments = {"neuron": neuron, "state_gradient": weight[0], **parts}
    wanted = lif_backward(weight, x, membrane, backend="reference", **arguments)
    found = lif_backward(weight, x, membrane, backend="cpu", **arguments)
    for name, ours, theirs in zip(found._fields, found, wanted, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-5, err_msg=name)


def _primitive(u: np.ndarray, threshold: np.ndarray, neuron: Neuron) -> np.ndarray:
    """The function of which the surrogate is the slope."""
    z, a = u - threshold, neuron.sharpness
    if neuron.levels is not None:
        return np.clip(u / threshold, -neuron.levels if neuron.signed else 0, neuron.levels)
    if neuron.surrogate == "sigmoid":
        return 1 / (1 + np.exp(-a * z))
    if neuron.surrogate == "atan":
        return np.arctan(math.pi / 2 * a * z) / math.pi
    if neuron.surrogate == "fast_sigmoid":
        return z / (1 + a * np.abs(z))
    return np.clip(a * z, -0.5, 0.5)


class _Network:
    """The scan with spikes that move as the primitive does around the values they have; float64."""

    def __init__(self, base: dict[str, np.ndarray], neuron: Neuron) -> None:
        order = base["decay"], base["gain"], base["threshold"]
        self.neuron = neuron
        self.spikes, _, membrane = reference.scan(
            base["x"], *order, neuron, base["state"], False, True
        )
        assert membrane is not None
        self.membrane = membrane
        self.offset = self.spikes - _primitive(membrane, base["threshold"], neuron)
        rng = np.random.default_rng(2)
        shape = base["x"].shape
        self.weight, self.last = rng.standard_normal(shape), rng.standard_normal(shape[1:])

    def loss(self, values: dict[str, np.ndarray]) -> float:
        v, total, neuron = values["state"], 0.0, self.neuron
        for t in range(len(self.weight)):
            u = values["decay"] * v + values["gain"] * values["x"][t]
            s = self.offset[t] + _primitive(u, values["threshold"], neuron)
            reset = self.spikes[t] if neuron.detach_reset else s
            v = u * (1 - reset) if neuron.reset == "hard" else u - values["threshold"] * reset
            total += float((self.weight[t] * s).sum())
        return total + float((self.last * v).sum())


@ALL
def test_gradients_equal_differences_of_the_surrogate_network(neuron: Neuron) -> None:
    x, parts = inputs((5, 2, 6), 7)
    names = ("x", "state", "decay", "gain", "threshold")
    base = {name: part.astype(np.float64) for name, part in {"x": x, **parts}.items()}
    network = _Network(base, neuron)
    order = base["decay"], base["gain"], base["threshold"]
    found = reference.backward(
        network.weight, network.last, base["x"], network.membrane, base["state"], *order, neuron,
        True,
    )  # fmt: skip
    step = 1e-6
    for name, gradient in zip(names, found, strict=True):
        wanted = np.zeros_like(gradient)
        for where in np.ndindex(gradient.shape):
            sides = []
            for sign in (1, -1):
                moved = base[name].copy()
                moved[where] += sign * step
                sides.append(network.loss({**base, name: moved}))
            wanted[where] = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(gradient, wanted, rtol=1e-6, atol=1e-6, err_msg=name)


@ALL
def test_plif_gradient_through_mlx_equals_differences(neuron: Neuron) -> None:
    """PLIF: one weight w for all neurons, decay 1 - sigmoid(w) and gain sigmoid(w)."""
    x, parts = inputs((5, 2, 65), 3)
    w = 0.3

    def base(w: float) -> dict[str, np.ndarray]:
        rate = np.full(65, 1 / (1 + np.exp(-w)))
        wide = {name: part.astype(np.float64) for name, part in parts.items()}
        return {**wide, "x": 4 * x.astype(np.float64), "decay": 1 - rate, "gain": rate}

    network = _Network(base(w), neuron)
    wanted = (network.loss(base(w + 1e-6)) - network.loss(base(w - 1e-6))) / 2e-6

    def loss(w: mx.array) -> mx.array:
        rate = mx.sigmoid(w)
        threshold, state = mx.array(parts["threshold"]), mx.array(parts["state"])
        spikes, last = trainable_lif(mx.array(4 * x), threshold, 1 - rate, rate, neuron, state)
        weights = mx.array(network.weight.astype(np.float32))
        return (spikes * weights).sum() + (last * mx.array(network.last.astype(np.float32))).sum()

    assert mx.grad(loss)(mx.array(w)).item() == pytest.approx(wanted, rel=1e-5, abs=1e-4)
    assert abs(wanted) > 1e-2


def test_the_ends_of_the_integer_range() -> None:
    """At u = 0 and u = D threshold the gradient passes, unless `clip_bounds` says no."""
    membrane = np.array([[-1, -0.5, 0, 0.5, 1, 2, 2.5]], np.float32)
    ones = np.ones_like(membrane)
    for signed, bounds, wanted in (
        (False, True, [0, 0, 2, 2, 2, 0, 0]),
        (False, False, [0, 0, 0, 2, 0, 0, 0]),
        (True, True, [2, 2, 2, 2, 2, 0, 0]),
        (True, False, [0, 2, 2, 2, 0, 0, 0]),
    ):
        neuron = Neuron(levels=2, signed=signed, clip_bounds=bounds)
        for backend in ("cpu", "reference"):
            found = lif_backward(ones, ones, membrane, 0.5, neuron=neuron, backend=backend)
            assert found.x.tolist() == [wanted]


def test_parameters_are_left_alone_where_none_learn() -> None:
    x, parts = inputs((4, 70, 65))
    membrane = lif_scan(x, save_membrane=True, **parts).membrane
    workspace = LifWorkspace()
    all_of_them = lif_backward(x, x, membrane, **parts)
    some = lif_backward(x, x, membrane, learn=False, workspace=workspace, **parts)
    np.testing.assert_array_equal(some.x, all_of_them.x)
    np.testing.assert_array_equal(some.state, all_of_them.state)
    assert all_of_them.decay.any()
    assert not np.stack(some[2:]).any()
    again = lif_backward(x, x, membrane, learn=False, workspace=workspace, **parts)
    assert np.shares_memory(again.x, some.x)
