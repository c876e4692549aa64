"""Byte-level BPE: training, exact round trip, bytes per token, and token streams of documents."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import decoders, models, pre_tokenizers, trainers

from neurosim.models.text import cache
from neurosim.models.text.chat_tokenizer import ChatTokenizer
from neurosim.models.text.cleaning import Document
from neurosim.models.text.corpus import load_split
from neurosim.models.text.detokeniser import Detokeniser, plain_ids, token_bytes
from neurosim.models.text.sources import SOURCES, source

END_OF_TEXT = "<|endoftext|>"
_OPENING = 60  # characters, beside the title, in which a text is expected to name its subject
_FORMAT = 2  # of the streams; part of their cache key
_BATCH = 4096  # documents encoded at a time
_SMALLEST_VOCABULARY = 257  # 256 bytes and end-of-text


class Tokenizer:
    """A byte-level BPE with one special token, end-of-text, whose id is 0.

    `decode(encode(text)) == text` for every text; the special token's spelling inside a text is
    encoded as ordinary characters, so a document cannot end itself.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        if backend.token_to_id(END_OF_TEXT) != 0:
            raise ValueError(
                f"expected a tokenizer whose token 0 is {END_OF_TEXT!r}, "
                f"got {backend.id_to_token(0)!r} there; train one with Tokenizer.train"
            )
        backend.encode_special_tokens = True
        self._backend = backend
        tokens = [backend.id_to_token(i) or "" for i in range(backend.get_vocab_size())]
        # In the byte-level alphabet one character stands for one byte.
        self._bytes = np.array([0] + [len(token) for token in tokens[1:]], dtype=np.int64)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 2048) -> Tokenizer:
        """Learn merges from texts (Sennrich et al. 2016, on bytes as in GPT-2, 2019)."""
        if vocab_size < _SMALLEST_VOCABULARY:
            raise ValueError(
                f"expected a vocabulary of at least {_SMALLEST_VOCABULARY} (256 bytes and "
                f"end-of-text), got {vocab_size}"
            )
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        return cls(backend)

    @classmethod
    def load(cls, path: Path | str) -> Tokenizer:
        """Read a `tokenizer.json`."""
        try:
            backend = tokenizers.Tokenizer.from_str(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ValueError(
                f"expected a tokenizer.json at {path}, there is no such file"
            ) from error
        except Exception as error:  # the library raises bare Exception for bad content
            raise ValueError(f"{path} is not a tokenizer.json: {error}") from error
        return cls(backend)

    def save(self, path: Path | str) -> None:
        """Write `tokenizer.json` (the format of the `tokenizers` library and Hugging Face)."""
        cache.replace_text(Path(path), self._backend.to_str(pretty=True) + "\n")

    @property
    def vocab_size(self) -> int:
        """Number of tokens, end-of-text included."""
        return len(self._bytes)

    @property
    def end_of_text(self) -> int:
        """Id of the document separator."""
        return 0

    @property
    def sha256(self) -> str:
        """Identity of the tokenizer: sha256 of its JSON."""
        return hashlib.sha256(self._backend.to_str().encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; end-of-text is not added."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of several texts."""
        return plain_ids(self._backend, texts)

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """The text of token ids; end-of-text is left out, broken UTF-8 becomes U+FFFD."""
        self.bytes_per_token(ids)
        return str(self._backend.decode([int(i) for i in ids], skip_special_tokens=True))

    def detokeniser(self) -> Detokeniser:
        """For text as it is generated."""
        return Detokeniser(token_bytes(self._backend))

    def bytes_per_token(self, ids: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
        """UTF-8 bytes each token stands for, the shape of `ids`; end-of-text stands for 0."""
        index = np.asarray(ids, dtype=np.int64)
        if index.size and not (index.min() >= 0 and index.max() < self.vocab_size):
            raise ValueError(
                f"expected token ids from 0 to {self.vocab_size - 1}, "
                f"got {index.min()} to {index.max()}"
            )
        return self._bytes[index]

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, sha256={self.sha256[:12]})"


def document_text(document: Document) -> str:
    """What a model reads: the text, after "title: " where its opening does not name the title.

    "Aria" and "In music, an aria is ..." need no title; a FOLDOC entry, which never names its head
    word, does. A bracket that tells titles apart ("Apology (Plato)") does not count.
    """
    name = re.sub(r"\s*\([^()]*\)$", "", document.title).casefold()
    opening = document.text[: len(name) + _OPENING].casefold()
    return document.text if name in opening else f"{document.title}: {document.text}"


def token_stream(
    documents: Sequence[Document], tokenizer: Tokenizer | ChatTokenizer, seed: int
) -> NDArray[np.unsignedinteger]:
    """All documents in one stream, shuffled by `seed`, each followed by end-of-text; (L,).

    uint16, or uint32 for vocabularies of more than 65,536 tokens.
    """
    kind = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
    order = np.random.default_rng(seed).permutation(len(documents))
    pieces = []
    for start in range(0, len(order), _BATCH):
        texts = [document_text(documents[i]) for i in order[start : start + _BATCH]]
        for ids in tokenizer.encode_many(texts):
            pieces.append(np.array([*ids, tokenizer.end_of_text], dtype=kind))
    return np.concatenate(pieces) if pieces else np.zeros(0, kind)


def split_stream(
    split: str,
    tokenizer: Tokenizer | ChatTokenizer,
    seed: int = 0,
    sources: Iterable[str] | None = None,
) -> NDArray[np.unsignedinteger]:
    """The token stream of one split of the cached texts; itself cached, read-only; (L,)."""
    path = stream_path(split, tokenizer, seed, sources)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{os.getpid()}-{path.name}")
        np.save(temporary, token_stream(load_split(split, sources), tokenizer, seed))
        temporary.replace(path)
    stream: NDArray[np.unsignedinteger] = np.load(path, mmap_mode="r")
    return stream


def stream_path(
    split: str,
    tokenizer: Tokenizer | ChatTokenizer,
    seed: int = 0,
    sources: Iterable[str] | None = None,
) -> Path:
    """Where `split_stream` keeps a stream: by tokenizer, split, seed and the texts' hashes."""
    names = {s.name for s in SOURCES} if sources is None else {source(n).name for n in sources}
    entries = cache.manifest()
    texts = {name: entries.get(name, {}).get("sha256", "") for name in sorted(names)}
    key = json.dumps([_FORMAT, tokenizer.sha256, split, seed, texts], sort_keys=True)
    name = f"{split}-{tokenizer.vocab_size}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    return cache.cache_directory() / "tokens" / name
