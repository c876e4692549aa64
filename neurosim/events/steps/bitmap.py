"""The engine "bitmap": as "steps", with uniform projections as a bit per pair of neurons."""

from __future__ import annotations

from neurosim.events.simulate import Options
from neurosim.events.steps.costs import predict
from neurosim.events.steps.limits import refusal
from neurosim.events.steps.simulation import StepSimulation
from neurosim.events.steps.wiring import bitmap_refusal
from neurosim.populations.network import SpikingNetwork

NAME = "bitmap"


def supports(network: SpikingNetwork, options: Options) -> str | None:
    """None, or why this engine cannot carry the network: it wants a bitmap at least once."""
    reason = refusal(network, options)
    if reason is not None:
        return reason
    reasons = [bitmap_refusal(item, options.time_step) for item in network.projections]
    if None in reasons:
        return None
    return f"no projection can be a bitmap: {reasons[0]}" if reasons else "it has no projections"


def cost(network: SpikingNetwork, options: Options) -> float:
    """Predicted CPU seconds per simulated second."""
    return predict(network, options, bitmaps=True)


def begin(network: SpikingNetwork, options: Options) -> StepSimulation:
    """A simulation at t = 0."""
    return StepSimulation(network, options, bitmaps=True)
