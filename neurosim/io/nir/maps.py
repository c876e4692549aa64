"""NIR's linear nodes as sparse matrices: weights, scales, convolutions, pooling, flattening.

A matrix has one row per output and one column per input element, both in C order of their shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

Shape = tuple[int, ...]
Matrix = Any  # scipy.sparse.csr_array, which carries no types
_MOST_SYNAPSES = 200_000_000


def numbers(where: str, key: str, value: Any) -> npt.NDArray[np.float64]:
    """A parameter as finite float64, wherever it comes from (torch tensors too)."""
    array = np.asarray(value, dtype=np.float64)
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)].ravel()[0]
        raise ValueError(f"{where}: expected a finite {key}, got {bad} in it; mend the file")
    return array


def pair(value: Any) -> tuple[int, int]:
    """One number for both axes, or one each."""
    items = np.asarray(value).ravel()
    return int(items[0]), int(items[-1])


def linear(where: str, weight: Any, shape: Shape) -> tuple[Matrix, Shape]:
    """`weight` (..., O, I) on an input (..., I)."""
    array = numbers(where, "weight", weight)
    if array.ndim < 2:
        raise ValueError(f"{where}: expected weights (O, I), got shape {array.shape}")
    leading = array.shape[:-2]
    expect(where, (*leading, array.shape[-1]), shape)
    blocks = array.reshape(-1, *array.shape[-2:])
    matrix = sparse.block_diag([sparse.csr_array(block) for block in blocks], format="csr")
    return matrix, (*leading, array.shape[-2])


def scale(where: str, factors: Any, shape: Shape) -> tuple[Matrix, Shape]:
    """Element by element."""
    spread = broadcast(where, "scale", numbers(where, "scale", factors), shape)
    return sparse.diags_array(spread.ravel(), format="csr"), shape


def broadcast(where: str, key: str, value: npt.NDArray[np.float64], shape: Shape) -> Any:
    """One number, or one for each element of `shape`; trailing axes of length 1 may be left out."""
    if value.size == 1:
        return np.broadcast_to(value.reshape(()), shape)
    if value.shape != shape:
        raise ValueError(f"{where}: expected {key} of shape {shape}, got {value.shape}")
    return value


def unbatched(shape: Shape, axes: int) -> Shape:
    """Without leading axes of length 1 over `axes`: some exporters leave the batch in."""
    while len(shape) > axes and shape[0] == 1:
        shape = shape[1:]
    return shape


def expect(where: str, wanted: Shape, shape: Shape) -> None:
    """The input's shape."""
    if tuple(wanted) != unbatched(tuple(shape), len(wanted)):
        raise ValueError(
            f"{where}: expected an input of shape {tuple(wanted)}, got {tuple(shape)}; "
            "is a Flatten missing?"
        )


