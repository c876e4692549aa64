"""Convolution of spikes: every backend against sums written as loops."""

from __future__ import annotations

import functools

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels import PackedSpikes, pack
from neurosim.kernels._metal import Launch, on_gpu
from neurosim.kernels.metal_emulator import emulate, emulate_traced, unavailable
from neurosim.kernels.spike_conv2d import BACKENDS, metal, reference, spike_conv2d
from neurosim.kernels.spike_conv2d._columns import Columns
from neurosim.kernels.spike_conv2d._geometry import geometry
from neurosim.kernels.spike_linear import PackedWeight

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


def _counts(rng, shape: tuple[int, ...], density: float, levels: int = 1, signed: bool = False):
    size = rng.integers(1, levels + 1, shape) * (rng.choice([-1, 1], shape) if signed else 1)
    return np.where(rng.random(shape) < density, size, 0).astype(np.int8)


def _pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _convolved(counts, weight, stride=1, padding=0, dilation=1) -> np.ndarray:
    """By the formula, in float64 (exact for whole numbers); counts (B, H, W, C)."""
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    images, height, width, _ = counts.shape
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[:2], strict=True)]
    size = [
        (n + 2 * p - span) // s + 1
        for n, p, span, s in zip((height, width), padding, spans, stride, strict=True)
    ]
    out = np.zeros((images, *size, weight.shape[3]))
    for y, x in np.ndindex(*size):
        for i, j in np.ndindex(weight.shape[:2]):
            row = y * stride[0] + i * dilation[0] - padding[0]
            column = x * stride[1] + j * dilation[1] - padding[1]
            if 0 <= row < height and 0 <= column < width:
                out[:, y, x] += counts[:, row, column].astype(float) @ weight[i, j].astype(float)
    return out


def _check(found, counts, weight, **options) -> None:
    expected = _convolved(counts, weight, **options)
    assert found.shape == expected.shape
    if weight.dtype == np.int8:
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, expected)
    else:
        assert found.dtype == np.float32
        scale = _convolved(np.abs(counts), np.abs(weight), **options) + 1
        assert (np.abs(found - expected) <= 1e-5 * scale).all()


def _weight(rng, shape: tuple[int, ...], kind: type) -> np.ndarray:
    if kind is np.int8:
        return rng.integers(-128, 128, shape).astype(np.int8)
    return rng.standard_normal(shape).astype(np.float32)


CASES = {
    "one pixel": ((1, 1, 1, 1), (1, 1, 1), {}),
    "three by three": ((2, 4, 5, 64), (3, 3, 7), {"padding": 1}),
    "stride": ((1, 7, 5, 3), (3, 3, 33), {"stride": 2, "padding": 1}),
    "uneven": ((2, 6, 5, 65), (3, 1, 65), {"padding": (2, 0), "dilation": (2, 1)}),
    "wide": ((1, 3, 9, 63), (1, 5, 5), {"stride": (1, 3), "padding": (0, 2)}),
    "dilated": ((1, 7, 7, 20), (3, 3, 4), {"dilation": 3}),
    "mostly padding": ((1, 2, 2, 5), (3, 3, 3), {"padding": 4, "stride": 2}),
}


