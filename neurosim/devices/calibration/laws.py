"""Least-squares fits of delay, relaxation and growth laws (device.md 3.4 b, 3.6, 3.8, 8.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.stats import kstest

from neurosim.devices.calibration.files import Table, groups
from neurosim.devices.self_integrating import GrowthLaw, SelfIntegratingNeuron

Floats = npt.NDArray[np.float64]
EULER = 0.5772156649015329


@dataclass(frozen=True)
class Fit:
    """A fitted law: names and values of its parameters, their covariance, residual deviation.

    `data` and `curve`: (n, 2) points measured and the law at the same abscissae, for the figure.
    """

    law: str
    names: tuple[str, ...]
    values: Floats
    covariance: Floats
    residual: float
    data: Floats
    curve: Floats
    notes: tuple[str, ...] = ()

    @property
    def errors(self) -> Floats:
        """Standard errors of the values."""
        return np.sqrt(np.diag(self.covariance))

    def __getitem__(self, name: str) -> float:
        return float(self.values[self.names.index(name)])


def solve(residuals: Callable[[Floats], Floats], start: Floats) -> tuple[Floats, Floats, float]:
    """(parameters, covariance, residual deviation) by scipy's least squares; unit weights."""
    found = least_squares(residuals, start, x_scale="jac", max_nfev=2000)
    freedom = found.fun.size - found.x.size
    if freedom < 1:
        raise ValueError(
            f"expected more data than the {found.x.size} parameters, got {found.fun.size} points"
        )
    variance = float(found.fun @ found.fun) / freedom
    inverse = np.linalg.pinv(found.jac.T @ found.jac)
    return found.x, variance * inverse, math.sqrt(variance)


def fit_delay(table: Table) -> Fit:
    """Delay against voltage: exponential delays of the hazard law (3.4 b).

    ln t = -ln lambda_0 - V/V_0 - gamma + Gumbel noise of deviation pi/sqrt 6. Parameters:
    "hazard.scale" V_0 (V) and "log_rate" ln lambda_0. Notes tell whether the delays at one voltage
    are exponential (Kolmogorov-Smirnov on t / mean, 1 %).
    """
    volts, delays = table["v_V"], table["t_s"]
    if np.unique(volts).size < 3:
        raise ValueError(f"{table.path}: expected delays at 3 voltages or more")
    logs = np.log(delays) + EULER
    slope, level = np.polyfit(volts, logs, 1)
    if slope >= 0.0:
        raise ValueError(f"{table.path}: the delay does not fall with voltage; columns swapped?")

    def residuals(p: Floats) -> Floats:
        return np.asarray(logs + p[1] + volts / np.exp(p[0]))

    x, covariance, deviation = solve(residuals, np.array([math.log(-1.0 / slope), -level]))
    scale = math.exp(x[0])
    jacobian = np.diag([scale, 1.0])
    means = np.exp(-x[1] - volts / scale)
    p_value = float(kstest(delays / means, "expon").pvalue)
    grid = np.linspace(volts.min(), volts.max(), 60)
    verdict = "exponential" if p_value > 0.01 else "not exponential"
    return Fit(
        "hazard",
        ("hazard.scale", "log_rate"),
        np.array([scale, x[1]]),
        jacobian @ covariance @ jacobian,
        deviation,
        np.column_stack([volts, delays]),
        np.column_stack([grid, np.exp(-x[1] - grid / scale)]),
        (f"delays at one voltage are {verdict} (KS p = {p_value:.3g})",),
    )


