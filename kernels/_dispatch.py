"""Which backend runs an operation."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import TypeVar

_log = logging.getLogger(__name__)
Backend = TypeVar("Backend")


def choose(operation: str, backend: str, backends: Mapping[str, Backend]) -> Backend:
    """The backend asked for; "auto" takes the first."""
    name = next(iter(backends)) if backend == "auto" else backend
    if name not in backends:
        raise ValueError(
            f"{operation}: expected backend auto, {', '.join(backends)}; got {backend!r}"
        )
    _announce(operation, name)
    return backends[name]


@functools.cache
def _announce(operation: str, name: str) -> None:
    """Once per operation and backend."""
    _log.info("%s runs on %s", operation, name)
