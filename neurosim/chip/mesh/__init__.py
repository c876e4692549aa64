"""The mesh between the tiles: its links, multicast trees, and packets on them."""

from neurosim.chip.mesh.grid import DIRECTION_NAMES, Grid, LinkTiming
from neurosim.chip.mesh.links import Delivery, Gates, Packets, transport
from neurosim.chip.mesh.trees import Routes

__all__ = [
    "DIRECTION_NAMES",
    "Delivery",
    "Gates",
    "Grid",
    "LinkTiming",
    "Packets",
    "Routes",
    "transport",
]
