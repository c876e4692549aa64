"""The digital accelerator of the baselines: its prices, tiles, time, control and static terms.

Weights stand on tiles that leak as the spiking chip's tiles do, each with a bank for just its own
weights; tables stand in the banks that the spiking chip has for them. One matrix is at
work at a time for a single stream: a tile reads a row of weights per `row_time`, all tiles of a
matrix in parallel. Prefill pipelines the stages as the chip does: slowest (n + stages - 1) / n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from neurosim.energy.prices import PriceList, load_prices
from neurosim.energy.terms import Breakdown, Term, joules_of, priced

_SHARED = ("tile_power", "tile_rows", "tile_columns", "embedding_bank")


def accelerator_prices(chip: PriceList | None = None, digital: str = "digital_45nm") -> PriceList:
    """Prices of the accelerator; tiles, table banks and static power are `chip`'s if given."""
    prices = load_prices("accelerator").joined(load_prices(digital).entries)
    if chip is None:
        return prices
    return prices.joined({name: chip.entries[name] for name in _SHARED if name in chip})


def tiles_of(prices: PriceList, fan_in: float, fan_out: float) -> int:
    """Tiles that a fan-in x fan-out matrix takes."""
    rows, columns = (prices.price(name).value for name in ("tile_rows", "tile_columns"))
    return math.ceil(fan_in / rows) * math.ceil(fan_out / columns)


def weight_bank(prices: PriceList, weight_bits: int) -> float:
    """Bytes of the SRAM bank that holds a tile's weights: 64 KiB for 256 x 256 of 8 bits."""
    rows, columns = (prices.price(name).value for name in ("tile_rows", "tile_columns"))
    return rows * columns * weight_bits / 8


def memory_tiles(bits: float, bank: float) -> int:
    """Tiles that hold this much memory (tables, a cache, states), `bank` bytes on each."""
    return math.ceil(bits / 8 / bank)


def rows_of(prices: PriceList, fan_in: float) -> float:
    """Row times of a matrix: its row tiles work in parallel."""
    return min(fan_in, prices.price("tile_rows").value)


def token_rows(stages: Sequence[float], tokens: int, pipelined: bool, streams: int = 1) -> float:
    """Row times one token occupies the accelerator for: sum, or the slowest stage plus the fill.

    `streams` texts decoded at once overlap until the slowest stage is always busy.
    """
    if not pipelined:
        return max(sum(stages) / streams, max(stages, default=0.0))
    return max(stages, default=0.0) * (tokens + len(stages) - 1) / tokens


def finish(
    terms: Sequence[Term], tiles: Mapping[str, int], prices: PriceList, rows: float
) -> Breakdown:
    """Add control and static terms; `tiles` by layer, `rows` row times per token."""
    power, row_time, control = (prices.price(n) for n in ("tile_power", "row_time", "control"))
    rest: list[Term] = []
    for layer in dict.fromkeys(term.layer for term in terms):
        own = joules_of(term for term in terms if term.layer == layer)
        rest.append(priced(layer, layer, "control", "dynamic joules", own, control))
        amount = tiles.get(layer, 0) * rows
        rest.append(priced(layer, layer, "static", "tile-row times", amount, power, row_time))
    return Breakdown((*terms, *rest), rows * row_time.value)
