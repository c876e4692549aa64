"""The ANN twin on a digital accelerator: a dense int8 transformer on the terms of the chip.

    E = linear layers (multiply, accumulate, weights, activations) + q k and a v + key-value cache
        + norms, rotation, softmax, squared ReLU + embedding + control + static
Time of a stage: see `accelerator`; a layer's attention reads a row of the cache per `row_time`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurosim.energy.accelerator import (
    finish,
    memory_tiles,
    rows_of,
    tiles_of,
    token_rows,
    weight_bank,
)
from neurosim.energy.counts import hash_operations
from neurosim.energy.layers import Site, Words, dense_layer, expected_fetches
from neurosim.energy.prices import PriceList
from neurosim.energy.terms import Breakdown, Term
from neurosim.quantity import Quantity


@dataclass(frozen=True)
class DenseTransformerSizes:
    """The ANN twin in numbers; weights, activations and key-value entries are int8.

    `ngram_rows`: rows of hashed n-gram tables that together give one more embedding row.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    weight_bits: int = 8
    activation_bits: int = 8
    kv_bits: int = 8
    ngram_rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if min(value if isinstance(value, tuple) else (value,), default=1) < 1:
                raise ValueError(f"expected {name} >= 1, got {value}")

    @property
    def matrices(self) -> tuple[tuple[str, int, int], ...]:
        """(name, fan-in, fan-out) of a block's matrices."""
        width, hidden = self.width, self.hidden
        return (
            ("qkv", width, 3 * width),
            ("output", width, width),
            ("up", width, hidden),
            ("down", hidden, width),
        )

    @property
    def table_words(self) -> float:
        """Words of the embedding and of the n-gram tables, which share out the channels."""
        shares = max(len(self.ngram_rows), 1)
        return self.width * (self.vocabulary + sum(self.ngram_rows) / shares)

    @property
    def weights(self) -> int:
        """Weights that multiply; the embedding is a look-up."""
        block = sum(rows * columns for _, rows, columns in self.matrices)
        return self.layers * block + self.width * self.vocabulary


def _elementwise(site: Site, work: dict[str, float]) -> list[Term]:
    return [
        site.term("elementwise", what, count, site.prices.price(what))
        for what, count in work.items()
    ]


def _norm(width: int) -> dict[str, float]:
    """RMSNorm of one vector: squares, sum, 1/sqrt, and two scalings."""
    return {"multiply": 3 * width, "accumulate": width, "special_function": 1}


def _narrow(prices: PriceList, bits: int) -> Quantity:
    """The price of an 8-bit multiplication scaled to fewer (or more) activation bits."""
    wide, factor = prices.price("multiply").quantity, bits / 8
    band = wide.band and (wide.band[0] * factor, wide.band[1] * factor)
    source = f"{wide.source}; times {bits} / 8 bits of the activation"
    return Quantity(wide.value * factor, wide.unit, source, "assumed", band)


def dense_token_energy(
    sizes: DenseTransformerSizes,
    prices: PriceList,
    context: float,
    tokens: int = 1,
    pipelined: bool = False,
    tokens_per_fetch: float = 1.0,
    cache_level: float | str | None = None,
    hidden_density: Sequence[float] | None = None,
    streams: int = 1,
) -> Breakdown:
    """Energy of one token of the dense twin that attends to `context` tokens (itself included).

    `streams`: texts decoded at once; they share every fetch of a weight and overlap in time, and
    each has a cache of its own. `hidden_density`: share of non-zero hidden values, one a layer; the
    rows of `down` at zeros are then neither fetched nor multiplied, and a row that tokens share is
    fetched if one of them needs it (modelled: independent zeros). Multipliers cost in proportion to
    the activation bits over 8 (assumed: their area goes with the product of the word lengths).

    `cache_level`: memory of the key-value cache; None: the SRAM banks that hold weights, whose
    tiles then leak too. Norms, softmax, rotary positions and the squared ReLU count at the
    int8 prices, which favours the twin. Zeros are not skipped, which does not.
    """
    weight_level = weight_bank(prices, sizes.weight_bits)
    table_level = prices.price("embedding_bank").value
    tokens_per_fetch *= streams
    words = Words(
        sizes.weight_bits,
        sizes.activation_bits,
        weight_level=weight_level,
        activation_level=prices.price("activation_bank").value,
    )
    level = weight_level if cache_level is None else cache_level
    if hidden_density is not None and len(hidden_density) != sizes.layers:
        raise ValueError(
            f"expected a density for each of {sizes.layers} layers, got {len(hidden_density)}"
        )
    if sizes.activation_bits != 8:
        prices = prices.joined({"multiply": _narrow(prices, sizes.activation_bits)})
    width, hidden = sizes.width, sizes.hidden
    table = Site("embedding", "embedding", prices, words)
    looked_up = width * (2 if sizes.ngram_rows else 1)
    terms = [table.moved("embedding", "words", looked_up * sizes.weight_bits, table_level)]
    work = {"accumulate": looked_up - width + 0.0}
    for i in range(len(sizes.ngram_rows)):
        hashing = hash_operations(i + 2)
        work["accumulate"] += hashing["additions"]
        work["shift"] = work.get("shift", 0.0) + hashing["shifts"]
    terms += _elementwise(table, work)
    tiles = {"embedding": memory_tiles(sizes.table_words * sizes.weight_bits, table_level)}
    stages: list[float] = []
    cached = 2 * context * width
    for i in range(sizes.layers):
        where = f"block {i}"
        site = Site(where, f"blocks.{i}", prices, words)
        for name, fan_in, fan_out in sizes.matrices:
            own = Site(where, f"blocks.{i}.{name}", prices, words)
            density = 1.0 if name != "down" or hidden_density is None else hidden_density[i]
            fetched = expected_fetches(density, 1, 1, tokens_per_fetch)
            shared = 1 / fetched if fetched else float("inf")
            terms += dense_layer(own, fan_in, fan_out, 1, shared, density)
            tiles[where] = tiles.get(where, 0) + tiles_of(prices, fan_in, fan_out)
            stages.append(rows_of(prices, fan_in))
        pairs = context * width  # q k and then a v, per head context x head size
        terms += [
            site.compute("multiplies", 2 * pairs, "multiply"),
            site.compute("additions", 2 * pairs, "accumulate"),
            site.moved("key-value cache", "read", cached * sizes.kv_bits, level),
            site.moved("key-value cache", "written", 2 * width * sizes.kv_bits, level),
        ]
        stages.append(cached / prices.price("tile_columns").value)
        if cache_level is None:
            tiles[where] += memory_tiles(streams * cached * sizes.kv_bits, weight_level)
        scores = sizes.heads * context
        norm = _norm(width)
        work = {
            # two norms; rotation of q and k (4 multiplies, 2 adds a pair); softmax; squared ReLU
            "multiply": 2 * norm["multiply"] + 4 * width + scores + hidden,
            "accumulate": 2 * norm["accumulate"] + 2 * width + 2 * scores + 2 * width,
            "compare": scores + hidden,
            "special_function": 2 * norm["special_function"] + scores + sizes.heads,
        }
        terms += _elementwise(site, work)
    head = Site("head", "head", prices, words)
    terms += dense_layer(head, width, sizes.vocabulary, 1, tokens_per_fetch)
    terms += _elementwise(head, _norm(width))
    tiles["head"] = tiles_of(prices, width, sizes.vocabulary)
    stages.append(rows_of(prices, width))
    return finish(terms, tiles, prices, token_rows(stages, tokens, pipelined, streams))
