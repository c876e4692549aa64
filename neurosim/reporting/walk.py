"""A text through the model on a chip, counted token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.chip.description import ChipDescription
from neurosim.chip.placement import Placement
from neurosim.energy.counts import PhaseCounts, combined
from neurosim.events.engine import Simulator
from neurosim.network import Network

Tell = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Walk:
    """What every token of a text did: `each[p]` are the counts of the token at position p.

    `spikes`: bank -> (T, N) signed counts per window. `trained`: the context the model knows; a
    longer one takes the counts of the last tokens measured and is marked as extrapolated.
    """

    network: Network
    placement: Placement
    each: tuple[PhaseCounts, ...]
    spikes: Mapping[str, npt.NDArray[np.int8]]
    trained: int
    decoded: int
    """Tokens that one decode figure is the mean of."""

    def extrapolated(self, context: int) -> bool:
        """Whether a context is longer than what was measured."""
        return context > self.trained

    def decode(self, context: int) -> PhaseCounts:
        """Tokens that attend to `context` tokens and the few after them."""
        first = min(context, self.trained) - 1
        return combined(self.each[first : first + self.decoded])

    def prefill(self, context: int) -> PhaseCounts:
        """The first `context` tokens; longer ones repeat the measured text."""
        if context <= self.trained:
            return combined(self.each[:context])
        return combined(self.each[: self.trained], -(-context // self.trained))


def check_contexts(contexts: Sequence[int]) -> tuple[int, ...]:
    """Ascending, each once."""
    if not contexts or any(isinstance(c, bool) or c < 1 for c in contexts):
        raise ValueError(f"expected contexts of at least one token, got {list(contexts)}")
    return tuple(sorted(set(contexts)))


def walk(
    network: Network,
    chip: ChipDescription,
    text: npt.NDArray[np.integer],
    contexts: Sequence[int],
    trained: int,
    decoded: int = 16,
    seed: int = 0,
    tell: Tell = lambda done, total: None,
) -> Walk:
    """Run as much of `text` as the contexts need, at most the trained context and a few more.

    Raises:
        ValueError: a text too short for the contexts.
    """
    longest = min(max(check_contexts(contexts)), trained)
    needed = longest + decoded - 1
    if decoded < 1 or len(text) < needed:
        raise ValueError(
            f"expected decoded >= 1 and a text of at least {needed} tokens for a context of "
            f"{longest}, got {decoded} and {len(text)} tokens; give a longer text"
        )
    simulator = Simulator(network, chip, seed)
    for position, token in enumerate(text[:needed].tolist()):
        simulator.begin(f"token {position}")
        simulator.step(token)
        tell(position + 1, needed)
    run = simulator.run()
    each = tuple(run.phases[f"token {position}"] for position in range(needed))
    return Walk(network, simulator.placement, each, run.spikes, longest, decoded)
