"""The run loop: ideal equals software, counts equal what the recorded spikes say, energy is kept.

Software is a naive interpreter of the network in Python integers; counts are worked out from the
recorded spikes, the weights and the placement alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from energy_cases import bank, tiny_network, weights
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from tiny_models import spiking_model, tokens

from neurosim.chip import ChipDescription, load_chip
from neurosim.energy import chip_prices, energy_report, multiplies
from neurosim.events.engine import Simulator, simulate
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


def _lowered(seed: int = 0, **changes: object) -> Network:
    return FoldedSpikeTransformer.fold(spiking_model(seed, **changes)).lower()


def _network(nodes: list[Node], *edges: str) -> Network:
    """Edges are written "a b"."""
    pairs = tuple(tuple(edge.split()) for edge in edges)
    return Network(tuple(nodes), pairs, {node.name: "layer" for node in nodes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChipDescription]:
    """The presets, and ideal and real ones of small tiles with counting packets."""
    folder = tmp_path_factory.mktemp("chips")

    def variant(base: str, extra: str = "") -> ChipDescription:
        quantity = 'unit = "1", source = "a test", evidence = "assumed"'
        path = folder / f"small-{base}.toml"
        path.write_text(
            f'base = "{base}"\nname = "small {base}"\n'
            f"[tile]\nrows = {{ value = 12, {quantity} }}\ncolumns = {{ value = 10, {quantity} }}\n"
            f'[routing]\npackets = "count"\n{extra}'
        )
        return load_chip(path)

    return {
        "ideal": load_chip("ideal"),
        "ag_v2c_w": load_chip("ag_v2c_w"),
        "small ideal": variant("ideal"),
        "small ag_v2c_w": variant("ag_v2c_w"),
    }


# Ideal equals software.


def _fire(node: NeuronBank, charge: np.ndarray) -> np.ndarray:
    total, half = charge + node.bias.astype(np.int64), node.half_threshold.astype(np.int64)
    if node.signed:
        return np.sign(total) * np.minimum((np.abs(total) + half) // (2 * half), node.levels)
    return np.clip((total + half) // (2 * half), 0, node.levels)


def _software(
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
                out = _fire(node, value[sources[0]])
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
    logits, spikes, _ = _software(network, ids)
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


def _two_sums() -> Network:
    """Two accumulators, one first written by a crossbar; a bank that reads a look-up."""
    rng = np.random.default_rng(1)
    return _network(
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


def _every_node() -> Network:
    """`tiny_network` with thresholds low enough that every bank fires."""
    network = tiny_network()
    nodes = [
        replace(node, half_threshold=np.full(node.size, 2))
        if isinstance(node, NeuronBank)
        else node
        for node in network
    ]
    return Network(tuple(nodes), network.edges, network.layer)


HAND_BUILT = {"every node": _every_node, "two accumulators": _two_sums}


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
        network = _network(nodes, "rows spikes", *edges, "last head", "head logits")
    except ValueError as refusal:
        assert "spikes" in str(refusal)
    else:
        _equals_software(network, chips["ideal"], [0, 1, 2, 3, 4])


# Counts.


def _links(source: tuple[int, int], target: tuple[int, int]) -> set[tuple[int, ...]]:
    """Links of the XY path: along the row, then along the column."""
    (x, y), links = source, set()
    while x != target[0]:
        step = 1 if target[0] > x else -1
        links.add((x, y, x + step, y))
        x += step
    while y != target[1]:
        step = 1 if target[1] > y else -1
        links.add((x, y, x, y + step))
        y += step
    return links


def _channel_hops(network: Network, simulator: Simulator, name: str) -> np.ndarray:
    """Links of the union of the paths of one packet from each channel of a bank."""
    placement, chip = simulator.placement, simulator.chip
    tile_rows, tile_columns = int(chip.tile.rows.value), int(chip.tile.columns.value)
    hops = []
    for channel, tile in enumerate(placement.channel_tile[name].tolist()):
        targets: list[int] = []
        for target in network.targets(name):
            node, first = network[target], placement.first_tile[target]
            if isinstance(node, Crossbar):
                rows, columns = (-(-size // t) for size, t in zip(
                    node.weight.shape, (tile_rows, tile_columns), strict=True
                ))  # fmt: skip
                block = channel // tile_rows
                targets += [first + column * rows + block for column in range(columns)]
            elif isinstance(node, DelayCrossbar):
                targets.append(first + channel // tile_columns)
                assert len(node.weight) <= tile_rows
            else:
                targets.append(int(placement.channel_tile[target][channel]))
        links: set[tuple[int, ...]] = set()
        for target_tile in targets:
            links |= _links(placement.position(tile), placement.position(target_tile))
        hops.append(len(links))
    return np.array(hops)


def _word_hops(network: Network, simulator: Simulator, source: str, target: str) -> int:
    """Hops of one window's words from a look-up, crossbar or sum to a sum or bank."""
    placement, node = simulator.placement, network[source]
    channels = range(node.size)
    if isinstance(node, Embedding):
        channels = range(node.first_channel, node.first_channel + node.table.shape[1])
    return sum(
        len(
            _links(
                placement.position(int(placement.channel_tile[source][c])),
                placement.position(int(placement.channel_tile[target][c])),
            )
        )
        for c in channels
    )


