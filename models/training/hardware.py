"""A chip's disturbances during training: who is told about them learns to live with them.

Each step sees new chips: thresholds of every neuron (D2D) are drawn for every sequence of the
batch, thresholds of every window (C2C) and read noise for every token, programming errors of the
weights once a step. The statistics of the banks are fixed, as they are on the chip: with batch
statistics the normalisation would take out the offsets that a chip cannot take out. The neuron's
equation is in `disturbed_neuron`, the crossbar's here:

    read = sum_i n_i W'_i + N(0, (read_noise max |W|)^2 sum_i |n_i|)        (per column)
    W' = (G+ - G-) / s,  G = written(G_min + max(+-W, 0) s),  s = (G_max - G_min) / max |W|

with `written` = the nearest of `conductance_levels` values plus a normal error whose deviation is
`programming_error` times the polynomial `programming_curve` of G / G_max. Columns that feed a sum
or the logits are rounded to the converter's steps. Gradients pass all of it unchanged, and the
weights that are kept are the undisturbed ones (Rasch et al. 2023, Nat. Commun. 14, 5282, train
analogue networks in this way).

The equations are the chip's (neurosim.chip.neuron_bank, neurosim.devices.neuron_window,
neurosim.chip.crossbar) to first order in leak and delays; tests/models/test_hardware_aware.py
compares them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.models.config import from_mapping
from neurosim.models.spike_transformer import WEIGHTS, Neurons, Reader, SpikeTransformer
from neurosim.models.training.disturbed_neuron import Disturbance, disturbed_spikes

Array = npt.NDArray[np.float64]
Read = Callable[[mx.array, mx.array], mx.array]
_DRAWS = 2**21  # standard normals made each step and used cyclically
_ADC_RANGE = 8.0  # of the chip's converters, see neurosim.chip.crossbar
_CONVERTED = ("conv", "output", "down", "head")  # crossbars that feed a sum or the logits


@dataclass(frozen=True)
class HardwareNoise:
    """What the chip does that the software does not; zeros switch a part off.

    Spreads are standard deviations over the voltage of one spike, V_u - V_landing; delays are in
    windows; `leak` is the fraction of a voltage that leaks away in a window and `leak_height` the
    landing voltage above the leak's, over V_u - V_landing. `headroom`: spikes of charge that the
    input stage passes above the counter's range, 0: no limit. `g_min` is over G_max. `ramp`:
    fraction of the run in which spreads, errors and noise grow from 0 to full. `head_clip`: weights
    of the head stay within so many times their root mean square, 0: no limit. All of the head has
    one unit (logits are compared), so its errors are those of its largest weight.
    """

    threshold_device: float = 0.0
    threshold_cycle: float = 0.0
    hold_device: float = 0.0
    hold_cycle: float = 0.0
    set_delay: float = 0.0
    reset_delay: float = 0.0
    leak: float = 0.0
    leak_height: float = 0.0
    headroom: float = 0.0
    conductance_levels: int = 0
    g_min: float = 0.0
    programming_error: float = 0.0
    programming_curve: tuple[float, ...] = (0.0,)
    read_noise: float = 0.0
    adc_bits: int = 0
    ramp: float = 0.0
    head_clip: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "programming_curve", tuple(map(float, self.programming_curve)))
        for name, value in asdict(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(math.isfinite(number) for number in numbers):
                raise ValueError(f"expected a finite hardware.{name}, got {value}")
            if name != "programming_curve" and name != "leak_height" and value < 0:
                raise ValueError(f"expected hardware.{name} >= 0, got {value}")
        if 0 < self.head_clip < 1:
            raise ValueError(f"expected hardware.head_clip 0 or at least 1, got {self.head_clip}")
        if self.conductance_levels == 1 or self.g_min >= 1 or self.ramp > 1:
            raise ValueError(
                "expected hardware.conductance_levels 0 or >= 2, g_min < 1 and ramp <= 1, got "
                f"{self.conductance_levels}, {self.g_min} and {self.ramp}"
            )
        if not 0 <= self.leak < 1 or self.set_delay + self.reset_delay >= 1:
            raise ValueError(
                "expected hardware.leak and the sum of the delays below 1 window, got "
                f"{self.leak} and {self.set_delay + self.reset_delay}"
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HardwareNoise:
        """Build from a mapping; unknown keys are an error."""
        return from_mapping(cls, data, "hardware")

    def firing(self, levels: int, strength: float = 1.0) -> npt.NDArray[np.float32]:
        """(levels, 3) for `Disturbance.firing`.

        The membrane is at a + 3/4 on the average of the first half climb and at a + 1/2 later, a =
        `leak_height`; weighted by the times that these take up to the k-th spike at the window's
        end, the leak takes leak (a + 1/2 + 1/(8 k - 4)).
        """
        k = np.arange(1, levels + 1)
        charge = k - 0.5 + self.leak * (self.leak_height + 0.5 + 1 / (8 * k - 4))
        gain = 1 - self.set_delay - (k - 1) * (self.set_delay + self.reset_delay)
        if gain[-1] <= 0:
            raise ValueError(f"expected delays that {levels} spikes fit into, got {self}")
        cycle = np.sqrt(k * self.threshold_cycle**2 + (k - 1) * self.hold_cycle**2)
        return np.stack([charge, gain, strength * cycle], axis=1).astype(np.float32)


def programmed(
    codes: Array, noise: HardwareNoise, rng: np.random.Generator, strength: float = 1.0
) -> Array:
    """Integer weights as a crossbar holds them, in the same units; see the module docstring."""
    largest = max(float(np.abs(codes).max(initial=0)), 1.0)
    steps = noise.conductance_levels - 1
    span = 1 - noise.g_min
    pair = []
    for part in (np.maximum(codes, 0) / largest, np.maximum(-codes, 0) / largest):
        target = np.rint(part * steps) / steps if steps > 0 else part
        conductance = noise.g_min + target * span  # over G_max
        if noise.programming_error > 0:
            sigma = np.polynomial.polynomial.polyval(conductance, np.array(noise.programming_curve))
            sigma = strength * noise.programming_error * np.maximum(sigma, 0)
            error = rng.standard_normal(codes.shape, np.float32)
            conductance = np.maximum(conductance + sigma * error, 0)
        pair.append(conductance)
    return np.asarray((pair[0] - pair[1]) * (largest / span))


@dataclass(frozen=True, eq=False)
class HardwareDraw:
    """The chips of one batch: `install` makes a model run on them.

    Args:
        noise: what is disturbed. seed: key of the draws: (training seed, step).
        strength: 0 to 1, factor on all spreads, errors and noises.
    """

    noise: HardwareNoise
    seed: tuple[int, ...]
    strength: float = 1.0

    def weights(self, model: SpikeTransformer, grid: Mapping[str, mx.array]) -> dict[str, mx.array]:
        """`grid` (weights on the integer grid, by name) with the crossbars as programmed."""
        units, result = model.weight_units(), dict(grid)
        for index, name in enumerate(crossbar_names(model)):
            codes = np.rint(np.asarray(grid[name]) / units[name])
            rng = np.random.default_rng((*self.seed, 1, index))
            held = programmed(codes, self.noise, rng, self.strength) * units[name]
            result[name] = mx.array(held.astype(np.float32))
        return result

    @contextmanager
    def install(
        self, model: SpikeTransformer, grid: Mapping[str, mx.array], sequences: int
    ) -> Iterator[None]:
        """Within, the model's banks and crossbars are the chips', one per sequence.

        `grid`: undisturbed weights on the integer grid, which set the converters' ranges.
        """
        rng = np.random.default_rng((*self.seed, 0))
        draws = rng.standard_normal(_DRAWS, np.float32)
        units = model.weight_units()
        pool = mx.array(draws)
        readers = {
            name: self._reader(name, np.asarray(grid[name]), units[name], pool, rng)
            for name in crossbar_names(model)
        }
        try:
            for bank in model.banks():
                bank.disturb = self._neurons(bank, sequences, draws, rng)
            for i, block in enumerate(model.blocks):
                block.reader = _named(readers, f"blocks.{i}.")
            model.reader = _named(readers, "")
            yield
        finally:
            for bank in model.banks():
                bank.disturb = None
            for block in model.blocks:
                block.reader = None
            model.reader = None

    def _neurons(
        self,
        bank: Neurons,
        sequences: int,
        draws: npt.NDArray[np.float32],
        rng: np.random.Generator,
    ) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
        noise, levels, signed = self.noise, bank.levels, bank.signed
        deviations = np.repeat([noise.threshold_device, noise.hold_device], 2) * self.strength
        shifts = rng.standard_normal((sequences, 4, bank.shift.size), np.float32)
        shifts *= deviations[:, None].astype(np.float32)
        # A device keeps a tenth of its climb, about as in neurosim.devices.neuron_window.
        np.maximum(shifts[:, :2], -0.9, out=shifts[:, :2])
        disturbance = Disturbance(
            shifts,
            draws,
            int(rng.integers(_DRAWS)),
            noise.firing(levels, self.strength),
            levels + noise.headroom if noise.headroom else math.inf,
        )
        return lambda x, scale, offset: disturbed_spikes(x, scale, offset, disturbance, signed)

    def _reader(
        self,
        name: str,
        grid: npt.NDArray[np.floating],
        unit: Array,
        pool: mx.array,
        rng: np.random.Generator,
    ) -> Read:
        """(spikes (S, L, I), their column sums (S, L, O)) -> what is read."""
        codes = np.rint(grid / unit)
        kind = name.rsplit(".", 1)[-1]
        diagonal = kind == "conv"
        largest = max(float(np.abs(codes).max(initial=0)), 1.0)
        sigma = mx.array(
            (self.strength * self.noise.read_noise * largest * unit).astype(np.float32)
        )
        taps, first = codes.shape[0], int(rng.integers(_DRAWS))
        convert = (
            _converter(codes, unit, self.noise.adc_bits)
            if kind in _CONVERTED and self.noise.adc_bits
            else None
        )

        def read(spikes: mx.array, sums: mx.array) -> mx.array:
            if self.noise.read_noise > 0:
                pulses = mx.abs(mx.stop_gradient(spikes))
                pulses = _windowed(pulses, taps) if diagonal else pulses.sum(-1, keepdims=True)
                sums = sums + sigma * mx.sqrt(pulses) * _normals(pool, first, sums.shape)
            return sums if convert is None else convert(sums)

        return read


def _named(readers: Mapping[str, Read], prefix: str) -> Reader:
    return lambda name, spikes, sums: readers[prefix + name](spikes, sums)


def clip_head(model: SpikeTransformer, limit: float) -> None:
    """Bring the head's weights within `limit` times their root mean square."""
    most = limit * mx.sqrt(mx.mean(mx.square(model.head)))
    model.head = mx.clip(model.head, -most, most)


