"""E6, E7, E9, E13: the device integrates by itself (tier 0B, device.md 3.6)."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.integrate import solve_ivp

from neurosim.devices.experiments.result import Experiment, at_least, at_most, holds
from neurosim.devices.preset import DevicePreset
from neurosim.devices.pulse_train import NEVER
from neurosim.devices.self_integrating import GrowthLaw, SelfIntegratingNeuron

GOLDEN = SelfIntegratingNeuron(GrowthLaw("exp", 4.0, 0.15), 20e-3, 0.6)
_GOLDEN_VOLTS = {0.50: NEVER, 0.55: 14, 0.60: 7, 0.65: 4, 0.70: 3, 0.75: 2, 0.80: 2, 0.85: 1}


def brute_force(
    neuron: SelfIntegratingNeuron, voltage: float, width: float, gap: float, most: int = 200
) -> int:
    """n* by integrating dx/dt through pulses and gaps numerically; NEVER after `most` pulses."""
    growth, leak, x = neuron.growth(voltage), 1.0 / neuron.relaxation_time, 0.0
    for pulse in range(1, most + 1):
        for rate, time in ((growth, width), (0.0, gap)):
            run = solve_ivp(
                lambda _, y, k=rate: k * (1.0 - y) - leak * y,
                (0.0, time),
                [x],
                method="DOP853",
                rtol=1e-11,
                atol=1e-13,
            )
            x = float(run.y[0, -1])
            if rate > 0.0 and x >= neuron.threshold:
                return pulse
    return NEVER


def _scale(preset: DevicePreset) -> tuple[SelfIntegratingNeuron, float, float]:
    """The preset's neuron, a pulse width (tau_r/20) and its critical voltage."""
    neuron = preset.self_integrating()
    return neuron, neuron.relaxation_time / 20.0, neuron.critical_voltage


def leaky_integration(preset: DevicePreset) -> Experiment:
    """E6: trains with longer gaps need more pulses; n* equals the brute-force ODE exactly."""
    neuron, width, critical = _scale(preset)
    voltage = 2.0 * critical
    gaps = width * np.array([0.2, 1.0, 3.0, 6.0, 10.0, 20.0])
    counts, wrong = [], 0
    for gap in gaps.tolist():
        counts.append(neuron.pulses_to_fire(voltage, width, gap))
        wrong += counts[-1] != brute_force(neuron, voltage, width, gap)
    fires = [n for n in counts if n != NEVER]
    falling = sum(b < a for a, b in zip(fires, fires[1:], strict=False))
    falling += sum(n != NEVER for n in counts[len(fires) :])
    series: dict[str, np.ndarray] = {}
    for k, gap in enumerate(gaps[[1, 3]].tolist()):
        run = neuron.run_train(voltage, width, gap, 16)
        before = int(run.fired[0]) if run.fired else 16
        time, state, x = [0.0], [0.0], 0.0
        for pulse in range(before):
            start = pulse * (width + gap)
            fire = neuron.fire_time(x, voltage)
            for part, volts in ((min(width, fire), voltage), (gap, 0.0)):
                for moment in np.linspace(0.0, part, 12)[1:]:
                    time.append(start + float(moment))
                    state.append(neuron.state(x, volts, float(moment)))
                if volts and fire <= width:
                    break  # it fires: x jumps to 1 and the curve ends
                x, start = neuron.state(x, volts, part), start + part
        series |= {f"time{k}": np.array(time), f"state{k}": np.array(state)}
        series[f"gap{k}"] = np.array([gap])
    series["threshold"] = np.array([neuron.threshold])
    return Experiment(
        "E6",
        "leaky integration without auxiliary circuit",
        preset,
        (("gap", "s"), ("pulses to fire (0: never)", "")),
        tuple(zip(gaps.tolist(), counts, strict=True)),
        (
            holds("n* equals the integrated ODE", wrong, len(counts)),
            holds("a longer gap never needs fewer pulses", falling, len(counts)),
        ),
        {"gaps_s": gaps, "pulses_by_gap": counts},
        series,
        f"{voltage:.4g} V, width {width:.4g} s; law {neuron.growth.law}, "
        f"tau_r {neuron.relaxation_time:.4g} s, x_th {neuron.threshold:g} (class values)",
    )


