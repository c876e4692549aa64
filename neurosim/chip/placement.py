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
- A digital unit is one tile and as many more as its tables and caches need (memory.embedding_bank
  each); sums and other units' values travel to the first of them, its spikes leave from there.
- Words that a crossbar or embedding writes into an accumulator travel, point to point: an
  accumulator is written from many places and cannot sit beside all of them.
- Tiles are taken in execution order along a serpentine, so that what follows is near.

A spike goes to every tile whose rows it drives: its channel's row block in each reading crossbar,
its head's tile in an attention unit, its channel's tile in an accumulator; XY multicast, links
shared.

Several chips form a rectangle, the squarest there is for their number (a prime number makes a row),
in one large mesh; XY routes run through them, and links that join chips are counted apart. The
chips are filled one after another along a serpentine, with equal shares of the tiles. With
`faults.avoid` the dead tiles of the seed stay empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.chip.description import ChipDescription
from neurosim.chip.fan_out import FanOut, Hops, find_fan_out, tree_sizes, word_sizes
from neurosim.chip.layout import Layout, Slots, TileUse
from neurosim.chip.multicast import Position, serpentine
from neurosim.chip.stages import Stages, stages
from neurosim.network import (
    DigitalUnit,
    Network,
    NeuronBank,
)

_MOST_DEAD = 0.5  # dead tiles to place around, of all


