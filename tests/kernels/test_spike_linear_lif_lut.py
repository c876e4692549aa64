"""The fused layer by tables: the same spikes as spike linear by tables, then the neuron."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels import Neuron, PackedWeight, lif_scan, pack, spike_linear, spike_linear_lif

BITS = pytest.mark.parametrize("bits", [32, 16, 8, 4])


def _weight(rng: np.random.Generator, shape: tuple[int, int], bits: int) -> PackedWeight:
    if bits >= 16:
        return PackedWeight.pack(rng.standard_normal(shape).astype(np.float32) * 0.3, bits)
    return PackedWeight.pack(rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), shape), bits)


def _check(counts, levels: int, signed: bool, weight, axis: int = 0, **options) -> None:
    """counts (T, ..., I); the layer sees time at `axis`."""
    x = spike_linear(pack(counts, levels, signed), weight, algo="lut").astype(np.float32)
    expected = lif_scan(x, save_membrane=True, **options)
    spikes = pack(np.moveaxis(counts, 0, axis), levels, signed, time_axis=axis)
    found = spike_linear_lif(spikes, weight, save_membrane=True, algo="lut", **options)
    np.testing.assert_array_equal(np.moveaxis(found.membrane, axis, 0), expected.membrane)
    np.testing.assert_array_equal(np.moveaxis(found.spikes.unpack(), axis, 0), expected.spikes)
    np.testing.assert_array_equal(found.state, expected.state)


@BITS
@pytest.mark.parametrize("neuron", [Neuron(), Neuron("hard"), Neuron(levels=3)], ids=str)
def test_neurons_and_weights(neuron: Neuron, bits: int) -> None:
    rng = np.random.default_rng(bits)
    unit = {32: 1, 16: 1, 8: 200, 4: 10}[bits]
    counts = (rng.random((4, 7, 130)) < 0.3).astype(np.int8)
    state = rng.standard_normal((7, 70)).astype(np.float32)
    options = {"threshold": unit * rng.uniform(0.5, 1.5, 70), "decay": 0.7, "state": state}
    _check(counts, 1, False, _weight(rng, (130, 70), bits), neuron=neuron, **options)


@BITS
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_more_rows_than_a_table_serves(axis: int, bits: int) -> None:
    """1,024 rows share a table: 600 tokens of 3 steps, and 2 tokens of 1,100."""
    rng = np.random.default_rng(axis)
    for shape in ((3, 60, 10, 33), (1100, 2, 1, 33)):
        counts = (rng.random(shape) < 0.3).astype(np.int8)
        _check(counts, 1, False, _weight(rng, (33, 130), bits), axis, decay=0.9, threshold=3.0)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("shift", [0, 1])
def test_integer_membranes(shift: int, bits: int) -> None:
    rng = np.random.default_rng(shift)
    counts = rng.integers(0, 4, (5, 9, 300)).astype(np.int8)
    weight = _weight(rng, (300, 100), bits)
    options = {"decay": 2.0**-shift, "integer": True, "save_membrane": True}
    for spikes in (pack(counts, 3), pack(counts, 3, code="bits"), pack((counts > 2).astype(int))):
        found = spike_linear_lif(spikes, weight, 50, algo="lut", **options)
        expected = spike_linear_lif(spikes, weight, 50, backend="reference", **options)
        np.testing.assert_array_equal(found.spikes.unpack(), expected.spikes.unpack())
        np.testing.assert_array_equal(found.membrane, expected.membrane)
        np.testing.assert_array_equal(found.state, expected.state)


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(0, 6),
    tokens=st.integers(0, 6),
    inputs=st.integers(0, 200),
    outputs=st.integers(0, 200),
    density=st.sampled_from([0.0, 0.3, 1.0]),
    levels=st.sampled_from([1, 2, 5]),
    signed=st.booleans(),
    bits=st.sampled_from([32, 16, 8, 4]),
    axis=st.integers(0, 1),
)
def test_any_layer(
    seed, steps, tokens, inputs, outputs, density, levels, signed, bits, axis
) -> None:
    rng = np.random.default_rng(seed)
    shape = (steps, tokens, inputs)
    size = rng.integers(1, levels + 1, shape) * (rng.choice([-1, 1], shape) if signed else 1)
    counts = np.where(rng.random(shape) < density, size, 0).astype(np.int8)
    _check(counts, levels, signed, _weight(rng, (inputs, outputs), bits), axis, threshold=0.9)


def test_auto_takes_tables_for_many_dense_rows_and_lists_for_sparse_ones() -> None:
    rng = np.random.default_rng(0)
    weight = _weight(rng, (512, 128), 32)
    for density, algo in ((0.5, "lut"), (0.01, "gather")):
        spikes = pack((rng.random((4, 256, 512)) < density).astype(np.int8), time_axis=0)
        chosen = spike_linear_lif(spikes, weight, save_membrane=True)
        forced = spike_linear_lif(spikes, weight, save_membrane=True, algo=algo)
        np.testing.assert_array_equal(chosen.membrane, forced.membrane)


@pytest.mark.parametrize("bits", [32, 8])
def test_one_token_and_weights_from_memory(bits: int) -> None:
    """Rows of weights larger than the cache are fetched ahead where few rows need them."""
    rng = np.random.default_rng(1)
    weight = _weight(rng, (2100, 1100 if bits == 8 else 300), bits)
    assert weight.panels.nbytes > 1 << 20
    counts = (rng.random((4, 1, 2100)) < 0.1).astype(np.int8)
    found = spike_linear_lif(pack(counts), weight, 3.0, algo="gather", save_membrane=True)
    x = spike_linear(pack(counts), weight, algo="gather").astype(np.float32)
    np.testing.assert_array_equal(found.membrane, lif_scan(x, 3.0, save_membrane=True).membrane)


def test_other_backends_refuse_tables() -> None:
    spikes, weight = pack(np.zeros((4, 2, 3), np.int8)), np.ones((3, 5), np.int8)
    with pytest.raises(ValueError, match="expected algo 'gather' on backend 'reference', got 'lu"):
        spike_linear_lif(spikes, weight, algo="lut", backend="reference")
    with pytest.raises(ValueError, match="expected algo auto, gather, lut; got 'pattern'"):
        spike_linear_lif(spikes, weight, algo="pattern")
