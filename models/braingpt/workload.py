"""What a token of BrainGPT, and of the ANN it was made from, computes beside its synapses.

Counts come from the configuration alone and are exact for one token that sees `context` tokens
(itself included): decoding, batch 1. `mac` is a multiply-accumulate, `special` an exponential,
division, root, sine or cosine.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

from neurosim.models.braingpt.activity import fan_ins_and_outs
from neurosim.models.braingpt.config import SILUS, BrainGPTConfig

_VALUES = 255  # of a spike count, -127 .. 127: what the SiLU of a token's row is tabulated for
_STAIRCASE_COMPARES = 6  # binary search among the 42 edges of the published staircase
_GROUP = 32  # 4-bit weights that share a multiplier
_INPUTS = ("q_proj", "o_proj", "gate_proj", "down_proj")  # k, v and up read the same counts


@dataclass(frozen=True)
class Work:
    """Floating-point operations of one token; `reads`: words of a look-up table."""

    mac: int = 0
    multiply: int = 0
    add: int = 0
    compare: int = 0
    special: int = 0
    reads: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Work)))

    def times(self, number: int) -> Work:
        """So many of it."""
        return Work(*(number * getattr(self, f.name) for f in fields(Work)))

    def items(self) -> list[tuple[str, int]]:
        """(operation, count), what is not done left out."""
        found = [(f.name, int(getattr(self, f.name))) for f in fields(Work)]
        return [(name, count) for name, count in found if count]


def attention(config: BrainGPTConfig, context: int) -> Work:
    """One layer: scores, softmax, mix."""
    pairs = config.num_attention_heads * context
    products = Work(mac=2 * pairs * config.head_dim)
    heads = config.num_attention_heads
    return products + Work(
        multiply=2 * pairs, add=2 * pairs, compare=pairs, special=pairs + heads
    )  # scale and normalise; subtract the largest and sum


def norm(width: int) -> Work:
    """RMSNorm of a row: squares and their sum, one root, two scalings."""
    return Work(multiply=3 * width, add=width, special=1)


def positions(config: BrainGPTConfig) -> Work:
    """One layer: queries and keys rotated."""
    values = (config.num_attention_heads + config.num_key_value_heads) * config.head_dim
    return Work(multiply=2 * values, add=values)


def silu(config: BrainGPTConfig, form: str, spiking: bool, gains: bool = False) -> Work:
    """SiLU of the gate times up. A spiking gate has 255 values, so its SiLU is a table of a row.

    With gains, a factor on every channel, it is computed channel by channel.
    """
    if form not in SILUS:
        raise ValueError(f"expected silu {', '.join(SILUS)}, got {form!r}")
    hidden = config.intermediate_size
    product = Work(multiply=hidden)
    if not spiking:
        return product + Work(add=hidden, special=2 * hidden)
    each = {
        "exact": Work(multiply=1, add=1, special=2),
        "table": Work(multiply=2, add=1, reads=1),
        "staircase": Work(multiply=1, compare=_STAIRCASE_COMPARES, reads=1),
    }[form]
    if gains:
        return product.times(2) + each.times(hidden)
    return product + each.times(_VALUES) + Work(reads=hidden)


def turned(config: BrainGPTConfig) -> Work:
    """Sums and differences of the Hadamard blocks in front of down_proj's neurons."""
    steps = max(config.hadamard, 1).bit_length() - 1
    return Work(add=steps * config.intermediate_size)


