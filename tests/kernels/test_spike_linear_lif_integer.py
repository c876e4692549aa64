"""The fused layer without multiplications, scales of weights, and what the layer refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels import Neuron, lif_scan, pack, spike_linear
from neurosim.kernels.spike_linear import PackedWeight
from neurosim.kernels.spike_linear_lif import BACKENDS, spike_linear_lif

RUNNABLE = [
    name
    for name, backend in BACKENDS.items()
    if not name.startswith("metal") or backend.unavailable() is None
]
SPIKES = pack(np.zeros((4, 2, 3), np.int8))
WEIGHT = np.ones((3, 5), np.int8)


def _scan(x, threshold, shift: int, hard: bool, state):
    """u = (v >> shift) + x in Python's integers, one neuron at a time; x (T, R, O)."""
    spikes, membrane = np.zeros(x.shape, np.int8), np.zeros(x.shape, object)
    last = np.zeros(x.shape[1:], object)
    for r in range(x.shape[1]):
        for o in range(x.shape[2]):
            v = int(state[r, o])
            for t in range(len(x)):
                u = (v >> shift) + int(x[t, r, o])
                fires = u >= threshold[o]
                v = (0 if hard else u - int(threshold[o])) if fires else u
                spikes[t, r, o], membrane[t, r, o] = fires, u
            last[r, o] = v
    return spikes, last, membrane


@examples(40)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(0, 7),
    tokens=st.integers(0, 3),
    inputs=st.integers(0, 100),
    outputs=st.integers(0, 140),
    shift=st.sampled_from([0, 1, 3, 31]),
    hard=st.booleans(),
    bits=st.sampled_from([8, 4]),
    levels=st.sampled_from([1, 3]),
)
def test_integer_membranes(seed, steps, tokens, inputs, outputs, shift, hard, bits, levels):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, levels + 1, (steps, tokens, inputs)).astype(np.int8)
    values = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (inputs, outputs))
    threshold = rng.integers(1, 100, outputs)
    state = rng.integers(-1000, 1000, (tokens, outputs)).astype(np.int32)
    x = counts.reshape(steps * tokens, inputs).astype(np.int64) @ values
    spikes, last, membrane = _scan(x.reshape(steps, tokens, outputs), threshold, shift, hard, state)
    for backend in RUNNABLE:
        found = spike_linear_lif(
            pack(counts, levels), PackedWeight.pack(values, bits), threshold, 2.0**-shift,
            neuron=Neuron("hard" if hard else "soft"), state=state, save_membrane=True,
            integer=True, backend=backend,
        )  # fmt: skip
        np.testing.assert_array_equal(found.spikes.unpack(), spikes)
        np.testing.assert_array_equal(found.state, last.astype(np.int64))
        np.testing.assert_array_equal(found.membrane, membrane.astype(np.int64))
        assert found.state.dtype == found.membrane.dtype == np.int32


@pytest.mark.parametrize("backend", RUNNABLE)
def test_a_scale_belongs_to_the_gain(backend: str) -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 2, (4, 3, 50)).astype(np.int8)
    weight = PackedWeight.quantise(rng.standard_normal((50, 70)), 8)
    gain = rng.uniform(0.5, 1, 70).astype(np.float32)
    x = spike_linear(counts.reshape(12, 50), weight.unpack()).astype(np.float32)
    expected = lif_scan(x.reshape(4, 3, 70), 1.5, 0.5, gain * weight.scale)
    found = spike_linear_lif(pack(counts), weight, 1.5, 0.5, gain, backend=backend)
    np.testing.assert_array_equal(found.spikes.unpack(), expected.spikes)
    np.testing.assert_array_equal(found.state, expected.state)


