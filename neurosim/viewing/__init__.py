"""A run to look at: events, a trace, maps of the chip, membranes."""

from neurosim.viewing.events import run_events
from neurosim.viewing.figures import membranes, mesh_map, placement_map
from neurosim.viewing.timeline import run_slices

__all__ = ["membranes", "mesh_map", "placement_map", "run_events", "run_slices"]
