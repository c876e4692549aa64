"""The spiking network's exact counts on the ANN twin's digital accelerator, without memristors.

It separates what spikes save from what the device saves: same prices, tiles and time rule.
"""

from __future__ import annotations

from dataclasses import replace

from neurosim.energy.accelerator import (
    finish,
    memory_tiles,
    rows_of,
    tiles_of,
    token_rows,
    weight_bank,
)
from neurosim.energy.counts import PhaseCounts
from neurosim.energy.layers import Site, Words, event_crossbar, event_neurons, expected_fetches
from neurosim.energy.model import STATE_BITS, storage_bits
from neurosim.energy.prices import PriceList, UnpricedError
from neurosim.energy.terms import Breakdown, Term
from neurosim.network import (
    Accumulator,
    AttentionUnit,
    Crossbar,
    DelayCrossbar,
    DigitalUnit,
    Embedding,
    Network,
    NeuronBank,
    Node,
)


def _digital_node(
    node: Node,
    network: Network,
    prices: PriceList,
    words: Words,
    phase: PhaseCounts,
    sharing: int,
) -> list[Term]:
    site = Site(network.layer[node.name], node.name, prices, words)

    def count(name: str) -> float:
        return phase.of(node.name, name) / phase.tokens

    if isinstance(node, Crossbar | DelayCrossbar):
        source = network[network.sources(node.name)[0]]
        signed = int(isinstance(source, NeuronBank) and source.signed)
        level = weight_bank(prices, node.weight_bits)
        stored = replace(words, weight_bits=node.weight_bits, weight_level=level)
        own = Site(site.layer, node.name, prices, stored)
        operations = count("synaptic_operations")
        fan_out = node.size if isinstance(node, Crossbar) else 1
        events = operations / fan_out
        fetches = count("weight_fetches")
        if sharing > 1:
            fetches = expected_fetches(fetches / node.weight.size, node.weight.size, 1, sharing)
        return event_crossbar(own, source.size, operations, fetches, events, signed)
    if isinstance(node, NeuronBank):
        updates = count("neuron_windows") * node.size / node.neurons
        spikes = count("neuron_spikes")
        return event_neurons(site, node.size, updates, spikes, int(node.signed))
    if isinstance(node, Accumulator):
        moved = (count("accumulator_reads") + count("accumulator_writes")) * node.bits
        level = prices.price("activation_bank").value
        return [
            site.moved("accumulator", "words", moved, level),
            site.term("accumulator", "additions", count("additions"), prices.price("accumulate")),
        ]
    if isinstance(node, AttentionUnit):
        moved = (count("state_reads") + count("state_writes")) * STATE_BITS
        capacity = node.head_size**2 * STATE_BITS / 8
        return [
            site.moved("attention", "state", moved, capacity),
            site.term("attention", "additions", count("additions"), prices.price("accumulate")),
            site.term("attention", "shifts", count("shifts"), prices.price("shift")),
        ]
    if isinstance(node, Embedding):
        bits = count("embedding_reads") * storage_bits(node.table)
        return [
            site.moved("embedding", "words", bits, prices.price("embedding_bank").value),
            site.term("embedding", "additions", count("additions"), prices.price("accumulate")),
            site.term("embedding", "shifts", count("shifts"), prices.price("shift")),
        ]
    return []


def refuse_units(network: Network, where: str) -> None:
    """`UnpricedError` if a network has digital units: `where` has no floating-point prices."""
    units = network.of(DigitalUnit)
    if units:
        raise UnpricedError(
            f"no total: {where} has no price for the floating-point work of {len(units)} digital "
            f"units ({units[0].name}, ...); a BrainGPT is compared with its ANN by "
            "neurosim.models.braingpt.energy"
        )


def digital_token_energy(
    network: Network,
    prices: PriceList,
    phase: PhaseCounts,
    pipelined: bool = False,
    sharing: int = 1,
    streams: int = 1,
) -> Breakdown:
    """The spiking network's exact counts on the twin's accelerator: one token, no memristors.

    With `sharing` 1 every distinct row of weights is fetched once per token: exact. With g > 1
    tokens that share a fetch the fetches are modelled (`expected_fetches`). Crossbars with one
    source work at the same time, and take as long as if every row were read. `streams` texts
    decoded at once overlap in time and have attention states of their own.
    """
    phase.check(network)
    refuse_units(network, "the digital accelerator")
    words = Words()
    table_level = prices.price("embedding_bank").value
    terms: list[Term] = []
    tiles: dict[str, int] = {}
    stages: dict[str, float] = {}
    for node in network:
        terms += _digital_node(node, network, prices, words, phase, sharing)
        layer, taken = network.layer[node.name], 0
        if isinstance(node, Embedding):
            taken = memory_tiles(node.table.size * storage_bits(node.table), table_level)
        elif isinstance(node, Crossbar | DelayCrossbar):
            taken = tiles_of(prices, *node.weight.shape)
        elif isinstance(node, AttentionUnit):
            taken = memory_tiles(streams * node.state_size * STATE_BITS, weight_bank(prices, 8))
        tiles[layer] = tiles.get(layer, 0) + taken
        if isinstance(node, Crossbar):
            fan_in = node.weight.shape[0]
            stages[network.sources(node.name)[0]] = rows_of(prices, fan_in)
        elif isinstance(node, AttentionUnit):
            stages[node.name] = node.state_size / prices.price("tile_columns").value
    rows = token_rows(list(stages.values()), phase.tokens, pipelined, streams)
    return finish(terms, tiles, prices, rows)
