"""Held-out quality in bits per byte, the same windows for every model.

The stream is cut into windows of `context` tokens; each predicts its tokens 1..context from those
before them in the window. Bits of every predicted token (end-of-text included) are divided by the
UTF-8 bytes those tokens stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.models.spike_transformer import SpikeTransformer
from neurosim.models.spike_transformer_folded import FoldedSpikeTransformer
from neurosim.models.text.chat_tokenizer import ChatTokenizer
from neurosim.models.text.tokenizer import Tokenizer
from neurosim.models.transformer import Transformer

Logits = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.floating]]


def windows(
    stream: npt.NDArray[np.integer], context: int, most: int | None = None
) -> Iterator[npt.NDArray[np.int64]]:
    """Windows (up to context + 1,) of a stream; each begins with the last token before it."""
    if len(stream) < 2:
        raise ValueError(f"expected a stream of at least 2 tokens, got {len(stream)}")
    for index, start in enumerate(range(0, len(stream) - 1, context)):
        if most is not None and index >= most:
            return
        yield np.asarray(stream[start : start + context + 1], np.int64)


def log_softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Natural log of the softmax over the last axis, float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def logits_of(model: Any) -> Logits:
    """The logits (L, V) of tokens (L,) under a model; the folded one computes in integers."""
    if isinstance(model, FoldedSpikeTransformer):
        return lambda tokens: model.forward(tokens)[0] * model.logit_unit
    if not isinstance(model, Transformer | SpikeTransformer):  # BrainGPT, on any backend
        return lambda tokens: np.asarray(model(tokens))
    return lambda tokens: np.asarray(model(mx.array(tokens[None].astype(np.int32)))[0])


def token_losses(
    logits: Logits,
    stream: npt.NDArray[np.integer],
    context: int,
    most: int | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> npt.NDArray[np.float64]:
    """-log p of every predicted token, nats, in stream order; tells (windows done, all)."""
    losses: list[npt.NDArray[np.float64]] = []
    parts = list(windows(stream, context, most))
    for window in parts:
        tell(len(losses), len(parts))
        log_p = log_softmax(logits(window[:-1]))
        losses.append(-np.take_along_axis(log_p, window[1:, None], axis=-1)[:, 0])
    return np.concatenate(losses)


def bits_per_byte(
    losses: npt.NDArray[np.float64],
    predicted: npt.NDArray[np.integer],
    tokenizer: Tokenizer | ChatTokenizer,
) -> float:
    """Bits of the predicted tokens over the bytes they stand for."""
    if losses.shape != predicted.shape:
        raise ValueError(f"expected one loss a token, got {losses.shape} and {predicted.shape}")
    return float(losses.sum() / np.log(2) / tokenizer.bytes_per_token(predicted).sum())
