"""The published SiLU staircase with pulses and thresholds fitted to measured gate values.

A neuron's step t fires when its potential u (1 + d + ... + d^t) reaches theta + tau_t, so tau_t
puts the edge anywhere and p_t is what the output jumps by there. Each range of the approximator
gets edges with an equal share of the integral of f(x)^(1/3) |S'(x)|^(2/3), f the density of the
gate values: the asymptotically best ones for a squared error (Panter and Dite 1951). Between two
edges the output is the mean of S over the values there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.models.braingpt.silu import _NEURONS, exact

Doubles = npt.NDArray[np.float64]
CUTOFFS = (-2.0, -4.0)
LOWEST = -6.0
_POSITIVE = ("pos_model.neuron1", "pos_model.neuron2", "pos_model.neuron3")
STEPS = {
    "pos_model.neuron1": 10,
    "pos_model.neuron2": 10,
    "pos_model.neuron3": 10,
    "neg_model.neuronA": 20,
    "neg_model.neuronB": 10,
    "neg_model.neuronC": 5,
}
_CELLS = 2048
_FLOOR = 1e-3  # share of the density spread evenly, so that no range is left without edges


def _edges_and_levels(x: Doubles, low: float, high: float, edges: int) -> tuple[Doubles, Doubles]:
    """`edges` places in (low, high) and the edges + 1 levels between them."""
    borders = np.linspace(low, high, _CELLS + 1)
    middle = (borders[1:] + borders[:-1]) / 2
    counts = np.histogram(x, borders)[0].astype(np.float64)
    density = (1 - _FLOOR) * counts / max(counts.sum(), 1) + _FLOOR / _CELLS
    slope = np.abs(np.diff(exact(borders)))
    weight = np.cumsum(np.cbrt(density) * np.cbrt(slope) ** 2)
    at = np.searchsorted(weight, weight[-1] * np.arange(1, edges + 1) / (edges + 1)) + 1
    at = np.maximum.accumulate(np.maximum(at, np.arange(1, edges + 1)))
    at = np.minimum(at, _CELLS - edges + np.arange(edges))  # strictly rising, inside
    cell = np.searchsorted(at, np.arange(_CELLS), side="right")
    mass = np.bincount(cell, density, edges + 1)
    levels = np.bincount(cell, density * exact(middle), edges + 1) / mass
    return borders[at], levels


def fitted_staircase(gate: npt.NDArray[np.floating]) -> dict[str, npt.NDArray[Any]]:
    """Parameters as a checkpoint has them below `mlp.act_fn.`, for gate values of any shape."""
    x = np.asarray(gate, np.float64).reshape(-1)
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError("expected finite gate values to fit a SiLU staircase to, got none or NaN")
    found: dict[str, npt.NDArray[Any]] = {
        "neg_model.cutoff1": np.asarray(CUTOFFS[0], np.float32),
        "neg_model.cutoff2": np.asarray(CUTOFFS[1], np.float32),
    }

    def put(neuron: str, edges: Doubles, pulses: Doubles) -> None:
        """Edge and pulse of every step; early steps get the far edges."""
        threshold, decay = _NEURONS[neuron]
        order = np.argsort(-edges)
        sums = np.cumsum(decay ** np.arange(len(edges)))
        tau = edges[order] * sums - threshold
        found[f"{neuron}.pos_threshold_params"] = tau.astype(np.float32)
        found[f"{neuron}.pos_pulse_params"] = pulses[order].astype(np.float32)
        for kind in ("threshold", "pulse"):  # drives are positive: never used, but published
            found[f"{neuron}.neg_{kind}_params"] = np.zeros(len(edges), np.float32)

    positive = x[x >= 0]
    top = max(float(positive.max(initial=0.0)), 1.0)
    number = sum(STEPS[name] for name in _POSITIVE)
    edges, levels = _edges_and_levels(positive, 0.0, top, number)
    levels[0] = 0  # below the first edge no neuron fires
    start = 0
    for name in _POSITIVE:
        part = slice(start, start + STEPS[name])
        put(name, edges[part], np.diff(levels)[part])
        start = part.stop
    for name, high, low in (
        ("neg_model.neuronA", 0.0, CUTOFFS[0]),
        ("neg_model.neuronB", CUTOFFS[0], CUTOFFS[1]),
        ("neg_model.neuronC", CUTOFFS[1], LOWEST),
    ):
        steps = STEPS[name]
        always = high < 0  # the range does not begin at silence: one step fires throughout
        edges, levels = _edges_and_levels(x[(x < high) & (x >= low)], low, high, steps - always)
        drives, values = -edges[::-1], levels[::-1]  # by rising drive
        if always:
            put(name, np.r_[-high / 2, drives], np.r_[values[0], np.diff(values)])
        else:
            put(name, drives, np.diff(np.r_[0.0, values[1:]]))
    return found
