"""Integer neurons refuse what their unchecked kernels would read or compute wrongly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels.neuron import batch_norm_spikes, fixed_norm_spikes, integer_spikes

X, N8 = mx.zeros((3, 8)), mx.zeros(8)
CHARGE, ONES = np.array([[5, 2]]), np.array([1, 1])


@pytest.mark.parametrize("operation", [batch_norm_spikes, fixed_norm_spikes])
@pytest.mark.parametrize(
    ("x", "first", "second", "levels", "message"),
    [
        (mx.zeros((0, 8)), N8, N8, 4, "no axis of 0"),
        (mx.zeros((3, 0)), mx.zeros(0), mx.zeros(0), 4, "no axis of 0"),
        (mx.zeros(8), N8, N8, 4, "leading axis"),
        (X.astype(mx.float16), N8, N8, 4, "expected an MLX float32 x"),
        (X.astype(mx.int32), N8, N8, 4, "expected an MLX float32 x"),
        (X, mx.zeros(1), N8, 4, r"of shape \(8,\)"),
        (X, N8, mx.zeros(1), 4, r"of shape \(8,\)"),
        (X, N8.astype(mx.float16), N8, 4, "expected an MLX float32"),
        (X, N8, N8, 0, "1 to 127 levels"),
        (X, N8, N8, 2.5, "1 to 127 levels"),
    ],
)
def test_normalised_neurons_refuse(
    operation: Callable[..., Any], x: mx.array, first: mx.array, second: mx.array, levels: Any,
    message: str,
) -> None:  # fmt: skip
    """A parameter of one number was read, and its gradient written, beyond its end."""
    with pytest.raises(ValueError, match=message):
        operation(x, first, second, levels, True)


def spikes(x: mx.array) -> mx.array:
    return batch_norm_spikes(x, N8, N8, 4, True)[0]


@pytest.mark.parametrize(
    "transformed",
    [
        lambda x: mx.eval(mx.jvp(spikes, [x], [x])),
        lambda x: mx.eval(mx.vmap(spikes)(x[None])),
        lambda x: mx.eval(mx.compile(spikes)(x)),
        lambda x: mx.eval(mx.grad(lambda y: mx.grad(lambda z: (spikes(z) * z).sum())(y).sum())(x)),
    ],
    ids=["jvp", "vmap", "compile", "second derivative"],
)
def test_training_refuses_transforms_without_a_meaning(transformed: Callable[..., Any]) -> None:
    """mx.jvp gave zeros, a second derivative the terms that MLX knew of."""
    with pytest.raises(ValueError, match="batch_norm_spikes"):
        transformed(mx.random.normal((3, 8)))


@pytest.mark.parametrize(
    ("charge", "half", "levels", "message"),
    [
        (CHARGE.astype(np.float64), ONES, 3, "expected an integer charge"),
        (CHARGE.astype(np.uint64), ONES, 3, "expected an integer charge"),
        (CHARGE, ONES.astype(np.float32), 3, "expected an integer half_threshold"),
        (CHARGE, np.array([0, 1]), 3, "expected half thresholds 1"),
        (CHARGE, np.array([1, -1]), 3, "expected half thresholds 1"),
        (CHARGE, np.array([1, 2**61]), 7, "expected half thresholds 1"),
        (CHARGE, np.ones((1, 2), np.int64), 3, "thresholds and biases"),
        (np.int64(5), ONES, 3, "thresholds and biases"),
        (CHARGE, ONES, 2.5, "1 to 127 levels"),
        (CHARGE, ONES, 128, "1 to 127 levels"),
    ],
)
def test_folded_neurons_refuse(charge: Any, half: Any, levels: Any, message: str) -> None:
    """Floats lost their fractions; a threshold of 0 fired or divided, by backend."""
    with pytest.raises(ValueError, match=message):
        integer_spikes(charge, half, np.array([0, 0]), levels, True)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_folded_neurons_take_the_largest_threshold(backend: str) -> None:
    half = np.array([(2**63 - 1) // 16])
    charge = np.array([[0], [half[0] - 1], [half[0]], [2**62], [-(2**62)]])
    found = integer_spikes(charge, half, np.array([0]), 7, True, backend)
    np.testing.assert_array_equal(found[:, 0], [0, 0, 1, 4, -4])


def test_folded_neurons_take_lists_and_foreign_byte_order() -> None:
    plain = integer_spikes(CHARGE, ONES, np.array([0, 0]), 3, True)
    swapped = integer_spikes(CHARGE.astype(">i4"), ONES, np.array([0, 0]), 3, True)
    listed = integer_spikes([[5, 2]], [1, 1], [0, 0], 3, True)  # type: ignore[arg-type]
    np.testing.assert_array_equal(swapped, plain)
    np.testing.assert_array_equal(listed, plain)
