"""Spiking neurons over time: backends bit for bit, gradients against differences and MLX."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels.lif_scan import (
    BACKENDS,
    Neuron,
    lif_backward,
    lif_scan,
    lif_spikes,
    reference,
)

GOLDEN = Path(__file__).parents[1] / "data" / "lif_pairs.safetensors"
SIZES = (1, 63, 64, 65, 123)
NEURONS = {"soft": Neuron(), "hard": Neuron("hard"), "integer": Neuron(levels=4)}
KINDS = pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
EVERY = [
    Neuron(kind.reset, kind.levels, surrogate, 1.5, detach)
    for kind, surrogate, detach in product(
        NEURONS.values(), ("atan", "fast_sigmoid", "boxcar"), (True, False)
    )
    if kind.levels is None or surrogate == "atan"
]


def _name(neuron: Neuron) -> str:
    kind = "integer" if neuron.levels else f"{neuron.reset}-{neuron.surrogate}"
    return f"{kind}-{'detached' if neuron.detach_reset else 'through'}"


ALL = pytest.mark.parametrize("neuron", EVERY, ids=_name)


def _inputs(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Input, and threshold, decay and gain of every neuron with a first state; float32."""
    rng = np.random.default_rng(seed)
    parts = {
        "threshold": rng.uniform(0.5, 1.5, shape[-1]),
        "decay": rng.uniform(0.3, 1, shape[-1]),
        "gain": rng.uniform(0.5, 2, shape[-1]),
        "state": rng.standard_normal(shape[1:]),
    }
    x = rng.standard_normal(shape) + 0.3
    return x.astype(np.float32), {name: part.astype(np.float32) for name, part in parts.items()}


def _equal_backends(x: np.ndarray, neuron: Neuron, **parts: np.ndarray) -> np.ndarray:
    """Spikes, after every backend and output agreed on them bit for bit."""
    wanted = lif_scan(x, neuron=neuron, save_membrane=True, backend="reference", **parts)
    for backend in BACKENDS:
        found = lif_scan(x, neuron=neuron, save_membrane=True, backend=backend, **parts)
        assert found.spikes.dtype == np.int8
        assert found.spikes.shape == x.shape
        for name, ours, theirs in zip(found._fields, found, wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{name} on {backend}")
        packed = lif_scan(x, neuron=neuron, output="packed", backend=backend, **parts)
        assert packed.membrane is None
        assert packed.spikes.shape == x.shape
        np.testing.assert_array_equal(packed.spikes.unpack(), wanted.spikes)
        np.testing.assert_array_equal(packed.state, wanted.state)
    return wanted.spikes


@KINDS
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4, 2, 3)], ids=str)
def test_awkward_sizes(shape: tuple[int, ...], size: int, neuron: Neuron) -> None:
    x, parts = _inputs((*shape, size), size)
    spikes = _equal_backends(x, neuron, **parts)
    if spikes.size > 100:
        assert 0.1 < (spikes > 0).mean() < 0.9
        assert not neuron.levels or spikes.max() == 4


@KINDS
@pytest.mark.parametrize("shape", [(0, 3, 70), (4, 0, 70), (4, 3, 0)], ids=str)
def test_empty(shape: tuple[int, ...], neuron: Neuron) -> None:
    x, parts = _inputs(shape)
    assert _equal_backends(x, neuron, **parts).shape == shape
    if not shape[0]:
        np.testing.assert_array_equal(lif_scan(x, neuron=neuron, **parts).state, parts["state"])
    gradients = lif_backward(x, x, x, neuron=neuron, **parts)
    assert gradients.x.shape == shape
    assert not gradients.decay.any()


@KINDS
def test_silent_and_saturated(neuron: Neuron) -> None:
    for value, wanted in ((0, 0), (-1e6, 0), (1e6, neuron.levels or 1)):
        x = np.full((3, 2, 65), value, np.float32)
        assert (_equal_backends(x, neuron) == wanted).all()


