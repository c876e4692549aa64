"""Spike linear as Metal kernels, in the emulator and on a GPU where there is one."""

from __future__ import annotations

import functools

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels import pack
from neurosim.kernels._metal import Launch, on_gpu
from neurosim.kernels.metal_emulator import emulate, emulate_traced, unavailable
from neurosim.kernels.spike_linear import PackedWeight, metal, reference, spike_linear

NO_EMULATOR = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
LAUNCHERS = [
    pytest.param(functools.partial(emulate, order=order), id=order, marks=NO_EMULATOR)
    for order in ("forward", "reverse", "shuffled")
] + [
    pytest.param(
        on_gpu, id="gpu", marks=pytest.mark.skipif(not mx.metal.is_available(), reason="no GPU")
    )
]
KINDS = pytest.mark.parametrize("kind", [np.int8, np.float32], ids=["int8", "float32"])
CODES = pytest.mark.parametrize("code", ["thermometer", "bits"])


def _weights(rng: np.random.Generator, shape: tuple[int, int], kind: type) -> np.ndarray:
    if kind is np.int8:
        return rng.integers(-128, 128, shape).astype(np.int8)
    return rng.standard_normal(shape).astype(np.float32)


def _counts(rng, shape: tuple[int, int], density: float, levels: int, signed: bool) -> np.ndarray:
    size = rng.integers(1, levels + 1, shape) * (rng.choice([-1, 1], shape) if signed else 1)
    return np.where(rng.random(shape) < density, size, 0).astype(np.int8)


def _check(out, counts: np.ndarray, weight: np.ndarray) -> None:
    out = np.asarray(out)
    expected = reference.spike_linear(counts, weight)
    assert out.dtype == expected.dtype
    np.testing.assert_array_equal(out, expected)
    if weight.dtype == np.int8:
        np.testing.assert_array_equal(out, counts.astype(np.int64) @ weight.astype(np.int64))


def _packed(launch: Launch, counts, weight, levels=1, signed=False, code="thermometer"):
    words = pack(counts, levels, signed, code).words
    return metal.packed_linear(launch, words, levels, signed, code, weight)


@KINDS
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 63, 65), (9, 64, 1), (2, 123, 128), (3, 65, 300)])
@pytest.mark.parametrize("launch", LAUNCHERS)
def test_counts(launch: Launch, shape: tuple[int, int, int], kind: type) -> None:
    rows, inputs, outputs = shape
    rng = np.random.default_rng(rows)
    weight = _weights(rng, (inputs, outputs), kind)
    counts = _counts(rng, (rows, inputs), 0.3, 4, True)
    _check(metal.spike_linear(launch, counts, weight), counts, weight)


@CODES
@KINDS
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 63, 65), (9, 64, 1), (2, 1000, 33)])
@pytest.mark.parametrize("launch", LAUNCHERS)
def test_words(launch: Launch, shape: tuple[int, int, int], kind: type, code: str) -> None:
    rows, inputs, outputs = shape
    rng = np.random.default_rng(rows)
    weight = _weights(rng, (inputs, outputs), kind)
    for levels, signed in ((1, True), (3, True), (16, False)):
        counts = _counts(rng, (rows, inputs), 0.3, levels, signed)
        _check(_packed(launch, counts, weight, levels, signed, code), counts, weight)


@KINDS
@pytest.mark.parametrize("rows", [1, 4, 8, 9])
@pytest.mark.parametrize("launch", LAUNCHERS)
def test_decode(launch: Launch, rows: int, kind: type) -> None:
    """Up to eight rows share a pass; 1,300 inputs are three slices of an integer sum."""
    rng = np.random.default_rng(rows)
    for inputs, outputs, density in ((1300, 40, 0.1), (63, 65, 1.0), (2, 1, 0.5)):
        weight = _weights(rng, (inputs, outputs), kind)
        counts = _counts(rng, (rows, inputs), density, 1, False)
        _check(_packed(launch, counts, weight), counts, weight)


@pytest.mark.parametrize("panel", [64, 128])
@pytest.mark.parametrize("bits", [32, 16, 8, 4])
@pytest.mark.parametrize("launch", LAUNCHERS)
def test_packed_weights(launch: Launch, bits: int, panel: int) -> None:
    """Counts, words and decode on the panels themselves, across their borders."""
    rng = np.random.default_rng(bits)
    for inputs, outputs in ((70, 150), (3, 1), (65, 257)):
        values = _weights(rng, (inputs, outputs), np.float32)
        if bits < 16:
            values = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), values.shape)
        weight = PackedWeight.pack(values, bits, panel)
        plain = weight.unpack().astype(np.int8 if bits < 16 else np.float32)
        counts = _counts(rng, (3, inputs), 0.4, 3, True)
        _check(metal.spike_linear(launch, counts, weight), counts, plain)
        _check(_packed(launch, counts, weight, 3, True), counts, plain)
        binary = np.abs(counts).clip(0, 1)
        _check(_packed(launch, binary, weight), binary, plain)


