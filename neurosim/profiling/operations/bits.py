"""Bits from spikes, spikes from bits, and lists of events."""

from __future__ import annotations

import numpy as np

from neurosim.kernels import pack, unpack
from neurosim.profiling.case import Candidate, Case, Operation, Request, Traffic
from neurosim.profiling.operations._inputs import (
    bernoulli,
    fresh,
    how_many,
    mean_count,
    torch_here,
    turns,
)

_SHAPE, _SMALL = (1024, 512), (64, 512)
_BENCH = (_SHAPE, (4096, 2048))


def _inputs(request: Request) -> list[np.ndarray]:
    rng = np.random.default_rng(request.seed)
    return [bernoulli(rng, request.shape, request.density) for _ in range(how_many(10**6))]


def _named(request: Request) -> dict[str, int]:
    return dict(zip(("R", "D"), request.shape, strict=True))


def _pack(request: Request) -> Case:
    inputs = _inputs(request)
    rows, channels = request.shape
    moved = rows * channels + rows * -(-channels // 64) * 8
    return Case(
        "pack",
        _named(request),
        request.density,
        {
            "packed": Candidate(
                turns(lambda x: pack(x, backend=request.backend), inputs),
                "ours",
                Traffic(moved, moved),
                view=lambda spikes: spikes.unpack(),
            ),
            "numpy packbits": Candidate(
                turns(lambda x: np.packbits(x, axis=1, bitorder="little"), inputs),
                "dense",
                view=lambda b: np.unpackbits(b, axis=1, count=channels, bitorder="little"),
            ),
        },
    )


def _unpack(request: Request) -> Case:
    inputs = [pack(x) for x in _inputs(request)]
    rows, channels = request.shape
    octets = [x.words.view(np.uint8).reshape(rows, -1) for x in inputs]
    moved = rows * channels + rows * -(-channels // 64) * 8
    return Case(
        "unpack",
        _named(request),
        request.density,
        {
            "counts": Candidate(
                turns(lambda x: unpack(x, backend=request.backend), inputs),
                "ours",
                Traffic(moved, moved),
            ),
            "numpy unpackbits": Candidate(
                turns(
                    lambda b: np.unpackbits(b, axis=1, count=channels, bitorder="little"), octets
                ),
                "dense",
            ),
        },
    )


def _events(request: Request) -> Case:
    dense = _inputs(request)
    inputs = [pack(x) for x in dense]
    rows, channels = request.shape
    index = 2 if channels <= 65_536 else 4
    moved = rows * -(-channels // 64) * 8 + (rows + 1) * 8 + int(mean_count(dense)) * index
    found = {
        "lists": Candidate(
            turns(lambda x: fresh(x).events, inputs),
            "ours",
            Traffic(moved, moved),
            view=lambda events: events.channels,
        ),
        "numpy nonzero": Candidate(turns(np.nonzero, dense), "dense", view=lambda found: found[1]),
    }
    torch = torch_here()
    if torch is not None:
        tensors = [torch.from_numpy(x) for x in dense]
        found["torch nonzero"] = Candidate(
            turns(torch.nonzero, tensors), "dense", view=lambda found: found[:, 1]
        )
    return Case("events", _named(request), request.density, found)


PACK = Operation(
    "pack",
    "int8 spikes to bits",
    ("R", "D"),
    _SHAPE,
    _pack,
    ("pack",),
    bench=_BENCH,
    small=_SMALL,
)
UNPACK = Operation(
    "unpack",
    "bits to int8 spikes",
    ("R", "D"),
    _SHAPE,
    _unpack,
    ("unpack",),
    bench=_BENCH,
    small=_SMALL,
)
EVENTS = Operation(
    "events",
    "event lists from bits",
    ("R", "D"),
    _SHAPE,
    _events,
    ("PackedSpikes",),
    bench=_BENCH,
    chooses=False,
)
