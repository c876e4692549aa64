"""Activations as dense spike counts, as in quantised language models: neurons, products, cache."""

from __future__ import annotations

from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels import (
    IntegerWeight,
    cached_attention,
    count_linear,
    event_counts,
    row_linear,
    spike_quantise,
)
from neurosim.kernels.event_counts import reference as events
from neurosim.kernels.spike_quantise import reference as neurons
from neurosim.profiling.case import Candidate, Case, Operation, Request, Traffic
from neurosim.profiling.operations._inputs import evaluated, how_many, signed_counts, turns
from neurosim.profiling.operations._products import products

_TOP = 127


def _named(operation: Operation, request: Request) -> dict[str, int]:
    return dict(zip(operation.letters, request.shape, strict=True))


def _quantise(request: Request) -> Case:
    rng = np.random.default_rng(request.seed)
    inputs = [rng.standard_normal(request.shape, dtype=np.float32) for _ in range(how_many(1))]
    moved = 5 * inputs[0].size

    def plain(x: npt.NDArray[Any]) -> Any:
        return neurons.spike_quantise(x, _TOP, "token")[0]

    ours = partial(spike_quantise, backend=request.backend)
    return Case(
        "spike_quantise",
        _named(QUANTISE, request),
        None,
        {
            "counts": Candidate(
                turns(ours, inputs), "ours", Traffic(moved, moved), view=lambda out: out[0]
            ),
            "numpy": Candidate(turns(plain, inputs), "dense"),
        },
    )


def _events(request: Request) -> Case:
    rng = np.random.default_rng(request.seed)
    inputs = [signed_counts(rng, request.shape, 1.0, _TOP) for _ in range(how_many(1))]

    def table(found: dict[str, Any]) -> Any:
        return np.stack(list(found.values()))

    ours = partial(event_counts, backend=request.backend)
    moved = inputs[0].size
    return Case(
        "event_counts",
        _named(EVENTS, request),
        None,
        {
            "four codes": Candidate(turns(ours, inputs), "ours", Traffic(moved, moved), view=table),
            "numpy": Candidate(turns(events.event_counts, inputs), "dense", view=table),
        },
    )


def _weights(rng: np.random.Generator, outputs: int, inputs: int) -> dict[str, Any]:
    """The same integers -7..7 in 8 bits, in 4 bits (times 63) and as float32 (O, I)."""
    codes = rng.integers(-7, 8, (outputs, inputs)).astype(np.int8)
    codes[:, ::32] = 7  # a whole range in every group, so that 4 bits hold it exactly
    plain = codes.astype(np.float32)
    whole = IntegerWeight(codes, np.ones(outputs, np.float32), 8, codes.shape)
    return {"int8": whole, "int4": IntegerWeight.quantise(plain, 4), "float32": plain}


def _counts(request: Request) -> Case:
    rng = np.random.default_rng(request.seed)
    rows, channels, outputs = request.shape
    inputs = [signed_counts(rng, (rows, channels), 1.0, _TOP) for _ in range(how_many(rows))]
    weights = _weights(rng, outputs, channels)
    found = {}
    for name, unit in (("int8", 1), ("int4", 63)):
        weight = weights[name]
        moved = weight.nbytes + rows * (channels + 4 * outputs)
        run = partial(_count_product, weight, request)
        view = partial(_divided, unit)
        found[name] = Candidate(turns(run, inputs), "ours", Traffic(moved, moved), view=view)
    rivals = products(inputs, np.ascontiguousarray(weights["int8"].codes.T))
    return Case("count_linear", _named(COUNTS, request), None, found | rivals)


def _count_product(weight: IntegerWeight, request: Request, counts: npt.NDArray[np.int8]) -> Any:
    return count_linear(counts, weight, request.threads, request.backend)


def _divided(unit: int, sums: Any) -> Any:
    return np.asarray(sums) / unit


