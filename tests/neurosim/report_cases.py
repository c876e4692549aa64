"""A report of the shipped model, made once for all tests."""

from __future__ import annotations

import copy
import functools
from typing import Any

from neurosim.models.checkpoint import DEFAULT, TWIN, load
from neurosim.reporting import study


@functools.cache
def _report() -> dict[str, Any]:
    return study(load(DEFAULT), "ag_v2c_w", (1, 20, 8192), twin=load(TWIN), seeds=(0,))


def small_report() -> dict[str, Any]:
    """The shipped model at short contexts on one chip; a copy, free to be spoilt."""
    return copy.deepcopy(_report())
