"""A recurrent spiking language model (SpikeGPT) and its twins on a digital accelerator.

Per layer of width d: four d x d matrices in the time mix (key, value, receptance, output) and
d x 4d, d x d, 4d x d in the channel mix: 13 d^2 weights. Element-wise work per channel and layer
(energy-and-language-models.md 1.6): 28 multiplies, 29 additions, 8 comparisons, 7 special
functions; an inverse root for each of two norms. State: 7 d values a layer, whatever the context.
The head is a real-valued d x V product on every variant.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurosim.energy.layers import Site, Words, dense_layer, event_layer
from neurosim.energy.prices import PriceList
from neurosim.energy.terms import Breakdown, Term

_WORK = {"multiply": 28, "accumulate": 29, "compare": 8, "special_function": 7}
_NORM = {"multiply": 3, "accumulate": 4}
_STATE_VALUES = 7


@dataclass(frozen=True)
class RecurrentSizes:
    """A SpikeGPT in numbers: layers L, width d, vocabulary V."""

    layers: int
    width: int
    vocabulary: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"expected {name} >= 1, got {value}")

    @property
    def matrices(self) -> tuple[tuple[str, int, int], ...]:
        """(name, fan-in, fan-out) of a layer's matrices."""
        width = self.width
        return (
            *((f"att.{name}", width, width) for name in ("key", "value", "receptance", "output")),
            ("ffn.key", width, 4 * width),
            ("ffn.receptance", width, width),
            ("ffn.value", 4 * width, width),
        )

    @property
    def weights(self) -> int:
        """Weights of all matrices and the head; the embedding is a look-up."""
        return 13 * self.layers * self.width**2 + self.width * self.vocabulary

    @property
    def state_values(self) -> int:
        """Values of the streaming state."""
        return _STATE_VALUES * self.layers * self.width


def _work(site: Site, amounts: dict[str, int]) -> list[Term]:
    return [
        site.term("elementwise", name, count, site.prices.price(name))
        for name, count in amounts.items()
    ]


def recurrent_token_energy(
    sizes: RecurrentSizes,
    prices: PriceList,
    words: Words,
    rate: float | None = None,
    seconds_per_token: float = 0.0,
) -> Breakdown:
    """Energy of one decoded token, batch 1; without routing, control and static power.

    `rate`: spike probability at the input of every matrix, one time step a token ("spike input");
    None: real-valued inputs, as the released code computes, which is also the non-spiking twin.
    The embedding row is read from where the weights are (`words.weight_level`); the state at
    `words.activation_level`, words of `words.state_bits`.
    """
    terms: list[Term] = []
    table = Site("embedding", "embedding", prices, words)
    row = sizes.width * words.activation_bits
    terms.append(table.moved("embedding", "words", row, words.weight_level))
    terms += _work(table, {name: count * sizes.width for name, count in _NORM.items()})
    near = Words(words.weight_bits, words.activation_bits, words.state_bits, words.weight_level)
    for layer in range(sizes.layers):
        where = f"block {layer}"
        for name, fan_in, fan_out in sizes.matrices:
            node = f"blocks.{layer}.{name}"
            if rate is None:
                terms += dense_layer(Site(where, node, prices, words), fan_in, fan_out)
            else:
                terms += event_layer(Site(where, node, prices, near), fan_in, fan_out, rate)
        site = Site(where, where, prices, words)
        bits = 2 * _STATE_VALUES * sizes.width * words.state_bits
        terms.append(site.moved("recurrent state", "values", bits, words.activation_level))
        work = {name: count * sizes.width for name, count in _WORK.items()}
        work["special_function"] += 2
        terms += _work(site, work)
    head = Site("head", "head", prices, words)
    terms += dense_layer(head, sizes.width, sizes.vocabulary)
    terms += _work(head, {name: count * sizes.width for name, count in _NORM.items()})
    terms += _work(head, {"special_function": 2})  # the inverse roots of the first and last norm
    return Breakdown(tuple(terms), seconds_per_token)
