"""Energy of a token on the spiking chip: exact counts x prices + integrated device energy + static.

E_token = sum over nodes of (synapse + word lines + neuron + conversion + accumulator
          + attention + embedding + routing) + control + static
static  = (tiles P_tile + P_chip) t_token
decode:   t_token = d t_w          one stream, nothing overlaps; d windows of t_w
prefill:  t_token = (n + d - 1) t_w / n    n prompt tokens follow each other through the d
          stages, one window apart (a layer's state needs only the token before)
Where the run simulated the time of packets, t_token is the simulated time of the phase over n.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from neurosim.energy.counts import PhaseCounts
from neurosim.energy.prices import Price, PriceList, UnpricedError, load_prices
from neurosim.energy.terms import Breakdown, Term, integrated, joules_of, priced
from neurosim.network import (
    Accumulator,
    AttentionUnit,
    Crossbar,
    DelayCrossbar,
    DigitalUnit,
    Embedding,
    Integers,
    Network,
    NeuronBank,
    Node,
)
from neurosim.quantity import Quantity

STATE_BITS = 32
_CHIP_NAMES = {  # price here -> number of the chip description
    "accumulate": "digital.add",
    "shift": "digital.shift",
    "adc": "conversion.adc_energy",
    "dac": "conversion.dac_energy",
    "sram_energy": "memory.sram_energy",
    "sram_reference": "memory.sram_reference",
    "sram_exponent": "memory.sram_exponent",
    "accumulator_bank": "memory.accumulator_bank",
    "state_bank": "memory.state_bank",
    "embedding_bank": "memory.embedding_bank",
    "inject": "routing.inject_energy",
    "hop": "routing.hop_energy",
    "value_hop": "routing.value_hop_energy",
    "chip_hop": "routing.chip_hop_energy",
    "tile_power": "static.tile_power",
    "chip_power": "static.chip_power",
    "tile_rows": "tile.rows",
    "tile_columns": "tile.columns",
    "window": "window.duration",
    "word_line_energy": "crossbar.word_line_energy",
    "control": "digital.control",
}


_UNIT_PRICES = {  # count of a digital unit -> price
    "float_multiplies": "float_multiply",
    "float_additions": "float_add",
    "float_compares": "float_compare",
    "special_functions": "special_function",
    "additions": "accumulate",
    "shifts": "shift",
}


def chip_prices(numbers: Mapping[str, object]) -> PriceList:
    """Prices of a chip from its numbers by dotted key (`ChipDescription.numbers()`).

    Word-line energy and control overhead come from this package where the chip does not give them.
    """
    own = {name: numbers.get(key) for name, key in _CHIP_NAMES.items()}
    return load_prices("chip").joined(
        {name: value for name, value in own.items() if isinstance(value, Quantity)}
    )


class Placed(Protocol):
    """What the account needs of a placement: tiles by node, depth in windows, bits of packets,
    chips."""

    @property
    def tiles(self) -> Mapping[str, int]: ...
    @property
    def depth(self) -> int: ...
    @property
    def packet_bits(self) -> Mapping[str, int]: ...
    @property
    def chips(self) -> int: ...


@dataclass(frozen=True)
class PlacementFacts:
    """A placement in plain numbers; `neurosim.chip`'s own placement has the same attributes."""

    tiles: Mapping[str, int]
    depth: int
    packet_bits: Mapping[str, int]
    chips: int = 1


def windows_per_token(phase: str, tokens: int, depth: int, streams: int = 1) -> float:
    """Windows that one of the `tokens` of a phase occupies the chip for; module docstring.

    `streams` texts decoded at once follow each other through the stages: as many tokens are in
    flight, at most one a stage.
    """
    if depth < 1 or streams < 1:
        raise ValueError(f"expected a depth and streams of at least one, got {depth} and {streams}")
    return (tokens + depth - 1) / tokens if phase == "prefill" else depth / min(streams, depth)


