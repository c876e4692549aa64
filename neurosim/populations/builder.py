"""A network, statement by statement.

build = NetworkBuilder(seed=1)
cells = build.population("cells", 4000, CurrentLIF(...), voltage=-60e-3)
noise = build.population("noise", 100, PoissonSource(10.0))
build.connect(noise, cells, weight=2e-3, delay=1e-3, probability=0.1, receptor="excitatory")
recording = simulate(build.network(), 1.0)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.populations.models import Model, Population, Values
from neurosim.populations.network import PoissonDrive, Projection, SpikingNetwork
from neurosim.populations.synapses import CrossbarSynapses, SparseSynapses, Synapses


class NetworkBuilder:
    """Collects populations and projections; `seed` draws the random connections."""

    def __init__(self, seed: int = 0) -> None:
        if not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"expected a seed, an integer >= 0, got {seed!r}")
        self._seed = seed
        self._populations: list[Population] = []
        self._projections: list[Projection] = []
        self._drives: list[PoissonDrive] = []

    def population(self, name: str, size: int, model: Model, **initial: Values) -> Population:
        """Add neurons; keyword arguments are initial states, e.g. voltage=-60e-3."""
        population = Population(name, size, model, initial)
        if any(other.name == name for other in self._populations):
            raise ValueError(f"expected a new population name, got {name!r} twice")
        self._populations.append(population)
        return population

    def connect(
        self,
        source: Population,
        target: Population,
        *,
        weight: float | npt.NDArray[np.float64],
        delay: float | npt.NDArray[np.float64],
        receptor: str | None = None,
        probability: float | None = None,
        pairs: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        one_to_one: bool = False,
        to_itself: bool = True,
    ) -> Projection:
        """Add synapses, chosen in one of four ways.

        `probability`: every pair independently, one weight; `pairs`: lists of source and target
        neurons; `one_to_one`: neuron i to neuron i; none of them: a crossbar, `weight` (S, T), or
        one weight for all pairs. `receptor` may be left out where the target has one only.
        `weight` in the unit of the receptor (V; C for switches; 1 for conductances), `delay` in s.
        `to_itself`: whether `probability` may join a neuron of a population to itself.
        """
        if sum((probability is not None, pairs is not None, one_to_one)) > 1:
            raise ValueError("expected one of probability, pairs and one_to_one")
        if not to_itself and probability is None and source is target:
            raise ValueError(
                "to_itself=False goes with probability= (1.0 for all other neurons); or leave the "
                "pairs out of pairs="
            )
        shape = (source.size, target.size)
        synapses: Synapses
        if probability is not None:
            if np.ndim(weight) or np.ndim(delay):
                raise ValueError("with probability: expected one weight and one delay; or pairs=")
            seed = np.random.SeedSequence((self._seed, len(self._projections)))
            synapses = SparseSynapses.random(
                *shape,
                probability,
                float(weight),
                float(delay),
                int(seed.generate_state(1)[0]),
                to_itself or source is not target,
            )
        elif pairs is not None:
            synapses = SparseSynapses.from_pairs(*pairs, weight, delay, *shape)
        elif one_to_one:
            if source.size != target.size:
                raise ValueError(f"one_to_one: expected equal sizes, got {shape}")
            numbers = np.arange(source.size)
            synapses = SparseSynapses.from_pairs(numbers, numbers, weight, delay, *shape)
        else:
            if np.ndim(delay):
                raise ValueError("a crossbar has one delay; for own delays use pairs=")
            if np.ndim(weight) and np.shape(weight) != shape:
                raise ValueError(f"expected weights {shape}, got {np.shape(weight)}")
            full = np.ascontiguousarray(np.broadcast_to(np.asarray(weight, np.float64), shape))
            synapses = CrossbarSynapses(full, float(delay))
        if receptor is None:
            if len(target.model.receptors) != 1:
                known = ", ".join(target.model.receptors) or "none"
                raise ValueError(f"{target.name}: expected a receptor out of {known}, got none")
            receptor = target.model.receptors[0]
        projection = Projection(source.name, target.name, synapses, receptor)
        self._projections.append(projection)
        return projection

    def drive(self, target: Population, *, rate: float, weight: float, receptor: str) -> None:
        """Give each neuron of `target` a Poisson train of its own: `rate` Hz, `weight` a spike."""
        self._drives.append(PoissonDrive(target.name, rate, weight, receptor))

    def network(self) -> SpikingNetwork:
        """The network so far, checked."""
        return SpikingNetwork(
            tuple(self._populations), tuple(self._projections), tuple(self._drives)
        )
