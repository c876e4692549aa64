"""Spike attention on a GPU: a SIMD-group holds 32 columns of one stream's state.

The state lies in threadgroup memory, (D, 32) in int32; lane j reads and writes column j only, so
nothing has to be synchronised. The words of q and k are the same for all lanes: the loop over their
set bits does not diverge, and rows of silent channels are never touched. A ballot packs the spikes
of 32 columns. A single token reads and writes its state in device memory instead, row by row.

Tested in the emulator; never yet run on a GPU.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.kernels._metal import Launch
from neurosim.kernels.packed._words import new_words
from neurosim.kernels.spike_attention._types import (
    Counts,
    Memory,
    Planes,
    Shifts,
    Spikes,
    State,
    Sums,
)

_LANES = 32
_MOST_CHANNELS = 256  # rows of 32 int32 in 32 KB
_LARGEST = 2**31 - 1
_NOTHING = np.zeros(1, np.int32)

_HEADER = """
inline uint votes(bool mine) { return (uint)(uint64_t)(simd_vote::vote_t)simd_ballot(mine); }
"""

# q, k (planes, rows, width), v (planes, rows, blocks), words of 32 channels; rows (G, L, H).
_LINEAR = """
    threadgroup int state[D * 32];  // (D, 32)
    uint lane = thread_position_in_threadgroup.x, block = threadgroup_position_in_grid.x;
    uint stream = threadgroup_position_in_grid.y, column = 32 * block + lane;
    uint tokens = sizes[0], heads = sizes[1], rows = sizes[2], width = sizes[3];
    uint blocks = sizes[4], columns = sizes[5];
    bool causal = sizes[6], fresh = sizes[7], keep = sizes[8], inside = column < columns;
    uint levels = sizes[9], edge_rows = sizes[10];
    uint q_planes = sizes[11], k_planes = sizes[12], v_planes = sizes[13];
    uint first = stream / heads * tokens * heads + stream % heads;
    for (uint i = 0; i < D; ++i)
        state[32 * i + lane] = fresh || !inside ? 0 : start[(stream * D + i) * columns + column];
    for (uint pass = 0; pass < (causal ? 1u : 2u); ++pass) {
        for (uint t = 0; t < tokens; ++t) {
            uint row = first + t * heads;
            if (pass == 0) {
                int value = 0;
                for (uint p = 0; p < v_planes; ++p)
                    if (v[(p * rows + row) * blocks + block] >> lane & 1) value += v_weights[p];
                for (uint p = 0; p < k_planes; ++p) {
                    int added = value * k_weights[p];  // a power of two: a shift
                    for (uint w = 0; w < width; ++w) {
                        uint word = k[(p * rows + row) * width + w];
                        for (; word; word &= word - 1)
                            state[32 * (32 * w + ctz(word)) + lane] += added;
                    }
                }
            }
            if (causal || pass == 1) {
                int total = 0;
                for (uint p = 0; p < q_planes; ++p) {
                    int part = 0;
                    for (uint w = 0; w < width; ++w) {
                        uint word = q[(p * rows + row) * width + w];
                        for (; word; word &= word - 1)
                            part += state[32 * (32 * w + ctz(word)) + lane];
                    }
                    total += part * q_weights[p];
                }
                EMIT
            }
        }
    }
    for (uint i = 0; keep && inside && i < D; ++i)
        after[(stream * D + i) * columns + column] = state[32 * i + lane];
"""
_SUMS = "if (inside) out[row * columns + column] = total;"
_SPIKES = """for (uint level = 0; level < levels; ++level) {
                    uint edge = (level * edge_rows + stream % edge_rows) * columns + column;
                    uint word = votes(inside && total >= edges[inside ? edge : 0]);
                    if (lane == 0) out[(level * rows + row) * blocks + block] = word;
                }"""

# One token: a thread owns column `column` of stream `stream`; state (streams, D, columns).
_STEP = """
    uint column = thread_position_in_grid.x, stream = thread_position_in_grid.y;
    uint channels = sizes[0], streams = sizes[1], width = sizes[2], blocks = sizes[3];
    uint columns = sizes[4], q_planes = sizes[5], k_planes = sizes[6], v_planes = sizes[7];
    int value = 0;
    for (uint p = 0; p < v_planes; ++p)
        if (v[(p * streams + stream) * blocks + column / 32] >> column % 32 & 1)
            value += v_weights[p];
    long total = 0;
    bool wrong = false;
    for (uint i = 0; i < channels; ++i) {
        uint bit = i % 32, word = stream * width + i / 32;
        int keys = 0, queries = 0;
        for (uint p = 0; p < k_planes; ++p)
            if (k[p * streams * width + word] >> bit & 1) keys += k_weights[p];
        for (uint p = 0; p < q_planes; ++p)
            if (q[p * streams * width + word] >> bit & 1) queries += q_weights[p];
        uint at = (stream * channels + i) * columns + column;
        long count = long(state[at]) + long(keys) * long(value);
        T kept = T(count);
        wrong = wrong || long(kept) != count;
        after[at] = kept;
        total += long(queries) * count;
    }
    int sum = int(total);
    out[stream * columns + column] = sum;
    refused[stream * columns + column] = wrong || long(sum) != total;