def _curve_tau(time: Floats, conductance: Floats, law: str) -> tuple[float, float, float]:
    """(tau_r, stretch, summed squared residual of ln G) of one relaxation curve."""
    logs = np.log(conductance)
    slope, level = np.polyfit(time, logs, 1)
    if slope >= 0.0:
        raise ValueError("expected a conductance that decays")
    tau = -1.0 / slope
    start = np.array([level, math.log(tau)])
    if law == "exponential":

        def residuals(p: Floats) -> Floats:
            return np.asarray(logs - p[0] + time * np.exp(-p[1]))
    elif law == "stretched":
        start = np.append(start, 0.0)

        def residuals(p: Floats) -> Floats:
            return np.asarray(logs - p[0] + (time * np.exp(-p[1])) ** np.exp(p[2]))
    else:
        start[1] = math.log(1.2 * time[-1])

        def residuals(p: Floats) -> Floats:
            left = np.maximum(1.0 - time * np.exp(-p[1]), 1e-9)
            return np.asarray(logs - p[0] - 0.5 * np.log(left))

    found = least_squares(residuals, start, x_scale="jac")
    stretch = math.exp(found.x[2]) if law == "stretched" else 1.0
    return math.exp(found.x[1]), stretch, float(found.fun @ found.fun)


def fit_relaxation(table: Table, compliance: float | None = None) -> Fit:
    """Conductance after the pulse: law of 3.8, tau_r at I_cc, exponent p, lognormal spread.

    Every curve (icc_A, cycle) gives one tau_r; then ln tau_r = ln tau_ref - s^2/2 + p ln(I_cc/
    I_ref) + s eps. The law is the one with the least Akaike score over all curves. Parameters:
    "relaxation.time" at I_ref = `compliance` or the largest I_cc, "relaxation.exponent" (two I_cc
    or more), "relaxation.spread", "relaxation.stretch" (stretched).
    """
    curves = groups(table, "icc_A", "cycle")
    if len(curves) < 5 or min(rows.size for _, rows in curves) < 6:
        raise ValueError(
            f"{table.path}: expected at least 5 relaxation curves of 6 points, got {len(curves)}"
        )
    points = sum(rows.size for _, rows in curves)
    scores: dict[str, float] = {}
    results: dict[str, Floats] = {}
    for law in ("exponential", "stretched", "herring"):
        try:
            each = [_curve_tau(table["t_s"][r], table["g_S"][r], law) for _, r in curves]
        except ValueError as error:
            raise ValueError(f"{table.path}: {error}; wrong sign or order?") from error
        results[law] = np.array(each)
        extra = len(curves) * (3 if law == "stretched" else 2)
        scores[law] = points * math.log(results[law][:, 2].sum() / points) + 2.0 * extra
    law = min(scores, key=scores.__getitem__)
    taus, stretches, squares = results[law].T
    current = np.array([key[0] for key, _ in curves])
    reference = float(current.max()) if compliance is None else compliance
    several = np.unique(current).size > 1
    design = np.column_stack([np.ones(taus.size), np.log(current / reference)][: 1 + several])
    coefficients, *_ = np.linalg.lstsq(design, np.log(taus), rcond=None)
    rest = np.log(taus) - design @ coefficients
    freedom = taus.size - design.shape[1]
    spread = math.sqrt(float(rest @ rest) / freedom)
    base = spread**2 * np.linalg.inv(design.T @ design)
    time = math.exp(coefficients[0] + 0.5 * spread**2)
    names = ["relaxation.time", "relaxation.exponent"][: 1 + several] + ["relaxation.spread"]
    values = [time, *coefficients[1:], spread]
    size = len(values)
    covariance = np.zeros((size, size))
    covariance[:-1, :-1] = base
    covariance[-1, -1] = spread**2 / (2.0 * freedom)
    jacobian = np.eye(size)
    jacobian[0, 0], jacobian[0, -1] = time, time * spread
    covariance = jacobian @ covariance @ jacobian.T
    if law == "stretched":
        names.append("relaxation.stretch")
        values.append(float(stretches.mean()))
        wider = np.zeros((size + 1, size + 1))
        wider[:-1, :-1] = covariance
        wider[-1, -1] = stretches.var(ddof=1) / stretches.size
        covariance = wider
    grid = np.geomspace(current.min(), current.max(), 40) if several else current[:1]
    power = coefficients[1] if several else 0.0
    return Fit(
        law,
        tuple(names),
        np.array(values),
        covariance,
        math.sqrt(squares.sum() / points),
        np.column_stack([current, taus]),
        np.column_stack([grid, time * (grid / reference) ** power]),
        (f"I_ref = {reference:.6g} A", f"law by Akaike score out of {', '.join(scores)}"),
    )


