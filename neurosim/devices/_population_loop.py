"""The compiled loop of `Population.run`: one neuron at a time through all segments."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from neurosim.devices.closed_forms import crossing_time, voltage_after, voltage_integrals
from neurosim.devices.counter_random import stream_key, uniform
from neurosim.devices.hazard import HAZARD_STREAMS, hazard_integral, hazard_time
from neurosim.devices.thresholds import draw_cycle
from neurosim.devices.two_exponentials import first_crossing
from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]

LEDGER_TERMS = (
    "charge",  # through the device
    "on_time",  # s, set delay excluded, reset delay included
    "device_on",
    "device_off",
    "output",
    "leak",
    "drivers",  # burnt in the drivers' resistors
    "delivered",  # by the current source, the drivers' sources and the leak's source
    "stored",  # change of C V^2 / 2
)
FLAG_LOCKED, FLAG_RUNAWAY = np.uint8(1), np.uint8(2)
_OFF, _SETTING, _ON, _RESETTING = 0.0, 1.0, 2.0, 3.0
# state (9,): voltage, phase, time left in a delay, armed V_th, armed V_h, lowering of V_th in V,
# z of V_th, z of V_h, hazard left before the device turns ON


@compiled
def _arm(
    state: Floats, means: Floats, spreads: Floats, latent: Floats, key: np.uint64, cycle: int
) -> None:
    """Draw the thresholds of the next cycle into the state."""
    if spreads[0] == spreads[1] == spreads[2] == spreads[3] == 0.0:
        state[3] = means[0]
        state[4] = means[1]
        return
    pair = draw_cycle(means, spreads, latent, key, np.uint64(cycle))
    state[3] = pair[0]
    state[4] = pair[1]


@compiled
def run_neurons(
    parameters: Floats,
    means: Floats,
    spreads: Floats,
    residue: Floats,
    hazard: Floats,
    states: Floats,
    cycles: npt.NDArray[np.int64],
    seed: np.uint64,
    first: int,
    durations: Floats,
    currents: Floats,
    conductances: Floats,
    firsts: Floats,
    seconds: Floats,
    event_limit: int,
    spikes: npt.NDArray[np.int64],
    times: Floats,
    releases: Floats,
    ledgers: Floats,
    flags: npt.NDArray[np.uint8],
) -> None:
    """See `Population.run`. parameters (N, 10): the fields of `ThresholdSwitch` in their order."""
    segments = durations.size
    room = times.shape[1]
    residue_start, residue_rate = residue[0], residue[1]
    hazardous = hazard[1] > 0.0
    for n in range(parameters.shape[0]):
        p = parameters[n]
        state = states[n]
        latent = state[6:8]
        mean = means[n]
        spread = spreads[n]
        cycle = cycles[n]
        fired = spikes[n]
        key = stream_key(seed, np.uint64(first + n))
        hazard_key = stream_key(seed ^ HAZARD_STREAMS, np.uint64(first + n))
        if cycles[n] == 0 and state[3] == 0.0:
            _arm(state, mean, spread, latent, key, 0)
            state[8] = -math.log(uniform(hazard_key, np.uint64(0)))
        capacitance, on_resistance, off_resistance, output = p[0], p[1], p[2], p[5]
        leak, rest, set_delay, reset_delay = p[6], p[7], p[8], p[9]
        on_branch = on_resistance + output
        off_branch = off_resistance + output
        up = 1.0 + output / off_resistance
        down = 1.0 + output / on_resistance
        scale = hazard[1] * up
        log_rate = hazard[0] - (mean[0] - p[3]) / hazard[1] if hazardous else 0.0
        wanted = state[8]
        steady = (
            not hazardous
            and residue_start == 0.0
            and spread[0] == spread[1] == spread[2] == spread[3] == 0.0
        )
        upper, lower = state[3] * up, state[4] * down
        voltage, phase, wait, lowering = state[0], state[1], state[2], state[5]
        start = voltage
        elapsed = 0.0
        on_time = 0.0
        off_1 = off_2 = on_1 = on_2 = 0.0
        delivered = drivers = 0.0
        released = 0  # index of the spike whose release comes next
        for s in range(segments):
            injected = currents[n if currents.shape[0] > 1 else 0, s]
            extra = conductances[n if conductances.shape[0] > 1 else 0, s]
            pull = firsts[n if firsts.shape[0] > 1 else 0, s]
            work = seconds[n if seconds.shape[0] > 1 else 0, s]
            drive = injected + pull + leak * rest
            off = leak + extra + 1.0 / off_branch
            on = leak + extra + 1.0 / on_branch
            left = durations[s]
            sum_1 = 0.0
            sum_2 = 0.0
            climb_from = fall_from = math.nan  # a cycle under the same drive repeats exactly
            climb_time = climb_1 = climb_2 = fall_time = fall_1 = fall_2 = 0.0
            events = 0
            while True:
                conducting = phase >= _ON
                conductance = on if conducting else off
                time = left
                end = 0.0
                happens = False
                known = False
                if phase == _OFF and voltage == climb_from and climb_time <= left:
                    happens = known = True
                    time = climb_time
                    end = upper
                elif phase == _ON and voltage == fall_from and fall_time <= left:
                    happens = known = True
                    time = fall_time
                    end = lower
                elif phase == _OFF and hazardous:
                    time = hazard_time(
                        voltage, drive, off, capacitance, wanted, left, log_rate, scale
                    )
                    happens = time <= left
                    if not happens:
                        time = left
                        wanted -= hazard_integral(
                            voltage, drive, off, capacitance, left, log_rate, scale
                        )
                    end = voltage_after(voltage, drive, off, capacitance, time)
                elif phase == _OFF and lowering > 0.0:
                    rate = off / capacitance
                    time = first_crossing(
                        upper,
                        voltage + lowering,
                        drive / off,
                        rate,
                        lowering * (rate - residue_rate),
                        residue_rate,
                    )
                    happens = time <= left
                    time = min(time, left)
                    end = voltage_after(voltage, drive, off, capacitance, time)
                elif phase in (_SETTING, _RESETTING):
                    happens = wait <= left
                    time = min(wait, left)
                    end = voltage_after(voltage, drive, conductance, capacitance, time)
                else:
                    gap = voltage - lower if conducting else upper - voltage
                    pull_in = drive - conductance * voltage
                    if conducting:
                        pull_in = -pull_in
                    if gap <= 0.0:
                        happens = True
                        time = 0.0
                        end = voltage
                    elif pull_in * left >= gap * capacitance:  # the first slope is the steepest
                        spare = on * lower - drive if conducting else drive - off * upper
                        if spare > 0.0:
                            time = crossing_time(gap, spare, conductance, capacitance)
                            happens = time <= left
                            end = lower if conducting else upper
                    if not happens:
                        time = left
                        end = voltage_after(voltage, drive, conductance, capacitance, left)
                if time > 0.0:
                    if known:
                        j1 = fall_1 if conducting else climb_1
                        j2 = fall_2 if conducting else climb_2
                    else:
                        j1, j2 = voltage_integrals(
                            voltage, end, drive, conductance, capacitance, time
                        )
                        if steady and happens and phase == _OFF:
                            climb_from, climb_time, climb_1, climb_2 = voltage, time, j1, j2
                        elif steady and happens and phase == _ON:
                            fall_from, fall_time, fall_1, fall_2 = voltage, time, j1, j2
                    sum_1 += j1
                    sum_2 += j2
                    if conducting:
                        on_1 += j1
                        on_2 += j2
                        on_time += time
                    else:
                        off_1 += j1
                        off_2 += j2
                        if lowering > 0.0:
                            lowering *= math.exp(-residue_rate * time)
                            if lowering < 1e-17 * upper:
                                lowering = 0.0
                    voltage = end
                    left -= time
                    elapsed += time
                    wait -= time
                if not happens:
                    break
                if phase == _OFF:
                    if fired < room:
                        times[n, fired] = elapsed
                    fired += 1
                    events += 1
                    lowering = 0.0
                    phase = _SETTING if set_delay > 0.0 else _ON
                    wait = set_delay
                    if events > event_limit:
                        flags[n] |= FLAG_RUNAWAY
                        break
                elif phase == _SETTING:
                    phase = _ON
                elif phase == _ON and reset_delay > 0.0:
                    phase = _RESETTING
                    wait = reset_delay
                    if released < room:
                        releases[n, released] = elapsed
                    released += 1
                else:
                    if phase == _ON:
                        if released < room:
                            releases[n, released] = elapsed
                        released += 1
                    phase = _OFF
                    cycle += 1
                    if not steady:
                        _arm(state, mean, spread, latent, key, cycle)
                        upper, lower = state[3] * up, state[4] * down
                        wanted = -math.log(uniform(hazard_key, np.uint64(cycle)))
                    if residue_start > 0.0:
                        lowering = residue_start * (state[3] - state[4]) * up
            time = durations[s] - max(left, 0.0) if flags[n] & FLAG_RUNAWAY else durations[s]
            delivered += injected * sum_1 + work * time - pull * sum_1
            delivered += leak * rest * (rest * time - sum_1)
            drivers += work * time - 2.0 * pull * sum_1 + extra * sum_2
            if flags[n] & FLAG_RUNAWAY:
                break
            if s == segments - 1 and phase == _ON and drive >= on * lower:
                flags[n] |= FLAG_LOCKED
        spikes[n] = fired
        cycles[n] = cycle
        state[8] = wanted
        state[0], state[1], state[2], state[5] = voltage, phase, wait, lowering
        ledger = ledgers[n]
        ledger[0] += off_1 / off_branch + on_1 / on_branch
        ledger[1] += on_time
        ledger[2] += on_resistance / (on_branch * on_branch) * on_2
        ledger[3] += off_resistance / (off_branch * off_branch) * off_2
        work_out = off_2 / (off_branch * off_branch) + on_2 / (on_branch * on_branch)
        ledger[4] += output * work_out
        total = off_2 + on_2 - 2.0 * rest * (off_1 + on_1) + rest * rest * elapsed
        ledger[5] += leak * total
        ledger[6] += drivers
        ledger[7] += delivered
        ledger[8] += 0.5 * capacitance * (voltage - start) * (voltage + start)
