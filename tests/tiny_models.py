"""Tiny models for the tests: built in milliseconds, no parameter at its untrained special value."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.models.spike_transformer import SpikeTransformer, SpikeTransformerConfig
from neurosim.models.transformer import Transformer, TransformerConfig


def stream(length: int, vocabulary: int, seed: int = 0) -> np.ndarray:
    """A token stream with something to learn: mostly each token's fixed successor; uint16 (L,)."""
    rng = np.random.default_rng(seed)
    successor = np.random.default_rng(0).permutation(vocabulary)
    tokens = rng.integers(0, vocabulary, length)
    for i in range(1, length):
        if rng.random() < 0.8:
            tokens[i] = successor[tokens[i - 1]]
    return tokens.astype(np.uint16)


def spiking_model(seed: int = 0, **changes: Any) -> SpikeTransformer:
    """A spiking model with random weights, gains, shifts and running statistics; in eval mode."""
    settings: dict[str, Any] = {
        "vocab_size": 50,
        "width": 32,
        "layers": 1,
        "heads": 2,
        "ratio": 2,
        "context": 32,
        "taps": 3,
        "decay_shift": (1, 3),
        "ngram_rows": (64, 32),
    }
    config = SpikeTransformerConfig(**(settings | changes))
    mx.random.seed(seed)
    model = SpikeTransformer(config)
    rng = np.random.default_rng(seed)

    def normal(shape: tuple[int, ...], size: float) -> mx.array:
        return mx.array((rng.standard_normal(shape) * size).astype(np.float32))

    model.ngrams = [normal(table.shape, 0.4) for table in model.ngrams]
    for block in model.blocks:
        block.conv = normal(block.conv.shape, 0.3)
        block.output = normal(block.output.shape, 0.1)
        block.down = normal(block.down.shape, 0.1)
    for bank in model.banks():
        size = bank.shift.shape
        bank.log_gain = bank.log_gain + normal(size, 0.2)
        bank.shift = normal(size, 0.3)
    model.train()
    for _ in range(3):
        for bank in model.banks():
            bank.momentum = 0.5
        model(mx.array(rng.integers(0, config.vocab_size, (4, config.context))))
    for bank in model.banks():
        bank.momentum = 0.05
    mx.eval(model.parameters())
    model.eval()
    return model


def twin_model(seed: int = 0, **changes: Any) -> Transformer:
    """An ANN twin with weights large enough to matter."""
    settings: dict[str, Any] = {
        "vocab_size": 50,
        "width": 32,
        "layers": 2,
        "heads": 2,
        "ratio": 2,
        "context": 32,
        "ngram_rows": (64, 32),
    }
    mx.random.seed(seed)
    model = Transformer(TransformerConfig(**(settings | changes)))
    model.ngrams = [mx.random.normal(table.shape) * 0.4 for table in model.ngrams]
    for block in model.blocks:
        block.output = mx.random.normal(block.output.shape) * 0.2
        block.down = mx.random.normal(block.down.shape) * 0.2
    model.head = mx.random.normal(model.head.shape) * 0.2
    mx.eval(model.parameters())
    return model


def tokens(length: int, vocabulary: int = 50, seed: int = 0) -> np.ndarray:
    """Random tokens (L,)."""
    return np.random.default_rng(seed).integers(0, vocabulary, length)
