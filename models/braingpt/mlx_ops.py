"""Spike counts and SiLU in MLX, with the gradients of training.

On a CPU they run in Numba on MLX's own memory; on a GPU they are MLX operations. The values are
those of `model.BrainGPT`; the gradients are straight through: a quantiser passes them where it
does not saturate, and every form of SiLU has the derivative of the true one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import Output
from neurosim.kernels._training import differentiable, values
from neurosim.kernels.spike_quantise import cpu, mlx
from neurosim.models.braingpt import mlx_kernels, rows
from neurosim.models.braingpt import silu as silus

Lookup = tuple[int, npt.NDArray[np.float32], npt.NDArray[np.float32]]
_NONE = np.zeros(0, np.float32)


def on_cpu() -> bool:
    """Whether Numba does the work."""
    return bool(mx.default_device() == mx.Device(mx.cpu))


def spikes(x: mx.array, top: int, whole: bool, clip: float = 1.0) -> tuple[mx.array, mx.array]:
    """Spike counts times their scale, n s, and s; `kernels.spike_quantise` says what n is.

    Args:
        x: float32 (..., N).
        top: T, the most spikes of a neuron.
        whole: one scale for all of x, instead of one per row.
        clip: s is this times max |x| / T; above clip times the maximum, neurons saturate.

    Returns:
        values like x; scales (..., 1), or () where `whole`. The gradient is 1 where |x| <= T s.
    """
    if x.size == 0:
        return x, mx.ones(() if whole else (*x.shape[:-1], 1))
    result: tuple[mx.array, mx.array] = _spikes(top, whole, clip, on_cpu())(x)
    return result


@lru_cache
def _spikes(top: int, whole: bool, clip: float, numba: bool) -> Any:
    factor = np.float32(clip)

    def compiled(x: mx.array) -> tuple[mx.array, mx.array]:
        lead = () if whole else (*x.shape[:-1], 1)
        found = values("spikes", x).reshape(1 if whole else -1, x.size if whole else x.shape[-1])
        counts = np.empty(found.shape, np.int8)
        out, scales = Output(x.shape), Output(lead)
        units = scales.view.reshape(-1)
        finite = cpu.quantise_rows(found, np.float32(top), counts, units)
        if clip != 1.0:
            units *= factor
            cpu.quantise_by(found, np.float32(top), counts, units)
        if not finite:
            raise ValueError(
                "expected finite values, got NaN or infinity, of which there is no spike count"
            )
        rows.real(counts, units, out.view.reshape(found.shape))
        return out.array, scales.array

    def lazy(x: mx.array) -> tuple[mx.array, mx.array]:
        size = mx.abs(x)
        largest = size.max() if whole else size.max(axis=-1, keepdims=True)
        scales = largest / mx.array(top, x.dtype)
        scales = mx.where(scales == 0, mx.array(1, x.dtype), scales) * mx.array(float(factor))
        counts, _, _ = mlx.spike_quantise(x, top, scales)
        return counts.astype(x.dtype) * scales, scales

    def backward(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array]:
        x, (given, _), (_, scales) = primals[0], cotangents, outputs
        if clip >= 1.0:
            return (given,)
        if not numba:
            return (mx.where(mx.abs(x) / scales <= top, given, mx.zeros_like(given)),)
        found = values("spikes", x).reshape(1 if whole else -1, x.size if whole else x.shape[-1])
        out = Output(x.shape)
        mlx_kernels.inside(
            found,
            np.asarray(scales).reshape(-1),
            np.float32(top),
            values("spikes", given).reshape(found.shape),
            out.view.reshape(found.shape),
        )
        return (out.array,)

    return differentiable("spikes", compiled if numba else lazy, backward)


def lookup(form: str, parameters: silus.Parameters | None = None) -> Lookup:
    """A form of SiLU as the loops take it: (kind, edges, values)."""
    if form == "exact":
        return rows.EXACT, _NONE, _NONE
    if form == "table":
        step = np.asarray([silus.TABLE_STEP], np.float32)
        return rows.TABLE, step, silus.table_values().astype(np.float32)
    edges, steps = silus.Staircase(parameters or {}).lookup(np.float32)
    return rows.STAIRCASE, edges.astype(np.float32), steps.astype(np.float32)


class Gate:
    """S(gate) up, with S a form of SiLU; gradients to both."""

    def __init__(self, form: Lookup) -> None:
        self._form = form
        self._compiled = differentiable("gate", self._run, _gate_backward)
        self._lazy = differentiable("gate", self._operations, _gate_backward_operations)

    def __call__(self, gate: mx.array, up: mx.array) -> mx.array:
        """Of arrays of one shape."""
        product: mx.array = (self._compiled if on_cpu() else self._lazy)(gate, up)[0]
        return product

    def silu(self, x: mx.array) -> mx.array:
        """S alone, without a gradient."""
        if not on_cpu():
            return self._silu_operations(x)
        out = Output(x.shape)
        mlx_kernels.silu(values("silu", x).reshape(-1), *self._form, out.view.reshape(-1))
        return out.array

    def _run(self, gate: mx.array, up: mx.array) -> tuple[mx.array, mx.array]:
        value = self.silu(gate)
        return value * up, value

    def _operations(self, gate: mx.array, up: mx.array) -> tuple[mx.array, mx.array]:
        value = self._silu_operations(gate)
        return value * up, value

    def _silu_operations(self, x: mx.array) -> mx.array:
        kind, edges, steps = self._form
        if kind == rows.EXACT:
            return x * mx.sigmoid(x)
        if kind == rows.STAIRCASE:
            index = mx.zeros(x.shape, mx.int32)
            for edge in edges:
                index = index + (x >= mx.array(edge))
            return mx.array(steps)[index]
        scaled = mx.abs(x) / mx.array(edges[0])
        whole = mx.floor(scaled)
        count = whole + (scaled - whole >= 0.5)
        middle = len(steps) // 2
        inner = mx.minimum(count, middle).astype(mx.int32)
        value = mx.array(steps)[middle + mx.where(x < 0, -inner, inner)]
        beyond = mx.where(x < 0, mx.array(0.0), count * mx.array(edges[0]))
        return mx.where(count > middle, beyond, value)


def _gate_backward(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
    gate, up = primals
    to_gate, to_up = Output(gate.shape), Output(up.shape)
    given = [values("gate", x).reshape(-1) for x in (gate, up, outputs[1], cotangents[0])]
    mlx_kernels.gate_backward(
        given[0], given[1], given[2], given[3], to_gate.view.reshape(-1), to_up.view.reshape(-1)
    )
    return to_gate.array, to_up.array


def _gate_backward_operations(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
    (gate, up), given = primals, cotangents[0]
    s = mx.sigmoid(gate)
    return given * up * s * (1 + gate * (1 - s)), given * outputs[1]
