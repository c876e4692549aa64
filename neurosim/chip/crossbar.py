"""Integer weights in differential conductance pairs, and how they read (device.md 3.12).

A weight w is stored as G+ = G_min + max(w, 0) s and G- = G_min + max(-w, 0) s with
s = (G_max - G_min) / max |w| of the crossbar, or of each column (`crossbar.scaling`), whose mirror
and converter then have their own ratio; the column reads (G+ - G-) / s. Columns are held at virtual
ground, so one pulse on a cell costs U^2 G t whatever the other rows do.

With wire resistance a tile's G+ and G- become its exact transfer matrix (`wire_transfer`): rows
that are not pulsed are held at ground, so the tile is linear and the matrix holds for every input
pattern, overlapping pulses included. A pulse costs U^2 Y_ii t, Y the admittance its driver sees;
that part is for pulses that do not overlap (10 ns ones in a window of 50 us).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.chip.programming import (
    absolute_sums,
    cell_keys,
    cell_law,
    read_pairs,
    square_sums,
    write_cells,
)
from neurosim.chip.sections import CrossbarCells
from neurosim.devices.counter_random import inverse_normal, stream_key, uniform
from neurosim.devices.wire_transfer import transfer
from neurosim.kernels._aligned import aligned
from neurosim.kernels._jit import compiled

_ADC_RANGE = 8.0  # full scale in standard deviations of a column with one random input a row

_CROSSBARS = np.uint64(0xC0557BA5C0557BA5)  # keeps a crossbar's draws apart from the neurons'
_NOISE = np.uint64(2)  # streams 0 and 1 of a crossbar are the halves of its pairs


@compiled
def _add_noise(
    sums: npt.NDArray[np.float32],
    sigma: npt.NDArray[np.floating],
    key: np.uint64,
    window_index: int,
) -> None:
    """Add a normal draw of deviation `sigma` (1,) or (O,) to each column."""
    first = np.uint64(window_index) * np.uint64(sums.size)
    for column in range(sums.size):
        deviation = sigma[column if sigma.size > 1 else 0]
        if deviation > 0.0:
            sums[column] += deviation * inverse_normal(uniform(key, first + np.uint64(column)))


@dataclass(frozen=True, eq=False)
class ProgrammedCrossbar:
    """A crossbar as the chip holds it.

    `weight` (I, O): effective weights in units of the integer weights: float32, or the integers
    themselves (int8 where they fit) if nothing disturbs them. `block_energy`: J of one read pulse
    on each row of each column tile, the sum over its cells, (column tiles, I); for a diagonal
    crossbar (1, K, N), as each pair is read alone. `read_noise_sigma`: standard deviation one read
    pulse on one pair adds to its column, weight units, one number or (O,). `adc_step` (one number
    or (O,)), `adc_codes`: column values convert to multiples of `adc_step` (a power of two) between
    -adc_codes and adc_codes - 1 steps; adc_codes = 0: exactly.
    """

    weight: npt.NDArray[Any]
    block_energy: npt.NDArray[np.float64]
    read_noise_sigma: float | npt.NDArray[np.float64]
    noise_key: np.uint64
    adc_step: int | npt.NDArray[np.int64] = 1
    adc_codes: int = 0

    @classmethod
    def program(
        cls,
        weight: npt.NDArray[np.integer],
        cells: CrossbarCells,
        key: np.uint64,
        adc_bits: int = 0,
        diagonal: bool = False,
        tile: tuple[int, int] = (256, 256),
        dead: npt.NDArray[np.bool_] | None = None,
        input_rms: float = 1.0,
    ) -> ProgrammedCrossbar:
        """Write `weight` (I, O): finite levels, programming error, drift, stuck cells, wires.

        Args:
            weight: integers. cells: what they are written into.
            key: of the draws, see `crossbar_key`. adc_bits: of the columns' converter; 0: exact.
            diagonal: each pair has a row of its own (a delay crossbar's).
            tile: rows and columns of pairs of a tile; each tile has its own drivers and virtual
                grounds, and a block at its corner if it is not filled.
            dead: tiles that read 0 and cost nothing, (row tiles, column tiles).
            input_rms: of the counts it is read with, which the converter's range is made for.
        """
        if weight.ndim != 2 or not np.issubdtype(weight.dtype, np.integer):
            raise ValueError(
                f"expected integer weights (I, O), got {weight.dtype} {weight.shape}; quantise them"
            )
        columnwise = np.maximum(
            weight.max(axis=0, initial=0).astype(np.int64),
            -weight.min(axis=0, initial=0).astype(np.int64),
        )
        largest = max(int(columnwise.max(initial=0)), 1)
        each = np.full(columnwise.size, largest)
        if cells.scaling == "column":
            each = np.maximum(columnwise, 1)
        stored = aligned(weight.shape, np.float32 if cells.disturbed else _integers(largest))
        rows, columns = tile
        blocks = 1 if diagonal else max(-(-weight.shape[1] // columns), 1)
        admittance = np.zeros((blocks, *(weight.shape if diagonal else weight.shape[:1])))
        writer = _TileWriter(cells, each, key)
        for top in range(0, weight.shape[0], rows):
            for left in range(0, weight.shape[1], columns):
                block = np.s_[top : top + rows, left : left + columns]
                if dead is not None and dead[top // rows, left // columns]:
                    stored[block] = 0
                    continue
                part = admittance[0][block] if diagonal else admittance[left // columns][block[0]]
                writer.write(weight[block], top, left, stored[block], part)
        columns_differ = cells.scaling == "column"
        step: int | npt.NDArray[np.int64] = 1
        codes = 0
        if adc_bits > 0:
            codes = 2 ** (adc_bits - 1)
            squares = np.zeros(weight.shape[1], dtype=np.int64)
            square_sums(weight, squares)
            quietest = np.maximum(_ADC_RANGE * input_rms * np.sqrt(squares) / codes, 1.0)
            steps = np.exp2(np.ceil(np.log2(quietest))).astype(np.int64)
            step = steps if columns_differ else int(steps.max(initial=1))
        return cls(
            stored,
            admittance * _pulse(cells),
            cells.read_noise.value * (each if columns_differ else largest),
            np.uint64(stream_key(key, _NOISE)),
            step,
            codes,
        )

    @cached_property
    def row_energy(self) -> npt.NDArray[np.float64]:
        """J of one read pulse on each whole row, (I,); on each pair of a diagonal one, (K, N)."""
        total: npt.NDArray[np.float64] = self.block_energy.sum(axis=0)
        return total

    @property
    def exact(self) -> bool:
        """The integer weights, read without noise."""
        return np.issubdtype(self.weight.dtype, np.integer) and not np.any(self.read_noise_sigma)

    def read(
        self,
        sums: npt.NDArray[Any],
        pulses: int | npt.NDArray[np.integer],
        window_index: int,
        converted: bool,
    ) -> npt.NDArray[Any]:
        """What a window's column sums (O,), n @ weight, read as: noise, and conversion if asked.

        `pulses`: how many (row, pulse) pairs each column saw, sum |n|: one number, or (O,) where
        columns differ (a diagonal crossbar). Each adds an independent `read_noise_sigma`. Noise is
        keyed by (crossbar, window_index, column). Without noise and conversion the sums come back.
        """
        if self._noisy:
            sums = sums.astype(np.float32)
            sigma = np.atleast_1d(self.read_noise_sigma * np.sqrt(pulses))
            _add_noise(sums, sigma, self.noise_key, window_index)
        return self.convert(sums) if converted else sums

    @cached_property
    def _noisy(self) -> bool:
        """Asked in every window: `any` alone would take as long as the noise."""
        return bool(np.any(self.read_noise_sigma))

    def convert(self, sums: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Column sums -> the integers an accumulator receives, by the crossbar's ADC."""
        if self.adc_codes == 0:
            return np.asarray(np.rint(sums), dtype=np.int64)
        codes = np.rint(sums / np.asarray(self.adc_step, dtype=np.float32))
        np.clip(codes, -self.adc_codes, self.adc_codes - 1, out=codes)
        return np.asarray(codes * self.adc_step, dtype=np.int64)

    def __repr__(self) -> str:
        rows, columns = self.weight.shape
        return f"ProgrammedCrossbar({rows} x {columns} pairs, {self.weight.dtype})"


def crossbar_key(seed: int, index: int) -> np.uint64:
    """Key of all draws of a network's crossbar: `index` is its node's place in the network."""
    return np.uint64(stream_key(np.uint64(seed) ^ _CROSSBARS, np.uint64(index)))


def _integers(largest: int) -> npt.DTypeLike:
    return np.int8 if largest <= 127 else np.int32


def _pulse(cells: CrossbarCells) -> float:
    """J of a read pulse per siemens of the row: U^2 t, times sinh(a U) / (a U) of a bent cell."""
    bent = cells.nonlinearity.value * cells.read_voltage.value
    factor = math.sinh(bent) / bent if bent > 0.0 else 1.0
    return cells.read_voltage.value**2 * cells.pulse_width.value * factor


class _TileWriter:
    """Writes blocks of one crossbar: what they read as, and how they load their rows."""

    def __init__(
        self, cells: CrossbarCells, largest: npt.NDArray[np.int64], key: np.uint64
    ) -> None:
        self._cells = cells
        self._scale = (cells.g_max.value - cells.g_min.value) / largest
        self._law = cell_law(cells)
        self._curve = np.array(cells.programming_curve.values)
        self._keys = [cell_keys(key, half, cells.rewrites) for half in (0, 1)]
        self._columns = largest.size

    def write(
        self,
        weight: npt.NDArray[np.integer],
        top: int,
        left: int,
        stored: npt.NDArray[Any],
        admittance: npt.NDArray[np.float64],
    ) -> None:
        """One block (R, C), its first cell at (top, left) of the crossbar.

        `stored` becomes its effective weights; `admittance` (R,), or (R, C) of a diagonal
        crossbar, grows by the conductance that each row's driver sees, S.
        """
        scale = self._scale[left : left + weight.shape[1]]
        if not self._cells.disturbed:
            stored[:] = weight
            self._ideal_admittance(weight, scale, admittance)
            return
        halves = np.empty((2, *weight.shape), dtype=np.float32)
        for half, sign in enumerate((1, -1)):
            write_cells(
                weight, sign, self._law, self._curve, scale, self._keys[half],
                top * self._columns + left, self._columns, halves[half],
            )  # fmt: skip
        wire = self._cells.wire_resistance.value
        if wire == 0.0 and admittance.ndim == 1:
            read_pairs(halves[0], halves[1], scale, stored, admittance)
        elif wire == 0.0:
            stored[:] = (halves[0].astype(np.float64) - halves[1]) / scale
            admittance += halves.sum(axis=0, dtype=np.float64)
        elif admittance.ndim == 1:
            found = transfer(_side_by_side(halves), wire, differential=True)
            stored[:] = found.current / scale
            admittance += found.admittance
        else:  # a channel's taps are an array of one pair of columns, each row for itself
            for channel in range(weight.shape[1]):
                found = transfer(halves[:, :, channel].T, wire, differential=True)
                stored[:, channel] = found.current[:, 0] / scale[channel]
                admittance[:, channel] += found.admittance

    def _ideal_admittance(
        self,
        weight: npt.NDArray[np.integer],
        scale: npt.NDArray[np.float64],
        admittance: npt.NDArray[np.float64],
    ) -> None:
        low = self._cells.g_min.value
        if admittance.ndim == 2:
            admittance += 2.0 * low + scale * np.abs(weight.astype(np.int64))
        else:
            admittance += 2.0 * low * weight.shape[1]
            absolute_sums(weight, scale, admittance)


def _side_by_side(halves: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """G+ and G- of each pair in neighbouring columns, (R, 2 C)."""
    _, rows, columns = halves.shape
    return np.moveaxis(halves, 0, 2).reshape(rows, 2 * columns).astype(np.float64)
