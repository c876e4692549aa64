"""Fetch, check, clean and cache the texts; a failure leaves the cache as it was."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from neurosim.models.text import cache
from neurosim.models.text.cleaning import CLEANING_VERSION, read
from neurosim.models.text.download import download
from neurosim.models.text.sources import SOURCES, Source, source

Downloader = Callable[[Source, Path], None]
Progress = Callable[[str, str], None]


def cleaned_path(name: str) -> Path:
    """The cached, cleaned text of a source: JSON lines of {title, text}."""
    return cache.text_directory() / f"{name}.jsonl"


def is_cached(wanted: Source) -> bool:
    """Whether the cleaned text is there, complete, from these files and by this cleaning."""
    entry = cache.manifest().get(wanted.name)
    path = cleaned_path(wanted.name)
    return (
        entry is not None
        and entry.get("cleaning_version") == CLEANING_VERSION
        and entry.get("raw_sha256") == {file.path: file.sha256 for file in wanted.files}
        and path.exists()
        and path.stat().st_size == entry.get("file_bytes")
    )


def _check(wanted: Source, directory: Path) -> None:
    """Every file is there and has the hash on record."""
    for file in wanted.files:
        path = directory / file.path
        where = f"{wanted.package} ({wanted.registry})"
        if not path.is_file():
            raise ValueError(
                f"expected {file.path} in {where} {wanted.version}, it is not there; "
                "the package has changed, the cache is left as it was"
            )
        found = cache.file_sha256(path)
        if found != file.sha256:
            raise ValueError(
                f"expected sha256 {file.sha256} of {file.path} from {where}, version "
                f"{wanted.version}, got {found}; the download is broken or the package has "
                "changed, the cache is left as it was"
            )


def _build(wanted: Source, raw: Path, target: Path) -> dict[str, Any]:
    """Write the cleaned documents to `target` and return their manifest entry."""
    documents = text_bytes = 0
    with target.open("w", encoding="utf-8", newline="\n") as stream:
        for document in read(wanted, raw):
            line = {"title": document.title, "text": document.text}
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            documents += 1
            text_bytes += len(document.text.encode())
    described = asdict(wanted)
    described.pop("files")
    return described | {
        "raw_sha256": {file.path: file.sha256 for file in wanted.files},
        "cleaning_version": CLEANING_VERSION,
        "documents": documents,
        "text_bytes": text_bytes,
        "file_bytes": target.stat().st_size,
        "sha256": cache.file_sha256(target),
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def fetch(
    names: Iterable[str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    downloader: Downloader = download,
) -> dict[str, Path]:
    """Make the cleaned texts of these sources available.

    Args:
        names: sources; None means all.
        force: fetch and build again even what is cached.
        progress: called with (source name, stage) where stage is one of "cached", "download",
            "check", "clean", "done".
        downloader: puts a source's files below a directory.

    Returns:
        source name -> path of its JSON lines.

    Raises:
        ValueError: unknown source, no way to download, a broken download or a changed hash.
            The cache is then as it was before.
    """
    wanted = [source(name) for name in (names if names is not None else [s.name for s in SOURCES])]
    tell = progress or (lambda name, stage: None)
    for item in wanted:
        if not force and is_cached(item):
            tell(item.name, "cached")
            continue
        directory = cache.text_directory()
        directory.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{item.name}-", dir=directory))
        try:
            tell(item.name, "download")
            downloader(item, temporary / "raw")
            tell(item.name, "check")
            _check(item, temporary / "raw")
            tell(item.name, "clean")
            entry = _build(item, temporary / "raw", temporary / "cleaned.jsonl")
            (temporary / "cleaned.jsonl").replace(cleaned_path(item.name))
            cache.record(item.name, entry)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        tell(item.name, "done")
    return {item.name: cleaned_path(item.name) for item in wanted}
