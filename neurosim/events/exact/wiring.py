"""All synapses of a network as segments: synapses of one neuron that act at the same time.

A segment joins one neuron to targets of one group (a time constant, or a receptor) with one delay,
so that a spike is delivered as one item per segment. Several synapses between the same two neurons
in a segment are merged: simultaneous inputs sum. Neurons are numbered through the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled
from neurosim.populations.network import Projection, SpikingNetwork
from neurosim.populations.synapses import CrossbarSynapses

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_TABLE_LIMIT = 1 << 24  # entries of a counting sort's table; above, keys are sorted by comparison


@dataclass(frozen=True, eq=False)
class Wiring:
    """Segments of N neurons: those of neuron n are first[n] : first[n + 1].

    Of segment m: `delay` (s), `group`, `events` (synapses before merging) and its synapses,
    begin[m] : begin[m + 1] of `targets` (K,). `weights`: of synapse j of segment m at [m] if `step`
    = 0 (one weight per segment), else at [j].
    """

    first: Integers
    delay: Floats
    group: Integers
    events: Integers
    begin: Integers
    targets: npt.NDArray[np.uint16] | npt.NDArray[np.int32]
    weights: Floats
    step: int

    @property
    def longest_delay(self) -> float:
        """s; 0 without synapses."""
        return float(self.delay.max()) if self.delay.size else 0.0

    @property
    def bytes(self) -> int:
        """Memory of all arrays."""
        arrays = (self.first, self.delay, self.group, self.events, self.begin, self.targets)
        return sum(array.nbytes for array in arrays) + self.weights.nbytes


def build_wiring(network: SpikingNetwork, group_of: Callable[[Projection], int]) -> Wiring:
    """Segments of all projections; `group_of` says which ones may share a segment."""
    first = network.first
    parts = [_columns(projection) for projection in network.projections]
    delays = np.unique(np.concatenate([[0.0], *(np.ravel(part[3]) for part in parts)]))
    groups = [group_of(projection) for projection in network.projections]
    per_group = len(delays)
    width = per_group * (max(groups, default=0) + 1)
    total = sum(part[0].size for part in parts)
    key = np.empty(total, np.int64)
    target = np.empty(total, np.int32)
    weight = np.empty(total, np.float64)
    at = 0
    for projection, group, (source, goal, strength, delay) in zip(
        network.projections, groups, parts, strict=True
    ):
        chosen = slice(at, at + source.size)
        key[chosen] = (source + first[projection.source]) * width
        key[chosen] += group * per_group + np.searchsorted(delays, delay)
        target[chosen] = goal + first[projection.target]
        weight[chosen] = strength
        at += source.size
    key, target, weight = _sorted(key, target, weight, network.size * width)
    begin = np.flatnonzero(np.diff(key, prepend=-1))
    names = key[begin]
    begin = np.append(begin, total)
    events = np.diff(begin)
    if _merge_repeated(begin, target, weight, np.full(network.size, -1, np.int64)):
        kept = target >= 0
        begin = np.concatenate([[0], np.cumsum(kept)])[begin]
        target, weight = target[kept], weight[kept]
    uniform = _uniform(begin, weight)
    counts = np.bincount(names // width, minlength=network.size)
    return Wiring(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        delays[names % per_group],
        names % width // per_group,
        events.astype(np.int64),
        begin.astype(np.int64),
        target.astype(np.uint16) if network.size <= 65536 else target,
        weight[begin[:-1]] if uniform else weight,
        0 if uniform else 1,
    )


def _columns(projection: Projection) -> tuple[Any, Any, Any, Any]:
    """Source, target, weight and delay of every synapse; the last two may be one number."""
    synapses = projection.synapses
    if isinstance(synapses, CrossbarSynapses):
        pre, post = np.divmod(np.arange(synapses.count), synapses.target_count)
        return pre, post, synapses.weight.reshape(-1), synapses.delay
    pre = np.repeat(np.arange(synapses.source_count), np.diff(synapses.offsets))
    return pre, synapses.targets, synapses.weight, synapses.delay


def _sorted(key: Integers, target: Any, weight: Floats, keys: int) -> tuple[Any, Any, Any]:
    """Synapses in the order of their keys, otherwise in the order they had."""
    if keys > _TABLE_LIMIT or not key.size:
        order = np.argsort(key, kind="stable")
    else:
        order = np.empty(key.size, np.int64)
        _counting_sort(key, np.zeros(keys + 1, np.int64), order)
    return key[order], target[order], weight[order]


@compiled
def _counting_sort(key: Integers, table: Integers, order: Integers) -> None:
    for value in key:
        table[value + 1] += 1
    for k in range(1, table.size):
        table[k] += table[k - 1]
    for j in range(key.size):
        order[table[key[j]]] = j
        table[key[j]] += 1


@compiled
def _merge_repeated(begin: Integers, target: Any, weight: Floats, seen: Integers) -> int:
    """Add a target's later weights in a segment to its first one and mark them -1."""
    merged = 0
    for m in range(begin.size - 1):
        low = begin[m]
        for j in range(low, begin[m + 1]):
            goal = target[j]
            if seen[goal] >= low:
                weight[seen[goal]] += weight[j]
                target[j] = -1
                merged += 1
            else:
                seen[goal] = j
    return merged


@compiled
def _uniform(begin: Integers, weight: Floats) -> bool:
    """Whether every segment has one weight."""
    for m in range(begin.size - 1):
        for j in range(begin[m] + 1, begin[m + 1]):
            if weight[j] != weight[begin[m]]:
                return False
    return True
