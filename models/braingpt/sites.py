"""What a model's neurons did: every count of every site, or only the sums of events.

Sites are named as in the published golden data: `embed.post`, `L{l}.{q,k,v,o,gate,up,down}_proj`
with `.pre` and `.post`. Projections that share an input (q, k, v; gate, up) report the same counts
each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from neurosim.kernels import event_counts

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
EVENT_CODES = ("unary", "bit_plane", "signed_digit", "graded")


class Listener(Protocol):
    """Told about every quantisation while a model runs."""

    def site(
        self, name: str, counts: npt.NDArray[np.int8], scale: npt.NDArray[Any], fan_out: int
    ) -> None:
        """Counts (..., N) of a site, their scale, and the targets of each input (0: none)."""


def site_names(layers: int) -> list[str]:
    """Every site, in the order of the forward pass."""
    pairs = [(i, name) for i in range(layers) for name in PROJECTIONS]
    return ["embed.post"] + [f"L{i}.{name}.{side}" for i, name in pairs for side in ("pre", "post")]


@dataclass
class SiteRecord:
    """Keeps the last pass: `counts[site]` (..., N) int8 and `scales[site]`.

    The compiled engine passes over prompts of more than 256 tokens in pieces, NumPy and MLX in one.
    """

    counts: dict[str, npt.NDArray[np.int8]] = field(default_factory=dict)
    scales: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    fan_outs: dict[str, int] = field(default_factory=dict)

    def site(
        self, name: str, counts: npt.NDArray[np.int8], scale: npt.NDArray[Any], fan_out: int
    ) -> None:
        """Keep copies: the arrays may be used again for the next layer."""
        self.counts[name] = np.array(counts)
        self.scales[name] = np.array(scale)
        self.fan_outs[name] = fan_out


@dataclass
class EventCounter:
    """Sums events: exact integers, over everything run while it listens.

    Attributes:
        events: site -> code -> events.
        operations: code -> synaptic operations (events times fan-out).
        elements: site -> neurons times tokens.
        multiply_accumulates: of the same products in an ANN.
    """

    events: dict[str, dict[str, int]] = field(default_factory=dict)
    elements: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EVENT_CODES, 0))
    multiply_accumulates: int = 0

    def site(
        self, name: str, counts: npt.NDArray[np.int8], scale: npt.NDArray[Any], fan_out: int
    ) -> None:
        """Add the events of one quantisation."""
        sums = {code: int(total) for code, total in event_counts(counts, axis=None).items()}
        known = self.events.setdefault(name, dict.fromkeys(EVENT_CODES, 0))
        for code in EVENT_CODES:
            known[code] += sums[code]
            self.operations[code] += sums[code] * fan_out
        self.elements[name] = self.elements.get(name, 0) + counts.size
        self.multiply_accumulates += counts.size * fan_out

    def per_mac(self) -> dict[str, float]:
        """Synaptic operations for every multiply-accumulate of the ANN, by code."""
        macs = self.multiply_accumulates
        return {code: total / macs if macs else 0.0 for code, total in self.operations.items()}
