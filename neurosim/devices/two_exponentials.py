"""First crossing of rest + a e^(-t/tau_a) + b e^(-t/tau_b) through zero (device.md 3.3, 3.5).

Such a sum has one extremum at most, hence two zeros at most, each alone in a bracket. Used for
exponential synaptic currents and for thresholds that relax. Compiled scalars, SI units.
"""

from __future__ import annotations

import math

from neurosim.kernels._jit import compiled

_STEPS = 200


@compiled
def kernel(time: float, rate: float, synaptic_rate: float) -> float:
    """(e^(-r t) - e^(-s t)) / (s - r), also for s = r: response of a leak r to a decay s, s."""
    slow = min(rate, synaptic_rate)
    x = abs(synaptic_rate - rate) * time
    fraction = -math.expm1(-x) / x if x > 1e-8 else 1.0 - 0.5 * x
    return math.exp(-slow * time) * time * fraction


@compiled
def kernel_slope(time: float, rate: float, synaptic_rate: float) -> float:
    """Time derivative of `kernel`: e^(-s t) - r kernel."""
    return math.exp(-synaptic_rate * time) - rate * kernel(time, rate, synaptic_rate)


@compiled
def _extremum(start_slope: float, gain: float, rate: float, synaptic_rate: float) -> float:
    """Time of the extremum of V, infinity if it is monotone.

    dV/dt = e^(-r t) [start_slope - gain s q] with q = (1 - e^(-(s - r) t)) / (s - r).
    """
    if gain == 0.0:
        return math.inf
    if start_slope == 0.0:
        return 0.0 if gain < 0.0 else math.inf
    wanted = start_slope / (gain * synaptic_rate)
    x = (synaptic_rate - rate) * wanted
    if wanted < 0.0 or x >= 1.0:
        return math.inf
    return wanted * (-math.log1p(-x) / x if abs(x) > 1e-8 else 1.0 + 0.5 * x)


@compiled
def value(
    time: float, start: float, rest: float, rate: float, gain: float, synaptic_rate: float
) -> float:
    """V(t) = start + (rest - start)(1 - e^(-r t)) + gain kernel(t); gain = I_0 / C, V/s."""
    relaxed = -math.expm1(-rate * time)
    return start + (rest - start) * relaxed + gain * kernel(time, rate, synaptic_rate)


@compiled
def slope(
    time: float, start: float, rest: float, rate: float, gain: float, synaptic_rate: float
) -> float:
    """dV/dt of `value`."""
    leak = rate * (rest - start) * math.exp(-rate * time)
    return leak + gain * kernel_slope(time, rate, synaptic_rate)


@compiled
def first_crossing(
    level: float, start: float, rest: float, rate: float, gain: float, synaptic_rate: float
) -> float:
    """Smallest t >= 0 with V(t) >= level; infinity if there is none.

    V rises or falls until its one extremum and then goes monotonically to `rest`. The crossing is
    therefore in (0, t_peak], or after a minimum if rest > level. Newton inside a bracket.
    """
    if start >= level:
        return 0.0
    begin = rate * (rest - start) + gain
    turn = _extremum(begin, gain, rate, synaptic_rate)
    low, high = 0.0, turn
    if begin > 0.0 and turn < math.inf:  # up to a peak, then down or on to rest
        if value(turn, start, rest, rate, gain, synaptic_rate) < level:
            return math.inf
    else:
        if (rest if rate > 0.0 else start + gain / synaptic_rate) <= level:
            return math.inf
        if begin <= 0.0:
            if turn == math.inf:
                return math.inf
            low = turn
        high = max(low, 1.0 / max(rate, synaptic_rate))
        doublings = 0
        while value(high, start, rest, rate, gain, synaptic_rate) < level:
            high *= 2.0
            doublings += 1
            if doublings > 1000:  # the asymptote exceeds the level by rounding only
                return math.inf
    time = 0.5 * (low + high)
    for _ in range(_STEPS):
        error = value(time, start, rest, rate, gain, synaptic_rate) - level
        if error >= 0.0:
            high = time
        else:
            low = time
        steep = slope(time, start, rest, rate, gain, synaptic_rate)
        trial = time - error / steep if steep > 0.0 else low
        if not low < trial < high:
            trial = 0.5 * (low + high)
        if abs(trial - time) <= 1e-15 * time or error == 0.0:
            return trial if error != 0.0 else time
        time = trial
    return time