def convolution(
    where: str,
    weight: npt.NDArray[np.float64],
    shape: Shape,
    stride: tuple[int, int],
    padding: tuple[int, int] | str,
    dilation: tuple[int, int],
    groups: int,
) -> tuple[Matrix, Shape]:
    """`weight` (O, C / groups, P, Q) on an input (C, H, W), as torch.nn.Conv2d; (O, H', W')."""
    outputs, fan_in, *kernel = weight.shape
    shape = unbatched(shape, 3)
    if len(shape) != 3 or shape[0] != fan_in * groups or outputs % groups:
        raise ValueError(
            f"{where}: expected an input ({fan_in * groups}, H, W) and a multiple of {groups} "
            f"output channels, got {shape} and {outputs}"
        )
    before, after = _padding(where, padding, stride, dilation, kernel)
    taps = [
        _taps(where, shape[1 + axis], kernel[axis], stride[axis], dilation[axis], before[axis],
              after[axis])
        for axis in (0, 1)
    ]  # fmt: skip
    (rows_out, rows_in, rows_tap, height), (cols_out, cols_in, cols_tap, width) = taps
    entries = len(rows_out) * len(cols_out) * outputs * fan_in
    if entries > _MOST_SYNAPSES:
        raise ValueError(
            f"{where}: unrolls to {entries} synapses, more than the {_MOST_SYNAPSES} carried; "
            "cut the input down"
        )
    channel = np.arange(outputs)[:, None, None, None]
    group_of = channel // (outputs // groups)
    inner = np.arange(fan_in)[None, :, None, None]
    row, column = np.arange(len(rows_out))[:, None], np.arange(len(cols_out))[None, :]
    grid = (outputs, fan_in, len(rows_out), len(cols_out))
    to = (channel * height + rows_out[row]) * width + cols_out[column]
    come = ((group_of * fan_in + inner) * shape[1] + rows_in[row]) * shape[2] + cols_in[column]
    value = weight[channel, inner, rows_tap[row], cols_tap[column]]
    ends = [np.broadcast_to(item, grid).ravel() for item in (to, come)]
    size = (outputs * height * width, math.prod(shape))
    matrix = sparse.coo_array((np.broadcast_to(value, grid).ravel(), tuple(ends)), shape=size)
    return matrix.tocsr(), (outputs, height, width)


def _padding(
    where: str,
    padding: tuple[int, int] | str,
    stride: Sequence[int],
    dilation: Sequence[int],
    kernel: Sequence[int],
) -> tuple[Sequence[int], Sequence[int]]:
    """Zeros before and after each axis; "same" puts the odd one after, as torch does."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        if tuple(stride) != (1, 1):
            raise ValueError(f'{where}: expected stride 1 with padding "same", got {stride}')
        whole = [dilation[axis] * (kernel[axis] - 1) for axis in (0, 1)]
        return [zeros // 2 for zeros in whole], [zeros - zeros // 2 for zeros in whole]
    if isinstance(padding, str):
        raise ValueError(f'{where}: expected padding "same", "valid" or numbers, got {padding!r}')
    return padding, padding


def _taps(
    where: str, size: int, kernel: int, stride: int, dilation: int, before: int, after: int
) -> tuple[Any, Any, Any, int]:
    """Of one axis: output position, input position and kernel tap of every pair that meets."""
    if min(kernel, stride, dilation) < 1 or min(before, after) < 0:
        raise ValueError(
            f"{where}: expected kernel, stride and dilation >= 1 and padding >= 0, got {kernel}, "
            f"{stride}, {dilation} and {before}"
        )
    count = (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
    if count < 1:
        raise ValueError(f"{where}: a kernel of {kernel} does not fit into an input of {size}")
    out, tap = (item.ravel() for item in np.meshgrid(np.arange(count), np.arange(kernel)))
    come = out * stride + tap * dilation - before
    inside = (come >= 0) & (come < size)
    return out[inside], come[inside], tap[inside], count


def pooling(where: str, node: Any, shape: Shape, mean: bool) -> tuple[Matrix, Shape]:
    """Sum or mean of a window, zeros of the padding included; (C, H, W)."""
    kernel = pair(node.kernel_size)
    value = 1.0 / (kernel[0] * kernel[1]) if mean else 1.0
    shape = unbatched(shape, 3)
    if len(shape) != 3:
        raise ValueError(f"{where}: expected an input (C, H, W), got {shape}")
    weight = np.full((shape[0], 1, *kernel), value)
    stride, padding = pair(node.stride), pair(node.padding)
    return convolution(where, weight, shape, stride, padding, (1, 1), shape[0])


def flattened(where: str, shape: Shape, start: int, end: int) -> Shape:
    """The shape with axes start..end made one."""
    last = end if end >= 0 else len(shape) + end
    first = start if start >= 0 else len(shape) + start
    if not 0 <= first <= last < len(shape):
        raise ValueError(f"{where}: cannot flatten axes {start}..{end} of a shape {shape}")
    return (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])
