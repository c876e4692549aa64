"""Spiking neurons on a GPU: one thread per neuron, a ballot packs the spikes of 32.

Exactness: Metal may contract a product and a sum to one fused operation, which rounds once instead
of twice. Here every product is fma(a, b, -0) with a -0 that is read at run time: the value of the
rounded product, and nothing left to contract. Quotients rely on Metal's division being correctly
rounded, as it is in MLX's default "safe" math. The gradients are not protected: they are compared
with tolerances.

Tested in the emulator; never yet run on a GPU.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.kernels._metal import Launch
from neurosim.kernels.lif_scan._backward import slope_scale
from neurosim.kernels.lif_scan._types import LifWorkspace, Neuron

_LANES = 32
_STRIPES = 32  # partial sums of the gradients of a parameter
_MINUS_ZERO = np.array([-0.0], np.float32)
_NOTHING = np.zeros(1, np.float32)

_HEADER = """
inline uint votes(bool mine) { return (uint)(uint64_t)(simd_vote::vote_t)simd_ballot(mine); }

template <int LEVELS, bool SIGNED, bool EVEN>
inline float fire(float u, float edge) {
    if (LEVELS == 0) return u >= edge ? 1.0f : 0.0f;
    float n = u / edge, size = SIGNED ? fabs(n) : n;
    size = EVEN ? rint(size) : floor(size + 0.5f);
    size = min(max(size, 0.0f), float(LEVELS));
    return SIGNED && n < 0.0f ? -size : size;
}
"""

_scan = mx.fast.metal_kernel(
    name="lif_scan",
    input_names=["x", "decay", "gain", "threshold", "state", "minus_zero"],
    output_names=["spikes", "membrane", "last"],
    header=_HEADER,
    source="""
        uint n = thread_position_in_grid.x, r = thread_position_in_grid.y;
        uint steps = x_shape[0], rows = x_shape[1], neurons = x_shape[2];  // x (T, R, N)
        uint lane = thread_index_in_simdgroup;
        uint width = 2 * ((neurons + 63) / 64);       // words (P, T R, width), tail zero
        bool real = n < neurons;
        uint c = real ? n : 0, here = r * neurons + n;
        float beta = decay[c], weight = gain[c], edge = threshold[c], zero = minus_zero[0];
        float v = START && real ? state[here] : 0.0f;  // state (R, N)
        for (uint t = 0; t < steps; ++t) {
            uint at = t * rows * neurons + here;
            float u = fma(beta, v, zero) + fma(weight, real ? x[at] : 0.0f, zero);
            if (SAVE && real) membrane[at] = u;
            float n_fired = fire<LEVELS, SIGNED, EVEN>(u, edge);
            if (HARD) v = n_fired > 0.0f ? 0.0f : u;
            else v = u - fma(edge, n_fired, zero);
            if (PACK) {
                uint row = TOKENS ? r * steps + t : t * rows + r;
                uint to = row * width + n / 32;
                for (int d = 0; d < PLANES; ++d) {
                    float level = d % HALF, size = d < HALF ? n_fired : -n_fired;
                    uint word = votes(real && size > level);
                    if (lane == 0) spikes[d * steps * rows * width + to] = word;
                }
            } else if (real) {
                spikes[at] = int(n_fired);
            }
        }
        if (KEEP && real) last[here] = v;
    """,
)

_SLOPE = """
template <int SURROGATE>
inline float slope(float z, float a, float scale) {
    float y = scale * fabs(z);
    if (SURROGATE == 0) return 0.5f * a / (1.0f + y * y);
    if (SURROGATE == 1) return 1.0f / ((1.0f + y) * (1.0f + y));
    if (SURROGATE == 2) return fabs(z) < scale ? a : 0.0f;
    float e = precise::exp(-y);
    return a * e / ((1.0f + e) * (1.0f + e));
}

