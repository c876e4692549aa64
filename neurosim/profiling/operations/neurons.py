"""LIF neurons over time: forward with packed output, and a training step."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.kernels import Neuron, lif_backward, lif_scan, lif_spikes
from neurosim.profiling.case import Candidate, Case, Operation, Request, Traffic
from neurosim.profiling.operations._inputs import evaluated, torch_here

_DECAY, _SHARPNESS = 0.5, 2.0
_NEURON = Neuron(surrogate="fast_sigmoid", sharpness=_SHARPNESS)


def _current(request: Request) -> Any:
    """Input of which about a third of the neurons fire; float32, (T, B, N)."""
    rng = np.random.default_rng(request.seed)
    return rng.normal(0.4, 0.8, request.shape).astype(np.float32)


def _named(request: Request) -> dict[str, int]:
    return dict(zip(("T", "B", "N"), request.shape, strict=True))


def _spikes(scan: Any) -> Any:
    return scan.spikes if isinstance(scan.spikes, np.ndarray) else scan.spikes.unpack()


def _numpy_in_place(x: Any) -> Any:
    potential, scaled = np.zeros(x.shape[1:], np.float32), np.empty(x.shape[1:], np.float32)
    out = np.empty(x.shape, np.int8)

    def run() -> Any:
        potential[:] = 0
        for t in range(x.shape[0]):
            np.multiply(potential, np.float32(_DECAY), out=potential)
            np.add(potential, x[t], out=potential)
            fired = np.greater_equal(potential, 1, out=out[t].view(bool))
            np.copyto(scaled, fired)
            np.subtract(potential, scaled, out=potential)
        return out

    return run


def _torch_in_place(torch: Any, x: Any) -> Any:
    potential, out = torch.zeros(x.shape[1:]), torch.empty(x.shape)

    def run() -> Any:
        potential.zero_()
        for t in range(x.shape[0]):
            potential.mul_(_DECAY).add_(x[t])
            out[t].copy_(potential.ge(1.0))
            potential.sub_(out[t])
        return out

    return run


def _mlx_scan(x: mx.array) -> mx.array:
    potential, out = mx.zeros(x.shape[1:]), []
    for t in range(x.shape[0]):
        potential = _DECAY * potential + x[t]
        fired = (potential >= 1).astype(mx.float32)
        potential = potential - fired
        out.append(fired)
    return mx.stack(out)


def _scan(request: Request) -> Case:
    x = _current(request)
    bits = request.shape[0] * request.shape[1] * -(-request.shape[2] // 64) * 8
    state = 4 * request.shape[1] * request.shape[2]

    def ours(output: str, kept: bool) -> Candidate:
        written = (bits if output == "packed" else x.size) + (x.nbytes if kept else 0)
        return Candidate(
            lambda: lif_scan(
                x, 1.0, _DECAY, output=output, save_membrane=kept, backend=request.backend
            ),
            "ours",
            Traffic(x.nbytes + written + 2 * state, x.nbytes + written),
            view=_spikes,
        )

    on_mlx = mx.array(x)
    found = {
        "packed": ours("packed", False),
        "packed, membrane kept": ours("packed", True),
        "int8": ours("int8", False),
        "numpy in place": Candidate(_numpy_in_place(x), "dense"),
        "mlx": Candidate(lambda: evaluated(_mlx_scan(on_mlx)), "dense"),
    }
    torch = torch_here()
    if torch is not None:
        found["torch in place"] = Candidate(_torch_in_place(torch, torch.from_numpy(x)), "dense")
    return Case("lif_scan", _named(request), None, found)


def _training(request: Request) -> Case:
    x = _current(request)
    gradient = np.random.default_rng(request.seed + 1).standard_normal(x.shape).astype(np.float32)

    def arrays() -> Any:
        scan = lif_scan(
            x, 1.0, _DECAY, neuron=_NEURON, output="packed", save_membrane=True,
            backend=request.backend,
        )  # fmt: skip
        assert scan.membrane is not None
        return lif_backward(
            gradient, x, scan.membrane, 1.0, _DECAY, neuron=_NEURON, backend=request.backend
        ).x

    on_mlx, mlx_gradient = mx.array(x), mx.array(gradient)
    ours = mx.grad(lambda y: (lif_spikes(y, 1.0, _DECAY, neuron=_NEURON)[0] * mlx_gradient).sum())
    theirs = mx.grad(lambda y: (_mlx_training(y) * mlx_gradient).sum())
    moved = 2 * x.nbytes + 3 * x.nbytes  # forward reads x, writes u; backward reads g, u, writes dx
    found = {
        "arrays": Candidate(arrays, "ours", Traffic(moved, 2 * x.nbytes)),
        "in mx.grad": Candidate(lambda: evaluated(ours(on_mlx)), "ours"),
        "mlx": Candidate(lambda: evaluated(theirs(on_mlx)), "dense"),
    }
    torch = torch_here()
    if torch is not None:
        found["torch autograd"] = Candidate(_torch_training(torch, x, gradient), "dense")
    return Case("lif_training", _named(request), None, found, tolerance=1e-5)


@mx.custom_function
def _mlx_spike(u: Any) -> Any:
    return (u >= 1).astype(mx.float32)


@_mlx_spike.vjp
def _mlx_surrogate(primals: Any, cotangents: Any, outputs: Any) -> Any:
    u, cotangent = (part[0] if isinstance(part, (tuple, list)) else part
                    for part in (primals, cotangents))  # fmt: skip
    return cotangent / mx.square(1 + _SHARPNESS * mx.abs(u - 1))


def _mlx_training(x: Any) -> Any:
    """The scan in MLX operations, its reset detached."""
    potential, out = mx.zeros(x.shape[1:]), []
    for t in range(x.shape[0]):
        u = _DECAY * potential + x[t]
        fired: Any = _mlx_spike(u)
        potential = u - mx.stop_gradient(fired)
        out.append(fired)
    return mx.stack(out)


def _torch_training(torch: Any, x: Any, gradient: Any) -> Any:
    class Spike(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, u: Any) -> Any:
            ctx.save_for_backward(u)
            return (u >= 1).float()

        @staticmethod
        def backward(ctx: Any, cotangent: Any) -> Any:
            (u,) = ctx.saved_tensors
            return cotangent / (1 + _SHARPNESS * (u - 1).abs()) ** 2

    leaf, weight = torch.from_numpy(x.copy()).requires_grad_(True), torch.from_numpy(gradient)

    def run() -> Any:
        leaf.grad = None
        potential, out = torch.zeros(x.shape[1:]), []
        for t in range(x.shape[0]):
            u = _DECAY * potential + leaf[t]
            fired = Spike.apply(u)
            potential = u - fired.detach()
            out.append(fired)
        torch.stack(out).backward(weight)
        return leaf.grad

    return run


SCAN = Operation(
    "lif_scan",
    "LIF neurons over T steps",
    ("T", "B", "N"),
    (4, 256, 512),
    _scan,
    ("lif_scan", "Neuron"),
    by_density=False,
    bench=((4, 16, 512), (4, 256, 512), (4, 4096, 512)),
)
TRAINING = Operation(
    "lif_training",
    "LIF neurons forward and backward, fast sigmoid surrogate",
    ("T", "B", "N"),
    (4, 256, 512),
    _training,
    ("lif_scan", "lif_backward", "lif_spikes"),
    by_density=False,
    bench=((4, 16, 512), (4, 256, 512)),
)
