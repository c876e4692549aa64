"""The energy report: a model over a text on a chip, priced on several systems, with baselines."""

from neurosim.reporting.study import study

__all__ = ["study"]
