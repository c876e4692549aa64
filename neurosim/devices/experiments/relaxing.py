"""E4, E5, E8: switching delay, relaxation of the filament, firing again without a reset pulse."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.stats import kstest

from neurosim.devices.calibration.laws import fit_relaxation
from neurosim.devices.calibration.simulate import measured_relaxation
from neurosim.devices.delays import GapClosing
from neurosim.devices.experiments.result import Experiment, at_least, at_most, holds
from neurosim.devices.hazard import Hazard
from neurosim.devices.preset import DevicePreset
from neurosim.devices.temperature import BOLTZMANN_EV


def delay_voltage(preset: DevicePreset, seed: int = 0, draws: int = 2000) -> Experiment:
    """E4: ln t_d linear in V (gap law, 1/V taken out), exponential delays at fixed V (hazard).

    R^2 alone would let a power of V pass over so short a range, so the slope is checked too: -1/V_0
    but for the law's next term, of order 2 (V_0/V)^2.
    """
    spread = preset["threshold_spread_cycle"] or 0.01
    law = Hazard.from_ramp(preset["threshold_voltage"], spread, 1.0)
    volts = preset["threshold_voltage"] + np.arange(1, 7) * max(0.02, law.scale)
    unit = GapClosing(scale=law.scale, gap=1.0, rate=1.0)
    first = float(volts[0])  # both laws agree there: the gap law's rate is free
    gap = dataclasses.replace(unit, rate=unit.delay(first) / law.mean_delay(first))
    delays = np.array([gap.delay(float(v)) for v in volts])
    straight = float(np.corrcoef(volts, np.log(delays * volts))[0, 1] ** 2)
    slope = float(np.polyfit(volts, np.log(delays * volts), 1)[0])
    rows, worst, series = [], 1.0, {}
    for k, voltage in enumerate(volts.tolist()):
        times = law.sample(voltage, 0.0, 0.0, 1.0, draws, seed, cycle=k)
        mean = law.mean_delay(voltage)
        p_value = float(kstest(times / mean, "expon").pvalue)
        worst = min(worst, p_value)
        rows.append((voltage, float(delays[k]), mean, float(times.mean()), p_value))
        series[f"low{k}"] = np.percentile(times, [5, 95])
    return Experiment(
        "E4",
        "switching delay against voltage",
        preset,
        (
            ("voltage", "V"),
            ("gap-closing law", "s"),
            ("hazard mean", "s"),
            ("mean of draws", "s"),
            ("KS p (exponential)", ""),
        ),
        tuple(rows),
        (
            at_least("R^2 of ln(V t_d) against V", straight, 0.99),
            at_most("its slope against -1/V_0", slope * law.scale + 1.0, 0.05),
            at_least("smallest KS p over voltages", worst, 0.01 / volts.size),
        ),
        {"delay_voltages_V": volts, "mean_delays_s": [row[2] for row in rows]},
        {
            "volts": volts,
            "gap": delays,
            "mean": np.array([row[2] for row in rows]),
            "bands": np.array([series[f"low{k}"] for k in range(volts.size)]),
        },
        f"V_0 {law.scale:.4g} V, {draws} draws; gap law equal at the first voltage; 0.01 shared by "
        f"{volts.size} voltages",
        seed,
    )


def relaxation_time(preset: DevicePreset, seed: int = 0) -> Experiment:
    """E5: tau_r against I_cc (slope p) and temperature (slope E_s), fitted from simulated reads."""
    law = preset.relaxation()
    quiet = dataclasses.replace(law, spread=0.0)
    currents = law.compliance * np.geomspace(0.03, 1.0, 6)
    table = measured_relaxation(quiet, currents, 3, 30, seed, noise=0.01)
    fit = fit_relaxation(table, law.compliance)
    kelvin = np.linspace(260.0, 400.0, 8)
    taus = np.array([law.time_constant(temperature=float(t)) for t in kelvin])
    slope, _ = np.polyfit(1.0 / (BOLTZMANN_EV * kelvin), np.log(taus / kelvin), 1)
    rows = [(float(i), quiet.time_constant(float(i))) for i in currents]
    return Experiment(
        "E5",
        "relaxation time",
        preset,
        (("compliance", "A"), ("tau_r", "s")),
        tuple(rows),
        (
            at_most("log-log slope against p", fit["relaxation.exponent"] - law.exponent, 0.05),
            at_most("Arrhenius slope against E_s", slope / law.energy - 1.0, 0.02),
        ),
        {"compliances_A": currents, "tau_r_s": [r[1] for r in rows], "exponent": fit.values[1]},
        {
            "current": fit.data[:, 0],
            "tau": fit.data[:, 1],
            "line_current": fit.curve[:, 0],
            "line": fit.curve[:, 1],
            "inverse": 1e3 / kelvin,
            "taus": taus,
        },
        f"law {law.law}, p {law.exponent:g}, E_s {law.energy:g} eV, {law.time:.3g} s at "
        f"{law.compliance:.3g} A; 1 % read noise",
        seed,
    )


def self_relaxation(preset: DevicePreset) -> Experiment:
    """E8: fire, wait, stimulate again: the second n* recovers to the first as wait/tau_r grows."""
    base = preset.self_integrating()
    neuron = dataclasses.replace(base, dissolution=None)
    tau = neuron.relaxation_time
    voltage, width = 3.0 * neuron.critical_voltage, tau / 200.0
    fresh = neuron.pulses_to_fire(voltage, width, width)
    waits = tau * np.array([0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0])
    seconds, off = [], 0
    for wait in waits.tolist():
        residue = neuron.residual(wait)
        off += residue >= neuron.off_level
        seconds.append(neuron.pulses_to_fire(voltage, width, width, residue))
    falls = int((np.diff(seconds) < 0).sum())
    return Experiment(
        "E8",
        "self-relaxation: fire, wait, fire again",
        preset,
        (("wait", "s"), ("wait / tau_r", ""), ("residue x", ""), ("pulses to fire again", "")),
        tuple(
            (w, w / tau, neuron.residual(w), int(n))
            for w, n in zip(waits.tolist(), seconds, strict=True)
        ),
        (
            holds("OFF again without a reset pulse", off, waits.size),
            holds("second n* never falls with the wait", falls, waits.size - 1),
            at_most("second n* after 20 tau_r against the first", seconds[-1] - fresh, 0),
        ),
        {"waits_s": waits, "second_pulses": seconds, "first_pulses": fresh},
        {"waits": waits / tau, "second": np.array(seconds), "first": np.array([fresh])},
        f"{voltage:.4g} V, width = gap = {width:.3g} s, tau_r {tau:.3g} s, first n* {fresh}",
    )
