"""Buffers of MLX arrays as Metal would see them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from numpy.lib.array_utils import byte_bounds

from neurosim.kernels.metal_emulator._errors import MetalError
from neurosim.kernels.metal_emulator._launch import Bound

Array = mx.array | npt.NDArray[Any]
_NUMPY = {
    mx.bool_: np.bool_, mx.uint8: np.uint8, mx.uint16: np.uint16, mx.uint32: np.uint32,
    mx.uint64: np.uint64, mx.int8: np.int8, mx.int16: np.int16, mx.int32: np.int32,
    mx.int64: np.int64, mx.float16: np.float16, mx.float32: np.float32, mx.bfloat16: np.uint16,
}  # fmt: skip
_FLOATS = (mx.float16, mx.float32, mx.bfloat16)
_NAN_BYTE, _POISON_BYTE = 0xFF, 0xA5


def bind_input(
    array: mx.array, flags: tuple[bool, bool, bool], row_contiguous: bool, names: Iterator[str]
) -> list[Bound]:
    """The buffer of an input, then those of its shape, strides and ndim where they are passed."""
    _numpy_dtype(array.dtype)
    view = np.asarray(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)
    if row_contiguous:
        view = np.ascontiguousarray(view).reshape(view.shape)
    data, origin = _memory(view)
    bound = [Bound(next(names), data, view.itemsize, origin)]
    if view.ndim == 0:
        return bound
    strides = [stride // view.itemsize for stride in view.strides]
    facts = ((view.shape, np.int32), (strides, np.int64), ([view.ndim], np.int32))
    for passed, (values, dtype) in zip(flags, facts, strict=True):
        if passed:
            fact = np.array(values, dtype)
            bound.append(Bound(next(names), fact.view(np.uint8), fact.itemsize))
    return bound


def new_output(name: str, shape: Sequence[int], dtype: mx.Dtype, init_value: float | None) -> Bound:
    """A poisoned or filled buffer."""
    numpy_dtype = _numpy_dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64))
    if init_value is None:
        byte = _NAN_BYTE if dtype in _FLOATS else _POISON_BYTE
        data = np.full(size * numpy_dtype.itemsize, byte, np.uint8)
    else:
        filled = mx.full((size,), init_value).astype(dtype)
        bits = filled.view(mx.uint16) if dtype == mx.bfloat16 else filled
        data = np.array(bits).view(np.uint8)
    return Bound(name, data, numpy_dtype.itemsize, writable=True)


def result(output: Bound, shape: Sequence[int], dtype: mx.Dtype) -> npt.NDArray[np.generic]:
    """The values of an output buffer."""
    if dtype == mx.bool_:  # poison is no bool
        return np.reshape(output.data != 0, shape)
    values: npt.NDArray[Any] = output.data.view(_numpy_dtype(dtype))
    if dtype == mx.bfloat16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(shape)


def _memory(view: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], int]:
    """A copy of the bytes from the first to the last element, and the offset of element 0."""
    if view.size == 0:
        return np.empty(0, np.uint8), 0
    low, high = byte_bounds(view)
    start = view.__array_interface__["data"][0]
    return np.frombuffer(ctypes.string_at(low, high - low), np.uint8), start - low


def _numpy_dtype(dtype: mx.Dtype) -> np.dtype[Any]:
    if dtype not in _NUMPY:
        raise MetalError(
            f"expected bool, integers of 8 to 64 bits, float16, bfloat16 or float32; got {dtype}"
        )
    return np.dtype(_NUMPY[dtype])
