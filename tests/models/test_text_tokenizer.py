"""Byte-level BPE: exact round trip and byte counts, training, token streams."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.models.text import cache, tokenizer
from neurosim.models.text.cleaning import Document
from neurosim.models.text.corpus import sample_documents
from neurosim.models.text.fetch import fetch
from neurosim.models.text.sources import SOURCES, Source, SourceFile
from neurosim.models.text.tokenizer import (
    END_OF_TEXT,
    Tokenizer,
    document_text,
    split_stream,
    stream_path,
    token_stream,
)

AWKWARD = [
    "",
    " ",
    "\n\n",
    "a  b\t\n c ",
    "\x00\x7f",
    "naïve 漢字 🧠 e\u0301",
    f"x{END_OF_TEXT}y",
    "don't",
]


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return Tokenizer.train((d.text for d in sample_documents()), 400)


def check_round_trip(trained: Tokenizer, text: str) -> None:
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert trained.end_of_text not in ids
    assert trained.bytes_per_token(ids).sum() == len(text.encode())


@pytest.mark.parametrize("text", AWKWARD, ids=repr)
def test_round_trip_of_awkward_texts(trained: Tokenizer, text: str) -> None:
    check_round_trip(trained, text)


@examples(200)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_round_trip_of_any_text(trained: Tokenizer, text: str) -> None:
    check_round_trip(trained, text)


def test_bytes_of_every_token(trained: Tokenizer) -> None:
    """Token by token, against the byte counts of a text of one-token pieces."""
    text = sample_documents()[0].text
    ids = trained.encode(text)
    assert trained.bytes_per_token(ids).tolist() == [len(trained.decode([i])) for i in ids]
    assert trained.bytes_per_token([0]).tolist() == [0]
    assert trained.bytes_per_token([]).shape == (0,)
    assert trained.bytes_per_token(np.zeros((2, 3), np.uint16)).shape == (2, 3)


def test_training_is_reproducible_and_saves(trained: Tokenizer, tmp_path: Path) -> None:
    assert trained.vocab_size == 400
    again = Tokenizer.train((d.text for d in sample_documents()), 400)
    assert again.sha256 == trained.sha256
    trained.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.sha256 == trained.sha256
    assert loaded.encode(f"tide {END_OF_TEXT}") == trained.encode(f"tide {END_OF_TEXT}")
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]
    # The file is the library's own format: it reads the same without this class.
    plain = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert plain.encode("The tide rises.").ids == trained.encode("The tide rises.")


def test_merges_shorten_what_they_were_trained_on(trained: Tokenizer) -> None:
    text = sample_documents()[3].text
    assert len(trained.encode(text)) < 0.7 * len(text.encode())


def test_document_text_names_its_subject() -> None:
    assert document_text(Document("Tide", "In the sea, tides are waves.")) == (
        "In the sea, tides are waves."
    )
    assert document_text(Document("Apology (Plato)", "The Apology is a dialogue.")) == (
        "The Apology is a dialogue."
    )
    assert document_text(Document("widget", "A thing in use.")) == "widget: A thing in use."
    assert document_text(Document("sea", "x" * 70 + " sea")).startswith("sea: ")


def test_token_stream(trained: Tokenizer) -> None:
    documents = sample_documents()
    stream = token_stream(documents, trained, seed=1)
    assert stream.dtype == np.uint16
    assert stream[-1] == trained.end_of_text
    parts = np.split(stream, np.flatnonzero(stream == 0) + 1)[:-1]
    texts = [trained.decode(part) for part in parts]
    assert sorted(texts) == sorted(map(document_text, documents))
    np.testing.assert_array_equal(stream, token_stream(documents, trained, seed=1))
    other = token_stream(documents, trained, seed=2)
    assert len(other) == len(stream) and not np.array_equal(other, stream)
    assert token_stream([], trained, seed=0).shape == (0,)


def test_streams_are_cached_by_tokenizer_split_seed_and_text(
    trained: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROSIM_CACHE", str(tmp_path))
    entries = {d.title: {"title": d.title, "extract": d.text} for d in sample_documents()}
    content = json.dumps(entries).encode()
    file = SourceFile("data.json", hashlib.sha256(content).hexdigest())
    item = dataclasses.replace(SOURCES[0], files=(file,))
    for module in ("sources", "corpus", "fetch", "tokenizer"):
        monkeypatch.setattr(f"neurosim.models.text.{module}.SOURCES", (item,))

    def downloader(wanted: Source, directory: Path) -> None:
        directory.mkdir(parents=True)
        (directory / "data.json").write_bytes(content)

    fetch(downloader=downloader)
    stream = split_stream("train", trained, seed=3)
    calls: list[int] = []
    monkeypatch.setattr(tokenizer, "token_stream", lambda *a: calls.append(1))
    np.testing.assert_array_equal(split_stream("train", trained, seed=3, sources=["vital"]), stream)
    assert not calls
    with pytest.raises(ValueError, match="read-only"):
        stream[0] = 1
    path = stream_path("train", trained, seed=3)
    smaller = Tokenizer.train((d.text for d in sample_documents()), 300)
    others = [
        stream_path("test", trained, seed=3),
        stream_path("train", trained, seed=4),
        stream_path("train", smaller, seed=3),
    ]
    cache.record("vital", cache.manifest()["vital"] | {"sha256": "changed"})
    others.append(stream_path("train", trained, seed=3))
    assert len({path, *others}) == 5
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_bad_input(trained: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 257"):
        Tokenizer.train(["text"], 256)
    with pytest.raises(ValueError, match="from 0 to 399, got 400 to 400"):
        trained.decode([400])
    with pytest.raises(ValueError, match="from 0 to 399, got -1"):
        trained.bytes_per_token([-1])
    with pytest.raises(ValueError, match="without lone surrogates"):
        trained.encode("\ud800")
    with pytest.raises(ValueError, match="no such file"):
        Tokenizer.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match=r"bad\.json is not a tokenizer"):
        Tokenizer.load(tmp_path / "bad.json")
    foreign = tokenizers.Tokenizer(tokenizers.models.BPE())
    with pytest.raises(ValueError, match="token 0 is"):
        Tokenizer(foreign)
