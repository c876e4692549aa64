"""One layer on a digital accelerator, dense or event-driven: the formulas of the baselines.

Symbols: I, O fan-in and fan-out; S events in, S_out events out; F weights fetched; b_* bits;
E(c) J/bit of a memory of c bytes. Both sides use the same prices, so that the algorithm is compared
and not the device.

    dense:  n I O density (e_mul + e_acc) + n I O b_w E_w / tokens_per_fetch + n (I + O) b_a E_a
    events: S O e_acc + F b_w E_w + (S b(I) + S_out b(O)) E_a        b(N) = ceil(log2 N) + payload
            + updates (2 b_v E_v + 2 e_acc + e_cmp)                  updates = neurons x time steps
"""

from __future__ import annotations

from dataclasses import dataclass

from neurosim.energy.prices import Price, PriceList
from neurosim.energy.terms import Term, priced


@dataclass(frozen=True)
class Words:
    """Word lengths in bits, and the memories (capacity in bytes, or "dram") they are read from."""

    weight_bits: int = 8
    activation_bits: int = 8
    state_bits: int = 16
    weight_level: float | str = 65536
    activation_level: float | str = 8192
    state_level: float | str = 8192


def memory(prices: PriceList, level: float | str) -> Price:
    """J/bit of a memory: a capacity in bytes (SRAM) or "dram"."""
    return prices.price("dram") if isinstance(level, str) else prices.sram(level)


def address_bits(size: int) -> int:
    """Bits that name one of `size` channels, at least 1."""
    return max((size - 1).bit_length(), 1)


def expected_fetches(rate: float, weights: int, rows: float, sharing: int) -> float:
    """Weights fetched by `rows` (token, step) pairs, g of which share a fetch.

    (rows / g) I O (1 - (1 - p)^g): a model of independent rows with spike probability p.
    """
    return float(rows / sharing * weights * (1 - (1 - rate) ** sharing))


@dataclass(frozen=True)
class Site:
    """Where terms are booked, and at which prices and word lengths."""

    layer: str
    node: str
    prices: PriceList
    words: Words

    def term(self, mechanism: str, what: str, amount: float, *prices: Price) -> Term:
        return priced(self.layer, self.node, mechanism, what, amount, *prices)

    def moved(self, mechanism: str, what: str, bits: float, level: float | str) -> Term:
        """`bits` read from or written to a memory."""
        return self.term(mechanism, f"{what}, bits", bits, memory(self.prices, level))

    def compute(self, what: str, count: float, price: str) -> Term:
        return self.term("compute", what, count, self.prices.price(price))


def dense_layer(
    site: Site,
    fan_in: int,
    fan_out: int,
    tokens: float = 1,
    tokens_per_fetch: float = 1.0,
    density: float = 1.0,
) -> list[Term]:
    """n tokens through a dense layer; `density` < 1 skips the multiplications of zeros."""
    pairs = tokens * fan_in * fan_out
    words = site.words
    bits = pairs * words.weight_bits / tokens_per_fetch
    activations = tokens * (fan_in + fan_out) * words.activation_bits
    return [
        site.compute("multiplies", pairs * density, "multiply"),
        site.compute("additions", pairs * density, "accumulate"),
        site.moved("weights", "weights", bits, words.weight_level),
        site.moved("activations", "activations", activations, words.activation_level),
    ]


def event_crossbar(
    site: Site,
    fan_in: int,
    operations: float,
    fetches: float,
    events: float,
    payload_bits: int = 0,
) -> list[Term]:
    """Events through weights: `operations` additions, `fetches` weights, `events` read."""
    words = site.words
    return [
        site.compute("additions", operations, "accumulate"),
        site.moved("weights", "weights", fetches * words.weight_bits, words.weight_level),
        site.moved(
            "events",
            "events in",
            events * (address_bits(fan_in) + payload_bits),
            words.activation_level,
        ),
    ]


def event_neurons(
    site: Site,
    size: int,
    updates: float,
    events_out: float,
    payload_bits: int = 0,
) -> list[Term]:
    """`updates` neuron updates of a bank of `size`, and the events they send."""
    words = site.words
    bits = events_out * (address_bits(size) + payload_bits)
    state = updates * 2 * words.state_bits
    price = site.prices.price
    return [
        site.term("neuron", "additions", 2 * updates, price("accumulate")),
        site.term("neuron", "comparisons", updates, price("compare")),
        site.moved("state", "state", state, words.state_level),
        site.moved("events", "events out", bits, words.activation_level),
    ]
