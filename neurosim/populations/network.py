"""Populations joined by projections: the network that the general event engines simulate.

`neurosim.network.Network` is the other contract: layers of a transformer in execution order, with
windows. This one is in continuous time, recurrent, with delays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neurosim.populations.models import SOURCES, Population
from neurosim.populations.synapses import Synapses


@dataclass(frozen=True, eq=False)
class Projection:
    """Synapses from one population to another, onto one of the target's receptors."""

    source: str
    target: str
    synapses: Synapses
    receptor: str

    def __repr__(self) -> str:
        return f"Projection({self.source} -> {self.target}.{self.receptor}: {self.synapses})"


@dataclass(frozen=True, eq=False)
class PoissonDrive:
    """Each neuron of a population gets its own Poisson train of `rate` (Hz) with one `weight`.

    `weight` in the unit of the receptor.
    """

    target: str
    rate: float
    weight: float
    receptor: str

    def __post_init__(self) -> None:
        single = np.ndim(self.rate) == 0 and np.ndim(self.weight) == 0
        if not single or not (
            np.isfinite(self.rate) and self.rate >= 0.0 and np.isfinite(self.weight)
        ):
            raise ValueError(
                f"drive of {self.target}: expected one finite rate >= 0 Hz and one finite weight "
                "(for rates of their own join a PoissonSource(rates) one to one), got "
                f"{self.rate} and {self.weight}"
            )


@dataclass(frozen=True, eq=False)
class SpikingNetwork:
    """Populations, projections and Poisson drives.

    Neurons are numbered through all populations in order: `first[name]` is the number of the first
    one. Simultaneous spikes at a neuron sum before it is compared with its threshold; neurons that
    fire at the same time do so in ascending number.
    """

    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    drives: tuple[PoissonDrive, ...] = ()

    def __post_init__(self) -> None:
        names = [population.name for population in self.populations]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"expected populations with unique names, got {names}")
        for projection in self.projections:
            where = f"projection {projection.source} -> {projection.target}"
            source, target = self[projection.source], self._receiver(where, projection)
            synapses = projection.synapses
            sizes = (synapses.source_count, synapses.target_count)
            if sizes != (source.size, target.size):
                raise ValueError(
                    f"{where}: expected synapses {source.size} -> {target.size}, got "
                    f"{sizes[0]} -> {sizes[1]}"
                )
        for drive in self.drives:
            self._receiver(f"drive of {drive.target}", drive)

    def _receiver(self, where: str, item: Projection | PoissonDrive) -> Population:
        """The target, which must have the receptor."""
        target = self[item.target]
        if isinstance(target.model, SOURCES):
            raise ValueError(f"{where}: {target.name} is a spike source and takes no input")
        if item.receptor not in target.model.receptors:
            known = ", ".join(target.model.receptors)
            raise ValueError(f"{where}: expected a receptor out of {known}, got {item.receptor!r}")
        return target

    def __getitem__(self, name: str) -> Population:
        for population in self.populations:
            if population.name == name:
                return population
        known = ", ".join(population.name for population in self.populations)
        raise ValueError(f"expected a population out of {known}, got {name!r}")

    def __iter__(self) -> Iterator[Population]:
        return iter(self.populations)

    @property
    def first(self) -> dict[str, int]:
        """Population -> number of its first neuron."""
        sizes = np.cumsum([0] + [population.size for population in self.populations])
        names = (population.name for population in self.populations)
        return dict(zip(names, sizes[:-1].tolist(), strict=True))

    @property
    def size(self) -> int:
        """Neurons of all populations, sources included."""
        return sum(population.size for population in self.populations)

    @property
    def synapse_count(self) -> int:
        """Synapses of all projections."""
        return sum(projection.synapses.count for projection in self.projections)

    @property
    def shortest_delay(self) -> float:
        """s; infinite without synapses."""
        delays = [projection.synapses.shortest_delay for projection in self.projections]
        return min(delays, default=float("inf"))

    @property
    def longest_delay(self) -> float:
        """s."""
        return max((item.synapses.longest_delay for item in self.projections), default=0.0)

    def __repr__(self) -> str:
        return (
            f"SpikingNetwork({len(self.populations)} populations, {self.size} neurons, "
            f"{self.synapse_count} synapses)"
        )
