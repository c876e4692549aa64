"""Neurons and inputs that the tests of `lif_scan` share."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from neurosim.kernels.lif_scan import Neuron

SIZES = (1, 63, 64, 65, 123)
NEURONS = {
    "soft": Neuron(),
    "hard": Neuron("hard"),
    "integer": Neuron(levels=4),
    "signed": Neuron(levels=3, signed=True),
    "even": Neuron(levels=4, rounding="half_even", clip_bounds=False),
}
SURROGATES = ("atan", "fast_sigmoid", "boxcar", "sigmoid")
EVERY = {
    f"{name}-{surrogate}-{'detached' if detach else 'through'}": replace(
        kind, surrogate=surrogate, sharpness=1.5, detach_reset=detach
    )
    for (name, kind), surrogate, detach in product(NEURONS.items(), SURROGATES, (True, False))
    if kind.levels is None or surrogate == "atan"
}


def inputs(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Input, and threshold, decay and gain of every neuron with a first state; float32."""
    rng = np.random.default_rng(seed)
    parts = {
        "threshold": rng.uniform(0.5, 1.5, shape[-1]),
        "decay": rng.uniform(0.3, 1, shape[-1]),
        "gain": rng.uniform(0.5, 2, shape[-1]),
        "state": rng.standard_normal(shape[1:]),
    }
    x = rng.standard_normal(shape) + 0.3
    return x.astype(np.float32), {name: part.astype(np.float32) for name, part in parts.items()}


def assert_close(name: str, found: np.ndarray, wanted: np.ndarray, limit: float) -> None:
    """Relative root mean square error."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    error = np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2))
    assert error < limit, f"{name}: relative RMS {error:.2g}, limit {limit:.2g}"
