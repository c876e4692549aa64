"""Volatile threshold-switching devices as neurons: parameters with sources, closed forms.

SI units throughout. Reference models (ODE, Langevin, comparators) are in `devices.reference`,
crossbar cells in `devices.synapse` and `devices.synapse_wires`.
"""

from neurosim.devices.arrays import crossing_times, segment_integrals, voltages_after
from neurosim.devices.delays import GapClosing
from neurosim.devices.firing_rate import firing_rates
from neurosim.devices.hazard import Hazard
from neurosim.devices.off_current import PiecewiseCurrent, climb
from neurosim.devices.population import Population, PopulationRun, Residue, Stimulus
from neurosim.devices.preset import DevicePreset, load_device
from neurosim.devices.pulse_train import (
    NEVER,
    PulseTrain,
    TrainResponse,
    shortest_pulse,
    train_response,
    train_rheobase,
)
from neurosim.devices.relaxation import Relaxation, lowered_threshold, moving_crossing
from neurosim.devices.respond import Response, respond
from neurosim.devices.self_integrating import GrowthLaw, SelfIntegratingNeuron, TrainRun
from neurosim.devices.synaptic_current import SynapticCurrent, synaptic_crossing, synaptic_voltage
from neurosim.devices.temperature import TemperatureLaw
from neurosim.devices.threshold_switch import (
    Drive,
    Driver,
    Ledger,
    Period,
    ThresholdSwitch,
    drive_of,
)
from neurosim.devices.thresholds import ThresholdStatistics

__all__ = [
    "NEVER",
    "DevicePreset",
    "Drive",
    "Driver",
    "GapClosing",
    "GrowthLaw",
    "Hazard",
    "Ledger",
    "Period",
    "PiecewiseCurrent",
    "Population",
    "PopulationRun",
    "PulseTrain",
    "Relaxation",
    "Residue",
    "Response",
    "SelfIntegratingNeuron",
    "Stimulus",
    "SynapticCurrent",
    "TemperatureLaw",
    "ThresholdStatistics",
    "ThresholdSwitch",
    "TrainResponse",
    "TrainRun",
    "climb",
    "crossing_times",
    "drive_of",
    "firing_rates",
    "load_device",
    "lowered_threshold",
    "moving_crossing",
    "respond",
    "segment_integrals",
    "shortest_pulse",
    "synaptic_crossing",
    "synaptic_voltage",
    "train_response",
    "train_rheobase",
    "voltages_after",
]
