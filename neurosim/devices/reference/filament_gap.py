"""Tier 3: a filament with a gap, a neck and a temperature (device.md 3.8).

dg/dt = -nu_0 a e^(-E_a/kT) 2 sinh(q a V_M / (2 kT (g + g_min))) + (g_0 - g)/tau_g   while g > 0
dr/dt = (r_I - r)/tau_n where r < r_I  -  B(T)/(4 r^3),   B = D_s gamma Omega^2 n_s/(kT)
R_M = R_c + rho_f L/(pi r^2) (bridged) or R_t e^(g/lambda) (gap),  T = T_0 + R_th V_M I

The specification leaves v_diss(r) and the neck's growth open. Chosen here: a cut neck retracts to
g_0 at once, an open gap relaxes to g_0 with tau_g (infinite: the delay law), and a neck grows to
the radius r_I at which the filament drops V_on, so r^2 is proportional to I_cc and tau_R to I_cc^2.
All defaults are assumed or derived.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.constants import elementary_charge, k
from scipy.integrate import quad, solve_ivp

Floats = npt.NDArray[np.float64]
_FRESH_NECK = 1.5  # radius of a neck that has just formed, in units of the cut-off radius


@dataclass(frozen=True)
class FilamentGap:
    """SI units, energies in eV.

    attempt: nu_0, 1/s. hop: a, m. growth_energy: E_a. gap: g_0, m. gap_floor: g_min, m (field stays
    finite). reopen_time: tau_g, s. tunnel_length: lambda, m. tunnel_resistance: R_t, ohm.
    contact_resistance: R_c, ohm. resistivity: rho_f, ohm m. length: L, m. on_voltage: V_on, V.
    neck_time: tau_n, s. neck_floor: radius at which the neck is cut, m. surface: D_0, m^2/s, with
    surface_energy E_s. tension: gamma, J/m^2. atomic_volume: Omega, m^3. sites: n_s, 1/m^2. bath:
    T_0, K. thermal: R_th, K/W.
    """

    attempt: float = 1e13
    hop: float = 0.3e-9
    growth_energy: float = 0.5
    gap: float = 2e-9
    gap_floor: float = 0.3e-9
    reopen_time: float = math.inf
    tunnel_length: float = 0.217e-9
    tunnel_resistance: float = 1e4
    contact_resistance: float = 100.0
    resistivity: float = 5e-7
    length: float = 5e-9
    on_voltage: float = 0.08
    neck_time: float = 1e-8
    neck_floor: float = 0.2e-9
    surface: float = 5.2e-6
    surface_energy: float = 0.4
    tension: float = 1.2
    atomic_volume: float = 1.7e-29
    sites: float = 1.5e19
    bath: float = 300.0
    thermal: float = 1e5

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0.0:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")

    def closing_speed(self, gap: float, voltage: float, temperature: float) -> float:
        """-dg/dt of the field-driven part, m/s."""
        thermal = k * temperature
        steep = elementary_charge * self.hop * voltage / (2.0 * thermal * (gap + self.gap_floor))
        rate = self.attempt * math.exp(-self.growth_energy * elementary_charge / thermal)
        return float(self.hop * rate * 2.0 * math.sinh(min(steep, 600.0)))

    def delay(self, voltage: float, temperature: float | None = None) -> float:
        """Time in which a constant V_M closes the gap without relaxation, s (exact quadrature)."""
        kelvin = self.bath if temperature is None else temperature
        value, _ = quad(
            lambda gap: 1.0 / self.closing_speed(gap, voltage, kelvin),
            0.0,
            self.gap,
            epsabs=0.0,
            epsrel=1e-12,
        )
        return float(value)

    def mobility(self, temperature: float) -> float:
        """B(T), m^4/s."""
        thermal = k * temperature
        diffusivity = self.surface * math.exp(-self.surface_energy * elementary_charge / thermal)
        return float(diffusivity * self.tension * self.atomic_volume**2 * self.sites / thermal)

    def lifetime(self, radius: float, temperature: float | None = None) -> float:
        """Time until a neck of `radius` is cut without drive, s: (r_0^4 - r_min^4)/B."""
        kelvin = self.bath if temperature is None else temperature
        return (radius**4 - self.neck_floor**4) / self.mobility(kelvin)

    def neck(self, current: float) -> float:
        """r_I: radius of the filament that drops V_on at this current (A), m."""
        return math.sqrt(self.resistivity * self.length * current / (math.pi * self.on_voltage))

    def resistance(self, gap: float, radius: float) -> float:
        """R_M, ohm."""
        if gap > 0.0:
            return self.tunnel_resistance * math.exp(gap / self.tunnel_length)
        return self.contact_resistance + self.resistivity * self.length / (math.pi * radius**2)

    def temperature(self, voltage: float, current: float) -> float:
        """T_0 + R_th V I, K."""
        return self.bath + self.thermal * voltage * current

    def simulate(
        self,
        segments: Sequence[tuple[float, float]],
        series: float,
        capacitance: float = 1e-12,
        rtol: float = 1e-7,
    ) -> GapRun:
        """Source voltages (V) for durations (s) through `series` (ohm) onto the node C (F).

        Solved phase by phase: the gap closes (bridged) and the neck is cut (open again) as events.
        """
        gap, radius, node = self.gap, self.neck_floor, 0.0
        bridged = False
        now = 0.0
        pieces: list[Floats] = []
        closings: list[float] = []
        openings: list[float] = []
        for source, duration in segments:
            left = duration
            while left > 0.0:

                def rates(
                    t: float, y: Floats, source: float = source, on: bool = bridged
                ) -> Floats:
                    v, s = float(y[0]), float(y[1])
                    ohms = self.resistance(0.0, s) if on else self.resistance(max(s, 1e-15), 0.0)
                    current = v / ohms
                    kelvin = self.temperature(v, current)
                    if on:
                        target = self.neck(max(current, 0.0))
                        grow = max(target - s, 0.0) / self.neck_time
                        ds = grow - self.mobility(kelvin) / (4.0 * s**3)
                    else:
                        ds = (self.gap - s) / self.reopen_time
                        ds -= self.closing_speed(max(s, 0.0), v, kelvin)
                    return np.array([((source - v) / series - current) / capacitance, ds])

                edge = self.neck_floor if bridged else 0.0

                def ends(t: float, y: Floats, edge: float = edge) -> float:
                    return (float(y[1]) - edge) * 1e9

                ends.terminal, ends.direction = True, -1.0  # type: ignore[attr-defined]
                start = np.array([node, radius if bridged else gap])
                solved = solve_ivp(
                    rates,
                    (0.0, left),
                    start,
                    method="LSODA",
                    rtol=rtol,
                    atol=[1e-9, 1e-16],
                    events=ends,
                )
                if not solved.success:
                    raise ValueError(f"the solver stopped: {solved.message}")
                zeros, state = np.zeros(solved.t.size), solved.y[1]
                pair = (zeros, state) if bridged else (state, zeros)
                pieces.append(np.array([now + solved.t, solved.y[0], *pair]))
                node, now, left = float(solved.y[0, -1]), now + solved.t[-1], left - solved.t[-1]
                if solved.status == 1:
                    (openings if bridged else closings).append(float(now))
                    bridged = not bridged
                    fresh = _FRESH_NECK * self.neck_floor
                    gap, radius = (0.0, fresh) if bridged else (self.gap, self.neck_floor)
                else:
                    gap, radius = (0.0, float(state[-1])) if bridged else (float(state[-1]), radius)
                    left = 0.0
        joined = np.concatenate(pieces, axis=1)
        time, voltage, gaps, radii = joined
        return GapRun(
            time, voltage, np.maximum(gaps, 0.0), radii, np.array(closings), np.array(openings)
        )


@dataclass(frozen=True, eq=False)
class GapRun:
    """Solver output: time (s), node voltage (V), gap (m, 0 if bridged), neck radius (m, 0 if open).

    closings, openings: times at which the gap closed and the neck was cut, s.
    """

    time: Floats
    voltage: Floats
    gap: Floats
    radius: Floats
    closings: Floats
    openings: Floats
