"""The engines that `simulate` can choose from, imported when first asked for."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from neurosim.events.simulate import Engine

_MODULES: dict[str, str] = {
    "steps": "neurosim.events.steps.clock",
    "bitmap": "neurosim.events.steps.bitmap",
    "frames": "neurosim.events.frames",
    "calendar": "neurosim.events.calendar",
}


@functools.cache
def available() -> dict[str, Engine]:
    """Name -> engine."""
    return {name: cast("Engine", importlib.import_module(path)) for name, path in _MODULES.items()}
