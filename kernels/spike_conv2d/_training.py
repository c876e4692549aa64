"""Convolution of spikes as an MLX function with a gradient."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import Output
from neurosim.kernels._jit import compiled
from neurosim.kernels._training import differentiable, values
from neurosim.kernels.grad_weight import cpu as learning
from neurosim.kernels.packed import PackedSpikes, pack
from neurosim.kernels.spike_conv2d import cpu
from neurosim.kernels.spike_conv2d._columns import Columns
from neurosim.kernels.spike_conv2d._geometry import Geometry, Pair, geometry, neighbours
from neurosim.kernels.spike_linear import PackedWeight

_NAME = "spike_conv2d"
_ROWS = 512  # of the scratch of an input gradient, about
Data = npt.NDArray[Any] | PackedSpikes


def trainable_conv2d(
    spikes: mx.array | Data,
    weight: mx.array,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
) -> mx.array:
    """`spike_conv2d` for training: the same sums, and gradients for weights and spikes.

        dW = neighbourhoods^T g,    by `grad_weight` on their bits
        ds = g W^T, dense, by numpy's BLAS, added up over the neighbourhoods

    Works in `mx.grad` and `nn.value_and_grad`. mx.compile, mx.vmap, mx.jvp and second derivatives
    are refused.

    Args:
        spikes: whole counts -127..127, a float32 MLX array (..., H, W, C); or data, numpy or
            PackedSpikes, which get no gradient and so save its product.
        weight: float32 MLX array, (kh, kw, C, O).
        stride, padding, dilation: as in `spike_conv2d`.

    Returns:
        float32, (..., H', W', O).
    """
    if not isinstance(weight, mx.array) or weight.dtype != mx.float32 or weight.ndim != 4:
        kind = weight.dtype if isinstance(weight, mx.array) else type(weight).__name__
        raise ValueError(
            f"{_NAME}: expected a float32 MLX weight (kh, kw, C, O), got {kind} "
            f"{tuple(getattr(weight, 'shape', ()))}"
        )
    if len(spikes.shape) < 3 or spikes.shape[-1] != weight.shape[2] or min(weight.shape[:2]) < 1:
        raise ValueError(
            f"{_NAME}: expected spikes (..., H, W, {weight.shape[2]}) for weights (kh, kw, C, O) = "
            f"{tuple(weight.shape)}, got {tuple(spikes.shape)}"
        )
    trained = isinstance(spikes, mx.array)
    if isinstance(spikes, mx.array) and spikes.dtype != mx.float32:
        raise ValueError(f"{_NAME}: expected float32 spikes, got {spikes.dtype}; use astype")
    view = geometry(
        tuple(spikes.shape), (weight.shape[0], weight.shape[1]), stride, padding, dilation
    )
    shape = (*spikes.shape[:-3], *view.output, weight.shape[3])
    kept: list[Columns] = []

    def flat(array: mx.array) -> npt.NDArray[np.float32]:
        found = values(_NAME, array)
        return found.reshape(int(np.prod(found.shape[:-1], dtype=np.int64)), found.shape[-1])

    def forward(weight: mx.array, *given: mx.array) -> tuple[mx.array]:
        pixels = _packed(values(_NAME, given[0]) if given else spikes)
        kept[:] = [Columns(pixels, view)]
        sums = cpu.sums_of(kept[0], PackedWeight.pack(flat(weight)), "auto", 1)
        return (mx.array(sums.reshape(shape)),)

    def backward(primals: Any, cotangents: Any, outputs: Any) -> list[mx.array]:
        learnt = learning.product(kept[0], np.ascontiguousarray(flat(cotangents[0])), "auto", 1)
        found = mx.array(learnt.reshape(primals[0].shape))
        if not trained:
            return [found]
        pulled = Output(primals[1].shape, zeros=True)
        pixels = pulled.view.reshape(view.images * view.size[0] * view.size[1], weight.shape[2])
        _pull(flat(cotangents[0]), flat(primals[0]), view, pixels)
        return [found, pulled.array]

    primals = [weight, spikes] if trained else [weight]
    (out,) = differentiable(_NAME, forward, backward)(*primals)
    return out  # type: ignore[no-any-return]


def _packed(spikes: Any) -> PackedSpikes:
    if isinstance(spikes, PackedSpikes):
        return spikes
    counts = np.asarray(spikes)
    low, high = (float(limit(counts, initial=0)) for limit in (np.min, np.max))
    if not max(-low, high) <= 127:
        raise ValueError(f"{_NAME}: expected counts -127..127, got {low}..{high}")
    return pack(counts, max(1, int(-low), int(high)), low < 0)


def _pull(gradient: Any, weight: Any, view: Geometry, out: npt.NDArray[np.float32]) -> None:
    """Add the gradient of the pixels (images H W, C) to out; weight (kh kw C, O), flat rows.

    Some images at a time, so that the products are large enough for BLAS and stay in the cache.
    """
    places = view.rows // max(view.images, 1)
    some = max(1, _ROWS // max(places, 1))
    size = view.size[0] * view.size[1]
    scratch = np.empty((some * places, weight.shape[0]), np.float32)
    for first in range(0, view.images, some):
        last = min(first + some, view.images)
        part = scratch[: (last - first) * places]
        np.matmul(gradient[first * places : last * places], weight.T, out=part)
        _scatter(part, neighbours(view), out[first * size : last * size])


@compiled
def _scatter(columns: Any, table: Any, out: Any) -> None:
    """out (images pixels, C) += columns (images places, taps C), each to where it came from."""
    places, taps = table.shape
    channels = out.shape[1]
    images = columns.shape[0] // places
    size = out.shape[0] // max(images, 1)
    for image in range(images):
        for place in range(places):
            row = columns[image * places + place]
            for tap in range(taps):
                near = table[place, tap]
                if near >= 0:
                    line, part = out[image * size + near], row[tap * channels :]
                    for c in range(channels):
                        line[c] += part[c]