@pytest.mark.parametrize("kind", [np.int8, np.float32], ids=["int8", "float32"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("backend", RUNNABLE)
def test_geometries(backend: str, case: tuple, kind: type) -> None:
    shape, (height, width, outputs), options = case
    rng = np.random.default_rng(0)
    counts = _counts(rng, shape, 0.3)
    weight = _weight(rng, (height, width, shape[3], outputs), kind)
    found = spike_conv2d(pack(counts), weight, backend=backend, **options)
    _check(found, counts, weight, **options)
    expected = spike_conv2d(pack(counts), weight, backend="reference", **options)
    if backend != "cpu":  # whose own choice of algorithm may sum floats in another order
        np.testing.assert_array_equal(found, expected)
    exact = spike_conv2d(pack(counts), weight, algo="gather", backend=backend, **options)
    np.testing.assert_array_equal(exact, expected)


@pytest.mark.parametrize("algo", ["gather", "lut", "dense"])
@pytest.mark.parametrize("channels", [3, 64, 100, 123])
def test_algorithms(channels: int, algo: str) -> None:
    rng = np.random.default_rng(channels)
    for levels, signed in ((1, False), (3, True)):
        counts = _counts(rng, (2, 5, 4, channels), 0.3, levels, signed)
        for kind in (np.int8, np.float32):
            weight = _weight(rng, (3, 3, channels, 70), kind)
            for threads in (1, 2):
                found = spike_conv2d(
                    pack(counts, levels, signed), weight, padding=1, algo=algo, threads=threads
                )
                _check(found, counts, weight, padding=1)


@pytest.mark.parametrize("code", ["thermometer", "bits"])
@pytest.mark.parametrize("backend", RUNNABLE)
def test_counts_and_leading_axes(backend: str, code: str) -> None:
    rng = np.random.default_rng(1)
    for levels, signed in ((1, True), (16, False)):
        counts = _counts(rng, (2, 2, 4, 3, 66), 0.3, levels, signed)
        spikes = pack(counts, levels, signed, code, time_axis=0)
        weight = _weight(rng, (3, 3, 66, 5), np.int8)
        found = spike_conv2d(spikes, weight, padding=1, backend=backend)
        assert found.shape == (2, 2, 4, 3, 5)
        flat = counts.reshape(4, 4, 3, 66)
        _check(found.reshape(4, 4, 3, 5), flat, weight, padding=1)
        one = spike_conv2d(pack(counts[0, 0], levels, signed, code), weight, backend=backend)
        _check(one[None], counts[0, :1], weight)


@pytest.mark.parametrize("bits", [32, 16, 8, 4])
@pytest.mark.parametrize("launch", LAUNCHERS)
def test_metal_in_every_order(launch: Launch, bits: int) -> None:
    rng = np.random.default_rng(bits)
    counts = _counts(rng, (1, 4, 3, 70), 0.3, 2, True)
    view = geometry(counts.shape, (3, 2), (2, 1), (1, 1), 1)
    values = rng.integers(-8, 8, (6 * 70, 150))
    weight = PackedWeight.pack(values, bits)
    found = np.asarray(metal.spike_conv2d(launch, pack(counts, 2, True), weight, view))
    expected = _convolved(counts, values.reshape(3, 2, 70, 150), (2, 1), 1)
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@NO_EMULATOR
def test_metal_reads_only_the_weights_of_spikes() -> None:
    """One spike in the middle of an image meets each of nine taps once."""
    counts = np.zeros((1, 5, 5, 64), np.int8)
    counts[0, 2, 2, 7] = 1
    weight = PackedWeight.pack(np.ones((9 * 64, 32), np.float32), 32)
    view = geometry(counts.shape, (3, 3), 1, 1, 1)
    traces = []

    def launch(kernel: object, **arguments):
        outputs, trace = emulate_traced(kernel, **arguments)
        traces.append(trace)
        return outputs

    found = np.asarray(metal.spike_conv2d(launch, pack(counts), weight, view))
    np.testing.assert_array_equal(found.reshape(5, 5, 32)[1:4, 1:4], 1)
    assert found.sum() == 9 * 32
    read = {buffer.name: buffer.read for buffer in traces[0].buffers}
    assert read["weight"] == 9 * weight.width * 4


@pytest.mark.parametrize("bits", [32, 16, 8, 4])
@pytest.mark.parametrize("backend", RUNNABLE)
def test_packed_weights(backend: str, bits: int) -> None:
    rng = np.random.default_rng(2)
    counts, values = _counts(rng, (2, 4, 4, 40), 0.3), rng.integers(-8, 8, (3, 3, 40, 30))
    weight = PackedWeight.pack(values.reshape(360, 30), bits)
    found = spike_conv2d(pack(counts), weight, padding="same", kernel=(3, 3), backend=backend)
    np.testing.assert_array_equal(found, _convolved(counts, values, padding=1))


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("backend", RUNNABLE)
def test_silent_and_firing(backend: str, value: int) -> None:
    counts = np.full((1, 3, 3, 130), value, np.int8)
    for extreme in (-128, 127):
        weight = np.full((3, 3, 130, 9), extreme, np.int8)
        _check(spike_conv2d(pack(counts), weight, 1, 1, backend=backend), counts, weight, padding=1)


@pytest.mark.parametrize(
    "shape", [(0, 3, 3, 4, 5), (1, 3, 3, 0, 5), (1, 3, 3, 4, 0)], ids=["images", "channels", "out"]
)
@pytest.mark.parametrize("backend", RUNNABLE)
def test_empty(backend: str, shape: tuple[int, ...]) -> None:
    images, height, width, channels, outputs = shape
    counts = np.ones((images, height, width, channels), np.int8)
    for kind in (np.int8, np.float32):
        weight = np.ones((3, 3, channels, outputs), kind)
        found = spike_conv2d(pack(counts), weight, padding=1, backend=backend)
        _check(found, counts, weight, padding=1)


@examples(40)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(*(st.integers(1, 7),) * 2),
    taps=st.tuples(*(st.integers(1, 4),) * 2),
    stride=st.tuples(*(st.integers(1, 3),) * 2),
    padding=st.tuples(*(st.integers(0, 3),) * 2),
    dilation=st.tuples(*(st.integers(1, 3),) * 2),
    channels=st.integers(1, 130),
    outputs=st.integers(1, 70),
    levels=st.sampled_from([1, 3]),
    density=st.sampled_from([0.0, 0.1, 1.0]),
    kind=st.sampled_from([np.int8, np.float32]),
)
def test_any_convolution(
    seed, size, taps, stride, padding, dilation, channels, outputs, levels, density, kind
) -> None:
    rng = np.random.default_rng(seed)
    counts = _counts(rng, (2, *size, channels), density, levels)
    weight = _weight(rng, (*taps, channels, outputs), kind)
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    reach = [
        n + 2 * p - d * (k - 1) for n, p, d, k in zip(size, padding, dilation, taps, strict=True)
    ]
    if min(reach) < 1:
        with pytest.raises(ValueError, match="a kernel that fits the padded input"):
            spike_conv2d(pack(counts, levels), weight, **options)
        return
    for backend in RUNNABLE:
        found = spike_conv2d(pack(counts, levels), weight, backend=backend, **options)
        _check(found, counts, weight, **options)


@pytest.mark.parametrize("channels", [1, 63, 64, 65, 200])
def test_columns_are_the_packed_neighbourhoods(channels: int) -> None:
    """Words, lists and density as if the neighbourhoods had been packed."""
    rng = np.random.default_rng(channels)
    counts = _counts(rng, (2, 5, 4, channels), 0.2, 2, True)
    view = geometry(counts.shape, (3, 2), (1, 2), (2, 1), (1, 2))
    columns = Columns(pack(counts, 2, True), view)
    packed = pack(reference.patches(counts, view), 2, True)
    assert columns.shape == packed.shape
    np.testing.assert_array_equal(columns.words, packed.words)
    for found, expected in zip(columns.events, packed.events, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
    assert columns.density == packed.density
    assert columns.count == packed.count


def test_long_rows_have_32_bit_lists() -> None:
    rng = np.random.default_rng(3)
    counts = _counts(rng, (1, 3, 3, 8000), 0.01)
    weight = rng.integers(-128, 128, (3, 3, 8000, 3)).astype(np.int8)
    found = spike_conv2d(pack(counts), weight, padding=1, algo="gather")
    _check(found, counts, weight, padding=1)


def test_mlx_weights_give_an_mlx_array() -> None:
    rng = np.random.default_rng(4)
    counts, weight = _counts(rng, (1, 3, 3, 5), 0.5), _weight(rng, (3, 3, 5, 4), np.float32)
    found = spike_conv2d(pack(counts), mx.array(weight), padding=1)
    assert isinstance(found, mx.array)
    _check(np.asarray(found), counts, weight, padding=1)


SPIKES = pack(np.zeros((2, 4, 4, 3), np.int8))
WEIGHT = np.ones((3, 3, 3, 2), np.int8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spikes": np.zeros((2, 4, 4, 3))}, r"of shape \(..., H, W, C\), got ndarray"),
        ({"spikes": pack(np.zeros((4, 3), np.int8))}, r"got \(4, 3\); make them with pack"),
        ({"weight": np.ones((3, 3, 3, 2))}, r"shape \(kh, kw, C, O\), got float64"),
        ({"weight": np.ones((27, 2), np.int8)}, r"shape \(kh, kw, C, O\), got int8 \(27, 2\)"),
        ({"weight": np.ones((3, 3, 4, 2), np.int8)}, r"weights \(3 x 3 x 3 channels, O\), got"),
        ({"weight": PackedWeight.pack(np.ones((27, 2)))}, r"expected kernel=\(kh, kw\)"),
        ({"kernel": (3, 3)}, "with a PackedWeight only"),
        ({"stride": 0}, "expected stride 1 or more, one number or two; got 0"),
        ({"padding": -1}, "expected padding 0 or more, one number or two, or 'same'; got -1"),
        ({"padding": "valid"}, "or 'same'; got valid"),
        ({"dilation": (1, 2, 3)}, "expected dilation 1 or more"),
        ({"dilation": 2}, r"a kernel that fits the padded input, got \(3, 3\)"),
        ({"padding": "same", "stride": 2}, "expected stride 1 with padding 'same'"),
        (
            {"padding": "same", "weight": np.ones((2, 2, 3, 2), np.int8)},
            "expected odd kernels with padding 'same'",
        ),
        ({"algo": "fft"}, "expected algo auto, gather, lut, .*; got 'fft'"),
        ({"algo": "pattern"}, "expected algo .*; got 'pattern'"),
        ({"algo": "lut", "backend": "reference"}, "only the CPU has others"),
        ({"threads": 0}, "expected at least 1 thread, got 0"),
        ({"backend": "gpu"}, "expected backend auto, cpu, reference, .*; got 'gpu'"),
        (
            {
                "spikes": pack(np.zeros((1, 1, 1, 140000), np.int8), 127),
                "weight": np.ones((1, 1, 140000, 1), np.int8),
            },
            "expected sums within int32",
        ),
    ],
)
def test_bad_input(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spike_conv2d(**({"spikes": SPIKES, "weight": WEIGHT} | change))


def test_unpacked_spikes_are_the_same_class() -> None:
    """What other kernels ask of packed spikes works on columns too."""
    rng = np.random.default_rng(5)
    counts = _counts(rng, (1, 4, 4, 10), 0.3)
    view = geometry(counts.shape, (3, 3), 1, 1, 1)
    columns = Columns(pack(counts), view)
    assert isinstance(columns, PackedSpikes)
    np.testing.assert_array_equal(columns.transposed.unpack(), columns.unpack().reshape(16, 90).T)
