"""Held-out comparison on the test split of the vital summaries: model, ANN twin, n-gram.

All three see the same predicted tokens; the neural models read windows of their context, the n-gram
the whole stream. The n-gram learns from every source whose text is available.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.models.checkpoint import LoadedModel
from neurosim.models.evaluation import bits_per_byte, logits_of, token_losses
from neurosim.models.loading import LoadedBrainGPT
from neurosim.models.ngram import KneserNey
from neurosim.models.spike_transformer import SpikeTransformer
from neurosim.models.spike_transformer_folded import FoldedSpikeTransformer
from neurosim.models.text.chat_tokenizer import ChatTokenizer
from neurosim.models.text.fetch import fetch
from neurosim.models.text.sources import SOURCES
from neurosim.models.text.tokenizer import Tokenizer, split_stream

TEST_SOURCE = "vital"
NGRAM_ORDER = 5
Tell = Callable[[str], None]


def available_sources(tell: Tell) -> list[str]:
    """Names of the sources at hand after fetching what can be fetched; the test source must be."""
    fetch([TEST_SOURCE], progress=lambda name, stage: tell(f"{name}: {stage}"))
    found = []
    for source in SOURCES:
        try:
            fetch([source.name], progress=lambda name, stage: tell(f"{name}: {stage}"))
            found.append(source.name)
        except (ValueError, OSError) as error:
            tell(f"going on without {source.name}: {error}")
    return found


def test_stream(tokenizer: Tokenizer) -> npt.NDArray[np.unsignedinteger]:
    """The held-out stream (L,): test documents of the vital summaries, each ended."""
    return split_stream("test", tokenizer, sources=[TEST_SOURCE])


def held_out(
    loaded: LoadedModel, stream: npt.NDArray[np.integer], most: int | None = None
) -> float:
    """Bits per byte of a model over the first `most` windows of a stream (None: all).

    A spiking model is evaluated in the integers that the chip runs.
    """
    model = loaded.model
    runner = FoldedSpikeTransformer.fold(model) if isinstance(model, SpikeTransformer) else model
    losses = token_losses(logits_of(runner), stream, model.config.context, most)
    return bits_per_byte(losses, stream[1 : len(losses) + 1], loaded.tokenizer)


def held_out_tokens(
    tokenizer: Tokenizer | ChatTokenizer, tokens: int
) -> npt.NDArray[np.unsignedinteger]:
    """The first `tokens` + 1 of the held-out stream; where test is short, validation follows."""
    fetch([TEST_SOURCE])
    stream: npt.NDArray[np.unsignedinteger] = split_stream("test", tokenizer, sources=[TEST_SOURCE])
    if len(stream) <= tokens:
        more = split_stream("validation", tokenizer, sources=[TEST_SOURCE])
        stream = np.concatenate([stream, more])
    return stream[: tokens + 1]


def quality(
    loaded: LoadedBrainGPT,
    stream: npt.NDArray[np.integer],
    window: int,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Perplexity per token and bits per byte of a stream, in windows that start afresh."""
    losses = token_losses(logits_of(loaded.model), stream, window, None, tell)
    return {
        "model": loaded.name,
        "how": repr(loaded.model),
        "tokens": len(losses),
        "window": window,
        "nats_per_token": float(losses.mean()),
        "standard_error": float(losses.std() / np.sqrt(len(losses))),
        "perplexity": float(np.exp(losses.mean())),
        "bits_per_byte": bits_per_byte(losses, stream[1 : len(losses) + 1], loaded.tokenizer),
    }


def ngram_bits_per_byte(
    tokenizer: Tokenizer, stream: npt.NDArray[np.integer], sources: list[str]
) -> float:
    """Bits per byte of a modified Kneser-Ney 5-gram fitted to the train split of `sources`."""
    train = split_stream("train", tokenizer, sources=sources)
    fitted = KneserNey.fit(train, tokenizer.vocab_size, NGRAM_ORDER, tokenizer.end_of_text)
    losses = -fitted.log_probabilities(stream)[1:]  # the neural models are not asked for the first
    return bits_per_byte(losses, stream[1:], tokenizer)


def compare_held_out(loaded: LoadedModel, twin: LoadedModel, tell: Tell) -> dict[str, Any]:
    """Everything `neurosim eval` prints about quality, in plain values."""
    if loaded.tokenizer.sha256 != twin.tokenizer.sha256:
        raise ValueError(
            f"{loaded.folder} and {twin.folder} have different tokenizers; their bits per byte "
            "would be of different tokens"
        )
    sources = available_sources(tell)
    stream = test_stream(loaded.tokenizer)
    tell(f"{loaded.name}: {len(stream) - 1} tokens")
    own = held_out(loaded, stream)
    tell(f"{twin.name}: {len(stream) - 1} tokens")
    theirs = held_out(twin, stream)
    tell(f"Kneser-Ney {NGRAM_ORDER}-gram on {', '.join(sources)}")
    ngram = ngram_bits_per_byte(loaded.tokenizer, stream, sources)
    return {
        "test": {
            "source": TEST_SOURCE,
            "tokens": len(stream) - 1,
            "bytes": int(loaded.tokenizer.bytes_per_token(stream[1:]).sum()),
        },
        "model": {
            "name": loaded.name,
            "sha256": loaded.sha256,
            "parameters": loaded.parameters,
            "bits_per_byte": own,
        },
        "ann_twin": {
            "name": twin.name,
            "sha256": twin.sha256,
            "parameters": twin.parameters,
            "bits_per_byte": theirs,
        },
        "kneser_ney": {"order": NGRAM_ORDER, "trained_on": sources, "bits_per_byte": ngram},
        "over_twin": own / theirs - 1,
    }
