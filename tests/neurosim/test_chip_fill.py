"""Networks on chips with dead tiles: what is lost is lost exactly, what is avoided is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_networks import HAND_BUILT, NETWORKS, lowered_model, network_of

from neurosim.chip import ChipDescription, load_chip, place, program_crossbars, with_values
from neurosim.events import Run
from neurosim.events.engine import simulate
from neurosim.network import Crossbar, DelayCrossbar, Embedding, Network, NeuronBank, Readout

TOKENS = [1, 3, 0, 2, 4, 4, 1, 1, 3, 2]
SMALL = {"tile.rows": 12, "tile.columns": 10}


def chip(base: str, **faults: Any) -> ChipDescription:
    changes = {f"faults.{key}": value for key, value in faults.items()}
    return with_values(load_chip(base), {**SMALL, **changes})


def same(first: Run, second: Run) -> bool:
    return np.array_equal(first.logits, second.logits) and all(
        np.array_equal(first.spikes[name], second.spikes[name]) for name in first.spikes
    )


def without(network: Network, dead: set[int], base: ChipDescription) -> Network:
    """The network with the weights and thresholds that the dead tiles leave of it."""
    placement = place(network, base)
    nodes: list[Any] = []
    for node in network:
        if isinstance(node, Crossbar | DelayCrossbar):
            weight = node.weight.copy()
            row_tiles, _ = placement.tiling[node.name]
            for index, slot in enumerate(placement.slots[node.name].tolist()):
                column, row = divmod(index, row_tiles)
                if slot in dead:
                    weight[row * 12 : row * 12 + 12, column * 10 : column * 10 + 10] = 0
            nodes.append(replace(node, weight=weight))
        elif isinstance(node, NeuronBank):
            lost = np.isin(placement.channel_tile[node.name], list(dead))
            half = np.where(lost, 2**40, node.half_threshold)
            nodes.append(replace(node, half_threshold=half))
        else:
            nodes.append(node)
    return Network(tuple(nodes), network.edges, network.layer)


def _weights_and_neurons(network: Network, base: ChipDescription) -> list[int]:
    """Tiles that hold nothing else; what memories on dead tiles lose is the run loop's test."""
    kinds = Crossbar | DelayCrossbar | NeuronBank
    held: dict[int, list[bool]] = {}
    for name, slots in place(network, base).slots.items():
        for slot in slots.tolist():
            held.setdefault(slot, []).append(isinstance(network[name], kinds | Readout))
    return [slot for slot, fits in held.items() if all(fits)]


def test_every_tile_of_a_crossbar_holds_its_own_block() -> None:
    """Three row tiles by two column tiles: which block dies with which tile."""
    weight = np.arange(1, 30 * 15 + 1).reshape(30, 15) % 100 + 1
    bank = NeuronBank("b", np.full(30, 8), np.zeros(30, np.int64), 4, False)
    network = network_of(
        [Embedding("t", np.ones((2, 30), int)), bank, Crossbar("c", weight), Readout("r", 15, 1.0)],
        "t b",
        "b c",
        "c r",
    )
    placement = place(network, chip("ideal"))
    assert placement.tiling["c"] == (3, 2)
    ends = placement.slots["c"][[2, 5]]  # the joined columns end at their last tile
    np.testing.assert_array_equal(placement.channel_tile["c"], np.repeat(ends, [10, 5]))
    for index, slot in enumerate(placement.slots["c"].tolist()):
        dead = chip("ideal", tiles=[slot])
        column, row = divmod(index, 3)
        left = weight.copy()
        left[12 * row : 12 * row + 12, 10 * column : 10 * column + 10] = 0
        held = program_crossbars(network, dead, place(network, dead), 0)["c"].weight
        np.testing.assert_array_equal(held, left)


@pytest.mark.parametrize("base", ["ideal", "ag_v2c_w_clean"])
@pytest.mark.parametrize("name", list(HAND_BUILT))
def test_a_dead_tile_is_a_network_without_its_share(name: str, base: str) -> None:
    network = HAND_BUILT[name]()
    whole = simulate(network, chip(base), TOKENS)
    changed = 0
    for tile in _weights_and_neurons(network, chip(base)):
        found = simulate(network, chip(base, tiles=[tile]), TOKENS)
        expected = simulate(without(network, {tile}, chip(base)), chip("ideal"), TOKENS)
        assert same(found, expected), tile
        changed += not same(found, whole)
    assert changed > 1


@pytest.mark.parametrize("name", ["transformer", "no tables, signed q and k"])
def test_the_clean_chip_equals_the_ideal_one(name: str) -> None:
    """Simulated membranes and a seed that draws nothing: logits and spikes bit for bit."""
    network = NETWORKS[name]()
    ideal = simulate(network, load_chip("ideal"), TOKENS)
    for seed in (0, 7):
        assert same(simulate(network, load_chip("ag_v2c_w_clean"), TOKENS, seed), ideal)


def test_avoided_tiles_leave_the_result_as_it_was() -> None:
    network = lowered_model(1, layers=2)
    whole = simulate(network, chip("ideal"), TOKENS)
    around = chip("ideal", tiles=[0, 3, 4, 9], avoid=True)
    assert same(simulate(network, around, TOKENS), whole)
    used = {slot for slots in place(network, around).slots.values() for slot in slots.tolist()}
    assert not used & {0, 3, 4, 9}
    through = simulate(network, chip("ideal", tiles=[0, 3, 4, 9]), TOKENS)
    assert not same(through, whole)


def test_dead_tiles_save_energy_and_a_seed_is_a_chip() -> None:
    network = lowered_model(1, layers=2)
    broken = chip("ag_v2c_w", dead_tile_fraction=0.2)
    runs = [simulate(network, broken, TOKENS, seed) for seed in (0, 0, 1)]
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])
    none = simulate(network, chip("ag_v2c_w", dead_tile_fraction=1.0), TOKENS)
    assert none.total_spikes == 0 and not none.logits.any()


def test_what_is_left_of_a_row_costs_what_its_cells_do() -> None:
    """Reads of a crossbar whose second column block is dead cost those of the first block alone."""
    weight = np.tile(np.arange(1, 16), (30, 1))  # the blocks differ
    bank = NeuronBank("b", np.full(30, 8), np.zeros(30, np.int64), 4, False)

    def network(columns: int) -> Network:
        table = np.full((2, 30), 20)
        head = [Crossbar("c", weight[:, :columns]), Readout("r", columns, 1.0)]
        return network_of([Embedding("t", table), bank, *head], "t b", "b c", "c r")

    slots = place(network(15), chip("ideal")).slots["c"].tolist()
    scaled = {"crossbar.scaling": "column"}  # so that the block alone holds the same conductances
    half = simulate(network(15), with_values(chip("ideal", tiles=slots[3:]), scaled), [0, 1])
    alone = simulate(network(10), with_values(chip("ideal"), scaled), [0, 1])
    whole = simulate(network(15), with_values(chip("ideal"), scaled), [0, 1])
    burnt = [run.phases["prefill"].joules["c"]["synapse"] for run in (half, alone, whole)]
    assert burnt[0] == pytest.approx(burnt[1], rel=1e-12) and 0.0 < burnt[0] < burnt[2]