def storage_bits(values: Integers) -> int:
    """Bits of a stored signed word that holds every one of `values`: 8, 16, 24, ..."""
    largest = max(int(values.max(initial=0)), -int(values.min(initial=0)))
    return 8 * -(-(largest.bit_length() + 1) // 8)


class _Account:
    """Collects the terms of one node after another; remembers what has no price."""

    def __init__(self, prices: PriceList, tokens: int) -> None:
        self.prices, self.tokens = prices, tokens
        self.terms: list[Term] = []
        self.unpriced: set[str] = set()
        self.layer = self.node = ""

    def price(self, name: str, bank: str = "") -> Price | None:
        """A price, or the SRAM price of a bank; None (and remembered) where one is missing."""
        needed = ["sram_energy", "sram_reference", "sram_exponent", bank] if bank else [name]
        missing = self.prices.missing(needed)
        self.unpriced.update(missing)
        if missing:
            return None
        if bank:
            return self.prices.sram(self.prices.price(bank).value)
        return self.prices.price(name)

    def add(self, mechanism: str, what: str, count: int, name: str, bits: int = 1) -> None:
        """count x bits at price `name` each, over the tokens; nothing where nothing happened."""
        if count == 0:
            return
        price = self.price(name, bank=name if name.endswith("_bank") else "")
        if price is not None:
            what = what if bits == 1 else f"{what} x {bits} bit"
            amount = count * bits / self.tokens
            self.terms.append(priced(self.layer, self.node, mechanism, what, amount, price))


def _neuron_mechanism(part: str) -> str:
    part = part.replace("_", " ")
    return part if part.startswith("neuron") else f"neuron {part}"


def _node_terms(
    account: _Account, node: Node, phase: PhaseCounts, facts: Placed, evidence: str
) -> None:
    """Terms of one node: its integrals, then its counts in the order of the module docstring."""

    def count(name: str) -> int:
        return phase.of(node.name, name)

    def add(mechanism: str, name: str, price: str, bits: int = 1) -> None:
        account.add(mechanism, name, count(name), price, bits)

    bank = isinstance(node, NeuronBank)
    joules = phase.joules.get(node.name, {})
    for part, energy in joules.items():
        mechanism = _neuron_mechanism(part) if bank else part
        per_token = energy / phase.tokens
        account.terms.append(integrated(account.layer, node.name, mechanism, per_token, evidence))
    if isinstance(node, Crossbar | DelayCrossbar):
        if count("synaptic_operations") and "synapse" not in joules:
            account.unpriced.add(f"{node.name}: synapse (integrated by the simulator)")
        add("word lines", "row_pulses", "word_line_energy")
        add("conversion", "conversions", "adc")
    elif isinstance(node, NeuronBank):
        if count("neuron_windows") and not joules:
            account.unpriced.add(f"{node.name}: neuron (integrated by the simulator)")
        add("conversion", "conversions", "dac")
    elif isinstance(node, DigitalUnit):
        for name, price in _UNIT_PRICES.items():
            add("digital units", name, price)
        add("unit memory", "memory_bits", "embedding_bank")
    if isinstance(node, NeuronBank | DigitalUnit):
        add("routing", "packets", "inject")
        add("routing", "end_packets", "inject")
        for name in ("hops", "end_hops", "chip_hops", "end_chip_hops"):
            if not count(name):
                continue
            if node.name in facts.packet_bits:
                price = "chip_hop" if "chip" in name else "hop"
                add("routing", name, price, facts.packet_bits[node.name])
            else:
                account.unpriced.add(f"{node.name}: packet bits")
    if isinstance(node, Accumulator):
        add("accumulator", "accumulator_reads", "accumulator_bank", node.bits)
        add("accumulator", "accumulator_writes", "accumulator_bank", node.bits)
        add("accumulator", "additions", "accumulate")
    elif isinstance(node, AttentionUnit):
        add("attention", "state_reads", "state_bank", STATE_BITS)
        add("attention", "state_writes", "state_bank", STATE_BITS)
        add("attention", "additions", "accumulate")
        add("attention", "shifts", "shift")
    elif isinstance(node, Embedding):
        add("embedding", "embedding_reads", "embedding_bank", storage_bits(node.table))
        add("embedding", "additions", "accumulate")
        add("embedding", "shifts", "shift")
    if count("value_hops"):
        add("routing", "value_hops", "value_hop", 32)
    if count("value_chip_hops"):
        add("routing", "value_chip_hops", "chip_hop", 32)


def token_energy(
    network: Network,
    prices: PriceList,
    facts: Placed,
    name: str,
    phase: PhaseCounts,
    evidence: str = "derived",
    streams: int = 1,
) -> Breakdown:
    """Energy of one token of phase `name` ("prefill" or "decode") on the chip.

    `evidence` is the class of the integrated energies; `streams` texts decoded at once share the
    static power, and each has attention states of its own. Raises `UnpricedError` (a ValueError)
    that lists everything counted without a price.
    """
    phase.check(network)
    account = _Account(prices, phase.tokens)
    windows, timed = windows_per_token(name, phase.tokens, facts.depth, streams), ""
    for node in network:
        account.layer, account.node = network.layer[node.name], node.name
        _node_terms(account, node, phase, facts, evidence)
    dynamic = tuple(account.terms)
    control = account.price("control")
    power, rest, window = (account.price(name) for name in ("tile_power", "chip_power", "window"))
    if account.unpriced:
        raise UnpricedError(
            f"no total: {len(account.unpriced)} terms without a price: "
            f"{', '.join(sorted(account.unpriced))}; price them in the chip description"
        )
    assert control and power and rest and window  # all priced, or refused above
    if phase.seconds is not None:
        if streams > 1:
            raise ValueError(
                f"expected one stream where the run simulated its time, got {streams}: packets of "
                "several streams in flight were not simulated"
            )
        windows, timed = phase.seconds / phase.tokens / window.value, " (simulated time)"
    static: list[Term] = []
    for layer in dict.fromkeys(network.layer[node.name] for node in network):
        own = joules_of(term for term in dynamic if term.layer == layer)
        static.append(priced(layer, layer, "control", "dynamic joules", own, control))
    for node in network:
        tiles = facts.tiles.get(node.name, 0)
        if isinstance(node, AttentionUnit) and name == "decode":
            tiles *= streams
        if tiles:
            where = network.layer[node.name]
            amount = tiles * windows
            static.append(
                priced(where, node.name, "static", f"tile-windows{timed}", amount, power, window)
            )
    what, all_chips = f"windows{timed}", facts.chips * windows
    static.append(priced("chip", "chip", "static", what, all_chips, rest, window))
    return Breakdown((*dynamic, *static), windows * window.value)
