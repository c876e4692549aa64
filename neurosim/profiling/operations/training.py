"""Training: LIF neurons forward and backward, and a step through two spiking layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels import (
    LifWorkspace,
    Neuron,
    lif_backward,
    lif_scan,
    trainable_lif,
    trainable_linear,
    trainable_linear_lif,
    trainable_stack,
)
from neurosim.profiling.case import Candidate, Case, Operation, Request, Traffic
from neurosim.profiling.operations._inputs import bernoulli, evaluated, torch_here
from neurosim.profiling.operations.neurons import current
from neurosim.profiling.timing import Run

Floats = npt.NDArray[np.float32]

DECAY, _SHARPNESS = 0.5, 2.0
NEURON = Neuron(surrogate="fast_sigmoid", sharpness=_SHARPNESS)
_GRID = 2.0**-8  # of weights: sums are then exact in any order, and so are the spikes


def _scan(request: Request) -> Case:
    x = current(request)
    gradient = np.random.default_rng(request.seed + 1).standard_normal(x.shape).astype(np.float32)

    forward, backward = LifWorkspace(), LifWorkspace()

    def arrays() -> Any:
        scan = lif_scan(
            x, 1.0, DECAY, neuron=NEURON, output="packed", save_membrane=True, keep_state=False,
            backend=request.backend, workspace=forward,
        )  # fmt: skip
        assert scan.membrane is not None
        return lif_backward(
            gradient, x, scan.membrane, 1.0, DECAY, neuron=NEURON, backend=request.backend,
            learn=False, workspace=backward,
        ).x  # fmt: skip

    on_mlx, weight = mx.array(x), mx.array(gradient)
    ours = mx.grad(lambda y: (trainable_lif(y, 1.0, DECAY, neuron=NEURON)[0] * weight).sum())
    theirs = mx.grad(lambda y: (mlx_scan(y) * weight).sum())
    moved = 5 * x.nbytes  # forward reads x, writes u; backward reads the gradient and u, writes dx
    found = {
        "arrays": Candidate(arrays, "ours", Traffic(moved, 2 * x.nbytes)),
        "mlx": Candidate(lambda: evaluated(theirs(on_mlx)), "dense"),
    }
    if request.backend in ("auto", "cpu"):  # trainable_lif runs where MLX's arrays are
        found["in mx.grad"] = Candidate(lambda: evaluated(ours(on_mlx)), "ours")
    torch = torch_here()
    if torch is not None:
        leaf = torch.from_numpy(x.copy()).requires_grad_(True)
        weights = torch.from_numpy(gradient)
        spike = torch_spike(torch)

        def autograd() -> Any:
            leaf.grad = None
            torch_scan(torch, spike, leaf).backward(weights)
            return leaf.grad

        found["torch autograd"] = Candidate(autograd, "dense")
    shape = dict(zip(("T", "B", "N"), request.shape, strict=True))
    return Case("lif_training", shape, None, found, tolerance=1e-5)


def _step(request: Request) -> Case:
    """Loss and gradients of both weights of two layers, both firing at the density of the data."""
    steps, batch, width = request.shape
    rng = np.random.default_rng(request.seed)
    spikes = bernoulli(rng, request.shape, request.density)
    weights, fired = [], spikes.astype(np.float32)
    for _ in range(2):
        chosen = _firing_weight(rng, fired, request.density)
        weights.append(chosen)
        fired = _fired(fired @ chosen)
    gradient = rng.standard_normal(request.shape).astype(np.float32)
    on_mlx, data = [mx.array(w) for w in weights], mx.array(spikes.astype(np.float32))
    weight = mx.array(gradient)

    def stack(first: Any, second: Any) -> Any:
        out = trainable_stack(spikes, [first, second], None, 1.0, DECAY, neuron=NEURON)
        return (out * weight).sum()

    def layers(first: Any, second: Any) -> Any:
        hidden, _ = trainable_linear_lif(spikes, first, 1.0, DECAY, neuron=NEURON)
        return (trainable_linear_lif(hidden, second, 1.0, DECAY, neuron=NEURON)[0] * weight).sum()

    def pieces(first: Any, second: Any) -> Any:
        hidden, _ = trainable_lif(trainable_linear(spikes, first), 1.0, DECAY, neuron=NEURON)
        out, _ = trainable_lif(trainable_linear(hidden, second), 1.0, DECAY, neuron=NEURON)
        return (out * weight).sum()

    def plain(first: Any, second: Any) -> Any:
        return (mlx_scan(mlx_scan(data @ first) @ second) * weight).sum()

    found = {
        "stack": Candidate(_gradients(stack, on_mlx), "ours", view=_joined),
        "fused layers": Candidate(_gradients(layers, on_mlx), "ours", view=_joined),
        "linear and neurons": Candidate(_gradients(pieces, on_mlx), "ours", view=_joined),
        "mlx": Candidate(_gradients(plain, on_mlx), "dense", view=_joined),
    }
    torch = torch_here()
    if torch is not None:
        leaves = [torch.from_numpy(w).requires_grad_(True) for w in weights]
        tensors = torch.from_numpy(spikes.astype(np.float32)), torch.from_numpy(gradient)
        spike = torch_spike(torch)

        def autograd() -> Any:
            for leaf in leaves:
                leaf.grad = None
            hidden = torch_scan(torch, spike, tensors[0] @ leaves[0])
            torch_scan(torch, spike, hidden @ leaves[1]).backward(tensors[1])
            return [leaf.grad for leaf in leaves]

        found["torch autograd"] = Candidate(autograd, "dense", view=_joined)
    shape = dict(zip(("T", "B", "N"), request.shape, strict=True))
    return Case("training_step", shape, request.density, found, tolerance=1e-4)


def _fired(x: Floats) -> Floats:
    """Spikes of `NEURON` for the input x (T, B, N)."""
    return np.asarray(lif_scan(x, 1.0, DECAY, neuron=NEURON).spikes, np.float32)


def _firing_weight(rng: np.random.Generator, spikes: Floats, density: float) -> Floats:
    """A weight (N, N) on the grid with which about `density` of the neurons fire."""
    width = spikes.shape[-1]
    drawn = rng.standard_normal((width, width), np.float32) / np.float32(np.sqrt(width * density))
    sums, low, high = spikes @ drawn, 0.0, 64.0
    for _ in range(12):
        scale = (low + high) / 2
        rate = _fired(sums * np.float32(scale)).mean()
        low, high = (scale, high) if rate < density else (low, scale)
    found: Floats = np.round(drawn * np.float32(low / _GRID)).astype(np.float32) * np.float32(_GRID)
    return found


def _gradients(loss: Callable[..., Any], weights: Sequence[mx.array]) -> Run:
    """Loss and gradients, computed."""
    function = mx.value_and_grad(loss, argnums=(0, 1))

    def run() -> Any:
        value, found = function(*weights)
        mx.eval(value, *found)
        return found

    return run


def _joined(gradients: Sequence[Any]) -> Any:
    return np.concatenate([np.asarray(x).ravel() for x in gradients])


@mx.custom_function
def _mlx_spike(u: Any) -> Any:
    return (u >= 1).astype(mx.float32)


@_mlx_spike.vjp
def _mlx_surrogate(primals: Any, cotangents: Any, outputs: Any) -> Any:
    u, cotangent = (
        part[0] if isinstance(part, (tuple, list)) else part for part in (primals, cotangents)
    )
    return cotangent / mx.square(1 + _SHARPNESS * mx.abs(u - 1))


def mlx_scan(x: Any) -> Any:
    """`NEURON` with threshold 1 over the first axis, in MLX operations; its reset is detached."""
    potential, out = mx.zeros(x.shape[1:]), []
    for t in range(x.shape[0]):
        u = DECAY * potential + x[t]
        fired: Any = _mlx_spike(u)
        potential = u - mx.stop_gradient(fired)
        out.append(fired)
    return mx.stack(out)


def torch_spike(torch: Any) -> Any:
    """A spike with the surrogate gradient of `NEURON`."""

    class Spike(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, u: Any) -> Any:
            ctx.save_for_backward(u)
            return (u >= 1).float()

        @staticmethod
        def backward(ctx: Any, cotangent: Any) -> Any:
            (u,) = ctx.saved_tensors
            return cotangent / (1 + _SHARPNESS * (u - 1).abs()) ** 2

    return Spike.apply


def torch_scan(torch: Any, spike: Any, x: Any) -> Any:
    """`mlx_scan` in torch."""
    potential, out = torch.zeros(x.shape[1:]), []
    for t in range(x.shape[0]):
        u = DECAY * potential + x[t]
        fired = spike(u)
        potential = u - fired.detach()
        out.append(fired)
    return torch.stack(out)


SCAN = Operation(
    "lif_training",
    "LIF neurons forward and backward, fast sigmoid surrogate",
    ("T", "B", "N"),
    (4, 256, 512),
    _scan,
    ("lif_scan", "lif_backward", "trainable_lif"),
    by_density=False,
    bench=((4, 16, 512), (4, 256, 512)),
    small=(4, 8, 256),
)
STEP = Operation(
    "training_step",
    "gradients of two spiking layers N x N, both firing at the density",
    ("T", "B", "N"),
    (4, 256, 512),
    _step,
    ("trainable_stack", "trainable_linear", "trainable_linear_lif", "trainable_lif"),
    bench=((4, 256, 512),),
    chooses=False,
)
