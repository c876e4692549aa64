"""In which window of a token each node acts, and when its digital words travel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from neurosim.network import (
    Accumulator,
    AttentionUnit,
    Crossbar,
    DelayCrossbar,
    DigitalUnit,
    Network,
    NeuronBank,
    Node,
    Readout,
)


@dataclass(frozen=True)
class Stages:
    """`depth`: windows of one token: the longest chain of banks in execution order, and what
    follows it. `bank`: bank -> its window, from 1. `edge`: edge -> windows that have passed when it
    carries its values; words travel between that window and the next."""

    depth: int
    bank: Mapping[str, int]
    edge: Mapping[tuple[str, str], int]


def stages(network: Network) -> Stages:
    """Windows of every node.

    A crossbar or attention unit acts on the window before. In front of a bank it shares the bank's
    window; in front of a read-out or accumulator its own window counts.
    """
    kinds = {node.name: node for node in network}
    sources: dict[str, list[str]] = {name: [] for name in kinds}
    targets: dict[str, list[str]] = {name: [] for name in kinds}
    for source, target in network.edges:
        sources[target].append(source)
        targets[source].append(target)
    windows = 0
    level = dict.fromkeys(kinds, 0)
    edge: dict[tuple[str, str], int] = {}
    done: set[str] = set()
    for node in network:
        before = [name for name in sources[node.name] if name in done]
        edge.update({(name, node.name): level[name] for name in before})
        reached = max((level[name] for name in before), default=0)
        level[node.name] = max(level[node.name], reached + _fires(node))
        ends = any(
            isinstance(kinds[name], Readout | Accumulator | DigitalUnit)
            for name in targets[node.name]
        )
        acts = isinstance(node, Crossbar | DelayCrossbar | AttentionUnit)
        windows = max(windows, level[node.name] + (acts and ends))
        done.add(node.name)
        for target in targets[node.name]:  # an accumulator that already stands
            if target in done:
                level[target] = max(level[target], level[node.name])
                edge[node.name, target] = level[node.name]
    banks = {name: level[name] for name, node in kinds.items() if _fires(node)}
    return Stages(windows, banks, edge)


def _fires(node: Node) -> bool:
    """Whether a node takes a window of its own: neurons, and units that drive crossbars."""
    return isinstance(node, NeuronBank) or (isinstance(node, DigitalUnit) and node.width > 0)
