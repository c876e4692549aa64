"""Energy of one decoded token of BrainGPT in four spike codes, beside its ANN on equal terms.

    E = synaptic additions (or the ANN's multiply-accumulates) + what stays in floating point
        + quantising at the spike sites + weight bytes + key-value bytes + routing (if asked for)

Amounts are counted (by a model on text, or from the configuration) or modelled (synthetic rows);
every joule is modelled, amount x price; every price is cited or derived in `neurosim/energy`. Both
sides read the same weights and the same cache once per token, in the same memory, and do the same
floating-point work in the same number format.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Group

from neurosim.energy.prices import Price, PriceList, load_prices
from neurosim.energy.terms import Breakdown, Term, priced
from neurosim.models.braingpt import workload
from neurosim.models.braingpt.activity import Activity, block_macs, fan_ins_and_outs
from neurosim.models.braingpt.config import BrainGPTConfig
from neurosim.models.braingpt.sites import EVENT_CODES, EventCounter
from neurosim.quantity import Quantity, weakest

ANN = "ann"
SYSTEMS = (ANN, *EVENT_CODES)
ARITHMETICS = ("fp32", "fp16", "int8")
LINEAR = "linear layers"
MOVED = ("weights moved", "key-value cache moved", "routing")
BOUNDARY = (
    "one decoded token, batch 1, from its embedding row to its logits: arithmetic of all layers, "
    "weights and key-value cache moved once each"
)
EXCLUDES = (
    "static power, clock, control and time",
    "reads and writes of accumulators, activations and scales in local memory (both sides); an "
    "accumulator that is read and written for every event costs more than its addition",
    "a second fetch of a weight whose input spikes again: it is kept for all its spikes",
    "converting integer weights to floats (favours the ANN in fp32 and fp16)",
    "tokenizer, sampling, host",
)
_SRAM = "sram"


def _suffix(arithmetic: str) -> str:
    return "" if arithmetic == "fp32" else f"_{arithmetic}"


@dataclass(frozen=True)
class _Prices:
    """Prices of one arithmetic: `mac`, `add` of the linear layers; the rest in floating point."""

    mac: Price
    add: Price
    rest: Mapping[str, Price]
    memory: Price
    local: Price
    digital: PriceList

    @classmethod
    def of(cls, arithmetic: str, memory: str | float) -> _Prices:
        legacy, digital = load_prices("legacy"), load_prices("digital_45nm")
        mac = legacy.price(f"multiply_accumulate{_suffix(arithmetic)}")
        if arithmetic == "int8":  # counts times int8 weights are summed in 32 bits
            add = digital.price("accumulate")
        else:
            add = legacy.price(f"accumulate{_suffix(arithmetic)}")
        floats = _suffix("fp32" if arithmetic == "fp32" else "fp16")
        both = legacy.price(f"multiply_accumulate{floats}")
        one = legacy.price(f"accumulate{floats}")
        bits = 32 if arithmetic == "fp32" else 16
        local = digital.sram(digital.price("sram_reference").value)
        rest = {
            "mac": both,
            "multiply": _derived("multiply", both.value - one.value, "MAC minus addition", both),
            "add": one,
            "compare": _derived("compare", one.value, "taken as an addition", one),
            "special": _assumed("special_function", 4 * both.value, both),
            "reads": _derived("table word", bits * local.value, f"{bits} bits", local),
        }
        store = digital.price("dram") if memory == "dram" else digital.sram(_capacity(memory))
        return cls(mac, add, rest, store, local, digital)


def _capacity(memory: str | float) -> float:
    if isinstance(memory, str) or not memory > 0:
        raise ValueError(f"expected memory 'dram' or the bytes of an SRAM bank, got {memory!r}")
    return float(memory)


def _derived(name: str, value: float, how: str, base: Price) -> Price:
    source = f"{how}: {base.quantity.source}"
    return Price(name, Quantity(value, "J", source, weakest(["derived", base.quantity.evidence])))


def _assumed(name: str, value: float, base: Price) -> Price:
    source = f"exp, divide, root: 4 (multiply + add): {base.quantity.source}"
    return Price(name, Quantity(value, "J", source, "assumed", (value / 4, value * 4)))


@dataclass(frozen=True)
class TokenEnergy:
    """Energy per token, J: `systems[arithmetic][system]`, arithmetic of `ARITHMETICS`, system of
    `SYSTEMS`; and what it was computed from."""

    config: BrainGPTConfig
    activity: Activity
    context: int
    weight_bits: int
    kv_bits: int
    silu: str
    memory: str
    hops: float | None
    systems: Mapping[str, Mapping[str, Breakdown]]
    gains: tuple[str, ...] = ()

    def linear(self, arithmetic: str, system: str) -> float:
        """J per token of the linear layers' arithmetic alone."""
        return self.systems[arithmetic][system].of(LINEAR)

    def stepping(self, arithmetic: str) -> float:
        """J per token that neurons would add which step through all T slots, add and compare."""
        rest = _Prices.of(arithmetic, "dram").rest
        steps = workload.neurons(self.config) * self.config.levels
        return steps * (rest["add"].value + rest["compare"].value)

    def conclusions(self) -> list[str]:
        """Who needs less, in sentences, from these numbers."""
        found = []
        for arithmetic in ARITHMETICS:
            ann = self.linear(arithmetic, ANN)
            words = ", ".join(
                f"{code.replace('_', ' ')} {self.linear(arithmetic, code) / ann:.2f}"
                for code in EVENT_CODES
            )
            worse = self.linear(arithmetic, "unary") > ann
            found.append(
                f"{arithmetic}: the unary code is {'worse' if worse else 'not worse'} than the ANN "
                f"at equal arithmetic; linear layers, ANN = 1: {words}"
            )
        if all(self.linear(a, "unary") > self.linear(a, ANN) for a in ARITHMETICS):
            found.append(
                "only bit-plane, signed-digit or graded codes, fewer bits, or addition in memory "
                "change that"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, J per token."""
        config, activity = self.config, self.activity
        prices: dict[str, Price] = {}
        for arithmetic, systems in self.systems.items():
            for breakdown in systems.values():
                for name, price in breakdown.prices().items():
                    prices.setdefault(f"{arithmetic}: {name}", price)
        return {
            "boundary": BOUNDARY,
            "excludes": [*EXCLUDES, *(() if self.hops else ("routing of spikes and values",))],
            "kind": f"amounts of the linear layers: {_described(activity)}; all other "
            "amounts: counted from the configuration; joules: modelled, amount x price",
            "parameters": config.parameters,
            "context": self.context,
            "weight_bits": self.weight_bits,
            "kv_bits": self.kv_bits,
            "silu": self.silu,
            "memory": self.memory,
            "hops": self.hops,
            "activity": {
                "source": activity.source,
                "kind": activity.kind,
                "tokens": activity.tokens,
                "events_per_mac": activity.per_mac(config),
                "operations_per_token": {code: activity.total(code) for code in EVENT_CODES},
            },
            "macs_per_token": {
                "linear layers": config.num_hidden_layers * block_macs(config),
                "lm_head": config.vocab_size * config.hidden_size,
                "attention": workload.attention(config, self.context).mac
                * config.num_hidden_layers,
            },
            "bytes_per_token": {
                "weights": workload.weight_bytes(config, self.weight_bits)
                | _gain_bytes(config, self.gains),
                "key-value cache": workload.cache_bytes(config, self.context, self.kv_bits),
            },
            "systems": {
                arithmetic: {
                    system: {
                        "J_per_token": breakdown.total,
                        "arithmetic_J": breakdown.total - sum(map(breakdown.of, MOVED)),
                        "by_mechanism_J": breakdown.by_mechanism(),
                        "evidence": breakdown.evidence,
                    }
                    for system, breakdown in systems.items()
                }
                for arithmetic, systems in self.systems.items()
            },
            "slots": config.levels,
            "stepping_J": {arithmetic: self.stepping(arithmetic) for arithmetic in ARITHMETICS},
            "conclusions": self.conclusions(),
            "prices": {
                name: {
                    "value": price.value,
                    "unit": price.quantity.unit,
                    "source": price.quantity.source,
                    "evidence": price.quantity.evidence,
                }
                for name, price in sorted(prices.items())
            },
        }

    def terminal(self) -> Group:
        """One screen for a terminal."""
        from neurosim.models.braingpt.energy_table import terminal

        return terminal([self.to_dict()])

    def __rich__(self) -> Group:
        return self.terminal()

    def __repr__(self) -> str:
        ints = self.systems["int8"]
        parts = ", ".join(f"{name} {ints[name].total:.3g}" for name in SYSTEMS)
        return f"TokenEnergy(context {self.context}, int8, J/token: {parts})"


def _described(activity: Activity) -> str:
    """Kind and source of an activity, each said once."""
    said = activity.source.startswith(activity.kind)
    return activity.source if said else f"{activity.kind} ({activity.source})"


def energy_report(
    counter: EventCounter,
    config: BrainGPTConfig,
    context: int,
    weight_bits: int = 8,
    kv_bits: int = 16,
    silu: str = "table",
    memory: str | float = "dram",
    hops: float | None = None,
    gains: Collection[str] = (),
) -> TokenEnergy:
    """Energy per token from what a running model counted; see `token_energy`."""
    activity = Activity.counted(counter, config)
    return token_energy(activity, config, context, weight_bits, kv_bits, silu, memory, hops, gains)


def token_energy(
    activity: Activity,
    config: BrainGPTConfig,
    context: int,
    weight_bits: int = 8,
    kv_bits: int = 16,
    silu: str = "table",
    memory: str | float = "dram",
    hops: float | None = None,
    gains: Collection[str] = (),
) -> TokenEnergy:
    """Energy of a decoded token that sees `context` tokens, itself included.

    Args:
        activity: counted or synthetic, of a model with these sizes.
        config: the model's sizes.
        context: tokens in the cache when the token is done.
        weight_bits: 32, 16, 8 or 4, of the linear layers, on both sides.
        kv_bits: of a cached number, on both sides.
        silu: "staircase", "table" or "exact" of the spiking side; the ANN's is exact.
        memory: where weights and cache are: "dram", or the bytes of an SRAM bank.
        hops: mesh links that a spike (or, in the ANN, a word) travels; None: routing is left out.
        gains: projections ("L0.q_proj") of the spiking side with a factor on every channel.
    """
    if context < 1:
        raise ValueError(f"expected a context of at least one token, got {context}")
    if weight_bits not in (4, 8, 16, 32) or kv_bits not in (4, 8, 16, 32):
        raise ValueError(
            f"expected weight_bits and kv_bits 4, 8, 16 or 32, got {weight_bits} and {kv_bits}"
        )
    if hops is not None and not hops >= 0:
        raise ValueError(f"expected hops >= 0, got {hops}")
    if len(activity.operations["unary"]) != config.num_hidden_layers:
        raise ValueError(
            f"expected an activity of {config.num_hidden_layers} blocks, got "
            f"{len(activity.operations['unary'])}"
        )
    systems: dict[str, dict[str, Breakdown]] = {}
    for arithmetic in ARITHMETICS:
        prices = _Prices.of(arithmetic, memory)
        moved = _moved(config, context, weight_bits, kv_bits, prices.memory)
        systems[arithmetic] = {}
        for system in SYSTEMS:
            terms = [
                *_linear(activity, config, system, prices),
                *_rest(config, context, silu, system, arithmetic, weight_bits, prices, gains),
                *moved,
                *(_moved_gains(config, gains, prices.memory) if system != ANN else ()),
                *(_routing(activity, config, system, arithmetic, prices, hops) if hops else ()),
            ]
            systems[arithmetic][system] = Breakdown(tuple(terms), 0.0)
    where = memory if isinstance(memory, str) else f"SRAM banks of {memory / 1024:g} KiB"
    given = (config, activity, context, weight_bits, kv_bits, silu, where, hops, systems)
    return TokenEnergy(*given, tuple(gains))


def _linear(activity: Activity, config: BrainGPTConfig, system: str, prices: _Prices) -> list[Term]:
    """A block's products: additions per event, or a multiply-accumulate per weight or value."""
    terms = []
    for i in range(config.num_hidden_layers):
        what, amount, price = "synaptic additions", 0.0, prices.add
        if system == ANN:
            what, amount, price = "multiply-accumulates", block_macs(config), prices.mac
        else:
            amount = activity.operations[system][i]
        if system == "graded":
            what, price = "multiply-accumulates of values that are not 0", prices.mac
        terms.append(priced(f"block {i}", f"block {i}", LINEAR, what, amount, price))
    return terms


def _rest(
    config: BrainGPTConfig,
    context: int,
    silu: str,
    system: str,
    arithmetic: str,
    weight_bits: int,
    prices: _Prices,
    gains: Collection[str],
) -> list[Term]:
    """What stays in floating point, and the quantising of whoever quantises."""
    spiking, integers = system != ANN, weight_bits < 16
    parts = dict(workload.rest(config, context, silu, spiking, gains))
    if spiking:
        parts["spike sites"] = workload.sites(config, integers)
    else:
        parts["scales"] = workload.dense_scales(config, integers, arithmetic == "int8")
    return [
        priced("all blocks" if name != "lm_head" else "head", name, name, what, count, rate)
        for name, work in parts.items()
        for what, count in work.items()
        for rate in (prices.rest[what],)
    ]


def _moved(
    config: BrainGPTConfig, context: int, weight_bits: int, kv_bits: int, memory: Price
) -> list[Term]:
    """Weights and cache, bit by bit."""
    weights = workload.weight_bytes(config, weight_bits)
    cache = workload.cache_bytes(config, context, kv_bits)
    return [
        *(
            priced("memory", name, "weights moved", f"{name}, bits", 8 * size, memory)
            for name, size in weights.items()
        ),
        *(
            priced("memory", "cache", "key-value cache moved", f"bits {name}", 8 * size, memory)
            for name, size in cache.items()
        ),
    ]


def _gain_bytes(config: BrainGPTConfig, gains: Collection[str]) -> dict[str, int]:
    return {"channel gains": 4 * workload.gain_values(config, gains)} if gains else {}


def _moved_gains(config: BrainGPTConfig, gains: Collection[str], memory: Price) -> list[Term]:
    """Factors of channels, which the ANN does not have."""
    return [
        priced("memory", name, "weights moved", f"{name}, bits", 8 * size, memory)
        for name, size in _gain_bytes(config, gains).items()
    ]


def _routing(
    activity: Activity,
    config: BrainGPTConfig,
    system: str,
    arithmetic: str,
    prices: _Prices,
    hops: float,
) -> list[Term]:
    """Spikes (address and sign, or address and count) or the ANN's words between layers."""
    sizes = fan_ins_and_outs(config)
    widest = max(config.hidden_size, config.intermediate_size)
    if system == ANN:
        inputs = sum(sizes[name][0] for name in ("q_proj", "o_proj", "gate_proj", "down_proj"))
        bits = {"fp32": 32, "fp16": 16, "int8": 8}[arithmetic]
        amount, price = config.num_hidden_layers * inputs * bits * hops, "value_hop"
    else:
        bits = (widest - 1).bit_length() + (config.bits if system == "graded" else 1)
        amount, price = sum(activity.events[system]) * bits * hops, "event_hop"
    what = f"bit-hops, {bits} bits each"
    return [priced("mesh", "mesh", "routing", what, amount, prices.digital.price(price))]
