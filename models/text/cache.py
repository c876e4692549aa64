"""Where downloaded and cleaned texts live, and the manifest that says what they are."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def cache_directory() -> Path:
    """`$NEUROSIM_CACHE`, or `~/.cache/neurosim`; not created here."""
    chosen = os.environ.get("NEUROSIM_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "neurosim"


def text_directory() -> Path:
    """The folder of the cleaned texts inside the cache."""
    return cache_directory() / "text"


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def replace_text(path: Path, text: str) -> None:
    """Write a file so that readers see the old or the new content, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def manifest() -> dict[str, dict[str, Any]]:
    """Source name -> {package, version, licence, sha256, documents, ...} of what is cached."""
    path = text_directory() / MANIFEST
    if not path.exists():
        return {}
    try:
        sources = json.loads(path.read_text(encoding="utf-8"))["sources"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"expected a manifest of texts in {path}, got something else ({error}); "
            "delete the file and run `neurosim data fetch`"
        ) from error
    return dict(sources)


def record(name: str, entry: dict[str, Any]) -> None:
    """Add or replace one source's entry in the manifest."""
    sources = manifest() | {name: entry}
    text = json.dumps({"sources": dict(sorted(sources.items()))}, indent=2, ensure_ascii=False)
    replace_text(text_directory() / MANIFEST, text + "\n")
