"""100 coupled threshold switches against ngspice: order of spikes, times within 1e-3.

The deck holds all neurons at once. A packet is a current pulse 20 ns long around the time at which
the calendar engine delivers it (spike + delay). As every delay is above 0, equal responses to equal
packets mean equal networks, spike by spike.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from exact_networks import run

from neurosim.devices import load_device
from neurosim.devices import spice as referee
from neurosim.devices.spice.netlist import branch, deck
from neurosim.devices.spice.runner import measure
from neurosim.events import calendar
from neurosim.populations import NetworkBuilder, SpikingNetwork, SwitchNeuron

needs_ngspice = pytest.mark.skipif(
    referee.find_ngspice() is None, reason="ngspice is not installed"
)
SIZE, DURATION, WIDTH, STEP = 100, 230e-6, 20e-9, 20e-9
DEMO = load_device("demo")


def network() -> SpikingNetwork:
    """Packets of both signs, 3 to 15 % of a quantum, 4 inputs per neuron, two delays."""
    switch = DEMO.switch()
    rng = np.random.default_rng(12)
    currents = rng.permutation(np.linspace(2e-6, 4e-6, SIZE))
    build = NetworkBuilder()
    model = SwitchNeuron(DEMO, currents)
    start = rng.uniform(switch.lower, 0.95 * switch.upper, SIZE)
    cells = build.population("cells", SIZE, model, voltage=start)
    pairs = (rng.integers(0, SIZE, 4 * SIZE), rng.integers(0, SIZE, 4 * SIZE))
    sign = rng.choice([-1.0, 1.0, 1.0], 4 * SIZE)
    charge = sign * rng.uniform(0.03, 0.15, 4 * SIZE) * switch.quantum
    delay = rng.choice([4e-6, 15e-6], 4 * SIZE)
    build.connect(cells, cells, weight=charge, delay=delay, pairs=pairs)
    return build.network()


def netlist(net: SpikingNetwork, times: np.ndarray, neurons: np.ndarray) -> str:
    switch = DEMO.switch()
    cells, synapses = net["cells"], net.projections[0].synapses
    source = np.repeat(np.arange(SIZE), np.diff(synapses.offsets))
    currents, start = cells.parameter("current"), cells.initial["voltage"]
    parts = [branch(switch)[0]]
    expected = np.bincount(neurons, minlength=SIZE)
    control = []
    level = 0.5 * switch.lower / switch.on_resistance  # only a device that is ON lets it through
    for k in range(SIZE):
        parts += [
            f"S{k} m{k} d{k} m{k} d{k} ts OFF",
            f"Vd{k} d{k} 0 DC 0",
            f"Cm{k} m{k} 0 {switch.capacitance:.12g} IC={start[k]:.12g}",
            f"Rl{k} m{k} 0 {1.0 / switch.leak_conductance:.12g}",
            f"Ii{k} 0 m{k} DC {currents[k]:.12g}",
        ]
        for j in np.flatnonzero(synapses.targets == k):
            for number, time in enumerate(times[neurons == source[j]] + synapses.delay[j]):
                height = synapses.weight[j] / WIDTH
                begin = time - 0.5 * WIDTH
                shape = f"PULSE(0 {height:.12g} {begin:.12g} 1p 1p {WIDTH:.12g} 1)"
                parts.append(f"Ip{k}_{j}_{number} 0 m{k} {shape}")
        for rise in range(1, expected[k] + 2):
            control.append(f"meas tran t{k}_{rise} WHEN i(Vd{k})={level:.12g} RISE={rise}")
    return deck("100 coupled threshold switches", parts, STEP, DURATION, control)


@pytest.mark.slow
@needs_ngspice
def test_coupled_network_equals_ngspice() -> None:
    net, switch = network(), DEMO.switch()
    assert switch.leak_voltage == 0.0 and switch.output_resistance == 0.0
    times, neurons = run(calendar.begin, net, DURATION).spikes()
    alone = dataclasses.replace(net, projections=())
    free, _ = run(calendar.begin, alone, DURATION).spikes()
    assert free.size != times.size  # the coupling matters
    found = measure(netlist(net, times, neurons))
    ours, theirs = [], []
    for k in range(SIZE):
        mine = times[neurons == k]
        spice = [found[f"t{k}_{r}"] for r in range(1, 40) if f"t{k}_{r}" in found]
        assert abs(len(spice) - len(mine)) <= int(mine.size > 0 and mine[-1] > 0.99 * DURATION)
        both = min(len(spice), len(mine))
        ours.extend(mine[:both])
        theirs.extend(spice[:both])
    one, two = np.array(ours), np.array(theirs)
    assert one.size > 200
    np.testing.assert_allclose(two, one, rtol=1e-3, atol=2.0 * STEP)
    order = np.argsort(one)
    one, two = one[order], two[order]
    apart = np.diff(one) > 1e-3 * one[1:] + 2.0 * STEP
    assert np.all(np.diff(two)[apart] > 0.0)
    assert apart.mean() > 0.5
