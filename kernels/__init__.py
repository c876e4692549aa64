"""Accumulate-only spike operations, and the dense helpers around them, each with its backends."""

from neurosim.kernels._available import backends
from neurosim.kernels.spike_attention import spike_attention, spike_attention_step
from neurosim.kernels.spike_linear import spike_linear

__all__ = ["backends", "spike_attention", "spike_attention_step", "spike_linear"]
