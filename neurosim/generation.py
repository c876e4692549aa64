"""Choosing the next token from the chip's logits; runs on the host, outside the energy boundary."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Sampler:
    """Softmax sampling at `temperature` among the `top_k` largest logits; 0 takes the largest.

    `banned` is never chosen (end-of-text, so that exactly as many tokens come as were asked for).
    """

    temperature: float = 0.7
    top_k: int = 20
    banned: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf or self.top_k < 1:
            raise ValueError(
                f"expected temperature >= 0 and top_k >= 1, got {self.temperature} and {self.top_k}"
            )

    def choose(self, logits: npt.NDArray[np.float64], generator: np.random.Generator) -> int:
        """The next token for logits (V,) in nats."""
        logits = logits.copy()
        logits[self.banned] = -np.inf
        if self.temperature == 0:
            return int(np.argmax(logits))
        best = np.argsort(-logits, kind="stable")[: self.top_k]
        weights = np.exp((logits[best] - logits[best[0]]) / self.temperature)
        return int(generator.choice(best, p=weights / weights.sum()))
