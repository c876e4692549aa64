"""Time for spikes to travel where NIR gives none, without changing what a network does.

A population that acts later by a lag L, in everything, is the same population: its inputs are
delayed by L more than its sources are late, and its state at time L is what NIR has at 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurosim.io.nir.neurons import Neurons
from neurosim.io.nir.paths import Signal
from neurosim.populations.models import CurrentLIF, Values


def retime(
    signals: Mapping[str, Signal], depth: Mapping[str, int], hop: float, loop: float | None
) -> dict[str, float]:
    """Give every projection a delay of at least `hop` (s); returns population -> lag (s).

    Projections that lead back (to a population as near to an input, or nearer) and have no delay
    get `loop` first. The lags are the longest ways through what is missing.
    """
    for name, given in (("hop_delay", hop), ("loop_delay", loop)):
        if given is not None and not (np.isfinite(given) and given >= 0.0):
            raise ValueError(f"expected {name} >= 0 s, got {given}")
    missing: dict[tuple[str, str], float] = {}
    for target, signal in signals.items():
        for source, (matrix, ids, delays) in list(signal.parts.items()):
            if depth[source] >= depth[target] and not (delays > 0.0).all():
                if not loop:
                    raise ValueError(
                        f"{source} -> {target} closes a loop that takes no time, in which spikes "
                        "have no order; pass time_step= (the frameworks' recurrence takes a step) "
                        "or loop_delay=, or put a Delay node there"
                    )
                delays = np.where(delays > 0.0, delays, loop)
                signal.parts[source] = matrix, ids, delays
            missing[source, target] = hop - float(delays.min(initial=np.inf))
    lags = dict.fromkeys(depth, 0.0)
    for _ in range(len(lags) + 1):
        changed = False
        for (source, target), wanted in missing.items():
            late = lags[source] + wanted
            if late > lags[target] + 1e-12 * hop:
                lags[target], changed = late, True
        if not changed:
            break
    else:
        raise ValueError(
            f"a loop of several populations takes less than {hop:g} s a hop, which the engines "
            "need; give a longer loop_delay=, or a shorter hop_delay="
        )
    for target, signal in signals.items():
        for source, (matrix, ids, delays) in list(signal.parts.items()):
            later = lags[target] - lags[source]
            signal.parts[source] = matrix, ids, delays + later if later else delays
    return lags


def set_back(made: Neurons, lag: float) -> dict[str, Values] | None:
    """States at t = 0 from which the neurons, left alone, come to their initial ones at `lag`.

    None: there are no such states, the neurons would fire before.
    """
    model = made.model
    rest, start = np.asarray(model.resting_voltage), np.asarray(model.reset_voltage)
    current = np.asarray(made.initial.get("excitatory", 0.0))
    if not lag or not (np.any(rest != start) or np.any(current)):
        return dict(made.initial)
    tau = np.asarray(model.time_constant)
    grown, carried = np.asarray(0.0), np.asarray(0.0)
    if isinstance(model, CurrentLIF):
        synapse = np.asarray(model.excitatory_time_constant)
        grown = current * np.exp(lag / synapse)
        same = np.isclose(tau, synapse, rtol=1e-9, atol=0.0)
        apart = synapse / np.where(same, 1.0, synapse - tau)
        rise = apart * (np.exp(-lag / synapse) - np.exp(-lag / tau))
        carried = grown * np.where(same, lag / tau * np.exp(-lag / tau), rise)
    voltage = rest + (start - rest - carried) * np.exp(lag / tau)
    if not np.all(np.isfinite(voltage) & (voltage < model.threshold_voltage)):
        return None
    states = {"voltage": voltage, **({"excitatory": grown} if np.any(current) else {})}
    return {key: float(value) if not value.ndim else value for key, value in states.items()}
