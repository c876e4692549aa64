"""Documents of the cached texts, split by title; and the small text that ships with the package."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from neurosim.models.text import cache
from neurosim.models.text.cleaning import Document
from neurosim.models.text.fetch import cleaned_path, is_cached
from neurosim.models.text.sources import SOURCES, Source, source

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
HELD_OUT_FRACTION = 0.03  # of the titles, for validation and again for test


@dataclass(frozen=True)
class SourceStatus:
    """A source and what the cache holds of it; counts are 0 where it is not cached."""

    source: Source
    cached: bool
    path: Path
    documents: int
    text_bytes: int


def list_sources() -> list[SourceStatus]:
    """Every known source with its state in the cache."""
    entries = cache.manifest()
    result = []
    for item in SOURCES:
        cached = is_cached(item)
        entry = entries[item.name] if cached else {"documents": 0, "text_bytes": 0}
        path = cleaned_path(item.name)
        result.append(SourceStatus(item, cached, path, entry["documents"], entry["text_bytes"]))
    return result


def split_of(title: str) -> Split:
    """The split of every document with this title, in whatever source.

    The first 8 bytes of sha256 of the title (NFC, case folded, single spaces) as a number in
    [0, 1): below 0.03 test, below 0.06 validation, else train.
    """
    key = " ".join(unicodedata.normalize("NFC", title).casefold().split())
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2.0**64
    if number < HELD_OUT_FRACTION:
        return "test"
    return "validation" if number < 2.0 * HELD_OUT_FRACTION else "train"


def unique(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents without those whose text came before."""
    seen: set[str] = set()
    for document in documents:
        if document.text not in seen:
            seen.add(document.text)
            yield document


def _cached_documents(item: Source) -> Iterator[Document]:
    if not is_cached(item):
        raise ValueError(
            f"text source {item.name} is not in the cache {cache.text_directory()}; "
            f"run `neurosim data fetch {item.name}`"
        )
    with cleaned_path(item.name).open(encoding="utf-8") as stream:
        for line in stream:
            entry = json.loads(line)
            yield Document(entry["title"], entry["text"], item.name)


def load_split(split: str, sources: Iterable[str] | None = None) -> list[Document]:
    """Documents of one split of the cached texts, in a fixed order.

    No title and no text is in two splits: the title decides the split, and of equal texts under
    several titles only the first is kept, in the order of `SOURCES` whatever the order asked for
    (so a text of `vital` always stays with `vital`).

    Args:
        split: "train", "validation" or "test".
        sources: names; None means all.
    """
    if split not in SPLITS:
        raise ValueError(f"expected a split of {', '.join(SPLITS)}, got {split!r}")
    names = None if sources is None else {source(name).name for name in sources}
    chosen = [item for item in SOURCES if names is None or item.name in names]
    documents = (document for item in chosen for document in _cached_documents(item))
    return [document for document in unique(documents) if split_of(document.title) == split]


def sample_documents() -> list[Document]:
    """The short encyclopaedic articles that ship with the package (own text, Apache-2.0)."""
    text = (files("neurosim.models.text") / "sample.txt").read_text(encoding="utf-8")
    documents = []
    for block in text.strip().split("\n\n"):
        title, _, body = block.partition("\n")
        documents.append(Document(title, body, "sample"))
    return documents