def pulses_to_fire(preset: DevicePreset) -> Experiment:
    """E7: n* falls with amplitude and width, none below V_crit; and the golden table of 3.6."""
    neuron, width, critical = _scale(preset)
    volts = critical * np.array([0.5, 0.95, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0, 6.0])
    widths = width * np.array([0.5, 1.0, 2.0])
    table = neuron.pulses_to_fire_table(volts[:, None], widths[None, :], width)
    real = np.where(table == NEVER, 10**9, table)
    wrong = int((np.diff(real, axis=0) > 0).sum() + (np.diff(real, axis=1) > 0).sum())
    below = int((table[volts < critical] != NEVER).sum())
    golden = [GOLDEN.pulses_to_fire(v, 1e-3, 1e-3) for v in _GOLDEN_VOLTS]
    golden += [GOLDEN.pulses_to_fire(0.5, w, 1e-3) for w in (1e-3, 2e-3, 4e-3)]
    golden += [GOLDEN.pulses_to_fire(0.5, 1e-3, g) for g in (0.2e-3, 1e-3)]
    wanted = [*_GOLDEN_VOLTS.values(), NEVER, 14, 4, 16, NEVER]
    missed = sum(a != b for a, b in zip(golden, wanted, strict=True))
    return Experiment(
        "E7",
        "threshold-driven fire: pulses to fire",
        preset,
        (("amplitude", "V"), *((f"w = {w:.3g} s", "") for w in widths)),
        tuple((v, *map(int, row)) for v, row in zip(volts.tolist(), table, strict=True)),
        (
            holds(
                "never fires below the critical voltage", below, int((volts < critical).sum()) * 3
            ),
            holds("falls with amplitude and width", wrong, table.size),
            holds("golden table of 3.6", missed, len(wanted)),
        ),
        {"amplitudes_V": volts, "pulses_to_fire": table, "critical_voltage_V": critical},
        {"volts": volts, "table": table, "widths": widths},
        f"gap {width:.4g} s, critical DC voltage {critical:.4g} V; 0 pulses: never",
    )


def strength_frequency(preset: DevicePreset) -> Experiment:
    """E9: spike rate against amplitude: linear for law "power" with p = 1, super-linear for "exp".

    Straight line through integer n* (R^2 > 0.97), few-percent duty as in 3.6.
    """
    neuron, _, critical = _scale(preset)
    period = neuron.relaxation_time / 400.0
    narrow = 0.05 * period
    gap = period - narrow
    volts = np.linspace(1.0, 3.0, 25) * critical
    fastest = 0.03 / narrow  # k_g at the largest amplitude: n* = 10 there, fewer than 100 below
    power = GrowthLaw("power", fastest / (2.75 * critical), 0.25 * critical)
    low = dataclasses.replace(neuron, growth=power, threshold=0.3, off_level=0.2)
    rates = np.array([low.spike_frequency(float(v), narrow, gap) for v in volts])
    scale = float(volts[-1]) / 8.0
    matched = GrowthLaw("exp", fastest / float(np.expm1(8.0)), scale)
    steep = dataclasses.replace(low, growth=matched)
    curved = np.array([steep.spike_frequency(float(v), narrow, gap) for v in volts])
    line, bent = _straightness(volts, rates), _straightness(volts, curved)
    falls = int((np.diff(rates) < 0.0).sum())
    return Experiment(
        "E9",
        "strength-modulated spike rate",
        preset,
        (("amplitude", "V"), ("rate, law power p = 1", "Hz"), ("rate, law exp", "Hz")),
        tuple(zip(volts.tolist(), rates.tolist(), curved.tolist(), strict=True)),
        (
            holds("rate never falls with strength", falls, volts.size - 1),
            at_least("R^2 of a straight line, law power", line, 0.97),
            at_most("R^2 of a straight line, law exp (super-linear)", bent, 0.97),
        ),
        {"amplitudes_E9_V": volts, "rates_E9_Hz": rates, "straight_line_R2": line},
        {"volts": volts, "power": rates, "exp": curved},
        f"width {narrow:.3g} s, gap {gap:.3g} s, x_th 0.3; both laws scaled to the same k_g at the "
        "largest amplitude; complete relaxation between fires",
    )


def _straightness(x: np.ndarray, y: np.ndarray) -> float:
    """R^2 of a straight line."""
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def published_trains(preset: DevicePreset) -> Experiment:
    """E13: Ag/MoS2/HfAlOx, 1 ms pulses: 0.5 V never fires, 1.5 V needs fewer pulses than 1 V."""
    law = GrowthLaw("power", 250.0, 0.6)
    neuron = SelfIntegratingNeuron(law, 20e-3, 0.4, off_level=0.3)
    volts = (0.5, 1.0, 1.5)
    counts = [neuron.pulses_to_fire(v, 1e-3, 1e-3) for v in volts]
    wrong = sum((counts[0] != NEVER, counts[1] < 2, not 0 < counts[2] < counts[1]))
    return Experiment(
        "E13",
        "published comparator Ag/MoS2/HfAlOx (chosen k_g, not fitted)",
        preset,
        (("amplitude", "V"), ("pulses to fire (0: never)", "")),
        tuple(zip(volts, counts, strict=True)),
        (holds("0.5 V never, 1 V integrates, 1.5 V sooner", wrong, 3),),
        {"comparator_pulses": counts},
        {},
        "k_g = 250 (V - 0.6 V) /s/V, tau_r 20 ms, x_th 0.4, 1 ms pulses and gaps (gap assumed)",
    )
