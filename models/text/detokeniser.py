"""Bytes of every token, ids of plain text, and text from a stream of tokens."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from typing import Any

import tokenizers

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>$")
_SPACE = "\u2581"  # SentencePiece's mark for a space


def _byte_of() -> dict[str, int]:
    """Character of the byte-level alphabet (Radford et al. 2019) -> byte."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    alphabet = {chr(byte): byte for byte in own}
    return alphabet | {chr(256 + i): byte for i, byte in enumerate(others)}


def _kinds(part: Any) -> set[str]:
    """Types of a decoder of tokenizer.json and of what it is made of."""
    if not isinstance(part, dict):
        return set()
    inner = [kind for child in part.get("decoders", []) for kind in _kinds(child)]
    return {str(part.get("type")), *inner}


def token_bytes(backend: tokenizers.Tokenizer) -> list[bytes]:
    """The bytes each id stands for; special tokens and unused ids stand for none.

    Known are byte-level BPE (GPT-2, Qwen2, Llama 3, SmolLM2) and BPE with byte fallback (Llama 2).
    """
    data = json.loads(backend.to_str())
    kinds = _kinds(data.get("decoder"))
    added = {item["id"]: item for item in data.get("added_tokens", [])}
    vocabulary = backend.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocabulary.values(), default=-1) + 1)
    byte_of = _byte_of()
    if "ByteLevel" not in kinds and "ByteFallback" not in kinds:
        raise ValueError(
            "expected byte-level BPE or BPE with byte fallback, got a tokenizer that decodes by "
            f"{', '.join(sorted(kinds)) or 'nothing'}; use the model's own tokenizer.json"
        )
    for token, index in vocabulary.items():
        if index in added:
            table[index] = b"" if added[index]["special"] else token.encode()
        elif "ByteLevel" in kinds:
            known = all(character in byte_of for character in token)
            table[index] = bytes(byte_of[c] for c in token) if known else token.encode()
        elif found := _BYTE.match(token):
            table[index] = bytes([int(found[1], 16)])
        else:
            table[index] = token.replace(_SPACE, " ").encode()
    return table


def plain_ids(backend: tokenizers.Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts, nothing added; refuses what UTF-8 cannot write."""
    try:
        encodings = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    except (TypeError, UnicodeEncodeError) as error:
        raise ValueError(
            f"expected text that UTF-8 can write, without lone surrogates ({error})"
        ) from error
    return [list(encoding.ids) for encoding in encodings]


class Detokeniser:
    """Text of a stream of tokens: `add` gives what has become complete, `finish` the rest.

    A character whose bytes come in several tokens is held back until it is whole; bytes that are
    no UTF-8 become U+FFFD. Special tokens give no text.
    """

    def __init__(self, table: Sequence[bytes]) -> None:
        self._table = table
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """The text that this token completes, often empty in the middle of a character."""
        if token < 0:
            raise ValueError(f"expected a token id of 0 or more, got {token}")
        known = token < len(self._table)
        return self._decoder.decode(self._table[token] if known else b"")

    def finish(self) -> str:
        """What is left at the end: U+FFFD for an unfinished character."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text
