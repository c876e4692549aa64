"""Convolution of binary images, 3 x 3, against convolutions of floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.kernels import PackedSpikes, PackedWeight, pack, spike_conv2d
from neurosim.kernels.spike_conv2d._columns import Columns
from neurosim.kernels.spike_conv2d._geometry import geometry
from neurosim.kernels.spike_linear._cost import ALGORITHMS, cheapest
from neurosim.profiling.case import Candidate, Case, Operation, Request
from neurosim.profiling.operations._inputs import (
    Spikes,
    bernoulli,
    evaluated,
    fresh,
    torch_here,
    turns,
)
from neurosim.profiling.operations.linear import BITS, small_weights, weight_traffic

_TAPS = 3
_MOST_PATCHES = 2**26  # entries of what every pixel sees, held once to count the traffic


def reached(x: Spikes) -> int:
    """Spikes times the outputs that see each of them; images (B, H, W, C), zeros around."""
    down, across = (_seen(size) for size in x.shape[1:3])
    per_pixel = x.sum(axis=3, dtype=np.int64)
    return int((per_pixel * down[:, None] * across).sum())


def _seen(size: int) -> Any:
    """How many of the 3 taps of the outputs fall on each of `size` inputs."""
    place = np.arange(size)
    return 1 + (place > 0) + (place < size - 1)


def _patches(x: Spikes) -> Spikes:
    """Every pixel's neighbourhood, (B H W, 9 C)."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    seen = [padded[:, i : i + height, j : j + width] for i in range(_TAPS) for j in range(_TAPS)]
    return np.concatenate(seen, axis=3).reshape(-1, _TAPS * _TAPS * x.shape[3])


def _case(request: Request) -> Case:
    images, size, channels, outputs = request.shape
    if images * size * size * channels * _TAPS**2 > _MOST_PATCHES:
        raise ValueError(
            f"expected images whose neighbourhoods have at most {_MOST_PATCHES} entries, got "
            f"{'x'.join(map(str, request.shape))}"
        )
    rng = np.random.default_rng(request.seed)
    shape = images, size, size, channels
    inputs = [bernoulli(rng, shape, request.density) for _ in range(2)]
    packed = [pack(x) for x in inputs]
    weight = small_weights(rng, (_TAPS * _TAPS * channels, outputs))
    seen = [_patches(inputs[0])]
    view = geometry(shape, (_TAPS, _TAPS), 1, 1, 1)
    found = {}
    for name, bits in BITS.items():
        panels = PackedWeight.pack(weight, bits)
        for algo in request.algos:
            taken = algo
            if request.backend not in ("auto", "cpu"):
                taken = "gather"
            elif algo == "auto":
                taken = cheapest(Columns(fresh(packed[0]), view), panels)
            found[name if algo == "auto" else f"{name} {algo}"] = Candidate(
                turns(_call(panels, algo, request), packed),
                "ours",
                weight_traffic(taken, seen, outputs, bits),
                algo=taken,
            )
    filters = weight.reshape(_TAPS, _TAPS, channels, outputs).astype(np.float32)
    return Case(
        "spike_conv2d",
        dict(zip(("B", "S", "C", "O"), request.shape, strict=True)),
        request.density,
        found | _rivals(inputs, filters),
        sum(map(reached, inputs)) / len(inputs) * outputs,
    )


def _call(panels: PackedWeight, algo: str, request: Request) -> Callable[[PackedSpikes], Any]:
    return lambda spikes: spike_conv2d(
        fresh(spikes), panels, padding=1, kernel=(_TAPS, _TAPS), algo=algo,
        backend=request.backend, threads=request.threads,
    )  # fmt: skip


def _rivals(inputs: list[Spikes], filters: Any) -> dict[str, Candidate]:
    """float32 convolutions; torch with channels last, which is its faster layout here."""
    dense = [x.astype(np.float32) for x in inputs]
    on_mlx, kernel = [mx.array(x) for x in dense], mx.array(filters.transpose(3, 0, 1, 2))
    found = {
        "mlx": Candidate(
            turns(lambda x: evaluated(mx.conv2d(x, kernel, padding=1)), on_mlx), "dense"
        )
    }
    torch = torch_here()
    if torch is not None:
        last = torch.channels_last
        turned = torch.from_numpy(filters.transpose(3, 2, 0, 1).copy())
        turned = turned.contiguous(memory_format=last)
        tensors = [torch.from_numpy(x).permute(0, 3, 1, 2) for x in dense]
        convolve = torch.nn.functional.conv2d
        found["torch"] = Candidate(
            turns(lambda x: convolve(x, turned, padding=1), tensors),
            "dense",
            view=lambda y: np.asarray(y.permute(0, 2, 3, 1)),
        )
    return found


CONVOLUTION = Operation(
    name="spike_conv2d",
    text="3 x 3 convolution of B binary images, S x S",
    letters=("B", "S", "C", "O"),
    shape=(8, 16, 128, 256),
    build=_case,
    covers=("spike_conv2d",),
    bench=((8, 16, 128, 256), (8, 32, 64, 128)),
    algos=ALGORITHMS,
    small=(1, 8, 64, 64),
)
