"""First crossing of a membrane under two exponential currents.

V(t) = V_rest + (V_0 - V_rest) x + r g_e (x - x_e) / (s_e - r) + r g_i (x - x_i) / (s_i - r)
with x = e^(-r t), x_e = e^(-s_e t), x_i = e^(-s_i t), and
dV/dt = r (V_rest - V + g_e x_e + g_i x_i). Where s / r is an integer, x_e and x_i are powers of x:
with tau_s = tau_m / 2 and tau_m / 4, V is a polynomial of degree 2 or 4 in x, found with one
exponential per step.

No crossing is missed, by Rolle's theorem: H = e^(r t) dV/dt has the derivative -r (g_e s_e e^((r -
s_e) t) + g_i s_i e^((r - s_i) t)), whose only zero t* is known in closed form. So H is monotone
before and after t*, has one zero at most in each part, and V at most one extremum. In each part the
level is looked for up to the extremum, in a bracket that holds one crossing. What can be missed: a
peak that exceeds the level by less than rounding, some 1e-15 (|V_rest| + |g_e| + |g_i|).
"""

from __future__ import annotations

import math

from neurosim.devices.two_exponentials import first_crossing as simple_crossing
from neurosim.devices.two_exponentials import kernel
from neurosim.kernels._jit import compiled

_STEPS = 200
_APART = 0.01  # rates closer than this, relatively, take the form without a pole
_NOTHING = 1e-200  # V; a current that has decayed below it would overflow the ratio of the two
LARGEST_POWER = 8


@compiled
def _decayed(time: float, x: float, rate: float, power: float) -> float:
    """e^(-rate t), as a power of x = e^(-r t) where `power` > 0."""
    if power == 0.0:
        return math.exp(-rate * time)
    result = x
    for _ in range(int(power) - 1):
        result *= x
    return result


@compiled
def voltage_and_slope(
    time: float,
    start: float,
    rest: float,
    r: float,
    excitatory: float,
    e_rate: float,
    e_power: float,
    inhibitory: float,
    i_rate: float,
    i_power: float,
) -> tuple[float, float]:
    """(V, dV/dt) `time` s after V = `start`. Powers: s / r where it is a small integer, else 0."""
    x = math.exp(-r * time)
    x_e = _decayed(time, x, e_rate, e_power)
    x_i = _decayed(time, x, i_rate, i_power)
    voltage = rest + (start - rest) * x
    if abs(e_rate - r) > _APART * r:
        voltage += excitatory * r * (x - x_e) / (e_rate - r)
    else:
        voltage += excitatory * r * kernel(time, r, e_rate)
    if abs(i_rate - r) > _APART * r:
        voltage += inhibitory * r * (x - x_i) / (i_rate - r)
    else:
        voltage += inhibitory * r * kernel(time, r, i_rate)
    return voltage, r * (rest - voltage + excitatory * x_e + inhibitory * x_i)


@compiled
def _root(
    level: float,
    low: float,
    high: float,
    start: float,
    rest: float,
    r: float,
    excitatory: float,
    e_rate: float,
    e_power: float,
    inhibitory: float,
    i_rate: float,
    i_power: float,
) -> float:
    """The crossing in low .. high, V(low) < level <= V(high): Newton, else halving."""
    time = high
    for _ in range(_STEPS):
        voltage, slope = voltage_and_slope(
            time, start, rest, r, excitatory, e_rate, e_power, inhibitory, i_rate, i_power
        )
        if voltage >= level:
            high = time
        else:
            low = time
        trial = time - (voltage - level) / slope if slope > 0.0 else low
        if not low < trial < high:
            trial = 0.5 * (low + high)
        if abs(trial - time) <= 1e-15 * time:
            return trial
        time = trial
    return time


