"""The fused layer: every backend against spike linear followed by the neuron."""

from __future__ import annotations

import functools
import math

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels import Neuron, PackedSpikes, lif_scan, pack, spike_linear
from neurosim.kernels._metal import Launch, on_gpu
from neurosim.kernels.metal_emulator import emulate, unavailable
from neurosim.kernels.spike_linear import PackedWeight
from neurosim.kernels.spike_linear_lif import BACKENDS, _prepare, metal, spike_linear_lif

RUNNABLE = [
    name
    for name, backend in BACKENDS.items()
    if not name.startswith("metal") or backend.unavailable() is None
]
NO_EMULATOR = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
LAUNCHERS = [
    pytest.param(functools.partial(emulate, order=order), id=order, marks=NO_EMULATOR)
    for order in ("forward", "reverse", "shuffled")
] + [
    pytest.param(
        on_gpu, id="gpu", marks=pytest.mark.skipif(not mx.metal.is_available(), reason="no GPU")
    )
]
NEURONS = {"soft": Neuron(), "hard": Neuron("hard"), "integer": Neuron(levels=4)}
BITS = pytest.mark.parametrize("bits", [32, 16, 8, 4])


def _weight(rng: np.random.Generator, shape: tuple[int, int], bits: int) -> PackedWeight:
    if bits >= 16:
        return PackedWeight.pack(rng.standard_normal(shape).astype(np.float32) * 0.3, bits)
    return PackedWeight.pack(rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), shape), bits)


def _counts(rng, shape: tuple[int, ...], density: float, levels: int = 1, signed: bool = False):
    size = rng.integers(1, levels + 1, shape) * (rng.choice([-1, 1], shape) if signed else 1)
    return np.where(rng.random(shape) < density, size, 0).astype(np.int8)


def _threshold(rng, outputs: int, bits: int) -> np.ndarray:
    unit = {32: 1, 16: 1, 8: 200, 4: 10}[bits]
    return (unit * rng.uniform(0.5, 1.5, outputs)).astype(np.float32)


def _expected(counts: np.ndarray, weight: PackedWeight, *arguments, **options):
    """`lif_scan` of `spike_linear`, both the references; counts (T, ..., I)."""
    values = weight.unpack().astype(np.int8 if weight.integer else np.float32)
    flat = counts.reshape(math.prod(counts.shape[:-1]), counts.shape[-1])
    x = spike_linear(flat, values, backend="reference").astype(np.float32)
    x = x.reshape(*counts.shape[:-1], weight.shape[1])
    return lif_scan(x, *arguments, save_membrane=True, backend="reference", **options)


def _check(found, expected, axis: int = 0) -> None:
    spikes = found.spikes.unpack()
    np.testing.assert_array_equal(np.moveaxis(spikes, axis, 0), expected.spikes)
    np.testing.assert_array_equal(np.moveaxis(found.membrane, axis, 0), expected.membrane)
    np.testing.assert_array_equal(found.state, expected.state)
    assert found.state.dtype == found.membrane.dtype == np.float32


@BITS
@pytest.mark.parametrize("steps", [1, 4, 5, 64])
@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
@pytest.mark.parametrize("backend", RUNNABLE)
def test_steps_and_neurons(backend: str, neuron: Neuron, steps: int, bits: int) -> None:
    rng = np.random.default_rng(steps)
    counts, weight = _counts(rng, (steps, 2, 65), 0.2), _weight(rng, (65, 70), bits)
    threshold = _threshold(rng, 70, bits)
    decay, gain = rng.uniform(0, 1, 70), rng.uniform(0.5, 1.5, 70)
    state = rng.standard_normal((2, 70)).astype(np.float32)
    start = state.copy()
    options = {"neuron": neuron, "state": state}
    spikes = pack(counts, time_axis=0)
    found = spike_linear_lif(
        spikes,
        weight,
        threshold,
        decay,
        gain,
        save_membrane=True,
        algo="gather",
        backend=backend,
        **options,
    )
    _check(found, _expected(counts, weight, threshold, decay, gain, **options))
    np.testing.assert_array_equal(state, start)
    assert found.spikes.levels == (neuron.levels or 1)
    assert found.spikes.time_axis == 0


