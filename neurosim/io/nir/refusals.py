"""What NIR cannot express of our networks, by name and with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from neurosim.network import (
    Accumulator,
    AttentionUnit,
    Crossbar,
    DelayCrossbar,
    DigitalUnit,
    Embedding,
    Network,
    NeuronBank,
    Readout,
)
from neurosim.populations import (
    LIF,
    ConductanceLIF,
    CurrentLIF,
    Population,
    SpikingNetwork,
    SwitchNeuron,
)

DROPS = {
    "initial": "states at t = 0",
    "refractory_period": "refractory periods",
    "drives": "Poisson drives",
}
"""What may be left out of a file when asked for by name."""


def refusals(network: SpikingNetwork, drop: frozenset[str]) -> list[str]:
    """Every reason why the network does not fit into NIR; none: it does."""
    found = []
    for population in network:
        found += [f"population {population.name}: {text}" for text in _model(population)]
        found += [f"population {population.name}: {text}" for text in _lost(population, drop)]
        if "/" in population.name or population.name in (".", ""):
            found.append(f'population {population.name}: a name in HDF5 has no "/"; rename it')
    if network.drives and "drives" not in drop:
        targets = ", ".join(drive.target for drive in network.drives)
        found.append(
            f"Poisson drive of {targets}: NIR has no noise; use a PoissonSource population (an "
            'Input in NIR), or drop=("drives",)'
        )
    for population in network:
        used = {item.receptor for item in network.projections if item.target == population.name}
        model = population.model
        if isinstance(model, CurrentLIF) and len(used) == 2:
            taus = population.parameter("excitatory_time_constant")
            if not np.array_equal(taus, population.parameter("inhibitory_time_constant")):
                found.append(
                    f"population {population.name}: two synaptic time constants; a NIR CubaLIF has "
                    "one; make them equal"
                )
    return found


def _model(population: Population) -> list[str]:
    model = population.model
    if isinstance(model, SwitchNeuron):
        return [
            "SwitchNeuron: NIR has no threshold-switching device (it discharges to V_h through a "
            "resistance, it does not reset); fit a LIF to it"
        ]
    if isinstance(model, ConductanceLIF):
        return ["ConductanceLIF: NIR's synapses are currents; use CurrentLIF"]
    found = []
    if isinstance(model, LIF):
        for key, text in (
            ("threshold_voltage", "some neurons fire and some never do"),
            ("time_constant", "some neurons leak and some do not"),
        ):
            infinite = np.isinf(population.parameter(key))
            if infinite.any() and not infinite.all():
                found.append(f"{text}; NIR has different nodes for the two: split the population")
        if isinstance(model, CurrentLIF) and np.isinf(population.parameter("time_constant")).any():
            found.append("synaptic currents without a membrane leak; NIR has no such node")
    return found


def _lost(population: Population, drop: frozenset[str]) -> list[str]:
    """Numbers NIR has no place for."""
    model, found = population.model, []
    if isinstance(model, LIF):
        if "refractory_period" not in drop and population.parameter("refractory_period").any():
            found.append(
                "a refractory period; NIR's neurons have none; set it to 0 s, or "
                'drop=("refractory_period",)'
            )
        states = dict(population.initial)
        if not isinstance(model, ConductanceLIF):
            states.pop("excitatory", None)  # NIR's bias starts it, see write.py
        voltage = states.get("voltage")
        if voltage is not None and np.array_equal(
            np.broadcast_to(voltage, population.size), population.parameter("reset_voltage")
        ):
            states.pop("voltage")
        states = {key: value for key, value in states.items() if np.any(value) or key == "voltage"}
        if "initial" not in drop and states:
            found.append(
                f'initial {" and ".join(states)}; NIR has no states at t = 0; drop=("initial",)'
            )
    return found


_NODES: dict[type, Callable[[Any], str | None]] = {
    Embedding: lambda node: "NIR has no table that is looked up by token",
    Crossbar: lambda node: None,
    DelayCrossbar: lambda node: (
        f"its {len(node.weight)} taps count tokens, a NIR Delay is in seconds"
    ),
    NeuronBank: lambda node: (
        f"resets by subtraction and sends {'-' if node.signed else ''}{node.levels} spikes or fewer"
        " in a window, a NIR IF resets to v_reset and sends one"
    ),
    AttentionUnit: lambda node: "NIR has no product of two spike trains",
    Accumulator: lambda node: "NIR has no sum that starts again at every token",
    DigitalUnit: lambda node: "NIR has no floating-point program between two spikes",
    Readout: lambda node: None,
}


def transformer_refusals(network: Network) -> list[str]:
    """Of a lowered transformer, node by node. Crossbars and readouts alone would fit."""
    found = []
    for node in network:
        reason = _NODES[type(node)](node)
        if reason is not None:
            found.append(f"{node.name} ({type(node).__name__}): {reason}")
    return found