template <int LEVELS, bool SIGNED, bool BOUNDS>
inline float straight(float u, float edge) {
    float size = SIGNED ? fabs(u) : u, top = float(LEVELS) * edge;
    bool low = SIGNED || (BOUNDS ? size >= 0.0f : size > 0.0f);
    return low && (BOUNDS ? size <= top : size < top) ? 1.0f / edge : 0.0f;
}
"""

_backward = mx.fast.metal_kernel(
    name="lif_backward",
    input_names=[
        "gradient",
        "state_gradient",
        "x",
        "membrane",
        "state",
        "decay",
        "gain",
        "threshold",
        "numbers",
    ],
    output_names=["dx", "dstate", "sums"],
    header=_HEADER + _SLOPE,
    source="""
        uint n = thread_position_in_grid.x, stripe = thread_position_in_grid.y;
        uint stripes = threads_per_grid.y;
        uint steps = x_shape[0], rows = x_shape[1], neurons = x_shape[2];  // x (T, R, N)
        float beta = decay[n], weight = gain[n], edge = threshold[n];
        float a = numbers[0], scale = numbers[1];
        float dbeta = 0, dweight = 0, dedge = 0;
        for (uint r = stripe; r < rows; r += stripes) {
            uint here = r * neurons + n, stride = rows * neurons;
            float dv = END ? state_gradient[here] : 0.0f;
            for (int t = steps - 1; t >= 0; --t) {
                uint at = t * stride + here;
                float u = membrane[at], fired = fire<LEVELS, SIGNED, EVEN>(u, edge);
                float ds = gradient[at];
                if (!DETACHED) ds -= dv * (HARD ? u : edge);
                float through = ds * (LEVELS ? straight<LEVELS, SIGNED, BOUNDS>(u, edge)
                                             : slope<SURROGATE>(u - edge, a, scale));
                float du = through + (HARD && fired > 0.0f ? 0.0f : dv);
                dx[at] = weight * du;
                if (LEARN) {
                    float before = START && t == 0 ? state[here] : 0.0f;
                    if (t > 0) {
                        before = membrane[at - stride];
                        float old = fire<LEVELS, SIGNED, EVEN>(before, edge);
                        if (HARD) before = old > 0.0f ? 0.0f : before;
                        else before -= edge * old;
                    }
                    dbeta += du * before;
                    dweight += du * x[at];
                    dedge -= LEVELS ? through * (u / edge) : through;
                    if (!HARD) dedge -= dv * fired;
                }
                dv = beta * du;
            }
            dstate[here] = dv;
        }
        if (LEARN) {
            uint to = stripe * neurons + n, plane = stripes * neurons;  // sums (3, stripes, N)
            sums[to] = dbeta;
            sums[plane + to] = dweight;
            sums[2 * plane + to] = dedge;
        }
    """,
)


def scan(
    launch: Launch,
    x: Any,
    decay: Any,
    gain: Any,
    threshold: Any,
    neuron: Neuron,
    state: Any,
    pack: bool,
    save: bool,
    keep: bool = True,
    token_major: bool = False,
    workspace: LifWorkspace | None = None,
    threads: int = 1,
) -> tuple[Any, Any, Any]:
    """See reference.py; words are uint32, twice as many."""
    steps, rows, neurons = x.shape
    width = 2 * -(-neurons // 64)
    shape = (neuron.planes, steps * rows, width) if pack else x.shape
    if not rows * neurons * steps:
        spikes = np.zeros(shape, np.uint32 if pack else np.int8)
        last = np.zeros((rows, neurons), np.float32) if state is None else np.array(state)
        return spikes, last if keep else None, np.zeros(x.shape, np.float32) if save else None
    spikes, membrane, last = launch(
        _scan,
        inputs=[x, decay, gain, threshold, _NOTHING if state is None else state, _MINUS_ZERO],
        template=[
            ("LEVELS", neuron.levels or 0),
            ("PLANES", neuron.planes),
            ("HALF", neuron.levels or 1),
            ("SIGNED", neuron.signed),
            ("EVEN", neuron.rounding == "half_even"),
            ("HARD", neuron.reset == "hard"),
            ("START", state is not None),
            ("PACK", pack),
            ("SAVE", save),
            ("KEEP", keep),
            ("TOKENS", token_major),
        ],
        output_shapes=[shape, x.shape if save else (1,), (rows, neurons) if keep else (1,)],
        output_dtypes=[mx.uint32 if pack else mx.int8, mx.float32, mx.float32],
        grid=(_LANES * width, rows, 1),
        threadgroup=(2 * _LANES, 1, 1),
    )
    return spikes, last if keep else None, membrane if save else None


def backward(
    launch: Launch,
    gradient: Any,
    state_gradient: Any,
    x: Any,
    membrane: Any,
    state: Any,
    decay: Any,
    gain: Any,
    threshold: Any,
    neuron: Neuron,
    learn: bool,
    workspace: LifWorkspace | None = None,
) -> tuple[Any, Any, Any, Any, Any]:
    """See reference.py; the gradients of a parameter are summed in float32."""
    steps, rows, neurons = x.shape
    nothing = np.zeros(neurons, np.float32)
    if not rows * neurons * steps:
        dstate = np.zeros((rows, neurons), np.float32)
        if state_gradient is not None:
            dstate = np.array(state_gradient)
        return np.zeros(x.shape, np.float32), dstate, nothing, nothing, nothing
    surrogate, a, scale = slope_scale(neuron)
    stripes = min(rows, _STRIPES) if learn else rows
    dx, dstate, sums = launch(
        _backward,
        inputs=[
            gradient,
            _NOTHING if state_gradient is None else state_gradient,
            x,
            membrane,
            _NOTHING if state is None else state,
            decay,
            gain,
            threshold,
            np.array([a, scale], np.float32),
        ],
        template=[
            ("LEVELS", neuron.levels or 0),
            ("SIGNED", neuron.signed),
            ("EVEN", neuron.rounding == "half_even"),
            ("BOUNDS", neuron.clip_bounds),
            ("HARD", neuron.reset == "hard"),
            ("DETACHED", neuron.detach_reset),
            ("SURROGATE", surrogate),
            ("START", state is not None),
            ("END", state_gradient is not None),
            ("LEARN", learn),
        ],
        output_shapes=[x.shape, (rows, neurons), (3, stripes, neurons) if learn else (1,)],
        output_dtypes=[mx.float32] * 3,
        grid=(neurons, stripes, 1),
        threadgroup=(2 * _LANES, 1, 1),
    )
    if not learn:
        return dx, dstate, nothing, nothing, nothing
    ddecay, dgain, dthreshold = sums.sum(axis=1)
    return dx, dstate, ddecay, dgain, dthreshold
