"""Counts of the run loop are what the recorded spikes say."""

from __future__ import annotations

import numpy as np
import pytest
from energy_cases import bank, weights
from engine_networks import (
    NETWORKS,
    added_counts,
    network_of,
)

from neurosim.chip import ChipDescription
from neurosim.events.engine import Simulator, simulate
from neurosim.events.recorder import Run
from neurosim.network import (
    Accumulator,
    AttentionUnit,
    Crossbar,
    DelayCrossbar,
    Embedding,
    Network,
    NeuronBank,
    Readout,
)

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
    found = added_counts(run)
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
    network = network_of(
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
