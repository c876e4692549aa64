"""The state of a simulation in one file, tied to the network and options it belongs to."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.files import replace_file

_KEY = "fingerprint"


def fingerprint(*parts: Any) -> str:
    """SHA-256 of dataclasses, arrays, numbers, texts and collections of them, by value."""
    digest = hashlib.sha256()

    def add(part: Any) -> None:
        digest.update(type(part).__name__.encode())
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        elif is_dataclass(part) and not isinstance(part, type):
            for item in fields(part):
                digest.update(item.name.encode())
                add(getattr(part, item.name))
        elif isinstance(part, Mapping):
            for key in sorted(part):
                digest.update(str(key).encode())
                add(part[key])
        elif isinstance(part, list | tuple):
            for item in part:
                add(item)
        else:
            digest.update(repr(part).encode())

    for part in parts:
        add(part)
    return digest.hexdigest()


def save_checkpoint(path: Path, state: Mapping[str, npt.NDArray[Any]], owner: str) -> None:
    """Write the arrays, whole or not at all. `owner`: fingerprint of network, options, engine."""
    if _KEY in state:
        raise ValueError(f"expected no state called {_KEY!r}")
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {_KEY: np.array(owner), **state}
    np.savez(buffer, **arrays)
    replace_file(path, buffer.getvalue())


def load_checkpoint(path: Path, owner: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays; ValueError if the file is damaged or of another simulation."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            state = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: cannot be read as a checkpoint ({error}); delete it to start anew"
        ) from error
    found = str(state.pop(_KEY, ""))
    if found != owner:
        raise ValueError(
            f"{path}: expected a checkpoint of this network, options and engine, got another's; "
            "choose another file or delete it"
        )
    return state
