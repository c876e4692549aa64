"""Running MLX's custom Metal kernels without a Mac, under a referee."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels.metal_emulator._arrays import Array, bind_input, new_output, result
from neurosim.kernels.metal_emulator._compile import library, unavailable
from neurosim.kernels.metal_emulator._errors import MetalError
from neurosim.kernels.metal_emulator._launch import ORDERS, BufferTraffic, Trace, launch
from neurosim.kernels.metal_emulator._source import generate, translate

__all__ = ["BufferTraffic", "MetalError", "Trace", "emulate", "emulate_traced", "unavailable"]

_MOST_THREADS = 1024


def emulate(
    kernel: object,
    *,
    inputs: Sequence[Array | bool | int | float],
    output_shapes: Sequence[Sequence[int]],
    output_dtypes: Sequence[mx.Dtype],
    grid: tuple[int, int, int],
    threadgroup: tuple[int, int, int],
    template: Sequence[tuple[str, bool | int | mx.Dtype]] | None = None,
    init_value: float | None = None,
    order: str = "forward",
    seed: int = 0,
    check_races: bool = True,
) -> list[npt.NDArray[np.generic]]:
    """Call an `mx.fast.metal_kernel` on the CPU; the first eight arguments are those of MLX.

    The source is the one MLX generates for Metal, compiled with g++ (once: it is cached) and run
    one thread at a time, with SIMD-groups of 32. Outputs without `init_value` and threadgroup
    memory start as NaN, integers as bytes 0xA5. Limits: docs/metal-emulator.md.

    Args:
        kernel: what `mx.fast.metal_kernel` returned.
        inputs: numpy or MLX arrays; numbers become arrays as in MLX.
        order: of threads between two synchronisations, and of threadgroups: "forward", "reverse"
            or "shuffled" (anew at each synchronisation, from `seed`).
        check_races: also refuse two threads that touch one byte, one writing, with neither a
            barrier between them nor atomics.

    Returns:
        The outputs; bfloat16 as float32, which holds its values exactly.

    Raises:
        MetalError: the kernel does not compile, or did something that Metal forbids or leaves
            undefined: an access or index out of bounds, an integer division by zero, a write to an
            input, a data race, a barrier or SIMD-group operation that only some threads reach,
            more than 32 KB of threadgroup memory, more than 1024 threads in a threadgroup,
            source that is not ASCII.
    """
    return _run(
        kernel, inputs, output_shapes, output_dtypes, grid, threadgroup, template, init_value,
        order, seed, check_races, counted=False,
    )[0]  # fmt: skip


def emulate_traced(
    kernel: object,
    *,
    inputs: Sequence[Array | bool | int | float],
    output_shapes: Sequence[Sequence[int]],
    output_dtypes: Sequence[mx.Dtype],
    grid: tuple[int, int, int],
    threadgroup: tuple[int, int, int],
    template: Sequence[tuple[str, bool | int | mx.Dtype]] | None = None,
    init_value: float | None = None,
    order: str = "forward",
    seed: int = 0,
    check_races: bool = True,
) -> tuple[list[npt.NDArray[np.generic]], Trace]:
    """As `emulate`, with the bytes moved, the operations, barriers and memory of the launch.

    Compiled without the checks that change these counts: of pointers into private arrays.
    """
    return _run(
        kernel, inputs, output_shapes, output_dtypes, grid, threadgroup, template, init_value,
        order, seed, check_races, counted=True,
    )  # fmt: skip


def _run(
    kernel: object,
    inputs: Sequence[Array | bool | int | float],
    output_shapes: Sequence[Sequence[int]],
    output_dtypes: Sequence[mx.Dtype],
    grid: tuple[int, int, int],
    threadgroup: tuple[int, int, int],
    template: Sequence[tuple[str, bool | int | mx.Dtype]] | None,
    init_value: float | None,
    order: str,
    seed: int,
    check_races: bool,
    counted: bool,
) -> tuple[list[npt.NDArray[np.generic]], Trace]:
    _check_sizes(grid, threadgroup)
    if order not in ORDERS:
        raise MetalError(f"expected order {', '.join(ORDERS)}; got {order!r}")
    arrays = [x if isinstance(x, mx.array) else mx.array(x) for x in inputs]
    generated = generate(kernel, arrays, output_shapes, output_dtypes, grid, threadgroup, template)
    translated = translate(generated.source)
    bound, names = [], iter(translated.buffers)
    for array, flags in zip(arrays, generated.shape_flags, strict=True):
        bound += bind_input(array, flags, generated.row_contiguous, names)
    outputs = [
        new_output(name, shape, dtype, init_value)
        for name, shape, dtype in zip(names, output_shapes, output_dtypes, strict=True)
    ]
    compiled = library(translated.cpp, counted)
    trace = launch(compiled, bound + outputs, grid, threadgroup, order, seed, check_races)
    results = [
        result(output, shape, dtype)
        for output, shape, dtype in zip(outputs, output_shapes, output_dtypes, strict=True)
    ]
    return results, trace


def _check_sizes(grid: tuple[int, int, int], threadgroup: tuple[int, int, int]) -> None:
    for name, sizes in (("grid", grid), ("threadgroup", threadgroup)):
        if len(sizes) != 3 or min(sizes) < 1 or max(sizes) >= 2**31:
            raise MetalError(f"expected three positive sizes as {name}, got {tuple(sizes)}")
    if grid[0] * grid[1] * grid[2] >= 2**31:
        raise MetalError(f"expected fewer than 2^31 threads to emulate, got a grid of {grid}")
    threads = threadgroup[0] * threadgroup[1] * threadgroup[2]
    if threads > _MOST_THREADS:
        raise MetalError(
            f"expected at most {_MOST_THREADS} threads in a threadgroup, got {threads} "
            f"{tuple(threadgroup)}; use a smaller one"
        )
