"""Words by head: where a head's channels are no whole words, they are shifted to start one."""

from __future__ import annotations

import numpy as np

from neurosim.kernels._jit import compiled
from neurosim.kernels.packed._words import Words, new_words


def split(words: Words, heads: int, size: int) -> Words:
    """Words (P, R, W) of `heads` x `size` channels as (P, R, heads, ceil(size / 64))."""
    planes, rows, _ = words.shape
    shape = planes, rows, heads, -(-size // 64)
    if size % 64 == 0:
        return words.reshape(shape)
    out = new_words(shape)
    _split(
        words.reshape(planes * rows, words.shape[2]), size, out.reshape(planes * rows, *shape[2:])
    )
    out.flags.writeable = False  # like the words of PackedSpikes: the same compiled kernels
    return out


def merge(words: Words, size: int) -> Words:
    """Words (P, R, heads, ceil(size / 64)) as (P, R, ceil(heads size / 64))."""
    planes, rows, heads, width = words.shape
    shape = planes, rows, -(-heads * size // 64)
    if size % 64 == 0:
        return words.reshape(shape)
    out = new_words(shape)
    out[:] = 0
    _merge(words.reshape(planes * rows, heads, width), size, out.reshape(planes * rows, shape[2]))
    return out


@compiled
def _split(words: Words, size: int, out: Words) -> None:
    rows, heads, width = out.shape
    for r in range(rows):
        for h in range(heads):
            for w in range(width):
                first, bits = h * size + 64 * w, min(64, size - 64 * w)
                at, shift = first // 64, first % 64
                word = words[r, at] >> np.uint64(shift)
                if shift + bits > 64:
                    word |= words[r, at + 1] << np.uint64(64 - shift)
                if bits < 64:
                    word &= (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
                out[r, h, w] = word


@compiled
def _merge(words: Words, size: int, out: Words) -> None:
    rows, heads, width = words.shape
    for r in range(rows):
        for h in range(heads):
            for w in range(width):
                first, bits = h * size + 64 * w, min(64, size - 64 * w)
                at, shift = first // 64, first % 64
                out[r, at] |= words[r, h, w] << np.uint64(shift)
                if shift + bits > 64:
                    out[r, at + 1] |= words[r, h, w] >> np.uint64(64 - shift)
