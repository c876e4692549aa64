"""Training attention and convolution: gradients of all inputs, against autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels import trainable_attention, trainable_conv2d, trainable_sdsa
from neurosim.profiling.case import Candidate, Case, Operation, Request
from neurosim.profiling.operations._inputs import bernoulli, torch_here
from neurosim.profiling.operations.linear import small_weights
from neurosim.profiling.operations.training import DECAY, NEURON, mlx_scan, torch_scan, torch_spike
from neurosim.profiling.timing import Run

_HEADS, _SCALE = 8, 0.125
Floats = npt.NDArray[np.float32]


def _drawn(request: Request) -> tuple[list[Floats], Floats]:
    """Spikes q, k and v, and the gradient of the result."""
    rng = np.random.default_rng(request.seed)
    spikes = [bernoulli(rng, request.shape, request.density).astype(np.float32) for _ in range(3)]
    return spikes, rng.standard_normal(request.shape).astype(np.float32)


def _gradients(function: Callable[..., Any], inputs: Sequence[Floats], weight: Floats) -> Run:
    """Gradients of sum(function(inputs) weight), computed."""
    arrays, factor = [mx.array(x) for x in inputs], mx.array(weight)
    gradient = mx.grad(lambda *x: (function(*x) * factor).sum(), argnums=tuple(range(len(inputs))))

    def run() -> Any:
        found = gradient(*arrays)
        mx.eval(*found)
        return found

    return run


def _autograd(
    torch: Any, function: Callable[..., Any], inputs: Sequence[Floats], weight: Floats
) -> Run:
    leaves = [torch.from_numpy(x.copy()).requires_grad_(True) for x in inputs]
    factor = torch.from_numpy(weight)

    def run() -> Any:
        for leaf in leaves:
            leaf.grad = None
        function(*leaves).backward(factor)
        return [leaf.grad for leaf in leaves]

    return run


def _joined(gradients: Sequence[Any]) -> Any:
    return np.concatenate([np.asarray(x).ravel() for x in gradients])


def _attention(request: Request) -> Case:
    inputs, weight = _drawn(request)
    tokens = request.shape[1]
    mask = np.tril(np.ones((tokens, tokens), np.float32))
    on_mlx = mx.array(mask)

    def plain(q: Any, k: Any, v: Any) -> Any:
        return ((q @ k.swapaxes(1, 2)) * on_mlx) @ v

    found = {
        "in mx.grad": Candidate(
            _gradients(trainable_attention, inputs, weight), "ours", view=_joined
        ),
        "mlx masked": Candidate(_gradients(plain, inputs, weight), "dense", view=_joined),
    }
    torch = torch_here()
    if torch is not None:
        on_torch = torch.from_numpy(mask)
        found["torch masked"] = Candidate(
            _autograd(
                torch, lambda q, k, v: ((q @ k.swapaxes(1, 2)) * on_torch) @ v, inputs, weight
            ),
            "dense",
            view=_joined,
        )
    shape = dict(zip(("S", "L", "D"), request.shape, strict=True))
    return Case("attention_training", shape, None, found, tolerance=1e-4)


def _heads_first(x: Any) -> Any:
    """(T, B, L, C) as (T, B, H, L, C / H)."""
    return x.reshape(*x.shape[:3], _HEADS, x.shape[3] // _HEADS).swapaxes(2, 3)


def _products(q: Any, k: Any, v: Any) -> Any:
    """Input of the neurons of variant 3, (T, B, L, C)."""
    a, b, c = _heads_first(q), _heads_first(k), _heads_first(v)
    return (a @ (b.swapaxes(-1, -2) @ c)).swapaxes(2, 3).reshape(q.shape) * _SCALE


def _sdsa(request: Request) -> Case:
    if request.shape[3] % _HEADS:
        raise ValueError(f"expected channels C that {_HEADS} heads divide, got {request.shape[3]}")
    inputs, weight = _drawn(request)

    def ours(q: Any, k: Any, v: Any) -> Any:
        return trainable_sdsa(q, k, v, "3", _HEADS, _SCALE, 1.0, DECAY, 1.0, NEURON)

    found = {
        "in mx.grad": Candidate(_gradients(ours, inputs, weight), "ours", view=_joined),
        "mlx": Candidate(
            _gradients(lambda *x: mlx_scan(_products(*x)), inputs, weight), "dense", view=_joined
        ),
    }
    torch = torch_here()
    if torch is not None:
        spike = torch_spike(torch)
        found["torch autograd"] = Candidate(
            _autograd(torch, lambda *x: torch_scan(torch, spike, _products(*x)), inputs, weight),
            "dense",
            view=_joined,
        )
    shape = dict(zip(("T", "B", "L", "C"), request.shape, strict=True))
    return Case("sdsa_training", shape, None, found, tolerance=1e-4)


def _convolution(request: Request) -> Case:
    images, size, channels, outputs = request.shape
    rng = np.random.default_rng(request.seed)
    spikes = bernoulli(rng, (images, size, size, channels), request.density).astype(np.float32)
    weight = small_weights(rng, (9 * channels, outputs)).astype(np.float32)
    filters = weight.reshape(3, 3, channels, outputs)
    gradient = rng.standard_normal((images, size, size, outputs)).astype(np.float32)

    def ours(x: Any, w: Any) -> Any:
        return trainable_conv2d(x, w, padding=1)

    def plain(x: Any, w: Any) -> Any:
        return mx.conv2d(x, w.transpose(3, 0, 1, 2), padding=1)

    inputs = [spikes, filters]
    found = {
        "in mx.grad": Candidate(_gradients(ours, inputs, gradient), "ours", view=_joined),
        "mlx": Candidate(_gradients(plain, inputs, gradient), "dense", view=_joined),
    }
    torch = torch_here()
    if torch is not None:
        convolve = torch.nn.functional.conv2d

        def layer(x: Any, w: Any) -> Any:  # permuted views: channels last, no copies
            out = convolve(x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), padding=1)
            return out.permute(0, 2, 3, 1)

        found["torch autograd"] = Candidate(
            _autograd(torch, layer, inputs, gradient), "dense", view=_joined
        )
    shape = dict(zip(("B", "S", "C", "O"), request.shape, strict=True))
    return Case("conv2d_training", shape, request.density, found, tolerance=1e-4)


ATTENTION = Operation(
    "attention_training",
    "gradients of causal attention without softmax",
    ("S", "L", "D"),
    (16, 512, 64),
    _attention,
    ("trainable_attention",),
    by_density=False,
    chooses=False,
    bench=((16, 512, 64),),
)
SDSA = Operation(
    "sdsa_training",
    f"gradients of spike-driven attention, variant 3, {_HEADS} heads",
    ("T", "B", "L", "C"),
    (4, 1, 512, 512),
    _sdsa,
    ("trainable_sdsa",),
    by_density=False,
    chooses=False,
    bench=((4, 1, 512, 512),),
)
CONVOLUTION = Operation(
    "conv2d_training",
    "gradients of a 3 x 3 convolution of B images, S x S, inputs and weights",
    ("B", "S", "C", "O"),
    (4, 16, 128, 128),
    _convolution,
    ("trainable_conv2d",),
    chooses=False,
    bench=((4, 16, 128, 128),),
)