def _expected_counts(
    network: Network, simulator: Simulator, run: Run, texts: list[int]
) -> dict[str, dict[str, int]]:
    """Every count of every node, over all tokens; `texts` are the lengths between restarts."""
    size = sum(texts)
    spikes = {name: np.abs(rows.astype(np.int64)) for name, rows in run.spikes.items()}
    tile_columns = int(simulator.chip.tile.columns.value)
    per_count = simulator.chip.routing.packets == "count"
    position = {node.name: i for i, node in enumerate(network)}
    result: dict[str, dict[str, int]] = {}
    for node in network:
        sources, targets = network.sources(node.name), network.targets(node.name)
        counts: dict[str, int] = {}
        digitised = any(isinstance(network[t], Accumulator | Readout) for t in targets)
        if isinstance(node, Crossbar | DelayCrossbar):
            events = spikes[sources[0]]
            if isinstance(node, Crossbar):
                used, fan_out = events, node.size
                nonzero = used @ (node.weight != 0).sum(axis=1)
                crossed = -(-node.size // tile_columns)
            else:  # tap j of token t reads token t - j of the same text
                parts, nonzeros = [], []
                for text in np.split(events, np.cumsum(texts)[:-1]):
                    for j, row in enumerate(node.weight):
                        delayed = text[: max(len(text) - j, 0)]
                        parts.append(delayed)
                        nonzeros.append(delayed @ (row != 0))
                used, nonzero = np.concatenate(parts), np.concatenate(nonzeros)
                fan_out = crossed = 1
            counts["synaptic_operations"] = int(used.sum()) * fan_out
            counts["effective_operations"] = int(nonzero.sum())
            counts["row_pulses"] = int(used.sum()) * crossed
            counts["weight_fetches"] = int((used > 0).sum()) * fan_out
            counts["conversions"] = size * node.size * digitised
            counts["value_hops"] = size * sum(
                _word_hops(network, simulator, node.name, target)
                for target in targets
                if isinstance(network[target], Accumulator)
            )
        elif isinstance(node, NeuronBank):
            own = spikes[node.name]
            packets = (own > 0).astype(np.int64) if per_count else own
            counts["neuron_spikes"] = int(own.sum())
            counts["neuron_windows"] = size * node.size * (1 + node.signed)
            counts["packets"] = int(packets.sum())
            counts["hops"] = int((packets @ _channel_hops(network, simulator, node.name)).sum())
            from_columns = isinstance(network[sources[0]], Crossbar | DelayCrossbar)
            counts["conversions"] = 0 if from_columns else size * node.size
        elif isinstance(node, Accumulator):
            words = []
            for source in sorted(sources, key=lambda name: position[name]):
                writer = network[source]
                whole = not isinstance(writer, Embedding)
                words.append(writer.size if whole else writer.table.shape[1])  # type: ignore[union-attr]
            counts["accumulator_writes"] = size * sum(words)
            counts["additions"] = size * sum(words[1:])  # the first write adds to nothing
            readers = sum(network[target].size for target in targets)
            counts["accumulator_reads"] = size * (sum(words[1:]) + readers)
            counts["value_hops"] = size * sum(
                _word_hops(network, simulator, node.name, target) for target in targets
            )
        elif isinstance(node, AttentionUnit):
            q, k, _ = (spikes[name] for name in sources)
            decayed = sum(node.head_size**2 for shift in node.decay_shift if shift) * size
            rows = {"q": int((q > 0).sum()), "k": int((k > 0).sum())}
            counts["state_writes"] = decayed + rows["k"] * node.head_size
            counts["state_reads"] = counts["state_writes"] + rows["q"] * node.head_size
            counts["additions"] = decayed + int(q.sum() + k.sum()) * node.head_size
            counts["shifts"] = decayed
        elif isinstance(node, Embedding):
            counts["embedding_reads"] = size * node.table.shape[1]
            if node.order > 1:  # 3 and 2 for each token of the n-gram, then 4 and 3
                counts["additions"] = size * (3 * node.order + 4)
                counts["shifts"] = size * (2 * node.order + 3)
            counts["value_hops"] = size * sum(
                _word_hops(network, simulator, node.name, target)
                for target in targets
                if isinstance(network[target], Accumulator)
            )
        result[node.name] = {name: count for name, count in counts.items() if count}
    return result


def _added(run: Run) -> dict[str, dict[str, int]]:
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
    "transformer": lambda: _lowered(1, layers=2),
    "no tables, signed q and k": lambda: _lowered(2, ngram_rows=(), signed_qk=True, taps=1),
    "one table": lambda: _lowered(2, ngram_rows=(32,)),
    **HAND_BUILT,
}


