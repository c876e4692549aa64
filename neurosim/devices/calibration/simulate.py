"""Simulated measurements in the file formats of 8.2: for experiments, examples and round trips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurosim.devices.calibration.files import FORMATS, Table
from neurosim.devices.hazard import Hazard
from neurosim.devices.preset import DevicePreset
from neurosim.devices.relaxation import Relaxation
from neurosim.devices.self_integrating import SelfIntegratingNeuron

Floats = npt.NDArray[np.float64]


def triangle(top: float, step: float) -> Floats:
    """Voltages 0 -> `top` -> 0 in steps of `step`, V."""
    up = np.arange(round(top / step) + 1) * step
    return np.concatenate([up, up[-2::-1]])


def sweep_table(
    preset: DevicePreset,
    thresholds: Floats,
    step: float,
    compliance: float,
    noise: float = 0.0,
    floor: float = 0.0,
    rng: np.random.Generator | None = None,
    sign: float = 1.0,
) -> Table:
    """Quasi-static sweeps: `thresholds` (devices, cycles, 2) are V_th and V_h of each, V.

    I = V/R_off, or min(V/R_on, I_cc) between V_th on the way up and V_h on the way down. noise:
    relative deviation of the current; floor: its absolute deviation, A. sign: -1 for the other
    polarity.
    """
    top = step * np.ceil((float(thresholds[..., 0].max()) * 1.05 + 2 * step) / step)
    volts = triangle(float(top), step)
    rising = np.arange(volts.size) <= volts.size // 2
    is_on = np.where(rising, volts >= thresholds[..., :1], volts > thresholds[..., 1:])
    current = np.where(
        is_on,
        np.minimum(volts / preset["on_resistance"], compliance),
        volts / preset["off_resistance"],
    )
    if rng is not None:
        current = current * (1.0 + noise * rng.standard_normal(current.shape))
        current = current + floor * rng.standard_normal(current.shape)
    devices, cycles = thresholds.shape[:2]
    shape = (devices, cycles, volts.size)
    columns = {
        "t_s": np.broadcast_to(np.arange(volts.size) * step, shape).ravel(),
        "v_V": sign * np.broadcast_to(volts, shape).ravel(),
        "i_A": sign * current.ravel(),
        "cycle": np.broadcast_to(np.arange(cycles)[:, None], shape).ravel(),
        "device": np.broadcast_to(np.arange(devices)[:, None, None], shape).ravel(),
    }
    return Table("iv", Path("simulated-iv.csv"), columns, {"compliance_A": compliance})


def measured_sweeps(
    preset: DevicePreset,
    devices: int,
    cycles: int,
    seed: int,
    step: float | None = None,
    noise: float = 0.01,
) -> Table:
    """Sweeps with drawn thresholds (C2C, D2D, AR(1)) and 1 % current noise."""
    stats = preset.statistics()
    pairs = stats.cycles(preset["threshold_voltage"], preset["hold_voltage"], devices, cycles, seed)
    volts = preset["hold_voltage"] / 40.0 if step is None else step
    compliance = 2.0 * preset["threshold_voltage"] / preset["on_resistance"]
    floor = 0.02 * preset["threshold_voltage"] / preset["off_resistance"]
    rng = np.random.default_rng(seed)
    return sweep_table(preset, pairs, volts, compliance, noise, floor, rng)


def measured_delays(law: Hazard, voltages: Floats, repeats: int, seed: int) -> Table:
    """Exponential delays of `law` at each of `voltages` (V)."""
    volts = np.repeat(voltages, repeats)
    means = np.exp(-law.log_rate - volts / law.scale)
    times = means * np.random.default_rng(seed).exponential(size=volts.size)
    return Table("delay", Path("simulated-delay.csv"), {"v_V": volts, "t_s": times})


def measured_relaxation(
    law: Relaxation, compliances: Floats, cycles: int, points: int, seed: int, noise: float = 0.02
) -> Table:
    """Decaying conductance after pulses at each I_cc (A), lognormal tau_r, 2 % read noise."""
    rng = np.random.default_rng(seed)
    parts = []
    number = 0
    for current in compliances.tolist():
        for _ in range(cycles):
            tau = law.time_constant(current, normal=float(rng.standard_normal()))
            longest = 0.9 * tau if law.law == "herring" else 2.0 * tau
            time = np.linspace(longest / points, longest, points)
            signal = current / 0.1 * law.remaining(time, tau)
            signal = signal * np.exp(noise * rng.standard_normal(points))
            parts.append(
                np.column_stack([np.full(points, current), time, signal, np.full(points, number)])
            )
            number += 1
    joined = np.concatenate(parts)
    names = ("icc_A", "t_s", "g_S", "cycle")
    columns = {name: joined[:, k] for k, name in enumerate(names)}
    return Table("relax", Path("simulated-relax.csv"), columns)


def train_conditions(
    neuron: SelfIntegratingNeuron,
    strengths: npt.ArrayLike,
    widths: npt.ArrayLike,
    gaps: npt.ArrayLike,
) -> Floats:
    """(n, 3) amplitude (V; `strengths` times the critical DC voltage), width, gap (s) of a grid."""
    volts = neuron.critical_voltage * np.asarray(strengths)
    grid = np.meshgrid(volts, np.asarray(widths), np.asarray(gaps), indexing="ij")
    return np.column_stack([part.ravel() for part in grid])


def measured_trains(
    neuron: SelfIntegratingNeuron,
    conditions: Floats,
    repeats: int,
    seed: int,
    spread: float = 0.03,
    samples: int = 40,
    longest: float = 0.2,
    noise: float = 0.01,
) -> Table:
    """Current and voltage under trains of each of `conditions` (V, width s, gap s), to the fire.

    The fire level scatters by `spread` (relative, normal) from train to train; `samples` steps a
    pulse, and one sample at 0 V on either side of it; noise: relative deviation of the current.
    A train that has not fired after `longest` s (at least two pulses) stays in the file, silent.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for number, (voltage, width, gap) in enumerate(np.repeat(conditions, repeats, axis=0).tolist()):
        level = float(
            np.clip(neuron.threshold * (1.0 + spread * rng.standard_normal()), 0.01, 0.99)
        )
        fine = np.linspace(0.0, width, samples + 1)
        speed = neuron.growth(voltage) + 1.0 / neuron.relaxation_time
        rest = neuron.growth(voltage) / speed
        edge = 1e-4 * min(fine[1], gap)
        x = 0.0
        for pulse in range(max(2, round(longest / (width + gap)))):
            start = pulse * (width + gap)
            states = rest + (x - rest) * np.exp(-speed * fine)
            on = states >= level
            rise = neuron.pre_conductance - neuron.off_conductance
            amps = voltage * (neuron.off_conductance + rise * states)
            amps[on] = neuron.on_current(voltage)
            amps *= 1.0 + noise * rng.standard_normal(amps.size)
            block = np.zeros((samples + 3, 4))
            block[:, 0] = start + np.r_[-edge, fine, width + edge]
            block[1:-1, 1], block[1:-1, 2], block[:, 3] = voltage, amps, number
            parts.append(block if pulse else block[1:])
            if on.any():
                break
            x = float(states[-1]) * np.exp(-gap / neuron.relaxation_time)
        if on.any() and pulse == 0:  # the period shows in the next pulse's beginning, still ON
            later = width + gap
            parts.append(np.array([[later - edge, 0.0, 0.0, number]]))
            parts.append(np.array([[later, voltage, neuron.on_current(voltage), number]]))
    joined = np.concatenate(parts)
    names = ("t_s", "v_V", "i_A", "train")
    return Table(
        "pulse", Path("simulated-pulse.csv"), {name: joined[:, k] for k, name in enumerate(names)}
    )


def write_table(
    table: Table, path: str | Path, metadata: Mapping[str, object] | None = None
) -> Path:
    """The table as CSV in the format of its kind; `metadata` beside it as JSON."""
    import json

    target = Path(path)
    extra = [name for name in table.columns if name not in FORMATS[table.kind]]
    names = [*FORMATS[table.kind], *extra]
    rows = np.column_stack([table[name] for name in names])
    np.savetxt(target, rows, fmt="%.12g", delimiter=",", header=",".join(names), comments="")
    data = {**table.metadata, **(metadata or {})}
    if data:
        target.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return target
