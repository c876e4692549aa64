"""Given spikes: lists and Poisson trains of source populations, and Poisson drives of neurons.

A Poisson train is exact: its intervals are -ln(u) / rate with u a function of (seed, train,
number), so it does not depend on engine, slices or order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.devices.counter_random import stream_key, uniform
from neurosim.kernels._jit import compiled
from neurosim.populations.models import PoissonSource, SpikeSource
from neurosim.populations.network import SpikingNetwork

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
_SOURCE_STREAMS = 0x50155051AB1E0001  # keep trains apart from each other and from device draws
_DRIVE_STREAMS = 0x0D21FE5ABCDE0003
_DRIVE_STEP = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
NEXT, RATE, WEIGHT, RECEPTOR = range(4)  # columns of `Drives.trains`: s, Hz, weight, number


@compiled
def interval(key: np.uint64, number: int, rate: float) -> float:
    """The `number`-th interval of a Poisson train, s; infinite at rate 0."""
    if rate <= 0.0:
        return math.inf
    return -math.log(uniform(key, np.uint64(number))) / rate


@compiled
def _start(seed: np.uint64, streams: Integers, rates: Floats, keys: Keys, times: Floats) -> None:
    """Key and first spike of every train."""
    for k in range(streams.size):
        keys[k] = stream_key(seed, np.uint64(streams[k]))
        times[k] = interval(keys[k], 0, rates[k])


def _trains(seed: int, salt: int, neurons: Integers, rates: Floats) -> tuple[Keys, Floats]:
    keys, times = np.empty(neurons.size, np.uint64), np.empty(neurons.size)
    _start(np.uint64((seed ^ salt) & _MASK), neurons, rates, keys, times)
    return keys, times


@dataclass(frozen=True, eq=False)
class Sources:
    """Spikes of source populations, by network number.

    List: `times`, `neurons` (L,), sorted by time, then neuron. Poisson (P,): `poisson` (numbers),
    `rates` (Hz), `keys`; state: `next` (s) and `number` of the next spike.
    """

    times: Floats
    neurons: Integers
    poisson: Integers
    rates: Floats
    keys: Keys
    next: Floats
    number: Integers


def build_sources(network: SpikingNetwork, seed: int) -> Sources:
    """Sources of a network at t = 0."""
    times, neurons, poisson, rates = [np.empty(0)], [np.empty(0, np.int64)], [], []
    for population in network:
        first = network.first[population.name]
        if isinstance(population.model, SpikeSource):
            times.append(population.model.times)
            neurons.append(population.model.neurons + first)
        elif isinstance(population.model, PoissonSource):
            poisson.append(np.arange(first, first + population.size))
            rates.append(population.parameter("rate"))
    time, neuron = np.concatenate(times), np.concatenate(neurons)
    order = np.lexsort((neuron, time))
    number = np.concatenate([np.empty(0, np.int64), *poisson])
    rate = np.concatenate([np.empty(0), *rates])
    keys, following = _trains(seed, _SOURCE_STREAMS, number, rate)
    zeros = np.zeros(number.size, np.int64)
    return Sources(time[order], neuron[order], number, rate, keys, following, zeros)


@dataclass(frozen=True, eq=False)
class Drives:
    """Poisson drives (E,), those of neuron n at first[n] : first[n + 1].

    trains (E, 4): see `NEXT`, `RATE`, `WEIGHT`, `RECEPTOR`. State: the next spikes in `trains`,
    `number` (E,) of each, `earliest` (N,): the earliest of each neuron.
    """

    first: Integers
    trains: Floats
    keys: Keys
    number: Integers
    earliest: Floats


def build_drives(network: SpikingNetwork, seed: int) -> Drives:
    """Drives of a network at t = 0."""
    owners, columns = [np.empty(0, np.int64)], [np.empty((0, 3))]
    keys, times = [np.empty(0, np.uint64)], [np.empty(0)]
    for index, drive in enumerate(network.drives):
        population = network[drive.target]
        first = network.first[drive.target]
        owner = np.arange(first, first + population.size)
        receptor = population.model.receptors.index(drive.receptor)
        row = np.array([[drive.rate, drive.weight, receptor]])
        owners.append(owner)
        columns.append(np.repeat(row, population.size, axis=0))
        salt = (_DRIVE_STREAMS + index * _DRIVE_STEP) & _MASK
        key, time = _trains(seed, salt, owner, columns[-1][:, 0].copy())
        keys.append(key)
        times.append(time)
    owner, column = np.concatenate(owners), np.concatenate(columns)
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=network.size)
    trains = np.concatenate([np.concatenate(times)[:, None], column], axis=1)[order]
    earliest = np.full(network.size, np.inf)
    np.minimum.at(earliest, owner[order], trains[:, NEXT])
    return Drives(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        trains,
        np.concatenate(keys)[order],
        np.zeros(owner.size, np.int64),
        earliest,
    )


@compiled
def draw_next(
    n: int, first: Integers, trains: Floats, keys: Keys, number: Integers, earliest: Floats
) -> Any:
    """Index of the drive whose spike is neuron n's earliest; draws that drive's next one."""
    chosen = first[n]
    for e in range(first[n] + 1, first[n + 1]):
        if trains[e, NEXT] < trains[chosen, NEXT]:
            chosen = e
    number[chosen] += 1
    trains[chosen, NEXT] += interval(keys[chosen], number[chosen], trains[chosen, RATE])
    soonest = trains[chosen, NEXT]
    for e in range(first[n], first[n + 1]):
        soonest = min(soonest, trains[e, NEXT])
    earliest[n] = soonest
    return chosen