@KINDS
def test_strides_and_untouched_state(neuron: Neuron) -> None:
    x, parts = _inputs((6, 4, 130))
    kept = parts["state"].copy()
    spikes = lif_scan(x[::-1, :, ::2], neuron=neuron).spikes
    np.testing.assert_array_equal(spikes, lif_scan(x[::-1, :, ::2].copy(), neuron=neuron).spikes)
    _equal_backends(x, neuron, **parts)
    np.testing.assert_array_equal(parts["state"], kept)


def test_ties_fire() -> None:
    """A membrane exactly on the threshold fires; integers round half up."""
    x = np.array([[0.5, 1.0, 0.25, 2.0]], np.float32)
    for backend in BACKENDS:
        for reset in ("soft", "hard"):
            out = lif_scan(x, 0.5, neuron=Neuron(reset), backend=backend)
            assert out.spikes.tolist() == [[1, 1, 0, 1]]
            left = {"hard": [0.0, 0.0, 0.25, 0.0], "soft": [0.0, 0.5, 0.25, 1.5]}[reset]
            assert out.state.tolist() == left
        out = lif_scan(x - 0.5, 0.5, neuron=Neuron(levels=2), backend=backend)
        assert out.spikes.tolist() == [[0, 1, 0, 2]]
        out = lif_scan(x, 0.5, neuron=Neuron(levels=9), backend=backend)
        assert out.spikes.tolist() == [[1, 2, 1, 4]]


@KINDS
def test_pieces_equal_the_whole(neuron: Neuron) -> None:
    """The state carries everything."""
    x, parts = _inputs((9, 2, 65))
    whole = lif_scan(x, neuron=neuron, **parts)
    first = lif_scan(x[:4], neuron=neuron, **parts)
    second = lif_scan(x[4:], neuron=neuron, **{**parts, "state": first.state})
    np.testing.assert_array_equal(np.concatenate([first.spikes, second.spikes]), whole.spikes)
    np.testing.assert_array_equal(second.state, whole.state)


@pytest.mark.parametrize("levels", [None, 3])
def test_integrate_and_fire_keeps_all_charge(levels: int | None) -> None:
    """Soft reset, no leak, whole inputs: charge in = spikes x threshold + what is left, exactly."""
    x = np.random.default_rng(0).integers(-3, 6, (512, 2, 123)).astype(np.float32)
    for backend in BACKENDS:
        out = lif_scan(x, 4, 1, 1, Neuron(levels=levels), backend=backend)
        np.testing.assert_array_equal(out.spikes.sum(0) * 4 + out.state, x.sum(0))


@ALL
def test_512_steps_do_not_drift(neuron: Neuron) -> None:
    """float32 against float64: spikes equal, membranes and gradients close to the end."""
    x, parts = _inputs((512, 1, 65), 3)
    weight = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    last = weight[0]
    fast = lif_scan(x, neuron=neuron, save_membrane=True, **parts)
    wide = {name: part.astype(np.float64) for name, part in parts.items()}
    state, order = wide["state"], (wide["decay"], wide["gain"], wide["threshold"])
    spikes, _, membrane = reference.scan(
        x.astype(np.float64), *order, neuron, state, pack=False, save=True
    )
    np.testing.assert_array_equal(fast.spikes, spikes)
    assert membrane is not None and fast.membrane is not None
    assert np.abs(fast.membrane - membrane).max() < 2e-4 * np.abs(membrane).max()
    found = lif_backward(weight, x, fast.membrane, neuron=neuron, state_gradient=last, **parts)
    wanted = reference.backward(
        weight.astype(np.float64), last.astype(np.float64), x.astype(np.float64), membrane, state,
        *order, neuron, True,
    )  # fmt: skip
    for name, ours, theirs in zip(found._fields, found, wanted, strict=True):
        error = np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2))
        assert error < 2e-4, f"gradient of {name}: relative RMS {error:.2g}"


@ALL
@pytest.mark.parametrize("size", SIZES)
def test_gradients_of_the_backends(size: int, neuron: Neuron) -> None:
    x, parts = _inputs((4, 3, size), size)
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
        return np.clip(u / threshold, 0, neuron.levels)
    if neuron.surrogate == "atan":
        return np.arctan(math.pi / 2 * a * z) / math.pi
    if neuron.surrogate == "fast_sigmoid":
        return z / (1 + a * np.abs(z))
    return np.clip(a * z, -0.5, 0.5)


