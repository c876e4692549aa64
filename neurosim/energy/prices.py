"""Prices: what one counted thing costs, each with its unit, source, evidence class and band."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from neurosim.quantity import Quantity, weakest

PRICE_FILE = Path(__file__).with_name("prices.toml")
DIGITAL = ("digital_45nm", "digital_7nm")
KIBIBYTE = 1024


@dataclass(frozen=True)
class Price:
    """One price of a list. `name` is the assumption behind it: terms of one name vary together."""

    name: str
    quantity: Quantity

    @property
    def value(self) -> float:
        return self.quantity.value


class UnpricedError(ValueError):
    """Something was counted that has no price; a total without it would be wrong."""


@dataclass(frozen=True)
class PriceList:
    """Prices by name. Asking for one that is not there raises `UnpricedError`."""

    entries: Mapping[str, Quantity]

    def __post_init__(self) -> None:
        for name, quantity in self.entries.items():
            if quantity.value < 0:
                raise ValueError(f"price {name}: expected a value >= 0, got {quantity.value}")

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that have no price."""
        return sorted({name for name in names if name not in self.entries})

    def price(self, name: str) -> Price:
        """The price called `name`."""
        if name not in self.entries:
            raise UnpricedError(f"no price for {name}; add it to the chip description")
        return Price(name, self.entries[name])

    def sram(self, capacity_bytes: float) -> Price:
        """J per bit of an access to an SRAM of this capacity: E_ref max(c / c_ref, 1)^a."""
        energy, reference, exponent = (
            self.price(f"sram_{part}").quantity for part in ("energy", "reference", "exponent")
        )
        factor = max(capacity_bytes / reference.value, 1.0) ** exponent.value
        band = energy.band and (energy.band[0] * factor, energy.band[1] * factor)
        source = f"{energy.source}; at {capacity_bytes / KIBIBYTE:.4g} KiB by {exponent.source}"
        evidence = weakest([energy.evidence, exponent.evidence])
        return Price("sram", Quantity(energy.value * factor, "J/bit", source, evidence, band))

    def joined(self, other: Mapping[str, Quantity]) -> PriceList:
        """This list with `other` added; `other` wins where both have a name."""
        return PriceList({**self.entries, **other})


@cache
def _sections(path: Path) -> Mapping[str, Mapping[str, Quantity]]:
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        section: {
            name: Quantity.from_dict(f"{path.name}: {section}.{name}", entry)
            for name, entry in entries.items()
        }
        for section, entries in data.items()
    }


def load_prices(section: str, path: Path = PRICE_FILE) -> PriceList:
    """One section of a price file, e.g. "digital_45nm"."""
    sections = _sections(path)
    if section not in sections:
        raise ValueError(f"{path}: expected one of {', '.join(sections)}, got {section!r}")
    return PriceList(sections[section])
