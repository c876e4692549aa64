"""Exponential integrals as compiled scalars, scaled so that nothing overflows (device.md 3.4, 3.5).

E_n(x) = integral over t > 1 of e^(-x t) / t^n; Ei(x) = -E1(-x), principal value. Power series near
zero, continued fraction (modified Lentz) or asymptotic series elsewhere: Abramowitz & Stegun 5.1
(1964). Relative error below 2e-15 away from the zero of Ei at 0.3725.
"""

from __future__ import annotations

import math

from neurosim.kernels._jit import compiled

_EULER = 0.5772156649015329
_EPSILON = 1e-17
_ASYMPTOTIC = 45.0  # from here k! / x^k falls below 1e-17 before it grows


@compiled
def _fraction(order: int, x: float) -> float:
    """e^x E_n(x) for x > 1 by its continued fraction."""
    b = x + order
    c = 1e300
    d = 1.0 / b
    value = d
    for k in range(1, 200):
        a = -k * (order - 1 + k)
        b += 2.0
        d = 1.0 / (a * d + b)
        c = b + a / c
        factor = c * d
        value *= factor
        if abs(factor - 1.0) < 1e-16:
            break
    return value


@compiled
def _series(x: float) -> float:
    """Sum over k >= 1 of x^k / (k k!), any sign of x."""
    term = 1.0
    total = 0.0
    for k in range(1, 400):
        term *= x / k
        total += term / k
        if abs(term) < _EPSILON * k * abs(total):
            break
    return total


@compiled
def scaled_e1(x: float) -> float:
    """e^x E1(x) for x > 0; for x < 0 the same function continued: -e^x Ei(-x)."""
    if x > 1.0:
        return _fraction(1, x)
    if x > 0.0:
        return math.exp(x) * (-_EULER - math.log(x) - _series(-x))
    return -scaled_ei(-x)


@compiled
def scaled_e2(x: float) -> float:
    """e^x E2(x) for x >= 0, where E2(x) = e^-x - x E1(x) without its cancellation."""
    if x > 1.0:
        return _fraction(2, x)
    if x == 0.0:
        return 1.0
    return 1.0 - x * math.exp(x) * (-_EULER - math.log(x) - _series(-x))


@compiled
def scaled_ei(x: float) -> float:
    """e^-x Ei(x) for x > 0."""
    if x < _ASYMPTOTIC:
        return math.exp(-x) * (_EULER + math.log(x) + _series(x))
    term = 1.0
    total = 1.0
    k = 1
    while k < x and term > _EPSILON:
        term *= k / x
        total += term
        k += 1
    return total / x
