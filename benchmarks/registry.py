"""What is measured: per operation its inputs, shapes, densities and dense baselines.

A baseline is the strongest dense form of the same result: one float32 sgemm (numpy's OpenBLAS) and
MLX on whichever BLAS the header names. Weights are stored (O, I), as linear layers store them, and
for numpy also (I, O): which one BLAS likes better depends on the shape.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.chip import load_chip
from neurosim.events import Simulator
from neurosim.kernels import spike_attention, spike_attention_step, spike_linear
from neurosim.kernels.neuron import batch_norm_spikes
from neurosim.models import load
from neurosim.network import Crossbar
from neurosim.pipeline import spiking

DENSITIES = (0.05, 0.1, 0.2, 0.4, 0.6)
LEVELS = 4
INPUTS = 8
"""Inputs taken in turn, so that one input's weight rows do not simply stay in the cache."""
Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One row group: candidates that compute the same thing, run interleaved."""

    operation: str
    shape: dict[str, int]
    density: float | None
    candidates: dict[str, Run]
    """Name -> what is timed; it returns the result, which is compared with the first's."""

    def check(self) -> None:
        """ValueError unless all candidates give the first one's result (float32 accuracy)."""
        first, *others = ((name, np.asarray(run())) for name, run in self.candidates.items())
        for name, result in others:
            scale = np.abs(first[1]).max(initial=1)
            if not np.allclose(result, first[1], rtol=1e-4, atol=1e-5 * scale):
                raise ValueError(f"{self.operation} {self.shape}: {name} differs from {first[0]}")


def _spikes(rng: np.random.Generator, shape: tuple[int, ...], density: float) -> Any:
    """Signed counts of 1..LEVELS, `density` of them nonzero."""
    size = rng.integers(1, LEVELS + 1, shape) * rng.choice([-1, 1], shape)
    return np.where(rng.random(shape) < density, size, 0).astype(np.int8)


def _evaluate(array: Any) -> Any:
    mx.eval(array)
    return array


def _turns(function: Callable[[Any], Any], inputs: list[Any]) -> Run:
    """Each call takes the next of the inputs."""
    turn = itertools.cycle(inputs)
    return lambda: function(next(turn))


def linear() -> Iterator[Case]:
    """Decode shapes of the shipped model (width 192, ratio 4, 4k tokens) and one wide layer."""
    rng = np.random.default_rng(0)
    for tokens, inputs, outputs in (
        (1, 192, 192),
        (1, 192, 768),
        (1, 768, 192),
        (1, 192, 4096),
        (16, 192, 768),
        (1, 4096, 4096),
    ):
        small = rng.integers(-127, 128, (inputs, outputs)).astype(np.int8)
        weight, out = small.astype(np.float32), np.empty((tokens, outputs), np.float32)
        turned = np.ascontiguousarray(weight.T)
        dense_weight = mx.array(turned)
        for density in DENSITIES:
            spikes = [_spikes(rng, (tokens, inputs), density) for _ in range(INPUTS)]
            dense = [x.astype(np.float32) for x in spikes]
            dense_mlx = [mx.array(x) for x in dense]
            yield Case(
                "spike_linear",
                {"L": tokens, "I": inputs, "O": outputs},
                density,
                {
                    "neurosim int8": _turns(lambda s, w=small: spike_linear(s, w), spikes),
                    "neurosim float32": _turns(lambda s, w=weight: spike_linear(s, w), spikes),
                    "numpy float32": _turns(
                        lambda x, w=turned, o=out: np.dot(x, w.T, out=o), dense
                    ),
                    "numpy float32 (I, O)": _turns(
                        lambda x, w=weight, o=out: np.dot(x, w, out=o), dense
                    ),
                    "mlx float32": _turns(lambda x, w=dense_weight: _evaluate(x @ w.T), dense_mlx),
                },
            )


def attention() -> Iterator[Case]:
    """One generated token, and 256 tokens at once against the masked quadratic form."""
    rng = np.random.default_rng(1)
    tokens, bits = 256, 6
    for heads, size in ((8, 24), (4, 48)):
        shifts = np.arange(1, heads + 1)
        keep = (1 - 2.0**-shifts).astype(np.float32)
        distance = np.arange(tokens)[:, None] - np.arange(tokens)
        mask = np.where(distance >= 0, keep[:, None, None] ** np.maximum(distance, 0), 0)
        mask = np.where(mask > 1e-25, mask, 0).astype(np.float32)  # no denormals: they are slow
        mask_mlx, keep_mlx = mx.array(mask), mx.array(keep[:, None, None])
        for density in DENSITIES:
            q, k, v = (_spikes(rng, (tokens, heads, size), density) for _ in range(3))
            dense = [x.transpose(1, 0, 2).astype(np.float32) for x in (q, k, v)]  # (H, L, D)
            dense_mlx = [mx.array(x) for x in dense]
            shape = {"H": heads, "D": size}
            yield Case(
                "spike_attention",
                {"L": tokens, **shape},
                density,
                {
                    "neurosim": lambda a=(q, k, v), n=shifts: spike_attention(*a, n, bits)[0],
                    "numpy float32": lambda a=dense, m=mask: (
                        ((a[0] @ a[1].swapaxes(1, 2)) * m) @ a[2]
                    ),
                    "mlx float32": lambda a=dense_mlx, m=mask_mlx: _evaluate(
                        ((a[0] @ a[1].swapaxes(1, 2)) * m) @ a[2]
                    ),
                },
            )
            token = [x[0] for x in (q, k, v)]
            yield Case(
                "spike_attention_step",
                shape,
                density,
                {
                    "neurosim": _integer_step(token, shifts, bits),
                    "numpy float32": _numpy_step([x[:, 0] for x in dense], keep),
                    "mlx float32": _mlx_step([x[:, 0] for x in dense_mlx], keep_mlx),
                },
            )


