"""Simulation in time: layers window by window on a chip, populations on several engines."""

from neurosim.events.engine import Simulator
from neurosim.events.recorder import Run
from neurosim.events.recording import Recording
from neurosim.events.simulate import Options, simulate

__all__ = ["Options", "Recording", "Run", "Simulator", "simulate"]
