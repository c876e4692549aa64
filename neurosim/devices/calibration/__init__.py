"""From a user's measurements to a preset with uncertainties (device.md 8.2)."""

from neurosim.devices.calibration.calibrate import Calibration, Estimate, calibrate
from neurosim.devices.calibration.files import FORMATS, Table, read_table
from neurosim.devices.calibration.preset_file import write_preset

__all__ = [
    "FORMATS",
    "Calibration",
    "Estimate",
    "Table",
    "calibrate",
    "read_table",
    "write_preset",
]
