"""SANA-FE runs what we export and counts the same spikes; what it cannot run is refused."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.events.simulate import Options, simulate
from neurosim.io import sanafe
from neurosim.populations import (
    LIF,
    CurrentLIF,
    NetworkBuilder,
    PoissonSource,
    SpikeSource,
    brunel,
)

STEP, TICKS = 1e-3, 50


def network(seed=0):
    """Inputs -> a recurrent layer away from 0 V -> a layer behind delays of 1 to 4 steps."""
    rng = np.random.default_rng(seed)
    build = NetworkBuilder(seed)
    ticks, neurons = np.nonzero(rng.random((TICKS, 6)) < 0.3)
    source = build.population("in.put", 6, SpikeSource(ticks * STEP, neurons))
    cells = LIF(10e-3, -65e-3, -50e-3, -70e-3)
    first = build.population("first", 10, cells, voltage=-65e-3)
    taus = rng.uniform(5e-3, 30e-3, 8)
    waits = rng.integers(1, 4, 8) * STEP
    last = build.population("last", 8, LIF(taus, 0.0, 1.0, 0.0, waits), voltage=0.0)
    biased = LIF(rng.uniform(5e-3, 30e-3, 5), rng.uniform(0.5, 1.3, 5), 1.0, -0.3)
    drifting = build.population("drifting", 5, biased, voltage=rng.uniform(-0.5, 0.9, 5))
    build.connect(first, drifting, weight=rng.normal(0.0, 0.3, (10, 5)), delay=STEP)
    build.connect(source, first, weight=rng.uniform(0, 20e-3, (6, 10)), delay=STEP)
    build.connect(first, first, weight=-3e-3, delay=2 * STEP, probability=0.5)
    pairs = rng.integers(0, 10, 40), rng.integers(0, 8, 40)
    delays = rng.integers(1, 5, 40) * STEP
    build.connect(first, last, weight=rng.uniform(0, 1.5, 40), delay=delays, pairs=pairs)
    return build.network()


def run_sanafe(made, sizes):
    """Group -> spikes (steps, neurons)."""
    package = pytest.importorskip("sanafe", reason="sanafe is not installed")
    chip_description = package.load_arch(made.architecture)
    chip = package.SpikingChip(chip_description)
    chip.load(package.load_net(made.network, chip_description))
    result = chip.sim(made.steps, spike_trace=True)
    found = {name: np.zeros((made.steps, size)) for name, size in sizes.items()}
    names = {group: name for name, group in made.groups.items()}
    for step, addresses in enumerate(result["spike_trace"]):
        for address in addresses:
            found[names[address.group_name]][step, address.neuron_offset] = 1.0
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_sanafe_counts_the_spikes_of_engine_steps(seed, tmp_path, capfd):
    net = network(seed)
    made = sanafe.export(
        net, tmp_path, time_step=STEP, duration=(TICKS - 1) * STEP, neurons_per_core=16
    )
    assert made.steps == TICKS and made.groups["in.put"] == "in_put"
    assert made.relays == 10 * 3  # for delays of 2, 3 and 4 steps
    theirs = run_sanafe(made, {item.name: item.size for item in net})
    recording = simulate(net, (TICKS - 1) * STEP, engine="steps", options=Options(time_step=STEP))
    for item in net:
        times, neurons = recording.spikes(item.name)
        ours = np.zeros((TICKS, item.size))
        ours[np.rint(times / STEP).astype(int), neurons] = 1.0
        assert ours.any()
        np.testing.assert_array_equal(theirs[item.name], ours, err_msg=item.name)


def test_the_files_are_those_a_second_export_writes(tmp_path):
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    for name in ("a", "b"):
        made = sanafe.export(network(), tmp_path / name, time_step=STEP, duration=0.02)
    for file in (made.architecture, made.network):
        assert file.read_bytes() == (tmp_path / "a" / file.name).read_bytes()
    tile = yaml.safe_load(made.architecture.read_text())["architecture"]["tile"][0]
    assert [unit["name"] for unit in tile["core"][0]["soma"]] == ["lif", "input[0..5]"]
    groups = yaml.safe_load(made.network.read_text())["network"]["groups"]
    neuron = {key: value for part in groups[1]["neurons"] for key, value in part.items()}
    assert groups[1]["name"] == "first" and len(neuron) == 10


def lone(model, **initial):
    build = NetworkBuilder()
    build.population("cells", 2, model, **initial)
    return build


@pytest.mark.parametrize(
    "build, message",
    [
        (lone(CurrentLIF()), r"population cells: CurrentLIF is not .* use LIF"),
        (lone(PoissonSource(1.0)), r"population cells: PoissonSource .* give it as a SpikeSource"),
        (
            lone(SpikeSource(np.array([1e-3, 1.2e-3]), np.array([1, 1]))),
            r"population cells: two spikes of a neuron in one step",
        ),
        (lone(LIF(time_constant=1e-4)), r"population cells: forgets within a step of 0.001 s"),
        (lone(LIF(refractory_period=1.5e-3)), r"refractory periods of whole steps"),
        (
            lone(LIF(reset_voltage=-0.01, refractory_period=1e-3), voltage=0.0),
            r"neurons leak in the refractory period",
        ),
        (lone(LIF(threshold_voltage=np.inf)), r"population cells: never fires"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_sanafe_cannot_run(build, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        sanafe.export(build.network(), tmp_path, time_step=STEP, duration=1.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("delay", [0.0, 0.4e-3, 1.5e-3])
def test_delays_must_be_whole_steps(delay, tmp_path):
    build = lone(LIF())
    cells = build.network()["cells"]
    build.connect(cells, cells, weight=1e-3, delay=delay)
    with pytest.raises(ValueError, match=r"projection cells -> cells: expected delays of whole"):
        sanafe.export(build.network(), tmp_path, time_step=STEP, duration=1.0)


def test_noise_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Poisson drive of excitatory"):
        sanafe.export(brunel(20), tmp_path, time_step=1.5e-3, duration=1.0)
