"""Small networks with everything the step engines carry, and a run that is compared."""

from __future__ import annotations

import numpy as np

from neurosim.events import engines
from neurosim.events.simulate import Options
from neurosim.populations import (
    LIF,
    ConductanceLIF,
    CurrentLIF,
    NetworkBuilder,
    PoissonSource,
    SpikeSource,
    SpikingNetwork,
)

MODELS = ("delta", "current", "conductance")


def values(rng: np.random.Generator, low: float, high: float, size: int, own: bool):
    """One value, or one for each neuron."""
    return rng.uniform(low, high, size) if own else float(rng.uniform(low, high))


def neuron_model(kind: str, rng: np.random.Generator, size: int, own: bool):
    """A model that fires now and then by itself."""
    shared = (
        values(rng, 5e-3, 20e-3, size, own),
        values(rng, -52e-3, -47e-3, size, own),
        values(rng, -50e-3, -49e-3, size, own),
        values(rng, -65e-3, -60e-3, size, own),
        values(rng, 0.0, 2e-3, size, own),
    )
    if kind == "delta":
        return LIF(*shared)
    synapses = (values(rng, 1e-3, 5e-3, size, own), values(rng, 2e-3, 10e-3, size, own))
    if kind == "current":
        return CurrentLIF(*shared, *synapses)
    return ConductanceLIF(*shared, *synapses, 0.0, values(rng, -85e-3, -75e-3, size, own))


def mixed_network(seed: int, kinds: tuple[str, ...] = MODELS, own: bool = False) -> SpikingNetwork:
    """Populations of awkward sizes; all forms of synapses between them; sources and drives."""
    rng = np.random.default_rng(seed)
    build = NetworkBuilder(seed)
    noise = build.population("noise", 7, PoissonSource(values(rng, 0.0, 400.0, 7, own)))
    times = rng.uniform(0.0, 0.03, 40)
    given = build.population("given", 5, SpikeSource(times, rng.integers(0, 5, 40)))
    cells = []
    for kind in kinds:
        size = int(rng.choice([1, 15, 16, 33, 70]))
        model = neuron_model(kind, rng, size, own)
        voltage = rng.uniform(-60e-3, -49e-3, size)
        name = f"{kind} {len(cells)}"
        cells.append(build.population(name, size, model, voltage=voltage))
    for source in (noise, given, *cells):
        for target in cells:
            model = target.model
            scale = 0.3 if isinstance(model, ConductanceLIF) else 2e-3
            receptor = str(rng.choice(model.receptors))
            shape = (source.size, target.size)
            form = rng.integers(0, 4)
            delay = float(rng.uniform(0.1e-3, 1.2e-3))
            if form == 0:
                build.connect(
                    source, target, weight=scale, delay=delay, receptor=receptor, probability=0.4
                )
            elif form == 1:
                full = rng.uniform(0.0, scale / 2, shape)
                build.connect(source, target, weight=full, delay=delay, receptor=receptor)
            else:
                count = int(rng.integers(0, 60))
                pairs = rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)
                build.connect(
                    source,
                    target,
                    weight=scale if form == 2 else rng.uniform(0.0, scale, count),
                    delay=rng.uniform(0.1e-3, 2e-3, count) if rng.random() < 0.7 else delay,
                    receptor=receptor,
                    pairs=pairs,
                )
    for target in cells:
        scale = 0.05 if isinstance(target.model, ConductanceLIF) else 0.5e-3
        for receptor in target.model.receptors[:1]:
            build.drive(target, rate=rng.uniform(100.0, 90e3), weight=scale, receptor=receptor)
    return build.network()


def advanced(name: str, network: SpikingNetwork, options: Options, times: list[float]):
    """A simulation by an engine, advanced to each of the times."""
    engine = engines.available()[name]
    assert engine.supports(network, options) is None, engine.supports(network, options)
    simulation = engine.begin(network, options)
    for time in times:
        simulation.advance(time)
    return simulation
