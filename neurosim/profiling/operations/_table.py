"""All operations, by name."""

from __future__ import annotations

from neurosim.profiling.case import Operation
from neurosim.profiling.operations import (
    attention,
    bits,
    convolution,
    counts,
    layers,
    linear,
    neurons,
    sdsa,
    training,
    training_blocks,
)

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        bits.PACK,
        bits.UNPACK,
        bits.EVENTS,
        linear.LINEAR,
        linear.DECODE,
        linear.COUNTS,
        linear.GRADIENT,
        layers.LAYER,
        layers.TAPS,
        convolution.CONVOLUTION,
        counts.QUANTISE,
        counts.EVENTS,
        counts.COUNTS,
        counts.ROWS,
        counts.ATTENTION,
        attention.ATTENTION,
        attention.STEP,
        attention.DECAY,
        attention.DECAY_STEP,
        sdsa.MASKS,
        sdsa.PRODUCTS,
        sdsa.CAUSAL,
        neurons.SCAN,
        training.SCAN,
        training.STEP,
        training_blocks.ATTENTION,
        training_blocks.SDSA,
        training_blocks.CONVOLUTION,
    )
}
