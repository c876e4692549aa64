"""Gradient of weights: every algorithm against a float64 matrix product."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from test_spike_linear_packed import some_counts

from neurosim.kernels import grad_weight, pack, spike_linear
from neurosim.kernels.grad_weight import cpu, reference

ALGORITHMS = ("auto", "gather", "lut", "dense")


def check(counts: np.ndarray, gradient: np.ndarray, out: np.ndarray) -> None:
    rows = int(np.prod(counts.shape[:-1]))
    counts = counts.reshape(rows, counts.shape[-1]).astype(np.float64)
    gradient = gradient.reshape(rows, gradient.shape[-1]).astype(np.float64)
    assert out.dtype == np.float32
    assert out.shape == (counts.shape[1], gradient.shape[1])
    scale = np.abs(counts).T @ np.abs(gradient)
    assert (np.abs(out - counts.T @ gradient) <= 2e-6 * scale + 1e-30).all()


@examples(50)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 200),
    inputs=st.integers(0, 130),
    outputs=st.integers(0, 130),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    levels=st.sampled_from([1, 1, 4, 16]),
    signed=st.booleans(),
    code=st.sampled_from(["thermometer", "bits"]),
    threads=st.sampled_from([1, 3]),
)
def test_any_input(
    seed: int,
    rows: int,
    inputs: int,
    outputs: int,
    density: float,
    levels: int,
    signed: bool,
    code: str,
    threads: int,
) -> None:
    rng = np.random.default_rng(seed)
    counts = some_counts(rng, (rows, inputs), density, levels, signed)
    gradient = rng.standard_normal((rows, outputs)).astype(np.float32)
    spikes = pack(counts, levels, signed, code)
    for algo in ALGORITHMS:
        check(counts, gradient, grad_weight(spikes, gradient, algo, threads=threads))
    check(counts, gradient, grad_weight(spikes, gradient, backend="reference"))


def test_it_is_the_adjoint_of_spike_linear() -> None:
    """sum(g (S W)) = sum(W grad_weight(S, g)), in numbers that floats hold exactly."""
    rng = np.random.default_rng(1)
    counts = some_counts(rng, (37, 65), 0.3, 4, True)
    weight, gradient = (
        rng.integers(-8, 9, shape).astype(np.float32) for shape in ((65, 70), (37, 70))
    )
    forward = spike_linear(counts, weight)
    for algo in ALGORITHMS:
        learnt = grad_weight(counts, gradient, algo)
        assert (gradient * forward).sum() == (weight * learnt).sum()


def test_leading_axes_strides_and_threads() -> None:
    rng = np.random.default_rng(2)
    counts = some_counts(rng, (4, 30, 100), 0.3, 1, False)
    gradient = rng.standard_normal((4, 30, 160)).astype(np.float32)
    out = grad_weight(pack(counts), gradient[..., ::2])
    check(counts, gradient[..., ::2], out)
    for algo in ("gather", "lut"):
        alone = grad_weight(pack(counts), gradient, algo)
        together = grad_weight(pack(counts), gradient, algo, threads=5)
        np.testing.assert_array_equal(together, alone)


def test_mlx_arrays_in_and_out() -> None:
    rng = np.random.default_rng(3)
    counts = some_counts(rng, (20, 30), 0.3, 2, True)
    gradient = rng.standard_normal((20, 40)).astype(np.float32)
    out = grad_weight(mx.array(counts), mx.array(gradient))
    assert isinstance(out, mx.array)
    check(counts, gradient, np.asarray(out))
    assert isinstance(grad_weight(pack(counts, 2, True), mx.array(gradient)), mx.array)


def test_backends_share_a_signature() -> None:
    rng = np.random.default_rng(4)
    counts = some_counts(rng, (20, 30), 0.3, 2, True)
    gradient = rng.standard_normal((20, 40)).astype(np.float32)
    words = pack(counts, 2, True).words
    for module in (cpu, reference):
        check(counts, gradient, module.grad_weight(words, 2, True, "thermometer", 30, gradient))


def test_the_one_algorithm_of_other_backends_goes_by_gather() -> None:
    """As in `spike_linear` and `spike_conv2d`."""
    spikes, gradient = np.ones((2, 3), np.int8), np.ones((2, 4), np.float32)
    out = grad_weight(spikes, gradient, algo="gather", backend="reference")
    np.testing.assert_array_equal(out, np.full((3, 4), 2, np.float32))


@pytest.mark.parametrize(
    ("spikes", "gradient", "options", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4), np.float32), {}, "expected int8 spike counts"),
        (np.ones(3, np.int8), np.ones((3, 4), np.float32), {}, "add a token axis"),
        (np.full((2, 3), -128, np.int8), np.ones((2, 4), np.float32), {}, "got -128"),
        (np.ones((2, 3), np.int8), np.ones((2, 4)), {}, "float32 gradient of shape"),
        (np.ones((2, 3), np.int8), np.ones((3, 4), np.float32), {}, r"\(2, 'O'\) for spikes"),
        (np.ones((2, 3), np.int8), np.ones(2, np.float32), {}, "expected a float32 gradient"),
        (np.ones((2, 3), np.int8), np.ones((2, 4), np.float32), {"algo": "pattern"}, "got 'pat"),
        (np.ones((2, 3), np.int8), np.ones((2, 4), np.float32), {"threads": 0}, "1 thread"),
        (
            np.ones((2, 3), np.int8),
            np.ones((2, 4), np.float32),
            {"algo": "lut", "backend": "reference"},
            "expected algo 'gather' and 1 thread on backend 'reference'",
        ),
    ],
)
def test_refused(spikes: np.ndarray, gradient: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grad_weight(spikes, gradient, **options)
