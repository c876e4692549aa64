"""Several chips: shares, neighbours, crossings, refusals; and what each tile holds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from test_chip_placement import Builder, chip, transformer, xy_links

from neurosim.chip import Placement, place, with_values
from neurosim.chip.mesh import Grid, LinkTiming, Routes
from neurosim.chip.multicast import tree_crossings, tree_hops
from neurosim.network import Crossbar, Embedding, NeuronBank, Readout

positions = st.tuples(st.integers(0, 11), st.integers(0, 7))


@examples(100)
@given(positions, st.lists(positions, max_size=9, unique=True), st.sampled_from([1, 2, 3, 4, 6]))
def test_crossings_of_a_tree(
    source: tuple[int, int], targets: list[tuple[int, int]], width: int
) -> None:
    """Links of the union of XY paths whose ends lie on different chips; the trees agree."""
    union = set().union(*(xy_links(source, target) for target in targets), set())
    height = 4
    crossing = sum(
        (a[0] // width, a[1] // height) != (b[0] // width, b[1] // height) for a, b in union
    )
    assert tree_crossings(source, targets, (width, height)) == crossing
    grid = Grid.build(12, 8, LinkTiming(1e9, 0.0), 0, (width, height))
    tiles = [grid.tile(spot) for spot in targets]
    routes = Routes.build(grid, [(grid.tile(source), tiles)])
    assert routes.chip_hops[0] == crossing
    assert routes.hops[0] + crossing == tree_hops(source, targets) == len(union)


def _chip_of(placement: Placement, slot: int) -> int:
    wide, high = placement.chip_size
    x, y = placement.position(slot)
    return y // high * (placement.width // wide) + x // wide


@pytest.mark.parametrize("chips", [1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (7, 11)])
def test_shares_are_equal_and_joined_columns_stay_together(
    chips: int, rows: int, columns: int
) -> None:
    network = transformer()
    placement = place(network, chip(rows, columns), chips)
    taken = np.concatenate([placement.slots[name] for name, n in placement.tiles.items() if n])
    assert len(set(taken.tolist())) == taken.size == placement.used_tiles
    assert taken.max() < placement.mesh_tiles == chips * np.prod(placement.chip_size)
    spots = [placement.position(slot) for slot in range(placement.mesh_tiles)]
    assert len(set(spots)) == placement.mesh_tiles
    assert all(0 <= x < placement.width and 0 <= y < placement.height for x, y in spots)
    used = np.bincount([_chip_of(placement, slot) for slot in taken.tolist()], minlength=chips)
    tallest = max(part[0] for part in placement.tiling.values())
    assert used.max() <= -(-placement.used_tiles // chips) + tallest
    for name, (row_tiles, column_tiles) in placement.tiling.items():
        blocks = placement.slots[name].reshape(column_tiles, row_tiles)
        for block in blocks.tolist():
            assert len({_chip_of(placement, slot) for slot in block}) == 1
            assert block == list(range(block[0], block[0] + row_tiles))


@pytest.mark.parametrize("chips", [2, 3, 4])
def test_hops_and_crossings_equal_brute_force(chips: int) -> None:
    """Of every bank's channels and every word, one path at a time."""
    network = transformer()
    placement = place(network, chip(16, 16), chips)
    whole = place(network, chip(16, 16))
    crossed = 0
    for bank in network.of(NeuronBank):
        fan = placement.fan_out[bank.name]
        for channel, group in enumerate(fan.group.tolist()):
            start = placement.position(fan.source[group])
            assert fan.source[group] == placement.channel_tile[bank.name][channel]
            links = set()
            for _, slot in fan.targets[group]:
                links |= xy_links(start, placement.position(slot))
            between = sum(_crosses(placement, link) for link in links)
            assert placement.chip_hops[bank.name][channel] == between
            assert placement.hops[bank.name][channel] == len(links) - between
            crossed += between
        assert not whole.chip_hops[bank.name].any()
    assert crossed > 0
    for (source, target), hops in placement.value_hops.items():
        ends = [placement.channel_tile[name].tolist() for name in (source, target)]
        for channel, (a, b) in enumerate(zip(*ends, strict=True)):
            links = xy_links(placement.position(a), placement.position(b))
            between = sum(_crosses(placement, link) for link in links)
            assert placement.value_chip_hops[source, target][channel] == between
            assert hops[channel] == len(links) - between


