"""The mesh under a run: what it carries, loses and delays."""

from neurosim.events.mesh.mesh import Mesh
from neurosim.events.mesh.report import EDGES, Latency, PhaseTraffic

__all__ = ["EDGES", "Latency", "Mesh", "PhaseTraffic"]
