"""The network refuses what no chip can run; its hash is a scalar one, token by token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from energy_cases import bank, tiny_network, weights
from hypothesis import example, given
from hypothesis import strategies as st
from properties import examples

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
    ngram_rows,
)


def _network(nodes: list[Node], *edges: str) -> Network:
    """Edges are written "a b"."""
    pairs = tuple(tuple(edge.split()) for edge in edges)
    return Network(tuple(nodes), pairs, {node.name: "layer" for node in nodes})  # type: ignore[arg-type]


def _chain() -> list[Node]:
    """embedding -> residual -> read -> up -> hidden -> down -> (residual); width 4, hidden 6."""
    return [
        Embedding("embedding", weights(5, 4)),
        Accumulator("residual", 4),
        bank("read", 4),
        Crossbar("up", weights(4, 6)),
        bank("hidden", 6),
        Crossbar("down", weights(6, 4)),
    ]


CHAIN = ("embedding residual", "residual read", "read up", "up hidden", "hidden down")


def test_a_good_network() -> None:
    network = _network(_chain(), *CHAIN, "down residual")
    assert [node.name for node in network] == [node.name for node in _chain()]
    assert network.sources("residual") == ("embedding", "down")
    assert network.targets("read") == ("up",)
    assert network["up"].size == 6
    assert [node.name for node in network.of(NeuronBank)] == ["read", "hidden"]
    assert "Crossbar 2" in repr(network)
    assert "6 edges" in repr(network)
    with pytest.raises(KeyError, match="no node called nobody"):
        network["nobody"]


def test_duplicate_names() -> None:
    nodes = [*_chain(), Accumulator("residual", 4)]
    with pytest.raises(ValueError, match="unique"):
        _network(nodes, *CHAIN)


def test_an_edge_to_nowhere() -> None:
    for edge in ("read nobody", "nobody read"):
        with pytest.raises(ValueError, match="no node called nobody"):
            _network(_chain(), *CHAIN, edge)


def test_a_node_without_a_layer() -> None:
    good = _network(_chain(), *CHAIN)
    layer = {name: where for name, where in good.layer.items() if name != "up"}
    with pytest.raises(ValueError, match="up: no layer"):
        replace(good, layer=layer)


@pytest.mark.parametrize("order", [[0, 1, 3, 2, 4, 5], [0, 1, 2, 4, 3, 5]], ids=str)
def test_a_backward_edge(order: list[int]) -> None:
    nodes = _chain()
    with pytest.raises(ValueError, match="runs backwards"):
        _network([nodes[i] for i in order], *CHAIN)


def test_a_node_that_feeds_itself() -> None:
    nodes = [*_chain(), bank("loop", 4)]
    with pytest.raises(ValueError, match="runs backwards"):
        _network(nodes, *CHAIN, "loop loop")


@pytest.mark.parametrize(
    ("index", "node", "edge"),
    [
        pytest.param(3, Crossbar("up", weights(5, 6)), "read -> up: expected 5", id="fan-in"),
        pytest.param(4, bank("hidden", 5), "up -> hidden: expected 5", id="bank"),
        pytest.param(5, Crossbar("down", weights(6, 3)), "expected 4 channels, got 3", id="sum"),
        pytest.param(0, Embedding("embedding", weights(5, 3)), "expected 4", id="embedding"),
        pytest.param(3, DelayCrossbar("up", weights(6, 5)), "read -> up: expected 5", id="taps"),
    ],
)
def test_wrong_widths(index: int, node: Node, edge: str) -> None:
    nodes = _chain()
    nodes[index] = node
    with pytest.raises(ValueError, match=edge):
        _network(nodes, *CHAIN, "down residual")


def test_attention_of_another_width() -> None:
    nodes = [
        Embedding("e", weights(5, 4)), Accumulator("a", 4), bank("q", 4), bank("k", 4),
        bank("v", 4), AttentionUnit("attention", 2, 3, np.array([1, 2]), 4),
    ]  # fmt: skip
    edges = ["e a", "a q", "a k", "a v", "q attention", "k attention", "v attention"]
    with pytest.raises(ValueError, match="expected 6 channels, got 4"):
        _network(nodes, *edges)


@pytest.mark.parametrize(
    "target",
    [
        Crossbar("x", weights(4, 4)),
        DelayCrossbar("x", weights(2, 4)),
        AttentionUnit("x", 2, 2, np.array([1, 2]), 4),
    ],
    ids=lambda node: type(node).__name__,
)
@pytest.mark.parametrize("source", ["embedding", "residual", "down"])
def test_real_valued_input_to_what_reads_spikes(source: str, target: Node) -> None:
    """Sums and look-ups are not spikes: such a product would have to multiply."""
    needed = 3 if isinstance(target, AttentionUnit) else 1
    spikes = ["read x"] * (needed - 1)
    with pytest.raises(ValueError, match=f"{source} -> x: x reads spikes only"):
        _network([*_chain(), target], *CHAIN, f"{source} x", *spikes)


@pytest.mark.parametrize(
    ("extra", "edges", "message"),
    [
        ([bank("lonely", 4)], [], r"lonely: NeuronBank takes 1 input\(s\), got 0"),
        ([], ["embedding read"], r"read: NeuronBank takes 1 input\(s\), got 2"),
        ([Accumulator("empty", 4)], [], "empty: Accumulator takes"),
        ([], ["residual embedding"], r"embedding: Embedding takes 0 input\(s\), got 1"),
        (
            [AttentionUnit("x", 2, 2, np.array([1, 2]), 4)],
            ["read x", "read x"],
            r"x: AttentionUnit takes 3 input\(s\), got 2",
        ),
        ([Readout("logits", 4, 1.0)], ["down logits", "residual logits"], "logits: Readout takes"),
    ],
)
def test_wrong_number_of_inputs(extra: list[Node], edges: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _network([*_chain(), *extra], *CHAIN, *edges)


def test_an_accumulator_stands_at_its_first_write() -> None:
    """One that is only written later would be read empty."""
    nodes = _chain()
    nodes.insert(2, Accumulator("late", 4))
    nodes.insert(3, bank("early", 4))
    with pytest.raises(ValueError, match="late"):
        _network(nodes, *CHAIN, "down late", "late early")


@pytest.mark.parametrize(
    "late",
    [Embedding("late", weights(5, 4)), Accumulator("late", 4)],
    ids=lambda node: type(node).__name__,
)
def test_only_crossbars_write_after_the_accumulator_stands(late: Node) -> None:
    """Crossbars that come later add to it; what anything else writes later would be lost."""
    edges = [] if isinstance(late, Embedding) else ["embedding late"]
    with pytest.raises(ValueError, match="late -> residual"):
        _network([*_chain(), late], *CHAIN, *edges, "late residual")


BAD_NODES: list[tuple[Any, str]] = [
    (lambda: Embedding("x", weights(5, 4)[0]), r"expected a table \(V, N\)"),
    (lambda: Embedding("x", weights(6, 4), order=2), "power of two of hashed rows, got 6"),
    (lambda: Embedding("x", weights(8, 4), order=0), "order >= 1"),
    (lambda: Embedding("x", weights(8, 4), 2, 1, 4), "4 channels from 1 on do not fit into 4"),
    (lambda: Embedding("x", weights(8, 4), 2, -1, 8), "do not fit"),
    (lambda: Embedding("x", weights(8, 4) * 0.5), "integer"),
    (lambda: Crossbar("x", weights(3, 4) * 0.5), "expected integer weights"),
    (lambda: Crossbar("x", weights(3, 4)[0]), "expected integer weights"),
    (lambda: Crossbar("x", np.full((2, 2), -128, np.int8)), r"exceed 8 bits \(\|w\| <= 127\)"),
    (lambda: Crossbar("x", np.full((2, 2), 8), 4), r"exceed 4 bits \(\|w\| <= 7\)"),
    (lambda: DelayCrossbar("x", weights(3, 4) * 0.5), "expected integer weights"),
    (lambda: DelayCrossbar("x", np.full((2, 2), 128)), "exceed 8 bits"),
    (lambda: NeuronBank("x", np.array([1, 2]), np.array([0]), 4, True), "one shape"),
    (lambda: NeuronBank("x", np.array([1, 0]), np.array([0, 0]), 4, True), "must be positive"),
    (lambda: NeuronBank("x", np.array([1]), np.array([0]), 0, True), "levels >= 1"),
    (
        lambda: NeuronBank("x", np.array([0.5]), np.array([0]), 4, True),
        "integer",
    ),
    (lambda: AttentionUnit("x", 2, 3, np.array([1]), 4), "one decay shift per head"),
]


@pytest.mark.parametrize(
    ("build", "message"), BAD_NODES, ids=[f"{i} {text}" for i, (_, text) in enumerate(BAD_NODES)]
)
def test_bad_nodes(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build()
    assert str(caught.value).startswith("x: ")


def test_sizes() -> None:
    assert Embedding("x", weights(8, 4), 2, 3, 9).size == 9
    assert Embedding("x", weights(8, 4)).size == 4
    assert NeuronBank("x", np.ones(5, int), np.zeros(5, int), 4, True).neurons == 10
    assert NeuronBank("x", np.ones(5, int), np.zeros(5, int), 4, False).neurons == 5
    assert AttentionUnit("x", 2, 3, np.array([1, 2]), 4).state_size == 18
    assert tiny_network()["conv"].size == 4


def _one_at_a_time(tokens: list[int]) -> int:
    """Bob Jenkins' hash of 32-bit words, in Python's integers."""
    key = 0
    for token in tokens:
        key = (key + token) % 2**32
        key = (key + (key << 10)) % 2**32
        key ^= key >> 6
    key = (key + (key << 3)) % 2**32
    key ^= key >> 11
    return (key + (key << 15)) % 2**32


@examples(100)
@given(
    tokens=st.lists(st.integers(0, 2**16 - 1), min_size=0, max_size=9),
    order=st.integers(2, 8),
    bits=st.integers(0, 20),
)
@example(tokens=[7, 8, 9], order=5, bits=8)  # a text shorter than the n-gram
def test_ngram_rows(tokens: list[int], order: int, bits: int) -> None:
    expected = [
        _one_at_a_time(([0] * order + tokens)[i + 1 : i + 1 + order]) % 2**bits
        for i in range(len(tokens))
    ]
    for kind in (np.uint16, np.int64):
        rows = ngram_rows(np.array(tokens, kind), order, 2**bits)
        assert rows.dtype == np.int64
        assert rows.tolist() == expected


def test_ngram_rows_of_batches_and_of_order_one() -> None:
    tokens = np.random.default_rng(0).integers(0, 500, (3, 2, 9)).astype(np.uint16)
    rows = ngram_rows(tokens, 3, 64)
    assert rows.shape == tokens.shape
    for where in np.ndindex(3, 2):
        np.testing.assert_array_equal(rows[where], ngram_rows(tokens[where], 3, 64))
    np.testing.assert_array_equal(ngram_rows(tokens, 1, 500), tokens)
    assert len(np.unique(ngram_rows(np.arange(4096), 2, 256))) == 256  # it spreads
