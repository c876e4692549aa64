"""Per-chip calibration: every neuron is measured with known charge and trimmed.

What a tester can see are spike counts. Each neuron gets a ramp of M known charges, evenly spaced
over its input range, one a window; ON and OFF neurons of a channel in turns, all channels at once.
With N_k the windows in which a neuron fired at least k times, its k-th spike needs

    c_k = top - (top / M) N_k        (in spikes of the nominal device; nominal is k - 1/2)

which is the mean over its cycle-to-cycle spread. A line c_k = u + v k (least squares over k) is
what a device with its own V_th and landing voltage does (u = -1/2 + landing, v = climb). A packet q
is then sent as v q + (u + v / 2), which puts the thresholds back to k - 1/2. Gain and charge come
from trim DACs of `bits` bits over +-`gain_range` and +-`bias_range` (section `trim` of a chip).
What scatters from cycle to cycle stays, and so do the errors of the crossbars.

Not counted: area and static power of the trim DACs. The bias charge is in the energy of every
window (it passes through the driver), the measurement's own energy is in the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.chip.neuron_bank import ChipBank
from neurosim.chip.sections import Trim

Floats = npt.NDArray[np.float64]
PHASE = "calibration"
_FIRST_WINDOW = 2**40  # of the measurement: no run gets there, so no draw is used twice


@dataclass(frozen=True)
class TrimReport:
    """What calibrating a chip took and found.

    `neurons` measured; `skipped` of them never fired or fired always, and stay as they are;
    `clipped` needed more than a DAC's range; `windows` in a row for the whole chip (banks at the
    same time), `seconds` those take, `joules` what the neurons burnt; `trim_bits` stored;
    `threshold_spread`: standard deviation over the neurons of the measured v, in spikes.
    """

    neurons: int
    skipped: int
    clipped: int
    windows: int
    seconds: float
    joules: float
    trim_bits: int
    threshold_spread: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def measure(bank: ChipBank, windows: int) -> Floats:
    """Mean charge of each neuron's k-th spike, (neurons, levels), spikes; NaN where not seen.

    Uses `windows` windows of the bank, twice as many when it is signed, booked as "calibration".
    """
    top = bank.levels + 1.0
    if np.isfinite(bank.charge_limit):
        top = min(top, bank.charge_limit)
    sides = (1, -1) if bank.signed else (1,)
    reached = np.zeros((bank.size, len(sides), bank.levels))
    counts = np.arange(1, bank.levels + 1)
    window = _FIRST_WINDOW
    for index in range(windows):
        charge = top * (index + 0.5) / windows
        for side, sign in enumerate(sides):
            spikes = bank.fire(bank.charge_of(sign * charge), window, PHASE)
            reached[:, side] += (sign * spikes)[:, None] >= counts
            window += 1
    found = top - (top / windows) * reached
    found[(reached == 0) | (reached == windows)] = np.nan
    return np.asarray(found.reshape(-1, bank.levels))


def fit(thresholds: Floats) -> tuple[Floats, Floats]:
    """Offset u and step v of c_k = u + v k, (neurons,), NaN where a neuron was not seen to fire.

    A bank of one level shows one threshold: its step is taken as 1. Levels that were not reached
    within the ramp are left out.
    """
    seen = np.isfinite(thresholds)
    k = np.broadcast_to(np.arange(1.0, thresholds.shape[1] + 1), thresholds.shape)
    number = np.maximum(seen.sum(axis=1), 1)
    mean_k = np.where(seen, k, 0.0).sum(axis=1) / number
    mean_c = np.where(seen, thresholds, 0.0).sum(axis=1) / number
    away = np.where(seen, k - mean_k[:, None], 0.0)
    square = (away**2).sum(axis=1)
    along = (away * np.where(seen, thresholds, 0.0)).sum(axis=1)
    step = np.where(square > 0, along / np.where(square > 0, square, 1.0), 1.0)
    offset = mean_c - step * mean_k
    nothing = ~seen.any(axis=1)
    return np.where(nothing, np.nan, offset), np.where(nothing, np.nan, step)


def quantised(values: Floats, limit: float, bits: int) -> Floats:
    """The nearest value of a two's complement DAC of `bits` over -limit..limit."""
    half = 2 ** (bits - 1)
    codes = np.clip(np.rint(values / limit * half), -half, half - 1)
    return np.asarray(codes * (limit / half))


def trim(banks: Mapping[str, ChipBank], settings: Trim, window_duration: float) -> TrimReport:
    """Measure and trim all banks of a chip; their energy accounts are empty afterwards.

    Args:
        banks: those of a chip that has not run yet.
        settings: section `trim` of the chip, with windows > 0.
        window_duration: of the chip, s; for `TrimReport.seconds`.
    """
    length, bits = int(settings.windows.value), int(settings.bits.value)
    gain_range, bias_range = settings.gain_range.value, settings.bias_range.value
    neurons = skipped = clipped = windows = 0
    joules, steps = 0.0, []
    for bank in banks.values():
        if bank.exact:
            raise ValueError(
                f"{bank.name}: the neurons of an exact chip have nothing to trim; choose a chip "
                "with simulated neurons"
            )
        bank.reset()
        offset, step = fit(measure(bank, length))
        silent = np.isnan(step)
        gain = np.where(silent, 0.0, step - 1.0)
        bias = np.where(silent, 0.0, offset + step / 2)
        beyond = (np.abs(gain) > gain_range) | (np.abs(bias) > bias_range)
        bank.apply_trim(
            1.0 + quantised(gain, gain_range, bits),
            quantised(bias, bias_range, bits),
        )
        joules += bank.energy(PHASE).total
        bank.reset()
        neurons += bank.neurons
        skipped += int(silent.sum())
        clipped += int(beyond.sum())
        windows = max(windows, length * (2 if bank.signed else 1))
        steps.append(step[~silent])
    spread = float(np.concatenate(steps).std()) if steps else 0.0
    return TrimReport(
        neurons,
        skipped,
        clipped,
        windows,
        windows * window_duration,
        joules,
        2 * bits * neurons,
        spread,
    )
