"""Accumulate-only spike operations, and the dense helpers around them, each with its backends."""

from neurosim.kernels._available import backends
from neurosim.kernels.cached_attention import cached_attention
from neurosim.kernels.count_linear import IntegerWeight, count_linear, row_linear
from neurosim.kernels.event_counts import event_counts
from neurosim.kernels.grad_weight import grad_weight
from neurosim.kernels.lif_scan import LifWorkspace, Neuron, lif_backward, lif_scan, trainable_lif
from neurosim.kernels.packed import PackedSpikes, pack, unpack
from neurosim.kernels.sdsa import sdsa
from neurosim.kernels.sdsa._training import trainable_sdsa
from neurosim.kernels.spike_attention import spike_attention, spike_attention_step
from neurosim.kernels.spike_attention._training import trainable_attention
from neurosim.kernels.spike_conv2d import spike_conv2d
from neurosim.kernels.spike_conv2d._training import trainable_conv2d
from neurosim.kernels.spike_linear import PackedWeight, spike_linear
from neurosim.kernels.spike_linear._training import trainable_linear
from neurosim.kernels.spike_linear._training_layer import trainable_linear_lif
from neurosim.kernels.spike_linear_lif import spike_linear_lif
from neurosim.kernels.spike_quantise import spike_quantise
from neurosim.kernels.spike_taps import spike_taps
from neurosim.kernels.training_stack import trainable_stack

__all__ = [
    "IntegerWeight",
    "LifWorkspace",
    "Neuron",
    "PackedSpikes",
    "PackedWeight",
    "backends",
    "cached_attention",
    "count_linear",
    "event_counts",
    "grad_weight",
    "lif_backward",
    "lif_scan",
    "pack",
    "row_linear",
    "sdsa",
    "spike_attention",
    "spike_attention_step",
    "spike_conv2d",
    "spike_linear",
    "spike_linear_lif",
    "spike_quantise",
    "spike_taps",
    "trainable_attention",
    "trainable_conv2d",
    "trainable_lif",
    "trainable_linear",
    "trainable_linear_lif",
    "trainable_sdsa",
    "trainable_stack",
    "unpack",
]
