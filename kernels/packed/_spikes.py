"""The packed spike tensor, with the forms the kernels derive from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neurosim.kernels._checks import type_of
from neurosim.kernels.packed import cpu
from neurosim.kernels.packed._words import Index, Words, plane_weights

_CODES = ("thermometer", "bits")


class Events(NamedTuple):
    """Set bits of every plane and row; row r of plane p is list p R + r.

    List i is `channels[pointer[i] : pointer[i + 1]]`, ascending.
    """

    pointer: npt.NDArray[np.int64]  # (P R + 1,)
    channels: Index  # uint16 up to 65,536 channels, else int32


class Patterns(NamedTuple):
    """Channels by their spikes in four rows: four steps of one token where time is innermost.

    Group g of plane p is rows 4 g .. 4 g + 3. Pattern b = 1..15 has bit i set where row 4 g + i
    has a spike. Its channels, ascending, are list i = 15 (p R / 4 + g) + b - 1:
    `channels[pointer[i] : pointer[i + 1]]`. Channels silent in all four rows are in no list.
    """

    pointer: npt.NDArray[np.int64]  # (15 P R / 4 + 1,)
    channels: Index  # uint16 up to 65,536 channels, else int32


def check_code(levels: int, code: str) -> None:
    """Refuse what cannot be packed."""
    if not isinstance(levels, Integral) or not 1 <= levels <= 127:
        raise ValueError(f"expected 1 to 127 levels (int8 counts), a whole number, got {levels!r}")
    if code not in _CODES:
        raise ValueError(f"expected code {' or '.join(_CODES)}, got {code!r}")


def check_time_axis(axis: int | None, shape: tuple[int, ...]) -> None:
    """Refuse an axis that is not one of the leading ones."""
    if axis is not None and not (isinstance(axis, Integral) and 0 <= axis < len(shape) - 1):
        raise ValueError(f"expected a time axis 0..{len(shape) - 2} of {shape}, got {axis!r}")


@dataclass(frozen=True, eq=False, repr=False)
class PackedSpikes:
    """Spikes of shape (..., D), one bit per neuron and plane; made by `pack`.

    A count is the sum of `plane_weights` over the planes in which its bit is set. Thermometer code:
    plane d is set where the count exceeds d (weight 1 each). Bit code: plane b is bit b of the
    count (weight 2^b). With `signed`, as many planes for negative counts follow (negative weights).
    Binary is one plane, ternary is two.

    Rows are the leading axes in C order. Spikes of T steps come as (T, ..., D) from `lif_scan`, so
    one token's steps lie far apart; `token_major` gives (..., T, D), where rows T k .. T k + T - 1
    are the steps of token k (4 k .. 4 k + 3 for T = 4), as `patterns` and fused kernels want them.

    Bit i of word w is channel 64 w + i; bits beyond D are zero, and kernels rely on it. The words
    become read-only here, because what is derived from them is kept.

    Attributes:
        words: uint64, (P, R, ceil(D / 64)), C-contiguous; R is the product of the leading axes.
        shape: (..., D).
        levels: the largest count, 1..127.
        signed: counts -levels..levels instead of 0..levels.
        code: "thermometer" or "bits".
        time_axis: which of the leading axes is time, from 0; None if there is none.
    """

    words: Words
    shape: tuple[int, ...]
    levels: int = 1
    signed: bool = False
    code: str = "thermometer"
    time_axis: int | None = None

    def __post_init__(self) -> None:
        check_code(self.levels, self.code)
        if not self.shape:
            raise ValueError("expected spikes of shape (..., D), got a scalar; add an axis")
        check_time_axis(self.time_axis, self.shape)
        expected = (len(self.plane_weights), self.rows, -(-self.shape[-1] // 64))
        words = self.words
        if not isinstance(words, np.ndarray):  # compiled code reads it where it lies
            raise ValueError(f"expected words as a numpy array, got {type(words).__name__}")
        if words.dtype != np.uint64 or words.shape != expected or not words.flags.c_contiguous:
            raise ValueError(
                f"expected C-contiguous uint64 words of shape {expected} for spikes {self.shape}, "
                f"got {words.dtype} {words.shape}"
            )
        used = self.shape[-1] % 64
        if used and (words[..., -1] >> np.uint64(used)).any():
            raise ValueError(f"expected zeros beyond channel {self.shape[-1]}, got set bits")
        self._check_planes()
        words.flags.writeable = False

    @classmethod
    def trusted(
        cls,
        words: Words,
        shape: tuple[int, ...],
        levels: int = 1,
        signed: bool = False,
        code: str = "thermometer",
        time_axis: int | None = None,
    ) -> PackedSpikes:
        """The same without any check, for kernels whose words are right by construction."""
        spikes = object.__new__(cls)
        held = spikes.__dict__  # the class is frozen; and item by item is the quickest
        held["words"], held["shape"], held["levels"] = words, shape, levels
        held["signed"], held["code"], held["time_axis"] = signed, code, time_axis
        words.setflags(write=False)
        return spikes

    def _check_planes(self) -> None:
        """Refuse planes that no count gives."""
        half = len(self.plane_weights) // (1 + self.signed)
        sides = self.words.reshape(1 + self.signed, half, *self.words.shape[1:])
        if self.signed and (np.bitwise_or.reduce(sides[0]) & np.bitwise_or.reduce(sides[1])).any():
            raise ValueError("expected each neuron on the positive or the negative side, got both")
        if self.code == "thermometer":
            if (sides[:, 1:] & ~sides[:, :-1]).any():
                raise ValueError("expected thermometer planes, each inside the one before it")
        elif self.levels + 1 < 1 << half:
            counts = np.abs(self.unpack())
            if counts.max(initial=0) > self.levels:
                raise ValueError(f"expected counts up to {self.levels}, got {counts.max()}")

    def __repr__(self) -> str:
        low = -self.levels if self.signed else 0
        return f"PackedSpikes{self.shape} {low}..{self.levels}, {self.code}, {len(self)} planes"

    def __len__(self) -> int:
        return len(self.plane_weights)

    @property
    def size(self) -> int:
        """D, the neurons of a row."""
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """R, the product of the leading axes."""
        return math.prod(self.shape[:-1])

    @property
    def plane_weights(self) -> tuple[int, ...]:
        """What a set bit of each plane adds to its count, (P,)."""
        return plane_weights(self.levels, self.signed, self.code)

    @property
    def _flat(self) -> Words:
        """Planes and rows as one axis."""
        return self.words.reshape(len(self) * self.rows, self.words.shape[2])

    def unpack(self, dtype: npt.DTypeLike = np.int8) -> npt.NDArray[np.number]:
        """Counts (..., D); signed ones in signed types only."""
        wanted = type_of(dtype)
        if wanted.kind not in "biuf" or (self.signed and wanted.kind == "u"):
            raise ValueError(
                f"expected a {'signed ' * self.signed}number type for {self!r}, got {wanted}"
            )
        kind = np.float32 if wanted.kind == "f" and wanted.itemsize >= 4 else np.int8
        counts = cpu.unpack(self.words, self.levels, self.signed, self.code, self.size, kind)
        if wanted == np.bool_ and len(self) == 1:
            counts = counts.view(np.bool_)
        return counts.reshape(self.shape).astype(wanted, copy=False)

    @cached_property
    def events(self) -> Events:
        """Event lists of every plane and row."""
        return Events(*cpu.events(self._flat, self.size))

    @cached_property
    def patterns(self) -> Patterns:
        """Channels of every four rows by their pattern; take those of `token_major`."""
        if self.rows % 4:
            raise ValueError(f"expected rows in groups of 4, got {self.rows} rows; use events")
        return Patterns(*cpu.patterns(self._flat, self.size))

    @cached_property
    def token_major(self) -> PackedSpikes:
        """The same spikes with time as the last of the leading axes, (..., T, D)."""
        axis, last = self._time_axis(), len(self.shape) - 2
        if axis == last:
            return self
        shape = (*self.shape[:axis], *self.shape[axis + 1 : -1], self.shape[axis], self.size)
        before = len(self) * math.prod(self.shape[:axis])
        after = math.prod(self.shape[axis + 1 : -1])
        words = self.words.reshape(before, self.shape[axis], after, self.words.shape[2])
        return self._reordered(words, shape, last)

    @cached_property
    def time_major(self) -> PackedSpikes:
        """The same spikes with time first, (T, ..., D)."""
        axis = self._time_axis()
        if axis == 0:
            return self
        shape = (self.shape[axis], *self.shape[:axis], *self.shape[axis + 1 :])
        before = math.prod(self.shape[:axis])
        width = math.prod(self.shape[axis + 1 : -1]) * self.words.shape[2]
        words = self.words.reshape(len(self), before, self.shape[axis], width)
        return self._reordered(words, shape, 0)

    def _time_axis(self) -> int:
        if self.time_axis is None:
            raise ValueError("expected spikes with a time axis, got None; give time_axis= to pack")
        return self.time_axis

    def _reordered(self, words: Words, shape: tuple[int, ...], axis: int) -> PackedSpikes:
        """With the second and third axis of words swapped."""
        moved = cpu.swapped(words).reshape(self.words.shape)
        return PackedSpikes.trusted(moved, shape, self.levels, self.signed, self.code, axis)

    @cached_property
    def transposed(self) -> PackedSpikes:
        """The same spikes as (D, R)."""
        words = cpu.transpose(self.words, self.size)
        shape = (self.size, self.rows)
        return PackedSpikes.trusted(words, shape, self.levels, self.signed, self.code)

    @cached_property
    def row_counts(self) -> npt.NDArray[np.int64]:
        """Spikes of every row, counts without their sign, (R,)."""
        bits = cpu.count_bits(self._flat)
        weights = np.abs(np.array(self.plane_weights, np.int64))
        return np.asarray(weights @ bits.reshape(len(self), self.rows))

    @property
    def channel_counts(self) -> npt.NDArray[np.int64]:
        """Spikes of every channel, counts without their sign, (D,)."""
        return self.transposed.row_counts

    @property
    def count(self) -> int:
        """All spikes, counts without their sign."""
        return int(self.row_counts.sum())

    @cached_property
    def density(self) -> float:
        """Share of neurons with a count other than 0; 0 where there are no neurons."""
        active = self.words[0] if len(self) == 1 else np.bitwise_or.reduce(self.words)
        neurons = self.rows * self.size
        return cpu.total(active) / neurons if neurons else 0.0

    @property
    def rate(self) -> float:
        """Mean count without its sign: the firing rate of energy formulas; may exceed 1."""
        neurons = self.rows * self.size
        return self.count / neurons if neurons else 0.0
