"""ngspice as referee of the closed forms (device.md 6.1): netlists, runs, comparisons."""

from neurosim.devices.spice.compare import (
    Comparison,
    compare_frequencies,
    compare_period,
    compare_segments,
    compare_silence,
    compare_train,
    oscillator_deck,
)
from neurosim.devices.spice.runner import find_ngspice, version

__all__ = [
    "Comparison",
    "compare_frequencies",
    "compare_period",
    "compare_segments",
    "compare_silence",
    "compare_train",
    "find_ngspice",
    "oscillator_deck",
    "version",
]
