"""Packing in Metal: the emulator against the definition, bit for bit.

On a Mac the same bodies run on the GPU too.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels._metal import Launch, gpu_unavailable, on_gpu
from neurosim.kernels.metal_emulator import emulate, unavailable
from neurosim.kernels.packed import metal, pack, reference, unpack

NO_GPU = gpu_unavailable()
LAUNCHERS = pytest.mark.parametrize(
    "launch",
    [
        *(
            pytest.param(
                partial(emulate, order=order),
                id=order,
                marks=pytest.mark.skipif(unavailable() is not None, reason=str(unavailable())),
            )
            for order in ("forward", "reverse", "shuffled")
        ),
        pytest.param(
            on_gpu, id="gpu", marks=pytest.mark.skipif(NO_GPU is not None, reason=str(NO_GPU))
        ),
    ],
)
EMULATED = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
KINDS = pytest.mark.parametrize(
    ("levels", "signed", "code"),
    [(1, False, "thermometer"), (3, True, "thermometer"), (5, False, "bits"), (127, True, "bits")],
    ids=["binary", "signed", "bits", "int8"],
)


def _counts(shape: tuple[int, int], levels: int, signed: bool) -> np.ndarray:
    rng = np.random.default_rng(shape[1])
    x = rng.integers(-levels if signed else 0, levels + 1, shape) * (rng.random(shape) < 0.67)
    return x.astype(np.int8)


def _words(words: Any) -> np.ndarray:
    return np.asarray(words).view(np.uint64)


@LAUNCHERS
@KINDS
@pytest.mark.parametrize("shape", [(1, 1), (3, 63), (2, 64), (5, 65), (2, 123)], ids=str)
def test_packing(
    shape: tuple[int, int], levels: int, signed: bool, code: str, launch: Launch
) -> None:
    x = _counts(shape, levels, signed)
    wanted, _ = reference.pack(x, levels, signed, code)
    for given in (x, x.astype(np.float32)):
        words, valid = metal.pack(launch, given, levels, signed, code)
        assert valid
        np.testing.assert_array_equal(_words(words), wanted)
    for kind in (np.int8, np.float32):
        counts = metal.unpack(launch, wanted, levels, signed, code, shape[1], kind)
        assert np.asarray(counts).dtype == kind
        np.testing.assert_array_equal(np.asarray(counts), x)


@LAUNCHERS
@pytest.mark.parametrize("value", [-1, 2, 0.5, np.nan, np.inf, -np.inf])
def test_wrong_counts_are_seen(value: float, launch: Launch) -> None:
    x = np.ones((2, 70), np.float32)
    assert metal.pack(launch, x, 1, False, "thermometer")[1]
    x[1, 69] = value
    assert not metal.pack(launch, x, 1, False, "thermometer")[1]


@LAUNCHERS
@pytest.mark.parametrize("rows", [1, 31, 64, 70])
@pytest.mark.parametrize("columns", [1, 64, 100])
def test_transpose_and_counts(columns: int, rows: int, launch: Launch) -> None:
    x = np.random.default_rng(rows).integers(0, 3, (rows, columns)).astype(np.int8)
    words = pack(x, 2).words
    found = metal.transpose(launch, words, columns)
    np.testing.assert_array_equal(_words(found), reference.transpose(words, columns))
    flat = words.reshape(2 * rows, -1)
    np.testing.assert_array_equal(metal.count_bits(launch, flat), reference.count_bits(flat))


@EMULATED
@pytest.mark.parametrize("shape", [(0, 70), (3, 0), (2, 3, 65), (4, 1000)], ids=str)
def test_the_backend(shape: tuple[int, ...]) -> None:
    """As any other, from numpy and from MLX arrays of several types."""
    x = np.random.default_rng(0).integers(0, 2, shape).astype(np.int8)
    wanted = pack(x).words
    for given in (x, x > 0, x.astype(np.float64), mx.array(x), mx.array(x).astype(mx.bfloat16)):
        spikes = pack(given, backend="metal-emulated")
        np.testing.assert_array_equal(spikes.words, wanted)
        assert spikes.shape == shape
    np.testing.assert_array_equal(unpack(spikes, "metal-emulated"), x)


@EMULATED
def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"counts 0\.\.1, got 0\.\.2"):
        pack([0, 2], backend="metal-emulated")
    with pytest.raises(ValueError, match="whole spike counts"):
        pack([0.5], backend="metal-emulated")
    if NO_GPU is not None:
        with pytest.raises(ValueError, match="no Metal device here"):
            pack([1], backend="metal")