@pytest.mark.parametrize("chip", ["ideal", "small ideal", "ag_v2c_w", "small ag_v2c_w"])
@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_counts_are_what_the_spikes_say(
    build: type, chip: str, chips: dict[str, ChipDescription]
) -> None:
    """Every count of every node, two phases, two texts; also on a chip that errs."""
    network = build()
    simulator = Simulator(network, chips[chip], 3)
    for token in (0, 3, 1, 1, 4, 2):
        simulator.step(token)
    simulator.begin("decode")
    for token in (2, 2, 0):
        simulator.step(token)
    simulator.forget()
    for token in (4, 1):
        simulator.step(token)
    run = simulator.run()
    assert {name: phase.tokens for name, phase in run.phases.items()} == {"prefill": 6, "decode": 5}
    found = _added(run)
    expected = _expected_counts(network, simulator, run, [9, 2])
    different = {
        f"{node.name} {name}": (found[node.name].get(name, 0), expected[node.name].get(name, 0))
        for node in network
        if node.name in found
        for name in sorted({*found[node.name], *expected[node.name]})
        if found[node.name].get(name, 0) != expected[node.name].get(name, 0)
    }
    assert not different, f"(engine, from the spikes): {different}"
    assert set(found) == {name for name, counts in expected.items() if counts}
    assert run.total_spikes == sum(int(np.abs(rows).sum()) for rows in run.spikes.values())
    neurons = sum(node.neurons for node in network.of(NeuronBank))
    assert run.neurons == neurons
    assert run.spike_rate == pytest.approx(run.total_spikes / (11 * neurons))


def test_a_silent_network_counts_no_events(chips: dict[str, ChipDescription]) -> None:
    network = _network(
        [
            Embedding("rows", np.zeros((3, 4), int)),
            bank("read", 4, True),
            Crossbar("head", weights(4, 3)),
            Readout("logits", 3, 1.0),
        ],
        "rows read",
        "read head",
        "head logits",
    )
    run = simulate(network, chips["ideal"], [0, 1, 2])
    for name in ("synaptic_operations", "weight_fetches", "row_pulses", "neuron_spikes", "hops"):
        assert run.phases["prefill"].total(name) == 0
    assert run.phases["prefill"].total("neuron_windows") == 3 * 8
    assert not run.logits.any()


