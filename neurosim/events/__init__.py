"""The run loop and what it records."""

from neurosim.events.engine import Simulator, simulate
from neurosim.events.recorder import Run

__all__ = ["Run", "Simulator", "simulate"]