def crossbar_names(model: SpikeTransformer) -> list[str]:
    """Names of the weights that stand on crossbars, in a fixed order."""
    blocks = range(len(model.blocks))
    return [f"blocks.{i}.{name}" for i in blocks for name in WEIGHTS] + ["head"]


def _windowed(pulses: mx.array, taps: int) -> mx.array:
    """Pulses on the `taps` pairs of each diagonal column, (S, L, N): the last tokens' spikes."""
    total = pulses
    for j in range(1, taps):
        total = total + mx.pad(pulses, [(0, 0), (j, 0), (0, 0)])[:, : pulses.shape[1]]
    return total


def _normals(pool: mx.array, first: int, shape: tuple[int, ...]) -> mx.array:
    """Standard normals of `shape`: the pool cyclically from `first` on."""
    size, parts, start = math.prod(shape), [], first
    while size > 0:
        part = pool[start : start + size]
        parts.append(part)
        size, start = size - part.size, 0
    return mx.concatenate(parts).reshape(shape)


def _converter(codes: Array, unit: Array, bits: int) -> Callable[[mx.array], mx.array]:
    """Rounds column sums to the steps of the crossbar's ADC (neurosim.chip.crossbar)."""
    limit = 2 ** (bits - 1)
    spread = math.sqrt(float((codes**2).sum(axis=0).max(initial=0.0)))
    step = 2.0 ** max(math.ceil(math.log2(max(_ADC_RANGE * spread / limit, 1.0))), 0)
    size = mx.array((step * unit).astype(np.float32))

    def convert(sums: mx.array) -> mx.array:
        steps = mx.clip(sums / size, -limit, limit - 1)
        return (steps + mx.stop_gradient(mx.round(steps) - steps)) * size

    return convert
