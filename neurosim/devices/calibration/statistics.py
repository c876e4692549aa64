"""Cycle-to-cycle and device-to-device spread of a voltage: random-effects ANOVA with AR(1) (8.2).

Model: V_ik = mu + d_i + e_ik, d_i ~ N(0, sigma_D2D), e_ik an AR(1) chain with deviation sigma_C2C
and coefficient rho. With f = (1 + rho)/(1 - rho) the variance of a device's mean of n cycles is
sigma_C2C^2 f/n, hence E[s_within^2] = sigma_C2C^2 (n - f)/(n - 1) and E[s_means^2] = sigma_D2D^2 +
sigma_C2C^2 f/n. rho is the pooled lag-1 correlation with Kendall's bias (1 + 3 rho)/n taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm, shapiro

Floats = npt.NDArray[np.float64]
_MOST_TESTED = 4000  # Shapiro-Wilk's p-value is for at most 5000 values


@dataclass(frozen=True)
class Spread:
    """mean, sigma_C2C, sigma_D2D (V) and rho of one voltage; sigma_D2D is NaN for one device."""

    mean: float
    cycle: float
    device: float
    correlation: float

    def as_array(self) -> Floats:
        """(4,): mean, cycle, device, correlation."""
        return np.array([self.mean, self.cycle, self.device, self.correlation])


@dataclass(frozen=True)
class Sums:
    """What the estimate needs of every device, (k,): n, mean, sum of squares, lag-1 products."""

    count: Floats
    mean: Floats
    squares: Floats
    lagged: Floats

    @classmethod
    def of(cls, devices: Sequence[Floats]) -> Sums:
        """Sums of a list of cycles per device."""
        parts = []
        for values in devices:
            rest = values - values.mean()
            parts.append((values.size, values.mean(), rest @ rest, rest[1:] @ rest[:-1]))
        return cls(*np.array(parts, dtype=np.float64).T)

    def take(self, rows: npt.NDArray[np.int64]) -> Sums:
        """The devices in `rows`, repeated ones too."""
        return Sums(self.count[rows], self.mean[rows], self.squares[rows], self.lagged[rows])


def estimate(sums: Sums, step: float = 0.0, correlation: float | None = None) -> Spread:
    """Point estimates; `step`: sweep step, whose variance step^2/12 is taken off sigma_C2C^2.

    `correlation`: known rho (e.g. pooled over several voltages) instead of this one's own.
    """
    devices, size = sums.count.size, float(sums.count.mean())
    rho = raw_correlation(sums) if correlation is None else correlation
    factor = (1.0 + rho) / (1.0 - rho)
    within = float(sums.squares.sum() / (sums.count - 1.0).sum())
    cycle = max(within * (size - 1.0) / (size - factor) - step * step / 12.0, 0.0)
    if devices < 2:
        return Spread(float(sums.mean.mean()), cycle**0.5, np.nan, rho)
    between = float(sums.mean.var(ddof=1)) - cycle * factor * float((1.0 / sums.count).mean())
    return Spread(float(sums.mean.mean()), cycle**0.5, max(between, 0.0) ** 0.5, rho)


def raw_correlation(sums: Sums) -> float:
    """rho from the pooled lag-1 correlation, unbiased to first order, within (-0.95, 0.95)."""
    size = float(sums.count.mean())
    lag = float(sums.lagged.sum() / sums.squares.sum()) if sums.squares.sum() > 0.0 else 0.0
    lag *= size / (size - 1.0)
    return float(np.clip((size * lag + 1.0) / (size - 3.0), -0.95, 0.95))


def standard_errors(found: Spread, sums: Sums) -> Floats:
    """(4,): of mean, cycle, device and correlation, from the normal model."""
    devices, size, total = sums.count.size, float(sums.count.mean()), float(sums.count.sum())
    rho, factor = found.correlation, (1.0 + found.correlation) / (1.0 - found.correlation)
    noise = found.cycle**2 * factor / size
    between = 0.0 if np.isnan(found.device) else found.device**2
    mean = ((between + noise) / devices) ** 0.5
    cycle = found.cycle * ((1.0 + rho**2) / (1.0 - rho**2) / (2.0 * (total - devices))) ** 0.5
    device = np.nan
    if devices > 1:  # of the variance: sqrt(2/(k-1)) times the variance of the means
        spread = (2.0 / (devices - 1.0)) ** 0.5 * (between + noise)
        device = spread / (2.0 * found.device) if found.device > 0.0 else spread**0.5
    return np.array([mean, cycle, device, ((1.0 - rho**2) / total) ** 0.5])


def untruncated(found: Spread) -> Spread:
    """mu and sigmas of the normal whose part above 0 V has the moments found (device.md 3.4).

    Devices differ little beside the cycles, so one mean is truncated; sigma_D2D is divided by the
    slope of the truncated mean. Nothing changes where mu > 5 sigma.
    """
    if found.cycle == 0.0 or found.mean > 5.0 * found.cycle:
        return found

    def moments(mu: float, sigma: float) -> tuple[float, float]:
        bound = -mu / sigma
        ratio = float(norm.pdf(bound) / norm.sf(bound))
        return mu + sigma * ratio, sigma * (1.0 + bound * ratio - ratio * ratio) ** 0.5

    wanted = found.mean / found.cycle

    def mismatch(z: float) -> float:  # z = mu / sigma
        mean, deviation = moments(z, 1.0)
        return mean / deviation - wanted

    if not mismatch(-3.0) < 0.0 < mismatch(8.0):
        return found
    z = float(brentq(mismatch, -3.0, 8.0, xtol=1e-12))
    sigma = found.cycle / moments(z, 1.0)[1]
    slope = (moments(z + 1e-5, 1.0)[0] - moments(z - 1e-5, 1.0)[0]) / 2e-5
    return Spread(z * sigma, sigma, found.device / slope, found.correlation)


def bootstrap(
    devices: Sequence[Floats],
    of: Callable[[Sums], Floats],
    rng: np.random.Generator,
    draws: int = 400,
) -> Floats:
    """(draws, p): `of` on resampled devices; with one device on resampled blocks of its cycles."""
    if len(devices) > 1:
        sums = Sums.of(devices)
        picks = rng.integers(0, len(devices), (draws, len(devices)))
        return np.array([of(sums.take(row)) for row in picks])
    (values,) = devices
    block = max(1, round(values.size ** (1.0 / 3.0)))
    starts = rng.integers(0, values.size - block + 1, (draws, -(-values.size // block)))
    found = []
    for row in starts:
        index = (row[:, None] + np.arange(block)).ravel()[: values.size]
        found.append(of(Sums.of([values[index]])))
    return np.array(found)


def shape_of(devices: Sequence[Floats]) -> tuple[str, float, float]:
    """("normal" or "lognormal", p of normality, p of lognormality): Shapiro-Wilk on residuals.

    Lognormal only where the normal is refused at 1 % and the logarithm fits better.
    """
    plain = np.concatenate([values - values.mean() for values in devices])
    positive = all((values > 0.0).all() for values in devices)
    logs = [np.log(values) for values in devices] if positive else []
    stride = -(-plain.size // _MOST_TESTED)
    if np.ptp(plain) == 0.0:
        return "normal", 1.0, 1.0
    p_normal = float(shapiro(plain[::stride]).pvalue)
    p_log = 0.0
    if logs:
        rest = np.concatenate([values - values.mean() for values in logs])
        p_log = float(shapiro(rest[::stride]).pvalue)
    return ("lognormal" if p_normal < 0.01 and p_log > p_normal else "normal"), p_normal, p_log
