"""Spike linear on a GPU: a SIMD-group sums the weight rows of one row's spikes.

A lane owns columns 32 apart, so that the 32 lanes read a weight row side by side. On a GPU, adding
a float where a bit is set costs what multiplying and adding it costs; what is saved here is reading
and adding rows at all. So 32 words are looked at in one ballot, zero words are never looked at
again, and the loop over the set bits of a word is the same in all lanes.

Sums are made in the documented order, so floats have the bits of the reference. Where a few rows
share one pass over the weights (decode), lanes add the row or zero, which keeps that order; only
integer sums are then split over the inputs and meet in atomics, because their order is free.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.kernels._metal import Launch
from neurosim.kernels.packed._words import Words
from neurosim.kernels.spike_linear._types import Spikes, Weight

_LANES = 32
_SIMD_GROUPS = 4  # in a threadgroup; they share nothing
_DECODE_ROWS = 8  # at most, in one pass over the weights
_SPLIT = 16  # words (512 inputs) of one SIMD-group, where integer sums are split

_HEADER = """
METAL_FUNC uint votes(bool vote) {
    return uint(uint64_t(simd_vote::vote_t(simd_ballot(vote))));
}

// sums[k] += or -= weight[first + j][column + 32 k] of every set bit j, ascending
template <int COLUMNS, typename W, typename S>
METAL_FUNC void add_rows(
    uint bits, int first, W weight, int outputs, int column, bool subtract, thread S* sums) {
    while (bits) {
        auto row = weight + (first + int(ctz(bits))) * outputs;
        bits &= bits - 1;
        for (int k = 0; k < COLUMNS; ++k) {
            S w = S(row[min(column + 32 * k, outputs - 1)]);  // columns beyond are not stored
            sums[k] += subtract ? -w : w;
        }
    }
}

// The neurons of a word whose count is `level`, on one side; words of plane p are `stride` apart.
template <int PLANES, bool THERMOMETER, typename P>
METAL_FUNC uint members(P words, int stride, int level) {
    if (THERMOMETER) {
        uint above = level < PLANES ? words[level * stride] : 0;
        return words[(level - 1) * stride] & ~above;
    }
    uint found = ~0u;
    for (int p = 0; p < PLANES; ++p) {
        uint word = words[p * stride];
        found &= (level >> p) & 1 ? word : ~word;
    }
    return found;
}
"""

_COUNTS = """
    // One row of counts (I), COLUMNS blocks of 32 columns; A of the definition is `running`.
    int lane = thread_index_in_simdgroup, row = thread_position_in_grid.y;
    int inputs = weight_shape[0], outputs = weight_shape[1];
    int column = int(thread_position_in_grid.x / 32) * (32 * COLUMNS) + lane;
    auto counts = spikes + row * inputs;
    S running[COLUMNS] = {}, sums[COLUMNS] = {};
    uint present[4] = {};  // bit n of these 128 is set where some |count| is n + 1
    for (int i = lane; i < inputs; i += 32) {
        int n = abs(int(counts[i])) - 1;
        if (n >= 0) present[n / 32] |= 1u << (n % 32);
    }
    int top = 0;
    for (int part = 0; part < 4; ++part) {
        present[part] = simd_or(present[part]);
        if (present[part]) top = 32 * part + 32 - int(clz(present[part]));
    }
    for (int level = top; level > 0; --level) {
        if (present[(level - 1) / 32] >> ((level - 1) % 32) & 1)
            for (int side = 1; side >= -1; side -= 2)
                for (int first = 0; first < inputs; first += 32) {
                    int i = min(first + lane, inputs - 1);
                    uint bits = votes(first + lane < inputs && counts[i] == side * level);
                    add_rows<COLUMNS>(bits, first, weight, outputs, column, side < 0, running);
                }
        for (int k = 0; k < COLUMNS; ++k) sums[k] += running[k];
    }
    for (int k = 0; k < COLUMNS; ++k)
        if (column + 32 * k < outputs) out[row * outputs + column + 32 * k] = sums[k];
"""

_WORDS = """
    // One row of words (P, R, W), COLUMNS blocks of 32 columns.
    int lane = thread_index_in_simdgroup, row = thread_position_in_grid.y;
    int outputs = weight_shape[1], rows = words_shape[1], width = words_shape[2];
    int column = int(thread_position_in_grid.x / 32) * (32 * COLUMNS) + lane;
    S running[COLUMNS] = {}, sums[COLUMNS] = {};
    for (int level = LEVELS; level > 0; --level) {
        for (int side = 0; side < SIDES; ++side) {
            auto plane = words + (side * PLANES * rows + row) * width;
            for (int first = 0; first < width; first += 32) {
                int mine = first + lane;
                uint word = mine < width
                    ? members<PLANES, THERMOMETER>(plane + mine, rows * width, level) : 0;
                for (uint full = votes(word != 0); full; full &= full - 1) {
                    uint w = ctz(full);  // the same in all lanes
                    uint bits = simd_broadcast(word, ushort(w));
                    add_rows<COLUMNS>(
                        bits, 32 * int(first + w), weight, outputs, column, side > 0, running);
                }
            }
        }
        for (int k = 0; k < COLUMNS; ++k) sums[k] += running[k];
    }
    for (int k = 0; k < COLUMNS; ++k)
        if (column + 32 * k < outputs) out[row * outputs + column + 32 * k] = sums[k];
