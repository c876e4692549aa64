"""Placement: tiles, multicast hops against brute force, depth, and refusals."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosim.chip import ChipDescription, Placement, load_chip, place
from neurosim.chip.multicast import Position, serpentine, tree_hops
from neurosim.network import (
    Accumulator,
    AttentionUnit,
    Crossbar,
    DelayCrossbar,
    Embedding,
    Network,
    NeuronBank,
    Node,
    Readout,
)
from neurosim.quantity import Quantity

CHIP = load_chip("ag_v2c_w")


def chip(rows: int, columns: int, width: int = 0, height: int = 0) -> ChipDescription:
    """The chip with other tiles and another mesh."""

    def number(value: int) -> Quantity:
        return Quantity(float(value), "1", "test", "assumed")

    return dataclasses.replace(
        CHIP,
        tile=dataclasses.replace(CHIP.tile, rows=number(rows), columns=number(columns)),
        mesh=dataclasses.replace(CHIP.mesh, width=number(width), height=number(height)),
    )


class Builder:
    """Nodes and edges, written in order."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.edges: list[tuple[str, str]] = []

    def add(self, node: Node, *sources: str) -> str:
        self.nodes.append(node)
        self.edges += [(source, node.name) for source in sources]
        return node.name

    def bank(self, name: str, source: str, size: int) -> str:
        return self.add(NeuronBank(name, np.full(size, 9), np.zeros(size, int), 4, True), source)

    def crossbar(self, name: str, source: str, rows: int, columns: int) -> str:
        return self.add(Crossbar(name, np.ones((rows, columns), dtype=np.int8)), source)

    def network(self) -> Network:
        return Network(
            tuple(self.nodes), tuple(self.edges), {node.name: "all" for node in self.nodes}
        )


