"""Volatile threshold-switching devices as neurons: parameters with sources, closed forms."""

from neurosim.devices.preset import DevicePreset, load_device
from neurosim.devices.threshold_switch import Drive, Ledger, Period, ThresholdSwitch

__all__ = ["DevicePreset", "Drive", "Ledger", "Period", "ThresholdSwitch", "load_device"]
