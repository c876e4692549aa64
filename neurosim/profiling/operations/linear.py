"""Spikes times weights: many rows, one token's time steps, and the language model's counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels import PackedSpikes, PackedWeight, grad_weight, pack, spike_linear
from neurosim.kernels.spike_linear._cost import ALGORITHMS, cheapest
from neurosim.profiling.case import Candidate, Case, Operation, Request, Traffic
from neurosim.profiling.operations._inputs import (
    FEW_ROWS,
    Spikes,
    bernoulli,
    fresh,
    how_many,
    mean_count,
    signed_counts,
    turns,
)
from neurosim.profiling.operations._products import products

_PANEL = 512 * 1024  # bytes of weights that are kept while many rows pass
_TABLE = 32 * 1024  # bytes of the tables of partial sums
_LOOKUP = {32: 4, 8: 2, 4: 1}  # bytes of a table entry for one output
BITS = {"float32": 32, "int8": 8, "int4": 4}


def union_of_fours(x: Spikes) -> int:
    """Inputs that are active in at least one of each four rows."""
    whole = np.zeros((-(-x.shape[0] // 4) * 4, x.shape[1]), bool)
    whole[: x.shape[0]] = x != 0
    return int(whole.reshape(-1, 4, x.shape[1]).any(axis=1).sum())


def weight_traffic(algo: str, inputs: list[Spikes], outputs: int, bits: int) -> Traffic | None:
    """Weights that an algorithm reads, the spikes as bits, the result; None for a dense product.

    gather: the row of every spike; pattern: the rows of the union of every four rows; lut: a
    table entry for every four inputs. Many rows read weights again from a panel in L2 and tables
    from L1; a few rows read weights once, from where they lie.
    """
    rows, channels = inputs[0].shape
    width = outputs * bits / 8
    reused = min(channels * outputs * bits // 8, _PANEL) if rows >= FEW_ROWS else None
    if algo == "gather":
        weights = mean_count(inputs) * width
    elif algo == "pattern":
        weights = sum(map(union_of_fours, inputs)) / len(inputs) * width
    elif algo == "lut":
        weights, reused = rows * -(-channels // 4) * outputs * _LOOKUP[bits], _TABLE
    else:
        return None
    moved = int(weights + rows * channels / 8) + rows * outputs * 4
    return Traffic(moved, channels * outputs * bits // 8 if reused is None else reused)


def small_weights(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.int8]:
    """Whole numbers -7..7: the same sums, exactly, with weights of 4, 8 and 32 bits."""
    return rng.integers(-7, 8, shape).astype(np.int8)


def _ours(
    inputs: list[Spikes], weight: npt.NDArray[np.int8], request: Request
) -> dict[str, Candidate]:
    """Packed weights of every width, by every algorithm asked for; lists are built in each call."""
    packed = [pack(x) for x in inputs]
    found = {}
    for name, bits in BITS.items():
        panels = PackedWeight.pack(weight, bits)
        for algo in request.algos:
            run = _call(panels, algo, request)
            taken = algo
            if request.backend not in ("auto", "cpu"):
                taken = "gather"
            elif algo == "auto":
                taken = cheapest(fresh(packed[0]), panels)
            found[name if algo == "auto" else f"{name} {algo}"] = Candidate(
                turns(run, packed),
                "ours",
                weight_traffic(taken, inputs, weight.shape[1], bits),
                algo=taken,
            )
    return found


def _call(panels: PackedWeight, algo: str, request: Request) -> Callable[[PackedSpikes], Any]:
    return lambda spikes: spike_linear(
        fresh(spikes), panels, algo, request.backend, request.threads
    )


def _binary(name: str, letter: str, request: Request) -> Case:
    rng = np.random.default_rng(request.seed)
    rows, channels, outputs = request.shape
    if "pattern" in request.algos and rows % 4:
        raise ValueError(f"expected rows in groups of 4 for algo pattern, got {rows}")
    inputs = [bernoulli(rng, (rows, channels), request.density) for _ in range(how_many(rows))]
    weight = small_weights(rng, (channels, outputs))
    return Case(
        name,
        dict(zip((letter, "I", "O"), request.shape, strict=True)),
        request.density,
        _ours(inputs, weight, request) | products(inputs, weight),
        mean_count(inputs) * outputs,
    )


def _counts(request: Request) -> Case:
    rng = np.random.default_rng(request.seed)
    rows, channels, outputs = request.shape
    shape = rows, channels
    inputs = [signed_counts(rng, shape, request.density, 4) for _ in range(how_many(rows))]
    weight = small_weights(rng, (channels, outputs))
    found = {}
    for name, values in (("float32", weight.astype(np.float32)), ("int8", weight)):
        run = partial(_arrays, values, request)
        bits = BITS[name]
        found[name] = Candidate(
            turns(run, inputs), "ours", weight_traffic("gather", inputs, outputs, bits)
        )
    return Case(
        "spike_linear_counts",
        dict(zip(("R", "I", "O"), request.shape, strict=True)),
        request.density,
        found | products(inputs, weight),
        mean_count(inputs) * outputs,
    )


def _arrays(weight: npt.NDArray[Any], request: Request, spikes: Spikes) -> Any:
    return spike_linear(spikes, weight, backend=request.backend, threads=request.threads)


def _gradient(request: Request) -> Case:
    rng = np.random.default_rng(request.seed)
    rows, channels, outputs = request.shape
    inputs = [bernoulli(rng, (rows, channels), request.density) for _ in range(2)]
    packed = [pack(x) for x in inputs]
    gradient = small_weights(rng, (rows, outputs))
    floats = gradient.astype(np.float32)

    def ours(algo: str) -> Callable[[PackedSpikes], Any]:
        return lambda spikes: grad_weight(
            fresh(spikes), floats, algo, request.backend, request.threads
        )

    turned = [np.ascontiguousarray(x.T) for x in inputs]
    found = {}
    for algo in request.algos:
        taken = algo
        if algo == "auto":
            panels = PackedWeight.pack(floats)
            taken = cheapest(pack(turned[0]), panels, GRADIENT.algos)
        found["float32" if algo == "auto" else f"float32 {algo}"] = Candidate(
            turns(ours(algo), packed),
            "ours",
            weight_traffic(taken, turned, outputs, 32),
            algo=taken,
        )
    rivals = products(turned, gradient)  # transposed for them before the clock starts
    return Case(
        "grad_weight",
        dict(zip(("R", "I", "O"), request.shape, strict=True)),
        request.density,
        found | {name: rival for name, rival in rivals.items() if rival.kind == "dense"},
        mean_count(inputs) * outputs,
    )


LINEAR = Operation(
    name="spike_linear",
    text="binary spikes times weights, many rows",
    letters=("R", "I", "O"),
    shape=(1024, 512, 512),
    build=partial(_binary, "spike_linear", "R"),
    covers=("spike_linear", "PackedWeight"),
    bench=((1024, 512, 512), (256, 512, 512), (4096, 512, 512), (1024, 2048, 512)),
    algos=ALGORITHMS,
    small=(128, 512, 256),
)
DECODE = Operation(
    name="spike_linear_decode",
    text="the T = 4 time steps of one token times weights",
    letters=("T", "I", "O"),
    shape=(4, 4096, 4096),
    build=partial(_binary, "spike_linear_decode", "T"),
    covers=("spike_linear", "PackedWeight"),
    bench=((4, 4096, 4096), (4, 512, 2048)),
    algos=ALGORITHMS,
    small=(4, 1024, 512),
)
COUNTS = Operation(
    name="spike_linear_counts",
    text="signed counts -4..4 times weights, as the language model decodes",
    letters=("R", "I", "O"),
    shape=(1, 192, 768),
    build=_counts,
    covers=("spike_linear",),
    bench=((1, 192, 192), (1, 192, 768), (1, 768, 192), (16, 192, 768)),
    small=(1, 192, 768),
)
GRADIENT = Operation(
    name="grad_weight",
    text="spikes transposed times a float32 gradient",
    letters=("R", "I", "O"),
    shape=(1024, 512, 512),
    build=_gradient,
    covers=("grad_weight",),
    bench=((1024, 512, 512),),
    algos=("gather", "lut", "dense"),
    small=(128, 256, 128),
)
