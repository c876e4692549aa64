"""Weights of a linear layer as integers with one float scale per output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import host
from neurosim.kernels.count_linear import _codes

GROUP = _codes.GROUP
"""Inputs that share a multiplier, 4 bits."""
_BLOCK = 1 << 22  # weights that are converted at a time


@dataclass(frozen=True, eq=False, repr=False)
class IntegerWeight:
    """Weights (O, I), integer * scale; made by `quantise`, or of codes from a file.

    bits  integers                                 codes
    8     -127..127                                int8 (O, I), as they are
    4     w m, w -7..7, m 1..63 for 32 inputs      uint8 (O, 16 G), w + 8 in half a byte

    With 4 bits the inputs are in G = ceil(I / 32) groups; those beyond I are zeros (half-bytes 8).
    Groups lie in blocks of 16, the rest in blocks of 8, 4, 2 and 1, so that vectors hold whole
    blocks: 32-bit word q r + j of a block of r groups holds inputs 8 q .. 8 q + 7 of its group j,
    byte t input 8 q + t in its low half and input 8 q + 4 + t in its high half.

    Attributes:
        codes: C-contiguous; read-only and memory-mapped arrays are used in place.
        scale: float32 (O,), positive and finite.
        bits: 8 or 4.
        shape: (O, I).
        multiplier: m, uint8 (O, G), for 4 bits; None for 8.
    """

    codes: npt.NDArray[Any]
    scale: npt.NDArray[np.float32]
    bits: int
    shape: tuple[int, int]
    multiplier: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.bits not in (8, 4):
            raise ValueError(f"expected 8 or 4 bits, got {self.bits}")
        outputs, inputs = (int(n) for n in self.shape)
        object.__setattr__(self, "shape", (outputs, inputs))
        kind = np.dtype(np.int8 if self.bits == 8 else np.uint8)
        width = inputs if self.bits == 8 else GROUP // 2 * self.groups
        _check_array("codes", self.codes, kind, (outputs, width))
        _check_array("a scale", self.scale, np.dtype(np.float32), (outputs,))
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise ValueError("expected positive finite scales")
        if self.bits == 8:
            if self.multiplier is not None:
                raise ValueError("expected no multiplier for 8 bits")
            if not _codes.bytes_in_range(self.codes):
                raise ValueError("expected codes -127..127, got -128")
            return
        if self.multiplier is None:
            raise ValueError("expected a multiplier for 4 bits, got None")
        _check_array("a multiplier", self.multiplier, np.dtype(np.uint8), (outputs, self.groups))
        if self.multiplier.size and not 1 <= self.multiplier.min() <= self.multiplier.max() <= 63:
            raise ValueError(
                f"expected multipliers 1..63, got {self.multiplier.min()}..{self.multiplier.max()}"
            )
        if not _codes.halves_in_range(self.codes):
            raise ValueError("expected half-bytes 1..15 for codes -7..7, got 0")

    @classmethod
    def quantise(cls, weight: npt.ArrayLike, bits: int = 8) -> IntegerWeight:
        """Nearest integers to float weights (O, I).

        8 bits: scale = max |weight| / 127 over the inputs of an output. 4 bits: scale = max
        |weight| / (7 * 63), and for each group of 32 the multiplier with the least squared error
        among those from 0.6 to 1 times the one that just holds the group's largest weight.
        An output of zeros has scale 1. Rows are converted a few at a time.
        """
        values: Any = host(weight)
        if bits not in (8, 4):
            raise ValueError(f"expected 8 or 4 bits, got {bits}")
        if values.ndim != 2 or values.dtype.kind not in "fiu":
            raise ValueError(f"expected weights of shape (O, I), got {values.dtype} {values.shape}")
        outputs, inputs = (int(n) for n in values.shape)
        groups = -(-inputs // GROUP)
        scale = np.ones(outputs, np.float32)
        codes: npt.NDArray[Any] = np.empty((outputs, inputs), np.int8)
        multiplier = None
        if bits == 4:
            codes = np.empty((outputs, groups * GROUP // 2), np.uint8)
            multiplier = np.ones((outputs, groups), np.uint8)
        step = max(1, _BLOCK // max(inputs, 1))
        for first in range(0, outputs, step):
            rows = slice(first, first + step)
            with np.errstate(over="ignore"):
                block = np.ascontiguousarray(values[rows], np.float32)
            if multiplier is None:
                finite = _codes.quantise_bytes(block, codes[rows], scale[rows])
            else:
                finite = _codes.quantise_halves(block, codes[rows], multiplier[rows], scale[rows])
            if not finite:
                raise ValueError("expected finite weights of float32's range, got NaN or infinity")
        return cls(codes, scale, bits, (outputs, inputs), multiplier)

    @property
    def groups(self) -> int:
        """G, the groups of 32 inputs, the last perhaps not full."""
        return -(-self.shape[1] // GROUP)

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and multipliers."""
        more = 0 if self.multiplier is None else self.multiplier.nbytes
        return self.codes.nbytes + self.scale.nbytes + more

    def integers(self) -> npt.NDArray[np.int16]:
        """The integers without their scale, (O, I)."""
        return self._integers(np.arange(self.shape[0]))

    def dequantise(self, rows: npt.ArrayLike | None = None) -> npt.NDArray[np.float32]:
        """float32 weights: all (O, I), or those of some outputs, as `rows`."""
        return self.rows(np.arange(self.shape[0]) if rows is None else rows)

    def rows(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """float32 weights of outputs 0..O - 1, ids (...) -> (..., I): an embedding's look-up."""
        chosen = np.asarray(ids)
        if chosen.size and chosen.dtype.kind not in "iu":
            raise ValueError(f"expected whole row numbers, got {chosen.dtype}")
        flat = chosen.reshape(-1).astype(np.int64)
        outputs, inputs = self.shape
        if flat.size and not 0 <= flat.min() <= flat.max() < outputs:
            raise ValueError(
                f"expected rows from 0 to {outputs - 1}, got {flat.min()} to {flat.max()}"
            )
        out = np.empty((flat.size, inputs), np.float32)
        step = max(1, _BLOCK // max(inputs, 1))
        for first in range(0, flat.size, step):
            some = flat[first : first + step]
            np.multiply(self._integers(some), self.scale[some, None], out=out[first : first + step])
        return out.reshape(*chosen.shape, inputs)

    def _integers(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int16]:
        if self.multiplier is None:
            return self.codes[rows].astype(np.int16)
        return _codes.integers(self.codes[rows], self.multiplier[rows], self.shape[1])

    def __repr__(self) -> str:
        return f"IntegerWeight{self.shape} {self.bits} bits, {self.nbytes} bytes"


def _check_array(name: str, array: Any, kind: np.dtype[Any], shape: tuple[int, ...]) -> None:
    if (
        not isinstance(array, np.ndarray)
        or array.dtype != kind
        or array.shape != shape
        or not array.flags.c_contiguous
    ):
        got = f"{getattr(array, 'dtype', type(array).__name__)} {getattr(array, 'shape', '')}"
        raise ValueError(f"expected {name} C-contiguous {kind.name} {shape}, got {got}")