@ALL
def test_gradients_equal_differences_of_the_surrogate_network(neuron: Neuron) -> None:
    """Where spikes move as the primitive does around the values they have; float64 differences."""
    x, parts = _inputs((5, 2, 6), 7)
    names = ("x", "state", "decay", "gain", "threshold")
    base = {name: part.astype(np.float64) for name, part in {"x": x, **parts}.items()}
    order = base["decay"], base["gain"], base["threshold"]
    spikes, _, membrane = reference.scan(
        base["x"], *order, neuron, base["state"], pack=False, save=True
    )
    assert membrane is not None
    offset = spikes - _primitive(membrane, base["threshold"], neuron)
    rng = np.random.default_rng(2)
    weight, last = rng.standard_normal(x.shape), rng.standard_normal(x.shape[1:])

    def loss(values: dict[str, np.ndarray]) -> float:
        v, total = values["state"], 0.0
        for t in range(5):
            u = values["decay"] * v + values["gain"] * values["x"][t]
            s = offset[t] + _primitive(u, values["threshold"], neuron)
            reset = spikes[t] if neuron.detach_reset else s
            v = u * (1 - reset) if neuron.reset == "hard" else u - values["threshold"] * reset
            total += float((weight[t] * s).sum())
        return total + float((last * v).sum())

    found = reference.backward(
        weight, last, base["x"], membrane, base["state"], *order, neuron, True
    )
    step = 1e-6
    for name, gradient in zip(names, found, strict=True):
        wanted = np.zeros_like(gradient)
        for where in np.ndindex(gradient.shape):
            sides = []
            for sign in (1, -1):
                moved = base[name].copy()
                moved[where] += sign * step
                sides.append(loss({**base, name: moved}))
            wanted[where] = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(gradient, wanted, rtol=1e-6, atol=1e-6, err_msg=name)


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
            fired = mx.clip(mx.floor(u / threshold + 0.5), 0, neuron.levels)
            smooth = mx.clip(u / threshold, 0, neuron.levels)
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
        v = u * (1 - reset) if neuron.reset == "hard" else u - threshold * reset
        spikes.append(s)
    return mx.stack(spikes), v


@ALL
def test_training_equals_unrolled_mlx(neuron: Neuron) -> None:
    x, parts = _inputs((6, 2, 3, 65), 11)
    order = ("threshold", "decay", "gain", "state")
    arguments = [mx.array(part) for part in (x, *(parts[name] for name in order))]
    weight = mx.array(np.random.default_rng(4).standard_normal(x.shape).astype(np.float32))

    def ours(x, threshold, decay, gain, state):  # type: ignore[no-untyped-def]
        spikes, last = lif_spikes(x, threshold, decay, gain, neuron, state)
        return (spikes * weight).sum() + (last * weight[0]).sum()

    def theirs(*arguments):  # type: ignore[no-untyped-def]
        spikes, last = _unrolled(*arguments, neuron)
        return (spikes * weight).sum() + (last * weight[0]).sum()

    every = tuple(range(5))
    value, found = mx.value_and_grad(ours, argnums=every)(*arguments)
    expected, wanted = mx.value_and_grad(theirs, argnums=every)(*arguments)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, a, b in zip(("x", *order), found, wanted, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        error = np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2))
        assert error < 1e-5, f"gradient of {name}: relative RMS {error:.2g}"


