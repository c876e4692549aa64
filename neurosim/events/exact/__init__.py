"""What the engines that are exact in continuous time share: segments of synapses, trains, state."""

from neurosim.events.exact.simulation import ExactSimulation
from neurosim.events.exact.support import common_refusal
from neurosim.events.exact.trains import Drives, Sources
from neurosim.events.exact.wiring import Wiring, build_wiring

__all__ = [
    "Drives",
    "ExactSimulation",
    "Sources",
    "Wiring",
    "build_wiring",
    "common_refusal",
]
