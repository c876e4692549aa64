"""Loops of the trainable model, compiled for a CPU; see `mlx_ops`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled, compiled_loosely
from neurosim.kernels.dense.cpu import _exp
from neurosim.models.braingpt.rows import EXACT, _silu

Floats = npt.NDArray[np.float32]


@compiled
def inside(x: Floats, scales: Floats, top: Any, cotangents: Floats, out: Floats) -> None:
    """out = cotangents where |x| / scale <= top, else 0; rows (R, N)."""
    for row in range(len(x)):
        values, given, target, scale = x[row], cotangents[row], out[row], scales[row]
        for i in range(len(values)):
            target[i] = given[i] if abs(values[i]) / scale <= top else np.float32(0)


@compiled_loosely
def _sigmoid(x: Any) -> Any:
    small = _exp(-abs(x))
    top = np.float32(1) if x >= 0 else small
    return top / (np.float32(1) + small)


@compiled_loosely
def _exact(x: Floats, out: Floats) -> None:
    for i in range(len(x)):
        out[i] = x[i] * _sigmoid(x[i])


@compiled
def silu(x: Floats, kind: int, edges: Floats, values: Floats, out: Floats) -> None:
    """SiLU of (N,) in one of the forms of `rows`."""
    if kind == EXACT:
        _exact(x, out)
        return
    for i in range(len(x)):
        out[i] = _silu(x[i], kind, edges, values)


@compiled_loosely
def gate_backward(
    gate: Floats, up: Floats, value: Floats, cotangents: Floats, to_gate: Floats, to_up: Floats
) -> None:
    """Gradients of S(gate) up: S' is that of the true SiLU, `value` is S(gate) as it was."""
    one = np.float32(1)
    for i in range(len(gate)):
        s = _sigmoid(gate[i])
        to_gate[i] = cotangents[i] * up[i] * s * (one + gate[i] * (one - s))
        to_up[i] = cotangents[i] * value[i]
