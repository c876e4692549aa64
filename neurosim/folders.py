"""Folders that are never half written."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Delete unfinished folders whose process is gone (its lock with it)."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to it at the end and removed on any error.

    An existing folder at `path` is replaced as a whole; it stays as it is until the end. What a
    killed process left behind is removed by the next one with the same `path`.
    """
    path = path.resolve()
    made = [folder for folder in path.parents if not folder.exists()]  # innermost first
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}.unfinished."
    _remove_abandoned(path.parent, prefix)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=prefix))
    handle = os.open(temporary, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield temporary
        temporary.chmod(0o755)
        _swap(temporary, path)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in made:
            with suppress(OSError):  # something else is in it by now
                folder.rmdir()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                error.errno, f"{path}: the disk is full; not written, free some space", None
            ) from error
        raise
    finally:
        os.close(handle)


def _swap(new: Path, path: Path) -> None:
    """Put a folder in the place of another."""
    if not path.exists() or not any(path.iterdir()):
        os.replace(new, path)
        return
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.unfinished."))
    os.replace(path, aside / "old")
    try:
        os.replace(new, path)
    except BaseException:
        os.replace(aside / "old", path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
