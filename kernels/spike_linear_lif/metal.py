"""The fused layer on a GPU: a SIMD-group runs all steps of one token's block of neurons.

Sums are made as in `spike_linear`, membranes stay in registers, and a ballot packs the spikes of 32
neurons. Where an element of the weights holds several outputs, sums change lanes through
threadgroup memory, so that neighbouring lanes own neighbouring neurons.

Products are kept from being fused with sums as in `lif_scan.metal`, so that float membranes have
the bits of the reference. Tested in the emulator; never yet run on a GPU.
"""

from __future__ import annotations

import dataclasses

import mlx.core as mx
import numpy as np

from neurosim.kernels._metal import Launch
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.spike_linear import metal as linear
from neurosim.kernels.spike_linear._metal_source import HEADER, row_sums
from neurosim.kernels.spike_linear._weight import PackedWeight
from neurosim.kernels.spike_linear_lif._types import Found, Layer

_MINUS_ZERO = -(2**31)
_MOST_COLUMNS = 2  # of a lane: sums, running sums and membranes of each stay in registers

_LAYER = """
    // Words (P, rows, W), states (R, N) -> fired (planes, rows, 2 ceil(N / 64)), last (R, N).
    // `place` is rows from a step of a token to its next, steps, halvings, and the bits of -0.
    const int OWNED = COLUMNS * FIELDS;
    threadgroup S shared[GROUPS * 32 * OWNED];
    auto local = shared + int(simdgroup_index_in_threadgroup) * 32 * OWNED;
    int base = int(thread_position_in_grid.x / 32) * 32 * OWNED;  // the first neuron
    int token = thread_position_in_grid.y, after = place[0], steps = place[1];
    int rows = words_shape[1], total = words_shape[2], fired_words = (outputs + 63) / 64 * 2;
    float zero = as_type<float>(place[3]);
    V v[OWNED];
    for (int k = 0; k < OWNED; ++k)
        v[k] = state[token * outputs + min(base + lane + 32 * k, outputs - 1)];
    for (int t = 0; t < steps; ++t) {
        int row = (token / after * steps + t) * after + token % after;
        auto line = words + row * total;
        SUMS
        if (FIELDS > 1) {
            simdgroup_barrier(mem_flags::mem_threadgroup);
            for (int f = 0; f < OWNED; ++f)
                local[output_of<FIELDS, APART>(element, f, size) - base] = sums[f];
            simdgroup_barrier(mem_flags::mem_threadgroup);
            for (int k = 0; k < OWNED; ++k) sums[k] = local[lane + 32 * k];
        }
        for (int k = 0; k < OWNED; ++k) {
            int neuron = base + lane + 32 * k, n = min(neuron, outputs - 1);
            bool real = neuron < outputs;
            V edge = threshold[n], u;
            if (INTEGER) {
                u = V(int(v[k]) >> place[2]) + V(sums[k]);
            } else {
                float leaked = fma(decay[n], float(v[k]), zero);
                u = V(leaked + fma(gain[n], float(sums[k]), zero));
            }
            if (SAVE && real) membrane[row * outputs + neuron] = u;
            V count = u >= edge ? 1 : 0;
            if (LEVELS_OUT > 0) {
                float whole = floor(float(u) / float(edge) + 0.5f);
                count = V(min(max(whole, 0.0f), float(LEVELS_OUT)));
            }
            V drop = count > V(0) ? edge : V(0);
            if (LEVELS_OUT > 0) drop = V(fma(float(edge), float(count), zero));
            if (HARD) v[k] = count > 0 ? V(0) : u;
            else v[k] = u - drop;
            for (int d = 0; d < max(LEVELS_OUT, 1); ++d) {
                uint word = votes(real && count > V(d));
                if (lane == 0 && base / 32 + k < fired_words)
                    fired[(d * rows + row) * fired_words + base / 32 + k] = word;
            }
        }
    }
    for (int k = 0; k < OWNED; ++k)
        if (base + lane + 32 * k < outputs) last[token * outputs + base + lane + 32 * k] = v[k];
"""
_WORD = """mine < total ? members<PLANES, THERMOMETER>(
                    line + side * PLANES * rows * total + mine, rows * total, level) : 0"""

_layer = linear.kernel(
    "spike_linear_lif",
    ["words", "state", "decay", "gain", "threshold", "place"],
    ["fired", "last", "membrane"],
    _LAYER.replace("SUMS", row_sums(_WORD, "32 * m")),
    header=HEADER,
)


def supports(layer: Layer) -> str | None:
    """Why these arguments cannot run, or None."""
    spikes, weight = layer.spikes, layer.weight
    out = spikes.rows, weight.shape[1]
    return linear.too_large(linear.half_words(spikes), weight.panels.shape, out)


def spike_linear_lif(launch: Launch, layer: Layer) -> Found:
    """See the package."""
    rows, tokens, outputs = layer.spikes.rows, layer.tokens, layer.weight.shape[1]
    planes, width = layer.neuron.levels or 1, -(-outputs // 64)
    kept = (rows, outputs) if layer.save else (1, 1)
    if not (rows and outputs):
        words = np.zeros((planes, rows, width), np.uint64)
        return words, layer.state, np.zeros((rows, outputs), layer.state.dtype)
    if not layer.spikes.size:
        layer = _one_silent_input(layer)
    spikes, weight = layer.spikes, linear.Rows.of(layer.weight)
    kind = mx.int32 if layer.shift is not None else mx.float32
    columns = weight.columns(_MOST_COLUMNS)
    template = {
        **linear.planes_of(len(spikes), spikes.levels, spikes.signed, spikes.code),
        "GROUPS": linear.SIMD_GROUPS,
        "INTEGER": layer.shift is not None,
        "SAVE": layer.save,
        "LEVELS_OUT": layer.neuron.levels or 0,
        "HARD": layer.neuron.reset == "hard",
    }
    place = np.array([layer.after, layer.steps, layer.shift or 0, _MINUS_ZERO], np.int32)
    inputs = [
        spikes.words.view(np.uint32),
        layer.state,
        layer.decay,
        layer.gain,
        layer.threshold,
        place,
    ]
    outs = [((planes, rows, 2 * width), mx.uint32), ((tokens, outputs), kind), (kept, kind)]
    fired, last, membrane = weight.launch(
        launch, _layer, inputs, outs, tokens, columns, template, kinds={"V": kind}
    )
    words = np.asarray(fired).view(np.uint64)
    return words, last, membrane if layer.save else None


def _one_silent_input(layer: Layer) -> Layer:
    """The same without empty buffers."""
    old, outputs = layer.spikes, layer.weight.shape[1]
    words = np.zeros((len(old), old.rows, 1), np.uint64)
    spikes = PackedSpikes.trusted(words, (*old.shape[:-1], 1), old.levels, old.signed, old.code)
    weight = PackedWeight.pack(np.zeros((1, outputs)), layer.weight.bits)
    return dataclasses.replace(layer, spikes=spikes, weight=weight)
