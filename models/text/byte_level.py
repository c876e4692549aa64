"""Byte-level BPE tokenizers built from a vocabulary, merges and the name of a splitting rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

_CONTRACTION = "'s|'t|'re|'ve|'m|'ll|'d"
_GPT2 = rf"{_CONTRACTION}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)"


def _modern(digits: str) -> str:
    """Contractions, words with one leading mark, numbers, punctuation runs, line ends, spaces."""
    words = r"[^\r\n\p{L}\p{N}]?\p{L}+"
    marks = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
    return rf"(?i:{_CONTRACTION})|{words}|{digits}|{marks}|\s*[\r\n]+|\s+(?!\S)|\s+"


_PATTERNS: Mapping[str, tuple[str, ...]] = {
    "gpt-2": (),
    "smollm": (),
    "qwen2": (_modern(r"\p{N}"),),
    "llama-bpe": (_modern(r"\p{N}{1,3}"),),
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
}
KINDS = tuple(_PATTERNS)
"""How text is split before merging, by the names llama.cpp gives (`tokenizer.ggml.pre`)."""


def build(
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    kind: str,
    added: Iterable[tuple[int, AddedToken]] = (),
    prefix: str | None = None,
) -> tokenizers.Tokenizer:
    """A tokenizer from its parts.

    Args:
        vocabulary: token in the byte-level alphabet -> id.
        merges: pairs by rank.
        kind: the splitting rule, one of `KINDS`.
        added: (id, token) of special and other whole tokens; each must end up with that id.
        prefix: a special token put before every document (Llama 3).
    """
    if kind not in _PATTERNS:
        raise ValueError(f"expected a byte-level BPE split as {', '.join(KINDS)}, got {kind!r}")
    try:
        model = models.BPE(dict(vocabulary), list(merges), ignore_merges=kind == "llama-bpe")
    except Exception as error:  # the library raises bare Exception, for instance for a bad merge
        raise ValueError(f"vocabulary and merges do not belong together: {error}") from error
    backend = tokenizers.Tokenizer(model)
    if kind == "qwen2":
        backend.normalizer = normalizers.NFC()
    steps: list[pre_tokenizers.PreTokenizer]
    steps = [pre_tokenizers.Split(Regex(text), "isolated") for text in _PATTERNS[kind]]
    if kind == "smollm":
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not _PATTERNS[kind]))
    backend.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    for index, token in sorted(added, key=lambda item: item[0]):
        backend.add_tokens([token])
        if backend.token_to_id(token.content) != index:
            raise ValueError(
                f"expected {token.content!r} to have the id {index}, the vocabulary leaves "
                f"{backend.token_to_id(token.content)} for it; do these files belong together?"
            )
    if prefix is not None:
        first = backend.token_to_id(prefix)
        if first is None:
            raise ValueError(f"expected {prefix!r} in the vocabulary")
        backend.post_processor = processors.TemplateProcessing(
            single=f"{prefix} $A", pair=f"{prefix} $A {prefix} $B", special_tokens=[(prefix, first)]
        )
    return backend
