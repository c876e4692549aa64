"""How the filament dissolves without drive (device.md 3.4, 3.5, 3.8), all closed form.

Conductance laws: "herring" G_0 sqrt(1 - t/tau_r) with an abrupt rupture at tau_r (surface
diffusion, radius (1 - t/tau_r)^(1/4)); "exponential" G_0 e^(-t/tau_r); "stretched" G_0
e^(-(t/tau_r)^beta). Time constant: tau_r = tau_ref (I_cc/I_ref)^p (T/T_ref) e^(E_s/k (1/T - 1/
T_ref)), p = 2 from r_0^4 with r_0^2 proportional to I_cc.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.devices.temperature import BOLTZMANN_EV
from neurosim.devices.two_exponentials import first_crossing

Floats = npt.NDArray[np.float64]
LAWS = ("herring", "exponential", "stretched")


@dataclass(frozen=True)
class Relaxation:
    """A relaxation law and what its time constant depends on.

    time: tau_ref, s, at `compliance` (A) and `temperature` (K). exponent: p. energy: E_s, eV.
    stretch: beta. spread: sigma_r of the lognormal factor e^(sigma_r eps - sigma_r^2/2) on tau_r.
    """

    time: float
    law: str = "exponential"
    compliance: float = 1e-4
    exponent: float = 2.0
    temperature: float = 300.0
    energy: float = 0.4
    stretch: float = 1.0
    spread: float = 0.0

    def __post_init__(self) -> None:
        if self.law not in LAWS:
            raise ValueError(f"expected a law out of {', '.join(LAWS)}, got {self.law!r}")
        for name in ("time", "compliance", "temperature", "stretch"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")
        for name in ("exponent", "energy", "spread"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"expected {name} >= 0, got {getattr(self, name)}")

    def time_constant(
        self, compliance: float | None = None, temperature: float | None = None, normal: float = 0.0
    ) -> float:
        """tau_r at I_cc (A) and T (K), s; `normal`: the standard normal draw of this event."""
        amperes = self.compliance if compliance is None else compliance
        kelvin = self.temperature if temperature is None else temperature
        if amperes <= 0.0 or kelvin <= 0.0:
            raise ValueError(f"expected I_cc > 0 A and T > 0 K, got {amperes} and {kelvin}")
        arrhenius = self.energy / BOLTZMANN_EV * (1.0 / kelvin - 1.0 / self.temperature)
        scatter = self.spread * normal - 0.5 * self.spread**2
        power = (amperes / self.compliance) ** self.exponent
        return float(self.time * power * kelvin / self.temperature * math.exp(arrhenius + scatter))

    def times(self, draws: int, rng: np.random.Generator) -> Floats:
        """`draws` lognormal relaxation times at the reference point, s; their mean is `time`."""
        factor = self.spread * rng.standard_normal(draws) - 0.5 * self.spread**2
        return np.asarray(self.time * np.exp(factor))

    def remaining(self, time: npt.ArrayLike, time_constant: float | None = None) -> Floats:
        """G(t)/G_0, or the residue z(t)/z(0), after `time` (s) without drive."""
        ratio = np.asarray(time, dtype=np.float64) / (time_constant or self.time)
        if self.law == "herring":
            return np.sqrt(np.maximum(1.0 - ratio, 0.0))
        return np.exp(-(ratio**self.stretch) if self.law == "stretched" else -ratio)

    def radius(self, time: npt.ArrayLike, time_constant: float | None = None) -> Floats:
        """r(t)/r_0 of law "herring", (1 - t/tau_r)^(1/4); sqrt(G/G_0) for the others."""
        return np.sqrt(self.remaining(time, time_constant))

    def time_to(self, remaining: float, time_constant: float | None = None) -> float:
        """Time at which G/G_0 has fallen to `remaining` in (0, 1], s."""
        if not 0.0 < remaining <= 1.0:
            raise ValueError(f"expected 0 < remaining <= 1, got {remaining}")
        tau = time_constant or self.time
        if self.law == "herring":
            return float(tau * (1.0 - remaining**2))
        power = 1.0 / self.stretch if self.law == "stretched" else 1.0
        return float(tau * (-math.log(remaining)) ** power)


def lowered_threshold(
    threshold: float, hold: float, residue: float, exponent: float = 1.0
) -> float:
    """V_th,eff = V_h + (V_th - V_h)(1 - z^m), V: facilitation by what is left of the filament."""
    return float(hold + (threshold - hold) * (1.0 - residue**exponent))


def moving_crossing(
    start: float,
    asymptote: float,
    tau: float,
    threshold: float,
    hold: float,
    residue: float,
    tau_r: float,
    exponent: float = 1.0,
) -> float:
    """First time V(t) = V_th,eff(t) for an exponentially relaxing residue, s; inf if never.

    V(t) = V* + (V_0 - V*) e^(-t/tau); z(t) = residue e^(-t/tau_r). Both are exponentials, so there
    are two crossings at most and the first is returned. The other relaxation laws have no such
    bracket: take the threshold at the start of the segment where tau_r is far from its length.
    """
    lowering = (threshold - hold) * residue**exponent
    rate, falling = 1.0 / tau, exponent / tau_r
    return first_crossing(
        threshold, start + lowering, asymptote, rate, lowering * (rate - falling), falling
    )


def pinch_off_time(radius: float, diffusivity: float, temperature: float = 300.0) -> float:
    """tau_R = r_0^4 / B with B = D_s gamma Omega^2 n_s / (kT), s (Mullins-Herring, device.md 3.8).

    radius: m; diffusivity D_s: m^2/s. Ag: gamma 1.2 J/m^2, Omega 1.7e-29 m^3, n_s 1.5e19 m^-2
    (evidence: derived, order of magnitude).
    """
    from scipy.constants import k

    mobility = diffusivity * 1.2 * 1.7e-29**2 * 1.5e19 / (k * temperature)
    return float(radius**4 / mobility)
