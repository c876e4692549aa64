"""Column sums of spike-driven self-attention on a GPU: 32 channels of a word, 32 lanes.

A lane loads the word of one token, 32 tokens side by side; each word then goes round by broadcast
and every lane counts its own bit. Eight SIMD-groups take a slice of the tokens each and add up what
came before through threadgroup memory, so that causal sums cost one pass more, not one group. Which
channels reach the edge is one ballot.

Tested in the emulator; never yet run on a GPU.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._metal import Launch
from neurosim.kernels.packed._words import Words, new_words
from neurosim.kernels.spike_attention.metal import linear, supports

__all__ = ["column_sums", "gated", "linear", "supports"]

Sums = npt.NDArray[np.int32]

_SLICES = 8

_HEADER = """
inline uint votes(bool mine) { return (uint)(uint64_t)(simd_vote::vote_t)simd_ballot(mine); }
"""

# Words (groups, tokens, blocks) of 32 channels.
_SOURCE = """
    threadgroup int counted[SLICES * 32];
    uint lane = thread_index_in_simdgroup, slice = simdgroup_index_in_threadgroup;
    uint block = threadgroup_position_in_grid.y, group = threadgroup_position_in_grid.z;
    uint tokens = sizes[0], blocks = sizes[1];
    bool causal = sizes[2];
    int edge = sizes[3];
    uint size = 32 * ((tokens + 32 * SLICES - 1) / (32 * SLICES));
    uint begin = slice * size, end = min(begin + size, tokens);
    uint base = group * tokens * blocks + block;
    int count = 0;
    for (uint first = begin; first < end; first += 32) {
        uint t = first + lane, both = 0;
        if (t < end) both = k[base + t * blocks] & v[base + t * blocks];
        for (ushort j = 0; j < 32; ++j) count += simd_broadcast(both, j) >> lane & 1;
    }
    counted[32 * slice + lane] = count;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    count = 0;
    for (uint s = 0; s < (causal ? slice : uint(SLICES)); ++s) count += counted[32 * s + lane];
    EMIT
"""
_GATED = """
    uint above = votes(count >= edge);
    for (uint first = begin; first < end; first += 32) {
        uint t = first + lane;
        if (causal) {
            uint both = t < end ? k[base + t * blocks] & v[base + t * blocks] : 0;
            for (ushort j = 0; j < 32; ++j) {
                count += simd_broadcast(both, j) >> lane & 1;
                uint reached = votes(count >= edge);
                if (lane == j) above = reached;
            }
        }
        if (t < end) out[base + t * blocks] = q[base + t * blocks] & above;
    }
"""
# Sums (groups, tokens or 1, 32 blocks).
_SUMS = """
    if (!causal) {
        if (slice == 0) out[32 * (group * blocks + block) + lane] = count;
        return;
    }
    for (uint first = begin; first < end; first += 32) {
        uint t = first + lane;
        uint both = t < end ? k[base + t * blocks] & v[base + t * blocks] : 0;
        for (ushort j = 0; j < 32; ++j) {
            count += simd_broadcast(both, j) >> lane & 1;
            if (first + j < end) out[32 * (base + (first + j) * blocks) + lane] = count;
        }
    }
"""


def _kernel(name: str, inputs: list[str], emit: str) -> Any:
    return mx.fast.metal_kernel(
        name=name,
        input_names=inputs,
        output_names=["out"],
        source=_SOURCE.replace("EMIT", emit),
        header=f"{_HEADER}constant constexpr uint SLICES = {_SLICES};\n",
    )


_gated = _kernel("sdsa_gated", ["q", "k", "v", "sizes"], _GATED)
_sums = _kernel("sdsa_sums", ["k", "v", "sizes"], _SUMS)


def column_sums(launch: Launch, k: Words, v: Words | None, columns: int, causal: bool) -> Sums:
    """See reference.py."""
    groups, tokens, width = k.shape
    shape = groups, tokens if causal else 1, 64 * width
    if not k.size:
        return np.zeros((*shape[:2], columns), np.int32)
    words = _halves(k), _halves(k if v is None else v)
    (out,) = _launched(launch, _sums, [*words], (*k.shape, 0, causal), shape, mx.int32)
    return np.asarray(out)[..., :columns]


def gated(
    launch: Launch, q: Words, k: Words, v: Words | None, columns: int, edge: int, causal: bool
) -> Words:
    """See reference.py."""
    out = new_words(q.shape)
    if q.size:
        words = _halves(q), _halves(k), _halves(k if v is None else v)
        shape = (*q.shape[:2], 2 * q.shape[2])
        (found,) = _launched(launch, _gated, [*words], (*q.shape, edge, causal), shape, mx.uint32)
        out.view(np.uint32)[:] = np.asarray(found)
    return out


def _halves(words: Words) -> npt.NDArray[np.uint32]:
    """Words of 32 channels, the low half first."""
    return np.ascontiguousarray(words).reshape(-1).view(np.uint32)


def _launched(
    launch: Launch,
    kernel: Any,
    words: list[Any],
    sizes: tuple[int, int, int, int, bool],
    shape: tuple[int, ...],
    kind: Any,
) -> Any:
    groups, tokens, width, edge, causal = sizes
    return launch(
        kernel,
        inputs=[*words, np.array([tokens, 2 * width, causal, edge], np.int32)],
        output_shapes=[shape],
        output_dtypes=[kind],
        grid=(32 * _SLICES, 2 * width, groups),
        threadgroup=(32 * _SLICES, 1, 1),
    )