def test_phases_add_up_to_one_run(chips: dict[str, ChipDescription]) -> None:
    """Prefill and decode of one text: the counts of the whole, the energy too, the same spikes."""
    network, ids = _lowered(1), tokens(14).tolist()
    for name in ("ideal", "ag_v2c_w"):
        whole = simulate(network, chips[name], ids, 5)
        simulator = Simulator(network, chips[name], 5)
        for token in ids[:9]:
            simulator.step(token)
        simulator.begin("decode")
        for token in ids[9:]:
            simulator.step(token)
        parts = simulator.run()
        np.testing.assert_array_equal(parts.logits, whole.logits)
        assert _added(parts) == _added(whole)
        assert parts.phases["decode"].tokens == 5
        assert parts.phases["decode"].total("neuron_windows") == 5 * parts.neurons
        for mechanism, joules in whole.phases["prefill"].joules_by_mechanism().items():
            split = [phase.joules_by_mechanism()[mechanism] for phase in parts.phases.values()]
            assert sum(split) == pytest.approx(joules, rel=1e-10, abs=1e-25), mechanism
            assert min(split) > 0 or joules == 0


# Runs.


def _same(first: Run, second: Run) -> bool:
    return (
        np.array_equal(first.logits, second.logits)
        and all(np.array_equal(first.spikes[name], second.spikes[name]) for name in first.spikes)
        and first.phases["prefill"].counts == second.phases["prefill"].counts
        and first.phases["prefill"].joules == second.phases["prefill"].joules
    )


def test_a_seed_is_a_run(chips: dict[str, ChipDescription]) -> None:
    network, ids = _lowered(1), tokens(12).tolist()
    first = simulate(network, chips["ag_v2c_w"], ids, 7)
    assert _same(first, simulate(network, chips["ag_v2c_w"], ids, 7))
    other = simulate(network, chips["ag_v2c_w"], ids, 8)
    assert not _same(first, other)
    differ = [name for name in first.spikes if (first.spikes[name] != other.spikes[name]).any()]
    assert len(differ) > len(first.spikes) / 2
    ideal = simulate(network, chips["ideal"], ids, 7)
    assert _same(ideal, simulate(network, chips["ideal"], ids, 8))
    assert not np.array_equal(ideal.logits, first.logits)


def test_a_seed_is_a_chip(chips: dict[str, ChipDescription]) -> None:
    """Programmed weights, their read noise and the neurons' devices come from the seed alone."""
    network = _lowered(0)
    first, same, other = (Simulator(network, chips["ag_v2c_w"], seed) for seed in (7, 7, 8))
    for name, crossbar in first.crossbars.items():
        np.testing.assert_array_equal(crossbar.weight, same.crossbars[name].weight)
        assert (crossbar.weight != other.crossbars[name].weight).any(), name
        assert crossbar.noise_key == same.crossbars[name].noise_key, name
        assert crossbar.noise_key != other.crossbars[name].noise_key, name
    keys = {int(crossbar.noise_key) for crossbar in first.crossbars.values()}
    assert len(keys) == len(first.crossbars)  # no two crossbars share their noise
    charge = np.full(32, 60)
    fired = [
        np.array([chip.banks["blocks.0.conv_read"].fire(charge, window) for window in range(8)])
        for chip in (first, same, other)
    ]
    np.testing.assert_array_equal(fired[0], fired[1])
    assert (fired[0] != fired[2]).any()


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_forget_starts_a_new_text(build: type, chips: dict[str, ChipDescription]) -> None:
    """State, delayed spikes and n-grams: the second text runs as if it were the first."""
    network = build()
    first, second = [0, 3, 1, 4, 4], [2, 2, 0, 1]
    simulator = Simulator(network, chips["ideal"])
    for token in first:
        simulator.step(token)
    simulator.forget()
    for token in second:
        simulator.step(token)
    run, alone = simulator.run(), simulate(network, chips["ideal"], second)
    np.testing.assert_array_equal(run.logits[5:], alone.logits)
    for name, rows in alone.spikes.items():
        np.testing.assert_array_equal(run.spikes[name][5:], rows, err_msg=name)
    kept = simulate(network, chips["ideal"], first + second)  # without it the past is there
    assert any((kept.spikes[name][5:] != rows).any() for name, rows in alone.spikes.items())


