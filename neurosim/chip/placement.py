"""Which tile holds what, and how far every spike and every value has to travel.

- A crossbar (I, O) takes ceil(I / rows) x ceil(O / columns) tiles, column block by column block.
  The row tiles of a block are neighbours with joined column wires: partial sums meet as charge,
  without packets, and one converter serves the joined column.
- A delay crossbar holds a channel's K taps as K pairs in that channel's column, each read alone by
  its own delayed pulse: ceil(K / rows) x ceil(N / columns) tiles. That is a special, diagonal
  array: an ordinary one, whose rows are common to all columns, would need K N rows.
- A bank that reads a crossbar or an attention unit sits on the tiles that hold its sums (the last
  row tile of a block): no transport. One that reads an accumulator has tiles of its own, `columns`
  channels each, and the accumulator's words travel there.
- An attention unit has whole heads, as many as fit `columns` channels, on each of its tiles. An
  accumulator has `columns` channels a tile. An embedding table is split by channels over as many
  tiles as its bytes need (memory.embedding_bank each). A read-out sits on its source's tiles.
- Words that a crossbar or embedding writes into an accumulator travel, point to point: an
  accumulator is written from many places and cannot sit beside all of them.
- Tiles are taken in execution order along a serpentine, so that what follows is near.

A spike goes to every tile whose rows it drives: its channel's row block in each reading crossbar,
its head's tile in an attention unit, its channel's tile in an accumulator; XY multicast, links
shared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.chip.description import ChipDescription
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

Hops = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Placement:
    """A network on the mesh. Tiles are numbered along the serpentine; `position` gives (x, y)."""

    width: int
    height: int
    used_tiles: int
    depth: int
    """Sequential windows per token: the longest chain of banks, and one more for the crossbar or
    attention unit that ends it."""
    tiles: Mapping[str, int]
    """Node -> tiles that it alone takes; 0 if it sits on its source's."""
    first_tile: Mapping[str, int]
    """Node -> number of its first tile."""
    tiling: Mapping[str, tuple[int, int]]
    """Crossbar -> (row tiles, column tiles)."""
    channel_tile: Mapping[str, npt.NDArray[np.int64]]
    """Node -> tile that holds, sums or emits each of its output channels, (N,)."""
    hops: Mapping[str, Hops]
    """Bank -> links that one packet of each channel uses, (N,)."""
    value_hops: Mapping[tuple[str, str], Hops]
    """(source, target) -> links that one word of each channel uses, (N,): into accumulators, and
    from them into banks and read-outs."""
    packet_bits: Mapping[str, int]
    """Bank -> bits of one packet."""
    utilisation: Mapping[str, float]
    """Shares of the mesh's tiles, and of the crossbar tiles' pairs, that are in use."""

    def position(self, tile: int) -> Position:
        """(x, y) of a tile on the mesh."""
        return serpentine(tile, self.width)

    def to_dict(self) -> dict[str, Any]:
        """Sizes and utilisation for a report."""
        return {
            "mesh": [self.width, self.height],
            "tiles": self.used_tiles,
            "windows_per_token": self.depth,
            "tiles_by_node": dict(self.tiles),
            "utilisation": dict(self.utilisation),
        }

    def __str__(self) -> str:
        shares = ", ".join(f"{name} {share:.1%}" for name, share in self.utilisation.items())
        lines = [
            f"{self.used_tiles} tiles on a {self.width} x {self.height} mesh, "
            f"{self.depth} windows per token; {shares}"
        ]
        lines += [
            f"  {name}: {count} tile{'s' if count > 1 else ''} from {self.first_tile[name]}"
            for name, count in self.tiles.items()
            if count
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Placement({self.used_tiles} tiles on {self.width} x {self.height})"


def place(network: Network, chip: ChipDescription) -> Placement:
    """Place a network on a chip; ValueError if a declared mesh is too small."""
    layout = _Layout(network, chip)
    for node in network:
        layout.add(node)
    width, height = _mesh(chip, layout.used)
    where = [serpentine(tile, width) for tile in range(layout.used)]
    banks = network.of(NeuronBank)
    return Placement(
        width,
        height,
        layout.used,
        _depth(network),
        layout.tiles,
        layout.first,
        layout.tiling,
        layout.channel_tile,
        {bank.name: _spike_hops(bank, network, layout, where) for bank in banks},
        _value_hops(network, layout, where),
        {
            bank.name: chip.packet_bits(bank.size, bank.levels, bank.signed)
            for bank in banks
            if isinstance(bank, NeuronBank)
        },
        layout.utilisation(width * height),
    )


def _mesh(chip: ChipDescription, tiles: int) -> tuple[int, int]:
    width, height = int(chip.mesh.width.value), int(chip.mesh.height.value)
    if width == 0:
        width = max(math.isqrt(max(tiles - 1, 0)) + 1, 1)
        return width, max(-(-tiles // width), 1)
    if width * height < tiles:
        raise ValueError(
            f"expected a mesh of at least {tiles} tiles for this network, got {width} x {height} "
            f"on chip {chip.name}; enlarge mesh.width and mesh.height, or set both to 0 (automatic)"
        )
    return width, height


class _Layout:
    """Tiles taken so far, node by node."""

    def __init__(self, network: Network, chip: ChipDescription) -> None:
        self.network = network
        self.rows, self.columns = int(chip.tile.rows.value), int(chip.tile.columns.value)
        self.memory = chip.memory.embedding_bank.value
        self.used = 0
        self.tiles: dict[str, int] = {}
        self.first: dict[str, int] = {}
        self.tiling: dict[str, tuple[int, int]] = {}
        self.channel_tile: dict[str, npt.NDArray[np.int64]] = {}
        self._cells = 0
        self._cell_tiles = 0

    def add(self, node: Node) -> None:
        """Give `node` its tiles, or those of its source."""
        source = (
            self.network[self.network.sources(node.name)[0]]
            if (not isinstance(node, Embedding))
            else None
        )
        if isinstance(node, Crossbar | DelayCrossbar):
            rows, outputs = node.weight.shape
            blocks = (-(-rows // self.rows), -(-outputs // self.columns))
            self.tiling[node.name] = blocks
            self._take(node, blocks[0] * blocks[1], blocks[0], self.columns)
            self.channel_tile[node.name] += blocks[0] - 1  # the joined column ends at its last tile
            self._cells += rows * outputs
            self._cell_tiles += blocks[0] * blocks[1]
        elif isinstance(node, Readout | NeuronBank) and not isinstance(source, Accumulator):
            assert source is not None
            self.tiles[node.name] = 0
            self.first[node.name] = self.first[source.name]
            self.channel_tile[node.name] = self.channel_tile[source.name]
        elif isinstance(node, AttentionUnit):
            heads = max(self.columns // node.head_size, 1)
            self._take(node, -(-node.heads // heads), 1, heads * node.head_size)
        elif isinstance(node, Embedding):
            self._add_table(node)
        else:
            self._take(node, -(-node.size // self.columns), 1, self.columns)

    def _add_table(self, node: Embedding) -> None:
        """A table split by channels, no tile with more bytes than its memory holds."""
        rows, channels = node.table.shape
        largest = int(np.abs(node.table.astype(np.int64)).max(initial=0))
        word = -(-(largest.bit_length() + 1) // 8)
        fit = min(self.columns, max(int(self.memory // max(rows * word, 1)), 1))
        self._take(node, -(-channels // fit), 1, fit)
        own = np.clip(np.arange(node.size) - node.first_channel, 0, max(channels - 1, 0))
        self.channel_tile[node.name] = self.first[node.name] + own // fit

    def _take(self, node: Node, tiles: int, stride: int, channels: int) -> None:
        """New tiles for a node, `channels` output channels to every `stride` of them."""
        self.first[node.name] = self.used
        self.tiles[node.name] = tiles
        self.channel_tile[node.name] = self.used + np.arange(node.size) // channels * stride
        self.used += tiles

    def row_block(self, crossbar: Crossbar, block: int) -> list[int]:
        """The tiles of a crossbar that hold rows block * rows ... of it."""
        row_tiles, column_tiles = self.tiling[crossbar.name]
        first = self.first[crossbar.name] + block
        return [first + column * row_tiles for column in range(column_tiles)]

    def utilisation(self, mesh_tiles: int) -> dict[str, float]:
        """Shares of the mesh's tiles and of the crossbar tiles' pairs that are in use."""
        pairs = self._cell_tiles * self.rows * self.columns
        return {
            "tiles": self.used / mesh_tiles,
            "crossbar_tiles": self._cell_tiles / mesh_tiles,
            "pairs": self._cells / pairs if pairs else 0.0,
        }


def _spike_hops(bank: Node, network: Network, layout: _Layout, where: list[Position]) -> Hops:
    """Links of the multicast tree of one packet from each channel of a bank."""
    size = bank.size
    emits = layout.channel_tile[bank.name]
    keys = [emits]
    readers = [network[name] for name in network.targets(bank.name)]
    for reader in readers:  # channels with the same key have the same tree
        if isinstance(reader, Crossbar):
            keys.append(np.arange(size) // layout.rows)
        else:
            keys.append(layout.channel_tile[reader.name])
    groups, member = np.unique(np.stack(keys), axis=1, return_inverse=True)
    hops = np.empty(groups.shape[1], dtype=np.int64)
    for index, group in enumerate(groups.T.tolist()):
        targets: list[int] = []
        for reader, key in zip(readers, group[1:], strict=True):
            if isinstance(reader, Crossbar):
                targets += layout.row_block(reader, key)
            elif isinstance(reader, DelayCrossbar):
                taps = layout.tiling[reader.name][0]
                targets += range(key - taps + 1, key + 1)
            else:
                targets.append(key)
        hops[index] = tree_hops(where[group[0]], [where[tile] for tile in targets])
    return hops[member.reshape(-1)]


def _value_hops(
    network: Network, layout: _Layout, where: list[Position]
) -> dict[tuple[str, str], Hops]:
    """Links of each word that travels: into accumulators, and out of them into banks."""
    hops: dict[tuple[str, str], Hops] = {}
    spots = np.array(where, dtype=np.int64).reshape(-1, 2)
    for source, target in network.edges:
        spikes = isinstance(network[source], NeuronBank)
        if spikes or not (
            isinstance(network[target], Accumulator) or isinstance(network[source], Accumulator)
        ):
            continue
        ends = layout.channel_tile[source], layout.channel_tile[target]
        words = np.abs(spots[ends[0]] - spots[ends[1]]).sum(axis=1)
        node = network[source]
        if isinstance(node, Embedding):  # other channels get no word
            words[: node.first_channel] = 0
            words[node.first_channel + node.table.shape[1] :] = 0
        hops[source, target] = words
    return hops


def _depth(network: Network) -> int:
    """Windows of one token: the longest chain of banks in execution order, and what follows it.

    A crossbar or attention unit acts on the window before. In front of a bank it shares the bank's
    window; in front of a read-out or accumulator its own window counts.
    """
    windows = 0
    level: dict[str, int] = {node.name: 0 for node in network}
    done: set[str] = set()
    for node in network:
        reached = [level[name] for name in network.sources(node.name) if name in done]
        own = max(reached, default=0) + isinstance(node, NeuronBank)
        level[node.name] = max(level[node.name], own)
        ends = any(
            isinstance(network[name], Readout | Accumulator) for name in network.targets(node.name)
        )
        acts = isinstance(node, Crossbar | DelayCrossbar | AttentionUnit)
        windows = max(windows, level[node.name] + (acts and ends))
        done.add(node.name)
        for target in network.targets(node.name):  # an accumulator that already stands
            if target in done:
                level[target] = max(level[target], level[node.name])
    return windows
