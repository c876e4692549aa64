"""The compiled step engine equals plain NumPy bit for bit: models, synapses, sources, drives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from steps_networks import MODELS, advanced, mixed_network
from steps_reference import Reference

from neurosim.events.simulate import Options
from neurosim.populations import SpikingNetwork

DT = 1e-4


def compare(network: SpikingNetwork, options: Options, steps: int) -> None:
    """Spikes and every voltage of every step."""
    trace = {
        population.name: range(population.size)
        for population in network
        if not population.is_source
    }
    options = Options(
        DT, options.precision, options.seed, options.threads, trace=trace, trace_step=DT
    )
    simulation = advanced("steps", network, options, [steps * DT])
    reference = Reference(network, options, steps)
    times, neurons = simulation.spikes()
    found = list(zip(np.rint(times / DT).astype(int).tolist(), neurons.tolist(), strict=True))
    assert found == reference.spikes
    for name, (sampled, voltage) in simulation.traces().items():
        expected = np.array(reference.voltages[name], np.float64)
        np.testing.assert_array_equal(voltage, expected, err_msg=name)
        np.testing.assert_allclose(sampled, np.arange(steps + 1) * DT, rtol=1e-12)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("kind", MODELS)
def test_each_model(kind: str, own: bool, precision: str) -> None:
    compare(mixed_network(3, (kind, kind), own), Options(precision=precision, seed=5), 120)


@examples(6)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from(["float32", "float64"]))
def test_everything_together(seed: int, own: bool, precision: str) -> None:
    compare(mixed_network(seed, own=own), Options(precision=precision, seed=seed), 130)
