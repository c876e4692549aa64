"""Instructions that compiled code may use by name; everything else is LLVM's choice."""

from __future__ import annotations

import functools

from llvmlite import binding  # type: ignore[import-untyped]
from numba import config


@functools.cache
def has(feature: str) -> bool:
    """Whether Numba compiles for a processor with this feature, as LLVM names it."""
    if config.CPU_NAME is not None or config.CPU_FEATURES is not None:
        return f"+{feature}" in (config.CPU_FEATURES or "").split(",")
    try:
        return bool(binding.get_host_cpu_features().get(feature, False))
    except RuntimeError:
        return False
