"""What is on the chip: its description, programmed crossbars, neuron banks, placement on a mesh."""

from neurosim.chip.crossbar import ProgrammedCrossbar, crossbar_key
from neurosim.chip.description import ChipDescription, load_chip
from neurosim.chip.faults import Faults
from neurosim.chip.fill import fill_banks, program_crossbars
from neurosim.chip.neuron_bank import BankEnergy, ChipBank, build_banks
from neurosim.chip.placement import Placement, place
from neurosim.chip.values import parse_values, with_values

__all__ = [
    "BankEnergy",
    "ChipBank",
    "ChipDescription",
    "Faults",
    "Placement",
    "ProgrammedCrossbar",
    "build_banks",
    "crossbar_key",
    "fill_banks",
    "load_chip",
    "parse_values",
    "place",
    "program_crossbars",
    "with_values",
]
