"""The gradient of weights on a GPU: words transposed by ballots, then `spike_linear` of them.

Tested in the emulator; never yet run on a GPU.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._metal import Launch
from neurosim.kernels.packed._words import Words
from neurosim.kernels.spike_linear import metal as linear
from neurosim.kernels.spike_linear._metal_source import HEADER

_TRANSPOSE = """
    // words (P, R, W) -> out (P, I, V): a SIMD-group turns 32 rows of one word.
    int lane = thread_index_in_simdgroup, block = thread_position_in_grid.x / 32;
    int w = thread_position_in_grid.y, p = thread_position_in_grid.z;
    int rows = words_shape[1], width = words_shape[2], inputs = sizes[0], blocks = sizes[1];
    int row = 32 * block + lane;
    uint word = row < rows ? words[(p * rows + row) * width + w] : 0;
    uint mine = 0;
    for (int bit = 0; bit < 32; ++bit) {
        uint column = votes(word >> bit & 1);
        mine = lane == bit ? column : mine;
    }
    int input = 32 * w + lane;
    if (input < inputs) out[(p * inputs + input) * blocks + block] = mine;
"""

_transpose = mx.fast.metal_kernel(
    name="spike_transpose",
    input_names=["words", "sizes"],
    output_names=["out"],
    header=HEADER,
    source=_TRANSPOSE,
)


def supports(*arguments: Any) -> str | None:
    """Why these arguments cannot run, or None."""
    return linear.supports(*arguments)


def grad_weight(
    launch: Launch,
    words: Words,
    levels: int,
    signed: bool,
    code: str,
    inputs: int,
    gradient: npt.NDArray[np.float32],
) -> Any:
    """See reference.py; rows are added in ascending order."""
    planes, rows, _ = words.shape
    if not (words.size and gradient.size):
        return np.zeros((inputs, gradient.shape[1]), np.float32)
    halves = words.view(np.uint32)  # (P, R, 2 W), low half first
    blocks = 2 * -(-rows // 64)
    (transposed,) = launch(
        _transpose,
        inputs=[halves, np.array([inputs, blocks], np.int32)],
        output_shapes=[(planes, inputs, blocks)],
        output_dtypes=[mx.uint32],
        grid=(32 * blocks, -(-inputs // 32), planes),
        threadgroup=(32, 1, 1),
    )
    return linear.sums_of(launch, transposed, levels, signed, code, gradient)
