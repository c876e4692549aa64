"""Growth law, forgetting time and fire level from measured pulse trains (device.md 3.6, 8.1).

The moments of the fires alone do not tell x_th: with y = x/x_th and kappa = k_g/x_th a pulse obeys
dy/dt = kappa - (x_th kappa + 1/tau_r) y, fire at y = 1, so x_th shows only in how y saturates, less
than a fire level that scatters by a few percent (a likelihood of 140 trains leaves 0.2 to 0.8).
The current before the fire shows the state itself, I = V [G_off + (G_pre - G_off) x], and how it
saturates gives the absolute scale of x. So:

* creep: current samples before the fire give k_1, the law's scale, tau_r, G_off and G_pre by least
  squares; then each train bounds its fire level by the states at its last sample OFF and its first
  ON, and x_th is the mean of the levels by maximum likelihood with silent trains censored.
* no creep visible: k_1, scale and tau_r by maximum likelihood of the fires, x_th held at the
  assumed value, and the result says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from neurosim.devices.calibration.growth_model import (
    columns,
    growth_rates,
    hessian,
    level_cost,
    minimum,
    state_in_train,
)
from neurosim.devices.calibration.laws import Fit
from neurosim.devices.calibration.trains import Train
from neurosim.devices.self_integrating import LAWS, GrowthLaw, SelfIntegratingNeuron

Floats = npt.NDArray[np.float64]
NAMES = ("growth.rate", "growth.scale", "growth.relaxation_time")
LN2 = math.log(2.0)
LEAST_CREEP = 10.0  # standard errors of G_pre/G_off - 1 below which the creep is not used
WORST_LEVEL = 0.06  # standard error of x_th above which it says less than the class default


def _natural(law: str, p: Floats, top: float) -> tuple[float, float, float]:
    """(rate, scale, tau) of ln rate, ln scale (power: ln(V_max - V_c)) and ln tau."""
    scale = top - math.exp(p[1]) if law == "power" else math.exp(p[1])
    return math.exp(p[0]), scale, math.exp(p[2])


@dataclass(frozen=True)
class _Found:
    """A fit: parameters ln k_1, scale, ln tau_r [, x_th], their covariance, cost, scatter s."""

    law: str
    point: Floats
    covariance: Floats
    cost: float
    scatter: float
    level: float
    ratio: tuple[float, float] | None  # G_pre/G_off and its standard error


def _starts(law: str, data: Floats) -> list[Floats]:
    """A coarse grid of ln k_1, scale, ln tau_r."""
    volts, width, gap, number, _, inside, fired = data
    on = fired > 0.0
    seen = float(np.median((number[on] - 1.0) * width[on] + inside[on]))
    middle = np.array([float(np.median(volts[on]))])
    low, high = float(volts.min()), float(volts.max())
    found = []
    for part in (0.1, 0.3, 0.6, 0.9):
        scale = low * (1.0 - part) if law == "power" else part * low
        unit = float(growth_rates(law, 1.0, scale, middle)[0])
        offset = math.log(high - scale if law == "power" else scale)
        for tau in np.geomspace(1.0, 100.0, 6) * float(np.median(width + gap)):
            for speed in (0.2, 0.5, 1.0, 2.0):
                found.append(np.array([math.log(speed / seen / unit), offset, math.log(tau)]))
    return found


def _creep(trains: tuple[Train, ...], law: str) -> tuple[Floats, Floats, float]:
    """Least squares of i/v against G_off + (G_pre - G_off) x: (5 parameters, covariance, cost).

    Parameters: ln k_1, scale, ln tau_r, ln G_off, ln(G_pre/G_off - 1); residuals relative. Errors
    are those of independent samples or of independent trains (summed scores), the larger: noise
    within a train may be correlated.
    """
    data = columns(trains)
    top = float(data[0].max())
    sizes = [t.creep.shape[0] for t in trains]
    volts, width, gap = (np.repeat(row, sizes) for row in data[:3])
    number, inside, seen = np.concatenate([t.creep for t in trains]).T

    def states(p: Floats, rows: slice) -> Floats:
        rate, scale, tau = _natural(law, p, top)
        growth = growth_rates(law, rate, scale, volts[rows])
        return state_in_train(growth, tau, width[rows], gap[rows], number[rows], inside[rows])

    thin = slice(None, None, max(1, seen.size // 1500))

    def projected(p: Floats) -> tuple[float, Floats]:
        design = np.column_stack([np.ones(seen[thin].size), states(p, thin)])
        weight = 1.0 / np.maximum(np.abs(seen[thin]), 1e-3 * float(np.abs(seen).max()))
        solved, *_ = np.linalg.lstsq(design * weight[:, None], seen[thin] * weight, rcond=None)
        rest = (design @ solved - seen[thin]) * weight
        return float(rest @ rest), solved

    def residuals(p: Floats, rows: slice) -> Floats:
        model = math.exp(p[3]) * (1.0 + math.exp(p[4]) * states(p, rows))
        return np.asarray(np.clip(seen[rows] / model - 1.0, -1e6, 1e6))

    quiet = float(np.median(np.abs([t.creep[:3, 2].mean() for t in trains if t.creep.size])))
    bounds = (np.r_[np.full(3, -60.0), math.log(quiet) - 5.0, -12.0], np.r_[60.0, 5.0, 30.0, 0, 12])
    bounds[1][3] = math.log(quiet) + 5.0
    best: tuple[float, Floats] | None = None
    for start in sorted(_starts(law, data), key=lambda p: projected(p)[0])[:3]:
        off, rise = projected(start)[1]
        first = np.r_[start, math.log(quiet), math.log(max(rise / max(off, quiet), 1e-3))]
        first = np.clip(first, bounds[0] + 1e-9, bounds[1] - 1e-9)
        run = least_squares(residuals, first, x_scale="jac", bounds=bounds, args=(thin,))
        if best is None or run.cost < best[0]:
            best = (float(run.cost), run.x)
    assert best is not None
    run = least_squares(residuals, best[1], x_scale="jac", bounds=bounds, args=(slice(None),))
    freedom = max(run.fun.size - 5, 1)
    inverse = np.linalg.pinv(run.jac.T @ run.jac)
    covariance = 2.0 * run.cost / freedom * inverse
    edges = np.cumsum([0, *sizes])[:-1][np.array(sizes) > 0]
    scores = np.add.reduceat(run.jac * run.fun[:, None], edges, axis=0)
    grouped = inverse @ (scores.T @ scores) @ inverse
    stretch = np.sqrt(np.maximum(np.diag(grouped) / np.maximum(np.diag(covariance), 1e-300), 1.0))
    covariance *= np.outer(stretch, stretch)
    return run.x, covariance, 0.5 * freedom * math.log(max(2.0 * run.cost / freedom, 1e-300))


def _levels(law: str, p: Floats, data: Floats) -> tuple[float, float, float]:
    """(x_th, its standard error, s) of the fire levels for a known growth, by `level_cost`."""
    volts, width, gap, number, early, late, fired = data
    rate, scale, tau = _natural(law, p, float(volts.max()))
    growth = growth_rates(law, rate, scale, volts)
    high = state_in_train(growth, tau, width, gap, number, late)
    low = state_in_train(growth, tau, width, gap, number, early)
    ended = state_in_train(growth, tau, width, gap, np.maximum(number - 1.0, 1.0), width)
    low = np.maximum(low, np.where(number > 1.0, np.minimum(ended, 0.999 * high), 0.0))
    middle = 0.5 * (low + high)[fired > 0.0]
    start = np.array([math.log(max(float(np.median(middle)), 1e-6)), math.log(0.05)])

    def cost(q: Floats) -> float:
        if np.abs(q).max() > 20.0:
            return 1e12
        return level_cost(low, high, fired, math.exp(q[0]), math.exp(q[1]))

    point, _ = minimum(cost, start)
    error = math.sqrt(max(float(np.linalg.pinv(hessian(cost, point))[0, 0]), 0.0))
    level = math.exp(point[0])
    return level, level * error, math.exp(point[1])


def _by_creep(trains: tuple[Train, ...]) -> _Found | None:
    """All four numbers from the current before the fire; None where it shows no creep."""
    if sum(t.creep.shape[0] for t in trains) < 100:
        return None
    runs = {law: _creep(trains, law) for law in LAWS}
    law = min(runs, key=lambda name: runs[name][2])
    p, covariance, cost = runs[law]
    if not math.sqrt(covariance[4, 4]) * LEAST_CREEP < 1.0 or p[4] < -11.0:
        return None
    data = columns(trains)
    level, error, scatter = _levels(law, p, data)
    if not 0.02 < level < 0.98:
        return None
    slopes = np.zeros(5)
    for k in range(3):
        step = max(0.3 * math.sqrt(covariance[k, k]), 1e-6)
        moved = [p + sign * step * np.eye(5)[k] for sign in (1.0, -1.0)]
        slopes[k] = (_levels(law, moved[0], data)[0] - _levels(law, moved[1], data)[0]) / 2 / step
    joint = np.zeros((4, 4))
    joint[:3, :3] = covariance[:3, :3]
    joint[3, :3] = joint[:3, 3] = (covariance @ slopes)[:3]
    joint[3, 3] = float(slopes @ covariance @ slopes) + error**2
    if not math.sqrt(joint[3, 3]) < WORST_LEVEL:
        return None
    rise = math.exp(p[4])
    ratio = (1.0 + rise, rise * math.sqrt(covariance[4, 4]))
    return _Found(law, np.r_[p[:3], level], joint, cost, scatter, level, ratio)


def _by_fires(trains: tuple[Train, ...], level: float) -> _Found:
    """k_1, scale and tau_r from the moments of the fires for an assumed x_th.

    That the level of a train is above the end of the pulse before enters softened over a third of
    a sample: as a hard constraint on k_1 and tau_r it would make the likelihood irregular.
    """
    data = columns(trains)
    volts, width, gap, number, early, late, fired = data
    found = []
    for law in LAWS:

        def cost(q: Floats, law: str = law) -> float:
            if np.abs(q).max() > 60.0:
                return 1e12
            rate, scale, tau = _natural(law, q, float(volts.max()))
            growth = growth_rates(law, rate, scale, volts)
            high = state_in_train(growth, tau, width, gap, number, late)
            low = state_in_train(growth, tau, width, gap, number, early)
            ended = state_in_train(growth, tau, width, gap, np.maximum(number - 1.0, 1.0), width)
            ended = np.where(number > 1.0, ended, low)
            soft = 0.3 * np.abs(high - low) + 1e-12
            low = low + soft * (np.logaddexp(0.0, (ended - low) / soft) - LN2 * (number < 2.0))
            high = np.where(fired > 0.0, low + soft * np.logaddexp(0.0, (high - low) / soft), high)
            return level_cost(low, high, fired, level, math.exp(q[3]))

        starts = sorted((np.r_[p, -1.5] for p in _starts(law, data)), key=cost)[:2]
        point, least = min((minimum(cost, p) for p in starts), key=lambda run: run[1])
        curvature = hessian(cost, point)
        inverse: Floats = np.asarray(np.linalg.pinv(curvature, hermitian=True)[:3, :3], np.float64)
        found.append(_Found(law, point[:3], inverse, least, math.exp(point[3]), level, None))
    return min(found, key=lambda one: one.cost)


def fit_growth(trains: tuple[Train, ...], level: float) -> Fit:
    """k_g, tau_r and, where the current shows the growth, x_th; else x_th = `level`, assumed.

    The likeliest law of `GrowthLaw` (power: p = 1). The integer n* of every train is checked
    afterwards (notes). residual: s, the relative scatter of the fire level.
    """
    fires = [train for train in trains if train.fired]
    if len(fires) < 8:
        raise ValueError(f"expected at least 8 trains that fire, got {len(fires)}")
    if np.unique(np.round([train.voltage for train in fires], 6)).size < 3:
        raise ValueError("expected trains that fire at 3 amplitudes or more")
    found = _by_creep(trains)
    if found is None:
        found = _by_fires(trains, level)
        words = (
            f"x_th NOT identified by these trains (the current before the fire shows no creep, or "
            f"too little): held at the assumed {level:g}; growth.rate scales with it"
        )
    else:
        words = "x_th from the creep of the current before the fire"
    top = max(train.voltage for train in trains)
    rate, scale, tau = _natural(found.law, found.point, top)
    slopes = np.diag([rate, scale - top if found.law == "power" else scale, tau])
    names: tuple[str, ...] = NAMES
    values, covariance = np.array([rate, scale, tau]), found.covariance
    if found.ratio is not None:
        slopes = np.diag([*np.diag(slopes), 1.0])
        values, names = np.append(values, found.level), (*NAMES, "growth.threshold")
    data = columns(trains)
    law = GrowthLaw(found.law, rate, scale)
    neuron = SelfIntegratingNeuron(law, tau, found.level, 0.5 * found.level)
    told = neuron.pulses_to_fire_table(data[0], data[1], data[2])
    number, on = data[3], data[6] > 0.0
    silent = int(((told == 0) | (told > number))[~on].sum())
    equal, near = int((told == number)[on].sum()), int((np.abs(told - number) <= 1)[on].sum())
    return Fit(
        found.law,
        names,
        values,
        slopes @ covariance @ slopes,
        found.scatter,
        np.column_stack([data[0], number])[on],
        np.column_stack([data[0], told])[on],
        (
            words,
            f"fire level scatters by {100 * found.scatter:.2g} % from train to train",
            f"n* predicted exactly in {equal} of {len(fires)} trains that fired, within one in "
            f"{near}; silence in {silent} of {int((~on).sum())}",
            f"critical DC voltage {neuron.critical_voltage:.4g} V",
        ),
        {"growth.pre_ratio": found.ratio} if found.ratio is not None else {},
    )