@dataclass(frozen=True)
class Train:
    """One measured pulse train: volts, pulse width and gap (s), number of the pulse that fired and
    the time in it until the current jumped (s)."""

    voltage: float
    width: float
    gap: float
    pulses: int
    inside: float


def extract_trains(table: Table) -> tuple[Train, ...]:
    """Trains of a `pulse` table (column `train`; else one): edges from v, the fire from i.

    A pulse is where v exceeds half its largest value; the device has fired where i exceeds the
    geometric mean of the first current (median of 3 points) and the largest one.
    """
    found = []
    for key, rows in groups(table, "train"):
        where = f"{table.path}, train {key[0]:g}" if key else str(table.path)
        time, volts, amps = (table[name][rows] for name in ("t_s", "v_V", "i_A"))
        if volts.max() <= 0.0 or amps.max() <= 0.0:
            raise ValueError(f"{where}: expected positive pulses and current; wrong sign?")
        high = volts > 0.5 * volts.max()
        starts = np.flatnonzero(high & ~np.r_[False, high[:-1]])
        ends = np.flatnonzero(high & ~np.r_[high[1:], False])
        first = slice(starts[0], ends[0] + 1)
        quiet = float(np.median(np.abs(amps[first][:3])))
        fired = np.flatnonzero(high & (amps > math.sqrt(quiet * amps.max())))
        if fired.size == 0 or amps.max() < 5.0 * quiet or starts.size < 2:
            continue  # never fired, or fired in the only pulse: nothing about the relaxation
        pulse = int(np.searchsorted(starts, fired[0], side="right"))
        step = float(np.median(np.diff(time)))
        widths = time[ends] - time[starts] + step
        period = float(np.median(np.diff(time[starts])))
        width = float(np.median(widths[: max(1, starts.size - 1)]))
        inside = max(float(time[fired[0]] - time[starts[pulse - 1]]) - 0.5 * step, 0.25 * step)
        voltage = float(np.median(volts[first]))
        found.append(Train(voltage, width, period - width, pulse, inside))
    return tuple(found)


def _rates(law: str, rate: float, scale: float, volts: Floats) -> Floats:
    """k_g of a law of `GrowthLaw` (power: p = 1) for an array of voltages, 1/s."""
    if law == "power":
        return np.asarray(rate * np.maximum(volts - scale, 0.0))
    ratio = np.minimum(volts / scale, 300.0)
    return np.asarray(rate * (np.sinh(ratio) if law == "sinh" else np.expm1(ratio)))


def state_at_fire(growth: Floats, tau: float, trains: Floats) -> tuple[Floats, Floats]:
    """(x, d ln x / d ln t) at the moment each train was seen to fire (device.md 3.6).

    trains: rows width, gap (s), number of the pulse that fired, time in it (s); (4, n).
    """
    width, gap, number, inside = trains
    speed = growth + 1.0 / tau
    rest = growth / speed
    gain = rest * -np.expm1(-speed * width)
    exponent = speed * width + gap / tau
    before = gain * np.exp(-gap / tau) * np.expm1(-exponent * (number - 1)) / np.expm1(-exponent)
    state = np.maximum(rest + (before - rest) * np.exp(-speed * inside), 1e-300)
    time = (number - 1) * width + inside
    return state, np.maximum((growth - speed * state) * time / state, 1e-9)