"""

# Binary spikes of ROWS rows; a weight row is read once if any of them needs it.
_DECODE = """
    int lane = thread_index_in_simdgroup, slice = thread_position_in_grid.y;
    int outputs = weight_shape[1], width = words_shape[2];
    int column = int(thread_position_in_grid.x / 32) * 32 + lane;
    int owned = min(column, outputs - 1);
    int begin = slice * SLICE, end = min(begin + SLICE, width);
    S sums[ROWS] = {};
    for (int first = begin; first < end; first += 32) {
        int mine = first + lane;
        uint word[ROWS], any = 0;
        for (int r = 0; r < ROWS; ++r) {
            word[r] = mine < end ? words[r * width + mine] : 0;
            any |= word[r];
        }
        for (uint full = votes(any != 0); full; full &= full - 1) {
            ushort w = ushort(ctz(full));
            uint bits[ROWS], wanted = 0;
            for (int r = 0; r < ROWS; ++r) {
                bits[r] = simd_broadcast(word[r], w);
                wanted |= bits[r];
            }
            for (; wanted; wanted &= wanted - 1) {
                uint j = ctz(wanted);
                S value = S(weight[(32 * (first + w) + int(j)) * outputs + owned]);
                for (int r = 0; r < ROWS; ++r) sums[r] += bits[r] >> j & 1 ? value : S(0);
            }
        }
    }
    for (int r = 0; r < ROWS; ++r)
        if (column < outputs) STORE
"""
_STORE = "out[r * outputs + column] = sums[r];"
_ATOMIC_STORE = (
    "atomic_fetch_add_explicit(&out[r * outputs + column], sums[r], memory_order_relaxed);"
)


def _kernel(name: str, spikes: str, source: str, atomic: bool = False) -> Any:
    return mx.fast.metal_kernel(
        name=f"spike_linear_{name}",
        input_names=[spikes, "weight"],
        output_names=["out"],
        header=_HEADER,
        source=source,
        atomic_outputs=atomic,
    )


_counts = _kernel("counts", "spikes", _COUNTS)
_words = _kernel("words", "words", _WORDS)
_decode = _kernel("decode", "words", _DECODE.replace("STORE", _STORE))
_decode_split = _kernel("decode_split", "words", _DECODE.replace("STORE", _ATOMIC_STORE), True)


def supports(*arguments: Any) -> str | None:
    """Why these arguments cannot run, or None."""
    sizes = [int(np.prod(a.shape, dtype=np.int64)) for a in arguments if hasattr(a, "shape")]
    if max(sizes, default=0) >= 2**31:
        return "expected arrays of fewer than 2^31 elements, which the kernel indexes by int32"
    return None


def spike_linear(launch: Launch, spikes: Spikes, weight: Weight) -> Any:
    """See the package."""
    if not (spikes.size and weight.size):
        return _silence(spikes.shape[0], weight)
    return _launched(launch, _counts, spikes, weight, spikes.shape[0], 4, [])


def packed_linear(
    launch: Launch, words: Words, levels: int, signed: bool, code: str, weight: Weight
) -> Any:
    """Sums (R, O) of packed spikes, words (P, R, W), in the order of `spike_linear`."""
    planes, rows, _ = words.shape
    if not (words.size and weight.size):
        return _silence(rows, weight)
    halves = words.view(np.uint32)  # (P, R, 2 W), low half first
    if planes == 1 and rows <= _DECODE_ROWS:
        template = [("ROWS", rows)]
        if weight.dtype != np.int8:
            template.append(("SLICE", 2**30))
            return _launched(launch, _decode, halves, weight, 1, 1, template, rows)
        slices = -(-halves.shape[2] // _SPLIT)
        template.append(("SLICE", _SPLIT))
        return _launched(launch, _decode_split, halves, weight, slices, 1, template, rows)
    sides = 1 + signed
    template = [
        ("PLANES", planes // sides),
        ("SIDES", sides),
        ("LEVELS", levels),
        ("THERMOMETER", code == "thermometer"),
    ]
    return _launched(launch, _words, halves, weight, rows, 4, template)


def _launched(
    launch: Launch,
    kernel: Any,
    spikes: Any,
    weight: Any,
    height: int,
    most_columns: int,
    template: list[tuple[str, bool | int]],
    rows: int | None = None,
) -> Any:
    """One SIMD-group for each of `height` rows or slices and each block of columns."""
    outputs = weight.shape[1]
    columns = min(most_columns, -(-outputs // _LANES))  # of a lane
    kind = mx.int32 if weight.dtype == np.int8 else mx.float32
    types = [("S", kind)] if most_columns == 1 else [("S", kind), ("COLUMNS", columns)]
    return launch(
        kernel,
        inputs=[spikes, weight],
        output_shapes=[(height if rows is None else rows, outputs)],
        output_dtypes=[kind],
        grid=(_LANES * -(-outputs // (_LANES * columns)), height, 1),
        threadgroup=(_LANES * _SIMD_GROUPS, 1, 1),
        template=[*types, *template],
        init_value=0 if kernel is _decode_split else None,
    )[0]


def _silence(rows: int, weight: Weight) -> Any:
    return np.zeros((rows, weight.shape[1]), np.int32 if weight.dtype == np.int8 else np.float32)
