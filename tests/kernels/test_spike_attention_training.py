"""Trainable attention: the kernels' sums, MLX operations, float64 differences, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels import spike_attention, trainable_attention
from neurosim.kernels.packed import pack

CASES = [
    ((), 1, 1, 1, None, True),
    ((2, 3), 7, 5, 4, [1, 2, 0], True),
    ((3,), 64, 8, 9, None, True),
    ((2, 2), 65, 8, 8, [3, 5], True),
    ((2,), 200, 24, 24, 4, True),
    ((2,), 130, 5, 6, None, False),
]
SHAPES = pytest.mark.parametrize(
    ("lead", "tokens", "size", "columns", "shift", "causal"), CASES, ids=str
)


def _normal(seed: int, *shape: int) -> mx.array:
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def _mask(lead: tuple[int, ...], tokens: int, shift: Any, causal: bool) -> np.ndarray:
    if not causal:
        return np.ones((tokens, tokens))
    shifts = np.broadcast_to(np.array(0 if shift is None else shift), lead)[..., None, None]
    distance = np.arange(tokens)[:, None] - np.arange(tokens)
    keep = np.where(shifts > 0, 1 - 0.5**shifts, 1.0)
    return np.where(distance >= 0, keep ** np.maximum(distance, 0), 0)


def _in_operations(q: mx.array, k: mx.array, v: mx.array, mask: mx.array) -> mx.array:
    return ((q @ mx.swapaxes(k, -1, -2)) * mask) @ v


def _close(found: Any, wanted: Any, limit: float = 1e-5) -> None:
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    error = np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2))
    assert error < limit, f"relative RMS {error:.2g}"


@SHAPES
def test_equals_mlx_operations(lead, tokens, size, columns, shift, causal) -> None:  # type: ignore[no-untyped-def]
    q, k = (_normal(seed, *lead, tokens, size) for seed in (0, 1))
    v, weight = (_normal(seed, *lead, tokens, columns) for seed in (2, 3))
    mask = mx.array(_mask(lead, tokens, shift, causal).astype(np.float32))

    def ours(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return (trainable_attention(q, k, v, shift, causal) * weight).sum()

    def theirs(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return (_in_operations(q, k, v, mask) * weight).sum()

    _close(trainable_attention(q, k, v, shift, causal), _in_operations(q, k, v, mask))
    found = mx.grad(ours, argnums=(0, 1, 2))(q, k, v)
    wanted = mx.grad(theirs, argnums=(0, 1, 2))(q, k, v)
    for ours_, theirs_ in zip(found, wanted, strict=True):
        _close(ours_, theirs_)


@SHAPES
def test_gradients_equal_differences(lead, tokens, size, columns, shift, causal) -> None:  # type: ignore[no-untyped-def]
    """Central differences in float64 of the quadratic form, along drawn directions."""
    arrays = [_normal(seed, *lead, tokens, size) for seed in (0, 1)]
    arrays += [_normal(2, *lead, tokens, columns)]
    weight = _normal(3, *lead, tokens, columns)
    mask = _mask(lead, tokens, shift, causal)

    def loss(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> float:
        out = ((q @ k.swapaxes(-1, -2)) * mask) @ v
        return float((out * np.asarray(weight, np.float64)).sum())

    def ours(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return (trainable_attention(q, k, v, shift, causal) * weight).sum()

    gradients = mx.grad(ours, argnums=(0, 1, 2))(*arrays)
    wide = [np.asarray(x, np.float64) for x in arrays]
    rng = np.random.default_rng(4)
    for i, gradient in enumerate(gradients):
        gradient = np.asarray(gradient, np.float64)
        for _ in range(3):
            direction = rng.standard_normal(wide[i].shape)
            sides = []
            for sign in (1, -1):
                moved = list(wide)
                moved[i] = wide[i] + sign * 1e-4 * direction
                sides.append(loss(*moved))
            wanted = (sides[0] - sides[1]) / 2e-4
            size_ = np.linalg.norm(gradient) * np.linalg.norm(direction)
            assert abs((gradient * direction).sum() - wanted) < 2e-6 * size_


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "all"])
@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 1000])
def test_spikes_give_the_integers_of_the_kernel(tokens: int, causal: bool) -> None:
    rng = np.random.default_rng(tokens)
    counts = [(rng.random((2, tokens, 24)) < 0.3).astype(np.float32) for _ in range(3)]
    found = trainable_attention(*(mx.array(x) for x in counts), causal=causal)
    wanted, _ = spike_attention(*(pack(x) for x in counts), causal=causal)
    np.testing.assert_array_equal(np.asarray(found), wanted)


def test_decay_is_that_of_the_kernel_without_its_rounding() -> None:
    rng = np.random.default_rng(0)
    counts = [rng.integers(-4, 5, (150, 3, 16)).astype(np.int8) for _ in range(3)]
    shifts, bits = np.array([0, 2, 5]), 12
    sums, _ = spike_attention(*counts, shifts, bits)
    by_head = (mx.array(x.astype(np.float32)).swapaxes(0, 1) for x in counts)
    found = trainable_attention(*by_head, shifts).swapaxes(0, 1)
    _close(found, sums / 2**bits, 1e-3)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)], ids=str)
def test_empty(shape: tuple[int, ...]) -> None:
    x = mx.zeros(shape)
    for causal in (True, False):
        gradients = mx.grad(
            lambda q, k, v, c=causal: trainable_attention(q, k, v, None, c).sum(), argnums=(0, 1, 2)
        )(x, x, x)
        assert all(gradient.shape == shape for gradient in gradients)


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
def test_transforms_are_refused(transform: Callable[..., Any], message: str) -> None:
    x = _normal(0, 2, 3, 4)
    with pytest.raises(ValueError, match=f"trainable_attention.*{message}|{message}"):
        transform(lambda x: trainable_attention(x, x, x), x)


X = mx.zeros((2, 3, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": X.astype(mx.float16)}, "expected float32 MLX arrays q, k and v, got .*float16"),
        ({"v": np.zeros((2, 3, 4), np.float32)}, "got .*float32.*use astype"),
        ({"k": X[:1]}, r"got \(2, 3, 4\), \(1, 3, 4\)"),
        ({"v": X[:, :2]}, "but for its channels"),
        ({"decay_shift": [1, 2, 3]}, r"leading axes \(2,\), got shape \(3,\)"),
        ({"decay_shift": 31}, "decay shifts 0..30, got 31"),
        ({"decay_shift": 0.5}, "integer decay shifts"),
        ({"decay_shift": 2, "causal": False}, "causal attention with decay_shift"),
    ],
    ids=lambda x: "" if isinstance(x, str) else "-".join(x),
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainable_attention(**{"q": X, "k": X, "v": X, **change})
