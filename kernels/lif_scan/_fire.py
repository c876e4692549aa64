"""What the forward and the backward pass share: parameters, reads and writes, integer spikes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import inlined
from neurosim.kernels.lif_scan import _vectors as v64

Floats = npt.NDArray[np.float32]

_zero, _load, _store, _splat = v64.zero, v64.load, v64.store, v64.splat
_add, _subtract, _over, _size = v64.add, v64.subtract, v64.over, v64.size
_above, _below, _select = v64.above, v64.below, v64.select
_floor, _nearest = v64.floor, v64.nearest
_load_part, _store_part = v64.load_part, v64.store_part


def padded(array: Floats, fill: float = 0) -> Floats:
    """(..., N) filled up to a multiple of 64; itself where it is one."""
    columns = array.shape[-1]
    missing = -columns % v64.LANES
    if not missing:
        return np.ascontiguousarray(array)
    longer = np.full((*array.shape[:-1], columns + missing), fill, np.float32)
    longer[..., :columns] = array
    return longer


def flat(array: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
    """One axis; None stays None."""
    return None if array is None else array.reshape(-1)


@inlined
def fired(u: Any, edge: Any, levels: int, signed: bool, even: bool, unit: bool) -> Any:
    """Integer spikes as floats; `unit` says that all thresholds are 1."""
    n = u if unit else _over(u, edge)
    size = _size(n) if signed else n
    size = _nearest(size) if even else _floor(_add(size, _splat(np.float32(0.5))))
    size = _select(_above(size, _zero()), size, _zero())
    top = _splat(np.float32(levels))
    size = _select(_above(size, top), top, size)
    return _select(_below(n, _zero()), _subtract(_zero(), size), size) if signed else size


@inlined
def read(array: Any, at: Any, mask: Any, partial: bool) -> Any:
    return _load_part(array, at, mask) if partial else _load(array, at)


@inlined
def write(array: Any, at: Any, value: Any, mask: Any, partial: bool) -> None:
    if partial:
        _store_part(array, at, value, mask)
    else:
        _store(array, at, value)
