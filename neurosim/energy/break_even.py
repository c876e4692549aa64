"""Below which spike rate a spiking layer costs less than a dense one.

Both sides are sums of terms at the same prices (`layers`). With one row per weight fetch the
spiking energy is linear in the rate p, E(p) = E(0) + p (E(1) - E(0)), and

    p* = (E_dense - E(0)) / (E(1) - E(0)),

which may exceed 1: then the spiking layer always costs less. With shared fetches it is concave;
the root is found numerically and 1 means always. A negative p* means never.
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy.optimize import brentq

from neurosim.energy.layers import EventOptions, Site, dense_layer, event_layer, routed
from neurosim.energy.terms import joules_of


@dataclass(frozen=True)
class Duel:
    """One fully connected layer, dense once or spiking over `steps` time steps.

    `density`: multiplications of non-zero activations the dense side makes; `weight_density`:
    weights it fetches, where it skips the others; `tokens_per_fetch`: tokens that share a fetch on
    both sides; `temporal_reuse`: the spiking side shares a fetch over its time steps too.
    """

    fan_in: int
    fan_out: int
    steps: int = 1
    density: float = 1.0
    weight_density: float = 1.0
    tokens_per_fetch: float = 1.0
    dense_tokens_per_fetch: float | None = None
    temporal_reuse: bool = False
    options: EventOptions = EventOptions()

    def __post_init__(self) -> None:
        if min(self.fan_in, self.fan_out, self.steps) < 1:
            raise ValueError(f"expected fan_in, fan_out and steps >= 1, got {self}")
        if not (0 < self.density <= 1 and 0 < self.weight_density <= 1):
            raise ValueError(f"expected densities above 0 and at most 1, got {self}")

    @property
    def sharing(self) -> float:
        """Rows (token, time step) that share a fetch on the spiking side."""
        return self.tokens_per_fetch * (self.steps if self.temporal_reuse else 1)

    def dense(self, site: Site) -> float:
        """J of one token through the dense layer."""
        shared = self.dense_tokens_per_fetch or self.tokens_per_fetch
        terms = dense_layer(
            site, self.fan_in, self.fan_out, 1, shared / self.weight_density, self.density
        )
        bits = self.fan_out * site.words.activation_bits
        links = self.options.hops * self.options.destinations
        return joules_of([*terms, *routed(site, "words", bits, links, "value_hop")])

    def spiking(self, site: Site, rate: float) -> float:
        """J of one token through the spiking layer at a spike rate per step."""
        terms = event_layer(
            site, self.fan_in, self.fan_out, rate, self.steps, self.sharing, options=self.options
        )
        return joules_of(terms)

    def break_even(self, site: Site) -> float:
        """The rate at which both cost the same; see the module."""
        dense, silent, full = self.dense(site), self.spiking(site, 0.0), self.spiking(site, 1.0)
        if self.sharing == 1:
            return (dense - silent) / (full - silent)
        if full < dense:
            return 1.0
        if silent > dense:
            return 0.0
        root = brentq(lambda rate: self.spiking(site, rate) - dense, 0.0, 1.0, xtol=1e-15)
        return float(root)


def compute_only(site: Site, steps: int, density: float = 1.0) -> float:
    """Break-even if only arithmetic counted: (e_mul + e_acc) density / (steps e_acc)."""
    multiply, accumulate = (site.prices.price(name).value for name in ("multiply", "accumulate"))
    return (multiply + accumulate) * density / (steps * accumulate)
