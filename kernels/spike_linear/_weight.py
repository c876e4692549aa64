"""Weights as the accumulate-only kernels read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._aligned import aligned
from neurosim.kernels._arrays import host
from neurosim.kernels._jit import compiled
from neurosim.kernels._lanes import load, store
from neurosim.kernels._training import known

_STORE: dict[int, type[Any]] = {32: np.float32, 16: np.uint16, 8: np.uint16, 4: np.uint16}
_FIELDS = {32: 1, 16: 1, 8: 2, 4: 4}  # columns in an element of the store
_PANELS = (64, 128)
_COPIED = 64  # floats at a time


@dataclass(frozen=True, eq=False, repr=False)
class PackedWeight:
    """Weights (I, O) in panels of neighbouring outputs; made by `pack` or `quantise`.

    A panel holds all inputs of 64 or 128 outputs, so that sums stay in registers while the rows of
    one panel are read again and again from the second-level cache (2 MB hold 8,192 inputs of 64
    float32 outputs). Outputs beyond O are zeros.

    bits  values                          element of the store
    32    float32                         float32
    16    float16, summed as float32      its bits, uint16
     8    integers -128..127              uint16: two outputs, each a byte, value + 128
     4    integers -8..7                  uint16: four outputs, each 4 bits, value + 8

    Element e of a panel of M outputs holds, from its low bits up, outputs e % 32 + 64 (e // 32) + 0
    and 32 (8 bits), or e + 0, M / 4, M / 2 and 3 M / 4 (4 bits). With offset binary fields, sums
    of fields never borrow from their neighbours, and the offset is taken off once per sum.

    Attributes:
        panels: (ceil(O / M), I, M / F), on a cache line, read-only.
        shape: (I, O).
        bits: 32, 16, 8 or 4.
        scale: float32 (O,), what a unit of each output's integers means; or None.
    """

    panels: npt.NDArray[Any]
    shape: tuple[int, int]
    bits: int = 32
    scale: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.bits not in _FIELDS:
            raise ValueError(f"expected 32, 16, 8 or 4 bits, got {self.bits}")
        panels, (inputs, outputs) = self.panels, self.shape
        expected = (-(-outputs // max(self.width, 1)), inputs)
        if (
            panels.dtype != _STORE[self.bits]
            or self.width not in _PANELS
            or panels.shape[:2] != expected
            or not panels.flags.c_contiguous
        ):
            raise ValueError(
                f"expected C-contiguous panels of 64 or 128 outputs for {self.bits}-bit weights "
                f"{self.shape}, got {panels.dtype} {panels.shape}; make them with PackedWeight.pack"
            )
        panels.flags.writeable = False
        if self.scale is not None:
            _check_scale(self.scale, outputs, self.bits)

    @classmethod
    def pack(
        cls,
        weight: npt.ArrayLike,
        bits: int = 32,
        panel: int | str = "auto",
        scale: npt.ArrayLike | None = None,
    ) -> PackedWeight:
        """Store weights (I, O) exactly as they are.

        Args:
            weight: for 32 and 16 bits floats that survive the change of type (float64 is rounded
                to float32, and float32 to float16 only where nothing overflows); for 8 and 4 bits
                whole numbers in range, of any type.
            bits: 32 (float32), 16 (float16), 8 or 4 (integers).
            panel: outputs to a panel, 64 or 128; "auto" takes 64 for floats and 128 for integers,
                less where half of the last panel would be empty.
            scale: of integers only, what a unit is worth in each output, (O,).
        """
        known("PackedWeight.pack", weight)
        values = host(weight)
        if values.ndim != 2 or values.dtype.kind not in "biuf":
            raise ValueError(f"expected weights of shape (I, O), got {values.dtype} {values.shape}")
        if bits not in _FIELDS:
            raise ValueError(f"expected 32, 16, 8 or 4 bits, got {bits}")
        inputs, outputs = values.shape
        width = _panel_width(panel, bits, outputs)
        if bits >= 16:
            panels = _panels(_floats(values, bits), width)
        else:
            _check_range(values, bits)
            panels = _fields(values.astype(np.int8, copy=False), bits, width)
        kept = None if scale is None else np.array(scale, np.float32)  # not the caller's memory
        return cls(panels, (inputs, outputs), bits, kept)

    @classmethod
    def quantise(
        cls, weight: npt.ArrayLike, bits: int = 8, panel: int | str = "auto"
    ) -> PackedWeight:
        """Round float weights (I, O) to integers with one scale per output.

        scale = max |weight| / (2^(bits - 1) - 1) over the inputs of an output (1 where all are 0),
        value = weight / scale rounded half to even; symmetric, so -128 and -8 are not used.
        """
        values = host(weight).astype(np.float64)
        if bits not in (8, 4):
            raise ValueError(f"expected 8 or 4 bits, got {bits}; pack() keeps floats")
        if values.ndim != 2 or not np.isfinite(values).all():
            raise ValueError(f"expected finite weights of shape (I, O), got {values.shape}")
        largest = np.abs(values).max(axis=0, initial=0)
        if largest.max(initial=0) > np.finfo(np.float32).max:
            raise ValueError(f"expected weights of float32's range, got {largest.max():g}")
        scale = np.where(largest > 0, largest / ((1 << (bits - 1)) - 1), 1).astype(np.float32)
        scale = np.where(scale > 0, scale, np.finfo(np.float32).smallest_subnormal)
        limit = (1 << (bits - 1)) - 1  # float32 rounding of the scale may push a quotient past it
        integers = np.rint(values / scale.astype(np.float64)).clip(-limit, limit)
        return cls.pack(integers.astype(np.int8), bits, panel, scale)

    @property
    def width(self) -> int:
        """M, the outputs of a panel."""
        return self.panels.shape[2] * _FIELDS[self.bits] if self.panels.ndim == 3 else 0

    @property
    def integer(self) -> bool:
        """Whether sums are exact int32."""
        return self.bits < 16

    @property
    def nbytes(self) -> int:
        """Bytes of the panels and the scale."""
        return self.panels.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def unpack(self) -> npt.NDArray[Any]:
        """The values, float32, float16 or int8, (I, O); without the scale."""
        inputs, outputs = self.shape
        if self.bits == 32:
            fields = self.panels[None]
        elif self.bits == 16:
            fields = self.panels[None].view(np.float16)
        else:
            shifts = np.arange(0, 16, self.bits, dtype=np.uint16)[:, None, None, None]
            raw = (self.panels >> shifts) & np.uint16((1 << self.bits) - 1)
            fields = (raw.astype(np.int16) - (1 << (self.bits - 1))).astype(np.int8)
        block = (64 if self.bits == 8 else self.width) // _FIELDS[self.bits]
        split = fields.reshape(*fields.shape[:3], self.panels.shape[2] // block, block)
        columns = self.panels.shape[0] * self.width
        flat = split.transpose(2, 1, 3, 0, 4).reshape(inputs, columns)  # (I, P, blocks, F, block)
        return np.ascontiguousarray(flat[:, :outputs])

    def __repr__(self) -> str:
        scaled = "" if self.scale is None else ", scaled"
        return (
            f"PackedWeight{self.shape} {self.bits} bits, {self.panels.shape[0]} panels of "
            f"{self.width}{scaled}, {self.nbytes} bytes"
        )


def _panel_width(panel: int | str, bits: int, outputs: int) -> int:
    if panel == "auto":
        return 128 if bits < 16 and (outputs > 320 or (outputs - 1) % 128 >= 64) else 64
    if panel not in _PANELS:
        raise ValueError(f"expected panel auto, 64 or 128, got {panel!r}")
    return int(panel)


def _panels(values: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    """(I, O) as (ceil(O / width), I, width), with zeros beyond O."""
    inputs, outputs = values.shape
    whole, rest = divmod(outputs, width)
    panels = aligned((whole + (rest > 0), inputs, width), values.dtype)
    if values.dtype == np.float32 and values.flags.c_contiguous:
        _copy_panels(values.reshape(-1), outputs, width // _COPIED, panels.reshape(-1))
    else:
        split = values[:, : whole * width].reshape(inputs, whole, width)
        panels[:whole] = split.transpose(1, 0, 2)
    if rest:
        panels[whole, :, :rest] = values[:, whole * width :]
        panels[whole, :, rest:] = 0
    return panels


@compiled
def _copy_panels(values: Any, outputs: int, parts: int, panels: Any) -> None:
    """Whole panels, of `parts` of 64; a gradient is packed at every step of training."""
    width = parts * _COPIED
    inputs = values.shape[0] // max(outputs, 1)
    for row in range(inputs):
        for panel in range(outputs // width):
            for part in range(parts):
                x = load(values, row * outputs + panel * width + part * _COPIED, _COPIED)
                store(panels, (panel * inputs + row) * width + part * _COPIED, x)


def _fields(values: npt.NDArray[np.int8], bits: int, width: int) -> npt.NDArray[np.uint16]:
    """Panels of integers (I, O) in offset binary, 2 or 4 to an element."""
    panels = _panels(values, width)
    count, inputs, _ = panels.shape
    fields = _FIELDS[bits]
    block = 64 if bits == 8 else width
    raw = panels.view(np.uint8) + np.uint8(1 << (bits - 1))  # wraps: -128 + 128 is 0
    split = raw.reshape(count, inputs, width // block, fields, block // fields)
    packed = aligned((count, inputs, width // block, block // fields), np.uint16)
    packed[:] = split[:, :, :, 0]
    for field in range(1, fields):
        packed |= split[:, :, :, field].astype(np.uint16) << np.uint16(field * bits)
    return packed.reshape(count, inputs, width // fields)


def _floats(values: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """float32, or the bits of float16."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32, copy=False)
    if single is not values and values.dtype.kind == "f":
        lost = np.isinf(single) & ~np.isinf(values)
        if lost.any():
            raise ValueError(f"expected weights of float32's range, got {values[lost][0]:g}")
    if bits == 32:
        return single
    with np.errstate(over="ignore"):
        half = single.astype(np.float16)
    if (np.isinf(half) & ~np.isinf(single)).any():
        raise ValueError(
            f"expected weights within +-65504 for float16, got {np.abs(single).max()}; use 32 bits"
        )
    return half.view(np.uint16)


def _check_range(values: npt.NDArray[Any], bits: int) -> None:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if values.size and not (values.min() >= low and values.max() <= high):  # also refuses nan
        raise ValueError(
            f"expected {bits}-bit weights {low}..{high}, got {values.min()}..{values.max()}; use "
            "more bits, or PackedWeight.quantise for floats"
        )
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        raise ValueError("expected whole weights, got fractions; use PackedWeight.quantise")


def _check_scale(scale: npt.NDArray[np.float32], outputs: int, bits: int) -> None:
    if bits >= 16:
        raise ValueError("expected no scale with float weights; multiply the weights by it")
    if scale.dtype != np.float32 or scale.shape != (outputs,) or not np.isfinite(scale).all():
        raise ValueError(
            f"expected a finite float32 scale per output ({outputs},), got {scale.dtype} "
            f"{scale.shape}"
        )