def rest(
    config: BrainGPTConfig, context: int, form: str, spiking: bool, gains: Collection[str] = ()
) -> dict[str, Work]:
    """What stays in floating point on both sides: mechanism -> work of the whole token.

    `gains`: projections ("L0.q_proj") whose spikes have factors of their own; the ANN has none.
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    known = gains if spiking else ()
    gated = sum(f"L{i}.gate_proj" in known for i in range(layers))
    feed = silu(config, form, spiking).times(layers - gated)
    feed += silu(config, form, spiking, gains=True).times(gated)
    feed += (turned(config) if spiking else Work()).times(layers)
    feed += Work(multiply=gain_values(config, [n for n in known if n.endswith("up_proj")]))
    turning = [n for n in known if n.endswith((".q_proj", ".k_proj"))]
    table = Work(multiply=config.head_dim // 2, special=config.head_dim)
    other = norm(width).times(2 * layers + 1) + positions(config).times(layers) + table
    return {
        "lm_head": Work(mac=config.vocab_size * width),
        "attention": attention(config, context).times(layers),
        "SiLU": feed,
        "norms, positions, residual": other
        + Work(add=2 * width).times(layers)
        + Work(multiply=gain_values(config, turning)),
    }


def gain_values(config: BrainGPTConfig, gains: Collection[str]) -> int:
    """Factors of all these projections ("L0.q_proj")."""
    sizes = fan_ins_and_outs(config)
    return sum(sizes[name.partition(".")[2]][1] for name in gains)


def quantise(width: int) -> Work:
    """A row to counts: its largest value, a true division of every value, rounding."""
    return Work(compare=width, special=width + 1, add=width)


def sites(config: BrainGPTConfig, integer_weights: bool) -> Work:
    """Quantising and de-quantising of BrainGPT, the whole token.

    Sites that share an input (q, k, v; gate, up) are quantised once: of the 1 + 14 layers sites
    1 + 11 layers remain. Every output is scaled (and by its weight's unit), then quantised again.
    """
    sizes = fan_ins_and_outs(config)
    work = Work()
    for name in _INPUTS:
        work += quantise(sizes[name][0])
    for _, fan_out in sizes.values():
        work += sums(fan_out, integer_weights) + quantise(fan_out) + Work(multiply=fan_out)
    if config.biases:
        work += Work(add=sum(sizes[name][1] for name in ("q_proj", "k_proj", "v_proj")))
    embedded = quantise(config.hidden_size) + Work(multiply=config.hidden_size)
    return work.times(config.num_hidden_layers) + embedded


def sums(fan_out: int, integer_weights: bool) -> Work:
    """Integer sums of counts to real values: times the row's scale and the weight's unit."""
    return Work(multiply=(2 if integer_weights else 1) * fan_out)


def dense_scales(config: BrainGPTConfig, integer_weights: bool, integer_inputs: bool) -> Work:
    """The same of the ANN: inputs are quantised where its products are integer ones."""
    sizes = fan_ins_and_outs(config)
    work = Work()
    if integer_inputs:
        for name in _INPUTS:
            work += quantise(sizes[name][0])
    scaled = int(integer_weights) + int(integer_inputs)
    work += Work(multiply=scaled * sum(fan_out for _, fan_out in sizes.values()))
    if config.biases:
        work += Work(add=sum(sizes[name][1] for name in ("q_proj", "k_proj", "v_proj")))
    return work.times(config.num_hidden_layers)


def neurons(config: BrainGPTConfig) -> int:
    """Values that are turned into counts in a token, each distinct one once."""
    sizes = fan_ins_and_outs(config)
    block = sum(sizes[name][0] for name in _INPUTS) + sum(out for _, out in sizes.values())
    return config.num_hidden_layers * block + config.hidden_size


def matrix_bytes(rows: int, columns: int, bits: int) -> int:
    """Bytes of a stored matrix; integers have a unit a row, 4-bit ones a multiplier a group."""
    values = rows * columns * bits // 8
    if bits >= 16:
        return values
    return values + 4 * rows + (rows * -(-columns // _GROUP) if bits == 4 else 0)


def weight_bytes(config: BrainGPTConfig, weight_bits: int) -> dict[str, int]:
    """Bytes read once per token: linear layers, head, embedding row, gains and biases.

    Head and embedding have at least 8 bits, gains and biases 32, as the engine keeps them.
    """
    sizes, layers = fan_ins_and_outs(config), config.num_hidden_layers
    outer = max(weight_bits, 8)
    linear = sum(matrix_bytes(out, fan_in, weight_bits) for fan_in, out in sizes.values())
    vectors = sum(shape[0] for shape in config.weight_shapes().values() if len(shape) == 1)
    return {
        "linear layers": layers * linear,
        "lm_head": matrix_bytes(config.vocab_size, config.hidden_size, outer),
        "embedding row": matrix_bytes(1, config.hidden_size, outer),
        "gains and biases": 4 * vectors,
    }


def cache_bytes(config: BrainGPTConfig, context: int, kv_bits: int) -> dict[str, int]:
    """Bytes of the key-value cache that a token reads and writes."""
    entry = 2 * config.num_key_value_heads * config.head_dim * config.num_hidden_layers
    return {"read": context * entry * kv_bits // 8, "written": entry * kv_bits // 8}
