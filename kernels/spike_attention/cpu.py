"""Spike attention with Numba, by name."""

from neurosim.kernels.spike_attention._decaying_cpu import scan
from neurosim.kernels.spike_attention._decaying_step import quick_decaying_step, step
from neurosim.kernels.spike_attention._linear_cpu import linear
from neurosim.kernels.spike_attention._step_binary import quick_step
from neurosim.kernels.spike_attention._step_cpu import linear_step

__all__ = ["linear", "linear_step", "quick_decaying_step", "quick_step", "scan", "step"]
