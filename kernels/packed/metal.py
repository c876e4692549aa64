"""Packing on a GPU: a ballot of a SIMD-group is 32 bits of a word.

Words are uint32 here, twice as many as of uint64 (both are little-endian). Lists of events stay on
the CPU: they would need a prefix sum over all rows, and the GPU's kernels read the words.

Tested in the emulator; never yet run on a GPU.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.kernels._metal import Launch
from neurosim.kernels.packed._words import Words, plane_weights

_LANES = 32
_DTYPES = {np.int8: mx.int8, np.float32: mx.float32}

_VOTES = """
inline uint votes(bool mine) { return (uint)(uint64_t)(simd_vote::vote_t)simd_ballot(mine); }
"""

_pack = mx.fast.metal_kernel(
    name="pack",
    input_names=["x"],
    output_names=["words", "wrong"],
    header=_VOTES,
    source="""
        uint c = thread_position_in_grid.x, r = thread_position_in_grid.y;
        uint rows = x_shape[0], columns = x_shape[1];      // x (rows, columns)
        uint width = 2 * ((columns + 63) / 64);            // words (PLANES, rows, width)
        uint at = r * width + c / 32, lane = thread_index_in_simdgroup;
        float n = c < columns ? float(x[r * columns + c]) : 0.0f;
        bool right = n >= float(LOW) && n <= float(HIGH) && trunc(n) == n;  // no for nan
        uint bad = votes(!right);
        if (lane == 0) wrong[at] = bad;
        int count = right ? int(n) : 0;
        for (int p = 0; p < PLANES; ++p) {
            int size = p < HALF ? count : -count, level = p % HALF;
            uint word = votes(BITS ? size > 0 && (size >> level & 1) : size > level);
            if (lane == 0) words[p * rows * width + at] = word;
        }
    """,
)

_unpack = mx.fast.metal_kernel(
    name="unpack",
    input_names=["words", "sizes"],
    output_names=["counts"],
    source="""
        uint c = thread_position_in_grid.x, r = thread_position_in_grid.y;
        uint rows = words_shape[1], width = words_shape[2], columns = sizes[0];
        int count = 0;
        for (int p = 0; p < PLANES; ++p) {
            int bit = words[(p * rows + r) * width + c / 32] >> (c % 32) & 1;
            int weight = BITS ? 1 << (p % HALF) : 1;
            count += p < HALF ? bit * weight : -bit * weight;
        }
        counts[r * columns + c] = count;                   // counts (rows, columns)
    """,
)

_count_bits = mx.fast.metal_kernel(
    name="count_bits",
    input_names=["words"],
    output_names=["counts"],
    source="""
        uint lane = thread_position_in_grid.x, r = thread_position_in_grid.y;
        uint width = words_shape[1];                       // words (rows, width)
        int count = 0;
        for (uint w = lane; w < width; w += 32) count += popcount(words[r * width + w]);
        count = simd_sum(count);
        if (lane == 0) counts[r] = count;
    """,
)

_transpose = mx.fast.metal_kernel(
    name="transpose_bits",
    input_names=["words", "sizes"],
    output_names=["turned"],
    header=_VOTES,
    source="""
        uint lane = thread_index_in_simdgroup;             // 32 rows by 32 columns
        uint block = threadgroup_position_in_grid.x, w = threadgroup_position_in_grid.y;
        uint p = threadgroup_position_in_grid.z;
        uint rows = words_shape[1], width = words_shape[2], columns = sizes[0];
        uint blocks = 2 * ((rows + 63) / 64);              // turned (P, columns, blocks)
        uint r = 32 * block + lane, c = 32 * w + lane;
        uint mine = r < rows ? words[(p * rows + r) * width + w] : 0;
        uint column = 0;
        for (uint b = 0; b < 32; ++b) {
            uint word = votes(mine >> b & 1);
            if (lane == b) column = word;
        }
        if (c < columns) turned[(p * columns + c) * blocks + block] = column;
    """,
)


def pack(launch: Launch, x: Any, levels: int, signed: bool, code: str) -> tuple[Any, bool]:
    """See reference.py."""
    words, wrong = unchecked(launch, x, levels, signed, code)
    return words, not np.asarray(wrong).any()


def unchecked(launch: Launch, x: Any, levels: int, signed: bool, code: str) -> tuple[Any, Any]:
    """Words, and where counts are wrong (taken as 0); lazy for lazy x."""
    rows, columns = x.shape
    planes = len(plane_weights(levels, signed, code))
    width = 2 * -(-columns // 64)
    if not rows * columns:
        return np.zeros((planes, rows, width), np.uint32), np.zeros(0, np.uint32)
    words, wrong = launch(
        _pack,
        inputs=[x],
        template=[
            ("PLANES", planes),
            ("HALF", planes // (1 + signed)),
            ("LOW", -levels if signed else 0),
            ("HIGH", levels),
            ("BITS", code == "bits"),
        ],
        output_shapes=[(planes, rows, width), (rows, width)],
        output_dtypes=[mx.uint32, mx.uint32],
        grid=(_LANES * width, rows, 1),
        threadgroup=(2 * _LANES, 1, 1),
    )
    return words, wrong


def unpack(
    launch: Launch, words: Words, levels: int, signed: bool, code: str, columns: int, kind: Any
) -> Any:
    """See reference.py."""
    planes, rows, _ = words.shape
    if not rows * columns:
        return np.zeros((rows, columns), kind)
    (counts,) = launch(
        _unpack,
        inputs=[words.view(np.uint32), np.array([columns], np.uint32)],
        template=[
            ("PLANES", planes),
            ("HALF", planes // (1 + signed)),
            ("BITS", code == "bits"),
        ],
        output_shapes=[(rows, columns)],
        output_dtypes=[_DTYPES[kind]],
        grid=(columns, rows, 1),
        threadgroup=(2 * _LANES, 1, 1),
    )
    return counts


def count_bits(launch: Launch, words: Words) -> Any:
    """See reference.py; int32."""
    if not words.size:
        return np.zeros(words.shape[0], np.int32)
    (counts,) = launch(
        _count_bits,
        inputs=[words.view(np.uint32)],
        output_shapes=[(words.shape[0],)],
        output_dtypes=[mx.int32],
        grid=(_LANES, words.shape[0], 1),
        threadgroup=(_LANES, 1, 1),
    )
    return counts


def transpose(launch: Launch, words: Words | mx.array, columns: int) -> Any:
    """See reference.py; also of the words that `pack` gives, uint32."""
    planes, rows, _ = words.shape
    blocks = 2 * -(-rows // 64)
    if not words.size:
        return np.zeros((planes, columns, blocks), np.uint32)
    (turned,) = launch(
        _transpose,
        inputs=[_halves(words), np.array([columns], np.uint32)],
        output_shapes=[(planes, columns, blocks)],
        output_dtypes=[mx.uint32],
        grid=(_LANES * blocks, -(-columns // 32), planes),
        threadgroup=(_LANES, 1, 1),
    )
    return turned


def _halves(words: Any) -> Any:
    return words if isinstance(words, mx.array) else words.view(np.uint32)