def test_numbers_as_parameters() -> None:
    """Numbers are constants, a () array gets the sum of the gradients of its neurons."""
    x = mx.array(_inputs((4, 3, 70))[0])
    spikes, state = lif_spikes(x, 0.8, 0.9, 0.7)
    scan = lif_scan(np.asarray(x), 0.8, 0.9, 0.7)
    np.testing.assert_array_equal(np.asarray(spikes), scan.spikes)
    np.testing.assert_array_equal(np.asarray(state), scan.state)

    def loss(decay: mx.array) -> mx.array:
        return (lif_spikes(x, 0.8, decay, 0.7)[0] * x).sum()

    one = mx.grad(loss)(mx.array(0.9))
    many = mx.grad(loss)(mx.full((70,), 0.9))
    assert one.item() == pytest.approx(many.sum().item(), rel=1e-5)
    assert abs(one.item()) > 1e-3

    fixed = mx.grad(lambda x: (lif_spikes(x, 0.8, 0.9, 0.7)[0] * x).sum())(x)
    trained = mx.grad(lambda x: (lif_spikes(x, mx.array(0.8), 0.9, 0.7)[0] * x).sum())(x)
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
        spikes, _ = lif_spikes(x @ weights["matrix"], 1.0, 1 - rate, rate)
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
    x = mx.array(_inputs((3, 2, 4))[0])
    with pytest.raises(ValueError, match=message):
        transform(lambda x: lif_spikes(x)[0], x)


CASES = {
    "spikegpt": (0.5, 0.5, "hard"),
    "soft": (0.5, 0.5, "soft"),
    "nodecay": (0.5, 1.0, "hard"),
    "tau4": (0.75, 0.25, "hard"),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_golden_pairs(case: str, backend: str) -> None:
    """SpikeGPT's neuron as its authors run it: spikes exact, membranes and gradients to float32."""
    golden = {name: np.asarray(part) for name, part in mx.load(str(GOLDEN)).items()}
    decay, gain, reset = CASES[case]
    neuron = Neuron(reset, surrogate="atan", sharpness=2.0, detach_reset=False)
    x, wanted = golden["x"], {n: golden[f"{case}.{n}"] for n in ("spikes", "v", "grad_x")}
    out = lif_scan(x, 1.0, decay, gain, neuron, save_membrane=True, backend=backend)
    assert out.membrane is not None
    np.testing.assert_array_equal(out.spikes, wanted["spikes"])
    after = out.membrane * (1 - out.spikes) if reset == "hard" else out.membrane - out.spikes
    np.testing.assert_allclose(after, wanted["v"], atol=1e-6)
    found = lif_backward(golden["gy"], x, out.membrane, 1.0, decay, gain, neuron, backend=backend)
    np.testing.assert_allclose(found.x, wanted["grad_x"], rtol=1e-4, atol=1e-6)


X = np.zeros((3, 2, 4), np.float32)


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (X.astype(np.float64), {}, "float32 x .* got float64"),
        (X[0, 0], {}, "add a time axis"),
        (X, {"threshold": 0}, "positive thresholds, got 0"),
        (X, {"decay": np.ones(3)}, r"decay, one number or one per neuron \(4,\), got shape \(3,\)"),
        (X, {"gain": np.nan}, "finite gain"),
        (X, {"state": X}, r"state of shape \(2, 4\)"),
        (X, {"output": "bits"}, "int8 or packed, got 'bits'"),
        (X, {"backend": "metal"}, "got 'metal'"),
    ],
)
def test_refusals(x: np.ndarray, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lif_scan(x, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reset": "none"}, "soft or hard, got 'none'"),
        ({"reset": "hard", "levels": 4}, "soft reset for integer spikes"),
        ({"levels": 128}, "1 to 127 levels"),
        ({"surrogate": "sine"}, "got 'sine'"),
        ({"sharpness": 0.0}, "positive sharpness"),
    ],
)
def test_impossible_neurons(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Neuron(**arguments)  # type: ignore[arg-type]


def test_training_and_backward_refuse_wrong_shapes() -> None:
    x = mx.array(X)
    for arguments, message in (
        ({"threshold": mx.zeros(4)}, "positive thresholds, got 0"),
        ({"threshold": -1.0}, "positive thresholds, got -1"),
        ({"decay": mx.zeros(3)}, r"decay of shape \(\) or \(4,\)"),
        ({"state": mx.zeros(4)}, r"state of shape \(2, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            mx.eval(lif_spikes(x, **arguments))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got mlx.core.float16"):
        lif_spikes(x.astype(mx.float16))
    with pytest.raises(ValueError, match="expected membrane of the shape of x"):
        lif_backward(X, X, X[:2])
    with pytest.raises(ValueError, match="state_gradient of shape"):
        lif_backward(X, X, X, state_gradient=X)
