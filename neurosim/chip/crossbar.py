"""Integer weights in differential conductance pairs, and how they read (device.md 3.12).

A weight w is stored as G+ = G_min + max(w, 0) s and G- = G_min + max(-w, 0) s with
s = (G_max - G_min) / max |w| of the crossbar; the column reads (G+ - G-) / s. Columns are held at
virtual ground, so one pulse on a cell costs U^2 G t whatever the other rows do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.chip.sections import CrossbarCells
from neurosim.devices.counter_random import inverse_normal, uniform
from neurosim.kernels._aligned import aligned
from neurosim.kernels._jit import compiled

_ADC_RANGE = 8.0  # full scale in standard deviations of a column with one random spike a row


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
    themselves (int8 where they fit) if nothing disturbs them. `row_energy`: J of one read pulse on
    each row, the sum over its 2 O cells, (I,); for a diagonal crossbar (K, N), as each pair is
    read alone. `read_noise_sigma`: standard deviation one read pulse on one pair adds to its
    column, weight units. `adc_step`, `adc_codes`: column values convert to multiples of `adc_step`
    (a power of two) between -adc_codes and adc_codes - 1 steps; adc_codes = 0: exactly.
    """

    weight: npt.NDArray[Any]
    row_energy: npt.NDArray[np.float64]
    read_noise_sigma: float
    noise_key: np.uint64
    adc_step: int = 1
    adc_codes: int = 0

    @classmethod
    def program(
        cls,
        weight: npt.NDArray[np.integer],
        cells: CrossbarCells,
        rng: np.random.Generator,
        adc_bits: int = 0,
        diagonal: bool = False,
    ) -> ProgrammedCrossbar:
        """Write `weight` (I, O): finite levels, then programming error, then stuck cells."""
        if weight.ndim != 2 or not np.issubdtype(weight.dtype, np.integer):
            raise ValueError(
                f"expected integer weights (I, O), got {weight.dtype} {weight.shape}; quantise them"
            )
        low, high = cells.g_min.value, cells.g_max.value
        largest = max(int(np.abs(weight.astype(np.int64)).max(initial=0)), 1)
        scale = (high - low) / largest
        disturbed = any(
            part.value > 0.0
            for part in (
                cells.conductance_levels,
                cells.programming_error,
                cells.stuck_low,
                cells.stuck_high,
            )
        )
        plus = (
            _written(np.maximum(weight, 0) * scale, cells, rng)
            if disturbed
            else (low + np.maximum(weight, 0) * scale)
        )
        minus = (
            _written(np.maximum(-weight.astype(np.int64), 0) * scale, cells, rng)
            if (disturbed)
            else low + np.maximum(-weight.astype(np.int64), 0) * scale
        )
        pulse = cells.read_voltage.value**2 * cells.pulse_width.value
        energy = pulse * (plus + minus)
        step, codes = 1, 0
        if adc_bits > 0:
            codes = 2 ** (adc_bits - 1)
            spread = math.sqrt(float((weight.astype(np.float64) ** 2).sum(axis=0).max(initial=0.0)))
            step = 2 ** max(math.ceil(math.log2(max(_ADC_RANGE * spread / codes, 1.0))), 0)
        integers = np.dtype(np.int8 if largest <= 127 else np.int32)
        stored = aligned(weight.shape, np.float32 if disturbed else integers)
        stored[:] = (plus - minus) / scale if disturbed else weight
        return cls(
            stored,
            energy if diagonal else energy.sum(axis=1),
            cells.read_noise.value * largest,
            rng.integers(0, 2**63, dtype=np.uint64),
            step,
            codes,
        )

    @property
    def exact(self) -> bool:
        """The integer weights, read without noise."""
        return np.issubdtype(self.weight.dtype, np.integer) and self.read_noise_sigma == 0.0

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
        if self.read_noise_sigma > 0.0:
            sums = sums.astype(np.float32)
            sigma = np.atleast_1d(self.read_noise_sigma * np.sqrt(pulses))
            _add_noise(sums, sigma, self.noise_key, window_index)
        return self.convert(sums) if converted else sums

    def convert(self, sums: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Column sums -> the integers an accumulator receives, by the crossbar's ADC."""
        if self.adc_codes == 0:
            return np.asarray(np.rint(sums), dtype=np.int64)
        codes = np.rint(sums / np.float32(self.adc_step))
        np.clip(codes, -self.adc_codes, self.adc_codes - 1, out=codes)
        return np.asarray(codes * self.adc_step, dtype=np.int64)

    def __repr__(self) -> str:
        rows, columns = self.weight.shape
        return f"ProgrammedCrossbar({rows} x {columns} pairs, {self.weight.dtype})"


def _written(
    target: npt.NDArray[np.float64], cells: CrossbarCells, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Conductances after programming; `target` is the wanted conductance above G_min, S."""
    low, high = cells.g_min.value, cells.g_max.value
    steps = cells.conductance_levels.value - 1.0
    if steps > 0.0:
        target = np.rint(target / (high - low) * steps) * ((high - low) / steps)
    conductance = low + target
    if cells.programming_error.value > 0.0:
        sigma = np.polynomial.polynomial.polyval(
            conductance / high, np.array(cells.programming_curve.values)
        )
        sigma = np.maximum(sigma, 0.0) * (cells.programming_error.value * high)
        conductance = np.maximum(conductance + sigma * rng.standard_normal(conductance.shape), 0.0)
    stuck_low, stuck_high = cells.stuck_low.value, cells.stuck_high.value
    if stuck_low + stuck_high > 0.0:
        chance = rng.random(conductance.shape)
        conductance = np.where(chance < stuck_low, low, conductance)
        conductance = np.where(chance >= 1.0 - stuck_high, high, conductance)
    return conductance
