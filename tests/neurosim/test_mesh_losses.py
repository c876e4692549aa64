"""What packets that never arrive, or arrive late, change: exactly the spikes behind them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from energy_cases import bank, weights
from engine_networks import NETWORKS, added_counts, lowered_model, network_of
from test_mesh_run import FLOW, QUEUED, generate, one_chain

from neurosim.chip import ChipDescription, with_values
from neurosim.events.engine import Simulator, simulate
from neurosim.network import (
    Accumulator,
    Crossbar,
    Embedding,
    Network,
    NeuronBank,
    Readout,
)


def wide() -> Network:
    """A crossbar of 3 x 3 tiles on the small chip (12 x 10), then one more."""
    return network_of(
        [
            Embedding("table", 3 * weights(9, 30)),
            Accumulator("sum", 30),
            bank("read", 30, True),
            Crossbar("first", weights(30, 24, 1)),
            bank("middle", 24, True),
            Crossbar("head", weights(24, 9, 2)),
            Readout("logits", 9, 1.0),
        ],
        "table sum",
        "sum read",
        "read first",
        "first middle",
        "middle head",
        "head logits",
    )


def with_dead_tile(chip: ChipDescription, tile: int, **values: object) -> ChipDescription:
    return with_values(chip, {"faults.tiles": [tile], **values})


def test_a_dead_crossbar_tile_is_a_block_of_zeros(chips: dict[str, ChipDescription]) -> None:
    """Spikes and logits of the network with these weights set to 0; packets to it are drops."""
    network, chip = wide(), chips["small ideal"]
    placement = Simulator(network, chip).placement
    rows, columns = placement.tiling["first"]
    assert (rows, columns) == (3, 3)
    for place in (0, 4):  # column block by column block
        column, row = divmod(place, rows)
        weight = network["first"].weight.copy()
        weight[12 * row : 12 * row + 12, 10 * column : 10 * column + 10] = 0
        nodes = [replace(n, weight=weight) if n.name == "first" else n for n in network]
        expected = simulate(Network(tuple(nodes), network.edges, network.layer), chip, range(9))
        for values in ({}, QUEUED, FLOW):
            dead = with_dead_tile(chip, int(placement.slots["first"][place]), **values)
            run = simulate(network, dead, range(9))
            np.testing.assert_array_equal(run.logits, expected.logits)
            np.testing.assert_array_equal(run.spikes["middle"], expected.spikes["middle"])
            fired = np.abs(run.spikes["read"][:, 12 * row : 12 * row + 12].astype(int)) > 0
            counts = added_counts(run)
            assert counts["read"]["dropped"] == fired.sum() > 0
            if values:
                words = run.phases["prefill"].total("dropped") - counts["read"]["dropped"]
                ends = run.traffic["prefill"].dropped - counts["read"]["dropped"] - words
                sources = {  # tiles whose channels reach the dead one close their windows there
                    int(slot) for slot in placement.channel_tile["read"][12 * row : 12 * row + 12]
                }
                assert ends == (9 * len(sources) if values is FLOW else 0)


def test_a_dead_link_cuts_what_is_behind_it(chips: dict[str, ChipDescription]) -> None:
    """The column blocks behind the link see no spikes of the tile before it: zeros there."""
    network, chip = wide(), chips["small ideal"]
    placement = Simulator(network, chip).placement
    fan = placement.fan_out["read"]
    found = 0
    for slot in range(placement.mesh_tiles):
        for number, direction in enumerate(("+x", "-x", "+y", "-y")):
            dx, dy = ((1, 0), (-1, 0), (0, 1), (0, -1))[number]
            x, y = placement.position(slot)
            link = ((x, y), (x + dx, y + dy))
            weight = network["first"].weight.copy()
            cut = 0
            for group, (start, targets) in enumerate(zip(fan.source, fan.targets, strict=True)):
                for _, target in targets:
                    if link in _path(placement.position(start), placement.position(target)):
                        column = int(np.flatnonzero(placement.slots["first"] == target)[0]) // 3
                        weight[fan.group == group, 10 * column : 10 * column + 10] = 0
                        cut += 1
            dead = with_values(chip, {"faults.links": [[slot, direction]]})
            run = simulate(network, dead, range(9))
            if not cut or added_counts(run).get("sum", {}).get("dropped"):
                continue  # words are cut too: another test
            if added_counts(run).get("middle", {}).get("dropped"):
                continue
            if added_counts(run).get("table", {}).get("dropped"):
                continue
            nodes = [replace(n, weight=weight) if n.name == "first" else n for n in network]
            changed = Network(tuple(nodes), network.edges, network.layer)
            expected = simulate(changed, chip, range(9))
            np.testing.assert_array_equal(run.logits, expected.logits)
            np.testing.assert_array_equal(run.spikes["middle"], expected.spikes["middle"])
            found += 1
    assert found >= 3


def _path(start: tuple[int, int], end: tuple[int, int]) -> set[tuple[tuple[int, int], ...]]:
    (x, y), links = start, set()
    while (x, y) != end:
        dx = (end[0] > x) - (end[0] < x)
        step = (x + dx, y) if dx else (x, y + (end[1] > y) - (end[1] < y))
        links.add(((x, y), step))
        x, y = step
    return links


def test_a_dead_accumulator_tile_reads_zero(chips: dict[str, ChipDescription]) -> None:
    """Words to it and from it are lost: its channels are silent."""
    network, chip = wide(), chips["small ideal"]
    placement = Simulator(network, chip).placement
    slot = int(placement.slots["sum"][1])
    run = simulate(network, with_dead_tile(chip, slot), range(9))
    whole = simulate(network, chip, range(9))
    mine = placement.channel_tile["sum"] == slot
    assert mine.any() and not mine.all()
    assert not run.spikes["read"][:, mine].any() and whole.spikes["read"][:, mine].any()
    np.testing.assert_array_equal(run.spikes["read"][:, ~mine], whole.spikes["read"][:, ~mine])
    counts = added_counts(run)
    assert counts["table"]["dropped"] == counts["sum"]["dropped"] == 9 * mine.sum()


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("values", [{}, QUEUED, FLOW], ids=["instant", "window", "none"])
def test_random_faults_are_the_same_with_and_without_times(
    build: type, values: dict[str, str], chips: dict[str, ChipDescription]
) -> None:
    """Losses are losses, timed or not; everything else is delivered."""
    network = build()
    faults = {"faults.dead_link_fraction": 0.1, "faults.dead_tile_fraction": 0.05}
    chip = with_values(chips["small ideal"], {**faults, "routing.packets": "spike"})
    plain = generate(network, chip, seed=5).run()
    run = generate(network, with_values(chip, values), seed=5).run()
    np.testing.assert_array_equal(run.logits, plain.logits)
    for site, rows in plain.spikes.items():
        np.testing.assert_array_equal(run.spikes[site], rows)
    lost = sum(phase.total("dropped") for phase in run.phases.values())
    assert lost == sum(phase.total("dropped") for phase in plain.phases.values()) > 0
    if values is QUEUED:
        assert lost == sum(part.dropped for part in run.traffic.values())


def test_avoided_tiles_change_nothing(chips: dict[str, ChipDescription]) -> None:
    """The network sits on other tiles; its spikes are those of a whole chip."""
    network = wide()
    values = {"faults.dead_tile_fraction": 0.2, "faults.avoid": True}
    chip = with_values(chips["small ideal"], values)
    for seed in range(3):
        simulator = Simulator(network, chip, seed)
        dead = chip.faults.dead_tiles(simulator.placement.mesh_tiles, seed)
        assert dead.any()
        for slots in simulator.placement.slots.values():
            assert not dead[slots].any()
        for token in range(9):
            simulator.step(token)
        whole = simulate(network, chips["small ideal"], range(9), seed)
        np.testing.assert_array_equal(simulator.run().logits, whole.logits)


# Late packets that are dropped.


def test_a_late_spike_is_lost_at_its_target(chips: dict[str, ChipDescription]) -> None:
    """One spike at T / 2; if the way takes longer than T / 2 the second bank gets nothing."""
    window = chips["ideal"].window.duration.value
    for hop, arrives in ((0.1 * window, True), (0.6 * window, False)):
        chip = with_values(
            chips["ideal"],
            {**QUEUED, "routing.late": "drop", "mesh.link_latency": hop, "mesh.link_rate": 1e15},
        )
        simulator = Simulator(one_chain(), chip)
        links = int(simulator.placement.hops["first"][0])
        assert links * 0.1 < 0.5
        simulator.step(0)
        run = simulator.run()
        assert run.spikes["first"].tolist() == [[1]]
        assert run.spikes["second"].tolist() == [[int(arrives)]]
        depth = simulator.placement.depth
        traffic = run.traffic["prefill"]
        assert traffic.seconds == pytest.approx(depth * window) and traffic.waited_seconds == 0
        assert traffic.late_lost and (traffic.window_late == 0) == arrives


@pytest.mark.parametrize("name", ["ideal", "ag_v2c_w"])
def test_no_late_packets_no_change(name: str, chips: dict[str, ChipDescription]) -> None:
    """With fast links only spikes at the very end of a window can be late."""
    network = lowered_model(1, layers=2)
    base = {**QUEUED, "mesh.link_rate": 1e15, "mesh.link_latency": 0.0}
    drop = generate(network, with_values(chips[name], {**base, "routing.late": "drop"})).run()
    plain = generate(network, chips[name]).run()
    assert sum(part.window_late for part in drop.traffic.values()) < 0.02 * drop.total_spikes
    if name == "ag_v2c_w":  # an exact chip fires at the very end of its windows
        np.testing.assert_array_equal(drop.logits, plain.logits)
        assert added_counts(drop) == added_counts(plain)


def test_slow_links_cost_spikes(chips: dict[str, ChipDescription]) -> None:
    """Late deliveries are counted as lost and change what follows; the clock does not wait."""
    network = lowered_model(1, layers=2)
    slow = {**QUEUED, "mesh.link_rate": 3e6, "mesh.link_latency": 1e-6}
    runs = {
        late: generate(network, with_values(chips["ideal"], {**slow, "routing.late": late})).run()
        for late in ("wait", "drop")
    }
    assert runs["drop"].traffic["decode"].window_late > 0
    assert runs["drop"].traffic["decode"].waited_seconds == 0
    assert runs["wait"].traffic["decode"].waited_seconds > 0
    assert not np.array_equal(runs["drop"].logits, runs["wait"].logits)
    early = runs["drop"].spikes["blocks.0.conv_read"]  # reads the tables only, at first
    np.testing.assert_array_equal(early, runs["wait"].spikes["blocks.0.conv_read"])


def test_a_reader_that_acts_too_early_is_refused(chips: dict[str, ChipDescription]) -> None:
    """Two banks of one window, the first one's reader before the second one."""
    network = network_of(
        [
            Embedding("table", weights(5, 4)),
            bank("a", 4),
            Crossbar("reader", weights(4, 4)),
            bank("b", 4),
            Embedding("other", weights(5, 4)),
            NeuronBank("late", np.full(4, 8), np.zeros(4, int), 4, False),
            Crossbar("head", weights(4, 5)),
            Readout("logits", 5, 1.0),
        ],
        "table a",
        "a reader",
        "reader b",
        "other late",
        "b head",
        "head logits",
    )
    chip = with_values(chips["ideal"], {**QUEUED, "routing.late": "drop"})
    with pytest.raises(ValueError, match='reader reads a before late.*routing.late = "wait"'):
        Simulator(network, chip)
    Simulator(network, with_values(chip, {"routing.late": "wait"}))
