"""The run loop: ideal equals software, counts equal what the recorded spikes say, energy is kept.

Software is a naive interpreter of the network in Python integers; counts are worked out from the
recorded spikes, the weights and the placement alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from energy_cases import bank, weights
from engine_networks import (
    NETWORKS,
    added_counts,
    lowered_model,
    network_of,
)
from tiny_models import tokens

from neurosim.chip import ChipDescription
from neurosim.energy import chip_prices, energy_report, multiplies
from neurosim.events.engine import Simulator, simulate
from neurosim.events.recorder import Run
from neurosim.network import (
    Crossbar,
    DelayCrossbar,
    Embedding,
    Network,
    NeuronBank,
    Readout,
)


def test_phases_add_up_to_one_run(chips: dict[str, ChipDescription]) -> None:
    """Prefill and decode of one text: the counts of the whole, the energy too, the same spikes."""
    network, ids = lowered_model(1), tokens(14).tolist()
    for name in ("ideal", "ag_v2c_w"):
        whole = simulate(network, chips[name], ids, 5)
        simulator = Simulator(network, chips[name], 5)
        for token in ids[:9]:
            simulator.step(token)
        simulator.begin("decode")
        for token in ids[9:]:
            simulator.step(token)
        parts = simulator.run()
        np.testing.assert_array_equal(parts.logits, whole.logits)
        assert added_counts(parts) == added_counts(whole)
        assert parts.phases["decode"].tokens == 5
        assert parts.phases["decode"].total("neuron_windows") == 5 * parts.neurons
        for mechanism, joules in whole.phases["prefill"].joules_by_mechanism().items():
            split = [phase.joules_by_mechanism()[mechanism] for phase in parts.phases.values()]
            assert sum(split) == pytest.approx(joules, rel=1e-10, abs=1e-25), mechanism
            assert min(split) > 0 or joules == 0


# Runs.


def _same(first: Run, second: Run) -> bool:
    return (
        np.array_equal(first.logits, second.logits)
        and all(np.array_equal(first.spikes[name], second.spikes[name]) for name in first.spikes)
        and first.phases["prefill"].counts == second.phases["prefill"].counts
        and first.phases["prefill"].joules == second.phases["prefill"].joules
    )


def test_a_seed_is_a_run(chips: dict[str, ChipDescription]) -> None:
    network, ids = lowered_model(1), tokens(12).tolist()
    first = simulate(network, chips["ag_v2c_w"], ids, 7)
    assert _same(first, simulate(network, chips["ag_v2c_w"], ids, 7))
    other = simulate(network, chips["ag_v2c_w"], ids, 8)
    assert not _same(first, other)
    differ = [name for name in first.spikes if (first.spikes[name] != other.spikes[name]).any()]
    assert len(differ) > len(first.spikes) / 2
    ideal = simulate(network, chips["ideal"], ids, 7)
    assert _same(ideal, simulate(network, chips["ideal"], ids, 8))
    assert not np.array_equal(ideal.logits, first.logits)


def test_a_seed_is_a_chip(chips: dict[str, ChipDescription]) -> None:
    """Programmed weights, their read noise and the neurons' devices come from the seed alone."""
    network = lowered_model(0)
    first, same, other = (Simulator(network, chips["ag_v2c_w"], seed) for seed in (7, 7, 8))
    for name, crossbar in first.crossbars.items():
        np.testing.assert_array_equal(crossbar.weight, same.crossbars[name].weight)
        assert (crossbar.weight != other.crossbars[name].weight).any(), name
        assert crossbar.noise_key == same.crossbars[name].noise_key, name
        assert crossbar.noise_key != other.crossbars[name].noise_key, name
    keys = {int(crossbar.noise_key) for crossbar in first.crossbars.values()}
    assert len(keys) == len(first.crossbars)  # no two crossbars share their noise
    charge = np.full(32, 60)
    fired = [
        np.array([chip.banks["blocks.0.conv_read"].fire(charge, window) for window in range(8)])
        for chip in (first, same, other)
    ]
    np.testing.assert_array_equal(fired[0], fired[1])
    assert (fired[0] != fired[2]).any()


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_forget_starts_a_new_text(build: type, chips: dict[str, ChipDescription]) -> None:
    """State, delayed spikes and n-grams: the second text runs as if it were the first."""
    network = build()
    first, second = [0, 3, 1, 4, 4], [2, 2, 0, 1]
    simulator = Simulator(network, chips["ideal"])
    for token in first:
        simulator.step(token)
    simulator.forget()
    for token in second:
        simulator.step(token)
    run, alone = simulator.run(), simulate(network, chips["ideal"], second)
    np.testing.assert_array_equal(run.logits[5:], alone.logits)
    for name, rows in alone.spikes.items():
        np.testing.assert_array_equal(run.spikes[name][5:], rows, err_msg=name)
    kept = simulate(network, chips["ideal"], first + second)  # without it the past is there
    assert any((kept.spikes[name][5:] != rows).any() for name, rows in alone.spikes.items())


