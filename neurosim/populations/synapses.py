"""Which neuron reaches which: sparse (CSR) synapses and crossbars, with weights and delays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled

Offsets = npt.NDArray[np.int64]
Targets = npt.NDArray[np.uint16] | npt.NDArray[np.int32]


def _check_numbers(what: str, value: Any, count: int, positive: bool) -> None:
    numbers = np.asarray(value)
    if numbers.shape not in ((), (count,)):
        raise ValueError(f"expected one {what} or {count} of them, got shape {numbers.shape}")
    bad = ~np.isfinite(numbers) | ((numbers < 0.0) if positive else False)
    if np.any(bad):
        kind = "finite and >= 0 s" if positive else "finite"
        first = np.atleast_1d(numbers)[np.atleast_1d(bad)][0]
        raise ValueError(f"expected every {what} {kind}, got {first}")


def _numbers(what: str, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    found = np.asarray(ids)
    if found.size and not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"expected {what} neurons as integers, got {found.dtype}")
    return found.astype(np.int64)


@dataclass(frozen=True, eq=False)
class SparseSynapses:
    """Compressed rows: the synapses of source s are offsets[s] : offsets[s + 1].

    `offsets` (S + 1,) int64; `targets` (K,), uint16 where all targets fit, else int32, ascending
    within a row; `weight`: one number or (K,) in the unit of the receptor; `delay` (s): one number
    or (K,). `target_count`: size of the target population.
    """

    offsets: Offsets
    targets: Targets
    weight: float | npt.NDArray[np.floating[Any]]
    delay: float | npt.NDArray[np.float64]
    target_count: int

    def __post_init__(self) -> None:
        offsets, targets = self.offsets, self.targets
        if offsets.ndim != 1 or len(offsets) < 2 or offsets[0] != 0 or np.any(np.diff(offsets) < 0):
            raise ValueError("expected offsets (S + 1,) that start at 0 and never fall")
        if offsets[-1] != len(targets):
            raise ValueError(f"expected {offsets[-1]} targets by the offsets, got {len(targets)}")
        if len(targets) and (int(targets.min()) < 0 or int(targets.max()) >= self.target_count):
            raise ValueError(
                f"expected targets 0..{self.target_count - 1}, got "
                f"{int(targets.min())}..{int(targets.max())}"
            )
        _check_numbers("weight", self.weight, len(targets), positive=False)
        _check_numbers("delay", self.delay, len(targets), positive=True)

    @property
    def source_count(self) -> int:
        """Size of the source population."""
        return len(self.offsets) - 1

    @property
    def count(self) -> int:
        """Number of synapses."""
        return len(self.targets)

    @property
    def uniform(self) -> bool:
        """Whether all synapses have the same weight."""
        return np.ndim(self.weight) == 0

    @property
    def shortest_delay(self) -> float:
        """s; infinite without synapses."""
        return float(np.min(self.delay)) if self.count else math.inf

    @property
    def longest_delay(self) -> float:
        """s; 0 without synapses."""
        return float(np.max(self.delay)) if self.count else 0.0

    @property
    def bytes(self) -> int:
        """Memory of targets, offsets, weights and delays."""
        parts = (self.offsets, self.targets, self.weight, self.delay)
        return sum(np.asarray(part).nbytes for part in parts)

    @staticmethod
    def from_pairs(
        sources: npt.ArrayLike,
        targets: npt.ArrayLike,
        weight: float | npt.ArrayLike,
        delay: float | npt.ArrayLike,
        source_count: int,
        target_count: int,
    ) -> SparseSynapses:
        """From lists of source and target neurons (K,); pairs may repeat."""
        pre, post = _numbers("source", sources), _numbers("target", targets)
        if pre.ndim != 1 or pre.shape != post.shape:
            raise ValueError(f"expected sources and targets (K,), got {pre.shape} and {post.shape}")
        for what, ids, size in (("source", pre, source_count), ("target", post, target_count)):
            if len(ids) and (ids.min() < 0 or ids.max() >= size):
                raise ValueError(
                    f"expected {what} neurons 0..{size - 1}, got {ids.min()}..{ids.max()}"
                )
        _check_numbers("weight", weight, len(pre), positive=False)
        _check_numbers("delay", delay, len(pre), positive=True)
        order = np.lexsort((post, pre))
        offsets = np.concatenate([[0], np.cumsum(np.bincount(pre, minlength=source_count))])

        def sorted_values(value: Any) -> Any:
            return float(value) if np.ndim(value) == 0 else np.asarray(value)[order]

        return SparseSynapses(
            offsets.astype(np.int64),
            post[order].astype(_target_type(target_count)),
            sorted_values(weight),
            sorted_values(delay),
            target_count,
        )

    @staticmethod
    def random(
        source_count: int,
        target_count: int,
        probability: float,
        weight: float,
        delay: float,
        seed: int,
        to_itself: bool = True,
    ) -> SparseSynapses:
        """Every pair with `probability`, independently; without source = target if asked."""
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"expected a probability from 0 to 1, got {probability}")
        rng = np.random.default_rng(seed)
        pairs = source_count * target_count
        expected = pairs * probability
        room = int(expected + 8.0 * math.sqrt(expected) + 64.0)
        targets = np.empty(min(room, pairs) if probability < 1.0 else pairs, np.int32)
        offsets = np.zeros(source_count + 1, np.int64)
        used = _fill_random(targets, offsets, target_count, probability, to_itself, rng)
        kept = targets[:used].astype(_target_type(target_count))
        return SparseSynapses(offsets, kept, float(weight), float(delay), target_count)

    def __repr__(self) -> str:
        weights = "one weight" if self.uniform else "own weights"
        return (
            f"SparseSynapses({self.source_count} -> {self.target_count}, {self.count} synapses, "
            f"{weights})"
        )


def _target_type(target_count: int) -> npt.DTypeLike:
    return np.uint16 if target_count <= 65536 else np.int32


@compiled
def _fill_random(
    targets: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    target_count: int,
    probability: float,
    to_itself: bool,
    rng: np.random.Generator,
) -> int:
    """Gaps between chosen pairs are geometric; returns the number of synapses."""
    used = 0
    scale = np.log1p(-probability) if probability < 1.0 else -np.inf
    for source in range(offsets.size - 1):
        target = -1
        while probability > 0.0 and used < targets.size:
            gap = np.log1p(-rng.random()) / scale if probability < 1.0 else 0.0
            if gap >= target_count:
                break
            target += 1 + int(gap)
            if target >= target_count:
                break
            if to_itself or target != source:
                targets[used] = target
                used += 1
        offsets[source + 1] = used
    return used


@dataclass(frozen=True, eq=False)
class CrossbarSynapses:
    """Every source reaches every target: `weight` (S, T) in the unit of the receptor; one delay."""

    weight: npt.NDArray[np.floating[Any]]
    delay: float

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or 0 in self.weight.shape:
            raise ValueError(f"expected weights (S, T), got shape {self.weight.shape}")
        _check_numbers("weight", self.weight.reshape(-1), self.weight.size, positive=False)
        _check_numbers("delay", self.delay, 1, positive=True)

    @property
    def source_count(self) -> int:
        """Size of the source population."""
        return int(self.weight.shape[0])

    @property
    def target_count(self) -> int:
        """Size of the target population."""
        return int(self.weight.shape[1])

    @property
    def count(self) -> int:
        """Number of synapses, zeros included: a crossbar reads whole rows."""
        return int(self.weight.size)

    @property
    def shortest_delay(self) -> float:
        """s."""
        return self.delay

    @property
    def longest_delay(self) -> float:
        """s."""
        return self.delay

    @property
    def bytes(self) -> int:
        """Memory of the weights."""
        return int(self.weight.nbytes)

    def sparse(self) -> SparseSynapses:
        """The same synapses as compressed rows, without those of weight 0."""
        pre, post = np.nonzero(self.weight)
        return SparseSynapses.from_pairs(
            pre, post, self.weight[pre, post], self.delay, self.source_count, self.target_count
        )

    def __repr__(self) -> str:
        return f"CrossbarSynapses({self.source_count} x {self.target_count})"


Synapses = SparseSynapses | CrossbarSynapses