"""

# Counts (L, H, D) int8, start (H, D, D). A: int where the sums fit, else long.
_DECAYING = """
    threadgroup int state[D * 32];  // (D, 32)
    uint lane = thread_position_in_threadgroup.x, head = threadgroup_position_in_grid.y;
    uint column = 32 * threadgroup_position_in_grid.x + lane;
    uint tokens = sizes[0], heads = sizes[1], bits = sizes[2];
    if (column >= D) return;
    int decay = shifts[head];
    for (uint i = 0; i < D; ++i) state[32 * i + lane] = start[(head * D + i) * D + column];
    for (uint t = 0; t < tokens; ++t) {
        uint at = (t * heads + head) * D;
        int value = int(v[at + column]) << bits;
        A total = 0;
        for (uint i = 0; i < D; ++i) {
            int s = state[32 * i + lane];
            if (decay > 0) s -= s >> decay;
            s += int(k[at + i]) * value;
            state[32 * i + lane] = s;
            total += A(q[at + i]) * A(s);
        }
        out[at + column] = long(total);
    }
    for (uint i = 0; i < D; ++i) after[(head * D + i) * D + column] = state[32 * i + lane];
"""
_OPERANDS = ["q", "k", "v", "q_weights", "k_weights", "v_weights"]


def _kernel(name: str, inputs: list[str], outputs: list[str], source: str) -> Any:
    return mx.fast.metal_kernel(
        name=name, input_names=inputs, output_names=outputs, source=source, header=_HEADER
    )


_linear_sums = _kernel(
    "spike_attention_sums",
    [*_OPERANDS, "start", "sizes"],
    ["out", "after"],
    _LINEAR.replace("EMIT", _SUMS),
)
_linear_spikes = _kernel(
    "spike_attention_spikes",
    [*_OPERANDS, "start", "edges", "sizes"],
    ["out", "after"],
    _LINEAR.replace("EMIT", _SPIKES),
)
_step = _kernel(
    "spike_attention_step", [*_OPERANDS, "state", "sizes"], ["out", "after", "refused"], _STEP
)
_decaying = _kernel(
    "spike_attention_decaying",
    ["q", "k", "v", "shifts", "start", "sizes"],
    ["out", "after"],
    _DECAYING,
)


def supports(channels: int) -> str | None:
    """Why a head of this many channels cannot run, or None."""
    if channels <= _MOST_CHANNELS:
        return None
    return f"a state of {channels} rows exceeds threadgroup memory; at most {_MOST_CHANNELS}"


def linear(
    launch: Launch,
    q: Planes,
    k: Planes,
    v: Planes,
    state: State | None,
    fresh: bool,
    causal: bool,
    thresholds: Counts | None,
) -> Any:
    """See reference.py."""
    _, groups, tokens, heads, words = v.words.shape
    rows, streams, channels, columns = groups * tokens * heads, groups * heads, q.columns, v.columns
    levels, edges = (0, 1) if thresholds is None else thresholds.shape[:2]
    blocks = 2 * words if levels else -(-columns // _LANES)
    shape = (rows, columns) if thresholds is None else (levels, rows, 2 * words)
    kept = state is not None and state.size > 0
    if not (streams and columns and (tokens or kept)):
        return _result(np.zeros(shape, np.int32), v, levels)
    fresh = fresh or not kept
    sizes = [
        tokens, heads, rows, 2 * q.words.shape[4], 2 * words, columns, causal, fresh,
        kept, levels, edges, len(q.weights), len(k.weights), len(v.weights),
    ]  # fmt: skip
    start = _NOTHING if state is None or fresh else state.reshape(-1)
    out, after = launch(
        _linear_spikes if levels else _linear_sums,
        inputs=[
            *_operands(q, k, v),
            start,
            *([] if thresholds is None else [thresholds.reshape(-1)]),
            np.array(sizes, np.uint32),
        ],
        output_shapes=[shape if tokens else (1,), (streams, channels, columns) if kept else (1,)],
        output_dtypes=[mx.uint32 if levels else mx.int32, mx.int32],
        grid=(blocks * _LANES, streams, 1),
        threadgroup=(_LANES, 1, 1),
        template=[("D", max(channels, 1))],
    )
    if state is not None and kept:
        state[:] = np.asarray(after).reshape(state.shape)
    return _result(np.asarray(out) if tokens else np.zeros(shape, np.int32), v, levels)


def _operands(q: Planes, k: Planes, v: Planes) -> list[Any]:
    """Words as pairs of uint32, low half first; one word where there are none."""
    words = [x.words.reshape(-1).view(np.uint32) for x in (q, k, v)]
    some = [x if x.size else np.zeros(1, np.uint32) for x in words]
    return [*some, *(np.array(x.weights, np.int32) for x in (q, k, v))]


def _result(out: Any, v: Planes, levels: int) -> Any:
    """Sums (G, L, H, V), or words (levels, G, L, H, W)."""
    groups, tokens, heads, width = v.words.shape[1:]
    if not levels:
        return out.reshape(groups, tokens, heads, v.columns)
    words = new_words((levels, groups, tokens, heads, width))
    words.view(np.uint32)[:] = out.reshape(levels, groups, tokens, heads, 2 * width)
    return words


def linear_step(
    launch: Launch, q: Planes, k: Planes, v: Planes, state: Memory
) -> tuple[Counts, bool]:
    """See reference.py."""
    _, groups, _, heads, width = q.words.shape
    streams, channels, columns = groups * heads, q.columns, v.columns
    if not (streams and channels and columns):
        return np.zeros((streams, columns), np.int32), True
    sizes = [
        channels, streams, 2 * width, 2 * v.words.shape[4], columns, len(q.weights),
        len(k.weights), len(v.weights),
    ]  # fmt: skip
    kind = mx.int16 if state.dtype == np.int16 else mx.int32
    out, after, refused = launch(
        _step,
        inputs=[*_operands(q, k, v), state.reshape(-1), np.array(sizes, np.uint32)],
        output_shapes=[(streams, columns), (streams, channels, columns), (streams, columns)],
        output_dtypes=[mx.int32, kind, mx.bool_],
        grid=(columns, streams, 1),
        threadgroup=(min(columns, 8 * _LANES), 1, 1),
        template=[("T", kind)],
    )
    fits = not np.asarray(refused).any()
    if fits:
        state[:] = np.asarray(after).reshape(state.shape)
    return np.asarray(out), fits


def scan(
    launch: Launch,
    q: Spikes,
    k: Spikes,
    v: Spikes,
    decay_shift: Shifts,
    fraction_bits: int,
    state: State,
    bound: int,
) -> Sums:
    """See reference.py."""
    tokens, heads, channels = q.shape
    if not q.size:
        return np.zeros(q.shape, np.int64)
    largest = channels * int(np.abs(q.astype(np.int64)).max()) * bound
    out, after = launch(
        _decaying,
        inputs=[
            *(x.reshape(-1) for x in (q, k, v)),
            decay_shift.astype(np.int32),
            state.reshape(-1),
            np.array([tokens, heads, fraction_bits], np.uint32),
        ],
        output_shapes=[q.shape, state.shape],
        output_dtypes=[mx.int64, mx.int32],
        grid=(-(-channels // _LANES) * _LANES, heads, 1),
        threadgroup=(_LANES, 1, 1),
        template=[("D", channels), ("A", mx.int32 if largest <= _LARGEST else mx.int64)],
    )
    state[:] = np.asarray(after)
    return np.asarray(out)


def step(
    launch: Launch,
    state: State,
    q: Spikes,
    k: Spikes,
    v: Spikes,
    decay_shift: Shifts,
    fraction_bits: int,
    out: Sums,
) -> None:
    """See reference.py."""
    bound = _LARGEST  # no more is known of one token
    out[:] = scan(launch, q[None], k[None], v[None], decay_shift, fraction_bits, state, bound)[0]
