"""Closed forms of one RC segment: C dV/dt = J - G V with constant J and G (device.md 3.2).

J is the total current at V = 0 (injected + G_L E_L + drivers), G the total conductance, x = G t /
C. Written in slopes and differences, so that both an ideal integrator (G -> 0) and a complete
discharge (x >> 1) keep full precision. Scalars, SI units, no argument checks: callers own them.
"""

from __future__ import annotations

import math

from neurosim.kernels._jit import compiled

_ASYMPTOTIC = 0.1  # below this x: Taylor series; above: forms around the asymptote J / G
_SHORT = 5e-3  # below this x six terms leave less than rounding: (2x)^6 3! / 9! = 2e-17
_OMEGA = tuple((-1.0) ** k / math.factorial(k + 3) for k in range(10, -1, -1))
_OMEGA_SHORT = _OMEGA[-6:]


@compiled
def voltage_after(
    start: float, drive: float, conductance: float, capacitance: float, time: float
) -> float:
    """V(t) from V(0) = `start`: V + (dV/dt at 0) t (1 - e^-x) / x."""
    x = conductance * time / capacitance
    fraction = -math.expm1(-x) / x if x > 1e-8 else 1.0 - 0.5 * x
    return start + (drive - conductance * start) / capacitance * time * fraction


@compiled
def crossing_time(gap: float, drive_left: float, conductance: float, capacitance: float) -> float:
    """Time to cross a voltage `gap` >= 0 when the net current at its far end is `drive_left` > 0.

    t = (C / G) log1p(G gap / drive_left). Rising: gap = V_u - V, drive_left = J - G V_u;
    falling: gap = V - V_d, drive_left = G V_d - J.
    """
    z = conductance * gap / drive_left
    ratio = math.log1p(z) / z if z > 1e-8 else 1.0 - 0.5 * z
    return capacitance * gap / drive_left * ratio


@compiled
def voltage_integrals(
    start: float, end: float, drive: float, conductance: float, capacitance: float, time: float
) -> tuple[float, float]:
    """(J1, J2) = (integral of V dt, integral of V^2 dt) over a segment from `start` to `end`.

    Small x: with w(x) = sum (-x)^k / (k + 3)!, psi = 1/2 - x w(x), chi = 4 w(2x) - 2 w(x) and s the
    initial slope, J1 = V t + s t^2 psi and J2 = V^2 t + 2 V s t^2 psi + s^2 t^3 chi.
    """
    x = conductance * time / capacitance
    if x >= _ASYMPTOTIC:
        asymptote = drive / conductance
        tau = capacitance / conductance
        change = tau * (start - end)
        second = asymptote * (asymptote * time + 2.0 * change)
        return (
            asymptote * time + change,
            second + 0.5 * change * (start + end - 2.0 * asymptote),
        )
    single = 0.0
    double = 0.0
    if x < _SHORT:
        for coefficient in _OMEGA_SHORT:
            single = single * x + coefficient
            double = double * (2.0 * x) + coefficient
    else:
        for coefficient in _OMEGA:
            single = single * x + coefficient
            double = double * (2.0 * x) + coefficient
    rise = (drive - conductance * start) / capacitance * time
    psi = 0.5 - x * single
    chi = 4.0 * double - 2.0 * single
    return (
        (start + rise * psi) * time,
        (start * start + 2.0 * start * rise * psi + rise * rise * chi) * time,
    )
