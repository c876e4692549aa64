"""Dense helpers of the ANN twin and of training: softmax and cross-entropy.

MLX's exp on a CPU is a scalar libm call (25 ns each); these are SIMD (about 1 ns) and have
gradients. On a GPU use MLX's own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import mlx.core as mx
import numpy as np

from neurosim.kernels._arrays import Output, contiguous
from neurosim.kernels.dense import cpu

__all__ = ["causal_softmax", "cross_entropy", "distillation"]


def _custom(function: object) -> Callable[..., Any]:
    """An `mx.custom_function` as the callable that it is (its stub says object)."""
    return cast(Callable[..., Any], function)


@mx.custom_function
def _softmax(scores: mx.array) -> mx.array:
    out, shape = Output(scores.shape), (-1, *scores.shape[-2:])
    cpu.causal_softmax(contiguous(scores, shape), out.view.reshape(shape))
    return out.array


@_softmax.vjp
def _softmax_backward(primals: Any, cotangents: Any, outputs: Any) -> mx.array:
    out, shape = Output(outputs.shape), (-1, *outputs.shape[-2:])
    cpu.causal_softmax_backward(
        contiguous(outputs, shape), contiguous(cotangents, shape), out.view.reshape(shape)
    )
    return out.array


def causal_softmax(scores: mx.array) -> mx.array:
    """Softmax over keys 0..i of row i; later keys get 0. Scores float32 (..., L, L), same out."""
    if scores.ndim < 2 or scores.shape[-1] != scores.shape[-2]:
        raise ValueError(f"expected square scores (..., L, L), got {tuple(scores.shape)}")
    weights: mx.array = _custom(_softmax)(scores)
    return weights


def _classes(targets: mx.array, classes: int) -> Any:
    """Targets as numpy int32; the kernels index with them unchecked."""
    ids = np.asarray(targets)
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < classes:
        raise ValueError(
            f"expected targets from 0 to {classes - 1}, got {int(ids.min())} to {int(ids.max())}"
        )
    return ids


@mx.custom_function
def _cross_entropy(logits: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
    losses, residual = Output(logits.shape[:1]), Output(logits.shape)
    cpu.cross_entropy(
        contiguous(logits, logits.shape),
        _classes(targets, logits.shape[1]),
        losses.view,
        residual.view,
    )
    return losses.array, residual.array


@_cross_entropy.vjp
def _cross_entropy_backward(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
    return cotangents[0][:, None] * outputs[1], mx.zeros_like(primals[1])


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """-log softmax(logits)[target], nats: logits float32 (R, V), targets int32 (R,) -> (R,)."""
    if logits.ndim != 2 or targets.shape != (logits.shape[0],):
        raise ValueError(
            f"expected logits (R, V) and targets (R,), got {tuple(logits.shape)} and "
            f"{tuple(targets.shape)}"
        )
    losses: mx.array = _custom(_cross_entropy)(logits, targets.astype(mx.int32))[0]
    return losses


@lru_cache
def _distillation(weight: float) -> Any:
    @mx.custom_function
    def forward(logits: mx.array, teacher: mx.array, targets: mx.array) -> tuple[mx.array, ...]:
        losses, plain = Output(logits.shape[:1]), Output(logits.shape[:1])
        residual = Output(logits.shape)
        cpu.distillation(
            contiguous(logits, logits.shape),
            contiguous(teacher, teacher.shape),
            _classes(targets, logits.shape[1]),
            weight,
            losses.view,
            plain.view,
            residual.view,
        )
        return losses.array, plain.array, residual.array

    @forward.vjp
    def backward(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        _, teacher, targets = primals
        return (
            cotangents[0][:, None] * outputs[2],
            mx.zeros_like(teacher),
            mx.zeros_like(targets),
        )

    return forward


def distillation(
    logits: mx.array, teacher: mx.array, targets: mx.array, weight: float
) -> tuple[mx.array, mx.array]:
    """Cross-entropy to (1 - weight) onehot(target) + weight softmax(teacher), nats.

    Args:
        logits, teacher: float32 (R, V); the teacher gets no gradient.
        targets: int32 (R,).
        weight: 0 (plain cross-entropy) to 1 (the teacher alone).

    Returns:
        losses (R,), and the plain cross-entropies (R,), which carry no gradient.
    """
    if logits.shape != teacher.shape:
        raise ValueError(f"expected logits of one shape, got {logits.shape} and {teacher.shape}")
    losses, plain, _ = _distillation(weight)(logits, teacher, targets.astype(mx.int32))
    return losses, mx.stop_gradient(plain)