def _rows(request: Request) -> Case:
    rng = np.random.default_rng(request.seed)
    rows, channels, outputs = request.shape
    counts = [signed_counts(rng, (rows, channels), 1.0, _TOP) for _ in range(how_many(rows))]
    inputs = [x.astype(np.float32) for x in counts]
    weights = _weights(rng, outputs, channels)
    found = {}
    for name, weight in weights.items():
        moved = weight.nbytes + rows * 4 * (channels + outputs)
        run = partial(_row_product, weight, request)
        found[name] = Candidate(turns(run, inputs), "ours", Traffic(moved, moved))
    rivals = products(counts, np.ascontiguousarray(weights["int8"].codes.T))
    floats = {name: rival for name, rival in rivals.items() if rival.kind == "dense"}
    return Case("row_linear", _named(ROWS, request), None, found | floats, tolerance=1e-6)


def _row_product(weight: Any, request: Request, x: npt.NDArray[Any]) -> Any:
    return row_linear(x, weight, request.threads, request.backend)


def _attention(request: Request) -> Case:
    rng = np.random.default_rng(request.seed)
    length, slots, heads, groups, size = request.shape
    if slots < length or heads % groups:
        raise ValueError(
            f"expected a cache of at least L = {length} slots and A a multiple of G, got "
            f"{request.shape}"
        )
    q = rng.standard_normal((1, length, heads, size), dtype=np.float32)
    keys, values = rng.standard_normal((2, 1, groups, slots, size), dtype=np.float32)
    hidden = np.arange(slots) > slots - length + np.arange(length)[:, None]
    mask = np.where(hidden, np.float32(-np.inf), np.float32(0))
    scale = size**-0.5

    def ours() -> Any:
        offset = slots - length
        return cached_attention(q, keys, values, [0], offset, request.threads, request.backend)

    def numpy() -> Any:
        grouped = q[0].reshape(length, groups, -1, size).transpose(1, 2, 0, 3)
        scores = grouped @ keys[0, :, None].swapaxes(2, 3) * np.float32(scale) + mask
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = weights @ values[0, :, None] / weights.sum(-1, keepdims=True)
        return mixed.transpose(2, 0, 1, 3).reshape(q.shape)

    arrays = [mx.array(x) for x in (q.swapaxes(1, 2), keys, values, mask)]

    def mlx() -> Any:
        queries, k, v, added = arrays
        mixed = mx.fast.scaled_dot_product_attention(queries, k, v, scale=scale, mask=added)
        return evaluated(mixed.swapaxes(1, 2))

    moved = keys.nbytes + values.nbytes + 2 * q.nbytes
    return Case(
        "cached_attention",
        _named(ATTENTION, request),
        None,
        {
            "ours": Candidate(ours, "ours", Traffic(moved, moved)),
            "numpy": Candidate(numpy, "dense"),
            "mlx": Candidate(mlx, "dense"),
        },
        tolerance=1e-5,
    )


QUANTISE = Operation(
    name="spike_quantise",
    text="activations to signed spike counts, one scale per token",
    letters=("R", "N"),
    shape=(1, 2048),
    build=_quantise,
    covers=("spike_quantise",),
    by_density=False,
    bench=((1, 576), (1, 11008), (512, 2048)),
    small=(4, 256),
)
EVENTS = Operation(
    name="event_counts",
    text="events of spike counts in four codes",
    letters=("R", "N"),
    shape=(1, 2048),
    build=_events,
    covers=("event_counts",),
    by_density=False,
    bench=((1, 2048), (512, 2048)),
)
COUNTS = Operation(
    name="count_linear",
    text="dense spike counts times 8- or 4-bit weights",
    letters=("R", "I", "O"),
    shape=(1, 2048, 11008),
    build=_counts,
    covers=("count_linear",),
    by_density=False,
    bench=((1, 576, 1536), (1, 2048, 11008), (512, 576, 1536)),
)
ROWS = Operation(
    name="row_linear",
    text="float rows times 8-bit, 4-bit or float weights, each row by itself",
    letters=("R", "I", "O"),
    shape=(1, 576, 49152),
    build=_rows,
    covers=("row_linear",),
    by_density=False,
    bench=((1, 576, 49152), (64, 576, 1536)),
)
ATTENTION = Operation(
    name="cached_attention",
    text="softmax attention of L tokens over a cache of S",
    letters=("L", "S", "A", "G", "D"),
    shape=(1, 512, 9, 3, 64),
    build=_attention,
    covers=("cached_attention",),
    by_density=False,
    bench=((1, 512, 9, 3, 64), (1, 2048, 16, 2, 128), (256, 256, 9, 3, 64)),
)
