"""Files that are never half written."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; renamed at the end, removed on any error.

    A full disk is an OSError that says that the file was not written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                error.errno, f"{path}: the disk is full; not written, free some space", None
            ) from error
        raise


def replace_file(path: Path, data: bytes) -> None:
    """Write to a temporary file beside `path`, then rename, so that a crash loses nothing."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(data)
