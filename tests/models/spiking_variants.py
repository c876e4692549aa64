"""Variants of the tiny spiking model, and what their tests share."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten

from neurosim.kernels.dense import cross_entropy
from neurosim.models.spike_transformer import SpikeTransformer

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two layers": {"layers": 2},
    "signed q and k": {"signed_qk": True},
    "no n-grams, one tap, binary": {"ngram_rows": (), "taps": 1, "levels": 1},
    "4 heads, no decay": {"heads": 4, "decay_shift": (0, 0, 2, 5)},
    "one table": {"ngram_rows": (16,), "fraction_bits": 4},
}


EACH_VARIANT = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)


def parallel_logits(model: SpikeTransformer, ids: np.ndarray) -> np.ndarray:
    return np.asarray(model(mx.array(ids[None])))[0]


def trained(
    model: SpikeTransformer, batches: list[mx.array], steps: int
) -> list[tuple[str, np.ndarray]]:
    """Gradients on the last batch after `steps` updates."""

    def loss(batch: mx.array) -> mx.array:
        logits = model(batch[:, :-1])
        return cross_entropy(logits.reshape(-1, logits.shape[-1]), batch[:, 1:].reshape(-1)).mean()

    optimizer = optim.Adam(learning_rate=1e-3)
    value_and_grad = nn.value_and_grad(model, loss)
    model.train()
    for step in range(steps + 1):
        _, gradients = value_and_grad(batches[step % len(batches)])
        mx.eval(gradients)
        if step < steps:
            optimizer.update(model, gradients)
            mx.eval(model.parameters())
    return [(name, np.asarray(gradient)) for name, gradient in tree_flatten(gradients)]