def test_a_run_is_finished(chips: dict[str, ChipDescription]) -> None:
    """What `run` returned does not change when the simulator goes on."""
    simulator = Simulator(_lowered(0), chips["ideal"])
    simulator.step(3)
    run = simulator.run()
    counts = {node: dict(names) for node, names in run.phases["prefill"].counts.items()}
    joules = run.phases["prefill"].joules_by_mechanism()
    simulator.step(4)
    simulator.run()
    assert run.tokens == (3,)
    assert run.phases["prefill"].tokens == 1
    assert run.phases["prefill"].counts == counts
    assert run.phases["prefill"].joules_by_mechanism() == joules


@pytest.mark.parametrize("token", [-1, 50, 10**9])
def test_a_token_outside_the_table_is_refused(
    token: int, chips: dict[str, ChipDescription]
) -> None:
    """With the simulator as it was."""
    simulator = Simulator(_lowered(0), chips["ideal"])
    simulator.step(3)
    with pytest.raises(ValueError, match=f"expected a token below 50, got {token}"):
        simulator.step(token)
    simulator.step(4)
    run = simulator.run()
    assert run.tokens == (3, 4)
    assert _same(run, simulate(simulator.network, chips["ideal"], [3, 4]))


def test_no_tokens(chips: dict[str, ChipDescription]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        simulate(_lowered(0), chips["ideal"], [])


def test_read_noise_needs_pulses(chips: dict[str, ChipDescription]) -> None:
    """Crossbars whose rows are silent read nothing, however noisy a read is."""
    silent = NeuronBank("silent", np.full(4, 10**6), np.zeros(4, int), 4, True)
    network = _network(
        [
            Embedding("rows", weights(5, 4)),
            silent,
            DelayCrossbar("taps", np.full((3, 4), 7)),
            bank("after", 4, True),
            Crossbar("head", weights(4, 5)),
            Readout("logits", 5, 1.0),
        ],
        "rows silent",
        "silent taps",
        "taps after",
        "after head",
        "head logits",
    )
    noisy = chips["ag_v2c_w"]
    assert noisy.crossbar.read_noise.value > 0
    simulator = Simulator(network, noisy, 0)
    seen = []
    fire = simulator.banks["after"].fire
    simulator.banks["after"].fire = lambda charge, window: (  # type: ignore[method-assign]
        seen.append(charge.copy()), fire(charge, window)
    )[1]  # fmt: skip
    for token in (0, 1, 2, 3):
        simulator.step(token)
    assert len(seen) == 4
    assert not np.array(seen).any()


# Multiplications and energy.


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_a_spiking_network_multiplies_nothing(build: type) -> None:
    assert multiplies(build()) == 0


def _around_the_constructor(network: Network, *edges: tuple[str, str]) -> Network:
    """A network with these edges instead, unchecked."""
    other = object.__new__(Network)
    for name, value in (("nodes", network.nodes), ("edges", edges), ("layer", network.layer)):
        object.__setattr__(other, name, value)
    return other


def test_a_crossbar_of_sums_multiplies() -> None:
    """The same weights fed by the accumulator instead of its bank; the constructor refuses it."""
    network = _lowered(0)
    at = ("blocks.0.attention_read", "blocks.0.query")
    assert at in network.edges
    moved = ("residual", "blocks.0.query")
    edges = tuple(moved if edge == at else edge for edge in network.edges)
    assert multiplies(_around_the_constructor(network, *edges)) == 32 * 32
    with pytest.raises(ValueError, match="reads spikes only"):
        Network(network.nodes, edges, network.layer)


@pytest.mark.parametrize("chip", ["ideal", "ag_v2c_w", "small ag_v2c_w"])
def test_energy_is_the_sum_of_its_parts(chip: str, chips: dict[str, ChipDescription]) -> None:
    network, description = _lowered(0), chips[chip]
    simulator = Simulator(network, description, 1)
    for token in tokens(8).tolist():
        simulator.step(token)
    simulator.begin("decode")
    for token in tokens(5, seed=1).tolist():
        simulator.step(token)
    run = simulator.run()
    report = energy_report(
        network, chip_prices(description.numbers()), simulator.placement, run.phases
    )
    for name, breakdown in report.phases.items():
        assert breakdown.total == pytest.approx(
            sum(term.joules for term in breakdown.terms), rel=1e-12
        )
        mechanisms = breakdown.by_mechanism()
        layers = breakdown.by_layer()
        table = breakdown.by_layer_and_mechanism()
        assert sum(mechanisms.values()) == pytest.approx(breakdown.total, rel=1e-12)
        assert sum(layers.values()) == pytest.approx(breakdown.total, rel=1e-12)
        for layer, row in table.items():
            assert sum(row.values()) == pytest.approx(layers[layer], rel=1e-12)
        integrated = run.phases[name].joules_by_mechanism()
        tokens_run = run.phases[name].tokens
        assert mechanisms["synapse"] == pytest.approx(integrated["synapse"] / tokens_run)
        neuron = sum(v for k, v in integrated.items() if k.startswith("neuron_"))
        shown = sum(v for k, v in mechanisms.items() if k.startswith("neuron"))
        assert shown == pytest.approx(neuron / tokens_run)
    data = report.to_dict()
    assert data["decode_J_per_token"] == report.phases["decode"].total
    assert data["prefill_J_per_token"] == report.phases["prefill"].total
    assert report.count_totals()["synaptic_operations"] == sum(
        phase.total("synaptic_operations") for phase in run.phases.values()
    )


@pytest.mark.parametrize("chip", ["ideal", "ag_v2c_w"])
def test_neuron_energy_is_conserved(chip: str, chips: dict[str, ChipDescription]) -> None:
    """Supplied = burnt for every bank, and the phases' ledgers hold all of it."""
    network = _lowered(0)
    simulator = Simulator(network, chips[chip], 1)
    for index, token in enumerate(tokens(12).tolist()):
        if index == 5:
            simulator.begin("decode")
        simulator.step(token)
    run = simulator.run()
    for name, simulated in simulator.banks.items():
        energy = simulated.energy()
        assert energy.supplied > 0
        assert energy.total == pytest.approx(energy.supplied, rel=1e-10), name
        booked = sum(sum(phase.joules[name].values()) for phase in run.phases.values())
        assert booked == pytest.approx(energy.supplied, rel=1e-10), name
        for part, joule in energy.parts().items():
            assert joule >= 0, f"{name}: {part}"
            phases = sum(phase.joules[name][f"neuron_{part}"] for phase in run.phases.values())
            assert phases == pytest.approx(joule, rel=1e-10, abs=1e-30), f"{name}: {part}"


def test_synapse_energy_by_hand(chips: dict[str, ChipDescription]) -> None:
    """Each spike drives both cells of every pair of its row: U^2 (G+ + G-) t, exact weights."""
    network, chip = _lowered(0), chips["ideal"]
    run = simulate(network, chip, tokens(6).tolist())
    cells = chip.crossbar
    low, high = cells.g_min.value, cells.g_max.value
    pulse = cells.read_voltage.value**2 * cells.pulse_width.value
    for node in network.of(Crossbar):
        assert isinstance(node, Crossbar)
        weight = np.abs(node.weight.astype(np.float64))
        conductance = (2 * low + weight * (high - low) / weight.max()).sum(axis=1)
        events = np.abs(run.spikes[network.sources(node.name)[0]].astype(np.int64)).sum(axis=0)
        joules = run.phases["prefill"].joules[node.name]["synapse"]
        assert joules == pytest.approx(float(events @ conductance) * pulse, rel=1e-9), node.name


def test_repr_and_shapes(chips: dict[str, ChipDescription]) -> None:
    network = _lowered(0)
    run = simulate(network, chips["ideal"], tokens(4).tolist())
    assert run.logits.shape == (4, 50)
    for node in network.of(NeuronBank):
        assert run.spikes[node.name].shape == (4, node.size)
        assert run.spikes[node.name].dtype == np.int8
        assert np.abs(run.spikes[node.name]).max() <= 4
    assert run.windows_per_token == 8  # the longest chain of banks, and the head
    assert repr(run).startswith("Run(4 tokens, 9 sites, ")


def test_a_chip_written_by_hand_is_read(chips: dict[str, ChipDescription], tmp_path: Path) -> None:
    """The variants above differ from their bases in what they say and in nothing else."""
    small, base = chips["small ideal"].numbers(), chips["ideal"].numbers()
    changed = {key for key in base if base[key] != small[key]}
    assert changed == {"tile.rows", "tile.columns"}
    assert chips["small ideal"].routing.packets == "count" != chips["ideal"].routing.packets
