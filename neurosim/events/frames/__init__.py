"""Engine "frames": LIF neurons with delta synapses, event by event in a rescaled frame."""

from neurosim.events.frames.engine import NAME, begin, cost, supports

__all__ = ["NAME", "begin", "cost", "supports"]
