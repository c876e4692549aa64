"""E14, E15: jitter and stochastic resonance of one neuron, rates of a population of devices."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.stats import kstest, norm

from neurosim.devices.closed_forms import crossing_time
from neurosim.devices.experiments.energies import middle_current
from neurosim.devices.experiments.result import Experiment, at_least, at_most
from neurosim.devices.preset import DevicePreset
from neurosim.devices.threshold_switch import Drive
from neurosim.devices.thresholds import interval_jitter


def resonance(
    barriers: np.ndarray, seed: int, modulation: float = 0.3, cycles: int = 4000
) -> tuple[np.ndarray, np.ndarray]:
    """Signal of a periodically driven hazard against noise: (measured, theory), both (n,).

    A barrier of 1 (in kT units: `barriers` = dU/kT) is modulated by `modulation` kT dU sin(2 pi t),
    lambda = nu e^(-dU/kT (1 - m sin)); the signal is the first Fourier component of the spike
    count over the drive's phase, whose theory is nu e^(-b) I_1(b m) per cycle (nu = 20).
    """
    from scipy.special import i0e, i1e

    rng = np.random.default_rng(seed)
    measured, theory = [], []
    for barrier in barriers.tolist():
        depth = barrier * modulation
        mean = 20.0 * np.exp(-barrier + depth) * i0e(depth)
        spikes = int(rng.poisson(mean * cycles))
        phase = rng.vonmises(0.0, depth, spikes)
        measured.append(float(np.cos(phase).sum()) / cycles)
        theory.append(20.0 * np.exp(-barrier + depth) * i1e(depth))
    return np.array(measured), np.array(theory)


def jitter(preset: DevicePreset, seed: int = 0, draws: int = 100_000) -> Experiment:
    """E14: interval jitter against tau_off sigma/(V_off* - mu); noise-assisted firing by hazard.

    Below rheobase a drawn threshold (3.4 a) stays where it was drawn, so the neuron never fires;
    with a hazard rate (3.4 b) it does, and its response to a weak periodic drive has a maximum at a
    finite noise (stochastic resonance).
    """
    switch = dataclasses.replace(preset.switch(), set_delay=0.0, reset_delay=0.0)
    sigma = preset["threshold_spread_cycle"] or 0.01
    drive = Drive(middle_current(switch))
    conductance = switch.conductance(False, drive)
    current = drive.total_current + switch.leak_conductance * switch.leak_voltage
    asymptote, tau = current / conductance, switch.capacitance / conductance
    rng = np.random.default_rng(seed)
    low = (0.1 * (switch.upper - switch.lower) + switch.lower - switch.upper) / sigma
    quantiles = norm.cdf(low) + norm.sf(low) * rng.random(draws)
    levels = switch.upper + sigma * norm.ppf(quantiles)
    times = np.array(
        [
            crossing_time(
                v - switch.lower, current - conductance * v, conductance, switch.capacitance
            )
            for v in levels.tolist()
        ]
    )
    predicted = interval_jitter(tau, asymptote, switch.upper, sigma)
    found = float(times.std(ddof=1))
    period = switch.period(drive).duration
    small = sigma / (asymptote - switch.upper)
    barriers = 1.0 / np.linspace(0.12, 2.4, 12)
    signal, theory = resonance(barriers, seed)
    top, expected = int(np.argmax(signal)), int(np.argmax(theory))
    return Experiment(
        "E14",
        "interval jitter and noise-assisted firing",
        preset,
        (("quantity", ""), ("found", ""), ("theory", "")),
        (
            ("interval deviation (s)", found, predicted),
            ("coefficient of variation", found / period, predicted / period),
            (
                "noise kT/dU of the strongest response",
                1.0 / barriers[top],
                1.0 / barriers[expected],
            ),
        ),
        (
            at_most(
                "deviation against tau sigma/(V* - mu)", found / predicted - 1.0, 0.01 + 2.0 * small
            ),
            at_most("signal against nu e^-b I_1(b m)", float(np.abs(signal - theory).max()), 0.15),
            at_least("response has a maximum inside the noise range", min(top, 11 - top), 1),
            at_most(
                "spikes below rheobase, drawn thresholds",
                switch.frequency(Drive(0.9 * switch.rheobase())),
                0.0,
                "Hz",
            ),
        ),
        {"jitter_s": found, "jitter_theory_s": predicted, "interval_cv": found / period},
        {"noise": 1.0 / barriers, "signal": signal, "theory": theory},
        f"I {drive.current:.4g} A, sigma {sigma:.4g} V, {draws} intervals, "
        f"sigma/(V* - mu) = {small:.3g}",
        seed,
    )


def population(preset: DevicePreset, seed: int = 0, devices: int = 10_000) -> Experiment:
    """E15: firing rates of 10,000 devices against the push-forward of N(mu, sigma_D2D), KS."""
    spread = preset["threshold_spread_device"] or 0.1 * preset["threshold_voltage"]
    stats = dataclasses.replace(preset.statistics(), threshold_device=spread, hold_device=0.0)
    switch = preset.switch()
    means = stats.device_means(switch.threshold_voltage, switch.hold_voltage, devices, seed)[:, 0]
    drive = Drive(3.0 * middle_current(switch))
    top = switch.threshold_voltage + 6.0 * spread
    highest = dataclasses.replace(switch, threshold_voltage=top)
    if drive.current <= highest.rheobase():
        drive = Drive(2.0 * highest.rheobase())

    def rate(volts: float) -> float:
        return dataclasses.replace(switch, threshold_voltage=volts).frequency(drive)

    rates = np.array([rate(float(v)) for v in means])
    low = switch.hold_voltage + 0.1 * (switch.threshold_voltage - switch.hold_voltage)
    grid = np.linspace(low, top, 4001)
    curve = np.array([rate(float(v)) for v in grid])  # falls with V_th
    cut = norm.cdf((low - switch.threshold_voltage) / spread)

    def below(values: np.ndarray) -> np.ndarray:
        volts = np.interp(values, curve[::-1], grid[::-1])
        share = (norm.cdf((volts - switch.threshold_voltage) / spread) - cut) / (1.0 - cut)
        return np.asarray(1.0 - share)

    p_value = float(kstest(rates, below).pvalue)
    quantiles = np.percentile(rates, [5, 50, 95])
    return Experiment(
        "E15",
        "firing rates of a population of devices",
        preset,
        (("share of devices", "%"), ("rate below", "Hz")),
        tuple(zip((5.0, 50.0, 95.0), quantiles.tolist(), strict=True)),
        (at_least("KS p against the push-forward of N(mu, sigma_D2D)", p_value, 0.01),),
        {"rate_quantiles_Hz": quantiles, "population": devices},
        {"rates": rates, "grid": curve, "below": below(curve)},
        f"{devices} devices, sigma_D2D {spread:.4g} V, I {drive.current:.4g} A",
        seed,
    )
