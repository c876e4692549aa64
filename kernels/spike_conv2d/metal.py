"""Convolution of spikes on a GPU: word skipping over the pixels under the kernel.

Lanes look at 32 words of an output pixel's neighbourhood at once, wherever these lie in the image,
so no im2col is written; the rest is `spike_linear`'s, sums in the same order.

Tested in the emulator; never yet run on a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosim.kernels._metal import Launch
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.spike_conv2d._geometry import Geometry
from neurosim.kernels.spike_linear import metal as linear
from neurosim.kernels.spike_linear._metal_source import HEADER, STORE, row_sums
from neurosim.kernels.spike_linear._weight import PackedWeight

_MOST_COLUMNS = 4  # of a lane

_PLACE = """
    // Words (P, pixels, W). place: H, W, H', W', kh, kw, stride, padding, dilation (y, x), channels
    int row = thread_position_in_grid.y, pixels = words_shape[1], width = words_shape[2];
    int total = place[4] * place[5] * width;
    int left = row % place[3] * place[7] - place[9];
    int above = row / place[3] % place[2] * place[6] - place[8];
    int image = row / (place[3] * place[2]) * place[0];  // its first line of pixels
"""
_HEADER = (
    HEADER
    + """
// Where word `mine` of a neighbourhood lies, or -1 outside the image.
template <typename P>
METAL_FUNC int word_at(int mine, int total, int width, int above, int left, int image, P place) {
    int tap = mine / width;
    int y = above + tap / place[5] * place[10], x = left + tap % place[5] * place[11];
    bool inside = mine < total && y >= 0 && y < place[0] && x >= 0 && x < place[1];
    return inside ? ((image + y) * place[1] + x) * width + mine % width : -1;
}
"""
)
_FIND = "int near = word_at(mine, total, width, above, left, image, place);"
_WORD = """near < 0 ? 0 : members<PLANES, THERMOMETER>(
                    words + side * PLANES * pixels * width + near, pixels * width, level)"""
_INPUT = "m / width * place[12] + m % width * 32"

_conv = linear.kernel(
    "spike_conv2d",
    ["words", "place"],
    ["out"],
    _PLACE + row_sums(_WORD, _INPUT, _FIND) + STORE,
    header=_HEADER,
)


def supports(spikes: PackedSpikes, weight: PackedWeight, geometry: Geometry) -> str | None:
    """Why these arguments cannot run, or None."""
    return linear.too_large(
        linear.half_words(spikes), weight.panels.shape, (geometry.rows, weight.shape[1])
    )


def spike_conv2d(
    launch: Launch, spikes: PackedSpikes, weight: PackedWeight, geometry: Geometry
) -> Any:
    """Sums (rows, O)."""
    rows = linear.Rows.of(weight)
    if not (spikes.words.size and rows.array.size and geometry.rows):
        return rows.nothing(geometry.rows)
    halves = spikes.words.view(np.uint32)  # (P, pixels, 2 W), low half first
    pairs = (geometry.size, geometry.output, geometry.kernel, geometry.stride, geometry.padding)
    place = np.array([*np.ravel((*pairs, geometry.dilation)), spikes.size], np.int32)
    template = linear.planes_of(len(spikes), spikes.levels, spikes.signed, spikes.code)
    out = ((geometry.rows, rows.outputs), rows.kind)
    columns = rows.columns(_MOST_COLUMNS)
    return rows.launch(launch, _conv, [halves, place], [out], geometry.rows, columns, template)[0]
