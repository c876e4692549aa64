"""Networks built by hand, for tests of the run loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from energy_cases import bank, tiny_network
from tiny_models import spiking_model

from neurosim.events.recorder import Run
from neurosim.models.spike_transformer_folded import FoldedSpikeTransformer
from neurosim.network import (
    Accumulator,
    Crossbar,
    DelayCrossbar,
    Embedding,
    Network,
    NeuronBank,
    Node,
    Readout,
)


def lowered_model(seed: int = 0, **changes: object) -> Network:
    return FoldedSpikeTransformer.fold(spiking_model(seed, **changes)).lower()


def network_of(nodes: list[Node], *edges: str) -> Network:
    """Edges are written "a b"."""
    pairs = tuple(tuple(edge.split()) for edge in edges)
    return Network(tuple(nodes), pairs, {node.name: "layer" for node in nodes})  # type: ignore[arg-type]


def two_sums() -> Network:
    """Two accumulators, one first written by a crossbar; a bank that reads a look-up."""
    rng = np.random.default_rng(1)
    return network_of(
        [
            Embedding("token", rng.integers(-40, 41, (7, 6))),
            Embedding("pair", rng.integers(-40, 41, (16, 2)), 2, 3, 6),
            bank("direct", 6, True),
            Accumulator("a", 6),
            bank("read", 6),
            Crossbar("c", rng.integers(-7, 8, (6, 5))),
            Accumulator("b", 5),
            Crossbar("d", rng.integers(-7, 8, (6, 5))),
            bank("s", 5, True),
            DelayCrossbar("e", rng.integers(-7, 8, (3, 5))),
            bank("f", 5, True),
            Crossbar("head", rng.integers(-7, 8, (5, 7))),
            Readout("logits", 7, 0.5),
        ],
        "token direct",
        "token a",
        "pair a",
        "a read",
        "read c",
        "c b",
        "direct d",
        "d b",
        "b s",
        "s e",
        "e f",
        "f head",
        "head logits",
    )


def every_node() -> Network:
    """`tiny_network` with thresholds low enough that every bank fires."""
    network = tiny_network()
    nodes = [
        replace(node, half_threshold=np.full(node.size, 2))
        if isinstance(node, NeuronBank)
        else node
        for node in network
    ]
    return Network(tuple(nodes), network.edges, network.layer)


HAND_BUILT = {"every node": every_node, "two accumulators": two_sums}


def added_counts(run: Run) -> dict[str, dict[str, int]]:
    """Counts of all phases together, zeros left out."""
    total: dict[str, dict[str, int]] = {}
    for phase in run.phases.values():
        for node, counts in phase.counts.items():
            into = total.setdefault(node, {})
            for name, count in counts.items():
                assert type(count) is int
                if count:
                    into[name] = into.get(name, 0) + count
    return total


NETWORKS = {
    "transformer": lambda: lowered_model(1, layers=2),
    "no tables, signed q and k": lambda: lowered_model(2, ngram_rows=(), signed_qk=True, taps=1),
    "one table": lambda: lowered_model(2, ngram_rows=(32,)),
    **HAND_BUILT,
}
