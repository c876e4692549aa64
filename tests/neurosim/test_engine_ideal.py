"""On an ideal chip the run loop computes what the software computes, spike for spike."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from energy_cases import bank, weights
from engine_networks import (
    HAND_BUILT,
    network_of,
)
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from tiny_models import spiking_model, tokens

from neurosim.chip import ChipDescription
from neurosim.events.engine import simulate
from neurosim.events.recorder import Run
from neurosim.models.spike_transformer_folded import FoldedSpikeTransformer
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

# Ideal equals software.


def fired(node: NeuronBank, charge: np.ndarray) -> np.ndarray:
    total, half = charge + node.bias.astype(np.int64), node.half_threshold.astype(np.int64)
    if node.signed:
        return np.sign(total) * np.minimum((np.abs(total) + half) // (2 * half), node.levels)
    return np.clip((total + half) // (2 * half), 0, node.levels)


def software_run(
    network: Network, ids: Iterable[int]
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Logits (T, V), spikes (T, N) by bank and every node's last value, int64."""
    ids = np.array(list(ids))
    value: dict[str, np.ndarray] = {}
    states: dict[str, np.ndarray] = {}
    spikes: dict[str, list[np.ndarray]] = {node.name: [] for node in network.of(NeuronBank)}
    logits = []
    for t in range(len(ids)):
        done: set[str] = set()
        for node in network:
            sources = network.sources(node.name)
            if isinstance(node, Embedding):
                row = ngram_rows(ids[: t + 1], node.order, len(node.table))[t]
                out = np.zeros(node.size, np.int64)
                channels = node.table.shape[1]
                out[node.first_channel : node.first_channel + channels] = node.table[row]
            elif isinstance(node, Crossbar):
                out = value[sources[0]] @ node.weight.astype(np.int64)
            elif isinstance(node, DelayCrossbar):
                past = [*spikes[sources[0]]][::-1][: len(node.weight)]
                out = sum(
                    (n * row.astype(np.int64) for n, row in zip(past, node.weight, strict=False)),
                    np.zeros(node.size, np.int64),
                )
            elif isinstance(node, NeuronBank):
                out = fired(node, value[sources[0]])
                spikes[node.name].append(out)
            elif isinstance(node, AttentionUnit):
                shape = (node.heads, node.head_size)
                q, k, v = (value[name].reshape(shape) for name in sources)
                state = states.setdefault(node.name, np.zeros((*shape, node.head_size), np.int64))
                out = np.zeros(shape, np.int64)
                for head, shift in enumerate(node.decay_shift.tolist()):
                    if shift:
                        state[head] -= state[head] >> shift
                    state[head] += np.outer(k[head], v[head]) << node.fraction_bits
                    out[head] = q[head] @ state[head]
                out = out.reshape(-1)
            elif isinstance(node, Accumulator):
                out = sum((value[name] for name in sources if name in done), np.int64(0))
            else:
                out = value[sources[0]]
                logits.append(out)
            value[node.name] = np.asarray(out)
            done.add(node.name)
            for target in network.targets(node.name):
                if isinstance(network[target], Accumulator) and target in done:
                    value[target] = value[target] + out
    return np.array(logits), {name: np.array(rows) for name, rows in spikes.items()}, value


def _equals_software(network: Network, chip: ChipDescription, ids: list[int]) -> Run:
    run = simulate(network, chip, ids)
    logits, spikes, _ = software_run(network, ids)
    for name, expected in spikes.items():
        np.testing.assert_array_equal(run.spikes[name], expected, err_msg=name)
    assert set(run.spikes) == set(spikes)
    np.testing.assert_array_equal(run.logits, logits)
    return run


@examples(25)
@given(
    seed=st.integers(0, 2**31 - 1),
    heads=st.sampled_from([1, 2, 3]),
    head_size=st.sampled_from([1, 4, 9]),
    layers=st.integers(1, 2),
    levels=st.integers(1, 7),
    taps=st.integers(1, 4),
    signed_qk=st.booleans(),
    tables=st.integers(0, 1),
    length=st.integers(1, 24),
    shift=st.integers(0, 6),
)
def test_ideal_equals_the_model_s_own_forward_pass(
    chips: dict[str, ChipDescription],
    seed: int,
    heads: int,
    head_size: int,
    layers: int,
    levels: int,
    taps: int,
    signed_qk: bool,
    tables: int,
    length: int,
    shift: int,
) -> None:
    """Random tiny models through `fold` and `lower`: every spike and logit, bit for bit."""
    model = spiking_model(
        seed, heads=heads, width=heads * head_size, layers=layers, levels=levels, taps=taps,
        signed_qk=signed_qk, ngram_rows=(16,) * tables, decay_shift=(shift,) * heads, context=16,
    )  # fmt: skip
    folded = FoldedSpikeTransformer.fold(model)
    ids = tokens(length, seed=seed)
    logits, spikes = folded.forward(ids)
    for name in ("ideal", "small ideal"):
        run = simulate(folded.lower(), chips[name], ids.tolist())
        assert run.tokens == tuple(ids.tolist())
        for site, expected in spikes.items():
            np.testing.assert_array_equal(run.spikes[site], expected, err_msg=f"{name}: {site}")
        np.testing.assert_array_equal(run.logits, logits)


@pytest.mark.parametrize("chip", ["ideal", "small ideal"])
@pytest.mark.parametrize("build", HAND_BUILT.values(), ids=HAND_BUILT)
def test_ideal_equals_a_naive_interpreter(
    build: type, chip: str, chips: dict[str, ChipDescription]
) -> None:
    run = _equals_software(build(), chips[chip], [0, 3, 1, 1, 4, 2, 0, 3, 3, 3, 4])
    silent = [name for name, rows in run.spikes.items() if not rows.any()]
    assert not silent


@pytest.mark.parametrize(
    ("extra", "edges"),
    [
        pytest.param([], ["spikes sum", "sum last"], id="into an accumulator"),
        pytest.param([bank("after", 6, True)], ["spikes after", "rows sum", "sum last"], id="bank"),
    ],
)
def test_spikes_that_a_network_may_send_elsewhere(
    extra: list[Node], edges: list[str], chips: dict[str, ChipDescription]
) -> None:
    """What the constructor lets through runs as the interpreter says; else it must refuse it."""
    nodes: list[Node] = [
        Embedding("rows", weights(5, 6) * 20),
        bank("spikes", 6, True),
        *extra,
        Accumulator("sum", 6),
        bank("last", 6, True),
        Crossbar("head", weights(6, 5)),
        Readout("logits", 5, 1.0),
    ]
    try:
        network = network_of(nodes, "rows spikes", *edges, "last head", "head logits")
    except ValueError as refusal:
        assert "spikes" in str(refusal)
    else:
        _equals_software(network, chips["ideal"], [0, 1, 2, 3, 4])
