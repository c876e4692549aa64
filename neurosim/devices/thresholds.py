"""Thresholds drawn per device and per cycle (device.md 3.4 a).

V_th,k = mu_i + sigma_C2C z_k with z_k = rho z_(k-1) + sqrt(1 - rho^2) eps_k (AR(1)) and mu_i ~
N(mu, sigma_D2D) once per device; "lognormal": V_th,k = mu_i exp(s z_k - s^2 / 2) with s^2 = ln(1 +
(sigma_C2C / mu)^2), so that mean and standard deviation stay mu_i and, for mu_i = mu, sigma_C2C.
V_h is drawn likewise, independent of V_th. Truncation: V_h > 0 and V_th > V_h + 0.1 (mu_th -
mu_h); eps_k is drawn from the normal above its bound, so nothing is rejected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.devices.counter_random import stream_key, truncated_normal, uniform
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]
_ONE, _TWO = np.uint64(1), np.uint64(2)
_DEVICE_STREAMS = np.uint64(0x5EED5EED5EED5EED)  # keeps device draws apart from cycle draws
_FLOOR = 1e-9  # of the mean: what "above 0 V" means


@compiled
def draw_value(
    mean: float,
    spread: float,
    log_spread: float,
    rho: float,
    before: float,
    lowest: float,
    u: float,
) -> tuple[float, float]:
    """(voltage, z_k): one drawn voltage above `lowest` from a uniform `u`, given z_(k-1).

    `spread` in V for the normal, `log_spread` > 0 selects the lognormal.
    """
    if spread < _FLOOR * _FLOOR * mean and log_spread < _FLOOR * _FLOOR:
        return max(mean, lowest), 0.0
    if log_spread > 0.0:
        bound = math.log(max(lowest, 1e-300) / mean) / log_spread + 0.5 * log_spread
    else:
        bound = (lowest - mean) / spread
    fresh = math.sqrt(1.0 - rho * rho)
    z = rho * before + fresh * truncated_normal(u, (bound - rho * before) / fresh)
    if log_spread > 0.0:
        drawn = mean * math.exp(log_spread * z - 0.5 * log_spread * log_spread)
    else:
        drawn = mean + spread * z
    return max(drawn, lowest), z


@compiled
def draw_cycle(
    means: Floats, spreads: Floats, latent: Floats, key: np.uint64, cycle: np.uint64
) -> tuple[float, float]:
    """(V_th, V_h) of one cycle of one device; `latent` (2,) holds z_(k-1) and receives z_k.

    means (2,): V_th and V_h of the device, V. spreads (5,): sigma of V_th and V_h in V (0 if
    lognormal), the two log spreads (0 if normal), rho. In cycle 0 the chain starts from its
    stationary law (rho = 0 for that draw).
    """
    rho = spreads[4] if cycle > np.uint64(0) else 0.0
    u = uniform(key, _TWO * cycle + _ONE)
    hold, latent[1] = draw_value(
        means[1], spreads[1], spreads[3], rho, latent[1], _FLOOR * means[1], u
    )
    u = uniform(key, _TWO * cycle)
    lowest = hold + 0.1 * (means[0] - means[1])
    threshold, latent[0] = draw_value(means[0], spreads[0], spreads[2], rho, latent[0], lowest, u)
    return threshold, hold


@compiled
def _draw_cycles(
    means: Floats, spreads: Floats, seed: np.uint64, first: int, result: Floats
) -> None:
    """Fill result (N, cycles, 2) with V_th and V_h."""
    latent = np.zeros(2)
    for i in range(result.shape[0]):
        key = stream_key(seed, np.uint64(first + i))
        latent[:] = 0.0
        for cycle in range(result.shape[1]):
            pair = draw_cycle(means[i], spreads, latent, key, np.uint64(cycle))
            result[i, cycle, 0] = pair[0]
            result[i, cycle, 1] = pair[1]


@compiled
def _draw_means(
    threshold: float,
    hold: float,
    spread_threshold: float,
    spread_hold: float,
    seed: np.uint64,
    first: int,
    result: Floats,
) -> None:
    """Fill result (N, 2) with each device's own mean V_th and V_h."""
    means = np.array([threshold, hold])
    spreads = np.array([spread_threshold, spread_hold, 0.0, 0.0, 0.0])
    latent = np.zeros(2)
    for i in range(result.shape[0]):
        key = stream_key(seed ^ _DEVICE_STREAMS, np.uint64(first + i))
        pair = draw_cycle(means, spreads, latent, key, np.uint64(0))
        result[i, 0] = pair[0]
        result[i, 1] = pair[1]


@dataclass(frozen=True)
class ThresholdStatistics:
    """How thresholds scatter: standard deviations in V, cycle to cycle and device to device.

    `correlation`: rho of successive cycles, 0 <= rho < 1. `shape`: "normal" or "lognormal" (the
    cycle-to-cycle law; device to device is normal).
    """

    threshold_cycle: float = 0.0
    hold_cycle: float = 0.0
    threshold_device: float = 0.0
    hold_device: float = 0.0
    correlation: float = 0.0
    shape: str = "normal"

    def __post_init__(self) -> None:
        spreads = (self.threshold_cycle, self.hold_cycle, self.threshold_device, self.hold_device)
        if not all(0.0 <= value < math.inf for value in spreads):
            raise ValueError(f"expected spreads >= 0 V, got {spreads}")
        if not 0.0 <= self.correlation < 1.0:
            raise ValueError(f"expected 0 <= correlation < 1, got {self.correlation}")
        if self.shape not in ("normal", "lognormal"):
            raise ValueError(f'expected shape "normal" or "lognormal", got {self.shape!r}')

    def cycle_spreads(self, threshold: float, hold: float) -> Floats:
        """The (5,) array of `draw_cycle` for a device type with these mean voltages."""
        pairs = ((self.threshold_cycle, threshold), (self.hold_cycle, hold))
        if self.shape == "normal":
            return np.array([self.threshold_cycle, self.hold_cycle, 0.0, 0.0, self.correlation])
        logs = [math.sqrt(math.log1p((spread / mean) ** 2)) for spread, mean in pairs]
        return np.array([0.0, 0.0, *logs, self.correlation])

    def device_means(
        self, threshold: float, hold: float, devices: int, seed: int, first: int = 0
    ) -> Floats:
        """Mean (V_th, V_h) of each device, V, (devices, 2); device numbers start at `first`."""
        result = np.empty((devices, 2))
        _draw_means(
            threshold, hold, self.threshold_device, self.hold_device, np.uint64(seed), first, result
        )
        return result

    def cycles(
        self, threshold: float, hold: float, devices: int, cycles: int, seed: int, first: int = 0
    ) -> Floats:
        """Drawn (V_th, V_h) of every device and cycle, V, (devices, cycles, 2).

        The same numbers a population of `simulate` sees under the same seed.
        """
        means = self.device_means(threshold, hold, devices, seed, first)
        result = np.empty((devices, cycles, 2))
        _draw_cycles(means, self.cycle_spreads(threshold, hold), np.uint64(seed), first, result)
        return result


def interval_jitter(tau_off: float, asymptote: float, mean: float, spread: float) -> float:
    """Small-noise standard deviation of the firing time, s: tau_off sigma / (V_off* - mu)."""
    return tau_off * spread / (asymptote - mean)


def fired_before(voltage: Any, mean: float, spread: float) -> Any:
    """P(fired before the rising membrane reached `voltage`) = Phi((V - mu) / sigma)."""
    from scipy.special import ndtr

    return ndtr((np.asarray(voltage) - mean) / spread)
