"""Trainable spike-driven attention: the spikes of `sdsa`, float64 differences, MLX operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels import Neuron, sdsa, trainable_sdsa
from neurosim.kernels.packed import pack

VARIANTS = ("1", "2", "3", "4", "integer")
CAUSAL = pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
EVERY = pytest.mark.parametrize("variant", VARIANTS)
HEADS = 2


def _neuron(variant: str, surrogate: str = "atan") -> Neuron:
    return Neuron(levels=3) if variant == "integer" else Neuron("hard", surrogate=surrogate)


def _drawn(
    variant: str, shape: tuple[int, ...], causal: bool, seed: int = 0, whole: bool = False
) -> tuple[list[Any], dict[str, Any]]:
    """q, k, v as float32 with v None in variant 2, and a threshold amid what they give.

    Spikes if `whole`, else numbers around them: gradients exist for any, and ties, where one-sided
    derivatives differ, then do not happen.
    """
    rng = np.random.default_rng(seed)
    arrays: list[Any] = []
    for _ in range(3):
        counts = rng.integers(0, 4 if variant == "integer" else 2, shape)
        offset = 0 if whole else rng.uniform(0.1, 0.4, shape)
        arrays.append((counts + offset).astype(np.float32))
    if variant == "2":
        arrays[2] = None
    scale = 0.125
    middle = float(np.median(_sums(*arrays, variant, causal, np))) * scale * 0.5
    threshold: Any = np.float32(middle / 2 if variant == "integer" else middle)
    if variant == "4":
        threshold = (np.linspace(0.8, 1.3, shape[3]) * threshold).astype(np.float32)
    settings = {
        "heads": HEADS, "scale": scale, "threshold": threshold, "decay": 0.5, "gain": 0.5,
        "neuron": _neuron(variant),
    }  # fmt: skip
    return arrays, settings


def _given(arrays: list[Any]) -> list[Any]:
    return [None if x is None else mx.array(x) for x in arrays]


def _arguments(settings: dict[str, Any]) -> dict[str, Any]:
    threshold = settings["threshold"]
    given = mx.array(threshold) if np.ndim(threshold) else float(threshold)
    return {**settings, "threshold": given}


@CAUSAL
@EVERY
def test_same_spikes_as_the_kernel(variant: str, causal: bool) -> None:
    arrays, settings = _drawn(variant, (3, 2, 21, 12), causal, whole=True)
    found = trainable_sdsa(*_given(arrays), variant, **_arguments(settings), causal=causal)
    levels = 3 if variant == "integer" else 1
    packed = [None if x is None else pack(x, levels) for x in arrays]
    wanted = sdsa(*packed, variant, **settings, causal=causal).unpack()
    np.testing.assert_array_equal(np.asarray(found), wanted)
    assert 0.05 < wanted.mean() / levels < 0.95


def _smooth(u: Any, threshold: Any, neuron: Neuron, module: Any) -> Any:
    """The function of which the surrogate is the slope; `module` is numpy or mlx.core."""
    z, a = u - threshold, neuron.sharpness
    if neuron.levels is not None:
        return module.clip(u / threshold, 0, neuron.levels)
    return {
        "atan": lambda: module.arctan(math.pi / 2 * a * z) / math.pi,
        "fast_sigmoid": lambda: z / (1 + a * abs(z)),
        "boxcar": lambda: module.clip(a * z, -0.5, 0.5),
    }[neuron.surrogate]()


def _sums(q: Any, k: Any, v: Any, variant: str, causal: bool, module: Any) -> Any:
    """Sums over tokens by the quadratic form."""
    tokens = q.shape[2]
    mask = np.tril(np.ones((tokens, tokens))) if causal else np.ones((tokens, tokens))
    mask = module.array(mask.astype(np.float32)) if module is mx else mask
    if variant in ("1", "2"):
        return mask @ (k if v is None else k * v)
    parts = [x.reshape(*x.shape[:3], HEADS, -1).swapaxes(2, 3) for x in (q, k, v)]
    out = ((parts[0] @ parts[1].swapaxes(3, 4)) * mask) @ parts[2]
    return out.swapaxes(2, 3).reshape(v.shape)


@CAUSAL
@EVERY
@pytest.mark.parametrize("surrogate", ["atan", "fast_sigmoid", "boxcar"])
def test_gradients_equal_differences_of_the_surrogate_network(
    surrogate: str, variant: str, causal: bool
) -> None:
    """Float64 differences, where spikes move as the smooth function does around their values."""
    arrays, settings = _drawn(variant, (3, 1, 5, 8), causal, 1)
    neuron = _neuron(variant, surrogate)
    settings["neuron"] = neuron
    rng = np.random.default_rng(2)
    weight = rng.standard_normal(arrays[0].shape)
    present = [i for i, x in enumerate(arrays) if x is not None]
    spikes: list[np.ndarray] = []
    offset: list[np.ndarray] = []

    def loss(values: list[Any]) -> float:
        sums = _sums(*values, variant, causal, np)
        v, total = np.zeros(sums.shape[1:]), 0.0
        record = not spikes
        limit = np.asarray(settings["threshold"], np.float64)
        fired = []
        for t, x in enumerate(sums * settings["scale"]):
            u = settings["decay"] * v + settings["gain"] * x
            smooth = _smooth(u, limit, neuron, np)
            if record and t == len(offset):
                exact = (
                    np.clip(np.floor(u / limit + 0.5), 0, neuron.levels)
                    if neuron.levels
                    else (u >= limit) * 1.0
                )
                offset.append(exact - smooth)
                fired.append(exact)
            s = offset[t] + smooth
            reset = fired[t] if record else spikes[t]
            v = u - limit * reset if neuron.reset == "soft" else u * (1 - reset)
            out = values[0][t] * s if variant in ("1", "2") else s
            total += float((weight[t] * out).sum())
        spikes.extend(fired)
        return total

    wide = [None if x is None else x.astype(np.float64) for x in arrays]
    loss(wide)
    mine = mx.array(weight.astype(np.float32))

    def ours(*values: mx.array) -> mx.array:
        full = list(values) if len(values) == 3 else [*values, None]
        out = trainable_sdsa(*full, variant, **_arguments(settings), causal=causal)
        return (out * mine).sum()

    given = [mx.array(arrays[i]) for i in present]
    gradients = mx.grad(ours, argnums=tuple(range(len(given))))(*given)
    for i, gradient in zip(present, gradients, strict=True):
        wanted = np.zeros_like(wide[i])
        for where in np.ndindex(wanted.shape):
            sides = []
            for sign in (1, -1):
                moved = [None if x is None else x.copy() for x in wide]
                moved[i][where] += sign * 1e-6
                sides.append(loss(moved))
            wanted[where] = (sides[0] - sides[1]) / 2e-6
        error = np.abs(np.asarray(gradient) - wanted).max() / max(np.abs(wanted).max(), 1e-9)
        assert error < 1e-5, f"gradient {i}: {error:.2g} of the largest"
        assert np.abs(wanted).max() > 1e-3 or i == 0


@CAUSAL
@EVERY
def test_gradients_equal_mlx_operations(variant: str, causal: bool) -> None:
    """Unrolled in MLX, also the gradient of trained thresholds and gains."""
    arrays, settings = _drawn(variant, (4, 2, 20, 12), causal, 3)
    neuron = settings["neuron"]
    weight = mx.array(np.random.default_rng(4).standard_normal(arrays[0].shape).astype(np.float32))
    width = arrays[0].shape[3]
    threshold = mx.broadcast_to(mx.array(settings["threshold"]), (width,))
    gain = mx.full((width,), 0.5)

    def theirs(threshold: mx.array, gain: mx.array, *values: mx.array) -> mx.array:
        q, k, *rest = values
        sums = _sums(q, k, rest[0] if rest else None, variant, causal, mx)
        v, total = mx.zeros(sums.shape[1:]), mx.array(0.0)
        for t in range(sums.shape[0]):
            u = settings["decay"] * v + gain * (settings["scale"] * sums[t])
            smooth = _smooth(u, threshold, neuron, mx)
            if neuron.levels:
                exact = mx.clip(mx.floor(u / threshold + 0.5), 0, neuron.levels)
            else:
                exact = (u >= threshold).astype(mx.float32)
            s = mx.stop_gradient(exact - smooth) + smooth
            exact = mx.stop_gradient(exact)
            v = u - threshold * exact if neuron.reset == "soft" else u * (1 - exact)
            total = total + (weight[t] * (q[t] * s if variant in ("1", "2") else s)).sum()
        return total

    def ours(threshold: mx.array, gain: mx.array, *values: mx.array) -> mx.array:
        full = list(values) if len(values) == 3 else [*values, None]
        out = trainable_sdsa(
            *full, variant, HEADS, settings["scale"], threshold, settings["decay"], gain, neuron,
            causal,
        )  # fmt: skip
        return (out * weight).sum()

    given = [threshold, gain, *(mx.array(x) for x in arrays if x is not None)]
    every = tuple(range(len(given)))
    found, wanted = (mx.grad(f, argnums=every)(*given) for f in (ours, theirs))
    for name, a, b in zip(("threshold", "gain", "q", "k", "v"), found, wanted, strict=False):
        a, b = np.asarray(a), np.asarray(b)
        error = np.sqrt(np.mean((a - b) ** 2) / max(np.mean(b**2), 1e-12))
        assert error < 1e-5, f"gradient of {name}: relative RMS {error:.2g}"


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda f, x: mx.compile(f)(x), "outside mx.compile and mx.vmap only"),
        (lambda f, x: mx.eval(mx.vmap(f)(mx.stack([x, x]))), "mx.vmap"),
        (lambda f, x: mx.jvp(f, [x], [x]), "got mx.jvp"),
        (
            lambda f, x: mx.eval(mx.grad(lambda y: mx.grad(lambda z: f(z).sum())(y).sum())(x)),
            "first derivatives only",
        ),
    ],
    ids=["compile", "vmap", "jvp", "second"],
)
@pytest.mark.parametrize("variant", ["1", "3"])
def test_transforms_are_refused(variant: str, transform: Callable[..., Any], message: str) -> None:
    x = mx.ones((2, 1, 3, 4))
    with pytest.raises(ValueError, match=message):
        transform(lambda x: trainable_sdsa(x, x, x, variant), x)


X = mx.ones((2, 1, 3, 6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, X, X, "5"), "got '5'"),
        ((X, X, None, "1"), "v in every variant but 2"),
        ((X, X[:1], X, "1"), r"one shape \(T, B, L, C\)"),
        ((X, X, mx.ones((2, 1, 3, 12)), "3"), "wider in the integer form"),
        ((X.astype(mx.int8), X, X, "1"), "float32 MLX arrays, got .*int8"),
        ((X, X, X, "3", 4), "heads that divide the channels, got 4"),
    ],
    ids=str,
)
def test_refusals(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainable_sdsa(*arguments)
