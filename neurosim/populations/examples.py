"""The benchmark networks of the field: CUBA, COBA (Vogels & Abbott 2005) and Brunel (2000)."""

from __future__ import annotations

import numpy as np

from neurosim.populations.builder import NetworkBuilder
from neurosim.populations.models import LIF, ConductanceLIF, CurrentLIF
from neurosim.populations.network import SpikingNetwork


def _two_projections(
    model: CurrentLIF, size: int, weights: tuple[float, float], seed: int, fan_in: float
) -> SpikingNetwork:
    """80 % excitatory, 20 % inhibitory neurons, each pair joined with probability fan_in / size."""
    rng = np.random.default_rng((seed, 0))
    build = NetworkBuilder(seed)
    excitatory = size * 4 // 5
    cells = []
    for name, count in (("excitatory", excitatory), ("inhibitory", size - excitatory)):
        states = {"voltage": rng.uniform(-60e-3, -50e-3, count)}
        if isinstance(model, ConductanceLIF):
            states["excitatory"] = np.clip(0.4 + 0.15 * rng.standard_normal(count), 0.0, 10.0)
            states["inhibitory"] = np.clip(2.0 + 1.2 * rng.standard_normal(count), 0.0, 10.0)
        cells.append(build.population(name, count, model, **states))
    for source, weight, receptor in zip(cells, weights, model.receptors, strict=True):
        for target in cells:
            build.connect(
                source,
                target,
                weight=weight,
                delay=0.1e-3,
                receptor=receptor,
                probability=min(fan_in / size, 1.0),
            )
    return build.network()


def cuba(size: int = 4000, seed: int = 0) -> SpikingNetwork:
    """Current-based network of Vogels & Abbott (2005): 80 synapses a neuron, 5 to 6 Hz."""
    model = CurrentLIF(20e-3, -49e-3, -50e-3, -60e-3, 5e-3, 5e-3, 10e-3)
    return _two_projections(model, size, (1.62e-3, -9e-3), seed, 80.0)


def coba(size: int = 4000, seed: int = 0) -> SpikingNetwork:
    """Conductance-based network of Vogels & Abbott (2005): 80 synapses a neuron, about 20 Hz."""
    model = ConductanceLIF(20e-3, -60e-3, -50e-3, -60e-3, 5e-3, 5e-3, 10e-3, 0.0, -80e-3)
    return _two_projections(model, size, (0.6, 6.7), seed, 80.0)


def brunel(size: int = 12500, seed: int = 0, *, gain: float = 5.0) -> SpikingNetwork:
    """Random network of Brunel (2000), J = 0.1 mV, g = `gain`, eta = 2, 10 % joined, 1.5 ms.

    The external drive is 2 V_th / (J tau) spikes/s at each neuron, as of 1,000 Poisson inputs.
    """
    jump, tau, threshold = 0.1e-3, 20e-3, 20e-3
    model = LIF(tau, 0.0, threshold, 10e-3, 2e-3)
    build = NetworkBuilder(seed)
    excitatory = size * 4 // 5
    cells = [
        build.population("excitatory", excitatory, model, voltage=0.0),
        build.population("inhibitory", size - excitatory, model, voltage=0.0),
    ]
    for source, weight in zip(cells, (jump, -gain * jump), strict=True):
        for target in cells:
            build.connect(source, target, weight=weight, delay=1.5e-3, probability=0.1)
    for target in cells:
        build.drive(target, rate=2.0 * threshold / (jump * tau), weight=jump, receptor="voltage")
    return build.network()
