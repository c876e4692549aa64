"""Choosing the next token from logits; runs on the host, outside the energy boundary."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Sampler:
    """Softmax sampling at `temperature`; 0 takes the largest.

    Only the `top_k` largest logits are drawn from (0: all), and of those the fewest whose
    probabilities reach `top_p` (nucleus sampling, Holtzman et al. 2020; 1: all). `banned` is never
    chosen (end-of-text, so that exactly as many tokens come as were asked for; None: nothing is).
    """

    temperature: float = 0.7
    top_k: int = 20
    banned: int | None = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                "expected temperature >= 0, top_k >= 0 (0: all) and 0 < top_p <= 1, got "
                f"{self.temperature}, {self.top_k} and {self.top_p}"
            )

    def choose(self, logits: npt.NDArray[np.floating], generator: np.random.Generator) -> int:
        """The next token for logits (V,) in nats."""
        logits = logits.copy()
        if self.banned is not None:
            logits[self.banned] = -np.inf
        if self.temperature == 0:
            return int(np.argmax(logits))
        best = self._best(logits)
        weights = np.exp((logits[best].astype(np.float64) - logits[best[0]]) / self.temperature)
        shares = weights / weights.sum()
        if self.top_p < 1:
            kept = int(np.searchsorted(np.cumsum(shares), self.top_p)) + 1
            best, shares = best[:kept], shares[:kept] / shares[:kept].sum()
        return int(generator.choice(best, p=shares))

    def _best(self, logits: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        """Tokens to draw from, largest logit first, the lower id first among equals."""
        count = self.top_k if 0 < self.top_k < len(logits) else len(logits)
        candidates = np.arange(len(logits))
        if count < len(logits):  # sorting a vocabulary takes longer than a small model's token
            least = np.partition(logits, len(logits) - count)[len(logits) - count]
            candidates = np.flatnonzero(logits >= least)
        order = np.argsort(-logits[candidates], kind="stable")
        return np.asarray(candidates[order][:count])
