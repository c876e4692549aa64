"""A training step of a spiking network: through the kernels, and in plain MLX operations.

    python -m benchmarks.training_step [--batch 256] [--samples 9] [--json]

Network: data spikes -> 512 LIF -> 512 LIF -> 10 linear, averaged over T = 4 steps, cross-entropy,
one step of gradient descent; through the kernels as one function ("stack", which factors refer to)
and layer by layer ("kernels"). Every layer fires at the density of its row: weights are scaled
until it does. All forms have the same loss and gradients (checked). The plain form is the usual
one: a spike with the surrogate as its vjp, steps unrolled. It is timed with MLX's BLAS as shipped
and with `fast_blas`, which is the strong baseline; "compiled" is `mx.compile` of its whole step.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt

from neurosim.kernels import (
    Neuron,
    fast_blas,
    trainable_linear,
    trainable_linear_lif,
    trainable_stack,
)
from neurosim.profiling.environment import restart

STEPS, WIDTH, LAYERS, CLASSES = 4, 512, 2, 10
DECAY, RATE = 0.5, 0.1
DENSITIES = (0.02, 0.05, 0.1, 0.2)
NEURONS = {"boxcar": Neuron(surrogate="boxcar", sharpness=1.0), "atan": Neuron()}
"""Surrogates 1 for |u - threshold| < 1/2 (Wu et al., 2018), and arctan (Fang et al., 2021)."""

Weights = list[mx.array]
Floats = npt.NDArray[np.float32]
Step = Callable[[Weights], tuple[mx.array, Weights]]


@dataclass(frozen=True, eq=False)
class Case:
    """The forms of one step, weights -> loss and new weights; lazy results are evaluated."""

    density: float
    surrogate: str
    batch: int
    weights: Weights
    rates: tuple[float, ...]
    plain: Step
    compiled: Step
    kernels: Step
    stack: Step

    def check(self) -> float:
        """Largest relative RMS difference of the weights' changes; ValueError above 1 per cent.

        Sums are rounded in different orders, and a membrane within rounding of its threshold may
        then fire in one form only: that is all the difference allowed for.
        """
        changes = []
        for step in (self.plain, self.kernels, self.stack):
            _, new = step(self.weights)
            changes.append(
                [np.asarray(b - a, np.float64) for a, b in zip(self.weights, new, strict=True)]
            )
        worst = max(
            math.sqrt(np.mean((a - b) ** 2) / np.mean(a**2))
            for change in changes[1:]
            for a, b in zip(changes[0], change, strict=True)
        )
        if not worst <= 1e-2:
            raise ValueError(f"the forms differ by {worst:.2g} at density {self.density}")
        return worst


def _spike(neuron: Neuron) -> Callable[[mx.array], mx.array]:
    """1 where u >= 1, with the surrogate's slope, in MLX operations."""
    a = neuron.sharpness

    @mx.custom_function
    def spike(u: mx.array) -> mx.array:
        return (u >= 1).astype(mx.float32)

    @spike.vjp
    def _(u: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
        z = u - 1
        if neuron.surrogate == "boxcar":
            return mx.where(mx.abs(z) < 1 / (2 * a), cotangent * a, 0.0)
        slope: mx.array = cotangent * (a / 2) / (1 + mx.square(math.pi / 2 * a * z))
        return slope

    return spike  # type: ignore[return-value]


def _plain_layer(x: mx.array, weight: mx.array, spike: Callable[[mx.array], mx.array]) -> mx.array:
    x = x @ weight
    v, spikes = mx.zeros(x.shape[1:]), []
    for t in range(STEPS):
        u = DECAY * v + x[t]
        s = spike(u)
        v = u - mx.stop_gradient(s)
        spikes.append(s)
    return mx.stack(spikes)


def _loss(sums: mx.array, labels: mx.array) -> mx.array:
    losses: mx.array = nn.losses.cross_entropy(mx.mean(sums, axis=0), labels)
    return mx.mean(losses)


def _descent(loss: Callable[[Weights], mx.array]) -> Step:
    gradients = mx.value_and_grad(loss)

    def step(weights: Weights) -> tuple[mx.array, Weights]:
        value, found = gradients(weights)
        return value, [w - RATE * g for w, g in zip(weights, found, strict=True)]

    return step


def _evaluated(step: Step) -> Step:
    def run(weights: Weights) -> tuple[mx.array, Weights]:
        value, new = step(weights)
        mx.eval(value, new)
        return value, new

    return run


def _scaled(weight: Floats, spikes: Floats, density: float) -> tuple[mx.array, Floats, float]:
    """The weight scaled until its neurons fire at `density`; their spikes and rate.

    To 0.001 only: the exact scale would leave one membrane within rounding of its threshold.
    """
    low, high = 0.0, 64.0
    for _ in range(16):
        middle = (low + high) / 2
        fired = trainable_linear_lif(spikes, mx.array(weight * middle), decay=DECAY)[0]
        low, high = (middle, high) if np.asarray(fired).mean() < density else (low, middle)
    scaled = mx.array(weight * low)
    found: Floats = np.asarray(trainable_linear_lif(spikes, scaled, decay=DECAY)[0])
    return scaled, found, float(found.mean())


def case(density: float, surrogate: str, batch: int = 256) -> Case:
    """One network at one density, with data, labels and weights of a fixed seed."""
    rng = np.random.default_rng(0)
    neuron = NEURONS[surrogate]
    data = (rng.random((STEPS, batch, WIDTH)) < density).astype(np.float32)
    labels = mx.array(rng.integers(0, CLASSES, batch))
    weights, rates, fired = [], [], data
    for _ in range(LAYERS):
        drawn = rng.standard_normal((WIDTH, WIDTH)) / math.sqrt(WIDTH * density)
        weight, fired, rate = _scaled(drawn.astype(np.float32), fired, density)
        weights.append(weight)
        rates.append(rate)
    last = rng.standard_normal((WIDTH, CLASSES)) / math.sqrt(WIDTH * density)
    weights.append(mx.array(last.astype(np.float32)))
    spike, inputs = _spike(neuron), mx.array(data)

    def plain(weights: Weights) -> mx.array:
        x = inputs
        for weight in weights[:-1]:
            x = _plain_layer(x, weight, spike)
        return _loss(x @ weights[-1], labels)

    def kernels(weights: Weights) -> mx.array:
        x: Any = data
        for weight in weights[:-1]:
            x = trainable_linear_lif(x, weight, 1.0, DECAY, 1.0, neuron)[0]
        return _loss(trainable_linear(x, weights[-1]), labels)

    def stack(weights: Weights) -> mx.array:
        mean = trainable_stack(data, weights[:-1], weights[-1], 1.0, DECAY, 1.0, neuron)
        return mx.mean(nn.losses.cross_entropy(mean, labels))

    return Case(
        density,
        surrogate,
        batch,
        weights,
        tuple(rates),
        _evaluated(_descent(plain)),
        _evaluated(mx.compile(_descent(plain))),
        _evaluated(_descent(kernels)),
        _evaluated(_descent(stack)),
    )


def _cpu_seconds(step: Step, weights: Weights, steps: int = 4) -> float:
    """CPU seconds of a step, all threads, once its memory is its own."""
    step(weights)
    start = time.process_time()
    for _ in range(steps):
        step(weights)
    return (time.process_time() - start) / steps


def _interleaved(forms: dict[str, Step], weights: Weights, samples: int) -> dict[str, float]:
    """Median CPU seconds of a step of each form."""
    for step in forms.values():
        step(weights)
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(samples):
        for name, step in forms.items():
            taken[name].append(_cpu_seconds(step, weights))
    return {name: statistics.median(times) for name, times in taken.items()}


def rows(batch: int = 256, samples: int = 9) -> Iterator[dict[str, Any]]:
    """One row per density and surrogate: CPU seconds of a step, and factors over the stack."""
    for surrogate in NEURONS:
        for density in DENSITIES:
            found = case(density, surrogate, batch)
            blas = fast_blas.enable()
            difference = found.check()
            forms = {
                name: getattr(found, name) for name in ("plain", "compiled", "kernels", "stack")
            }
            seconds = _interleaved(forms, found.weights, samples)
            fast_blas.disable()
            shipped = _interleaved({"shipped": found.plain}, found.weights, 1)
            fast_blas.enable()
            seconds |= shipped
            ours = seconds["stack"]
            yield {
                "surrogate": surrogate,
                "density": density,
                "rates": [round(rate, 4) for rate in found.rates],
                "batch": batch,
                "seconds": seconds,
                "factor": {name: seconds[name] / ours for name in seconds if name != "stack"},
                "difference": difference,
                "blas": blas,
            }


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description="CPU time of a spiking network's training step")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--samples", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    restart([sys.executable, "-m", "benchmarks.training_step", *sys.argv[1:]], 1)
    if not options.json:
        print(
            f"T = {STEPS}, {WIDTH} -> {WIDTH} -> {WIDTH} -> {CLASSES}, batch {options.batch}; CPU "
            "ms of a step: stack | layer by layer (factor), plain MLX with fast BLAS, compiled, "
            "BLAS as shipped"
        )
    for row in rows(options.batch, options.samples):
        if options.json:
            print(json.dumps(row), flush=True)
            continue
        parts = [f"{1e3 * row['seconds']['stack']:6.1f}"]
        parts += [
            f"{1e3 * row['seconds'][name]:7.1f} ({row['factor'][name]:5.1f}x)"
            for name in ("kernels", "plain", "compiled", "shipped")
        ]
        print(f"{row['surrogate']:7} p = {row['density']:<5}", " | ".join(parts), flush=True)


if __name__ == "__main__":
    main()