def test_a_run_is_finished(chips: dict[str, ChipDescription]) -> None:
    """What `run` returned does not change when the simulator goes on."""
    simulator = Simulator(lowered_model(0), chips["ideal"])
    simulator.step(3)
    run = simulator.run()
    counts = {node: dict(names) for node, names in run.phases["prefill"].counts.items()}
    joules = run.phases["prefill"].joules_by_mechanism()
    simulator.step(4)
    simulator.run()
    assert run.tokens == (3,)
    assert run.phases["prefill"].tokens == 1
    assert run.phases["prefill"].counts == counts
    assert run.phases["prefill"].joules_by_mechanism() == joules


@pytest.mark.parametrize("token", [-1, 50, 10**9])
def test_a_token_outside_the_table_is_refused(
    token: int, chips: dict[str, ChipDescription]
) -> None:
    """With the simulator as it was."""
    simulator = Simulator(lowered_model(0), chips["ideal"])
    simulator.step(3)
    with pytest.raises(ValueError, match=f"expected a token below 50, got {token}"):
        simulator.step(token)
    simulator.step(4)
    run = simulator.run()
    assert run.tokens == (3, 4)
    assert _same(run, simulate(simulator.network, chips["ideal"], [3, 4]))


def test_no_tokens(chips: dict[str, ChipDescription]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        simulate(lowered_model(0), chips["ideal"], [])


def test_read_noise_needs_pulses(chips: dict[str, ChipDescription]) -> None:
    """Crossbars whose rows are silent read nothing, however noisy a read is."""
    silent = NeuronBank("silent", np.full(4, 10**6), np.zeros(4, int), 4, True)
    network = network_of(
        [
            Embedding("rows", weights(5, 4)),
            silent,
            DelayCrossbar("taps", np.full((3, 4), 7)),
            bank("after", 4, True),
            Crossbar("head", weights(4, 5)),
            Readout("logits", 5, 1.0),
        ],
        "rows silent",
        "silent taps",
        "taps after",
        "after head",
        "head logits",
    )
    noisy = chips["ag_v2c_w"]
    assert noisy.crossbar.read_noise.value > 0
    simulator = Simulator(network, noisy, 0)
    seen = []
    fire = simulator.banks["after"].fire
    simulator.banks["after"].fire = lambda charge, window, times=None: (  # type: ignore[method-assign]
        seen.append(charge.copy()), fire(charge, window)
    )[1]  # fmt: skip
    for token in (0, 1, 2, 3):
        simulator.step(token)
    assert len(seen) == 4
    assert not np.array(seen).any()


# Multiplications and energy.


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_a_spiking_network_multiplies_nothing(build: type) -> None:
    assert multiplies(build()) == 0


def _around_the_constructor(network: Network, *edges: tuple[str, str]) -> Network:
    """A network with these edges instead, unchecked."""
    other = object.__new__(Network)
    for name, value in (("nodes", network.nodes), ("edges", edges), ("layer", network.layer)):
        object.__setattr__(other, name, value)
    return other


def test_a_crossbar_of_sums_multiplies() -> None:
    """The same weights fed by the accumulator instead of its bank; the constructor refuses it."""
    network = lowered_model(0)
    at = ("blocks.0.attention_read", "blocks.0.query")
    assert at in network.edges
    moved = ("residual", "blocks.0.query")
    edges = tuple(moved if edge == at else edge for edge in network.edges)
    assert multiplies(_around_the_constructor(network, *edges)) == 32 * 32
    with pytest.raises(ValueError, match="reads spikes only"):
        Network(network.nodes, edges, network.layer)


@pytest.mark.parametrize("chip", ["ideal", "ag_v2c_w", "small ag_v2c_w"])
def test_energy_is_the_sum_of_its_parts(chip: str, chips: dict[str, ChipDescription]) -> None:
    network, description = lowered_model(0), chips[chip]
    simulator = Simulator(network, description, 1)
    for token in tokens(8).tolist():
        simulator.step(token)
    simulator.begin("decode")
    for token in tokens(5, seed=1).tolist():
        simulator.step(token)
    run = simulator.run()
    report = energy_report(
        network, chip_prices(description.numbers()), simulator.placement, run.phases
    )
    for name, breakdown in report.phases.items():
        assert breakdown.total == pytest.approx(
            sum(term.joules for term in breakdown.terms), rel=1e-12
        )
        mechanisms = breakdown.by_mechanism()
        layers = breakdown.by_layer()
        table = breakdown.by_layer_and_mechanism()
        assert sum(mechanisms.values()) == pytest.approx(breakdown.total, rel=1e-12)
        assert sum(layers.values()) == pytest.approx(breakdown.total, rel=1e-12)
        for layer, row in table.items():
            assert sum(row.values()) == pytest.approx(layers[layer], rel=1e-12)
        integrated = run.phases[name].joules_by_mechanism()
        tokens_run = run.phases[name].tokens
        assert mechanisms["synapse"] == pytest.approx(integrated["synapse"] / tokens_run)
        neuron = sum(v for k, v in integrated.items() if k.startswith("neuron_"))
        shown = sum(v for k, v in mechanisms.items() if k.startswith("neuron"))
        assert shown == pytest.approx(neuron / tokens_run)
    data = report.to_dict()
    assert data["decode_J_per_token"] == report.phases["decode"].total
    assert data["prefill_J_per_token"] == report.phases["prefill"].total
    assert report.count_totals()["synaptic_operations"] == sum(
        phase.total("synaptic_operations") for phase in run.phases.values()
    )


@pytest.mark.parametrize("chip", ["ideal", "ag_v2c_w"])
def test_neuron_energy_is_conserved(chip: str, chips: dict[str, ChipDescription]) -> None:
    """Supplied = burnt for every bank, and the phases' ledgers hold all of it."""
    network = lowered_model(0)
    simulator = Simulator(network, chips[chip], 1)
    for index, token in enumerate(tokens(12).tolist()):
        if index == 5:
            simulator.begin("decode")
        simulator.step(token)
    run = simulator.run()
    for name, simulated in simulator.banks.items():
        energy = simulated.energy()
        assert energy.supplied > 0
        assert energy.total == pytest.approx(energy.supplied, rel=1e-10), name
        booked = sum(sum(phase.joules[name].values()) for phase in run.phases.values())
        assert booked == pytest.approx(energy.supplied, rel=1e-10), name
        for part, joule in energy.parts().items():
            assert joule >= 0, f"{name}: {part}"
            phases = sum(phase.joules[name][f"neuron_{part}"] for phase in run.phases.values())
            assert phases == pytest.approx(joule, rel=1e-10, abs=1e-30), f"{name}: {part}"


def test_synapse_energy_by_hand(chips: dict[str, ChipDescription]) -> None:
    """Each spike drives both cells of every pair of its row: U^2 (G+ + G-) t, exact weights."""
    network, chip = lowered_model(0), chips["ideal"]
    run = simulate(network, chip, tokens(6).tolist())
    cells = chip.crossbar
    low, high = cells.g_min.value, cells.g_max.value
    pulse = cells.read_voltage.value**2 * cells.pulse_width.value
    for node in network.of(Crossbar):
        assert isinstance(node, Crossbar)
        weight = np.abs(node.weight.astype(np.float64))
        conductance = (2 * low + weight * (high - low) / weight.max()).sum(axis=1)
        events = np.abs(run.spikes[network.sources(node.name)[0]].astype(np.int64)).sum(axis=0)
        joules = run.phases["prefill"].joules[node.name]["synapse"]
        assert joules == pytest.approx(float(events @ conductance) * pulse, rel=1e-9), node.name


def test_repr_and_shapes(chips: dict[str, ChipDescription]) -> None:
    network = lowered_model(0)
    run = simulate(network, chips["ideal"], tokens(4).tolist())
    assert run.logits.shape == (4, 50)
    for node in network.of(NeuronBank):
        assert run.spikes[node.name].shape == (4, node.size)
        assert run.spikes[node.name].dtype == np.int8
        assert np.abs(run.spikes[node.name]).max() <= 4
    assert run.windows_per_token == 8  # the longest chain of banks, and the head
    assert repr(run).startswith("Run(4 tokens, 9 sites, ")


def test_a_chip_written_by_hand_is_read(chips: dict[str, ChipDescription], tmp_path: Path) -> None:
    """The variants above differ from their bases in what they say and in nothing else."""
    small, base = chips["small ideal"].numbers(), chips["ideal"].numbers()
    changed = {key for key in base if base[key] != small[key]}
    assert changed == {"tile.rows", "tile.columns"}
    assert chips["small ideal"].routing.packets == "count" != chips["ideal"].routing.packets
