"""The integer neuron as a threshold switch on a chip makes it, with a straight-through gradient.

In units of one spike's charge C (V_u - V_landing), a neuron that starts half way between landing
and threshold fires its k-th spike of a window at the charge

    c_k = k - 1/2 + leak_k + k d_V - (k - 1) d_H + z sqrt(k s_V^2 + (k - 1) s_H^2)

because it climbs k times to a drawn V_th and, after the first spike, from a drawn landing voltage:
d_V, d_H are the neuron's own shifts of V_th and of the landing (D2D), s_V, s_H the deviations from
cycle to cycle (C2C), all over V_u - V_landing. The sum of k independent draws has the distribution
of one draw z times its deviation, and c_k grows with k for every z, so that one z per neuron and
window gives the count exactly the distribution that a draw per cycle gives. Charge that arrives
while the switch waits or stays on is lost: with x the normalised input in spikes, the k-th spike
needs x (1 - s - (k - 1)(s + r)) >= c_k, s and r the set and reset delay in windows. The input stage
passes at most `limit` spikes of charge. For a signed channel the ON neuron (x >= 0) and the OFF
neuron have shifts of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import Output
from neurosim.kernels._jit import compiled, compiled_loosely
from neurosim.kernels._training import differentiable, values

Floats = npt.NDArray[np.float32]


@compiled
def _spikes(
    x: Floats,
    scale: Floats,
    offset: Floats,
    shifts: Floats,
    rows_per_chip: int,
    draws: Floats,
    first_draw: int,
    firing: Floats,
    limit: float,
    signed: bool,
    out: Floats,
) -> None:
    """Spike counts of x (R, N) -> `out`; see `disturbed_spikes` for the rest."""
    rows, channels = x.shape
    zero, top = np.float32(0), np.float32(limit)
    wrap = draws.size - channels
    for r in range(rows):
        row, result = x[r], out[r]
        shift = shifts[r // rows_per_chip]
        start = (first_draw + r * channels) % wrap
        z = draws[start : start + channels]
        result[:] = zero
        for k in range(firing.shape[0]):
            charge, gain, climbs = firing[k, 0], firing[k, 1], np.float32(k + 1)
            landings, cycle = np.float32(k), firing[k, 2]
            for c in range(channels):
                y = row[c] * scale[c] + offset[c]
                on = y >= zero
                size = min(abs(y) if signed else max(y, zero), top)
                higher = shift[0, c] if on else shift[1, c]
                lower = shift[2, c] if on else shift[3, c]
                needed = charge + climbs * higher - landings * lower + cycle * z[c]
                one = np.float32(1) if on else np.float32(-1)
                result[c] += one if size * gain >= needed and size > zero else zero


@compiled_loosely
def _backward(
    gradient: Floats,
    x: Floats,
    scale: Floats,
    offset: Floats,
    low: float,
    high: float,
    dx: Floats,
    dscale: Floats,
    doffset: Floats,
) -> None:
    """Straight-through where the undisturbed neuron is not clipped."""
    rows, channels = x.shape
    low32, high32, zero = np.float32(low), np.float32(high), np.float32(0)
    dscale[:] = zero
    doffset[:] = zero
    for r in range(rows):
        row, g, result = x[r], gradient[r], dx[r]
        for c in range(channels):
            y = row[c] * scale[c] + offset[c]
            through = g[c] if y >= low32 and y < high32 else zero
            result[c] = through * scale[c]
            dscale[c] += through * row[c]
            doffset[c] += through


@dataclass(frozen=True, eq=False)
class Disturbance:
    """What disturbs the neurons of one bank in one batch.

    `shifts` (S, 4, N): D2D shifts of the chips of S sequences, in spikes: of V_th for ON and OFF,
    of the landing for ON and OFF. `draws` (P,): standard normals, used cyclically from `first_draw`
    on. `firing` (levels, 3): for the k-th spike k - 1/2 + leak_k, the fraction of the charge that
    counts, and the C2C deviation. `limit`: most spikes' worth of charge the input stage passes.
    """

    shifts: Floats
    draws: Floats
    first_draw: int
    firing: Floats
    limit: float


def disturbed_spikes(
    x: mx.array, scale: mx.array, offset: mx.array, disturbance: Disturbance, signed: bool
) -> mx.array:
    """Spikes of x scale + offset under `disturbance`; gradients of x, scale and offset.

    Args:
        x: float32 (S, L, N); scale, offset: float32 (N,).
        disturbance: its shifts belong to the S sequences.
        signed: an ON and an OFF neuron per channel.

    Returns:
        (S, L, N), float32 whole numbers. The gradient passes unchanged where the undisturbed
        neuron is not clipped, as in `kernels.neuron`.
    """
    channels = scale.size
    expected = (x.shape[0], 4, channels)
    if x.ndim != 3 or x.shape[2] != channels or disturbance.shifts.shape != expected:
        raise ValueError(
            f"expected x (S, L, N) with shifts (S, 4, N) and scale (N,), got {tuple(x.shape)}, "
            f"{disturbance.shifts.shape} and ({channels},)"
        )
    if disturbance.draws.size <= channels:
        raise ValueError(f"expected more than {channels} draws, got {disturbance.draws.size}")
    levels = disturbance.firing.shape[0]
    low = -levels - 0.5 if signed else -0.5
    name = "disturbed_spikes"

    def forward(x: mx.array, scale: mx.array, offset: mx.array) -> mx.array:
        rows = values(name, x).reshape(-1, channels)
        out = Output(x.shape)
        _spikes(
            rows,
            values(name, scale),
            values(name, offset),
            disturbance.shifts,
            x.shape[1],
            disturbance.draws,
            disturbance.first_draw,
            disturbance.firing,
            disturbance.limit,
            signed,
            out.view.reshape(rows.shape),
        )
        return out.array

    def backward(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        x, scale, offset = primals
        dx, dscale, doffset = (Output(array.shape) for array in primals)
        rows = values(name, x).reshape(-1, channels)
        _backward(
            values(name, cotangents[0]).reshape(rows.shape),
            rows,
            values(name, scale),
            values(name, offset),
            low,
            levels + 0.5,
            dx.view.reshape(rows.shape),
            dscale.view,
            doffset.view,
        )
        return dx.array, dscale.array, doffset.array

    result: mx.array = differentiable(name, forward, backward)(x, scale, offset)
    return result
