"""Counter-based random numbers: a draw is a pure function of (seed, stream, counter).

No state, so the result does not depend on the order of events or the number of threads. Hash:
the finaliser of splitmix64 (Steele, Lea & Flood 2014) applied twice; inverse normal: AS241
(Wichura 1988), absolute error below 1e-15.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled, inlined

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S12, _S27, _S30, _S31 = np.uint64(12), np.uint64(27), np.uint64(30), np.uint64(31)
_ONE = np.uint64(1)
_A = (
    2509.0809287301226727,
    33430.575583588128105,
    67265.770927008700853,
    45921.953931549871457,
    13731.693765509461125,
    1971.5909503065514427,
    133.14166789178437745,
    3.387132872796366608,
)
_B = (
    5226.495278852545925,
    28729.085735721942674,
    39307.89580009271061,
    21213.794301586595867,
    5394.1960214247511077,
    687.1870074920579083,
    42.313330701600911252,
    1.0,
)
_C = (
    7.7454501427834140764e-4,
    0.0227238449892691845833,
    0.24178072517745061177,
    1.27045825245236838258,
    3.64784832476320460504,
    5.7694972214606914055,
    4.6303378461565452959,
    1.42343711074968357734,
)
_D = (
    1.05075007164441684324e-9,
    5.475938084995344946e-4,
    0.0151986665636164571966,
    0.14810397642748007459,
    0.68976733498510000455,
    1.6763848301838038494,
    2.05319162663775882187,
    1.0,
)
_E = (
    2.01033439929228813265e-7,
    2.71155556874348757815e-5,
    0.0012426609473880784386,
    0.026532189526576123093,
    0.29656057182850489123,
    1.7848265399172913358,
    5.4637849111641143699,
    6.6579046435011037772,
)
_F = (
    2.04426310338993978564e-15,
    1.4215117583164458887e-7,
    1.8463183175100546818e-5,
    7.868691311456132591e-4,
    0.0148753612908506148525,
    0.13692988092273580531,
    0.59983220655588793769,
    1.0,
)


@compiled
def _mix(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@compiled
def stream_key(seed: np.uint64, stream: np.uint64) -> np.uint64:
    """Key of one stream (one neuron, one cell) under a seed."""
    return _mix(_mix(seed + _GOLDEN) + (stream + _ONE) * _GOLDEN)


@compiled
def uniform(key: np.uint64, counter: np.uint64) -> float:
    """Uniform in the open interval (0, 1): 52 bits and a half, so that neither end is reached."""
    bits = _mix(key + (counter + _ONE) * _GOLDEN) >> _S12
    return (float(bits) + 0.5) * 2.220446049250313e-16


@compiled
def _ratio(top: tuple[float, ...], bottom: tuple[float, ...], r: float) -> float:
    above = 0.0
    below = 0.0
    for k in range(8):
        above = above * r + top[k]
        below = below * r + bottom[k]
    return above / below


@compiled
def inverse_normal(p: float) -> float:
    """x with Phi(x) = p, 0 < p < 1."""
    q = p - 0.5
    if abs(q) <= 0.425:
        return q * _ratio(_A, _B, 0.180625 - q * q)
    r = math.sqrt(-math.log(p if q < 0.0 else 1.0 - p))
    x = _ratio(_C, _D, r - 1.6) if r <= 5.0 else _ratio(_E, _F, r - 5.0)
    return -x if q < 0.0 else x


_A0, _A1, _A2, _A3, _A4, _A5, _A6, _A7 = _A
_B0, _B1, _B2, _B3, _B4, _B5, _B6, _B7 = _B


@inlined
def _central(q: float) -> float:
    """`inverse_normal` of 0.5 + q, |q| <= 0.425, without a branch or a loop: it vectorises."""
    r = 0.180625 - q * q
    top = ((((((_A0 * r + _A1) * r + _A2) * r + _A3) * r + _A4) * r + _A5) * r + _A6) * r + _A7
    bottom = ((((((_B0 * r + _B1) * r + _B2) * r + _B3) * r + _B4) * r + _B5) * r + _B6) * r + _B7
    return float(q * np.divide(top, bottom))  # not /, which checks for zero


@compiled
def fill_normal(key: np.uint64, first: np.uint64, out: npt.NDArray[np.float64]) -> None:
    """out[i] = inverse_normal(uniform(key, first + i)) (to rounding), three times as fast."""
    p = np.empty(out.size)
    for i in range(out.size):
        p[i] = uniform(key, first + np.uint64(i))
    for i in range(out.size):
        out[i] = _central(p[i] - 0.5)
    for i in range(out.size):
        if abs(p[i] - 0.5) > 0.425:
            out[i] = inverse_normal(p[i])


@compiled
def upper_tail(x: float) -> float:
    """P(standard normal > x)."""
    return 0.5 * math.erfc(x * 0.7071067811865476)


@compiled
def truncated_normal(u: float, lower: float) -> float:
    """Standard normal given that it exceeds `lower`, by inversion of a uniform `u`.

    Below -6 standard deviations the draw is clipped instead: a chance of 1e-9. Above 30 the tail
    is exponential to 0.1 % and its probability soon underflows.
    """
    if lower > 30.0:
        return lower - math.log(u) / lower
    if lower < -6.0:
        return max(-inverse_normal(u), lower)
    return -inverse_normal(u * upper_tail(lower))
