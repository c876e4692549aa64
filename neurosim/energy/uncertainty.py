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
class _Factor:
    """One assumption: a factor on a nominal value, or the value itself where that is zero.

    Factors of one name move together, each over its own (low, high).
    """

    name: str
    low: float
    nominal: float
    high: float

    def at(self, place: Floats | float | None) -> Floats | float:
        """The factor at a place in its band: 0 low, 1 high, None nominal.

        Log-uniform where the band is positive, uniform where it starts at zero.
        """
        if place is None:
            return self.nominal
        if self.low > 0:
            return self.low * (self.high / self.low) ** place
        return self.low + (self.high - self.low) * place


@dataclass(frozen=True)
class _Part:
    """Terms that vary together: joules = nominal x product of the factors."""

    factors: tuple[_Factor, ...]
    nominal: float


def _factor(price: Price) -> _Factor:
    value, band = price.value, price.quantity.band
    if value > 0:
        low, high = band or (value, value)
        return _Factor(price.name, low / value, 1.0, high / value)
    low, high = band or (0.0, 0.0)
    return _Factor(price.name, low, 0.0, high)


def _factors(term: Term) -> tuple[_Factor, ...]:
    if not term.prices:
        low, high = INTEGRATED_BAND
        return (_Factor(f"integrated {term.mechanism.split()[0]}", low, 1.0, high),)
    return tuple(_factor(price) for price in term.prices)


def _parts(breakdown: Breakdown) -> list[_Part]:
    sums: dict[tuple[_Factor, ...], list[float]] = {}
    for term in breakdown.terms:
        # a price of zero is drawn as it is, any other as a factor on its nominal value
        rest = math.prod(price.value for price in term.prices if price.value > 0)
        sums.setdefault(_factors(term), []).append(
            term.amount * rest if term.prices else term.joules
        )
    return [_Part(factors, math.fsum(joules)) for factors, joules in sums.items()]


def _names(*sides: Iterable[_Part]) -> list[str]:
    return sorted({factor.name for parts in sides for part in parts for factor in part.factors})


def _total(parts: Iterable[_Part], places: Mapping[str, Floats | float]) -> Floats:
    """J with the factors at their places; those without a place are nominal."""
    total: Floats = np.zeros(1)
    for part in parts:
        product: Floats | float = part.nominal
        for factor in part.factors:
            product = product * factor.at(places.get(factor.name))
        total = total + product
    return total


def uncertainty(
    ours: Breakdown, theirs: Breakdown, draws: int = 10000, seed: int = 0
) -> dict[str, dict[str, float]]:
    """5, 50 and 95 % points of J/token of both sides and of theirs / ours.

    A price that both sides use is drawn once for both, at one place of their bands. Bands: those
    of the prices; a decade each way for what the simulator integrated.
    """
    generator = np.random.default_rng(seed)
    sides = _parts(ours), _parts(theirs)
    places = {name: generator.uniform(0.0, 1.0, draws) for name in _names(*sides)}
    left, right = (_total(side, places) for side in sides)
    samples = {"spiking_J": left, "twin_J": right, "ratio": right / left}
    return {
        name: {f"p{p}": float(np.percentile(values, p)) for p in PERCENTILES}
        for name, values in samples.items()
    }


def sensitivity(ours: Breakdown, theirs: Breakdown) -> list[dict[str, float | str]]:
    """Ratio theirs / ours with one assumption at a time at the ends of its band, largest first."""
    sides = _parts(ours), _parts(theirs)
    rows: list[dict[str, float | str]] = []
    for name in _names(*sides):
        ends = []
        for place in (0.0, 1.0):
            left, right = (_total(side, {name: place})[0] for side in sides)
            ends.append(float(right / left))
        if ends[0] != ends[1]:
            rows.append({"assumption": name, "ratio_at_low": ends[0], "ratio_at_high": ends[1]})

    def spread(row: dict[str, float | str]) -> float:
        return abs(math.log(float(row["ratio_at_high"]) / float(row["ratio_at_low"])))

    return sorted(rows, key=spread, reverse=True)
