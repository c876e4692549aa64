"""Reference models behind the closed forms: tier 1 (ODE), 2 (Langevin), 3 (filament gap), others.

Slow, time-stepped, and imported only on request.
"""

from neurosim.devices.reference.comparators import (
    AndTs,
    LinearVolatile,
    Memdiode,
    StanfordPku,
    Vteam,
    follow,
)
from neurosim.devices.reference.filament_gap import FilamentGap, GapRun
from neurosim.devices.reference.regenerative import RegenerativeRun, RegenerativeSwitch
from neurosim.devices.reference.tilted_well import TiltedWell, WellRun

__all__ = [
    "AndTs",
    "FilamentGap",
    "GapRun",
    "LinearVolatile",
    "Memdiode",
    "RegenerativeRun",
    "RegenerativeSwitch",
    "StanfordPku",
    "TiltedWell",
    "Vteam",
    "WellRun",
    "follow",
]
