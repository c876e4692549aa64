"""Where packets and words go from a laid-out network, and how many links they use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.chip.layout import Layout
from neurosim.chip.multicast import Position, tree_crossings, tree_hops
from neurosim.network import (
    Accumulator,
    Crossbar,
    DelayCrossbar,
    DigitalUnit,
    Embedding,
    Network,
    NeuronBank,
    Node,
)

Hops = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FanOut:
    """Where the packets of a bank go. Channels with the same tree form a group.

    `group` (N,): of each channel. Of each group: `source`, the slot that emits it, and `targets`,
    (reader, slot) of every tile that gets its packets.
    """

    group: npt.NDArray[np.int64]
    source: tuple[int, ...]
    targets: tuple[tuple[tuple[str, int], ...], ...]


def find_fan_out(bank: NeuronBank | DigitalUnit, network: Network, layout: Layout) -> FanOut:
    """Channels with the same key, one tile for each reader, have the same tree."""
    emits = layout.channel_tile[bank.name]
    readers = [network[name] for name in network.targets(bank.name)]
    if isinstance(bank, DigitalUnit):  # units and read-outs take its values, not its spikes
        readers = [node for node in readers if isinstance(node, Crossbar)]
    keys = [emits]
    for reader in readers:
        if isinstance(reader, Crossbar):
            keys.append(np.arange(bank.size) // layout.rows)
        else:
            keys.append(layout.channel_tile[reader.name])
    groups, member = np.unique(np.stack(keys), axis=1, return_inverse=True)
    targets = []
    for keyed in groups.T.tolist():
        tiles: list[tuple[str, int]] = []
        for reader, key in zip(readers, keyed[1:], strict=True):
            if isinstance(reader, Crossbar):
                slots = layout.slots[reader.name][key :: layout.tiling[reader.name][0]].tolist()
            elif isinstance(reader, DelayCrossbar):
                slots = list(range(key - layout.tiling[reader.name][0] + 1, key + 1))
            else:
                slots = [key]
            tiles += [(reader.name, slot) for slot in slots]
        targets.append(tuple(tiles))
    return FanOut(member.reshape(-1), tuple(groups[0].tolist()), tuple(targets))


def tree_sizes(fan: FanOut, where: list[Position], size: tuple[int, int]) -> tuple[Hops, Hops]:
    """Links within and between chips of the tree of each channel, (N,) each."""
    within, between = np.zeros((2, len(fan.source)), np.int64)
    for index, (source, targets) in enumerate(zip(fan.source, fan.targets, strict=True)):
        spots = [where[slot] for _, slot in targets]
        between[index] = tree_crossings(where[source], spots, size)
        within[index] = tree_hops(where[source], spots) - between[index]
    return within[fan.group], between[fan.group]


def word_sizes(
    network: Network, layout: Layout, where: list[Position], size: tuple[int, int]
) -> dict[tuple[str, str], tuple[Hops, Hops]]:
    """Links of each word that travels: into accumulators, and out of them into banks."""
    hops: dict[tuple[str, str], tuple[Hops, Hops]] = {}
    spots = np.array(where, dtype=np.int64).reshape(-1, 2)
    for source, target in word_edges(network):
        ends = tuple(spots[slots] for slots in word_slots(network, layout, source, target))
        between = np.abs(ends[0] // size - ends[1] // size).sum(axis=1)
        within = np.abs(ends[0] - ends[1]).sum(axis=1) - between
        if isinstance(network[source], Embedding):
            silent = np.ones(len(within), np.bool_)
            silent[word_channels(network[source])] = False
            within[silent] = between[silent] = 0
        hops[source, target] = within, between
    return hops


def word_slots(network: Network, layout: Layout, source: str, target: str) -> tuple[Hops, Hops]:
    """From which slot to which each word of an edge travels."""
    sender, start = network[source], layout.channel_tile[source]
    if isinstance(sender, DigitalUnit):
        start = np.full(sender.values, layout.slots[source][0])
    if isinstance(network[target], DigitalUnit):
        return start, np.full(start.shape, layout.slots[target][0])
    return start, layout.channel_tile[target]


def word_edges(network: Network) -> list[tuple[str, str]]:
    """Edges whose digital values travel as words."""
    nodes = {node.name: node for node in network}
    return [
        (source, target)
        for source, target in network.edges
        if not isinstance(nodes[source], NeuronBank)
        and (
            isinstance(nodes[target], Accumulator | DigitalUnit)
            or isinstance(nodes[source], Accumulator)
        )
    ]


def word_channels(node: Node) -> slice:
    """Channels of a node that send words: a table narrower than its sum has only its own."""
    if isinstance(node, Embedding):
        return slice(node.first_channel, node.first_channel + node.table.shape[1])
    return slice(0, node.size)
