"""Spikes times weights: many rows, one token's time steps, and the language model's counts."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from neurosim.kernels import spike_linear
from neurosim.profiling.case import Candidate, Case, Operation, Request, Traffic
from neurosim.profiling.operations._inputs import (
    FEW_ROWS,
    Spikes,
    bernoulli,
    how_many,
    mean_count,
    signed_counts,
    turns,
)
from neurosim.profiling.operations._products import products

_PANEL = 512 * 1024  # bytes of weights that are kept while many rows pass


def rows_read(inputs: list[Spikes]) -> float:
    """Weight rows that the average input needs: all its spikes, or, of few rows, their union."""
    if inputs[0].shape[0] >= FEW_ROWS:
        return mean_count(inputs)
    return sum(int(x.any(axis=0).sum()) for x in inputs) / len(inputs)


def weight_traffic(inputs: list[Spikes], outputs: int, bits: int, out_bytes: int = 4) -> Traffic:
    """Weight rows of the spikes, the spikes as bits, and the result."""
    rows, channels = inputs[0].shape
    weights = channels * outputs * bits // 8
    moved = rows_read(inputs) * outputs * bits / 8 + rows * channels / 8
    reused = min(weights, _PANEL) if rows >= FEW_ROWS else weights
    return Traffic(int(moved) + rows * outputs * out_bytes, reused)


def small_weights(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.int8]:
    """Whole numbers -7..7: the same sums, exactly, with weights of 4, 8 and 32 bits."""
    return rng.integers(-7, 8, shape).astype(np.int8)


def _case(name: str, inputs: list[Spikes], request: Request, rows: str) -> Case:
    rng = np.random.default_rng(request.seed + 1)
    _, channels, outputs = request.shape
    weight = small_weights(rng, (channels, outputs))
    large = weight.astype(np.float32)
    call = partial(spike_linear, backend=request.backend)
    ours = {
        "float32": Candidate(
            turns(lambda s: call(s, large), inputs), "ours", weight_traffic(inputs, outputs, 32)
        ),
        "int8": Candidate(
            turns(lambda s: call(s, weight), inputs), "ours", weight_traffic(inputs, outputs, 8)
        ),
    }
    return Case(
        name,
        dict(zip((rows, "I", "O"), request.shape, strict=True)),
        request.density,
        ours | products(inputs, weight),
        mean_count(inputs) * outputs,
    )


def _binary(name: str, letter: str, request: Request) -> Case:
    rng = np.random.default_rng(request.seed)
    rows, channels, _ = request.shape
    shape = rows, channels
    inputs = [bernoulli(rng, shape, request.density) for _ in range(how_many(rows))]
    return _case(name, inputs, request, letter)


def _counts(name: str, request: Request) -> Case:
    rng = np.random.default_rng(request.seed)
    rows, channels, _ = request.shape
    shape = rows, channels
    inputs = [signed_counts(rng, shape, request.density, 4) for _ in range(how_many(rows))]
    return _case(name, inputs, request, "R")


LINEAR = Operation(
    name="spike_linear",
    text="binary spikes times weights, many rows",
    letters=("R", "I", "O"),
    shape=(1024, 512, 512),
    build=partial(_binary, "spike_linear", "R"),
    covers=("spike_linear",),
    bench=((1024, 512, 512), (4096, 512, 512), (1024, 2048, 512)),
)
DECODE = Operation(
    name="spike_linear_decode",
    text="the T = 4 time steps of one token times weights",
    letters=("T", "I", "O"),
    shape=(4, 4096, 4096),
    build=partial(_binary, "spike_linear_decode", "T"),
    covers=("spike_linear",),
    bench=((4, 4096, 4096), (4, 512, 2048)),
)
COUNTS = Operation(
    name="spike_linear_counts",
    text="signed counts -4..4 times weights, as the language model decodes",
    letters=("R", "I", "O"),
    shape=(1, 192, 768),
    build=partial(_counts, "spike_linear_counts"),
    covers=("spike_linear",),
    bench=((1, 192, 192), (1, 192, 768), (1, 768, 192), (16, 192, 768)),
)
