"""Files that are never half written."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def replacing_all(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder` for several files that belong together.

    At the end each is moved into `folder`; on any error none is.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".unfinished."))
    try:
        yield temporary
        for file in sorted(temporary.iterdir()):
            os.replace(file, folder / file.name)
        temporary.rmdir()
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if made:
            with suppress(OSError):  # something else is in it by now
                folder.rmdir()
        raise
