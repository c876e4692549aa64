"""Which tile holds what; see `placement.py` for the rules.

Slots are numbered along the chips' serpentines: slot = chip * (tiles of a chip) + place on it.
Every chip takes its share of the network before the next is begun. The row tiles of one column
block join their column wires: neighbours on one chip. Slots marked as dead stay empty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.chip.description import ChipDescription
from neurosim.network import (
    Accumulator,
    AttentionUnit,
    Crossbar,
    DelayCrossbar,
    DigitalUnit,
    Embedding,
    Network,
    NeuronBank,
    Node,
    Readout,
)

Slots = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TileUse:
    """What one tile is used for: a node, and how much of the tile it takes.

    `rows`, `columns`: of a crossbar's tile that carry weights. `channels`: values that the tile
    holds or sums. `neurons`: physical ones that sit on it. `words`: of a table.
    """

    slot: int
    node: str
    kind: str
    rows: int = 0
    columns: int = 0
    channels: int = 0
    neurons: int = 0
    words: int = 0


class Layout:
    """Slots taken so far, node by node.

    Args:
        network, chip: what to lay out, on which tiles.
        size: tiles of one chip. share: how many of them to use, at most.
        dead: slots to leave empty, (slots,), numbers beyond its end are alive; None: none.
    """

    def __init__(
        self,
        network: Network,
        chip: ChipDescription,
        size: int,
        share: int,
        dead: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.network, self.size, self.share = network, size, share
        self.rows, self.columns = int(chip.tile.rows.value), int(chip.tile.columns.value)
        self.memory = chip.memory.embedding_bank.value
        self.dead = frozenset() if dead is None else frozenset(np.flatnonzero(dead).tolist())
        self.end = 0
        self.tiles: dict[str, int] = {}
        self.slots: dict[str, Slots] = {}
        """Node -> its own slots, in order."""
        self.tiling: dict[str, tuple[int, int]] = {}
        self.channel_tile: dict[str, Slots] = {}
        self.cells = 0
        nodes = {node.name: node for node in network}
        for node in network:
            names = network.sources(node.name)
            self._add(node, nodes[names[0]] if names else None)

    @property
    def used(self) -> int:
        """Tiles taken; slots left empty do not count."""
        return sum(self.tiles.values())

    @property
    def chips(self) -> int:
        """Chips that are begun."""
        return max(-(-self.end // self.size), 1)

    def _add(self, node: Node, source: Node | None) -> None:
        """Give `node` its tiles, or those of its source."""
        if isinstance(node, Crossbar | DelayCrossbar):
            rows, outputs = node.weight.shape
            self._take_blocks(node, -(-rows // self.rows), -(-outputs // self.columns))
            self.cells += rows * outputs
        elif isinstance(node, Readout | NeuronBank) and not isinstance(source, Accumulator):
            assert source is not None
            self.tiles[node.name] = 0
            self.slots[node.name] = self.slots[source.name]
            self.channel_tile[node.name] = self.channel_tile[source.name]
        elif isinstance(node, AttentionUnit):
            heads = max(self.columns // node.head_size, 1)
            self._take(node, -(-node.heads // heads), heads * node.head_size)
        elif isinstance(node, Embedding):
            self._add_table(node)
        elif isinstance(node, DigitalUnit):
            self._take(node, max(math.ceil(node.memory_bytes / self.memory), 1), node.size + 1)
        else:
            self._take(node, -(-node.size // self.columns), self.columns)

    def _add_table(self, node: Embedding) -> None:
        """A table split by channels, no tile with more bytes than its memory holds."""
        rows, channels = node.table.shape
        fit = min(self.columns, max(int(self.memory // max(rows * word_bytes(node), 1)), 1))
        self._take(node, -(-channels // fit), fit)
        own = np.clip(np.arange(node.size) - node.first_channel, 0, max(channels - 1, 0))
        self.channel_tile[node.name] = self.slots[node.name][own // fit]

    def _run(self, tiles: int) -> int:
        """The first of `tiles` free slots that follow each other on one chip."""
        first = self.end
        while True:
            if first % self.size + tiles > self.share:  # this chip's share is taken
                first = (first // self.size + 1) * self.size
            gone = [slot for slot in range(first, first + tiles) if slot in self.dead]
            if not gone:
                self.end = first + tiles
                return first
            first = gone[-1] + 1

    def _take(self, node: Node, tiles: int, channels: int) -> None:
        """New tiles for a node, `channels` output channels to each of them."""
        slots = np.array([self._run(1) for _ in range(tiles)], np.int64)
        self.slots[node.name], self.tiles[node.name] = slots, tiles
        if not isinstance(node, Embedding):
            self.channel_tile[node.name] = slots[np.arange(node.size) // channels]

    def _take_blocks(self, node: Node, row_tiles: int, column_tiles: int) -> None:
        """New tiles for a crossbar, column block by column block."""
        if row_tiles > self.share:
            raise ValueError(
                f"{node.name}: its columns join {row_tiles} row tiles, which must be on one chip; "
                f"expected chips of at least {row_tiles} tiles, got {self.share}"
            )
        blocks = np.array([self._run(row_tiles) for _ in range(column_tiles)], np.int64)
        self.tiling[node.name] = (row_tiles, column_tiles)
        self.slots[node.name] = (blocks[:, None] + np.arange(row_tiles)).reshape(-1)
        self.tiles[node.name] = row_tiles * column_tiles
        last = blocks + row_tiles - 1  # the joined column ends at its last tile
        self.channel_tile[node.name] = last[np.arange(node.size) // self.columns]

    def use(self) -> list[TileUse]:
        """Every tile taken and what it holds, in slot order."""
        found: list[TileUse] = []
        neurons: dict[int, int] = {}
        for bank in self.network.of(NeuronBank):
            assert isinstance(bank, NeuronBank)
            slots, counts = np.unique(self.channel_tile[bank.name], return_counts=True)
            for slot, count in zip(slots.tolist(), counts.tolist(), strict=True):
                neurons[slot] = neurons.get(slot, 0) + count * (bank.neurons // max(bank.size, 1))
        for node in self.network:
            kind = type(node).__name__
            if isinstance(node, Crossbar | DelayCrossbar):
                found += self._crossbar_use(node, neurons)
                continue
            if not self.tiles[node.name]:
                continue
            words = len(node.table) if isinstance(node, Embedding) else 0
            held = self.channel_tile[node.name]
            if isinstance(node, Embedding):
                held = held[node.first_channel : node.first_channel + node.table.shape[1]]
            for slot in self.slots[node.name].tolist():
                channels = int(np.count_nonzero(held == slot))
                found.append(
                    TileUse(
                        slot,
                        node.name,
                        kind,
                        channels=channels,
                        neurons=neurons.get(slot, 0),
                        words=words * channels,
                    )
                )
        return sorted(found, key=lambda tile: tile.slot)

    def _crossbar_use(
        self, node: Crossbar | DelayCrossbar, neurons: dict[int, int]
    ) -> list[TileUse]:
        rows, outputs = node.weight.shape
        row_tiles, column_tiles = self.tiling[node.name]
        found = []
        for column in range(column_tiles):
            width = min(outputs - column * self.columns, self.columns)
            for row in range(row_tiles):
                slot = int(self.slots[node.name][column * row_tiles + row])
                found.append(
                    TileUse(
                        slot,
                        node.name,
                        type(node).__name__,
                        min(rows - row * self.rows, self.rows),
                        width,
                        width if row == row_tiles - 1 else 0,
                        neurons.get(slot, 0),
                    )
                )
        return found


def word_bytes(node: Embedding) -> int:
    """Bytes of a signed word that holds every entry of a table."""
    if node.table.size == 0:
        return 1
    largest = max(abs(int(node.table.max())), abs(int(node.table.min())))
    return -(-(largest.bit_length() + 1) // 8)
