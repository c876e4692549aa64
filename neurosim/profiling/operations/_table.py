"""All operations, by name."""

from __future__ import annotations

from neurosim.profiling.case import Operation
from neurosim.profiling.operations import attention, bits, linear, neurons, sdsa

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        bits.PACK,
        bits.UNPACK,
        bits.EVENTS,
        linear.LINEAR,
        linear.DECODE,
        linear.COUNTS,
        attention.ATTENTION,
        attention.STEP,
        sdsa.MASKS,
        sdsa.PRODUCTS,
        neurons.SCAN,
        neurons.TRAINING,
    )
}
