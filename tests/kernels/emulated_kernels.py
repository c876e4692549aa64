"""Kernels of a few lines, run in the Metal emulator."""

from __future__ import annotations

import mlx.core as mx

from neurosim.kernels.metal_emulator import emulate

ORDERS = ("forward", "reverse", "shuffled")


def metal_kernel(source: str, inputs: str = "x", outputs: str = "o", **options):
    return mx.fast.metal_kernel(
        name="test", input_names=inputs.split(), output_names=outputs.split(),
        source=source, **options,
    )  # fmt: skip


def mapped(kernel, *inputs, dtype=mx.float32, threads=64, group=64, **options):
    """One output of one element per thread."""
    (out,) = emulate(
        kernel, inputs=inputs, output_shapes=[(threads,)], output_dtypes=[dtype],
        grid=(threads, 1, 1), threadgroup=(group, 1, 1), **options,
    )  # fmt: skip
    return out
