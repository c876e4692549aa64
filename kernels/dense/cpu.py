"""Softmax and cross-entropy in Numba, with an exponential that vectorises."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled_loosely

Floats = npt.NDArray[np.float32]


@compiled_loosely
def _exp(x: Any) -> Any:
    """exp(x) for x <= 0: 2^n by repeated scaling of a degree-6 polynomial; relative error 2e-7."""
    x = max(x, np.float32(-87.0))
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    f = x - n * np.float32(0.693359375) - n * np.float32(-2.12194440e-4)
    p = np.float32(1.3981999507e-3)
    p = p * f + np.float32(8.3334519073e-3)
    p = p * f + np.float32(4.1665795894e-2)
    p = p * f + np.float32(1.6666665459e-1)
    p = p * f + np.float32(5.0000001201e-1)
    p = p * f * f + f + np.float32(1.0)
    bits = (np.int32(n) + np.int32(127)) << np.int32(23)
    return p * np.int32(bits).view(np.float32)


@compiled_loosely
def causal_softmax(scores: Floats, out: Floats) -> None:
    """Row i of each (L, L) matrix: softmax over 0..i, zeros after."""
    groups, length, _ = scores.shape
    for g in range(groups):
        for i in range(length):
            row, result = scores[g, i], out[g, i]
            top = row[0]
            for j in range(i + 1):
                top = max(top, row[j])
            total = np.float32(0)
            for j in range(i + 1):
                e = _exp(row[j] - top)
                result[j] = e
                total += e
            inverse = np.float32(1) / total
            for j in range(i + 1):
                result[j] *= inverse
            for j in range(i + 1, length):
                result[j] = np.float32(0)


@compiled_loosely
def causal_softmax_backward(weights: Floats, gradient: Floats, out: Floats) -> None:
    """dscores = p (g - sum p g), over 0..i."""
    groups, length, _ = weights.shape
    for g in range(groups):
        for i in range(length):
            p, d, result = weights[g, i], gradient[g, i], out[g, i]
            dot = np.float32(0)
            for j in range(i + 1):
                dot += p[j] * d[j]
            for j in range(i + 1):
                result[j] = p[j] * (d[j] - dot)
            for j in range(i + 1, length):
                result[j] = np.float32(0)


@compiled_loosely
def cross_entropy(
    logits: Floats, targets: npt.NDArray[np.int32], losses: Floats, residual: Floats
) -> None:
    """losses (R,) and residual = softmax - onehot (R, V)."""
    rows, vocabulary = logits.shape
    for r in range(rows):
        row, result = logits[r], residual[r]
        top = row[0]
        for j in range(vocabulary):
            top = max(top, row[j])
        total = np.float32(0)
        for j in range(vocabulary):
            e = _exp(row[j] - top)
            result[j] = e
            total += e
        inverse = np.float32(1) / total
        for j in range(vocabulary):
            result[j] *= inverse
        target = targets[r]
        losses[r] = np.log(total) + top - row[target]
        result[target] -= np.float32(1)


@compiled_loosely
def distillation(
    logits: Floats,
    teacher: Floats,
    targets: npt.NDArray[np.int32],
    weight: float,
    losses: Floats,
    plain: Floats,
    residual: Floats,
) -> None:
    """Cross-entropy to (1 - weight) onehot + weight softmax(teacher); residual = its gradient."""
    rows, vocabulary = logits.shape
    mix = np.float32(weight)
    for r in range(rows):
        row, guide, result = logits[r], teacher[r], residual[r]
        top, guide_top = row[0], guide[0]
        for j in range(vocabulary):
            top = max(top, row[j])
            guide_top = max(guide_top, guide[j])
        total, guide_total, dot = np.float32(0), np.float32(0), np.float32(0)
        for j in range(vocabulary):
            total += _exp(row[j] - top)
            p = _exp(guide[j] - guide_top)
            result[j] = p
            guide_total += p
            dot += p * row[j]
        inverse, guide_inverse = np.float32(1) / total, mix / guide_total
        for j in range(vocabulary):
            result[j] = _exp(row[j] - top) * inverse - result[j] * guide_inverse
        target = targets[r]
        result[target] -= np.float32(1) - mix
        log_total = np.log(total) + top
        plain[r] = log_total - row[target]
        losses[r] = (np.float32(1) - mix) * plain[r] + mix * (log_total - dot / guide_total)
