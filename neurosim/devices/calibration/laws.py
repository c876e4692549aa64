"""Least-squares fits of delay and relaxation laws (device.md 3.4 b, 3.8, 8.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.stats import kstest

from neurosim.devices.calibration.files import Table, groups

Floats = npt.NDArray[np.float64]
EULER = 0.5772156649015329


@dataclass(frozen=True)
class Fit:
    """A fitted law: names and values of its parameters, their covariance, residual deviation.

    `data` and `curve`: (n, 2) points measured and the law at the same abscissae, for the figure.
    more: numbers fitted beside the law, name -> (value, standard error).
    """

    law: str
    names: tuple[str, ...]
    values: Floats
    covariance: Floats
    residual: float
    data: Floats
    curve: Floats
    notes: tuple[str, ...] = ()
    more: Mapping[str, tuple[float, float]] = field(default_factory=dict)

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
    verdict = "exponential" if p_value > 0.01 else "NOT exponential: the hazard law does not hold"
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
