"""Growth state of many trains at once (device.md 3.6), and the fire levels it implies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_ndtr

from neurosim.devices.calibration.trains import Train

Floats = npt.NDArray[np.float64]


def growth_rates(law: str, rate: float, scale: float, volts: Floats) -> Floats:
    """k_g of a law of `GrowthLaw` (power: p = 1) for an array of voltages, 1/s."""
    if law == "power":
        return np.asarray(rate * np.maximum(volts - scale, 0.0))
    ratio = np.minimum(volts / scale, 300.0)
    return np.asarray(rate * (np.sinh(ratio) if law == "sinh" else np.expm1(ratio)))


def state_in_train(
    growth: Floats, tau: float, width: Floats, gap: Floats, number: Floats, inside: Floats
) -> Floats:
    """x at `inside` s in pulse `number` (from 1) of trains from x = 0, device OFF (3.6); (n,)."""
    speed = growth + 1.0 / tau
    rest = growth / speed
    exponent = speed * width + gap / tau
    build = np.expm1(-exponent * (number - 1)) / np.expm1(-exponent)
    before = rest * -np.expm1(-speed * width) * np.exp(-gap / tau) * build
    return np.asarray(rest + (before - rest) * np.exp(-speed * inside))


def columns(trains: tuple[Train, ...]) -> Floats:
    """Rows V, width, gap, pulse, last OFF, first ON, fired; (7, n)."""
    return np.array(
        [(t.voltage, t.width, t.gap, t.pulses, t.before, t.inside, t.fired) for t in trains],
        dtype=np.float64,
    ).T


def level_cost(low: Floats, high: Floats, fired: Floats, level: float, spread: float) -> float:
    """-ln L of fire levels x_th (1 + s eps), eps normal, one draw a train.

    A train seen OFF at x = `low` and ON at `high` bounds its level by both; one that stayed silent
    (`fired` 0) bounds it from below by `high`. Censoring: neither n* nor the time is rounded.
    """
    below = (low / level - 1.0) / spread
    above = (np.maximum(high, low * (1.0 + 1e-9)) / level - 1.0) / spread
    # the interval in the lower tail, where log_ndtr keeps its digits
    flip = below > 0.0
    a, b = np.where(flip, -above, below), np.where(flip, -below, above)
    top = log_ndtr(b)
    seen = top + np.log(-np.expm1(np.minimum(log_ndtr(a) - top, -1e-13)))
    total = -float(np.where(fired > 0.0, seen, log_ndtr(-above)).sum())
    return total if math.isfinite(total) else 1e12


def minimum(function: Callable[[Floats], float], start: Floats) -> tuple[Floats, float]:
    """Nelder-Mead, then quasi-Newton from there; (point, value) of the better."""
    options: dict[str, Any] = {"maxfev": 800, "xatol": 1e-7, "fatol": 1e-7}
    first = minimize(function, start, method="Nelder-Mead", options=options)
    second = minimize(function, first.x, method="BFGS", options={"maxiter": 60})
    best = min((first, second), key=lambda run: float(run.fun))
    return np.asarray(best.x), float(best.fun)


def hessian(function: Callable[[Floats], float], point: Floats) -> Floats:
    """Second differences with steps that raise the function by 0.05 to 1."""
    size = point.size
    steps = np.full(size, 3e-3)
    centre = function(point)
    for k in range(size):
        for _ in range(20):
            moved = point.copy()
            moved[k] += steps[k]
            rise = function(moved) - centre
            if 0.05 < rise < 1.0:
                break
            steps[k] *= 0.5 if rise >= 1.0 else 1.7
    result = np.empty((size, size))
    for i in range(size):
        for j in range(i + 1):
            total = 0.0
            for sign_i in (1.0, -1.0):
                for sign_j in (1.0, -1.0):
                    moved = point.copy()
                    moved[i] += sign_i * 0.5 * steps[i]
                    moved[j] += sign_j * 0.5 * steps[j]
                    total += sign_i * sign_j * function(moved)
            result[i, j] = result[j, i] = total / (steps[i] * steps[j])
    return result
