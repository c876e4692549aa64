"""The engine "steps": exact propagators on a grid of time steps, synapses as rows of targets."""

from __future__ import annotations

from neurosim.events.simulate import Options
from neurosim.events.steps.costs import predict
from neurosim.events.steps.limits import refusal
from neurosim.events.steps.simulation import StepSimulation
from neurosim.populations.network import SpikingNetwork

NAME = "steps"


def supports(network: SpikingNetwork, options: Options) -> str | None:
    """None, or why this engine cannot carry the network."""
    return refusal(network, options)


def cost(network: SpikingNetwork, options: Options) -> float:
    """Predicted CPU seconds per simulated second."""
    return predict(network, options, bitmaps=False)


def begin(network: SpikingNetwork, options: Options) -> StepSimulation:
    """A simulation at t = 0."""
    return StepSimulation(network, options, bitmaps=False)
