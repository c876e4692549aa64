"""Networks by the name of what builds them: "module:function", as command line and sweeps take."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neurosim.populations.builder import NetworkBuilder
from neurosim.populations.network import SpikingNetwork


def find_builder(name: str, folder: Path) -> Callable[..., Any]:
    """The function "module:function"; modules of `folder` come first, then installed ones."""
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise ValueError(f'expected "module:function", got {name!r}')
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the reader's code may raise anything
        raise ValueError(
            f"{module_name} cannot be imported ({type(error).__name__}: {error})"
        ) from error
    finally:
        sys.path.remove(str(folder))
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ValueError(f"{module_name} has no function {function_name!r}")
    return function  # type: ignore[no-any-return]


def finished_network(name: str, made: object) -> SpikingNetwork:
    """What the builder `name` returned, as a network."""
    network = made.network() if isinstance(made, NetworkBuilder) else made
    if not isinstance(network, SpikingNetwork):
        raise ValueError(
            f"{name}: expected it to return a SpikingNetwork or a NetworkBuilder, got "
            f"{type(made).__name__}"
        )
    return network
