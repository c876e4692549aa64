"""What is on the chip: its description, programmed crossbars, neuron banks, placement on a mesh."""

from neurosim.chip.crossbar import ProgrammedCrossbar
from neurosim.chip.description import ChipDescription, load_chip
from neurosim.chip.neuron_bank import BankEnergy, ChipBank, build_banks
from neurosim.chip.placement import Placement, place
from neurosim.chip.values import parse_values, with_values

__all__ = [
    "BankEnergy",
    "ChipBank",
    "ChipDescription",
    "Placement",
    "ProgrammedCrossbar",
    "build_banks",
    "load_chip",
    "parse_values",
    "place",
    "with_values",
]
