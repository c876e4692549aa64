"""Energy per token: exact counts, priced constants with sources, baselines, the report."""

from neurosim.energy.baseline import DenseTransformerSizes, dense_token_energy
from neurosim.energy.compare import Comparison, compare
from neurosim.energy.counts import COUNTS, PhaseCounts, multiplies, multiplies_by_node
from neurosim.energy.model import PlacementFacts, chip_prices, token_energy
from neurosim.energy.operations import InputClass, Operation, OperationCounts
from neurosim.energy.prices import PriceList, UnpricedError, load_prices
from neurosim.energy.report import EnergyReport, energy_report
from neurosim.energy.terms import Breakdown, Term
from neurosim.energy.trace import count

__all__ = [
    "COUNTS",
    "Breakdown",
    "Comparison",
    "DenseTransformerSizes",
    "EnergyReport",
    "InputClass",
    "Operation",
    "OperationCounts",
    "PhaseCounts",
    "PlacementFacts",
    "PriceList",
    "Term",
    "UnpricedError",
    "chip_prices",
    "compare",
    "count",
    "dense_token_energy",
    "energy_report",
    "load_prices",
    "multiplies",
    "multiplies_by_node",
    "token_energy",
]
