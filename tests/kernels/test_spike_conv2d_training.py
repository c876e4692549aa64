"""Gradients of the convolution of spikes, against MLX operations and in float64."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels import pack, spike_conv2d, trainable_conv2d

CASES = {
    "three by three": ((2, 6, 5, 7), (3, 3, 4), {"padding": 1}),
    "same": ((2, 6, 5, 65), (3, 3, 70), {"padding": "same"}),
    "stride": ((1, 7, 7, 3), (3, 2, 5), {"stride": 2, "padding": 1}),
    "dilated": ((2, 9, 8, 4), (3, 3, 3), {"dilation": 2}),
    "mostly padding": ((1, 4, 4, 2), (3, 3, 2), {"stride": 3, "padding": 4}),
    "many images": ((40, 5, 4, 3), (2, 2, 3), {"stride": (1, 2)}),
    "one": ((1, 1, 1, 1), (1, 1, 1), {}),
}


def _dense(x: mx.array, weight: mx.array, stride=1, padding=0, dilation=1) -> mx.array:
    padding = 1 if padding == "same" else padding
    return mx.conv2d(x, weight.transpose(3, 0, 1, 2), stride, padding, dilation)


def _arrays(rng, shape: tuple[int, ...], kernel: tuple[int, ...], **options):
    """Spikes, weights, and a gradient of the result, MLX float32."""
    spikes = mx.array(rng.integers(-2, 3, shape).astype(np.float32))
    weight = rng.standard_normal((*kernel[:2], shape[-1], kernel[2])).astype(np.float32)
    out = _dense(spikes, mx.array(weight), **options).shape
    return spikes, mx.array(weight), mx.array(rng.standard_normal(out).astype(np.float32))


def _close(found: mx.array, expected: mx.array) -> None:
    assert found.shape == expected.shape
    found, expected = np.asarray(found), np.asarray(expected)
    size = np.sqrt((expected.astype(np.float64) ** 2).mean())
    assert np.abs(found - expected).max(initial=0) <= 1e-5 * max(size, 1)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gradients_are_those_of_mlx(case: tuple) -> None:
    shape, kernel, options = case
    spikes, weight, gradient = _arrays(np.random.default_rng(0), shape, kernel, **options)

    def loss(function):
        return lambda *arrays: (function(*arrays, **options) * gradient).sum()

    value, found = mx.value_and_grad(loss(trainable_conv2d), (0, 1))(spikes, weight)
    _, expected = mx.value_and_grad(loss(_dense), (0, 1))(spikes, weight)
    for one, other in zip(found, expected, strict=True):
        _close(one, other)
    _close(trainable_conv2d(spikes, weight, **options), _dense(spikes, weight, **options))
    assert np.isfinite(value.item())


@examples(40)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(*(st.integers(3, 8),) * 2),
    taps=st.tuples(*(st.integers(1, 3),) * 2),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    channels=st.integers(1, 70),
    outputs=st.integers(1, 70),
)
def test_gradients_are_adjoint(seed, size, taps, stride, padding, channels, outputs) -> None:
    """<g, conv(s, V)> = <dW, V> and <g, conv(t, W)> = <ds, t> in float64, for any V and t."""
    rng = np.random.default_rng(seed)
    options = {"stride": stride, "padding": padding}
    spikes, weight, gradient = _arrays(rng, (2, *size, channels), (*taps, outputs), **options)
    _, (ds, dw) = mx.vjp(
        lambda *arrays: trainable_conv2d(*arrays, **options), [spikes, weight], [gradient]
    )
    whole = np.rint(rng.standard_normal(weight.shape) * 20).clip(-128, 127).astype(np.int8)
    counts = np.asarray(spikes).astype(np.int8)
    product = spike_conv2d(pack(counts, 2, True), whole, algo="gather", **options)
    exact = np.asarray(gradient, np.float64)
    scale = np.abs(exact).sum() * 128 * 2 + 1
    assert abs((exact * product).sum() - (np.asarray(dw, np.float64) * whole).sum()) < 1e-6 * scale
    through = spike_conv2d(
        pack(rng.integers(0, 2, counts.shape).astype(np.int8)), np.asarray(weight), **options
    )
    assert through.shape == gradient.shape
    other = rng.integers(0, 2, counts.shape).astype(np.int8)
    out = spike_conv2d(pack(other), np.asarray(weight), algo="gather", **options)
    left, right = (exact * out).sum(), (np.asarray(ds, np.float64) * other).sum()
    assert abs(left - right) < 1e-5 * (np.abs(exact) * (np.abs(out) + 1)).sum() + 1e-5


def test_data_get_no_gradient() -> None:
    rng = np.random.default_rng(1)
    spikes, weight, gradient = _arrays(rng, (2, 6, 5, 7), (3, 3, 4), padding=1)
    counts = np.asarray(spikes).astype(np.int8)
    expected = mx.grad(lambda w: (_dense(spikes, w, padding=1) * gradient).sum())(weight)
    for data in (counts, pack(counts, 2, True), np.asarray(spikes)):
        found = mx.grad(
            lambda w, data=data: (trainable_conv2d(data, w, padding=1) * gradient).sum()
        )(weight)
        _close(found, expected)


def test_time_and_batch_axes() -> None:
    rng = np.random.default_rng(2)
    spikes, weight, _ = _arrays(rng, (6, 5, 5, 3), (3, 3, 4))
    found = trainable_conv2d(spikes.reshape(3, 2, 5, 5, 3), weight)
    assert found.shape == (3, 2, 3, 3, 4)
    _close(found.reshape(6, 3, 3, 4), _dense(spikes, weight))
    gradient = mx.grad(lambda x: trainable_conv2d(x, weight).sum())(spikes.reshape(3, 2, 5, 5, 3))
    expected = mx.grad(lambda x: _dense(x, weight).sum())(spikes)
    _close(gradient.reshape(6, 5, 5, 3), expected)


@pytest.mark.parametrize("shape", [(0, 3, 3, 2, 4), (1, 3, 3, 0, 4), (1, 3, 3, 2, 0)])
def test_empty(shape: tuple[int, ...]) -> None:
    images, height, width, channels, outputs = shape
    spikes, weight = mx.ones((images, height, width, channels)), mx.ones((3, 3, channels, outputs))
    out, (ds, dw) = mx.vjp(
        lambda *arrays: trainable_conv2d(*arrays, padding=1),
        [spikes, weight],
        [mx.ones((images, height, width, outputs))],
    )
    assert out[0].shape == (images, height, width, outputs)
    assert ds.shape == spikes.shape
    assert dw.shape == weight.shape
    assert not np.asarray(dw).any()


SPIKES, WEIGHT = mx.ones((2, 4, 4, 3)), mx.ones((3, 3, 3, 2))


def _sum(x: mx.array, w: mx.array) -> mx.array:
    return trainable_conv2d(x, w).sum()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mx.compile(_sum)(SPIKES, WEIGHT), "outside mx.compile and mx.vmap only"),
        (lambda: mx.vmap(trainable_conv2d, (0, None))(SPIKES[None], WEIGHT), "vmap"),
        (
            lambda: mx.jvp(trainable_conv2d, [SPIKES, WEIGHT], [SPIKES, WEIGHT]),
            "expected mx.grad or mx.vjp, got mx.jvp",
        ),
        (
            lambda: mx.grad(lambda w: mx.grad(_sum, 1)(SPIKES, w).sum())(WEIGHT),
            "expected first derivatives only",
        ),
        (lambda: trainable_conv2d(SPIKES, np.ones((3, 3, 3, 2))), "float32 MLX weight .* ndarray"),
        (lambda: trainable_conv2d(SPIKES, mx.ones((27, 2))), r"weight \(kh, kw, C, O\)"),
        (lambda: trainable_conv2d(SPIKES, mx.ones((3, 3, 4, 2))), r"spikes \(..., H, W, 4\)"),
        (lambda: trainable_conv2d(SPIKES.astype(mx.float16), WEIGHT), "expected float32 spikes"),
        (lambda: mx.eval(trainable_conv2d(SPIKES * 0.5, WEIGHT)), "got fractions"),
        (lambda: mx.eval(trainable_conv2d(SPIKES * 200, WEIGHT)), "expected counts -127..127"),
        (lambda: trainable_conv2d(SPIKES, WEIGHT, stride=0), "expected stride 1 or more"),
    ],
)
def test_refusals(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
