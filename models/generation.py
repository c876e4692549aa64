"""Text from any model of this package, in the manner of mlx-lm: `generate`, `stream_generate`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.models.evaluation import log_softmax, logits_of
from neurosim.models.sampling import Sampler
from neurosim.models.spike_transformer import SpikeTransformer
from neurosim.models.spike_transformer_folded import FoldedSpikeTransformer
from neurosim.models.text.detokeniser import Detokeniser
from neurosim.models.transformer import Transformer

GREEDY = Sampler(temperature=0.0, banned=None)
Logits = npt.NDArray[np.floating]


class TextTokenizer(Protocol):
    """What generation needs of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""

    def detokeniser(self) -> Detokeniser:
        """Text of a stream of ids."""

    @property
    def end_of_text(self) -> int:
        """Id that ends a document."""


class CachedModel(Protocol):
    """What generation needs of a model with a cache."""

    def new_cache(self) -> Any:
        """An empty cache."""

    def __call__(self, ids: Any, cache: Any = None, *, listener: Any = None, last: bool) -> Any:
        """Logits (V,) of the last token of ids (L,)."""


@dataclass(frozen=True)
class GenerationResponse:
    """One step of `stream_generate`.

    Attributes:
        text: what has become readable with this token ("" inside a character, or while it may be
            the beginning of a stop string).
        token, log_probability: the token, and its log probability in nats before temperature.
        prompt_tokens, prompt_tps: tokens of the prompt, and how many a second.
        generation_tokens, generation_tps: tokens so far, and how many a second after the first,
            which comes with the prompt (0 at the first).
        finish_reason: None, "stop" or "length".
    """

    text: str
    token: int
    log_probability: float
    prompt_tokens: int
    prompt_tps: float
    generation_tokens: int
    generation_tps: float
    finish_reason: str | None = None


class _Recompute:
    """A model without a cache as one that has one: every step runs its whole window again."""

    def __init__(self, model: SpikeTransformer | FoldedSpikeTransformer | Transformer) -> None:
        folded = FoldedSpikeTransformer.fold(model) if isinstance(model, SpikeTransformer) else None
        self._logits = logits_of(folded or model)
        self._context = model.config.context

    def new_cache(self) -> list[int]:
        return []

    def __call__(
        self, ids: Any, cache: list[int], *, listener: Any = None, last: bool = True
    ) -> Logits:
        if listener is not None:
            raise ValueError("this model has no listener for its spikes; use neurosim.run")
        cache.extend(int(i) for i in ids)
        logits: Logits = self._logits(np.array(cache[-self._context :]))
        return np.asarray(logits[-1])


def with_cache(model: Any) -> CachedModel:
    """A model as generation calls it; refuses what is no language model."""
    if isinstance(model, SpikeTransformer | FoldedSpikeTransformer | Transformer):
        return _Recompute(model)  # type: ignore[return-value]
    if not hasattr(model, "new_cache"):
        raise ValueError(
            f"expected a language model of neurosim.models, got a {type(model).__name__}"
        )
    return model  # type: ignore[no-any-return]


class _StopStrings:
    """Holds back text that may be the beginning of a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        if any(not stop for stop in stops):
            raise ValueError("expected stop strings of at least one character, got an empty one")
        self._stops, self._held = tuple(stops), ""

    def add(self, text: str) -> tuple[str, bool]:
        """Text that is safe to show, and whether a stop string has come."""
        held = self._held + text
        found = [at for stop in self._stops if (at := held.find(stop)) >= 0]
        if found:
            self._held = ""
            return held[: min(found)], True
        keep = max((_overlap(held, stop) for stop in self._stops), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep], False

    def rest(self) -> str:
        """What was held back when nothing more comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)


def prompt_ids(tokenizer: TextTokenizer, prompt: str | Sequence[int]) -> list[int]:
    """Ids of a prompt, with what the model expects before a document."""
    if not isinstance(prompt, str):
        return [int(i) for i in prompt]
    before = getattr(tokenizer, "prefix_ids", None)
    if before is None:  # the package's own models read texts after an end-of-text
        before = (tokenizer.end_of_text,)
    return [*before, *tokenizer.encode(prompt)]


