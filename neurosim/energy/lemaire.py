"""The analytic model of Lemaire et al. 2022 (arXiv 2210.13107) for fully connected layers.

Operations, addressing and memory of 32-bit integers at 45 nm:

    E = N_ac e_add + N_mac (e_mul + e_add) + N_address e_add + sum accesses x E_access(memory)

E_access grows linearly between 0 J at 0 B, 10 pJ at 8 KiB, 20 pJ at 32 KiB and 100 pJ at 1 MiB for
32 bits and stays there. Two cautions: the three points are Horowitz's for 64 bits, so it is twice
too high, and tiny memories cost nothing. Equation 2 of the paper multiplies by N_in once too often;
here, as in SpikingJelly 2.0, a spike meets each output once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_CAPACITY = (0.0, 8 * 1024.0, 32 * 1024.0, 1024 * 1024.0)  # bytes
_ACCESS = (0.0, 10e-12, 20e-12, 100e-12)  # J per 32 bits
_WORD = 4  # bytes
ADD, MULTIPLY = 0.1e-12, 3.1e-12  # J, int32
FIFO_WORDS = 1000


def access_energy(memory_bytes: float) -> float:
    """J of a 32-bit access to a memory of this size."""
    if memory_bytes < 0:
        raise ValueError(f"expected a memory of at least 0 B, got {memory_bytes}")
    return float(np.interp(memory_bytes, _CAPACITY, _ACCESS))


@dataclass(frozen=True)
class LemaireLayer:
    """A fully connected layer as it ran. Rows are batch times time steps.

    `spikes_in`: spikes that entered, None for a dense (real-valued) input. `spikes_out`: spikes
    its neurons sent, None without neurons. `steps`: time steps among the rows: a membrane is kept
    for rows / steps x fan_out neurons. `leaky`: one multiplication a neuron and step.
    """

    fan_in: int
    fan_out: int
    rows: int
    bias: bool = False
    spikes_in: int | None = None
    spikes_out: int | None = None
    steps: int = 1
    leaky: bool = False

    def __post_init__(self) -> None:
        if min(self.fan_in, self.fan_out, self.rows, self.steps) < 1 or self.rows % self.steps:
            raise ValueError(
                f"expected sizes >= 1 and rows a multiple of steps, got {self.fan_in}, "
                f"{self.fan_out}, {self.rows}, {self.steps}"
            )


@dataclass(frozen=True)
class LemaireEnergy:
    """J by part; the parts of a network add."""

    operations: float = 0.0
    addressing: float = 0.0
    inputs_outputs: float = 0.0
    parameters: float = 0.0
    potentials: float = 0.0

    @property
    def total(self) -> float:
        """J."""
        return sum(self._parts)

    def __add__(self, other: LemaireEnergy) -> LemaireEnergy:
        return LemaireEnergy(*(a + b for a, b in zip(self._parts, other._parts, strict=True)))

    @property
    def _parts(self) -> tuple[float, ...]:
        return tuple(vars(self).values())


def layer_energy(layer: LemaireLayer, writes_output: bool = False) -> LemaireEnergy:
    """Energy of one layer; `writes_output`: a dense layer stores its results (no neurons do)."""
    outputs = layer.rows * layer.fan_out
    biases = outputs if layer.bias else 0
    weights = (layer.fan_in * layer.fan_out + (layer.fan_out if layer.bias else 0)) * _WORD
    neurons = outputs // layer.steps
    fifo = access_energy(FIFO_WORDS * _WORD)
    spikes = layer.spikes_in
    if spikes is None:
        pairs = layer.rows * layer.fan_in * layer.fan_out
        operations = pairs * (MULTIPLY + ADD) + biases * ADD
        addressing = (layer.rows * layer.fan_in + outputs) * ADD
        moved = layer.rows * layer.fan_in * access_energy(layer.rows * layer.fan_in * _WORD)
        if writes_output:
            moved += outputs * access_energy(outputs * _WORD)
        parameters, potentials = pairs + biases, 0.0
    else:
        pairs = spikes * layer.fan_out
        operations = (pairs + biases) * ADD
        addressing = pairs * ADD
        moved = spikes * fifo
        parameters, potentials = pairs + biases, 2 * pairs * access_energy(neurons * _WORD)
    if layer.spikes_out is not None:
        operations += layer.spikes_out * ADD
        if layer.leaky:
            operations += outputs * (MULTIPLY + ADD)
        potentials += 2 * outputs * access_energy(neurons * _WORD)
        moved += layer.spikes_out * fifo
    return LemaireEnergy(
        operations, addressing, moved, parameters * access_energy(weights), potentials
    )


def network_energy(layers: Sequence[LemaireLayer]) -> LemaireEnergy:
    """Sum over the layers; dense outputs are stored only if no layer has neurons."""
    dense = all(layer.spikes_out is None for layer in layers)
    return sum((layer_energy(layer, dense) for layer in layers), LemaireEnergy())
