"""Sweeps and Monte Carlo over chips, seeds, parameters and prompts; docs/sweep.md."""

from neurosim.sweep.run import SweepResult, run_sweep
from neurosim.sweep.spec import SweepSpec
from neurosim.sweep.store import load_results

__all__ = ["SweepResult", "SweepSpec", "load_results", "run_sweep"]
