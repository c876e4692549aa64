"""One layer on a digital accelerator, dense or event-driven: the formulas of the baselines.

Symbols: I, O fan-in and fan-out; S events in, S_out events out; F weights fetched; b_* bits;
E(c) J/bit of a memory of c bytes. Both sides use the same prices, so that the algorithm is compared
and not the device.

    dense:  n I O density (e_mul + e_acc) + n I O b_w E_w / tokens_per_fetch + n (I + O) b_a E_a
    events: S O e_acc + F b_w E_w + (S b(I) + S_out b(O)) E_a        b(N) = ceil(log2 N) + payload
            + updates (2 b_v E_v + 2 e_acc + e_cmp)                  updates = neurons x time steps
            + S O 2 b_v E_v   with the state in memory for every operation ("operation" policy)
            + S O e_acc       with an address computed for every operation
    both:   + words out x bits x destinations x hops x e_hop         routing
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


def expected_fetches(rate: float, weights: int, rows: float, sharing: float) -> float:
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


@dataclass(frozen=True)
class EventOptions:
    """What an event-driven layer is charged for beyond operations, weights and events.

    `state_policy`: "step" reads and writes a neuron's state once per time step, "operation" once
    more for every synaptic operation. `addressing`: an address addition per operation.
    `payload_bits`: carried by an event beside its address. `hops`, `destinations`: links an event
    travels, and to how many places.
    """

    state_policy: str = "step"
    addressing: bool = False
    payload_bits: int = 0
    hops: float = 0.0
    destinations: float = 1.0

    def __post_init__(self) -> None:
        if self.state_policy not in ("step", "operation"):
            raise ValueError(
                f'expected state_policy "step" or "operation", got {self.state_policy!r}'
            )
        if self.payload_bits < 0 or self.hops < 0 or self.destinations < 0:
            raise ValueError(f"expected payload_bits, hops and destinations >= 0, got {self}")


def routed(site: Site, what: str, bits: float, links: float, price: str) -> list[Term]:
    """`bits` over `links` links each: "event_hop" for events, "value_hop" for dense words."""
    if links == 0.0:
        return []
    return [site.term("routing", f"{what}, bit-hops", bits * links, site.prices.price(price))]


def event_layer(
    site: Site,
    fan_in: int,
    fan_out: int,
    rate: float,
    rows: float = 1.0,
    sharing: float = 1.0,
    out_rate: float | None = None,
    options: EventOptions | None = None,
) -> list[Term]:
    """A layer driven by spikes of probability `rate`, over `rows` = tokens x time steps.

    `sharing`: rows that share a fetch of a weight (modelled: independent spikes). `out_rate`: of
    its own neurons, `rate` if not given.
    """
    for name, value in (("rate", rate), ("out_rate", rate if out_rate is None else out_rate)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"expected {name} from 0 to 1, got {value}")
    options = options or EventOptions()
    events = rows * fan_in * rate
    out = rows * fan_out * (rate if out_rate is None else out_rate)
    operations = events * fan_out
    fetches = expected_fetches(rate, fan_in * fan_out, rows, sharing)
    payload = options.payload_bits
    terms = event_crossbar(site, fan_in, operations, fetches, events, payload)
    terms += event_neurons(site, fan_out, rows * fan_out, out, payload)
    if options.state_policy == "operation":
        bits = operations * 2 * site.words.state_bits
        terms.append(site.moved("state", "state per operation", bits, site.words.state_level))
    if options.addressing:
        address = site.prices.price("address")
        terms.append(site.term("addressing", "addresses", operations, address))
    links = options.hops * options.destinations
    return terms + routed(
        site, "events", out * (address_bits(fan_out) + payload), links, "event_hop"
    )
