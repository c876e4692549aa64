"""Packed spikes: every backend against the definition, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from properties import examples

from neurosim.kernels.packed import PackedSpikes, cpu, pack, reference, unpack

SIZES = (1, 63, 64, 65, 123, 1000)
KINDS = pytest.mark.parametrize(
    ("levels", "signed", "code"),
    [
        (1, False, "thermometer"),
        (1, True, "bits"),
        (4, False, "thermometer"),
        (16, False, "bits"),
        (16, True, "thermometer"),
        (127, True, "bits"),
    ],
    ids=["binary", "ternary", "integer", "bits", "signed", "int8"],
)


def _counts(shape: tuple[int, ...], levels: int, signed: bool, seed: int = 0) -> np.ndarray:
    """A third of the neurons silent, the rest anywhere in the range, both ends included."""
    rng = np.random.default_rng(seed)
    low = -levels if signed else 0
    counts = rng.integers(low, levels + 1, shape) * (rng.random(shape) < 0.67)
    if counts.size:
        counts.flat[0], counts.flat[-1] = low, levels
    return counts.astype(np.int8)


def _check(x: np.ndarray, levels: int, signed: bool, code: str) -> None:
    """Both backends, and every derived form, against x itself."""
    spikes = pack(x, levels, signed, code)
    planes, size = len(spikes.plane_weights), x.shape[-1]
    np.testing.assert_array_equal(spikes.words, pack(x, levels, signed, code, "reference").words)
    assert spikes.words.ctypes.data % 64 == 0 or not spikes.words.size
    for backend in ("cpu", "reference"):
        np.testing.assert_array_equal(unpack(spikes, backend), x)
    np.testing.assert_array_equal(spikes.unpack(np.int64), x)

    rows = int(np.prod(x.shape[:-1], dtype=np.int64))
    x = x.reshape(rows, size)
    flat = np.abs(x.astype(np.int64))
    np.testing.assert_array_equal(spikes.row_counts, flat.sum(1))
    np.testing.assert_array_equal(spikes.channel_counts, flat.sum(0))
    assert spikes.count == flat.sum()
    assert spikes.density == (np.count_nonzero(x) / x.size if x.size else 0)
    assert spikes.rate == pytest.approx(flat.sum() / x.size if x.size else 0, rel=1e-15)

    np.testing.assert_array_equal(spikes.transposed.unpack(), x.T)
    np.testing.assert_array_equal(spikes.transposed.words, reference.transpose(spikes.words, size))

    pointer, index = spikes.events
    assert index.dtype == np.uint16
    rebuilt = np.zeros((planes, rows, size), np.int64)
    for i in range(planes * rows):
        found = index[pointer[i] : pointer[i + 1]]
        assert (np.diff(found.astype(np.int64)) > 0).all()
        rebuilt.reshape(planes * rows, size)[i, found] = 1
    total = np.tensordot(np.array(spikes.plane_weights), rebuilt, 1)
    np.testing.assert_array_equal(total, x)
    lists = reference.events(spikes.words.reshape(planes * rows, -(-size // 64)), size)
    np.testing.assert_array_equal(lists[0], pointer)
    np.testing.assert_array_equal(lists[1], index)


@KINDS
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rows", [1, 64, 65])
def test_awkward_sizes(rows: int, size: int, levels: int, signed: bool, code: str) -> None:
    _check(_counts((rows, size), levels, signed, rows + size), levels, signed, code)


@KINDS
@pytest.mark.parametrize("shape", [(0, 70), (3, 0), (0, 0), (2, 0, 5)], ids=str)
def test_empty(shape: tuple[int, ...], levels: int, signed: bool, code: str) -> None:
    _check(np.zeros(shape, np.int8), levels, signed, code)


@KINDS
def test_silent_and_saturated(levels: int, signed: bool, code: str) -> None:
    for value in {0, levels, -levels if signed else levels}:
        _check(np.full((3, 123), value, np.int8), levels, signed, code)


@examples(300)
@given(data=st.data(), levels=st.integers(1, 127), signed=st.booleans())
def test_any_counts(data: st.DataObject, levels: int, signed: bool) -> None:
    code = data.draw(st.sampled_from(["thermometer", "bits"]))
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=20))
    shape = (*shape[:-1], 7 * shape[-1])
    elements = st.integers(-levels if signed else 0, levels)
    _check(data.draw(arrays.arrays(np.int8, shape, elements=elements)), levels, signed, code)


def test_layout_is_the_documented_one() -> None:
    """Bit i of word w is channel 64 w + i; plane d is n > d; negative planes come last."""
    x = np.zeros((1, 70), np.int8)
    x[0, 3], x[0, 64], x[0, 69] = 2, 1, -2
    for backend in ("cpu", "reference"):
        words = pack(x, 2, True, backend=backend).words[:, 0]
        assert words.tolist() == [[8, 1], [8, 0], [0, 32], [0, 32]]
        words = pack(x, 2, True, "bits", backend).words[:, 0]
        assert words.tolist() == [[0, 1], [8, 0], [0, 0], [0, 32]]
    assert pack(x, 3, True, "bits").plane_weights == (1, 2, -1, -2)


def test_every_type_and_strides() -> None:
    x = _counts((6, 130), 4, False)[::2, ::-1]
    wanted = pack(x.copy(), 4).words
    for kind in (np.uint8, np.int32, np.uint64, np.float16, np.float32, np.float64):
        np.testing.assert_array_equal(pack(x.astype(kind), 4).words, wanted)
    np.testing.assert_array_equal(pack(x, 4).words, wanted)
    np.testing.assert_array_equal(pack(x.T, 4).unpack(), x.T)
    np.testing.assert_array_equal(pack(x > 0).unpack(bool), x > 0)


def test_many_channels_need_a_wider_index() -> None:
    """Channel 65,536 does not fit uint16."""
    x = np.zeros((1, 65537), np.int8)
    x[0, [0, 65535, 65536]] = 1
    for size, kind in ((65536, np.uint16), (65537, np.int32)):
        spikes = pack(x[:, :size])
        assert spikes.events.channels.dtype == kind
        assert spikes.events.channels.tolist() == [0, 65535, 65536][: spikes.count]
        full = pack(np.ones((2, size)))  # enough bits a word for the lists by byte, of uint16 only
        np.testing.assert_array_equal(full.events.channels, np.tile(np.arange(size), 2))


def test_derived_forms_are_kept_and_words_frozen() -> None:
    spikes = pack(_counts((4, 70), 1, False))
    assert spikes.events is spikes.events
    assert spikes.transposed is spikes.transposed
    with pytest.raises(ValueError, match="read-only"):
        spikes.words[0, 0, 0] = 1
    assert repr(spikes) == "PackedSpikes(4, 70) 0..1, thermometer, 1 planes"


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        ([0, 2], {}, r"counts 0\.\.1, got 0\.\.2"),
        ([0, -1], {"levels": 3}, r"counts 0\.\.3, got -1\.\.0"),
        ([256], {}, r"got 256\.\.256"),
        ([0.5], {}, "whole spike counts"),
        ([np.nan], {}, "got nan"),
        (1, {}, r"shape \(\.\.\., D\)"),
        (["a"], {}, "expected spike counts"),
        ([1], {"levels": 128}, "1 to 127 levels"),
        ([1], {"levels": 0}, "1 to 127 levels"),
        ([1], {"code": "gray"}, "thermometer or bits, got 'gray'"),
        ([1], {"backend": "gpu"}, "got 'gpu'"),
    ],
)
def test_pack_refuses(x: object, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(x, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "shape", "kind", "message"),
    [
        ([[[2]]], (1, 1), (1, False, "thermometer"), "beyond channel 1"),
        ([[[1]]], (1, 65), (1, False, "thermometer"), r"shape \(1, 1, 2\)"),
        ([[[1]]], (), (1, False, "thermometer"), "scalar"),
        ([[[0]], [[1]]], (1, 3), (2, False, "thermometer"), "inside the one before"),
        ([[[1]], [[1]]], (1, 3), (1, True, "thermometer"), "got both"),
        ([[[1]], [[1]]], (1, 3), (2, False, "bits"), "up to 2, got 3"),
    ],
)
def test_impossible_words_are_refused(
    words: list[object], shape: tuple[int, ...], kind: tuple[int, bool, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PackedSpikes(np.array(words, np.uint64), shape, *kind)
    with pytest.raises(ValueError, match="got int64"):
        PackedSpikes(np.array([[[1]]]), (1, 3))


def test_counting_bits_of_full_words() -> None:
    words = np.full((3, 2), np.uint64(2**64 - 1))
    for module in (cpu, reference):
        assert module.count_bits(words).tolist() == [128] * 3
