"""Counts are exact and checked; multiplications come from the network's structure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from energy_cases import WIDTH, bank, phase, tiny_network, weights

from neurosim.energy import COUNTS, PhaseCounts, multiplies, multiplies_by_node
from neurosim.energy.counts import hash_operations
from neurosim.network import AttentionUnit, Crossbar, DelayCrossbar, Embedding, ngram_rows


def test_the_spiking_network_multiplies_nothing() -> None:
    assert multiplies(tiny_network()) == 0


@pytest.mark.parametrize(
    ("node", "sources", "expected"),
    [
        pytest.param(Crossbar("x", weights(4, 3)), ["real"], 12, id="crossbar of real numbers"),
        pytest.param(Crossbar("x", weights(4, 3)), ["spikes"], 0, id="crossbar of spikes"),
        pytest.param(DelayCrossbar("x", weights(2, 4)), ["real"], 8, id="convolution"),
        pytest.param(
            AttentionUnit("x", 2, 2, np.array([1, 2]), 4), ["real", "spikes", "spikes"], 8, id="q"
        ),
        pytest.param(
            AttentionUnit("x", 2, 2, np.array([1, 2]), 4), ["spikes", "real", "real"], 8, id="k"
        ),
        pytest.param(
            AttentionUnit("x", 2, 2, np.array([1.5, 2.0]), 4), ["spikes"] * 3, 4, id="decay"
        ),
        pytest.param(
            AttentionUnit("x", 2, 2, np.array([1.0, 2.0]), 4), ["spikes"] * 3, 0, id="whole shift"
        ),
        pytest.param(
            AttentionUnit("x", 2, 2, np.array([1, 2]), 0.5),  # type: ignore[arg-type]
            ["spikes"] * 3,
            4,
            id="scale",
        ),
    ],
)
def test_multiplies_of_a_node(node: object, sources: list[str], expected: int) -> None:
    nodes = (Embedding("real", weights(5, WIDTH)), bank("spikes", WIDTH), node)
    edges = [(source, "x") for source in sources]
    assert multiplies_by_node(nodes, edges)["x"] == expected  # type: ignore[arg-type]


def test_multiplies_refuses_a_node_it_does_not_know() -> None:
    class Softmax:
        name = "softmax"

    with pytest.raises(ValueError, match="Softmax"):
        multiplies_by_node((Softmax(),), ())  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [1, 2, 3, 7])
def test_hash_operations_of_the_network_s_hash(order: int) -> None:
    """Counted by running `ngram_rows` on a number type that counts what is done to it."""
    done = {"additions": 0, "shifts": 0}

    class Counting(int):
        def __add__(self, other: int) -> Counting:
            done["additions"] += 1
            return Counting(int(self) + int(other))

        def __xor__(self, other: int) -> Counting:
            done["additions"] += 1
            return Counting(int(self) ^ int(other))

        def __lshift__(self, bits: int) -> Counting:
            done["shifts"] += 1
            return Counting(int(self) << int(bits))

        def __rshift__(self, bits: int) -> Counting:
            done["shifts"] += 1
            return Counting(int(self) >> int(bits))

    tokens, rows = np.array([3, 1, 4, 1, 5, 9, 2]), 64
    key = Counting(0)
    for token in tokens[-order:].tolist():
        key = Counting((key + token) & 0xFFFFFFFF)
        key = Counting((key + (key << 10)) & 0xFFFFFFFF)
        key = key ^ (key >> 6)
    key = Counting((key + (key << 3)) & 0xFFFFFFFF)
    key = key ^ (key >> 11)
    key = Counting((key + (key << 15)) & 0xFFFFFFFF)
    if order > 1:
        done["additions"] += 1  # the mask that folds to the rows of the table
        assert key & (rows - 1) == ngram_rows(tokens, order, rows)[-1]
        assert hash_operations(order) == done
    else:
        assert hash_operations(order) == {"additions": 0, "shifts": 0}


def test_totals_by_layer_and_per_token() -> None:
    network = tiny_network()
    counted = phase(network, tokens=3, spikes=2)
    totals = counted.totals()
    assert set(totals) == set(COUNTS)
    assert totals["neuron_spikes"] == 9 * 6
    assert totals["embedding_reads"] == 3 * WIDTH
    layers = counted.by_layer(network)
    assert list(layers) == ["embedding", "residual", "block 0", "head"]
    for name, total in totals.items():
        assert sum(row.get(name, 0) for row in layers.values()) == total
        assert counted.per_token()[name] == pytest.approx(total / 3)
    assert counted.joules_by_mechanism()["device"] == pytest.approx(54 * 4e-14)


@pytest.mark.parametrize(
    ("tokens", "counts", "joules", "words"),
    [
        (0, {}, {}, "at least one token"),
        (1, {"read": {"spikes": 1}}, {}, "unknown count 'spikes'"),
        (1, {"read": {"neuron_spikes": 1.0}}, {}, "Python int"),
        (1, {"read": {"neuron_spikes": np.int64(1)}}, {}, "Python int"),
        (1, {"read": {"neuron_spikes": -1}}, {}, ">= 0"),
        (1, {}, {"read": {"device": -1e-12}}, ">= 0 J"),
        (1, {}, {"read": {"device": float("nan")}}, ">= 0 J"),
    ],
)
def test_phase_counts_refuse(tokens: int, counts: dict, joules: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PhaseCounts(tokens, counts, joules)


def test_check_against_a_network() -> None:
    network = tiny_network()
    good = phase(network)
    good.check(network)
    with pytest.raises(ValueError, match="nowhere"):
        replace(good, counts={"nowhere": {"packets": 1}}).check(network)
    with pytest.raises(ValueError, match="Crossbar does not emit"):
        replace(good, counts={"up": {"neuron_spikes": 1}}).check(network)
