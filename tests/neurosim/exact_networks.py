"""Small networks for the tests of the engines in continuous time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from neurosim.events.simulate import Options
from neurosim.populations import (
    LIF,
    CurrentLIF,
    NetworkBuilder,
    PoissonSource,
    SpikeSource,
    SpikingNetwork,
)


def assert_same(
    found: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray], limit: float = 1e-9
) -> None:
    """The same neurons in the same order, times within `limit` s."""
    order = np.lexsort((found[1], np.round(found[0], 12)))
    other = np.lexsort((wanted[1], np.round(wanted[0], 12)))
    assert len(found[0]) == len(wanted[0])
    np.testing.assert_array_equal(found[1][order], wanted[1][other])
    np.testing.assert_allclose(found[0][order], wanted[0][other], rtol=0.0, atol=limit)


def run(begin: Callable[..., Any], network: SpikingNetwork, duration: float, seed: int = 0) -> Any:
    """A simulation advanced to `duration`."""
    simulation = begin(network, Options(seed=seed))
    simulation.advance(duration)
    return simulation


def random_network(
    seed: int,
    model: LIF | CurrentLIF,
    *,
    size: int = 20,
    own_delays: bool = False,
    own_weights: bool = True,
    sources: bool = True,
    drive: float = 0.0,
    strength: float = 1.0,
) -> SpikingNetwork:
    """Two populations, mixed signs, sources of both kinds, many simultaneous deliveries."""
    rng = np.random.default_rng(seed)
    build = NetworkBuilder(seed)
    gap = strength * (model.threshold_voltage - model.reset_voltage)
    start = rng.uniform(model.reset_voltage, model.threshold_voltage, size)
    cells = [
        build.population("a", size, model, voltage=start),
        build.population("b", size // 2, model),
    ]
    givers = list(cells)
    if sources:
        times = np.round(rng.uniform(0.0, 0.1, 60), 3)
        givers.append(
            build.population("list", 5, SpikeSource(times, rng.integers(0, 5, times.size)))
        )
        givers.append(build.population("noise", 5, PoissonSource(rng.uniform(50.0, 200.0, 5))))
    for giver in givers:
        for target in cells:
            count = giver.size * target.size // 3
            pairs = (rng.integers(0, giver.size, count), rng.integers(0, target.size, count))
            weight = rng.normal(0.15 * gap, 0.3 * gap, count)
            delays = rng.choice([1e-3, 1.5e-3, 4e-3, 0.1e-3 + rng.uniform(0, 1e-3)], count)
            build.connect(
                giver,
                target,
                weight=weight if own_weights else 0.21 * gap,
                delay=delays if own_delays else 1e-3,
                receptor=model.receptors[int(rng.integers(len(model.receptors)))],
                pairs=pairs,
            )
    if drive:
        build.drive(cells[0], rate=drive, weight=0.3 * gap, receptor=model.receptors[0])
        build.drive(cells[0], rate=drive / 2, weight=-0.1 * gap, receptor=model.receptors[-1])
    return build.network()
