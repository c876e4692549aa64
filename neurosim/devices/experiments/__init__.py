"""Experiments E1 to E16 of device.md section 4: each computes its own pass criterion."""

from neurosim.devices.experiments.rc_neuron import frequency_curve, rc_output
from neurosim.devices.experiments.result import Check, Experiment
from neurosim.devices.experiments.spike_energy import and_ts_neuron, spike_energy

__all__ = [
    "Check",
    "Experiment",
    "and_ts_neuron",
    "frequency_curve",
    "rc_output",
    "spike_energy",
]