def transformer(width: int = 40, heads: int = 4, layers: int = 2, vocabulary: int = 70) -> Network:
    """A small model with every kind of node."""
    b = Builder()
    b.add(Embedding("embedding", np.ones((vocabulary, width), dtype=np.int8)))
    b.add(Accumulator("sum", width), "embedding")
    for layer in range(layers):
        first = b.bank(f"{layer}.in", "sum", width)
        b.add(DelayCrossbar(f"{layer}.conv", np.ones((3, width), dtype=np.int8)), first)
        mixed = b.bank(f"{layer}.mixed", f"{layer}.conv", width)
        parts = []
        for part in "qkv":
            b.crossbar(f"{layer}.w{part}", mixed, width, width)
            parts.append(b.bank(f"{layer}.{part}", f"{layer}.w{part}", width))
        shift = np.zeros(heads, dtype=int)
        b.add(AttentionUnit(f"{layer}.att", heads, width // heads, shift, 4), *parts)
        b.crossbar(f"{layer}.wo", b.bank(f"{layer}.o", f"{layer}.att", width), width, width)
        b.edges.append((f"{layer}.wo", "sum"))
        middle = b.bank(f"{layer}.m", "sum", width)
        b.crossbar(f"{layer}.up", middle, width, 3 * width)
        wide = b.bank(f"{layer}.wide", f"{layer}.up", 3 * width)
        b.crossbar(f"{layer}.down", wide, 3 * width, width)
        b.edges.append((f"{layer}.down", "sum"))
    b.crossbar("head", b.bank("last", "sum", width), width, vocabulary)
    b.add(Readout("logits", vocabulary, 1.0), "head")
    return b.network()


def xy_links(source: Position, target: Position) -> set[tuple[Position, Position]]:
    """Links of the XY path, one step at a time."""
    links, (x, y) = set(), source
    while (x, y) != target:
        if x != target[0]:
            step = (x + (1 if target[0] > x else -1), y)
        else:
            step = (x, y + (1 if target[1] > y else -1))
        links.add(((x, y), step))
        x, y = step
    return links


positions = st.tuples(st.integers(0, 9), st.integers(0, 9))


@given(source=positions, targets=st.lists(positions, max_size=12))
def test_tree_is_the_union_of_xy_paths(source: Position, targets: list[Position]) -> None:
    union = set().union(*(xy_links(source, target) for target in targets), set())
    assert tree_hops(source, targets) == len(union)


@given(width=st.integers(1, 12), tiles=st.integers(1, 100))
def test_serpentine_neighbours_are_one_link_apart(width: int, tiles: int) -> None:
    spots = [serpentine(index, width) for index in range(tiles)]
    assert len(set(spots)) == tiles and all(0 <= x < width for x, _ in spots)
    steps = [
        abs(x1 - x0) + abs(y1 - y0) for (x0, y0), (x1, y1) in zip(spots, spots[1:], strict=False)
    ]
    assert all(step == 1 for step in steps)


def brute_hops(placement: Placement, network: Network, bank: str, rows: int) -> list[int]:
    """Every channel's tree from the written rules, one channel at a time."""
    result = []
    for channel in range(network[bank].size):
        targets: set[int] = set()
        for name in network.targets(bank):
            reader = network[name]
            first = placement.first_tile[name]
            if isinstance(reader, Crossbar):
                row_tiles, column_tiles = placement.tiling[name]
                targets |= {
                    first + column * row_tiles + channel // rows for column in range(column_tiles)
                }
            elif isinstance(reader, DelayCrossbar):
                row_tiles, _ = placement.tiling[name]
                last = int(placement.channel_tile[name][channel])
                targets |= set(range(last - row_tiles + 1, last + 1))
            else:
                targets.add(int(placement.channel_tile[name][channel]))
        source = placement.position(int(placement.channel_tile[bank][channel]))
        links: set[Any] = set()
        for target in targets:
            links |= xy_links(source, placement.position(target))
        result.append(len(links))
    return result


@pytest.mark.parametrize(
    ("rows", "columns", "width"),
    [(256, 256, 0), (16, 16, 0), (7, 11, 30), (1, 40, 200), (40, 1, 0)],
)
def test_hops_equal_brute_force(rows: int, columns: int, width: int) -> None:
    network = transformer()
    placement = place(network, chip(rows, columns, width, width))
    for bank in network.of(NeuronBank):
        hops = placement.hops[bank.name]
        assert hops.dtype == np.int64 and hops.shape == (bank.size,)
        assert hops.tolist() == brute_hops(placement, network, bank.name, rows), bank.name


@pytest.mark.parametrize(("rows", "columns"), [(256, 256), (16, 16), (7, 11)])
def test_tiles_are_taken_once_and_suffice(rows: int, columns: int) -> None:
    network = transformer()
    placement = place(network, chip(rows, columns))
    taken = [
        tile
        for name, count in placement.tiles.items()
        for tile in range(placement.first_tile[name], placement.first_tile[name] + count)
    ]
    assert sorted(taken) == list(range(placement.used_tiles))
    assert placement.used_tiles <= placement.width * placement.height
    for node in network:
        held = placement.channel_tile[node.name]
        assert held.shape == (node.size,)
        if placement.tiles[node.name]:  # no tile holds more channels than it has columns
            limit = max(columns, getattr(node, "head_size", 0))
            assert np.bincount(held).max() <= limit
            assert set(held.tolist()) <= set(
                range(
                    placement.first_tile[node.name],
                    placement.first_tile[node.name] + placement.tiles[node.name],
                )
            )
        if isinstance(node, Crossbar):
            blocks = (-(-node.weight.shape[0] // rows), -(-node.size // columns))
            assert placement.tiling[node.name] == blocks
            assert placement.tiles[node.name] == blocks[0] * blocks[1]


def test_banks_sit_with_their_sums() -> None:
    network = transformer()
    placement = place(network, chip(16, 16))
    for bank in network.of(NeuronBank):
        source = network.sources(bank.name)[0]
        together = placement.channel_tile[bank.name].tolist() == (
            placement.channel_tile[source].tolist()
        )
        own = isinstance(network[source], Accumulator)
        assert together != own
        assert (placement.tiles[bank.name] == 0) != own


def test_heads_are_not_split_over_tiles() -> None:
    placement = place(transformer(width=40, heads=4), chip(16, 16))
    tiles = placement.channel_tile["0.att"].reshape(4, 10)
    assert (tiles == tiles[:, :1]).all() and placement.tiles["0.att"] == 4
    wide = place(transformer(width=40, heads=4), chip(64, 32))
    assert wide.tiles["0.att"] == 2


def test_values_travel_to_and_from_accumulators_only() -> None:
    network = transformer()
    placement = place(network, chip(16, 16))
    expected = {
        edge
        for edge in network.edges
        if "sum" in edge and not isinstance(network[edge[0]], NeuronBank)
    }
    assert set(placement.value_hops) == expected
    for (source, target), hops in placement.value_hops.items():
        ends = [placement.channel_tile[name].tolist() for name in (source, target)]
        distance = [
            len(xy_links(placement.position(a), placement.position(b)))
            for a, b in zip(*ends, strict=True)
        ]
        assert hops.tolist() == distance


def test_tables_take_tiles_by_their_bytes_and_send_only_their_channels() -> None:
    b = Builder()
    b.add(Embedding("tokens", np.full((2048, 64), 100, dtype=np.int32)))  # 1 byte a word: 128 KiB
    pairs = np.full((4096, 32), 1000, dtype=np.int32)  # 2 bytes a word: 256 KiB
    b.add(Embedding("pairs", pairs, order=2, first_channel=16, width=64))
    b.add(Accumulator("sum", 64), "tokens", "pairs")
    b.bank("bank", "sum", 64)
    placement = place(b.network(), CHIP)
    assert placement.tiles == {"tokens": 1, "pairs": 2, "sum": 1, "bank": 1}
    hops = placement.value_hops["pairs", "sum"]
    ends = [placement.position(placement.first_tile["pairs"] + part) for part in (0, 1)]
    target = placement.position(placement.first_tile["sum"])
    first, second = (len(xy_links(end, target)) for end in ends)
    assert hops.tolist() == [0] * 16 + [first] * 16 + [second] * 16 + [0] * 16


@pytest.mark.parametrize("layers", [0, 1, 2, 5])
def test_depth_is_the_longest_chain_of_banks_and_the_head(layers: int) -> None:
    """A layer is in, mixed, q/k/v, o, m, wide; the last bank and the head crossbar follow."""
    assert place(transformer(layers=layers), CHIP).depth == 6 * layers + 2


def test_depth_sees_only_what_an_accumulator_had_received() -> None:
    b = Builder()
    b.add(Embedding("table", np.ones((3, 5), dtype=np.int8)))
    b.add(Accumulator("sum", 5), "table")
    for name in ("a", "b", "c"):  # all three read before anything was written back
        b.bank(name, "sum", 5)
    for name in ("a", "b", "c"):
        b.crossbar(f"w{name}", name, 5, 5)
        b.edges.append((f"w{name}", "sum"))
    assert place(b.network(), CHIP).depth == 2  # the crossbars act in the window after the banks
    b.bank("d", "sum", 5)
    assert place(b.network(), CHIP).depth == 2  # d acts on what they wrote, in the same window
    b.add(Readout("out", 5, 1.0), b.crossbar("head", "d", 5, 5))
    assert place(b.network(), CHIP).depth == 3


def test_a_mesh_that_is_too_small_is_refused() -> None:
    network = transformer()
    needed = place(network, chip(16, 16)).used_tiles
    with pytest.raises(ValueError, match=f"at least {needed} tiles .* got 3 x 4"):
        place(network, chip(16, 16, 3, 4))
    exact = place(network, chip(16, 16, needed, 1))
    assert (exact.width, exact.height) == (needed, 1)
    assert exact.utilisation["tiles"] == 1.0


def test_report() -> None:
    placement = place(transformer(), chip(16, 16))
    report = placement.to_dict()
    assert report["tiles"] == placement.used_tiles == sum(report["tiles_by_node"].values())
    assert 0.0 < report["utilisation"]["pairs"] <= 1.0
    assert "windows per token" in str(placement) and "0.up" in str(placement)
    assert placement.packet_bits["0.in"] == 6 + 1