@pytest.mark.parametrize("backend", RUNNABLE)
def test_a_scale_is_folded_into_whole_thresholds(backend: str) -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 2, (4, 3, 50)).astype(np.int8)
    weight = PackedWeight.quantise(rng.standard_normal((50, 70)), 8)
    whole = np.maximum(np.rint(1.5 / weight.scale.astype(np.float64)), 1)
    plain = PackedWeight.pack(weight.unpack(), 8)
    folded = spike_linear_lif(pack(counts), weight, 1.5, integer=True, backend=backend)
    expected = spike_linear_lif(pack(counts), plain, whole, integer=True, backend="reference")
    np.testing.assert_array_equal(folded.spikes.unpack(), expected.spikes.unpack())
    np.testing.assert_array_equal(folded.state, expected.state)
    smallest = spike_linear_lif(pack(counts), weight, 1e-9, integer=True, backend=backend)
    ones = spike_linear_lif(pack(counts), plain, 1, integer=True, backend="reference")
    np.testing.assert_array_equal(smallest.state, ones.state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spikes": np.zeros((4, 2, 3), np.int8)}, "expected PackedSpikes .* got ndarray"),
        ({"spikes": pack(np.zeros(3, np.int8))}, r"of shape \(T, ..., I\), got \(3,\)"),
        ({"weight": np.ones((3, 5))}, "int8 or float32 weights .* got float64"),
        ({"weight": np.ones(3, np.int8)}, r"of shape \(I, O\)"),
        ({"weight": np.ones((4, 5), np.int8)}, "one weight row per input, got 3 inputs"),
        ({"threshold": 0.0}, "expected positive thresholds, got 0.0"),
        ({"threshold": np.ones(4)}, r"expected a finite threshold, one number .* \(5,\)"),
        ({"decay": np.nan}, "expected a finite decay"),
        ({"gain": np.ones((2, 5))}, "expected a finite gain"),
        ({"state": np.zeros((2, 5))}, r"float32 state of shape \(2, 5\), got float64"),
        ({"state": np.zeros((4, 5), np.float32)}, r"state of shape \(2, 5\), got float32 \(4, 5\)"),
        ({"output": "bits"}, "expected output int8 or packed, got 'bits'"),
        ({"backend": "gpu"}, "expected backend auto, cpu, reference, .*; got 'gpu'"),
        ({"integer": True, "weight": np.ones((3, 5), np.float32)}, "expected integer weights"),
        ({"integer": True, "neuron": Neuron(levels=2)}, "binary spikes of integer membranes"),
        ({"integer": True, "decay": 0.3}, "expected one decay of 1, 1/2, 1/4, .* got 0.3"),
        ({"integer": True, "decay": 0.0}, "expected one decay of 1, 1/2"),
        ({"integer": True, "decay": 2.0}, "expected one decay of 1, 1/2"),
        ({"integer": True, "decay": [1, 1, 1, 1, 0.5]}, "expected one decay of 1, 1/2"),
        ({"integer": True, "gain": 2.0}, "expected gain 1 for integer membranes"),
        ({"integer": True, "threshold": 1.5}, "expected whole int32 thresholds"),
        ({"integer": True, "threshold": 2.0**31}, "expected whole int32 thresholds"),
        ({"integer": True, "state": np.zeros((2, 5), np.float32)}, "expected a int32 state"),
    ],
)
def test_bad_input(change: dict, message: str) -> None:
    arguments = {"spikes": SPIKES, "weight": WEIGHT, "threshold": 1.0} | change
    with pytest.raises(ValueError, match=message):
        spike_linear_lif(**arguments)


def test_sums_that_could_leave_int32_are_refused() -> None:
    inputs = 131072
    weight = np.ones((inputs, 1), np.int8)
    counts = pack(np.zeros((1, 1, 2 * inputs), np.int8), 127)
    with pytest.raises(ValueError, match="expected sums within int32, got up to 4261412864"):
        spike_linear_lif(counts, np.concatenate([weight, weight]))
    few = pack(np.zeros((4, 1, inputs), np.int8))
    full = np.full((1, 1), 2**31 - 1, np.int32)
    with pytest.raises(ValueError, match="expected sums within int32"):
        spike_linear_lif(few, weight, state=full, integer=True)
    many = pack(np.zeros((200, 1, inputs), np.int8))
    spike_linear_lif(many, weight, decay=0.5, integer=True)
    with pytest.raises(ValueError, match="fewer steps where nothing leaks"):
        spike_linear_lif(many, weight, decay=1.0, integer=True)
