"""How far the result moves with what is not known: each price over its band, and all at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.energy.prices import Price
from neurosim.energy.terms import Breakdown, Term

Floats = npt.NDArray[np.float64]
INTEGRATED_BAND = (0.1, 10.0)  # a decade each way: no measured energy per spike is known
PERCENTILES = (5, 50, 95)


@dataclass(frozen=True)
class _Part:
    """Terms that vary together: joules = nominal x product of the factors of `names`."""

    names: tuple[str, ...]
    nominal: float


def _factor_names(term: Term) -> tuple[str, ...]:
    if not term.prices:
        return (f"integrated {term.mechanism.split()[0]}",)
    return tuple(price.name for price in term.prices)


def _parts(breakdown: Breakdown) -> list[_Part]:
    sums: dict[tuple[str, ...], list[float]] = {}
    for term in breakdown.terms:
        # a price of zero is drawn as it is, any other as a factor on its nominal value
        rest = math.prod(price.value for price in term.prices if price.value > 0)
        sums.setdefault(_factor_names(term), []).append(
            term.amount * rest if term.prices else term.joules
        )
    return [_Part(names, math.fsum(joules)) for names, joules in sums.items()]


def _bands(breakdowns: Iterable[Breakdown]) -> dict[str, tuple[float, float, float]]:
    """Factor name -> (low, nominal, high); nominal is 0 for a price of zero, else 1."""
    bands: dict[str, tuple[float, float, float]] = {}
    for breakdown in breakdowns:
        for term in breakdown.terms:
            if not term.prices:
                bands[_factor_names(term)[0]] = (INTEGRATED_BAND[0], 1.0, INTEGRATED_BAND[1])
            for price in term.prices:
                bands[price.name] = _relative(price)
    return bands


def _relative(price: Price) -> tuple[float, float, float]:
    value, band = price.value, price.quantity.band
    if band is None:
        return (1.0, 1.0, 1.0) if value > 0 else (0.0, 0.0, 0.0)
    if value > 0:
        return band[0] / value, 1.0, band[1] / value
    return band[0], 0.0, band[1]


def _total(parts: Iterable[_Part], factors: Mapping[str, Floats | float]) -> Floats:
    total: Floats = np.zeros(1)
    for part in parts:
        product: Floats | float = part.nominal
        for name in part.names:
            product = product * factors[name]
        total = total + product
    return total


def _draw(generator: np.random.Generator, band: tuple[float, float, float], draws: int) -> Floats:
    """Log-uniform where the band is positive, uniform where it starts at zero."""
    low, _, high = band
    if low > 0:
        return np.exp(generator.uniform(np.log(low), np.log(high), draws))
    return generator.uniform(low, high, draws)


def uncertainty(
    ours: Breakdown, theirs: Breakdown, draws: int = 10000, seed: int = 0
) -> dict[str, dict[str, float]]:
    """5, 50 and 95 % points of J/token of both sides and of theirs / ours.

    A price that both sides use is drawn once for both. Bands: prices; a decade each way for what
    the simulator integrated.
    """
    generator = np.random.default_rng(seed)
    bands = _bands((ours, theirs))
    factors = {name: _draw(generator, bands[name], draws) for name in sorted(bands)}
    left, right = _total(_parts(ours), factors), _total(_parts(theirs), factors)
    samples = {"spiking_J": left, "twin_J": right, "ratio": right / left}
    return {
        name: {f"p{p}": float(np.percentile(values, p)) for p in PERCENTILES}
        for name, values in samples.items()
    }


def sensitivity(ours: Breakdown, theirs: Breakdown) -> list[dict[str, float | str]]:
    """Ratio theirs / ours with one assumption at a time at the ends of its band, largest first."""
    bands = _bands((ours, theirs))
    parts = _parts(ours), _parts(theirs)
    nominal: dict[str, Floats | float] = {name: band[1] for name, band in bands.items()}
    rows: list[dict[str, float | str]] = []
    for name, (low, _, high) in bands.items():
        ends = []
        for value in (low, high):
            left, right = (_total(side, {**nominal, name: value})[0] for side in parts)
            ends.append(float(right / left))
        if ends[0] != ends[1]:
            rows.append({"assumption": name, "ratio_at_low": ends[0], "ratio_at_high": ends[1]})

    def spread(row: dict[str, float | str]) -> float:
        return abs(math.log(float(row["ratio_at_high"]) / float(row["ratio_at_low"])))

    return sorted(rows, key=spread, reverse=True)
