"""E1, E2, E3: quasi-static I-V, threshold statistics, ramp-rate dependence."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import lognorm, norm, truncnorm

from neurosim.devices.calibration.simulate import sweep_table
from neurosim.devices.calibration.sweeps import extract_sweeps
from neurosim.devices.experiments.result import Experiment, at_most
from neurosim.devices.hazard import RAMP_SPREAD, Hazard
from neurosim.devices.preset import DevicePreset


def current_voltage(preset: DevicePreset) -> Experiment:
    """E1: triangular sweeps at three compliances and the other polarity; thresholds read back.

    The other polarity uses the preset's [reverse] numbers where it has them, else it is symmetric.
    """
    step = min(1e-3, preset["hold_voltage"] / 20.0)
    hold = preset["hold_voltage"] / preset["on_resistance"]
    pair = np.array([[[preset["threshold_voltage"], preset["hold_voltage"]]]])
    rows = []
    series: dict[str, npt.NDArray[Any]] = {}
    worst = closing = 0.0
    ratio = 0.0
    for k, share in enumerate((1.5, 2.5, 10.0)):  # of the current at V_h, so that R_on is seen
        table = sweep_table(preset, np.repeat(pair, 10, axis=1), step, share * hold)
        found = extract_sweeps(table)
        threshold, low = float(found.threshold[0]), float(found.hold[0])
        worst = max(worst, abs(threshold - pair[0, 0, 0]), abs(low - pair[0, 0, 1]))
        one = table["cycle"] == 0
        volts, amps = table["v_V"][one], table["i_A"][one]
        closing = max(closing, abs(float(amps[-1] - amps[0])))
        ratio = 1.0 / (float(found.off_conductance[0]) * float(found.on_resistance[0]))
        rows.append((share * hold, threshold, low, float(found.on_resistance[0]), ratio))
        series |= {f"v{k}": volts, f"i{k}": amps}
    extras = preset.extras
    if "reverse.threshold_voltage" in extras:
        names = ("reverse.threshold_voltage", "reverse.hold_voltage")
        pair = np.abs(np.array([[[extras[name].value for name in names]]]))
    other = sweep_table(preset, pair, step, 10.0 * hold, sign=-1.0)
    series |= {"v_back": other["v_V"], "i_back": other["i_A"]}
    wanted = preset["off_resistance"] / preset["on_resistance"]
    return Experiment(
        "E1",
        "quasi-static I-V",
        preset,
        (("compliance", "A"), ("V_th", "V"), ("V_h", "V"), ("R_on", "ohm"), ("ON/OFF", "")),
        tuple(rows),
        (
            at_most("V_th and V_h read back, largest error", worst, 1e-3, "V"),
            at_most("loop at zero bias", closing, 1e-15, "A"),
            at_most("ON/OFF against R_off/R_on", ratio / wanted - 1.0, 1e-6),
        ),
        {"V_th_V": rows[1][1], "V_h_V": rows[1][2], "on_off_ratio": ratio},
        series,
        f"step {step:.3g} V, both polarities",
    )


def threshold_statistics(preset: DevicePreset, seed: int = 0, sweeps: int = 1000) -> Experiment:
    """E2: V_th and V_h of the nominal device's cycles against the drawn law of 3.4 (a).

    The mean within 3 sigma/sqrt N, fewer than 3 % cut off. The deviation within the 5 % of the
    specification or three sampling errors, whichever is more: with 1000 sweeps the sampling error
    is 2.2 %, so a right device would miss 5 % for one seed in forty. With an AR(1) rho, N is
    N (1 - rho)/(1 + rho) for the mean and N (1 - rho^2)/(1 + rho^2) for the deviation.
    """
    stats = dataclasses.replace(preset.statistics(), threshold_device=0.0, hold_device=0.0)
    pairs = stats.cycles(preset["threshold_voltage"], preset["hold_voltage"], 1, sweeps, seed)
    own = stats.device_means(preset["threshold_voltage"], preset["hold_voltage"], 1, seed)[0]
    rho = stats.correlation
    fewer = math.sqrt(sweeps * (1.0 - rho) / (1.0 + rho))
    allowed = max(0.05, 3.0 / math.sqrt(2.0 * sweeps * (1.0 - rho**2) / (1.0 + rho**2)))
    rows, checks = [], []
    series: dict[str, npt.NDArray[Any]] = {}
    names = (("V_th", stats.threshold_cycle), ("V_h", stats.hold_cycle))
    for k, (name, sigma) in enumerate(names):
        values = pairs[0, :, k]
        mean, spread = float(values.mean()), float(values.std(ddof=1))
        series |= {name: values, f"{name}_law": np.array([own[k], sigma])}
        rows.append((name, float(own[k]), mean, sigma, spread))
        if sigma == 0.0:
            checks.append(at_most(f"{name}: spread of a device without spread", spread, 1e-12, "V"))
            continue
        low = (
            0.0
            if k
            else preset["hold_voltage"]
            + 0.1 * (preset["threshold_voltage"] - preset["hold_voltage"])
        )
        if stats.shape == "lognormal":
            width = math.sqrt(math.log1p((sigma / own[k]) ** 2))
            cut = lognorm(width, scale=own[k] * math.exp(-0.5 * width**2))
            lost = float(cut.cdf(low))
        else:
            cut = truncnorm((low - own[k]) / sigma, np.inf, loc=own[k], scale=sigma)
            lost = float(norm.cdf((low - own[k]) / sigma))
        limit = 3.0 * cut.std() / fewer
        checks += [
            at_most(f"{name}: mean off the law", mean - float(cut.mean()), limit, "V"),
            at_most(f"{name}: deviation off the law", spread / float(cut.std()) - 1.0, allowed),
            at_most(f"{name}: cut off", lost, 0.03),
        ]
    return Experiment(
        "E2",
        "threshold statistics of one device",
        preset,
        (
            ("", ""),
            ("device mean", "V"),
            ("mean found", "V"),
            ("sigma", "V"),
            ("sigma found", "V"),
        ),
        tuple(rows),
        tuple(checks),
        {"V_th_mean_V": rows[0][2], "V_th_std_V": rows[0][4], "V_h_mean_V": rows[1][2]},
        series,
        f"{sweeps} cycles, rho {stats.correlation:g}, {stats.shape}",
        seed,
    )


def ramp_dependence(preset: DevicePreset, seed: int = 0, draws: int = 4000) -> Experiment:
    """E3: V_th under linear ramps over four decades, hazard model: slope and deviation (3.4 b)."""
    scale = preset.extras.get("hazard.scale")
    spread = preset["threshold_spread_cycle"]
    if scale is None and spread == 0.0:
        law = Hazard.from_ramp(preset["threshold_voltage"], 0.01, 1.0)
    else:
        law = preset.hazard(1.0)
    ramps = np.geomspace(1.0, 1e4, 5)
    rows, medians, deviations = [], [], []
    for k, ramp in enumerate(ramps.tolist()):
        times = law.sample(0.0, ramp, 0.0, 1.0, draws, seed, cycle=k)
        volts = times * ramp
        medians.append(float(np.median(volts)))
        deviations.append(float(volts.std(ddof=1)))
        rows.append((ramp, medians[-1], float(law.ramp_quantile(0.5, ramp)), deviations[-1]))
    slope = float(np.polyfit(np.log10(ramps), medians, 1)[0])
    expected = np.log(10.0) * law.scale
    fast = float(np.mean(deviations[-2:]))
    return Experiment(
        "E3",
        "threshold against ramp rate",
        preset,
        (("ramp", "V/s"), ("median V_th", "V"), ("theory", "V"), ("deviation", "V")),
        tuple(rows),
        (
            at_most("slope per decade against 2.303 V_0", slope / expected - 1.0, 0.02),
            at_most("deviation against 1.2825 V_0", fast / (RAMP_SPREAD * law.scale) - 1.0, 0.03),
        ),
        {"ramps_V_per_s": ramps, "median_V_th_V": medians, "V_0_V": law.scale},
        {
            "ramp": ramps,
            "median": np.array(medians),
            "theory": np.asarray(law.ramp_quantile(0.5, 1.0)) + law.scale * np.log(ramps),
            "deviation": np.array(deviations),
        },
        f"V_0 {law.scale:.4g} V, {draws} ramps each",
        seed,
    )