@pytest.mark.parametrize("outputs", [1, 63, 64, 65, 123, 300])
@pytest.mark.parametrize("inputs", [1, 63, 64, 65, 123, 300])
@pytest.mark.parametrize("backend", RUNNABLE)
def test_awkward_sizes(backend: str, inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(inputs * 1000 + outputs)
    counts = _counts(rng, (4, 1, inputs), 0.3)
    for bits in (32, 8):
        weight, threshold = _weight(rng, (inputs, outputs), bits), _threshold(rng, outputs, bits)
        found = spike_linear_lif(
            pack(counts), weight, threshold, save_membrane=True, algo="gather", backend=backend
        )
        _check(found, _expected(counts, weight, threshold))


@pytest.mark.parametrize("bits", [32, 4])
@pytest.mark.parametrize("code", ["thermometer", "bits"])
@pytest.mark.parametrize("backend", RUNNABLE)
def test_counts_and_signs(backend: str, code: str, bits: int) -> None:
    rng = np.random.default_rng(3)
    weight, threshold = _weight(rng, (70, 40), bits), _threshold(rng, 40, bits)
    for levels, signed in ((1, True), (4, False), (16, True)):
        counts = _counts(rng, (4, 3, 70), 0.3, levels, signed)
        spikes = pack(counts, levels, signed, code, time_axis=0)
        found = spike_linear_lif(
            spikes, weight, threshold, save_membrane=True, algo="gather", backend=backend
        )
        _check(found, _expected(counts, weight, threshold))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("backend", RUNNABLE)
def test_time_may_be_any_axis(backend: str, axis: int) -> None:
    rng = np.random.default_rng(4)
    counts, weight = _counts(rng, (5, 3, 2, 70), 0.3), _weight(rng, (70, 90), 32)
    state = rng.standard_normal((3, 2, 90)).astype(np.float32)
    spikes = pack(np.moveaxis(counts, 0, axis), time_axis=axis)
    found = spike_linear_lif(
        spikes, weight, 0.8, state=state, save_membrane=True, algo="gather", backend=backend
    )
    _check(found, _expected(counts, weight, 0.8, state=state), axis)
    assert found.spikes.time_axis == axis


@BITS
@pytest.mark.parametrize("launch", LAUNCHERS)
def test_metal_in_every_order(launch: Launch, bits: int) -> None:
    rng = np.random.default_rng(5)
    for outputs, neuron, integer in ((150, Neuron(levels=3), False), (33, Neuron(), bits < 16)):
        counts, weight = _counts(rng, (3, 2, 70), 0.3), _weight(rng, (70, outputs), bits)
        threshold = np.rint(_threshold(rng, outputs, bits) + 0.5)
        layer = _prepare.prepared(
            pack(counts), weight, threshold, 0.5, 1.0, neuron, None, True, integer
        )
        found = [np.asarray(array) for array in metal.spike_linear_lif(launch, layer)]
        expected = BACKENDS["reference"].spike_linear_lif(layer)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(0, 2, 5, 7), (3, 0, 5, 7), (3, 2, 0, 7), (3, 2, 5, 0)], ids=str)