@dataclass(frozen=True, eq=False)
class Placement:
    """A network on the mesh. Every tile of the mesh has a slot number, along the serpentine of its
    chip and chip by chip; `position` gives its (x, y) on the whole mesh."""

    width: int
    height: int
    """Of the whole mesh, in tiles."""
    chips: int
    chip_size: tuple[int, int]
    """Width and height of one chip, in tiles."""
    used_tiles: int
    depth: int
    """Sequential windows per token: the longest chain of banks, and one more for the crossbar or
    attention unit that ends it."""
    stages: Stages
    """In which window each bank fires, and when words travel."""
    tiles: Mapping[str, int]
    """Node -> tiles that it alone takes; 0 if it sits on its source's."""
    slots: Mapping[str, Slots]
    """Node -> its tiles, or its source's; of a crossbar column block by column block."""
    tiling: Mapping[str, tuple[int, int]]
    """Crossbar -> (row tiles, column tiles)."""
    channel_tile: Mapping[str, Slots]
    """Node -> slot that holds, sums or emits each of its output channels, (N,)."""
    fan_out: Mapping[str, FanOut]
    """Bank -> where its packets go."""
    hops: Mapping[str, Hops]
    """Bank -> links within chips that one packet of each channel uses, (N,)."""
    chip_hops: Mapping[str, Hops]
    """Bank -> links between chips that one packet of each channel uses, (N,)."""
    value_hops: Mapping[tuple[str, str], Hops]
    """(source, target) -> links within chips that one word of each channel uses, (N,): into
    accumulators, and from them into banks and read-outs."""
    value_chip_hops: Mapping[tuple[str, str], Hops]
    """The same, links between chips."""
    packet_bits: Mapping[str, int]
    """Bank -> bits of one packet."""
    utilisation: Mapping[str, float]
    """Shares in use: `tiles` of the mesh, `crossbar_tiles` of the mesh, `pairs` of the crossbar
    tiles' pairs, `rows` and `columns` of the crossbar tiles'."""
    use: tuple[TileUse, ...]
    """What every taken tile holds."""

    @property
    def first_tile(self) -> dict[str, int]:
        """Node -> slot of its first tile."""
        return {name: int(slots[0]) for name, slots in self.slots.items() if slots.size}

    @property
    def mesh_tiles(self) -> int:
        """Tiles of the whole mesh, empty ones included."""
        return self.width * self.height

    def position(self, slot: int) -> Position:
        """(x, y) of a slot on the whole mesh."""
        return _position(slot, self.chip_size, self.width // self.chip_size[0])

    @property
    def mesh_tile(self) -> npt.NDArray[np.int64]:
        """Slot -> number of its tile in `neurosim.chip.mesh`, row by row, (mesh_tiles,)."""
        spots = [self.position(slot) for slot in range(self.mesh_tiles)]
        return np.array([y * self.width + x for x, y in spots], np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Sizes and utilisation for a report."""
        return {
            "mesh": [self.width, self.height],
            "chips": self.chips,
            "tiles": self.used_tiles,
            "windows_per_token": self.depth,
            "tiles_by_node": dict(self.tiles),
            "utilisation": dict(self.utilisation),
        }

    def __str__(self) -> str:
        shares = ", ".join(f"{name} {share:.1%}" for name, share in self.utilisation.items())
        where = f"a {self.width} x {self.height} mesh"
        if self.chips > 1:
            where += f" of {self.chips} chips of {self.chip_size[0]} x {self.chip_size[1]}"
        lines = [
            f"{self.used_tiles} tiles on {where}, {self.depth} windows per token; {shares}",
        ]
        lines += [
            f"  {name}: {count} tile{'s' if count > 1 else ''} from {int(self.slots[name][0])}"
            for name, count in self.tiles.items()
            if count
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Placement({self.used_tiles} tiles on {self.width} x {self.height})"


def _position(slot: int, size: tuple[int, int], chips_across: int) -> Position:
    chip, place = divmod(slot, size[0] * size[1])
    chip_x, chip_y = serpentine(chip, chips_across)
    x, y = serpentine(place, size[0])
    return chip_x * size[0] + x, chip_y * size[1] + y


def place(network: Network, chip: ChipDescription, chips: int = 1, seed: int = 0) -> Placement:
    """Place a network on one or several chips; ValueError if they are too small.

    A chip with a declared mesh holds what the mesh holds; an automatic one (0 x 0) is as large as
    its share of the network. `seed` decides which tiles are dead, where the chip avoids them.
    """
    if chips < 1:
        raise ValueError(f"expected at least 1 chip, got {chips}")
    layout, size = _fitted(network, chip, chips, seed)
    across, down = _rectangle(chips)
    width, height = across * size[0], down * size[1]
    where = [_position(slot, size, across) for slot in range(layout.end)]
    banks = [node for node in network if isinstance(node, NeuronBank | DigitalUnit) and node.size]
    fan_out = {bank.name: find_fan_out(bank, network, layout) for bank in banks}
    packets = {name: tree_sizes(fan, where, size) for name, fan in fan_out.items()}
    words = word_sizes(network, layout, where, size)
    use, found = tuple(layout.use()), stages(network)
    return Placement(
        width,
        height,
        chips,
        size,
        layout.used,
        found.depth,
        found,
        layout.tiles,
        layout.slots,
        layout.tiling,
        layout.channel_tile,
        fan_out,
        {name: within for name, (within, _) in packets.items()},
        {name: between for name, (_, between) in packets.items()},
        {edge: within for edge, (within, _) in words.items()},
        {edge: between for edge, (_, between) in words.items()},
        {bank.name: chip.packet_bits(bank.size, bank.levels, bank.signed) for bank in banks},
        _utilisation(layout, use, width * height),
        use,
    )


def _rectangle(chips: int) -> tuple[int, int]:
    """(across, down), across >= down, of the squarest full rectangle of chips."""
    down = max(part for part in range(1, math.isqrt(chips) + 1) if chips % part == 0)
    return chips // down, down


def _fitted(
    network: Network, chip: ChipDescription, chips: int, seed: int
) -> tuple[Layout, tuple[int, int]]:
    """The layout with the smallest equal share that fits `chips`, and the size of one chip."""
    declared = int(chip.mesh.width.value), int(chip.mesh.height.value)
    whole = Layout(network, chip, 2**40, 2**40)
    tallest = max((rows for rows, _ in whole.tiling.values()), default=1)
    share = max(-(-whole.used // chips), tallest, 1)
    while True:
        size = declared if declared[0] else _square(share)
        tiles = size[0] * size[1]
        if share > tiles:
            raise _too_small(network, chip, whole.used, chips, tallest)
        avoid = chip.faults.avoid and chip.faults.any
        dead = chip.faults.dead_tiles(chips * tiles, seed) if avoid else None
        if dead is not None and dead.mean() > _MOST_DEAD:
            raise ValueError(
                f"expected at most {_MOST_DEAD:.0%} dead tiles to place around, got "
                f"{dead.mean():.0%} of {dead.size} on {chip.name}; set faults.avoid = false"
            )
        layout = Layout(network, chip, tiles, share, dead)
        if layout.chips <= chips:
            return layout, size
        share += 1


def _square(tiles: int) -> tuple[int, int]:
    """Width and height of the smallest square-like mesh of at least so many tiles."""
    width = math.isqrt(max(tiles - 1, 0)) + 1
    return width, -(-tiles // width)


def _too_small(
    network: Network, chip: ChipDescription, tiles: int, chips: int, tallest: int
) -> ValueError:
    width, height = int(chip.mesh.width.value), int(chip.mesh.height.value)
    got = f"{width} x {height}" if chips == 1 else f"{chips} chips of {width} x {height}"
    advice = "enlarge mesh.width and mesh.height, or set both to 0 (automatic)"
    if tallest <= width * height and not chip.faults.avoid:
        needed = Layout(network, chip, width * height, width * height).chips
        advice = f"{needed} such chips would do (--chips {needed}); or {advice}"
    return ValueError(
        f"expected a mesh of at least {tiles} tiles for this network, got {got} on chip "
        f"{chip.name}; {advice}"
    )


def _utilisation(layout: Layout, use: tuple[TileUse, ...], mesh_tiles: int) -> dict[str, float]:
    """Shares in use; see `Placement.utilisation`."""
    arrays = [tile for tile in use if tile.rows]
    count = len(arrays)
    return {
        "tiles": layout.used / mesh_tiles,
        "crossbar_tiles": count / mesh_tiles,
        "pairs": layout.cells / (count * layout.rows * layout.columns) if count else 0.0,
        "rows": sum(tile.rows for tile in arrays) / (count * layout.rows) if count else 0.0,
        "columns": sum(tile.columns for tile in arrays) / (count * layout.columns)
        if count
        else 0.0,
    }
