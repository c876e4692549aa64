"""What a placed network sends over the mesh, worked out once: trees of packets, words, losses.

Spikes travel as packets on the trees of their bank. Digital words travel point to point between
two windows: those written into accumulators first, then, as soon as all words of that boundary have
reached an accumulator's tile, its own words to the banks that read it. A bank's end packet goes
from each of its tiles to every tile that its channels there reach (sync = "none").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.chip.description import ChipDescription
from neurosim.chip.fan_out import word_channels, word_edges
from neurosim.chip.mesh import Grid, LinkTiming, Routes
from neurosim.chip.placement import Placement
from neurosim.network import AttentionUnit, Crossbar, DelayCrossbar, Network, NeuronBank

WORD_BITS = 32
Longs = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BankTraffic:
    """How a bank's spikes travel: `route` (N,) of each channel, `source` the first of its numbers
    for ties, `bits` of a packet, `end_route` slot -> route of the end packet."""

    route: Longs
    source: int
    bits: int
    end_route: Mapping[int, int]


@dataclass(frozen=True, eq=False)
class WordTraffic:
    """The words of one edge: one packet per channel that sends. `route`, `source`, `from_slot`,
    `to_slot` (W,); `reached` (N,) channels of the edge whose words arrive or stay on their tile."""

    route: Longs
    source: Longs
    from_slot: Longs
    to_slot: Longs
    reached: Mask | None


@dataclass(frozen=True, eq=False)
class MeshPlan:
    """See the module docstring. `received`: (bank, reader) -> which channels reach each of the
    reader's column blocks (crossbar), row tiles (delay crossbar) or the unit (attention), (parts,
    N); only where some do not. `slot_tile`: slot -> tile of the grid."""

    grid: Grid
    routes: Routes
    route_slots: Sequence[tuple[int, ...]]
    """Route -> target slots, in the order of its targets."""
    banks: Mapping[str, BankTraffic]
    words: Mapping[tuple[str, str], WordTraffic]
    received: Mapping[tuple[str, str], Mask]
    slot_tile: Longs

    @classmethod
    def build(
        cls, network: Network, chip: ChipDescription, placement: Placement, seed: int
    ) -> MeshPlan:
        """Trees over the chip's links; dead links and tiles as the chip of this seed has them."""
        tile = placement.mesh_tile
        grid = mesh_grid(chip, placement)
        dead_links = dead_tiles = None
        if chip.faults.any:
            slots = placement.mesh_tiles
            dead_links = np.zeros((grid.tiles, 4), np.bool_)
            dead_links[tile] = chip.faults.dead_links(slots, seed)
            dead_tiles = np.zeros(grid.tiles, np.bool_)
            dead_tiles[tile] = chip.faults.dead_tiles(slots, seed)
        book = _RouteBook()
        banks, source = {}, 0
        for bank in network.of(NeuronBank):
            assert isinstance(bank, NeuronBank)
            banks[bank.name] = _bank_traffic(bank, placement, book, source)
            source += bank.size
        words: dict[tuple[str, str], WordTraffic] = {}
        for edge in word_edges(network):
            words[edge] = _word_traffic(network, placement, edge, book, source)
            source += words[edge].route.size
        routes = Routes.build(
            grid,
            [(int(tile[start]), [int(tile[slot]) for slot in ends]) for start, ends in book.routes],
            dead_links,
            dead_tiles,
        )
        ends = [targets for _, targets in book.routes]
        gone = [frozenset(ends[r][i] for i in lost) for r, lost in enumerate(routes.lost)]
        return cls(
            grid,
            routes,
            ends,
            banks,
            {edge: _with_losses(network, edge, part, gone) for edge, part in words.items()},
            _received(network, placement, banks, gone),
            tile,
        )


def mesh_grid(chip: ChipDescription, placement: Placement) -> Grid:
    """The links under a placement."""
    mesh = chip.mesh
    return Grid.build(
        placement.width,
        placement.height,
        LinkTiming(mesh.link_rate.value, mesh.link_latency.value),
        int(mesh.buffer_depth.value),
        placement.chip_size,
        LinkTiming(mesh.chip_link_rate.value, mesh.chip_link_latency.value),
    )


