"""What is measured, by group.

The spike kernels are the cases of `neurosim.profiling.operations` at the shapes and densities of
their goals; here are those that are no single kernel: MLX's BLAS, normalisation with neurons in
training, and the shipped model on its chips.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.chip import load_chip
from neurosim.events import Simulator
from neurosim.kernels.neuron import batch_norm_spikes
from neurosim.models import load
from neurosim.network import Crossbar
from neurosim.pipeline import spiking
from neurosim.profiling.case import Candidate, Case
from neurosim.profiling.operations import OPERATIONS
from neurosim.profiling.session import DENSITIES, jobs

LEVELS = 4
KERNELS: dict[str, tuple[str, ...]] = {
    "bits": ("pack", "unpack", "events"),
    "linear": ("spike_linear", "spike_linear_decode", "spike_linear_counts", "grad_weight"),
    "layers": ("spike_linear_lif", "spike_conv2d", "spike_taps"),
    "attention": (
        "spike_attention", "spike_attention_step", "spike_attention_decay",
        "spike_attention_decay_step",
    ),
    "counts": (
        "spike_quantise", "event_counts", "count_linear", "row_linear", "cached_attention",
    ),
    "sdsa": ("sdsa", "sdsa_products", "sdsa_causal"),
    "lif": ("lif_scan",),
    "training": (
        "lif_training", "training_step", "attention_training", "sdsa_training", "conv2d_training",
    ),
}  # fmt: skip
"""Group -> operations; every operation is in one."""


def kernels(names: tuple[str, ...], threads: int = 1) -> Iterator[Case]:
    """Every operation at every shape and density."""
    for name in names:
        operation = OPERATIONS[name]
        for shape in operation.bench:
            for job in jobs([operation], DENSITIES, shape, threads=threads):
                yield job.case()


def blas() -> Iterator[Case]:
    """MLX's matrix products on the BLAS of this process; run.py repeats them without fast BLAS."""
    rng = np.random.default_rng(2)
    for m, k, n in ((512, 512, 512), (1, 192, 768), (1, 192, 4096), (1, 576, 49152)):
        left = mx.array(rng.standard_normal((m, k)).astype(np.float32))
        right = mx.array(rng.standard_normal((n, k)).astype(np.float32))
        mx.eval(left, right)
        run = partial(_product, left, right)
        yield Case("sgemm", {"M": m, "K": k, "N": n}, None, {"mlx float32": Candidate(run, "ours")})


def _product(left: mx.array, right: mx.array) -> mx.array:
    out = left @ right.T
    mx.eval(out)
    return out


def neuron() -> Iterator[Case]:
    """Training: normalisation and integer neuron, forward and backward, against MLX operations."""
    rng = np.random.default_rng(3)
    for rows, channels in ((2048, 192), (2048, 768)):
        x = mx.array(rng.standard_normal((rows, channels)).astype(np.float32))
        gain, shift = mx.full((channels,), math.log(2.0)), mx.zeros((channels,))
        mx.eval(x, gain, shift)
        yield Case(
            "batch_norm_spikes forward and backward",
            {"R": rows, "N": channels},
            None,
            {
                "ours": Candidate(partial(_gradient, _fused, (x, gain, shift)), "ours"),
                "mlx float32": Candidate(partial(_gradient, _plain, (x, gain, shift)), "dense"),
            },
            tolerance=None,  # a count on the edge between two roundings changes its gradient
        )


def _gradient(function: Callable[..., mx.array], arguments: tuple[mx.array, ...]) -> mx.array:
    found = mx.grad(function, argnums=(0, 1, 2))(*arguments)[0]
    mx.eval(found)
    return found


def _fused(x: mx.array, gain: mx.array, shift: mx.array) -> mx.array:
    return (batch_norm_spikes(x, gain, shift, LEVELS, True)[0] * x).sum()


def _plain(x: mx.array, gain: mx.array, shift: mx.array) -> mx.array:
    normal = (x - x.mean(axis=0)) * mx.rsqrt(x.var(axis=0) + 1e-5)
    y = mx.clip(normal * mx.exp(gain) + shift, -LEVELS, LEVELS)
    return ((y + mx.stop_gradient(mx.round(y) - y)) * x).sum()


def chip() -> Iterator[Case]:
    """One token of the shipped model on each chip, every site recorded."""
    network = spiking(load()).lower()
    weights = sum(node.weight.size for node in network.of(Crossbar) if isinstance(node, Crossbar))
    tokens = np.random.default_rng(4).integers(1, 2048, 256)
    runs: dict[str, Candidate] = {}
    for name in ("ideal", "ag_v2c_w"):
        turn = itertools.cycle(tokens.tolist())
        simulator = Simulator(network, load_chip(name), 0)
        runs[name] = Candidate(partial(_step, simulator, turn), "ours")
    yield Case("shipped model, one token", {"weights": weights}, None, runs, tolerance=None)


def _step(simulator: Any, turn: Iterator[int]) -> Any:
    return simulator.step(next(turn))


OTHERS: dict[str, Callable[[], Iterator[Case]]] = {"blas": blas, "neuron": neuron, "chip": chip}
GROUPS = (*KERNELS, *OTHERS)


def cases(group: str, threads: int = 1) -> Iterator[Case]:
    """The cases of a group."""
    return kernels(KERNELS[group], threads) if group in KERNELS else OTHERS[group]()
