"""Integer neurons, the form for training: against the reference, gradients against differences."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels.neuron import (
    batch_norm_spikes,
    fixed_norm_spikes,
    reference,
)

AWKWARD = (1, 63, 123, 1100)  # the last is more than a block
SIGNED = pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])


def _inputs(rows: int, channels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (R, N) with means up to 3 deviations away, log_gain (N,), shift (N,), all float32."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, channels)) * rng.uniform(0.1, 4, channels)
    x += rng.normal(0, 3, channels)
    parts = (x, rng.normal(np.log(2), 0.5, channels), rng.normal(0, 1, channels))
    return tuple(part.astype(np.float32) for part in parts)  # type: ignore[return-value]


def _normalised(x: np.ndarray, log_gain: np.ndarray, shift: np.ndarray) -> np.ndarray:
    x, log_gain, shift = (part.astype(np.float64) for part in (x, log_gain, shift))
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * np.exp(log_gain) + shift


def _far_from_ties(y: np.ndarray) -> np.ndarray:
    """Where float32 cannot land on the other side of a rounding boundary."""
    return np.abs(np.abs(y) % 1 - 0.5) > 1e-4


@SIGNED
@pytest.mark.parametrize("channels", AWKWARD)
@pytest.mark.parametrize("rows", [1, 63, 64, 130])
def test_training_spikes_and_statistics(rows: int, channels: int, signed: bool) -> None:
    x, log_gain, shift = _inputs(rows, channels, rows + channels)
    spikes, mean, variance = batch_norm_spikes(
        mx.array(x), mx.array(log_gain), mx.array(shift), 4, signed
    )
    arguments = [part.astype(np.float64) for part in (x, log_gain, shift)]
    expected, wanted_mean, wanted_variance = reference.batch_norm_spikes(*arguments, 4, signed)
    sure = _far_from_ties(_normalised(x, log_gain, shift))
    assert sure.mean() > 0.99 or rows == 1
    np.testing.assert_array_equal(np.asarray(spikes)[sure], expected[sure])
    assert np.abs(np.asarray(spikes) - expected).max() <= 1
    np.testing.assert_allclose(np.asarray(mean), wanted_mean, atol=2e-5)
    np.testing.assert_allclose(np.asarray(variance), wanted_variance, rtol=1e-4, atol=1e-9)


def test_leading_axes_and_strided_input() -> None:
    """(B, L, N) is (B L, N); a transposed view is read by its strides."""
    x, log_gain, shift = _inputs(6 * 7, 5)
    gain_shift = mx.array(log_gain), mx.array(shift)
    flat = np.asarray(batch_norm_spikes(mx.array(x), *gain_shift, 4, True)[0])
    cube = mx.array(x.reshape(6, 7, 5))
    out = batch_norm_spikes(cube, *gain_shift, 4, True)[0]
    assert out.shape == (6, 7, 5)
    np.testing.assert_array_equal(np.asarray(out).reshape(-1, 5), flat)
    strided = mx.array(np.ascontiguousarray(x.T)).T
    np.testing.assert_array_equal(
        np.asarray(batch_norm_spikes(strided, *gain_shift, 4, True)[0]), flat
    )


def test_large_mean_is_not_cancelled() -> None:
    """A channel far from zero keeps its variance (sums are taken around the first row)."""
    x = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32)
    ones = mx.zeros(3), mx.zeros(3)
    _, mean, variance = batch_norm_spikes(mx.array(x + np.float32(4096)), *ones, 4, True)
    moved = (x + np.float32(4096)).astype(np.float64)
    np.testing.assert_allclose(np.asarray(variance), moved.var(0), rtol=1e-4)
    np.testing.assert_allclose(np.asarray(mean), moved.mean(0), rtol=1e-6)


@SIGNED
def test_ties_and_clipping_of_the_fixed_form(signed: bool) -> None:
    """Half-way cases go away from zero (up, where unsigned); the clip is at the levels."""
    y = np.array([[-9, -3.5, -2.5, -1.5, -1, -0.5, -0.25, 0, 0.25, 0.5, 1, 1.5, 2.5, 3.5, 9]])
    if signed:
        expected = [-3, -3, -3, -2, -1, -1, 0, 0, 0, 1, 1, 2, 3, 3, 3]
    else:
        expected = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 3]
    channels = y.shape[1]
    for scale, offset in ((1.0, 0.0), (0.5, 0.0), (2.0, -4.0), (-1.0, 0.0)):
        x = ((y - offset) / scale).astype(np.float32)  # exact: small binary fractions
        out = fixed_norm_spikes(
            mx.array(x), mx.full((channels,), scale), mx.full((channels,), offset), 3, signed
        )
        np.testing.assert_array_equal(np.asarray(out)[0], expected)


@SIGNED
@pytest.mark.parametrize("channels", AWKWARD)
def test_fixed_form_equals_the_reference(channels: int, signed: bool) -> None:
    x, scale, offset = _inputs(65, channels, 7)
    out = fixed_norm_spikes(
        mx.array(x.reshape(5, 13, -1)), mx.array(scale), mx.array(offset), 4, signed
    )
    expected = reference.round_to_levels(x * scale + offset, 4, signed)
    np.testing.assert_array_equal(np.asarray(out).reshape(x.shape), expected)


@SIGNED
def test_silent_and_saturated_channels(signed: bool) -> None:
    """A channel that never changes reads its shift alone; a huge shift saturates it."""
    x = np.full((70, 4), 2.5, np.float32)
    shift = np.array([0.0, 1.2, 1000.0, -1000.0], np.float32)
    spikes, mean, variance = batch_norm_spikes(mx.array(x), mx.zeros(4), mx.array(shift), 4, signed)
    expected = [0, 1, 4, -4 if signed else 0]
    np.testing.assert_array_equal(np.asarray(spikes), np.tile(expected, (70, 1)))
    np.testing.assert_array_equal(np.asarray(mean), 2.5)
    np.testing.assert_array_equal(np.asarray(variance), 0)


def _gradients(
    x: np.ndarray, log_gain: np.ndarray, shift: np.ndarray, weight: np.ndarray, signed: bool
) -> list[np.ndarray]:
    """Gradients of sum(weight n) by MLX."""

    def loss(x: mx.array, log_gain: mx.array, shift: mx.array) -> mx.array:
        return (batch_norm_spikes(x, log_gain, shift, 2, signed)[0] * mx.array(weight)).sum()

    arguments = [mx.array(part) for part in (x, log_gain, shift)]
    return [np.asarray(g) for g in mx.grad(loss, argnums=(0, 1, 2))(*arguments)]


@SIGNED
@pytest.mark.parametrize("channels", AWKWARD)
@pytest.mark.parametrize("rows", [2, 63, 130])
def test_gradients_equal_the_reference(rows: int, channels: int, signed: bool) -> None:
    x, log_gain, shift = _inputs(rows, channels, 5)
    weight = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    found = _gradients(x, log_gain, shift, weight, signed)
    arguments = [part.astype(np.float64) for part in (weight, x, log_gain, shift)]
    slope = np.exp(log_gain.astype(np.float64)) / np.sqrt(x.astype(np.float64).var(0) + 1e-5)
    floor = {"x": 0.01 * slope.max()}  # two rows: the gradient of x all but cancels
    for name, ours, wanted in zip(
        ("x", "log_gain", "shift"),
        found,
        reference.batch_norm_spikes_backward(*arguments, 2, signed),
        strict=True,
    ):
        size = np.sqrt(np.mean(wanted**2)) + floor.get(name, 1e-3)
        error = np.sqrt(np.mean((ours - wanted) ** 2)) / size
        assert error < 1e-4, f"gradient of {name}: relative RMS {error:.2g}"


@SIGNED
def test_gradients_equal_differences_of_the_surrogate(signed: bool) -> None:
    """The straight-through gradient is that of clip(y): differences in float64, some clipped."""
    x, log_gain, shift = _inputs(9, 4, 11)
    weight = np.random.default_rng(2).standard_normal(x.shape)
    low, high = (-2.5, 2.5) if signed else (-0.5, 2.5)

    def surrogate(*arguments: np.ndarray) -> float:
        return float((np.clip(_normalised(*arguments), low, high) * weight).sum())

    arguments = [part.astype(np.float64) for part in (x, log_gain, shift)]
    y = _normalised(*arguments)
    clipped = (y < low) | (y > high)
    assert 0.1 < clipped.mean() < 0.9
    assert min(np.abs(y - low).min(), np.abs(y - high).min()) > 1e-3  # no edge within a step
    found = _gradients(x, log_gain, shift, weight.astype(np.float32), signed)
    for index, gradient in enumerate(found):
        for where in np.ndindex(gradient.shape):
            values = []
            for step in (1e-5, -1e-5):
                moved = [part.copy() for part in arguments]
                moved[index][where] += step
                values.append(surrogate(*moved))
            slope = (values[0] - values[1]) / 2e-5
            assert gradient[where] == pytest.approx(slope, rel=2e-3, abs=2e-4), (index, where)


@SIGNED
def test_no_gradient_through_clipped_spikes_or_statistics(signed: bool) -> None:
    x, log_gain, _ = _inputs(30, 3)
    found = _gradients(x, log_gain, np.full(3, 50, np.float32), np.ones_like(x), signed)
    assert not any(gradient.any() for gradient in found)

    def statistics(x: mx.array) -> mx.array:
        _, mean, variance = batch_norm_spikes(x, mx.array(log_gain), mx.zeros(3), 4, signed)
        return mean.sum() + variance.sum()

    assert not np.asarray(mx.grad(statistics)(mx.array(x))).any()


def test_gradient_of_a_strided_cotangent() -> None:
    """What comes back may be transposed or broadcast; it must be read by its strides."""
    x, log_gain, shift = _inputs(12, 4)
    weight = np.random.default_rng(4).standard_normal((4, 12)).astype(np.float32)

    def loss(x: mx.array) -> mx.array:
        spikes = batch_norm_spikes(x, mx.array(log_gain), mx.array(shift), 2, True)[0]
        return (spikes.T * mx.array(weight)).sum()

    found = np.asarray(mx.grad(loss)(mx.array(x)))
    np.testing.assert_array_equal(found, _gradients(x, log_gain, shift, weight.T, True)[0])


def test_training_form_refuses_wrong_shapes() -> None:
    ones = mx.zeros(3), mx.zeros(3)
    with pytest.raises(ValueError, match=r"log_gain of shape \(4,\), one per channel"):
        batch_norm_spikes(mx.zeros((5, 4)), *ones, 4, True)
    with pytest.raises(ValueError, match="leading axis"):
        batch_norm_spikes(mx.zeros(3), *ones, 4, True)
