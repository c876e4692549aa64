"""The scan inside MLX: gradients equal those of the same network in MLX operations."""

from __future__ import annotations

import math

import mlx.core as mx
import numpy as np
import pytest
from lif_cases import EVERY, assert_close, inputs

from neurosim.kernels.lif_scan import Neuron, lif_backward, lif_scan, trainable_lif

ALL = pytest.mark.parametrize("neuron", EVERY.values(), ids=EVERY)
X = np.zeros((3, 2, 4), np.float32)


def _unrolled(
    x: mx.array, threshold: mx.array, decay: mx.array, gain: mx.array, state: mx.array,
    neuron: Neuron,
) -> tuple[mx.array, mx.array]:  # fmt: skip
    """The same in MLX operations; spikes get the gradient of the primitive."""
    v, spikes, a = state, [], neuron.sharpness
    for t in range(x.shape[0]):
        u = decay * v + gain * x[t]
        z = u - threshold
        if neuron.levels is not None:
            n = u / threshold
            size = mx.abs(n) if neuron.signed else n
            even = neuron.rounding == "half_even"
            fired = mx.clip(mx.round(size) if even else mx.floor(size + 0.5), 0, neuron.levels)
            fired = mx.sign(n) * fired if neuron.signed else fired
            smooth = mx.clip(n, -neuron.levels if neuron.signed else 0, neuron.levels)
        else:
            fired = (z >= 0).astype(mx.float32)
            smooth = {
                "atan": lambda z=z: mx.arctan(math.pi / 2 * a * z) / math.pi,
                "fast_sigmoid": lambda z=z: z / (1 + a * mx.abs(z)),
                "sigmoid": lambda z=z: mx.sigmoid(a * z),
                "boxcar": lambda z=z: mx.clip(a * z, -0.5, 0.5),
            }[neuron.surrogate]()
        s = mx.stop_gradient(fired - smooth) + smooth
        s = mx.stop_gradient(mx.round(s) - s) + s  # exactly 0, 1, ... again
        reset = mx.stop_gradient(s) if neuron.detach_reset else s
        v = u * (1 - reset) if neuron.reset == "hard" else u - threshold * reset
        spikes.append(s)
    return mx.stack(spikes), v


@ALL
def test_training_equals_unrolled_mlx(neuron: Neuron) -> None:
    x, parts = inputs((6, 2, 3, 65), 11)
    order = ("threshold", "decay", "gain", "state")
    arguments = [mx.array(part) for part in (x, *(parts[name] for name in order))]
    weight = mx.array(np.random.default_rng(4).standard_normal(x.shape).astype(np.float32))

    def ours(x, threshold, decay, gain, state):  # type: ignore[no-untyped-def]
        spikes, last = trainable_lif(x, threshold, decay, gain, neuron, state)
        return (spikes * weight).sum() + (last * weight[0]).sum()

    def theirs(*arguments):  # type: ignore[no-untyped-def]
        spikes, last = _unrolled(*arguments, neuron)
        return (spikes * weight).sum() + (last * weight[0]).sum()

    every = tuple(range(5))
    value, found = mx.value_and_grad(ours, argnums=every)(*arguments)
    expected, wanted = mx.value_and_grad(theirs, argnums=every)(*arguments)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, a, b in zip(("x", *order), found, wanted, strict=True):
        assert_close(f"gradient of {name}", np.asarray(a), np.asarray(b), 1e-5)


def test_numbers_as_parameters() -> None:
    """Numbers are constants, a () array gets the sum of the gradients of its neurons."""
    x = mx.array(inputs((4, 3, 70))[0])
    spikes, state = trainable_lif(x, 0.8, 0.9, 0.7)
    scan = lif_scan(np.asarray(x), 0.8, 0.9, 0.7)
    np.testing.assert_array_equal(np.asarray(spikes), scan.spikes)
    np.testing.assert_array_equal(np.asarray(state), scan.state)

    def loss(decay: mx.array) -> mx.array:
        return (trainable_lif(x, 0.8, decay, 0.7)[0] * x).sum()

    one = mx.grad(loss)(mx.array(0.9))
    many = mx.grad(loss)(mx.full((70,), 0.9))
    assert one.item() == pytest.approx(many.sum().item(), rel=1e-5)
    assert abs(one.item()) > 1e-3

    given = np.full(70, 0.9, np.float32)  # numpy is taken too
    np.testing.assert_array_equal(
        np.asarray(trainable_lif(x, 0.8, given, np.float32(0.7))[0]), np.asarray(spikes)
    )
    fixed = mx.grad(lambda x: (trainable_lif(x, 0.8, 0.9, 0.7)[0] * x).sum())(x)
    trained = mx.grad(lambda x: (trainable_lif(x, mx.array(0.8), 0.9, 0.7)[0] * x).sum())(x)
    np.testing.assert_array_equal(np.asarray(fixed), np.asarray(trained))


def test_a_model_learns_its_time_constant() -> None:
    """PLIF: gradient descent through the scan finds inputs and a decay that fire a pattern."""
    rng = np.random.default_rng(0)
    x = mx.array(rng.standard_normal((8, 4, 10)).astype(np.float32))
    target = mx.array((rng.random((8, 4, 3)) < 0.4).astype(np.float32))
    weights = {
        "matrix": mx.array(rng.standard_normal((10, 3)).astype(np.float32)),
        "w": mx.array(0.0),
    }

    def loss(weights: dict[str, mx.array]) -> mx.array:
        rate = mx.sigmoid(weights["w"])
        spikes, _ = trainable_lif(x @ weights["matrix"], 1.0, 1 - rate, rate)
        return ((spikes - target) ** 2).mean()

    step = mx.value_and_grad(loss)
    first = loss(weights).item()
    for _ in range(60):
        _, gradient = step(weights)
        weights = {name: value - 1.0 * gradient[name] for name, value in weights.items()}
    assert loss(weights).item() < 0.75 * first
    assert abs(weights["w"].item()) > 1e-2


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
def test_transforms_are_refused(transform, message: str) -> None:  # type: ignore[no-untyped-def]
    x = mx.array(inputs((3, 2, 4))[0])
    with pytest.raises(ValueError, match=message):
        transform(lambda x: trainable_lif(x)[0], x)


def test_training_and_backward_refuse_wrong_shapes() -> None:
    x = mx.array(X)
    for arguments, message in (
        ({"threshold": mx.zeros(4)}, "positive thresholds, got 0"),
        ({"threshold": -1.0}, "positive thresholds, got -1"),
        ({"decay": mx.zeros(3)}, r"decay of shape \(\) or \(4,\)"),
        ({"state": mx.zeros(4)}, r"state of shape \(2, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            mx.eval(trainable_lif(x, **arguments))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got mlx.core.float16"):
        trainable_lif(x.astype(mx.float16))
    with pytest.raises(ValueError, match="expected membrane of the shape of x"):
        lif_backward(X, X, X[:2])
    with pytest.raises(ValueError, match="state_gradient of shape"):
        lif_backward(X, X, X, state_gradient=X)
