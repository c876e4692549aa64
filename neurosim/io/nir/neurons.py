"""NIR's neuron nodes as models of a population, and what a weight means to them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.io.nir import maps
from neurosim.io.nir.reading import FORGETS, Reading
from neurosim.populations.models import LIF, CurrentLIF, Values

Floats = npt.NDArray[np.float64]
LONG = 1e6
"""s: the time constant of an integrator with a bias, whose drift needs a resting voltage."""


@dataclass(frozen=True)
class Neurons:
    """A population's model, its states at t = 0, and what a unit weight adds to the receptor."""

    model: LIF
    initial: dict[str, Values]
    jump: Floats
    receptor: str
    note: str = ""


def above(threshold: Floats) -> Floats:
    """NIR fires above the threshold, we at it: the next number up is the same condition."""
    result: Floats = np.nextafter(threshold, np.inf)
    return result


def neurons(name: str, kind: str, node: Any, shape: maps.Shape, bias: Floats, reading: Reading
) -> Neurons:  # fmt: skip
    """The population of a neuron node whose constant input is `bias` (elements,)."""
    where = f"node {name} ({kind})"

    def get(key: str) -> Floats:
        value = maps.numbers(where, key, getattr(node, key))
        spread: Floats = np.array(maps.broadcast(where, key, value, shape)).reshape(-1)
        return spread

    if kind == "Threshold":
        return _threshold(where, get("threshold"), bias, reading)
    threshold: Values = math.inf
    if kind in ("LIF", "IF", "CubaLIF"):
        threshold = _one(above(get("v_threshold")))
    if kind in ("IF", "I"):
        reset = get("v_reset") if kind == "IF" else np.zeros(len(bias))
        return _integrator(where, get("r"), threshold, reset, bias, reading)
    rest = get("v_leak")
    reset = get("v_reset") if kind in ("LIF", "CubaLIF") else rest
    resistance = get("r")
    if kind in ("LIF", "LI"):
        tau = _positive(where, "tau", get("tau"))
        model = LIF(
            _one(reading.exact(where, tau)), _one(rest + resistance * bias), threshold, _one(reset)
        )
        return Neurons(model, {}, reading.jump(resistance, tau), "voltage")
    tau_mem = _positive(where, "tau_mem", get("tau_mem"))
    tau_syn = _positive(where, "tau_syn", get("tau_syn"))
    gain = resistance * get("w_in")
    synapse = _one(reading.exact(where, tau_syn))
    current = CurrentLIF(
        _one(reading.exact(where, tau_mem)), _one(rest + gain * bias), threshold, _one(reset), 0.0,
        synapse, synapse,
    )  # fmt: skip
    jump = reading.current_jump(gain, tau_syn, tau_mem)
    # The current starts at 0 and grows to w_in b: rest has so much too much at first.
    missing = jump * tau_syn / reading.area * bias
    initial: dict[str, Values] = {"excitatory": -missing} if bias.any() else {}
    return Neurons(current, initial, jump, "excitatory")


def _integrator(
    where: str, resistance: Floats, threshold: Values, reset: Floats, bias: Floats, reading: Reading
) -> Neurons:
    """dv/dt = R I, without leak; a bias makes it drift."""
    endless = np.full(len(bias), np.inf)
    jump = reading.jump(resistance, endless)
    if not bias.any():
        return Neurons(LIF(math.inf, _one(reset), threshold, _one(reset)), {}, jump, "voltage")
    rest = resistance * bias * LONG
    note = (
        f"{where} has a bias: its drift is that of a leak of {LONG:g} s, which loses 1e-6 of the "
        "voltage a second"
    )
    return Neurons(LIF(LONG, _one(rest), threshold, _one(reset)), {}, jump, "voltage", note)


def _threshold(where: str, threshold: Floats, bias: Floats, reading: Reading) -> Neurons:
    """Fires in a step whose weighted spikes exceed the threshold; remembers nothing."""
    if reading.time_step is None:
        raise ValueError(
            f"{where}: has no meaning for spikes without width, whose height is infinite; pass "
            "time_step= to read spikes as the number 1 during a step, or use a LIF"
        )
    limit = above(threshold - bias)
    if (limit <= 0.0).any():
        raise ValueError(
            f"{where}: expected thresholds (less the bias) of at least 0, got "
            f"{(threshold - bias).min():g}: it would be on for ever"
        )
    model = LIF(reading.time_step / FORGETS, 0.0, _one(limit), 0.0)
    return Neurons(model, {}, np.ones(len(bias)), "voltage")


def _one(value: Floats) -> Values:
    """One number where all are the same."""
    return float(value[0]) if np.all(value == value[0]) else value


def _positive(where: str, key: str, value: Floats) -> Floats:
    if (value <= 0.0).any():
        raise ValueError(f"{where}: expected {key} > 0 s, got {value.min():g}")
    return value
