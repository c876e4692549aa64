"""Networks of populations and projections, and how to build them."""

from neurosim.populations.builder import NetworkBuilder
from neurosim.populations.examples import brunel, coba, cuba
from neurosim.populations.models import (
    LIF,
    ConductanceLIF,
    CurrentLIF,
    PoissonSource,
    Population,
    SpikeSource,
    SwitchNeuron,
)
from neurosim.populations.network import PoissonDrive, Projection, SpikingNetwork
from neurosim.populations.synapses import CrossbarSynapses, SparseSynapses

__all__ = [
    "LIF",
    "ConductanceLIF",
    "CrossbarSynapses",
    "CurrentLIF",
    "NetworkBuilder",
    "PoissonDrive",
    "PoissonSource",
    "Population",
    "Projection",
    "SparseSynapses",
    "SpikeSource",
    "SpikingNetwork",
    "SwitchNeuron",
    "brunel",
    "coba",
    "cuba",
]
