"""Folded integer neurons on a GPU: one thread per neuron, in 64-bit integers, without division.

Tested in the emulator; never yet run on a GPU.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.kernels._metal import Launch

_THREADS = 256

_integer_spikes = mx.fast.metal_kernel(
    name="integer_spikes",
    input_names=["charge", "half_threshold", "bias", "levels"],
    output_names=["spikes"],
    source="""
        uint i = thread_position_in_grid.x, n = i % charge_shape[1];  // charge (R, N)
        int64_t total = charge[i] + bias[n], level = half_threshold[n];
        int64_t size = SIGNED && total < 0 ? -total : total, step = 2 * level;
        int count = 0;
        for (uint d = 0; d < levels[0]; ++d, level += step) count += size >= level;
        spikes[i] = SIGNED && total < 0 ? -count : count;
    """,
)


def integer_spikes(
    launch: Launch, charge: Any, half_threshold: Any, bias: Any, levels: int, signed: bool
) -> Any:
    """See reference.py."""
    if not charge.size:
        return np.zeros(charge.shape, np.int8)
    (spikes,) = launch(
        _integer_spikes,
        inputs=[charge, half_threshold, bias, np.array([levels], np.uint32)],
        template=[("SIGNED", signed)],
        output_shapes=[charge.shape],
        output_dtypes=[mx.int8],
        grid=(charge.size, 1, 1),
        threadgroup=(_THREADS, 1, 1),
    )
    return spikes