def fit_growth(trains: tuple[Train, ...], law: str, level: float) -> Fit:
    """k_g and tau_r from pulses-to-fire for a given x_th (3.6, 8.1): ln x(fire) = ln x_th + noise.

    Uses the real-valued moment of the fire, not only the pulse number; the integer n* is checked
    afterwards (notes). What was observed is a time, so the residuals are divided by the geometric
    mean of d ln x / d ln t (maximum likelihood; without it a saturated x = x_th = 1 would fit
    anything). `level` x_th is not fitted: x is hidden, only its saturation tells its scale, and
    with 3 % scatter of the fire level 60 trains leave x_th anywhere between 0.5 and 0.9.
    Parameters: "growth.rate", "growth.scale", "growth.relaxation_time". Power law: p = 1.
    """
    if len(trains) < 8:
        raise ValueError(f"expected at least 8 trains that fire, got {len(trains)}")
    volts, width, gap = (
        np.array([getattr(t, name) for t in trains]) for name in ("voltage", "width", "gap")
    )
    number = np.array([train.pulses for train in trains])
    inside = np.array([train.inside for train in trains])
    seen = (number - 1) * width + inside
    rows = np.array([width, gap, number, inside])
    if np.unique(np.round(volts, 6)).size < 3:
        raise ValueError("expected trains at 3 amplitudes or more")
    low, high = float(volts.min()), float(volts.max())

    def natural(p: Floats) -> tuple[float, float, float]:
        scale = low - math.exp(p[1]) if law == "power" else math.exp(p[1])
        return math.exp(p[0]), scale, math.exp(p[2])

    def residuals(p: Floats) -> Floats:
        rate, scale, tau = natural(p)
        state, slope = state_at_fire(_rates(law, rate, scale, volts), tau, rows)
        return np.asarray(np.log(state / level) / np.exp(np.log(slope).mean()))

    period = float(np.median(width + gap))
    bounds = (
        np.array([-60.0, math.log(0.01 * low), math.log(0.05 * period)]),
        np.array([60.0, math.log(3.0 * high), math.log(1e4 * period)]),
    )
    best: Any = None
    for shift in (0.1, 0.3, 0.8):
        for tau in (3.0, 30.0):
            scale = low - shift * low if law == "power" else shift * low
            unit = float(_rates(law, 1.0, scale, np.array([np.median(volts)]))[0])
            rate = 0.8 / float(np.median(seen)) / unit
            start = np.array([math.log(rate), math.log(shift * low), math.log(tau * period)])
            start = np.clip(start, bounds[0] + 1e-6, bounds[1] - 1e-6)
            found = least_squares(residuals, start, x_scale="jac", bounds=bounds)
            if best is None or found.cost < best.cost:
                best = found
    found, freedom = best, len(trains) - 3
    variance = float(found.fun @ found.fun) / freedom
    covariance = variance * np.linalg.pinv(found.jac.T @ found.jac)
    rate, scale, tau = natural(found.x)
    jacobian = np.diag([rate, scale - low if law == "power" else scale, tau])
    neuron = SelfIntegratingNeuron(GrowthLaw(law, rate, scale), tau, level, min(0.5, level))
    told = np.array(
        [neuron.pulses_to_fire(*row) for row in zip(volts, width, gap, strict=True)], float
    )
    equal, near = int((told == number).sum()), int((np.abs(told - number) <= 1).sum())
    return Fit(
        law,
        ("growth.rate", "growth.scale", "growth.relaxation_time"),
        np.array([rate, scale, tau]),
        jacobian @ covariance @ jacobian.T,
        math.sqrt(variance),
        np.column_stack([volts, number]),
        np.column_stack([volts, told]),
        (f"n* predicted exactly in {equal} of {len(trains)} trains, within one in {near}",),
    )


def best_growth(trains: tuple[Train, ...], level: float) -> Fit:
    """The growth law with the smallest residual; all three have as many parameters."""
    fits = [fit_growth(trains, law, level) for law in ("power", "sinh", "exp")]
    best = min(fits, key=lambda fit: fit.residual)
    others = ", ".join(f"{fit.law} {fit.residual:.3g}" for fit in fits)
    return replace(best, notes=(*best.notes, f"residual of ln t by law: {others}"))
