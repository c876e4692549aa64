"""Projections and drives as tables of the step kernels: who delivers what into which input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.devices.counter_random import stream_key
from neurosim.events.steps import _tables as T
from neurosim.events.steps._bits import fill_bitmap
from neurosim.events.steps._deliver import deliver_delayed, deliver_matrix, deliver_rows
from neurosim.events.steps._drive import add_drive
from neurosim.events.steps._kernels import Kernel, address
from neurosim.events.steps._planes import deliver_bitmap
from neurosim.events.steps.grid import to_steps
from neurosim.kernels._aligned import aligned
from neurosim.populations.network import Projection, SpikingNetwork
from neurosim.populations.synapses import CrossbarSynapses, SparseSynapses

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
_DRAW_MEAN = 4.0  # a drive of a higher mean count per step is the sum of several draws
_DRIVE_SALT = 0x5EED0D21FE000000


@dataclass(frozen=True, eq=False)
class Wiring:
    """Tables, and the arrays whose addresses are in them (`kept`)."""

    inputs: Integers
    weights: list[float]  # of each input; 1 where synapses have their own
    deliveries: Integers
    drives: Integers
    drive_bounds: npt.NDArray[np.uint32]
    planes: Integers
    kept: list[Array]
    room: tuple[int, int]  # elements of `counts` and `sums`

    @property
    def longest_lag(self) -> int:
        """Steps for which spikes are needed."""
        return int(self.deliveries[:, T.LAG].max(initial=1))

    @property
    def window(self) -> int:
        """Steps that every part of the neurons can go without the others' spikes."""
        return int(self.deliveries[:, T.LAG].min()) if len(self.deliveries) else 64


def bitmap_refusal(projection: Projection, time_step: float) -> str | None:
    """Why a projection cannot be a bitmap, or None."""
    synapses = projection.synapses
    if isinstance(synapses, CrossbarSynapses) or not synapses.uniform:
        return "its synapses have weights of their own"
    if np.ndim(synapses.delay) and len(np.unique(to_steps(synapses.delay, time_step))) > 1:
        return "its synapses have delays of their own"
    if _repeats(synapses):
        return "some of its synapses join the same two neurons"
    return None


def _repeats(synapses: SparseSynapses) -> bool:
    """Whether two synapses have the same ends; targets ascend within a row."""
    targets, offsets = synapses.targets, synapses.offsets
    same = targets[1:] == targets[:-1]
    if not same.any():
        return False
    begins = offsets[(offsets > 0) & (offsets < len(targets))]
    same[begins - 1] = False
    return bool(same.any())


class _Inputs:
    """Rows of inputs, made when first asked for: one per target, receptor and weight."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int, int, float], int] = {}

    def row(self, target: int, receptor: int, own: bool, weight: float) -> int:
        """Number of the row in order of demand."""
        key = (target, receptor, int(own), 1.0 if own else weight)
        return self.rows.setdefault(key, len(self.rows))


def build_wiring(
    network: SpikingNetwork,
    time_step: float,
    precision: str,
    seed: int,
    pops: Integers,
    bitmaps: bool,
) -> Wiring:
    """Tables of all projections and drives; fills the columns INPUT_0 .. INPUT_2 of `pops`."""
    numbers = {population.name: k for k, population in enumerate(network)}
    inputs = _Inputs()
    kept: list[Array] = []
    slots: dict[int, int] = {}
    deliveries = np.zeros((len(network.projections), T.DELIVERY_COLUMNS), np.int64)
    plane_words = 0
    for row, projection in zip(deliveries, network.projections, strict=True):
        synapses, target = projection.synapses, numbers[projection.target]
        receptor = network[projection.target].model.receptors.index(projection.receptor)
        row[[T.ORIGIN, T.TARGET]] = numbers[projection.source], target
        row[T.COLUMNS] = synapses.target_count
        own = isinstance(synapses, CrossbarSynapses) or not synapses.uniform
        weight = 1.0 if own else float(synapses.weight)
        number = inputs.row(target, receptor, own, weight)
        row[T.INPUT] = number
        if isinstance(synapses, CrossbarSynapses):
            row[T.DELIVER] = address(deliver_matrix, precision)
            row[T.LAG] = int(to_steps(synapses.delay, time_step))
            row[T.WEIGHTS] = _address(kept, synapses.weight, precision)
            continue
        steps = to_steps(synapses.delay, time_step)
        row[T.LAG] = max(int(steps.min(initial=2**31)), 1) if synapses.count else 1
        row[T.OFFSETS] = _address(kept, synapses.offsets, np.int64)
        if bitmaps and bitmap_refusal(projection, time_step) is None:
            words = int(pops[target, T.PADDED]) // 64
            rows = aligned((synapses.source_count, words), np.int64)
            fill_bitmap(synapses.offsets, synapses.targets, rows)
            row[T.DELIVER] = address(deliver_bitmap, precision)
            row[[T.WORDS, T.PLANES]] = words, plane_words
            row[T.TARGETS] = _address(kept, rows, np.int64)
            plane_words += words * (int(synapses.source_count).bit_length() + 8)
            continue
        row[T.NARROW] = int(synapses.targets.dtype == np.uint16)
        kernel: Kernel = deliver_rows
        row[T.TARGETS] = _address(kept, synapses.targets, synapses.targets.dtype)
        if own:
            row[T.WEIGHTS] = _address(kept, np.asarray(synapses.weight), precision)
        if steps.size > 1 and int(steps.max()) > row[T.LAG]:
            row[T.DELAYS] = _address(kept, steps, np.uint16)
            kernel = deliver_delayed
            slots[number] = max(slots.get(number, 1), int(steps.max()) - int(row[T.LAG]) + 1)
        row[T.DELIVER] = address(kernel, precision)
    drives, bounds = _drives(network, numbers, time_step, precision, seed, inputs)
    table, weights, order, room = _input_table(inputs, slots, pops)
    deliveries[:, T.INPUT] = order[deliveries[:, T.INPUT]]
    drives[:, T.DRIVE_INPUT] = order[drives[:, T.DRIVE_INPUT]]
    planes = aligned((max(plane_words, 8),), np.int64)
    planes[:] = 0
    return Wiring(table, weights, deliveries, drives, bounds, planes, kept, (room[0], room[1]))


def _address(kept: list[Array], array: Array, dtype: npt.DTypeLike) -> int:
    """Address of the array's memory, converted if it must be; the array is kept."""
    fit = np.ascontiguousarray(array, dtype=dtype)
    kept.append(fit)
    address: int = fit.ctypes.data
    return address


