"""Spike counts: the reference neuron's recorded behaviour, and every backend against numpy."""

from __future__ import annotations

import functools
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels import spike_quantise
from neurosim.kernels.metal_emulator import emulate, unavailable
from neurosim.kernels.spike_quantise import RampNeuron, cpu, metal, reference, spike_count
from neurosim.kernels.spike_quantise import mlx as operations

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "spike_neuron_golden.npz")
SIZES = (1, 15, 16, 17, 63, 64, 65, 123, 1000)
SCALES = ("token", "tensor", 0.013)
NO_EMULATOR = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


def _same(found, expected, kind: type) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    counts, scales = (np.asarray(x) for x in found)
    assert counts.dtype == np.int8 and scales.dtype == kind
    assert scales.shape == np.asarray(expected[1]).shape


def _ties(kind: type, bits: int = 8) -> np.ndarray:
    """Halves, their neighbours, and both ends, with a scale of exactly 1."""
    top = (1 << (bits - 1)) - 1
    halves = np.arange(0, top + 0.25, 0.5, dtype=kind)
    near = [halves, np.nextafter(halves, kind(0)), np.nextafter(halves, kind(top))]
    x = np.concatenate(near)
    return np.concatenate([x, -x])


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_recorded_neuron(backend: str) -> None:
    """neuron.multi holds ties, their neighbours and drives out of range."""
    v, counts = GOLDEN["neuron.multi.v"], GOLDEN["neuron.multi.count"]
    found, _ = spike_quantise(v, scale=1.0, backend=backend)
    np.testing.assert_array_equal(found, counts)
    np.testing.assert_array_equal(spike_count(v), counts)
    halves_to_even = np.clip(np.round(v), -127, 127)
    assert (halves_to_even != counts).sum() == 132  # what the closed form must avoid


@pytest.mark.parametrize("name", ["f32", "f64", "f16"])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_recorded_quantiser(name: str, backend: str) -> None:
    x = GOLDEN[f"quant.{name}.x"]
    counts, scale = spike_quantise(x, scale="tensor", backend=backend)
    assert scale == GOLDEN[f"quant.{name}.scale"] and scale.shape == ()
    np.testing.assert_array_equal(counts.astype(x.dtype) * scale, GOLDEN[f"quant.{name}.y"])


@pytest.mark.parametrize("name", ["f32", "f16", "bf16"])
def test_recorded_quantiser_in_mlx(name: str) -> None:
    kind = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}[name]
    x = mx.array(GOLDEN[f"quant.{name}.x"]).astype(kind)
    counts, scale = spike_quantise(x, scale="tensor")
    assert scale.dtype == kind and counts.dtype == mx.int8
    found = (counts.astype(kind) * scale).astype(mx.float32)
    np.testing.assert_array_equal(np.asarray(found), GOLDEN[f"quant.{name}.y"])


@pytest.mark.parametrize("i", range(5))
def test_recorded_general_neurons(i: int) -> None:
    base, alpha, steps = GOLDEN[f"neuron.general{i}.base_alpha_T"]
    found = spike_count(GOLDEN[f"neuron.general{i}.v"], base, alpha, int(steps))
    np.testing.assert_array_equal(found, GOLDEN[f"neuron.general{i}.count"])


@pytest.mark.parametrize("drive", ["const", "vary"])
@pytest.mark.parametrize("attenuation", ["1.0", "0.5", "0.0"])
def test_recorded_traces(attenuation: str, drive: str) -> None:
    trace = {
        key: GOLDEN[f"neuron.single.att{attenuation}.{drive}.{key}"]
        for key in ("I", "S", "V_after", "theta")
    }
    neuron = RampNeuron(attenuation=float(attenuation))
    for t, current in enumerate(trace["I"]):
        assert neuron.threshold == trace["theta"][t]
        np.testing.assert_array_equal(neuron.step(current), trace["S"][t])
        np.testing.assert_array_equal(neuron.potential, trace["V_after"][t])
    assert "40 steps, 12 neurons" in repr(neuron)


def test_recorded_raster() -> None:
    """A thermometer code: each spikes in its first |n| steps and then no more."""
    v, spikes = GOLDEN["neuron.raster.v"][0], GOLDEN["neuron.raster.spikes"][0]
    neuron = RampNeuron()
    np.testing.assert_array_equal(np.stack([neuron.step(v) for _ in range(127)]), spikes)
    np.testing.assert_array_equal(spikes.sum(0), GOLDEN["neuron.raster.count"][0])
    assert (np.diff(np.abs(spikes), axis=0) <= 0).all()


