"""Energy of one token as a sum of terms, each an exact amount times a price or an integral."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from neurosim.energy.prices import Price
from neurosim.quantity import weakest


@dataclass(frozen=True)
class Term:
    """One line of the account, per token.

    `amount` of `what` (a count, bits, tile-windows) times the product of `prices`; no prices means
    that the simulator integrated `joules` itself.
    """

    layer: str
    node: str
    mechanism: str
    what: str
    amount: float
    prices: tuple[Price, ...]
    joules: float
    evidence: str

    @property
    def kind(self) -> str:
        """Counts are counted; every joule here is modelled, by a price or by an integral."""
        return "modelled: integrated" if not self.prices else "modelled: count x price"


def priced(layer: str, node: str, mechanism: str, what: str, amount: float, *prices: Price) -> Term:
    """amount x the product of the prices, J."""
    joules = amount * math.prod(price.value for price in prices)
    evidence = weakest([price.quantity.evidence for price in prices])
    return Term(layer, node, mechanism, what, amount, prices, joules, evidence)


def integrated(layer: str, node: str, mechanism: str, joules: float, evidence: str) -> Term:
    """Energy that the simulator integrated, J per token."""
    return Term(layer, node, mechanism, "integral of v i", joules, (), joules, evidence)


def _grouped(terms: Iterable[Term], key: Callable[[Term], str]) -> dict[str, list[Term]]:
    groups: dict[str, list[Term]] = {}
    for term in terms:
        groups.setdefault(key(term), []).append(term)
    return groups


def joules_of(terms: Iterable[Term]) -> float:
    """Exactly rounded sum, the same in any order."""
    return math.fsum(term.joules for term in terms)


@dataclass(frozen=True)
class Breakdown:
    """Energy of one token: terms, and their sums by mechanism and by layer, in joule."""

    terms: tuple[Term, ...]
    seconds_per_token: float

    @property
    def total(self) -> float:
        return joules_of(self.terms)

    @property
    def evidence(self) -> str:
        """The weakest evidence class of all terms that have an amount."""
        return weakest([term.evidence for term in self.terms if term.amount > 0] or ["derived"])

    def of(self, mechanism: str) -> float:
        """One mechanism, over all layers."""
        return joules_of(term for term in self.terms if term.mechanism == mechanism)

    def by_mechanism(self) -> dict[str, float]:
        groups = _grouped(self.terms, lambda term: term.mechanism)
        return {name: joules_of(terms) for name, terms in groups.items()}

    def by_layer(self) -> dict[str, float]:
        groups = _grouped(self.terms, lambda term: term.layer)
        return {name: joules_of(terms) for name, terms in groups.items()}

    def by_layer_and_mechanism(self) -> dict[str, dict[str, float]]:
        """layer -> mechanism -> J."""
        return {
            layer: {
                name: joules_of(part)
                for name, part in _grouped(terms, lambda term: term.mechanism).items()
            }
            for layer, terms in _grouped(self.terms, lambda term: term.layer).items()
        }

    def evidence_by_mechanism(self) -> dict[str, str]:
        groups = _grouped(self.terms, lambda term: term.mechanism)
        return {name: weakest([term.evidence for term in terms]) for name, terms in groups.items()}

    def prices(self) -> dict[str, Price]:
        """Assumption name -> a price that rests on it (the first one used)."""
        result: dict[str, Price] = {}
        for term in self.terms:
            for price in term.prices:
                result.setdefault(price.name, price)
        return result

    def __repr__(self) -> str:
        return f"Breakdown({self.total:.4g} J/token, {len(self.terms)} terms, {self.evidence})"
