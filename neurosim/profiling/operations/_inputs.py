"""Inputs that take turns, and what several operations share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels import PackedSpikes
from neurosim.profiling.timing import Run

Spikes = npt.NDArray[np.int8]
FEW_ROWS = 64
"""Below this many rows an input is so small that its weight rows would stay in the cache."""


def bernoulli(rng: np.random.Generator, shape: tuple[int, ...], density: float) -> Spikes:
    """Independent binary spikes, int8."""
    return (rng.random(shape) < density).astype(np.int8)


def signed_counts(
    rng: np.random.Generator, shape: tuple[int, ...], density: float, levels: int
) -> Spikes:
    """Counts -levels..levels, `density` of them not zero."""
    size = rng.integers(1, levels + 1, shape) * rng.choice([-1, 1], shape)
    return np.where(rng.random(shape) < density, size, 0).astype(np.int8)


def how_many(rows: int) -> int:
    """Inputs that take turns."""
    return 8 if rows < FEW_ROWS else 2


def turns(function: Callable[..., Any], inputs: Iterable[Any]) -> Run:
    """Each call takes the next of the inputs."""
    turn = itertools.cycle(inputs)
    return lambda: function(next(turn))


def evaluated(array: Any) -> Any:
    """An MLX array, computed."""
    mx.eval(array)
    return array


def mean_count(inputs: Sequence[Spikes]) -> float:
    """Spikes of the average input: counts without their sign."""
    return sum(int(np.abs(x).sum(dtype=np.int64)) for x in inputs) / len(inputs)


def torch_here() -> Any:
    """The torch module if it is installed, else None; a baseline, never a dependency."""
    if find_spec("torch") is None:
        return None
    return import_module("torch")


def fresh(spikes: PackedSpikes) -> PackedSpikes:
    """The same words without the lists that were derived from them, as a kernel emits them."""
    return PackedSpikes.trusted(
        spikes.words, spikes.shape, spikes.levels, spikes.signed, spikes.code, spikes.time_axis
    )
