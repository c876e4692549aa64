"""Where a convolution looks."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """A two-dimensional convolution over pixels; pairs are (vertical, horizontal).

    Attributes:
        images: B, the product of the axes before height.
        size: H, W of the input.
        kernel: taps.
        stride, dilation: pixels between outputs, and between taps.
        padding: silent pixels around the input.
    """

    images: int
    size: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    @property
    def output(self) -> Pair:
        """H and W of the output."""
        height, width = (
            (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
            for size, taps, stride, padding, dilation in zip(
                self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return height, width

    @property
    def rows(self) -> int:
        """Pixels of the output, of all images."""
        return self.images * math.prod(self.output)

    @property
    def taps(self) -> int:
        """Taps of the kernel."""
        return math.prod(self.kernel)


@functools.lru_cache(maxsize=64)
def neighbours(geometry: Geometry) -> npt.NDArray[np.int32]:
    """Input pixel under each tap of each output pixel of one image, -1 outside, (H' W', taps)."""
    lines = []
    for axis in range(2):
        start = np.arange(geometry.output[axis]) * geometry.stride[axis] - geometry.padding[axis]
        at = start[:, None] + np.arange(geometry.kernel[axis]) * geometry.dilation[axis]
        lines.append(np.where((at >= 0) & (at < geometry.size[axis]), at, -1))
    y, x = lines[0][:, None, :, None], lines[1][None, :, None, :]  # (H', W', kh, kw)
    pixel = np.where((y >= 0) & (x >= 0), y * geometry.size[1] + x, -1)
    table = np.ascontiguousarray(pixel.reshape(-1, geometry.taps), np.int32)
    table.flags.writeable = False
    return table


def geometry(
    shape: tuple[int, ...], kernel: Pair, stride: Any, padding: Any, dilation: Any
) -> Geometry:
    """The geometry of an input (..., H, W, C), or a ValueError."""
    if padding == "same":
        if pair(stride, "stride", 1) != (1, 1):
            raise ValueError(f"expected stride 1 with padding 'same', got {stride}; give numbers")
        spans = [d * (k - 1) for d, k in zip(pair(dilation, "dilation", 1), kernel, strict=True)]
        if any(span % 2 for span in spans):
            raise ValueError(
                f"expected odd kernels with padding 'same', got {kernel}; give numbers"
            )
        padding = tuple(span // 2 for span in spans)
    found = Geometry(
        math.prod(shape[:-3]), (shape[-3], shape[-2]), kernel, pair(stride, "stride", 1),
        pair(padding, "padding", 0), pair(dilation, "dilation", 1),
    )  # fmt: skip
    if min(found.output) < 1:
        raise ValueError(
            f"expected a kernel that fits the padded input, got {kernel} (dilation "
            f"{found.dilation}) on {found.size} with padding {found.padding}"
        )
    return found


def pair(value: Any, name: str, least: int) -> Pair:
    """One whole number for both axes, or two, or a ValueError."""
    both = value if isinstance(value, (tuple, list)) else (value, value)
    if len(both) != 2 or not all(isinstance(n, (int, np.integer)) and n >= least for n in both):
        also = ", or 'same'" if name == "padding" else ""
        raise ValueError(f"expected {name} {least} or more, one number or two{also}; got {value}")
    return int(both[0]), int(both[1])
