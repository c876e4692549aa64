"""Array types of spike attention, and packed spikes as its kernels see them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.packed._words import Words, plane_weights

Spikes = npt.NDArray[np.int8]
State = npt.NDArray[np.int32]
Shifts = npt.NDArray[np.int64]
Sums = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int32]
Memory = npt.NDArray[np.int16] | npt.NDArray[np.int32]

NAME, INSTEAD = "spike_attention", "use trainable_attention"
"""For refusals: of values that MLX does not know yet, and of gradients."""


class Attention(NamedTuple):
    """Result of `spike_attention`."""

    out: Any  # sums, an array like q, k, v (numpy for packed ones), or PackedSpikes
    state: Any  # after the last token


class Planes(NamedTuple):
    """Spike counts of G x H independent streams of L tokens, as bit planes.

    Words (P, G, L, H, W) are C-contiguous and zero beyond `columns`; see `PackedSpikes`.
    """

    words: Words
    levels: int
    signed: bool
    code: str
    columns: int

    @property
    def weights(self) -> tuple[int, ...]:
        """What a set bit of each plane adds to its count."""
        return plane_weights(self.levels, self.signed, self.code)

    @property
    def codes(self) -> npt.NDArray[np.int64]:
        """Of each plane, s for weight 2^s and ~s for -2^s."""
        return _codes(self.levels, self.signed, self.code)


@lru_cache(maxsize=64)
def _codes(levels: int, signed: bool, code: str) -> npt.NDArray[np.int64]:
    weights = plane_weights(levels, signed, code)
    sizes = [abs(weight).bit_length() - 1 for weight in weights]
    signs = zip(weights, sizes, strict=True)
    return np.array([size if weight > 0 else ~size for weight, size in signs], np.int64)


def planes(x: PackedSpikes, groups: int, tokens: int, heads: int = 1) -> Planes:
    """Spikes of G L H rows as streams."""
    count, _, width = x.words.shape
    words = x.words.reshape(count, groups, tokens, heads, width)
    return Planes(words, x.levels, x.signed, x.code, x.shape[-1])