def _integer_step(token: list[Any], shifts: Any, bits: int) -> Run:
    heads, size = token[0].shape
    state = np.zeros((heads, size, size), np.int32)
    return lambda: spike_attention_step(state, *token, shifts, bits)


def _numpy_step(token: list[Any], keep: Any) -> Run:
    q, k, v = token
    state = np.zeros((*k.shape, k.shape[1]), np.float32)

    def run() -> Any:
        np.multiply(state, keep[:, None, None], out=state)
        np.add(state, k[:, :, None] * v[:, None, :], out=state)
        return (q[:, None, :] @ state)[:, 0]

    return run


def _mlx_step(token: list[Any], keep: Any) -> Run:
    q, k, v = token
    state = [mx.zeros((*k.shape, k.shape[1]))]

    def run() -> Any:
        state[0] = state[0] * keep + k[:, :, None] * v[:, None, :]
        out = (q[:, None, :] @ state[0])[:, 0]
        mx.eval(out, state[0])
        return out

    return run


def blas() -> Iterator[Case]:
    """MLX's matrix products on the BLAS of this process; run.py repeats them without fast BLAS."""
    rng = np.random.default_rng(2)
    for m, k, n in ((512, 512, 512), (1, 192, 768), (1, 192, 4096), (1, 576, 49152)):
        left = mx.array(rng.standard_normal((m, k)).astype(np.float32))
        right = mx.array(rng.standard_normal((n, k)).astype(np.float32))
        mx.eval(left, right)
        yield Case(
            "sgemm",
            {"M": m, "K": k, "N": n},
            None,
            {"mlx float32": lambda a=left, b=right: _evaluate(a @ b.T)},
        )


def neuron() -> Iterator[Case]:
    """Training: normalisation and integer neuron, forward and backward, against MLX operations."""
    rng = np.random.default_rng(3)
    for rows, channels in ((2048, 192), (2048, 768)):
        x = mx.array(rng.standard_normal((rows, channels)).astype(np.float32))
        gain, shift = mx.full((channels,), math.log(2.0)), mx.zeros((channels,))
        mx.eval(x, gain, shift)

        def fused(x: mx.array, gain: mx.array, shift: mx.array) -> mx.array:
            return (batch_norm_spikes(x, gain, shift, LEVELS, True)[0] * x).sum()

        def plain(x: mx.array, gain: mx.array, shift: mx.array) -> mx.array:
            normal = (x - x.mean(axis=0)) * mx.rsqrt(x.var(axis=0) + 1e-5)
            y = mx.clip(normal * mx.exp(gain) + shift, -LEVELS, LEVELS)
            return ((y + mx.stop_gradient(mx.round(y) - y)) * x).sum()

        yield Case(
            "batch_norm_spikes forward and backward",
            {"R": rows, "N": channels},
            None,
            {
                name: lambda f=function, a=(x, gain, shift): _evaluate(
                    mx.grad(f, argnums=(0, 1, 2))(*a)[0]
                )
                for name, function in (("ours", fused), ("mlx float32", plain))
            },
        )


def chip() -> Iterator[Case]:
    """One token of the shipped model on each chip, every site recorded."""
    network = spiking(load()).lower()
    weights = sum(node.weight.size for node in network.of(Crossbar) if isinstance(node, Crossbar))
    tokens = np.random.default_rng(4).integers(1, 2048, 256)
    runs: dict[str, Run] = {}
    for name in ("ideal", "ag_v2c_w"):
        turn = itertools.cycle(tokens.tolist())
        simulator = Simulator(network, load_chip(name), 0)
        runs[name] = lambda step=simulator.step, turn=turn: step(next(turn))
    yield Case("shipped model, one token", {"weights": weights}, None, runs)


GROUPS: dict[str, Callable[[], Iterator[Case]]] = {
    "linear": linear,
    "attention": attention,
    "blas": blas,
    "neuron": neuron,
    "chip": chip,
}
EXACT = ("spike_linear", "sgemm")
"""Operations whose candidates give the same numbers; attention's integer decay rounds."""