def stream_generate(
    model: Any,
    tokenizer: TextTokenizer,
    prompt: str | Sequence[int],
    max_tokens: int = 256,
    sampler: Sampler = GREEDY,
    stop: Sequence[str] = (),
    seed: int = 0,
    cache: Any = None,
    listener: Any = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[GenerationResponse]:
    """Generate token by token.

    Args:
        model, tokenizer: as `neurosim.models.load` gives them.
        prompt: text, or token ids (for a chat: `tokenizer.apply_chat_template(messages)`).
        max_tokens: the most to generate, >= 1.
        sampler: how the next token is chosen; default: the largest logit.
        stop: strings that end the text; they are not part of it.
        seed: of the sampling.
        cache: from `model.new_cache()`, to go on after a text; it holds all but the last token
            afterwards.
        listener: told about every spike count, see `neurosim.models.braingpt.sites`.
        clock: seconds, for the rates.

    Yields:
        One response a token; the last one has a `finish_reason`.

    Raises:
        ValueError: empty prompt, impossible numbers, ids beyond the vocabulary.
    """
    if max_tokens < 1:
        raise ValueError(f"expected max_tokens >= 1, got {max_tokens}")
    runner = with_cache(model)
    ids = prompt_ids(tokenizer, prompt)
    if not ids:
        raise ValueError("expected a prompt of at least one token, got an empty one")
    stops = _StopStrings([stop] if isinstance(stop, str) else stop)
    ends = set(getattr(tokenizer, "stop_ids", ())) or {tokenizer.end_of_text}
    ends |= set(getattr(model.config, "stop_ids", ()))
    cache = runner.new_cache() if cache is None else cache
    generator = np.random.default_rng(seed)
    stream = tokenizer.detokeniser()
    started = clock()
    logits = _host(runner(np.array(ids), cache, listener=listener, last=True))
    prompted = clock()
    for count in range(1, max_tokens + 1):
        token = sampler.choose(logits, generator)
        text, reason = "", None
        if token in ends:
            reason = "stop"
        else:
            text, stopped = stops.add(stream.add(token))
            reason = "stop" if stopped else None
        if reason is None and count == max_tokens:
            reason = "length"
        if reason == "length" or token in ends:
            tail, stopped = stops.add(stream.finish())
            text += tail if stopped else tail + stops.rest()
        now = clock()
        yield GenerationResponse(
            text,
            token,
            float(log_softmax(logits)[token]),
            len(ids),
            len(ids) / max(prompted - started, 1e-9),
            count,
            (count - 1) / max(now - prompted, 1e-9),
            reason,
        )
        if reason is not None:
            return
        logits = _host(runner(np.array([token]), cache, listener=listener, last=True))


def _host(logits: Any) -> Logits:
    return np.asarray(logits) if isinstance(logits, mx.array) else logits


def generate(
    model: Any,
    tokenizer: TextTokenizer,
    prompt: str | Sequence[int],
    verbose: bool = False,
    max_tokens: int = 256,
    sampler: Sampler = GREEDY,
    stop: Sequence[str] = (),
    seed: int = 0,
) -> str:
    """The text that follows a prompt; arguments as those of `stream_generate`.

    With `verbose` it is printed as it comes, with the tokens per second at the end.
    """
    parts = []
    response = None
    for response in stream_generate(model, tokenizer, prompt, max_tokens, sampler, stop, seed):
        parts.append(response.text)
        if verbose:
            print(response.text, end="", flush=True)
    if verbose and response is not None:
        print(f"\n{speed(response)}")
    return "".join(parts)


def speed(response: GenerationResponse) -> str:
    """Tokens per second in words."""
    return (
        f"prompt: {response.prompt_tokens} tokens, {response.prompt_tps:.1f} tokens/s; "
        f"generation: {response.generation_tokens} tokens"
        + (f", {response.generation_tps:.1f} tokens/s" if response.generation_tokens > 1 else "")
    )