@pytest.mark.parametrize("bits", [8, 4])
def test_recorded_product(bits: int) -> None:
    """Spiking matrix products are integer products of counts (the reference sums in float32)."""
    (q, qs), (k, ks) = (
        spike_quantise(GOLDEN[f"matmul.bits{bits}.{x}"], bits, "tensor") for x in "QK"
    )
    found = (q.astype(np.int64) @ k.astype(np.int64).swapaxes(2, 3)) * (float(qs) * float(ks))
    expected = GOLDEN[f"matmul.bits{bits}.A"]
    assert np.abs(found - expected).max() < 2e-4 * np.abs(expected).max()


@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_awkward_sizes(size: int, kind: type, scale: str | float) -> None:
    rng = np.random.default_rng(size)
    x = rng.standard_normal((2, 3, size)).astype(kind)
    x[0, 1] = 0
    expected = spike_quantise(x, scale=scale, backend="reference")
    _same(spike_quantise(x, scale=scale, backend="cpu"), expected, kind)
    if kind == np.float32:
        _same(spike_quantise(mx.array(x), scale=scale), expected, kind)


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffled"])
@NO_EMULATOR
def test_metal(order: str) -> None:
    launch = functools.partial(emulate, order=order)
    rng = np.random.default_rng(1)
    for shape in ((1, 1), (3, 63), (2, 2, 300), (1, 1000)):
        x = rng.standard_normal(shape).astype(np.float32)
        x[0] *= 1e-3
        for scale in ("token", "tensor", np.float32(0.013) * np.ones((), np.float32)):
            expected = reference.spike_quantise(x, 127, scale)
            found = metal.spike_quantise(launch, x, 127, scale)
            _same(found[:2], expected[:2], np.float32)
            assert found[2]
    for bad in (np.nan, np.inf, -np.inf):
        x[0, 777] = bad
        assert not metal.spike_quantise(launch, x, 127, "token")[2]
    assert "float16" in str(metal.supports(x.astype(np.float16), "token"))
    rows = np.arange(1, 4, dtype=np.float32)[:, None]
    x = rng.standard_normal((2, 3, 70)).astype(np.float32)
    for values, scales in ((x, rows), (mx.array(x), mx.array(rows))):
        found = spike_quantise(values, scale=scales, backend="metal-emulated")
        _same(found, spike_quantise(x, scale=rows, backend="reference"), np.float32)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_ties(bits: int, kind: type) -> None:
    """A half goes away from zero, its neighbour below does not."""
    x = _ties(kind, bits)
    top = (1 << (bits - 1)) - 1
    expected = spike_count(x, steps=top)
    for backend in ("cpu", "reference"):
        counts, scale = spike_quantise(x, bits, backend=backend)
        assert scale == 1
        np.testing.assert_array_equal(counts, expected)
    if kind == np.float32:
        np.testing.assert_array_equal(np.asarray(spike_quantise(mx.array(x), bits)[0]), expected)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_saturation(backend: str) -> None:
    counts, _ = spike_quantise(np.array([1e30, -1e30, 3.0], np.float32), 4, 1e-20, backend)
    assert counts.tolist() == [7, -7, 7]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_silence(kind: type, backend: str) -> None:
    """Zeros, and values so small that their scale underflows."""
    tiny = np.finfo(kind).smallest_subnormal
    for size in (3, 40):
        for value in (0, tiny, 60 * tiny):
            counts, scale = spike_quantise(np.full((2, size), value, kind), backend=backend)
            assert not counts.any() and (scale == 1).all()
        counts, scale = spike_quantise(np.full((2, size), 254 * tiny, kind), backend=backend)
        assert (counts == 127).all() and (scale == 2 * tiny).all()


@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0), (2, 0, 4)], ids=str)
def test_empty(shape: tuple[int, ...], scale: str | float) -> None:
    x = np.zeros(shape, np.float32)
    expected = spike_quantise(x, scale=scale, backend="reference")
    _same(spike_quantise(x, scale=scale), expected, np.float32)
    _same(spike_quantise(mx.array(x), scale=scale), expected, np.float32)
    _same(spike_quantise(mx.array(x), scale=scale, backend="metal-emulated"), expected, np.float32)


def test_views_and_given_scales() -> None:
    rng = np.random.default_rng(3)
    whole = rng.standard_normal((6, 130)).astype(np.float32)
    whole.flags.writeable = False
    for x in (whole[::2, ::-1], whole.T, whole[:, 3:67]):
        _same(spike_quantise(x), spike_quantise(x.copy(), backend="reference"), np.float32)
        for scale in (np.linspace(0.1, 1, x.shape[0])[:, None], np.linspace(0.1, 1, x.shape[1])):
            expected = spike_quantise(x, scale=scale, backend="reference")
            _same(spike_quantise(x, scale=scale), expected, np.float32)


