"""Bits per byte, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import spiking_model, tokens, twin_model

from neurosim.models.evaluation import (
    bits_per_byte,
    log_softmax,
    logits_of,
    token_losses,
    windows,
)
from neurosim.models.spike_transformer_folded import FoldedSpikeTransformer
from neurosim.models.text.tokenizer import Tokenizer


@pytest.mark.parametrize("length", [2, 7, 8, 9, 21])
def test_windows_predict_every_token_once(length: int) -> None:
    """Each begins with the last token before it; only the stream's first is never predicted."""
    stream = np.arange(length, dtype=np.uint16) + 100
    parts = list(windows(stream, 4))
    np.testing.assert_array_equal(np.concatenate([part[1:] for part in parts]), stream[1:])
    for part, before in zip(parts[1:], parts[:-1], strict=True):
        assert part[0] == before[-1]
        assert len(before) == 5
    assert all(2 <= len(part) <= 5 and part.dtype == np.int64 for part in parts)


def test_at_most_so_many_windows() -> None:
    parts = [part.tolist() for part in windows(np.arange(100), 4, 3)]
    assert parts == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8], [8, 9, 10, 11, 12]]
    with pytest.raises(ValueError, match="at least 2 tokens, got 1"):
        list(windows(np.arange(1), 4))


def test_log_softmax() -> None:
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 1000.0], [-5.0, 800.0]])
    expected = np.log([[0.25, 0.75], [0.5, 0.5], [1.0, 1.0]])
    expected[2, 0] = -805.0
    np.testing.assert_allclose(log_softmax(logits), expected, atol=1e-12)
    assert log_softmax(logits.astype(np.float32)).dtype == np.float64


def test_losses_by_hand() -> None:
    """A model that always gives token 1 three times the odds of the others, V = 4."""
    stream = np.array([1, 1, 2, 1, 0, 3])
    seen = []

    def logits(ids: np.ndarray) -> np.ndarray:
        seen.append(ids.tolist())
        return np.log(np.tile([1.0, 3.0, 1.0, 1.0], (len(ids), 1)))

    losses = token_losses(logits, stream, 2)
    np.testing.assert_allclose(np.exp(-losses), [0.5, 1 / 6, 0.5, 1 / 6, 1 / 6])
    assert seen == [[1, 1], [2, 1], [0]]  # no target among the inputs of its own window's end
    assert len(token_losses(logits, stream, 2, 2)) == 4


def test_bits_per_byte_by_hand(tokenizer: Tokenizer) -> None:
    """3 tokens of known length and one end-of-text, which costs bits and stands for no byte."""
    ids = np.array([*tokenizer.encode("e"), *tokenizer.encode("é"), tokenizer.end_of_text])
    size = len("eé".encode())
    losses = np.full(len(ids), np.log(4.0))  # 2 bits each
    assert bits_per_byte(losses, ids, tokenizer) == pytest.approx(2 * len(ids) / size)
    with pytest.raises(ValueError, match=r"one loss a token, got \(2,\)"):
        bits_per_byte(losses[:2], ids, tokenizer)


def test_a_uniform_model_pays_log2_v_per_token(tokenizer: Tokenizer) -> None:
    text = "The history of the city begins with a river."
    ids = np.array([tokenizer.end_of_text, *tokenizer.encode(text)])
    losses = token_losses(lambda part: np.zeros((len(part), tokenizer.vocab_size)), ids, 8)
    expected = (len(ids) - 1) * np.log2(tokenizer.vocab_size) / len(text.encode())
    assert bits_per_byte(losses, ids[1:], tokenizer) == pytest.approx(expected)


def test_logits_of_every_kind_of_model() -> None:
    """Float models give their own logits, the folded one its integers times the logit unit."""
    ids = tokens(12).astype(np.int64)
    twin, spiking = twin_model(0), spiking_model(0)
    folded = FoldedSpikeTransformer.fold(spiking)
    integers, _ = folded.forward(ids)
    np.testing.assert_allclose(logits_of(folded)(ids), integers * folded.logit_unit)
    assert logits_of(twin)(ids).shape == logits_of(spiking)(ids).shape == (12, 50)
    assert np.corrcoef(logits_of(spiking)(ids).ravel(), logits_of(folded)(ids).ravel())[0, 1] > 0.8
