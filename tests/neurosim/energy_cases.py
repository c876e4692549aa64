"""A tiny network with every kind of node, its counts by hand, and prices that are round numbers."""

from __future__ import annotations

import numpy as np

from neurosim.energy import PhaseCounts, PlacementFacts, PriceList, chip_prices
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
from neurosim.quantity import Quantity

WIDTH, VOCABULARY, HIDDEN = 4, 5, 8


def weights(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-7, 8, (rows, columns))


def bank(name: str, size: int, signed: bool = False) -> NeuronBank:
    return NeuronBank(name, np.full(size, 8), np.zeros(size, np.int64), 4, signed)


def tiny_network() -> Network:
    """Embedding, residual, a convolution, attention, a feed-forward and a head; width 4."""
    nodes = (
        Embedding("embedding", weights(VOCABULARY, WIDTH)),
        Accumulator("residual", WIDTH),
        bank("conv_read", WIDTH, True),
        DelayCrossbar("conv", weights(2, WIDTH)),
        bank("read", WIDTH, True),
        Crossbar("query", weights(WIDTH, WIDTH)),
        bank("q", WIDTH),
        Crossbar("key", weights(WIDTH, WIDTH)),
        bank("k", WIDTH),
        Crossbar("value", weights(WIDTH, WIDTH)),
        bank("v", WIDTH, True),
        AttentionUnit("attention", 2, 2, np.array([1, 0]), 4),
        bank("o", WIDTH, True),
        Crossbar("output", weights(WIDTH, WIDTH)),
        bank("up_read", WIDTH),
        Crossbar("up", weights(WIDTH, HIDDEN)),
        bank("hidden", HIDDEN),
        Crossbar("down", weights(HIDDEN, WIDTH)),
        bank("head_read", WIDTH, True),
        Crossbar("head", weights(WIDTH, VOCABULARY)),
        Readout("logits", VOCABULARY, 1.0),
    )
    edges = (
        ("embedding", "residual"),
        ("residual", "conv_read"),
        ("conv_read", "conv"),
        ("conv", "residual"),
        ("residual", "read"),
        *(("read", name) for name in ("query", "key", "value")),
        *(("query", "q"), ("key", "k"), ("value", "v")),
        *((name, "attention") for name in "qkv"),
        ("attention", "o"),
        ("o", "output"),
        ("output", "residual"),
        ("residual", "up_read"),
        ("up_read", "up"),
        ("up", "hidden"),
        ("hidden", "down"),
        ("down", "residual"),
        ("residual", "head_read"),
        ("head_read", "head"),
        ("head", "logits"),
    )
    layer = {node.name: "block 0" for node in nodes}
    layer |= {"embedding": "embedding", "residual": "residual"}
    layer |= {name: "head" for name in ("head_read", "head", "logits")}
    return Network(nodes, edges, layer)


def quantity(value: float, unit: str = "J", evidence: str = "cited") -> Quantity:
    return Quantity(value, unit, "a test", evidence, (value / 2, value * 2))


def round_numbers() -> dict[str, Quantity]:
    """Numbers of a chip by dotted key, as `ChipDescription.numbers()` gives them."""
    return {
        "digital.add": quantity(1e-13),
        "digital.shift": quantity(1e-13),
        "conversion.adc_energy": quantity(2e-12),
        "conversion.dac_energy": quantity(3e-12),
        "memory.sram_energy": quantity(2e-13, "J/bit"),
        "memory.sram_reference": quantity(8192, "B"),
        "memory.sram_exponent": quantity(0.5, "1"),
        "memory.accumulator_bank": quantity(8192, "B"),
        "memory.state_bank": quantity(8192, "B"),
        "memory.embedding_bank": quantity(131072, "B"),
        "routing.inject_energy": quantity(1e-12),
        "routing.hop_energy": quantity(3e-12, "J/bit"),
        "routing.value_hop_energy": quantity(2.5e-13, "J/bit"),
        "static.tile_power": quantity(1e-3, "W"),
        "static.chip_power": quantity(2e-3, "W"),
        "tile.rows": quantity(256, "1"),
        "tile.columns": quantity(256, "1"),
        "window.duration": quantity(1e-6, "s"),
        "crossbar.word_line_energy": quantity(4e-13),
        "digital.control": Quantity(0.0, "J/J", "a test", "assumed", (0.0, 1.0)),
    }


def round_prices(**changes: Quantity) -> PriceList:
    return chip_prices({**round_numbers(), **changes})


def facts(network: Network) -> PlacementFacts:
    tiles = {
        node.name: 1
        for node in network
        if isinstance(node, Crossbar | DelayCrossbar | AttentionUnit | Accumulator | Embedding)
    }
    return PlacementFacts(tiles, 7, {node.name: 5 for node in network.of(NeuronBank)})


def phase(network: Network, tokens: int = 3, spikes: int = 2, seed: int = 0) -> PhaseCounts:
    """Counts as if each bank had emitted `spikes` single spikes per token; 0: a silent network."""
    generator = np.random.default_rng(seed)
    counts: dict[str, dict[str, int]] = {}
    joules: dict[str, dict[str, float]] = {}
    for node in network:
        events = tokens * spikes
        if isinstance(node, Crossbar | DelayCrossbar):
            fan_out = node.size if isinstance(node, Crossbar) else 1
            counts[node.name] = {
                "synaptic_operations": events * fan_out,
                "effective_operations": events * fan_out,
                "row_pulses": events,
                "weight_fetches": events * fan_out,
                "conversions": tokens * node.size if node.name in ("output", "head") else 0,
            }
            joules[node.name] = {"synapse": events * generator.uniform(1, 2) * 1e-13}
        elif isinstance(node, NeuronBank):
            counts[node.name] = {
                "neuron_spikes": events,
                "neuron_windows": tokens * node.neurons,
                "conversions": tokens * node.size,
                "packets": events,
                "hops": 3 * events,
            }
            leak = tokens * node.neurons * 1e-15
            joules[node.name] = {"device": events * 4e-14, "leak": leak}
        elif isinstance(node, AttentionUnit):
            counts[node.name] = {
                "state_reads": 10 * events,
                "state_writes": 9 * events,
                "additions": 8 * events,
                "shifts": 4 * events,
            }
        elif isinstance(node, Accumulator):
            counts[node.name] = {
                "accumulator_reads": tokens * node.width,
                "accumulator_writes": tokens * node.width,
                "additions": tokens * node.width,
                "value_hops": 2 * tokens,
            }
        elif isinstance(node, Embedding):
            counts[node.name] = {"embedding_reads": tokens * node.size}
    return PhaseCounts(tokens, counts, joules)