class _RouteBook:
    """Routes by (source slot, target slots), each stored once."""

    def __init__(self) -> None:
        self.routes: list[tuple[int, tuple[int, ...]]] = []
        self._known: dict[tuple[int, tuple[int, ...]], int] = {}

    def route(self, source: int, targets: tuple[int, ...]) -> int:
        key = (source, targets)
        if key not in self._known:
            self._known[key] = len(self.routes)
            self.routes.append(key)
        return self._known[key]


def _bank_traffic(
    bank: NeuronBank, placement: Placement, book: _RouteBook, source: int
) -> BankTraffic:
    fan = placement.fan_out[bank.name]
    together: dict[int, dict[int, None]] = {}
    routes = []
    for start, targets in zip(fan.source, fan.targets, strict=True):
        slots = tuple(slot for _, slot in targets)
        routes.append(book.route(start, slots))
        together.setdefault(start, {}).update(dict.fromkeys(slots))
    ends = {start: book.route(start, tuple(slots)) for start, slots in together.items()}
    route = np.array(routes, np.int64)[fan.group]
    return BankTraffic(route, source, placement.packet_bits[bank.name], ends)


def _word_traffic(
    network: Network,
    placement: Placement,
    edge: tuple[str, str],
    book: _RouteBook,
    source: int,
) -> WordTraffic:
    channels = word_channels(network[edge[0]])
    start, end = (placement.channel_tile[name][channels] for name in edge)
    routes = [book.route(a, (b,)) for a, b in zip(start.tolist(), end.tolist(), strict=True)]
    return WordTraffic(
        np.array(routes, np.int64), source + np.arange(len(routes)), start, end, None
    )


def _with_losses(
    network: Network, edge: tuple[str, str], words: WordTraffic, gone: list[frozenset[int]]
) -> WordTraffic:
    """Mark the channels whose words do not arrive; channels that send none count as reached."""
    lost = np.array([bool(gone[route]) for route in words.route.tolist()], np.bool_)
    if not lost.any():
        return words
    node = network[edge[0]]
    reached = np.ones(node.size, np.bool_)
    reached[word_channels(node)] = ~lost
    return WordTraffic(words.route, words.source, words.from_slot, words.to_slot, reached)


def _received(
    network: Network,
    placement: Placement,
    banks: Mapping[str, BankTraffic],
    gone: list[frozenset[int]],
) -> dict[tuple[str, str], Mask]:
    found: dict[tuple[str, str], Mask] = {}
    for name, bank in banks.items():
        fan = placement.fan_out[name]
        lost = [gone[route] for route in _group_routes(bank.route, fan.group)]
        if not any(lost):
            continue
        for reader in network.targets(name):
            node = network[reader]
            parts = reader_parts(node, placement)
            seen = np.ones((parts, bank.route.size), np.bool_)
            for group, slots in enumerate(lost):
                mine = [slot for to, slot in fan.targets[group] if to == reader and slot in slots]
                for slot in mine:
                    seen[reader_part(node, placement, slot), fan.group == group] = False
            if not seen.all():
                found[name, reader] = seen
    return found


def _group_routes(route: Longs, group: Longs) -> list[int]:
    """Route of each group of channels."""
    first = np.unique(group, return_index=True)[1]
    return [int(part) for part in route[first]]


def reader_parts(node: object, placement: Placement) -> int:
    """Into how many parts a reader's spikes may differ: see `MeshPlan.received`."""
    if isinstance(node, Crossbar):
        return placement.tiling[node.name][1]
    return placement.tiling[node.name][0] if isinstance(node, DelayCrossbar) else 1


def reader_part(node: object, placement: Placement, slot: int) -> int:
    """Which part of a reader stands on a slot: see `MeshPlan.received`."""
    if isinstance(node, AttentionUnit):
        return 0
    assert isinstance(node, Crossbar | DelayCrossbar)
    rows = placement.tiling[node.name][0]
    place = int(np.flatnonzero(placement.slots[node.name] == slot)[0])
    return place // rows if isinstance(node, Crossbar) else place % rows