@pytest.mark.parametrize("backend", RUNNABLE)
def test_empty(backend: str, shape: tuple[int, int, int, int]) -> None:
    steps, rows, inputs, outputs = shape
    counts = np.ones((steps, rows, inputs), np.int8)
    for kind in (np.float32, np.int8):
        weight = np.ones((inputs, outputs), kind)
        state = np.full((rows, outputs), 3, np.float32)
        found = spike_linear_lif(
            pack(counts), weight, 2, state=state, save_membrane=True, algo="gather", backend=backend
        )
        _check(found, _expected(counts, PackedWeight.pack(weight, 32), 2, state=state))


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("backend", RUNNABLE)
def test_silent_and_firing(backend: str, value: int) -> None:
    """Nothing fires; everything fires, past every limit of short sums."""
    rng = np.random.default_rng(6)
    counts = np.full((2, 1, 600), value, np.int8)
    for weight in (
        _weight(rng, (600, 65), 32),
        *(PackedWeight.pack(np.full((600, 65), low), bits) for bits, low in ((8, -128), (4, 7))),
    ):
        found = spike_linear_lif(
            pack(counts), weight, 500, save_membrane=True, algo="gather", backend=backend
        )
        _check(found, _expected(counts, weight, 500))


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (3, 70)])
def test_a_state_that_is_one_number_or_row(shape: tuple[int, int], backend: str) -> None:
    """numpy calls such views contiguous where an axis has size one."""
    rng = np.random.default_rng(8)
    counts, weight = _counts(rng, (2, shape[0], 9), 0.3), _weight(rng, (9, shape[1]), 32)
    for values in (np.float32(0.75), rng.random(shape[1], np.float32)):
        state = np.broadcast_to(values, shape)
        found = spike_linear_lif(
            pack(counts), weight, state=state, save_membrane=True, algo="gather", backend=backend
        )
        _check(found, _expected(counts, weight, state=state))


@pytest.mark.parametrize("backend", RUNNABLE)
def test_a_membrane_at_its_threshold_fires(backend: str) -> None:
    counts, weight = np.ones((3, 1, 2), np.int8), np.full((2, 3), 0.5, np.float32)
    found = spike_linear_lif(pack(counts), weight, [1, 2, 4], 1.0, backend=backend)
    np.testing.assert_array_equal(found.spikes.unpack()[:, 0], [[1, 0, 0], [1, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(found.state, [[0, 1, 3]])


@examples(40)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(0, 6),
    tokens=st.integers(0, 5),
    inputs=st.integers(0, 200),
    outputs=st.integers(0, 200),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    levels=st.sampled_from([1, 3]),
    signed=st.booleans(),
    bits=st.sampled_from([32, 8]),
    neuron=st.sampled_from(list(NEURONS.values())),
    axis=st.integers(0, 1),
)
def test_any_layer(
    seed, steps, tokens, inputs, outputs, density, levels, signed, bits, neuron, axis
) -> None:
    rng = np.random.default_rng(seed)
    counts = _counts(rng, (steps, tokens, inputs), density, levels, signed)
    weight, threshold = _weight(rng, (inputs, outputs), bits), _threshold(rng, outputs, bits)
    spikes = pack(np.moveaxis(counts, 0, axis), levels, signed, time_axis=axis)
    expected = _expected(counts, weight, threshold, 0.7, neuron=neuron)
    for backend in RUNNABLE:
        found = spike_linear_lif(
            spikes,
            weight,
            threshold,
            0.7,
            neuron=neuron,
            save_membrane=True,
            algo="gather",
            backend=backend,
        )
        _check(found, expected, axis)


def test_plain_weights_outputs_and_metal_by_choice() -> None:
    rng = np.random.default_rng(7)
    counts, weight = _counts(rng, (4, 3, 70), 0.3), rng.integers(-9, 9, (70, 40)).astype(np.int8)
    spikes = pack(counts)
    packed = spike_linear_lif(spikes, PackedWeight.pack(weight, 8), 7)
    plain = spike_linear_lif(spikes, weight, 7, output="int8")
    assert packed.membrane is None
    assert isinstance(packed.spikes, PackedSpikes)
    assert plain.spikes.dtype == np.int8
    np.testing.assert_array_equal(plain.spikes, packed.spikes.unpack())
    from_mlx = spike_linear_lif(spikes, mx.array(weight), 7)
    np.testing.assert_array_equal(from_mlx.state, plain.state)
    np.testing.assert_array_equal(
        spike_linear_lif(packed.spikes, np.ones((40, 3), np.float32)).spikes.shape, (4, 3, 3)
    )
