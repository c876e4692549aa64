"""What `neurosim profile` and `benchmarks.run` measure."""

from neurosim.profiling.operations._table import OPERATIONS

__all__ = ["OPERATIONS"]
