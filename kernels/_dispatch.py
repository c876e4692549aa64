"""Which backend runs an operation."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any

_log = logging.getLogger(__name__)


def choose(
    operation: str, backend: str, backends: Mapping[str, Any], *arguments: Any, mlx: bool = False
) -> Any:
    """The backend asked for; "auto" takes the first that supports the arguments.

    A backend may have `supports(*arguments) -> str | None`: the reason why it cannot, or None.
    Metal is an automatic choice for MLX arrays only, and its emulator never is.

    Raises:
        ValueError: unknown backend, or it cannot, with its reason.
    """
    first = None if mlx or backend != "auto" else next(iter(backends.values()), None)
    if first is not None and first is backends.get("cpu") and _accepts(first, arguments):
        announce(operation, "cpu")  # a good part of all calls, some of a few microseconds
        return first
    if backend != "auto":
        if not isinstance(backend, str) or backend not in backends:
            raise ValueError(
                f"{operation}: expected backend auto, {', '.join(backends)}; got {backend!r}"
            )
        reason = _reason(backends[backend], arguments)
        if reason is not None:
            raise ValueError(f"{operation}: backend {backend!r} cannot run this: {reason}")
        return _announced(operation, backend, backends)
    reasons = {}
    if mlx and "metal" in backends:
        reason = _reason(backends["metal"], arguments)
        if reason is None:
            return _announced(operation, "metal", backends)
        reasons["metal"] = reason
    for name, candidate in backends.items():
        if not name.startswith("metal"):
            reason = _reason(candidate, arguments)
            if reason is None:
                return _announced(operation, name, backends)
            reasons[name] = reason
    raise ValueError(
        f"{operation}: no backend can run this: "
        + "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    )


def _reason(backend: Any, arguments: tuple[Any, ...]) -> str | None:
    supports = getattr(backend, "supports", None)
    return None if supports is None else supports(*arguments)


def _accepts(backend: Any, arguments: tuple[Any, ...]) -> bool:
    supports = _supports(backend)
    return supports is None or supports(*arguments) is None


@functools.cache
def _supports(backend: Any) -> Any:
    """Kept, because looking for what a module does not have takes as long as a short kernel."""
    return getattr(backend, "supports", None)


def _announced(operation: str, name: str, backends: Mapping[str, Any]) -> Any:
    announce(operation, name)
    return backends[name]


@functools.cache
def announce(operation: str, choice: str) -> None:
    """Log a choice, once per operation and choice."""
    _log.info("%s runs on %s", operation, choice)
