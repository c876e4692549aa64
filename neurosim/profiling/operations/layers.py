"""A layer in one call: spikes times weights, LIF neurons, packed spikes; and the causal taps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels import PackedSpikes, PackedWeight, pack, spike_linear_lif, spike_taps
from neurosim.profiling.case import Candidate, Case, Operation, Request, Traffic
from neurosim.profiling.operations._inputs import (
    Spikes,
    bernoulli,
    evaluated,
    fresh,
    mean_count,
    signed_counts,
    torch_here,
    turns,
)
from neurosim.profiling.operations.linear import BITS, small_weights, weight_traffic
from neurosim.profiling.timing import Run

_DECAY = 0.5
_TAPS = 4


def _layer(request: Request) -> Case:
    steps, batch, channels, outputs = request.shape
    rng = np.random.default_rng(request.seed)
    shape = batch, steps, channels  # time innermost: rows 4 k .. 4 k + 3 are one token's steps
    inputs = [bernoulli(rng, shape, request.density) for _ in range(2)]
    packed = [pack(x, time_axis=1) for x in inputs]
    weight = small_weights(rng, (channels, outputs))
    threshold = float(max(1, round(4 * np.sqrt(request.density * channels))))
    rows = [x.reshape(-1, channels) for x in inputs]
    words = steps * batch * -(-outputs // 64) * 8
    found = {}
    for name, bits in BITS.items():
        read = weight_traffic("gather", rows, outputs, bits)
        assert read is not None
        sums = steps * batch * outputs * 4
        found[name] = Candidate(
            turns(_fused(PackedWeight.pack(weight, bits), threshold, request), packed),
            "ours",
            Traffic(read.moved - sums + words, read.reused),
            view=lambda scan: scan.spikes.unpack(),
        )
    shapes = dict(zip(("T", "B", "I", "O"), request.shape, strict=True))
    return Case(
        "spike_linear_lif",
        shapes,
        request.density,
        found | _layer_rivals(inputs, weight.astype(np.float32), threshold),
        mean_count(inputs) * outputs,
    )


def _fused(
    panels: PackedWeight, threshold: float, request: Request
) -> Callable[[PackedSpikes], Any]:
    return lambda spikes: spike_linear_lif(
        fresh(spikes), panels, threshold, _DECAY, backend=request.backend
    )


def _layer_rivals(
    inputs: list[Spikes], weight: npt.NDArray[np.float32], threshold: float
) -> dict[str, Candidate]:
    """A product and then LIF neurons in place; (B, T, O) float32 spikes."""
    batch, steps, channels = inputs[0].shape
    dense = [x.reshape(-1, channels).astype(np.float32) for x in inputs]
    sums = np.empty((batch * steps, weight.shape[1]), np.float32)
    fired = np.empty((batch, steps, weight.shape[1]), np.float32)
    potential = np.empty((batch, weight.shape[1]), np.float32)

    def numpy_layer(x: Any) -> Any:
        current = np.dot(x, weight, out=sums).reshape(fired.shape)
        potential.fill(0)
        for t in range(steps):
            np.multiply(potential, np.float32(_DECAY), out=potential)
            np.add(potential, current[:, t], out=potential)
            np.greater_equal(potential, threshold, out=fired[:, t], casting="unsafe")
            np.subtract(potential, threshold * fired[:, t], out=potential)
        return fired

    mlx_weight, on_mlx = mx.array(weight), [mx.array(x) for x in dense]

    def mlx_layer(x: Any) -> Any:
        current = (x @ mlx_weight).reshape(fired.shape)
        u, out = mx.zeros(potential.shape), []
        for t in range(steps):
            u = _DECAY * u + current[:, t]
            out.append((u >= threshold).astype(mx.float32))
            u = u - threshold * out[-1]
        return evaluated(mx.stack(out, axis=1))

    found = {
        "numpy": Candidate(turns(numpy_layer, dense), "dense"),
        "mlx": Candidate(turns(mlx_layer, on_mlx), "dense"),
    }
    torch = torch_here()
    if torch is not None:
        tensors = [torch.from_numpy(x) for x in dense]
        turned = np.ascontiguousarray(weight.T)
        for name, values in (
            ("torch", torch.from_numpy(weight)),
            ("torch (O, I)", torch.from_numpy(turned).t()),
        ):
            layer = _torch_layer(torch, values, fired.shape, threshold)
            found[name] = Candidate(turns(layer, tensors), "dense")
    return found


def _torch_layer(
    torch: Any, weight: Any, shape: tuple[int, ...], threshold: float
) -> Callable[[Any], Any]:
    batch, steps, outputs = shape
    sums, out = torch.empty(batch * steps, outputs), torch.empty(shape)
    potential = torch.empty(batch, outputs)

    def run(x: Any) -> Any:
        current = torch.mm(x, weight, out=sums).view(shape)
        potential.zero_()
        for t in range(steps):
            potential.mul_(_DECAY).add_(current[:, t])
            out[:, t].copy_(potential.ge(threshold))
            potential.sub_(out[:, t], alpha=threshold)
        return out

    return run


def _taps(request: Request) -> Case:
    steps, channels = request.shape
    rng = np.random.default_rng(request.seed)
    spikes = signed_counts(rng, request.shape, request.density, 4)
    weight = small_weights(rng, (_TAPS, channels))
    floats = weight.astype(np.float32)
    out_bytes = 8 * spikes.size
    x = spikes.astype(np.float32)
    padded = np.concatenate([np.zeros((_TAPS - 1, channels), np.float32), x])

    def dense() -> Any:
        out = np.zeros(x.shape, np.float32)
        for age, row in enumerate(floats):
            out += padded[_TAPS - 1 - age : _TAPS - 1 - age + steps] * row
        return out

    def ours(values: npt.NDArray[Any]) -> Run:
        return lambda: spike_taps(spikes, values, backend=request.backend)

    found = {
        name: Candidate(
            ours(values),
            "ours",
            Traffic(spikes.size + out_bytes + values.nbytes, spikes.size + out_bytes),
        )
        for name, values in (("int8", weight), ("float32", floats))
    }
    found["numpy"] = Candidate(dense, "dense")
    kernel, on_mlx = mx.array(floats[::-1].T.copy()[..., None]), mx.array(padded[None])
    found["mlx"] = Candidate(
        lambda: evaluated(mx.conv1d(on_mlx, kernel, groups=channels)),
        "dense",
        view=lambda y: np.asarray(y)[0],
    )
    torch = torch_here()
    if torch is not None:
        turned = torch.from_numpy(floats[::-1].T.copy()[:, None])
        tensor = torch.from_numpy(padded.T.copy()[None])
        convolve = torch.nn.functional.conv1d
        found["torch"] = Candidate(
            lambda: convolve(tensor, turned, groups=channels),
            "dense",
            view=lambda y: np.asarray(y)[0].T,
        )
    sizes = np.abs(spikes.astype(np.int64))
    reached = sum(int(sizes[: steps - age].sum()) for age in range(min(_TAPS, steps)))
    shape = {"L": steps, "N": channels}
    return Case("spike_taps", shape, request.density, found, reached)


LAYER = Operation(
    name="spike_linear_lif",
    text="weights and LIF neurons in one, packed spikes out",
    letters=("T", "B", "I", "O"),
    shape=(4, 256, 512, 512),
    build=_layer,
    covers=("spike_linear_lif",),
    bench=((4, 256, 512, 512),),
    small=(4, 16, 256, 128),
)
TAPS = Operation(
    name="spike_taps",
    text=f"causal convolution of every channel over {_TAPS} tokens, counts -4..4",
    letters=("L", "N"),
    shape=(256, 192),
    build=_taps,
    covers=("spike_taps",),
    bench=((256, 192), (256, 768)),
)
