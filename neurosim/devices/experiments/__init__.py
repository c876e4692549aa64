"""Experiments E1 to E16 of device.md section 4: each computes its own pass criterion."""

from neurosim.devices.experiments.energies import and_ts_neuron, spike_energy
from neurosim.devices.experiments.rc_neuron import frequency_curve, rc_output
from neurosim.devices.experiments.relaxing import delay_voltage, relaxation_time, self_relaxation
from neurosim.devices.experiments.result import Check, Experiment
from neurosim.devices.experiments.scatter import jitter, population
from neurosim.devices.experiments.sweeps import (
    current_voltage,
    ramp_dependence,
    threshold_statistics,
)
from neurosim.devices.experiments.trains import (
    leaky_integration,
    published_trains,
    pulses_to_fire,
    strength_frequency,
)

__all__ = [
    "Check",
    "Experiment",
    "and_ts_neuron",
    "current_voltage",
    "delay_voltage",
    "frequency_curve",
    "jitter",
    "leaky_integration",
    "population",
    "published_trains",
    "pulses_to_fire",
    "ramp_dependence",
    "rc_output",
    "relaxation_time",
    "self_relaxation",
    "spike_energy",
    "strength_frequency",
    "threshold_statistics",
]
