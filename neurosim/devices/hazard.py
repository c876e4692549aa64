"""Hazard (nucleation) rate: no sharp threshold, lambda(V) = lambda_0 e^(V/V_0) (device.md 3.4 b).

Exact sampling without a time step: draw e ~ Exp(1), accumulate H = integral of lambda dt over the
segments, and solve H(t) = e in the segment that exceeds it. On an RC segment, with u(t) = (V* -
V(t))/V_0 and S(u) = e^u E1(u) (u < 0: -e^u Ei(-u)),
    H(t) = tau [lambda(V(t)) S(u(t)) - lambda(V(0)) S(u(0))],
which covers V < V* (E1) and V > V* (Ei) alike and overflows in neither. Short segments, where the
difference would cancel, use Gauss-Legendre quadrature, exact to rounding there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.devices.closed_forms import voltage_after
from neurosim.devices.counter_random import stream_key, uniform
from neurosim.devices.exponential_integrals import scaled_e1
from neurosim.devices.temperature import BOLTZMANN_EV
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]
RAMP_SPREAD = math.pi / math.sqrt(6.0)
"""Standard deviation of V_th under a fast ramp, in units of V_0 (Gumbel): 1.2825."""
_NODES, _WEIGHTS = (tuple(values.tolist()) for values in np.polynomial.legendre.leggauss(16))
_EULER = 0.5772156649015329
_SHORT = 0.5  # segments with less change of ln lambda and less t / tau: quadrature
HAZARD_STREAMS = np.uint64(0x4A5A4A5A4A5A4A5A)
"""Exclusive-ored into a seed: keeps hazard draws apart from threshold draws."""


@compiled
def hazard_at(voltage: float, log_rate: float, scale: float) -> float:
    """lambda(V), 1/s, from ln lambda_0 and V_0; infinite where it overflows."""
    exponent = log_rate + voltage / scale
    return math.exp(exponent) if exponent < 709.0 else math.inf


@compiled
def hazard_integral(
    start: float,
    drive: float,
    conductance: float,
    capacitance: float,
    time: float,
    log_rate: float,
    scale: float,
) -> float:
    """H over `time` of the RC segment of `voltage_after` (V, A, S, F, s), dimensionless."""
    x = conductance * time / capacitance
    end = voltage_after(start, drive, conductance, capacitance, time)
    if abs(end - start) <= _SHORT * scale and x <= _SHORT:
        total = 0.0
        for i in range(16):
            t = 0.5 * time * (1.0 + _NODES[i])
            v = voltage_after(start, drive, conductance, capacitance, t)
            total += _WEIGHTS[i] * hazard_at(v, log_rate, scale)
        return 0.5 * time * total
    current = drive - conductance * start  # tau S(u) = scale C / current x u S(u)
    if conductance == 0.0 or abs(current) >= 1e14 * conductance * scale:
        ramp = scale * capacitance / current
        return ramp * (hazard_at(end, log_rate, scale) - hazard_at(start, log_rate, scale))
    tau = capacitance / conductance
    u = current / (conductance * scale)
    if u == 0.0:
        return time * hazard_at(start, log_rate, scale)
    last = u * math.exp(-x)
    at_rest = abs(last) < 1e-20  # E1(u) = -gamma - ln |u| there, and |last| may underflow
    factor = -_EULER - math.log(abs(u)) + x if at_rest else scaled_e1(last)
    after = hazard_at(end, log_rate, scale) * factor
    return tau * (after - hazard_at(start, log_rate, scale) * scaled_e1(u))


@compiled
def hazard_time(
    start: float,
    drive: float,
    conductance: float,
    capacitance: float,
    wanted: float,
    limit: float,
    log_rate: float,
    scale: float,
) -> float:
    """Smallest t with H(t) = `wanted`, s; infinity if H(limit) < wanted. Bracketed Newton."""
    if wanted <= 0.0:
        return 0.0
    high = limit
    if limit == math.inf:
        high = capacitance / conductance if conductance > 0.0 else 1.0
        for _ in range(2000):
            reached = hazard_integral(start, drive, conductance, capacitance, high, log_rate, scale)
            if reached >= wanted or high > 1e300:
                break
            high *= 2.0
    if not hazard_integral(start, drive, conductance, capacitance, high, log_rate, scale) >= wanted:
        return math.inf
    low = 0.0
    first = hazard_at(start, log_rate, scale)
    time = wanted / first if first * high > wanted else 0.5 * high
    for _ in range(300):
        reached = hazard_integral(start, drive, conductance, capacitance, time, log_rate, scale)
        if reached >= wanted:
            high = time
        else:
            low = time
        v = voltage_after(start, drive, conductance, capacitance, time)
        trial = time
        if 0.0 < reached < math.inf:  # Newton on ln H: H is close to exponential in t
            trial -= reached / hazard_at(v, log_rate, scale) * math.log(reached / wanted)
        if not low < trial < high:
            trial = 0.5 * (low + high)
        if abs(trial - time) <= 4e-16 * time or high - low <= 4e-16 * high:
            return trial
        time = trial
    return time


@compiled
def _times(
    start: float,
    drive: float,
    conductance: float,
    capacitance: float,
    limit: float,
    log_rate: float,
    scale: float,
    seed: np.uint64,
    first: int,
    cycle: int,
    result: Floats,
) -> None:
    for n in range(result.size):
        key = stream_key(seed ^ HAZARD_STREAMS, np.uint64(first + n))
        wanted = -math.log(uniform(key, np.uint64(cycle)))
        result[n] = hazard_time(
            start, drive, conductance, capacitance, wanted, limit, log_rate, scale
        )


@dataclass(frozen=True)
class Hazard:
    """lambda(V) = e^(log_rate + V / scale): ln(lambda_0 s) and V_0 in V.

    Membrane voltages; with an output resistor scale them to the device by R_off/(R_off + R_o).
    """

    log_rate: float
    scale: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.log_rate) and 0.0 < self.scale < math.inf):
            raise ValueError(
                f"expected a finite log_rate and scale > 0 V, got {self.log_rate}, {self.scale}"
            )

    @classmethod
    def from_ramp(cls, median: float, spread: float, ramp: float) -> Hazard:
        """The hazard with this median V_th (V) and C2C deviation (V) under a ramp (V/s).

        V_0 = sigma / 1.2825; median = V_0 ln(1 + r ln 2 / (lambda_0 V_0)).
        """
        scale = spread / RAMP_SPREAD
        x = median / scale
        log_rate = math.log(ramp * math.log(2.0) / scale) - x - math.log1p(-math.exp(-x))
        return cls(log_rate, scale)

    @classmethod
    def from_energy(
        cls, attempt: float, energy: float, charge: float, temperature: float
    ) -> Hazard:
        """lambda_0 = nu_0 e^(-E_a/kT), V_0 = kT/(alpha_z q): nu_0 in 1/s, E_a in eV, alpha_z, K."""
        thermal = BOLTZMANN_EV * temperature
        return cls(math.log(attempt) - energy / thermal, thermal / charge)

    def rate(self, voltage: float) -> float:
        """lambda(V), 1/s."""
        return hazard_at(voltage, self.log_rate, self.scale)

    def mean_delay(self, voltage: float) -> float:
        """Mean (and deviation) of the exponential delay at constant V: e^(-V/V_0)/lambda_0, s."""
        return math.exp(-self.log_rate - voltage / self.scale)

    def ramp_integral(self, voltage: float, ramp: float) -> float:
        """H of a ramp r (V/s) from 0 V to `voltage`: lambda_0 V_0 (e^(V/V_0) - 1)/r."""
        return self.scale / ramp * math.exp(self.log_rate) * math.expm1(voltage / self.scale)

    def ramp_quantile(self, probability: npt.ArrayLike, ramp: float) -> Floats:
        """V_th below which a ramp from 0 V fires with `probability`; 0.5 gives the median, V."""
        wanted = -np.log1p(-np.asarray(probability, dtype=np.float64))
        # ln(1 + e^a) without overflow
        a = np.log(wanted * ramp / self.scale) - self.log_rate
        return np.asarray(self.scale * np.logaddexp(0.0, a))

    def integral(
        self, start: float, drive: float, conductance: float, capacitance: float, time: float
    ) -> float:
        """H over an RC segment: start V, J at V = 0 (A), G (S), C (F), time (s)."""
        return hazard_integral(
            start, drive, conductance, capacitance, time, self.log_rate, self.scale
        )

    def solve(
        self,
        start: float,
        drive: float,
        conductance: float,
        capacitance: float,
        wanted: float,
        limit: float = math.inf,
    ) -> float:
        """When H reaches `wanted` on an RC segment of length `limit`, s; infinity if it does not.

        Over several segments: subtract each segment's `integral` from `wanted` and go on.
        """
        return hazard_time(
            start, drive, conductance, capacitance, wanted, limit, self.log_rate, self.scale
        )

    def sample(
        self,
        start: float,
        drive: float,
        conductance: float,
        capacitance: float,
        draws: int,
        seed: int,
        limit: float = math.inf,
        first: int = 0,
        cycle: int = 0,
    ) -> Floats:
        """Firing times of `draws` neurons on the same segment, s; draw n is (seed, first + n)."""
        result = np.empty(draws)
        _times(
            start, drive, conductance, capacitance, limit, self.log_rate, self.scale,
            np.uint64(seed), first, cycle, result,
        )  # fmt: skip
        return result


def median_threshold(
    energy: float, charge: float, attempt: float, ramp: float, temperature: float
) -> float:
    """V_th(T) = E_a/(alpha_z q) - V_0 ln[nu_0 V_0/(r ln 2)], V_0 = kT/(alpha_z q), V.

    The limit of `Hazard.from_energy(...).ramp_quantile(0.5, ramp)` for V_th >> V_0.
    """
    scale = BOLTZMANN_EV * temperature / charge
    return energy / charge - scale * math.log(attempt * scale / (ramp * math.log(2.0)))