def _crosses(placement: Placement, link: tuple[tuple[int, int], tuple[int, int]]) -> bool:
    wide, high = placement.chip_size
    (x0, y0), (x1, y1) = link
    return (x0 // wide, y0 // high) != (x1 // wide, y1 // high)


def test_a_network_that_does_not_fit_is_told_how_many_chips_would_do() -> None:
    network = transformer()
    small = chip(16, 16, 4, 3)
    needed = place(network, chip(16, 16)).used_tiles
    with pytest.raises(ValueError, match=f"at least {needed} tiles .* got 4 x 3") as error:
        place(network, small)
    count = int(str(error.value).split("--chips ")[1].split(")")[0])
    assert count >= -(-needed // 12)
    assert place(network, small, count).chips == count
    with pytest.raises(ValueError, match=f"got {count - 1} chips of 4 x 3"):
        place(network, small, count - 1)
    with pytest.raises(ValueError, match="at least 1 chip, got 0"):
        place(network, small, 0)


def test_joined_columns_larger_than_a_chip_are_refused() -> None:
    b = Builder()
    b.add(Embedding("table", np.ones((3, 40), dtype=np.int8)))
    b.bank("bank", "table", 40)
    b.crossbar("tall", "bank", 40, 3)
    b.add(Readout("out", 3, 1.0), "tall")
    with pytest.raises(ValueError, match="set both to 0") as error:
        place(b.network(), chip(8, 8, 2, 1), 8)
    assert "--chips" not in str(error.value)  # no number of them would do


def test_too_many_dead_tiles_to_avoid() -> None:
    dead = with_values(chip(16, 16), {"faults.dead_tile_fraction": 0.9, "faults.avoid": True})
    with pytest.raises(ValueError, match="at most 50% dead tiles to place around"):
        place(transformer(), dead)


def test_what_a_tile_holds() -> None:
    """Rows and columns of weights, neurons, words: added up, they are the network."""
    network = transformer()
    placement = place(network, chip(16, 16), 2)
    use = placement.use
    assert [tile.slot for tile in use] == sorted(tile.slot for tile in use)
    assert len({tile.slot for tile in use}) == len(use) == placement.used_tiles
    for node in network:
        mine = [tile for tile in use if tile.node == node.name]
        if isinstance(node, Crossbar):
            assert sum(tile.rows * tile.columns for tile in mine) == node.weight.size
            assert sum(tile.channels for tile in mine) == node.size
        if isinstance(node, Embedding):
            assert sum(tile.words for tile in mine) == node.table.size
    neurons = sum(bank.neurons for bank in network.of(NeuronBank) if isinstance(bank, NeuronBank))
    assert sum(tile.neurons for tile in use) == neurons
    arrays = [tile for tile in use if tile.rows]
    shares = placement.utilisation
    assert shares["rows"] == pytest.approx(np.mean([tile.rows for tile in arrays]) / 16)
    assert shares["columns"] == pytest.approx(np.mean([tile.columns for tile in arrays]) / 16)
    pairs = sum(tile.rows * tile.columns for tile in arrays) / (len(arrays) * 256)
    assert shares["pairs"] == pytest.approx(pairs)


def test_stages() -> None:
    """Banks in their windows, edges after the window that fills them."""
    found = place(transformer(layers=1), chip(16, 16)).stages
    order = ["0.in", "0.mixed", "0.q", "0.o", "0.m", "0.wide", "last"]
    assert [found.bank[name] for name in order] == [1, 2, 3, 4, 5, 6, 7]
    assert found.edge["embedding", "sum"] == found.edge["sum", "0.in"] == 0
    assert found.edge["0.wo", "sum"] == found.edge["sum", "0.m"] == 4
    assert found.edge["0.down", "sum"] == found.edge["sum", "last"] == 6
    assert found.depth == 8


def test_chips_are_in_the_report() -> None:
    placement = place(transformer(), chip(16, 16), 4)
    assert placement.to_dict()["chips"] == 4
    assert "of 4 chips of" in str(placement)
    assert dataclasses.asdict(placement.use[0])["node"] == "embedding"