@compiled
def _peak(
    level: float,
    low: float,
    high: float,
    start: float,
    rest: float,
    r: float,
    excitatory: float,
    e_rate: float,
    e_power: float,
    inhibitory: float,
    i_rate: float,
    i_power: float,
) -> float:
    """A time at which V >= level before the peak in low .. high ends; -1 if the peak is below.

    The slope is > 0 at `low` and <= 0 at `high`.
    """
    time = 0.5 * (low + high)
    for _ in range(_STEPS):
        voltage, slope = voltage_and_slope(
            time, start, rest, r, excitatory, e_rate, e_power, inhibitory, i_rate, i_power
        )
        if voltage >= level:
            return time
        if slope > 0.0:
            low = time
        else:
            high = time
        x = math.exp(-r * time)
        bend = -slope - excitatory * e_rate * _decayed(time, x, e_rate, e_power)
        bend = r * (bend - inhibitory * i_rate * _decayed(time, x, i_rate, i_power))
        trial = time - slope / bend if bend < 0.0 else low
        if not low < trial < high:
            trial = 0.5 * (low + high)
        if abs(trial - time) <= 1e-15 * time or high - low <= 1e-15 * high:
            return -1.0
        time = trial
    return -1.0


@compiled
def first_crossing(
    level: float,
    start: float,
    rest: float,
    r: float,
    excitatory: float,
    e_rate: float,
    e_power: float,
    inhibitory: float,
    i_rate: float,
    i_power: float,
) -> float:
    """Smallest t >= 0 with V(t) >= level, s; infinity if there is none."""
    if start >= level:
        return 0.0
    if r == 0.0 or level == math.inf:
        return math.inf
    if abs(excitatory) < _NOTHING:
        excitatory = 0.0
    if abs(inhibitory) < _NOTHING:
        inhibitory = 0.0
    bound = max(start, rest)
    if excitatory > 0.0:
        bound += excitatory * min(1.0, r / e_rate)
    if inhibitory > 0.0:
        bound += inhibitory * min(1.0, r / i_rate)
    if bound < level:
        return math.inf
    if inhibitory == 0.0:
        return simple_crossing(level, start, rest, r, r * excitatory, e_rate)
    if excitatory == 0.0 or e_rate == i_rate:
        return simple_crossing(level, start, rest, r, r * (excitatory + inhibitory), i_rate)
    slope = r * (rest - start + excitatory + inhibitory)
    low = 0.0
    if (excitatory > 0.0) != (inhibitory > 0.0):
        ratio = -inhibitory * i_rate / (excitatory * e_rate)
        turn = math.log(ratio) / (i_rate - e_rate)
        if turn > 0.0:
            there, slope_there = voltage_and_slope(
                turn, start, rest, r, excitatory, e_rate, e_power, inhibitory, i_rate, i_power
            )
            high = -1.0
            if there >= level:
                high = turn
            elif slope > 0.0 and slope_there <= 0.0:
                high = _peak(
                    level, 0.0, turn, start, rest, r, excitatory, e_rate, e_power, inhibitory,
                    i_rate, i_power,
                )  # fmt: skip
            if high > 0.0:
                return _root(
                    level, 0.0, high, start, rest, r, excitatory, e_rate, e_power, inhibitory,
                    i_rate, i_power,
                )  # fmt: skip
            low, slope = turn, slope_there
    slower = excitatory if e_rate < i_rate else inhibitory
    if rest <= level and (slope <= 0.0 or slower < 0.0):
        return math.inf  # V falls for good, or goes on to rest without a peak
    step = 1.0 / max(r, e_rate, i_rate)
    before = low
    while True:
        high = before + step
        voltage, slope = voltage_and_slope(
            high, start, rest, r, excitatory, e_rate, e_power, inhibitory, i_rate, i_power
        )
        if voltage >= level:
            break
        if rest <= level and slope <= 0.0:
            high = _peak(
                level, before, high, start, rest, r, excitatory, e_rate, e_power, inhibitory,
                i_rate, i_power,
            )  # fmt: skip
            if high < 0.0:
                return math.inf
            break
        if min(r, e_rate, i_rate) * high > 700.0:
            return math.inf  # everything has decayed: rest exceeds the level by rounding only
        before = high
        step *= 2.0
    return _root(
        level, before, high, start, rest, r, excitatory, e_rate, e_power, inhibitory, i_rate,
        i_power,
    )  # fmt: skip
