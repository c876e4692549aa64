"""What clock-driven simulation cannot carry, and why."""

from __future__ import annotations

import numpy as np

from neurosim.events.simulate import Options
from neurosim.events.steps.grid import to_steps
from neurosim.populations.models import LIF, ConductanceLIF
from neurosim.populations.network import SpikingNetwork

_LONGEST = 65535  # steps of a delay: uint16


def refusal(network: SpikingNetwork, options: Options) -> str | None:
    """None, or the reason; names the population or projection."""
    for population in network:
        if not population.is_source and not isinstance(population.model, LIF):
            return (
                f"{population.name}: no time step is exact for {type(population.model).__name__}; "
                "use a closed-form engine"
            )
        if isinstance(population.model, ConductanceLIF):
            for state in ("excitatory", "inhibitory"):
                if np.min(population.initial.get(state, 0.0)) < 0.0:
                    return f"{population.name}: expected initial {state} conductances >= 0"
    for projection in network.projections:
        where = f"{projection.source} -> {projection.target}"
        synapses = projection.synapses
        if synapses.count == 0:
            continue
        shortest = int(to_steps(synapses.shortest_delay, options.time_step))
        longest = int(to_steps(synapses.longest_delay, options.time_step))
        if shortest < 1:
            return (
                f"{where}: a delay of {synapses.shortest_delay:g} s is less than half a time step "
                f"of {options.time_step:g} s; use a shorter time_step or an exact engine"
            )
        if longest > _LONGEST:
            return f"{where}: expected delays of at most {_LONGEST} steps, got {longest}"
        weight = synapses.weight
        conducts = isinstance(network[projection.target].model, ConductanceLIF)
        if conducts and np.min(weight) < 0.0:
            return f"{where}: expected conductance weights >= 0, got {np.min(weight):g}"
    for drive in network.drives:
        if isinstance(network[drive.target].model, ConductanceLIF) and drive.weight < 0.0:
            return f"drive of {drive.target}: expected a conductance weight >= 0"
    for name, neurons in options.trace.items():
        size = network[name].size
        if network[name].is_source:
            return f"trace of {name}: a spike source has no voltage"
        if any(not 0 <= neuron < size for neuron in neurons):
            return f"trace of {name}: expected neurons 0..{size - 1}, got {list(neurons)}"
    return None
