"""How often the linear layers of a BrainGPT are used in one token: counted, or assumed.

An `Activity` is counted by a model that ran on text (`Activity.counted`), taken from published
events per multiply-accumulate (`Activity.of_rates`), or computed for rows of a distribution
(`Activity.synthetic`). It says which, and everything made from it repeats that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from neurosim.models.braingpt.config import BrainGPTConfig
from neurosim.models.braingpt.sites import EVENT_CODES, PROJECTIONS, EventCounter

DISTRIBUTIONS = ("gaussian", "laplace")
_SENT = ("q_proj", "o_proj", "gate_proj", "down_proj")  # k and v read q's spikes, up reads gate's


def fan_ins_and_outs(config: BrainGPTConfig) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of the linear layers of a block."""
    width, hidden = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    sizes = (
        (width, queries),
        (width, keys),
        (width, keys),
        (queries, width),
        (width, hidden),
        (width, hidden),
        (hidden, width),
    )
    return dict(zip(PROJECTIONS, sizes, strict=True))


def block_macs(config: BrainGPTConfig) -> int:
    """Multiply-accumulates of a block's linear layers, per token."""
    return sum(fan_in * fan_out for fan_in, fan_out in fan_ins_and_outs(config).values())


@dataclass(frozen=True)
class Activity:
    """Events of one token, by code and block.

    Attributes:
        source: what the numbers are, for people.
        kind: "counted" (exact integers of a run over its tokens) or "modelled".
        tokens: that were counted; 0 if modelled.
        operations: code -> synaptic operations (events times fan-out) of each block.
        events: code -> spikes sent to crossbars by each block; what several layers read counts
            once.
    """

    source: str
    kind: str
    tokens: int
    operations: Mapping[str, tuple[float, ...]]
    events: Mapping[str, tuple[float, ...]]

    @classmethod
    def counted(cls, counter: EventCounter, config: BrainGPTConfig) -> Activity:
        """What a model of these sizes did while `counter` listened."""
        elements = counter.elements.get("embed.post", 0)
        tokens, rest = divmod(elements, config.hidden_size)
        expected = tokens * config.num_hidden_layers * block_macs(config)
        if tokens < 1 or rest or counter.multiply_accumulates != expected:
            raise ValueError(
                f"expected the counts of whole tokens of this model ({expected} "
                f"multiply-accumulates for {tokens} tokens), got {counter.multiply_accumulates}; "
                "pass a fresh EventCounter as listener of the model with this configuration"
            )
        sizes = fan_ins_and_outs(config)
        operations, events = {}, {}
        for code in EVENT_CODES:
            blocks = [
                {name: counter.events[f"L{i}.{name}.pre"][code] for name in PROJECTIONS}
                for i in range(config.num_hidden_layers)
            ]
            operations[code] = tuple(
                sum(own[name] * sizes[name][1] for name in PROJECTIONS) / tokens for own in blocks
            )
            events[code] = tuple(sum(own[name] for name in _SENT) / tokens for own in blocks)
        return cls(f"counted on {tokens} tokens", "counted", tokens, operations, events)

    @classmethod
    def of_rates(cls, rates: Mapping[str, float], config: BrainGPTConfig, source: str) -> Activity:
        """Events per multiply-accumulate by code, the same at every site."""
        missing = [code for code in EVENT_CODES if not rates.get(code, -1.0) >= 0.0]
        if missing:
            raise ValueError(f"expected a rate >= 0 of every code, missing {', '.join(missing)}")
        sizes, layers = fan_ins_and_outs(config), config.num_hidden_layers
        macs, inputs = block_macs(config), sum(sizes[name][0] for name in _SENT)
        return cls(
            source,
            "modelled",
            0,
            {code: (rates[code] * macs,) * layers for code in EVENT_CODES},
            {code: (rates[code] * inputs,) * layers for code in EVENT_CODES},
        )

    @classmethod
    def synthetic(
        cls, config: BrainGPTConfig, distribution: str = "gaussian", max_over_std: float = 3.9
    ) -> Activity:
        """Independent values of a distribution, whose rows have this largest |value|.

        The default is what 2048 Gaussian values have on average.
        """
        rates = synthetic_rates(distribution, max_over_std, config.levels)
        source = f"synthetic: {distribution} rows, max {max_over_std:g} standard deviations"
        return cls.of_rates(rates, config, source)

    def total(self, code: str) -> float:
        """Synaptic operations of a token."""
        return math.fsum(self.operations[code])

    def per_mac(self, config: BrainGPTConfig) -> dict[str, float]:
        """Synaptic operations for every multiply-accumulate of the ANN, by code."""
        macs = config.num_hidden_layers * block_macs(config)
        return {code: self.total(code) / macs for code in EVENT_CODES}


def synthetic_rates(distribution: str, max_over_std: float, levels: int = 127) -> dict[str, float]:
    """Expected events of one spike count, by code: exact sums over the distribution of n."""
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"expected {' or '.join(DISTRIBUTIONS)}, got {distribution!r}")
    if not 0.0 < max_over_std < math.inf:
        raise ValueError(f"expected max / std > 0, got {max_over_std}")
    unit = max_over_std / levels

    def beyond(x: float) -> float:
        """P(|value| >= x), x in standard deviations."""
        root = math.sqrt(2.0)
        return math.erfc(x / root) if distribution == "gaussian" else math.exp(-root * x)

    rates = dict.fromkeys(EVENT_CODES, 0.0)
    for n in range(1, levels + 1):
        share = beyond((n - 0.5) * unit) - (beyond((n + 0.5) * unit) if n < levels else 0.0)
        rates["unary"] += share * n
        rates["bit_plane"] += share * n.bit_count()
        rates["signed_digit"] += share * (3 * n ^ n).bit_count()
        rates["graded"] += share
    return rates