def _input_table(
    inputs: _Inputs, slots: dict[int, int], pops: Integers
) -> tuple[Integers, list[float], Integers, list[int]]:
    """The inputs sorted by target and receptor, weights, where each one went, and the room."""
    keys = list(inputs.rows)
    ranks = sorted(range(len(keys)), key=lambda k: (keys[k][0], keys[k][1], k))
    table = np.zeros((len(keys), T.INPUT_COLUMNS), np.int64)
    order = np.zeros(len(keys), np.int64)
    used = [0, 0]  # elements of `counts` and `sums`
    for place, k in enumerate(ranks):
        target, _, own, _ = keys[k]
        width = int(pops[target, T.PADDED])
        table[place] = own, used[own], slots.get(k, 1), width, 0
        used[own] += slots.get(k, 1) * width
        order[k] = place
    targets = np.array([keys[k][0] for k in ranks], np.int64)
    receptors = np.array([keys[k][1] for k in ranks], np.int64)
    for p, row in enumerate(pops):
        mine = targets == p
        row[T.INPUT_0] = np.count_nonzero(targets < p)
        row[T.INPUT_1] = row[T.INPUT_0] + np.count_nonzero(mine & (receptors == 0))
        row[T.INPUT_2] = row[T.INPUT_1] + np.count_nonzero(mine & (receptors == 1))
        for begin, end, place in (
            (T.INPUT_0, T.INPUT_1, T.MERGED_0),
            (T.INPUT_1, T.INPUT_2, T.MERGED_1),
        ):
            if row[end] > row[begin] + 1:
                row[place] = used[1]
                used[1] += int(row[T.PADDED])
    spare = np.zeros((1, T.INPUT_COLUMNS), np.int64)  # looked at where there is no input
    spare[0, T.SLOTS] = 1
    return np.concatenate([table, spare]), [keys[k][3] for k in ranks], order, used


def _drives(
    network: SpikingNetwork,
    numbers: dict[str, int],
    time_step: float,
    precision: str,
    seed: int,
    inputs: _Inputs,
) -> tuple[Integers, npt.NDArray[np.uint32]]:
    """Table of the drives, and the bounds of their counts, each in 16 lanes."""
    table = np.zeros((len(network.drives), T.DRIVE_COLUMNS), np.int64)
    bounds: list[int] = []
    for k, (row, drive) in enumerate(zip(table, network.drives, strict=True)):
        receptor = network[drive.target].model.receptors.index(drive.receptor)
        mean = drive.rate * time_step
        repeats = max(1, math.ceil(mean / _DRAW_MEAN))
        own = poisson_bounds(mean / repeats)
        row[[T.DRIVEN, T.REPEATS]] = numbers[drive.target], repeats
        row[T.DRIVE_INPUT] = inputs.row(numbers[drive.target], receptor, False, drive.weight)
        row[[T.FIRST_BOUND, T.USUAL]] = len(bounds), usual_counts(own)
        bounds.extend(own)
        key = stream_key(np.uint64(seed & (2**64 - 1)), np.uint64(_DRIVE_SALT + k))
        row[T.DRAW] = address(add_drive, precision)
        row[T.KEY] = np.uint64(key).astype(np.int64)  # the same bits
    lanes = np.repeat(np.array(bounds or [0], np.uint32), 16)
    return table, lanes


def poisson_bounds(mean: float) -> list[int]:
    """Bounds b_k = 2^32 P(count <= k) - 1: a uniform 32-bit number above b_k is a count above k.

    As many as differ from that of a certain event, and that one: nothing is above it.
    """
    bounds: list[int] = []
    chance = below = math.exp(-mean)
    while round(below * 2**32) < 2**32 and (chance > 2.0**-40 or len(bounds) < mean):
        bounds.append(max(round(below * 2**32) - 1, 0))
        chance *= mean / len(bounds)
        below += chance
    return bounds + [2**32 - 1] * (4 + -len(bounds) % 4)


def usual_counts(bounds: list[int]) -> int:
    """Bounds, a multiple of 4, above which less than 1 in 1,000 numbers are."""
    usual = sum(bound < 2**32 * 0.999 for bound in bounds)
    return usual + -usual % 4