def test_rows_do_not_know_each_other() -> None:
    rng = np.random.default_rng(4)
    x = (rng.standard_normal((9, 321)) * 10.0 ** np.arange(-4, 5)[:, None]).astype(np.float32)
    counts, scales = spike_quantise(x)
    for row in range(9):
        one, scale = spike_quantise(x[row])
        np.testing.assert_array_equal(one, counts[row])
        np.testing.assert_array_equal(scale, scales[row])


@pytest.mark.parametrize("size", [3, 16, 37])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused(bad: float, size: int) -> None:
    for place in range(size):
        x = np.ones((2, size), np.float32)
        x[1, place] = bad
        for scale in SCALES:
            for backend in ("cpu", "reference"):
                with pytest.raises(ValueError, match="expected finite values, got NaN or infinity"):
                    spike_quantise(x, scale=scale, backend=backend)
        with pytest.raises(ValueError, match="NaN"):
            spike_quantise(mx.array(x))


def test_into_given_arrays() -> None:
    """The inner loop of a decoder."""
    x = np.random.default_rng(5).standard_normal((2, 576)).astype(np.float32)
    counts, scales = np.empty((2, 576), np.int8), np.empty(2, np.float32)
    assert cpu.quantise_rows(x, np.float32(127), counts, scales)
    expected = spike_quantise(x)
    np.testing.assert_array_equal(counts, expected[0])
    np.testing.assert_array_equal(scales, expected[1][:, 0])
    assert cpu.quantise_by(x, np.float32(127), counts, scales)
    np.testing.assert_array_equal(counts, expected[0])


def test_lazy_operations() -> None:
    x = mx.array(np.random.default_rng(6).standard_normal((2, 33)).astype(np.float32))
    found = mx.compile(lambda y: operations.spike_quantise(y, 7, "token"))(x)
    _same(found[:2], spike_quantise(np.asarray(x), 4), np.float32)


@examples(150)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(0, 4), st.integers(0, 70)),
    bits=st.integers(2, 8),
    scale=st.sampled_from(["token", "tensor", 0.5, 3e-5]),
    exponent=st.integers(-44, 37),
    kind=st.sampled_from([np.float32, np.float64, np.float16]),
)
def test_any_input(seed, shape, bits, scale, exponent, kind) -> None:
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        x = (rng.standard_normal(shape) * 10.0**exponent).astype(kind)
    x = np.clip(x, -np.finfo(kind).max, np.finfo(kind).max)
    expected = spike_quantise(x, bits, scale, "reference")
    _same(spike_quantise(x, bits, scale), expected, kind)
    if kind != np.float64:
        _same(spike_quantise(mx.array(x), bits, scale), expected, kind)
    top = (1 << (bits - 1)) - 1
    assert np.abs(expected[0].astype(int)).max(initial=0) <= top
    if scale in ("token", "tensor"):
        with np.errstate(over="ignore"):
            error = np.abs(expected[0] * expected[1].astype(float) - x.astype(float))
        type_of_x = np.finfo(kind)  # the scale and the quotient are rounded to it
        steps = 0.5 + 2 * top * float(type_of_x.eps)
        room = steps * expected[1].astype(float) + type_of_x.smallest_subnormal * top
        assert (error <= room).all()


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (np.float32(1), {}, r"shape \(\.\.\., N\)"),
        (np.ones(3, np.int32), {}, "got int32"),
        (mx.ones(3, mx.int32), {}, "got mlx.core.int32"),
        (np.ones(3), {"bits": 9}, "2 to 8 bits, got 9"),
        (np.ones(3), {"bits": 1}, "2 to 8 bits, got 1"),
        (np.ones(3), {"scale": "row"}, "token, tensor or numbers, got 'row'"),
        (np.ones(3), {"scale": 0.0}, "positive finite scales"),
        (np.ones(3), {"scale": np.nan}, "positive finite scales"),
        (np.ones((2, 3)), {"scale": np.ones(2)}, r"broadcast to x \(2, 3\), got \(2,\)"),
        (np.ones(3), {"scale": np.ones((2, 3))}, r"broadcast to x \(3,\)"),
        (np.ones(3), {"backend": "mlx"}, "expected an MLX array"),
        (np.ones(3), {"backend": "gpu"}, "got 'gpu'"),
        (mx.ones(3, mx.bfloat16), {"backend": "reference"}, "no bfloat16"),
        (np.ones((2, 3)), {"scale": np.ones(3), "backend": "cpu"}, "differ along the last axis"),
        (np.ones(3, np.float16), {"backend": "cpu"}, "float32 or float64"),
    ],
)
def test_refusals(x: object, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spike_quantise(x, **arguments)  # type: ignore[arg-type]