@pytest.mark.parametrize(("bits", "inputs"), [(8, 1100), (4, 9000)])
@NO_EMULATOR
def test_packed_sums_are_flushed(bits: int, inputs: int) -> None:
    """More rows than two 16-bit sums in a word hold, at both ends of the weights' range."""
    for value in (-(1 << (bits - 1)), (1 << (bits - 1)) - 1):
        plain = np.full((inputs, 70), value, np.int8)
        weight = PackedWeight.pack(plain, bits)
        for rows in (2, 9):
            ones = np.ones((rows, inputs), np.int8)
            if rows * inputs < 20000:
                _check(_packed(emulate, ones, weight), ones, plain)
        _check(metal.spike_linear(emulate, -ones[:1], weight), -ones[:1], plain)


@NO_EMULATOR
def test_public_function() -> None:
    """MLX arrays come back as MLX arrays; algorithms of the CPU are refused."""
    rng = np.random.default_rng(2)
    counts, weight = _counts(rng, (3, 70), 0.3, 2, True), _weights(rng, (70, 40), np.float32)
    out = spike_linear(mx.array(counts), mx.array(weight), backend="metal-emulated")
    assert isinstance(out, mx.array)
    _check(out, counts, weight)
    spikes = pack(counts.reshape(3, 1, 70), 2, True)
    out = spike_linear(spikes, weight, backend="metal-emulated")
    assert out.shape == (3, 1, 40)
    _check(out[:, 0], counts, weight)
    with pytest.raises(ValueError, match="only the CPU has others"):
        spike_linear(counts, weight, algo="lut", backend="metal-emulated")


@pytest.mark.skipif(mx.metal.is_available(), reason="there is a GPU")
def test_no_gpu_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match="backend 'metal' cannot run this: .*metal-emulated"):
        spike_linear(np.zeros((1, 3), np.int8), np.zeros((3, 2), np.int8), backend="metal")


@KINDS
@pytest.mark.parametrize("shape", [(0, 5, 7), (2, 0, 7), (2, 5, 0), (0, 0, 0)], ids=str)
@NO_EMULATOR
def test_empty(shape: tuple[int, int, int], kind: type) -> None:
    rows, inputs, outputs = shape
    counts, weight = np.ones((rows, inputs), np.int8), np.ones((inputs, outputs), kind)
    _check(metal.spike_linear(emulate, counts, weight), counts, weight)
    _check(_packed(emulate, counts, weight), counts, weight)


@pytest.mark.parametrize("rows", [2, 9])
@NO_EMULATOR
def test_silent_and_firing(rows: int) -> None:
    """Nothing fires; everything fires at the extremes of weights and counts."""
    rng = np.random.default_rng(0)
    for weight in (np.full((700, 3), -128, np.int8), _weights(rng, (700, 3), np.float32)):
        for count in (0, 1, 127):
            counts = np.full((rows, 700), count, np.int8)
            if count <= 1:
                _check(_packed(emulate, counts, weight), counts, weight)
            else:
                few = counts[:2, :70], weight[:70]
                for code in ("thermometer", "bits"):
                    _check(_packed(emulate, *few, 127, False, code), *few)
            _check(metal.spike_linear(emulate, counts[:2], weight), counts[:2], weight)
        _check(metal.spike_linear(emulate, -1 - counts[:2], weight), -1 - counts[:2], weight)


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.sampled_from([0, 1, 4, 9]),  # few kernels: each number of rows or columns is one
    inputs=st.integers(0, 200),
    outputs=st.one_of(st.integers(0, 32), st.integers(97, 140)),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    levels=st.sampled_from([1, 3]),
    signed=st.booleans(),
    code=st.sampled_from(["thermometer", "bits"]),
    kind=st.sampled_from([np.int8, np.float32]),
)
@NO_EMULATOR
def test_any_input(seed, rows, inputs, outputs, density, levels, signed, code, kind) -> None:
    rng = np.random.default_rng(seed)
    weight = _weights(rng, (inputs, outputs), kind)
    counts = _counts(rng, (rows, inputs), density, levels, signed)
    launch = functools.partial(emulate, order="shuffled", seed=seed % 1000)
    _check(metal.spike_linear(launch, counts, weight), counts, weight)
    _check(_packed(launch, counts, weight, levels, signed, code), counts, weight)


@NO_EMULATOR
def test_silent_words_cost_no_weights() -> None:
    """The weights read are those of rows that spiked, once for all rows of a decode."""
    counts = np.zeros((4, 2048), np.int8)
    counts[:, 70] = 1
    counts[2, 1999] = 1
    weight = np.ones((2048, 32), np.float32)
    traces = []

    def launch(kernel: object, **arguments):
        outputs, trace = emulate_traced(kernel, **arguments)
        traces.append(trace)
        return outputs

    _check(_packed(launch, counts, weight), counts, weight)
    read = {buffer.name: buffer.read for buffer in traces[0].buffers}
    assert read["weight"] == 2 * 32 * 4


def test_too_large_is_refused() -> None:
    huge = np.broadcast_to(np.int8(1), (2**16, 2**15))
    assert "fewer than 2^31" in str(metal.supports(np.zeros((1, 2**16), np.int8), huge))
    assert metal.supports(np.zeros((1, 2), np.int8), np.zeros((2, 2), np.int8)) is None
