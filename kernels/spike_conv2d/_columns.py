"""Bit-im2col: the spikes that each output pixel sees, as one packed row.

Row (b, y, x) holds, tap after tap, the channels of the pixels under the kernel, silence outside
the image: kh kw C bits instead of as many floats. Tap k's channel c is bit k C + c, whatever C is.
Lists of set bits are not searched for again in the wider rows: every pixel is listed once, and the
lists of its neighbours are copied with the offset of their tap.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from neurosim.kernels import _simd
from neurosim.kernels._aligned import aligned
from neurosim.kernels._jit import compiled
from neurosim.kernels.packed import Events, PackedSpikes
from neurosim.kernels.packed._words import Words, index_type
from neurosim.kernels.packed.cpu import count_bits
from neurosim.kernels.spike_conv2d._geometry import Geometry, neighbours

_AHEAD = 16  # entries copied at once; lists have room for them behind their end
_H = _simd.Vector("int16", _AHEAD)
_load, _store, _splat, _add = (
    _simd.load(_H),
    _simd.store(_H),
    _simd.splat(_H),
    _simd.binary(_H, "add"),
)


class Columns(PackedSpikes):
    """Spikes (..., H', W', kh kw C) seen by the output pixels of a convolution.

    Words and lists are made when first asked for: few kernels need both.

    Attributes:
        pixels: what the convolution looks at, (..., H, W, C).
        geometry: how.
    """

    pixels: PackedSpikes
    geometry: Geometry

    def __init__(self, pixels: PackedSpikes, geometry: Geometry) -> None:
        shape = (*pixels.shape[:-3], *geometry.output, geometry.taps * pixels.size)
        self.__dict__.update(
            pixels=pixels,
            geometry=geometry,
            shape=shape,
            levels=pixels.levels,
            signed=pixels.signed,
            code=pixels.code,
            time_axis=pixels.time_axis,
        )

    @cached_property
    def words(self) -> Words:
        """uint64, (P, rows, ceil(kh kw C / 64))."""
        words = aligned((len(self), self.rows, -(-self.size // 64)), np.uint64)
        words[:] = 0
        _copy_words(
            self.pixels.words.reshape(-1),
            neighbours(self.geometry),
            self.pixels.size,
            self.pixels.words.shape[2],
            math.prod(self.geometry.size),
            words.reshape(len(self) * self.rows, words.shape[2]),
        )
        words.flags.writeable = False
        return words

    @cached_property
    def density(self) -> float:
        """Share of (row, channel) pairs with a count other than 0."""
        active = count_bits(np.bitwise_or.reduce(self.pixels.words))
        table = neighbours(self.geometry)
        seen = np.bincount(table[table >= 0], minlength=math.prod(self.geometry.size))
        found = int((active.reshape(self.geometry.images, seen.size) @ seen).sum())
        return found / (self.rows * self.size) if self.rows * self.size else 0.0

    @cached_property
    def events(self) -> Events:
        """Event lists of every plane and row."""
        pointer, channels = self.pixels.events
        table = neighbours(self.geometry)
        found = np.empty(len(self) * self.rows + 1, np.int64)
        size, offset = math.prod(self.geometry.size), self.pixels.size
        total = _count(pointer, table, size, found)
        lists = np.empty(total + _AHEAD, index_type(self.size))
        if lists.dtype == np.uint16:
            padded = np.empty(channels.size + _AHEAD, np.uint16)
            padded[: channels.size] = channels
            _copy_lists(pointer, padded, table, size, offset, found, lists)
        else:
            _copy_long_lists(pointer, channels, table, size, offset, found, lists)
        return Events(found, lists[:total])


@compiled
def _copy_words(words: Any, table: Any, channels: int, width: int, size: int, out: Any) -> None:
    """The words of all rows: those of their neighbours, tap k's shifted by k C bits.

    Args:
        words: of the pixels, `width` each, flat; an image has `size` pixels.
        out: zeros, (images H' W', words of a row).
    """
    places, taps = table.shape
    length = out.shape[1]
    flat = out.reshape(-1)
    for image in range(out.shape[0] // places):
        for place in range(places):
            line = (image * places + place) * length
            for tap in range(taps):
                near = table[place, tap]
                if near >= 0:
                    source = (image * size + near) * width
                    at, shift = line + tap * channels // 64, np.uint64(tap * channels % 64)
                    if shift == np.uint64(0):
                        for w in range(width):
                            flat[at + w] = words[source + w]
                    else:
                        for w in range(width):
                            flat[at + w] |= words[source + w] << shift
                            high = words[source + w] >> (np.uint64(64) - shift)
                            if high != np.uint64(0):  # else it may lie beyond the row
                                flat[at + w + 1] |= high


@compiled
def _count(pointer: Any, table: Any, size: int, found: Any) -> Any:
    """Fill the pointers of the rows' lists, of all images and planes; how many entries they have.

    Args:
        pointer: of the lists of the pixels, `size` to an image.
        found: (images H' W' + 1,).
    """
    places, taps = table.shape
    images = (found.shape[0] - 1) // places
    total = np.int64(0)
    row = 0
    for image in range(images):
        for place in range(places):
            found[row] = total
            row += 1
            for tap in range(taps):
                near = table[place, tap]
                if near >= 0:
                    pixel = image * size + near
                    total += pointer[pixel + 1] - pointer[pixel]
    found[row] = total
    return total


@compiled
def _copy_lists(
    pointer: Any, channels: Any, table: Any, size: int, offset: int, found: Any, lists: Any
) -> None:
    """The lists of all rows: those of their neighbours, tap k's entries plus k offset.

    Sixteen entries at a time; what is copied too much is overwritten by the next list.
    """
    places, taps = table.shape
    images = (found.shape[0] - 1) // places
    for image in range(images):
        for place in range(places):
            at = found[image * places + place]
            for tap in range(taps):
                near = table[place, tap]
                if near >= 0:
                    start, stop = pointer[image * size + near], pointer[image * size + near + 1]
                    shift = _splat(np.int64(tap * offset))
                    for event in range(start, stop, _AHEAD):
                        _store(lists, at + event - start, _add(_load(channels, event), shift))
                    at += stop - start


@compiled
def _copy_long_lists(
    pointer: Any, channels: Any, table: Any, size: int, offset: int, found: Any, lists: Any
) -> None:
    """The same where entries need 32 bits."""
    places, taps = table.shape
    images = (found.shape[0] - 1) // places
    for image in range(images):
        for place in range(places):
            at = found[image * places + place]
            for tap in range(taps):
                near = table[place, tap]
                if near >= 0:
                    pixel = image * size + near
                    for event in range(pointer[pixel], pointer[pixel + 1]):
                        lists[at] = np.int64(channels[event]) + tap * offset
                        at += 1
