"""The SiLU of BrainGPT in three forms: the published staircase, a finer table, and exact.

A staircase neuron has no reset: V_t = d V_{t-1} + u, and its output is the sum of the pulses p_t of
the steps with V_t >= theta + tau_t. See section "SiLU" of docs/braingpt.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.models.tensor_files import TensorFolder

Floats = npt.NDArray[np.floating]
Parameters = Mapping[str, npt.NDArray[Any]]
_NEURONS = {  # key of the checkpoint -> threshold, decay
    "pos_model.neuron1": (0.3, 0.95),
    "pos_model.neuron2": (0.3, 0.95),
    "pos_model.neuron3": (5.0, 1.0),
    "neg_model.neuronA": (1.0, 0.995),
    "neg_model.neuronB": (1.0, 0.99),
    "neg_model.neuronC": (1.0, 0.99),
}
_LOWEST = -6.0  # the staircase is 0 below
TABLE_STEP, TABLE_STEPS = 1.0 / 16.0, 128


def exact(x: Floats) -> Floats:
    """x / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(x))
    result: Floats = x * np.where(x >= 0, 1, small) / (1 + small)
    return result


@lru_cache
def table_values() -> npt.NDArray[np.float64]:
    """SiLU at -TABLE_STEPS .. TABLE_STEPS times TABLE_STEP; (2 TABLE_STEPS + 1,)."""
    return np.asarray(exact(np.arange(-TABLE_STEPS, TABLE_STEPS + 1) * TABLE_STEP))


def table(x: Floats) -> Floats:
    """A staircase of equal steps: SiLU at x rounded to a multiple of 1/16, half away from zero.

    One EI-IF neuron with threshold steps of 1/16 counts n = round(x / step); the pulse of its n-th
    spike is the difference of two neighbours of `table_values`. Beyond 8 every further spike adds
    one step (slope 1), below -8 the result is 0.
    """
    step = x.dtype.type(TABLE_STEP)
    scaled = np.abs(x) / step
    whole = np.floor(scaled)
    count = whole + (scaled - whole >= 0.5)
    inside = np.minimum(count, TABLE_STEPS).astype(np.int64)
    centre = TABLE_STEPS + np.where(x < 0, -inside, inside)
    value = table_values().astype(x.dtype)[centre]
    beyond = np.where(x < 0, 0, count * step).astype(x.dtype)
    result: Floats = np.where(count > TABLE_STEPS, beyond, value)
    return result


class Staircase:
    """The published approximator with the parameters of one layer.

    Args:
        parameters: `pos_model.neuron1.pos_pulse_params` (10,), ... as in a checkpoint below
            `mlp.act_fn.`; negative thresholds never act because every drive is positive.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.pulses: dict[str, npt.NDArray[np.float32]] = {}
        self.offsets: dict[str, npt.NDArray[np.float32]] = {}
        for neuron in _NEURONS:
            pulses = _parameter(parameters, f"{neuron}.pos_pulse_params", 1)
            offsets = parameters.get(f"{neuron}.pos_threshold_params")
            self.pulses[neuron] = pulses
            self.offsets[neuron] = (
                np.zeros_like(pulses) if offsets is None else np.asarray(offsets, np.float32)
            )
            if self.offsets[neuron].shape != pulses.shape:
                raise ValueError(
                    f"SiLU staircase {neuron}: expected as many thresholds as pulses, got "
                    f"{self.offsets[neuron].shape} and {pulses.shape}"
                )
        first = float(_parameter(parameters, "neg_model.cutoff1", 0))
        second = float(_parameter(parameters, "neg_model.cutoff2", 0))
        if not _LOWEST <= second <= first <= 0:
            raise ValueError(
                f"SiLU staircase: expected -6 <= cutoff2 <= cutoff1 <= 0, got {second}, {first}"
            )
        self.parts = (
            ("neg_model.neuronA", first, 0.0),
            ("neg_model.neuronB", second, first),
            ("neg_model.neuronC", _LOWEST, second),
        )

    def neuron(self, name: str, drive: Floats) -> Floats:
        """Output of one neuron for positive drives, step by step in the dtype of the drive."""
        threshold, decay = _NEURONS[name]
        kind = drive.dtype.type
        offsets = self.offsets[name].astype(drive.dtype)
        potential, out = np.zeros_like(drive), np.zeros_like(drive)
        for pulse, offset in zip(self.pulses[name], offsets, strict=True):
            potential = potential * kind(decay) + drive  # rounded twice, as published
            out = out + (potential >= kind(threshold) + offset) * kind(pulse)
        return out

    def __call__(self, x: Floats) -> Floats:
        """The staircase, every element by the recurrence."""
        result = np.zeros_like(x)
        positive = x >= 0
        drive = x[positive]
        sums = self.neuron("pos_model.neuron1", drive) + self.neuron("pos_model.neuron2", drive)
        result[positive] = sums + self.neuron("pos_model.neuron3", drive)
        for name, low, high in self.parts:
            inside = (x >= low) & (x < high)
            result[inside] = self.neuron(name, -x[inside])
        return result

    def lookup(self, dtype: npt.DTypeLike) -> tuple[Floats, Floats]:
        """(edges (E,), values (E + 1,)): the staircase is values[number of edges <= x].

        Every edge is the smallest float of `dtype` where the recurrence takes a new value, found by
        bisection over the floats; so the look-up equals the recurrence exactly. Refuses parameters
        that are not a staircase in one direction between two crossings.
        """
        kind = np.dtype(dtype)
        candidates = [np.asarray([_LOWEST, *(low for _, low, _ in self.parts), 0.0], kind)]
        for name in _NEURONS:
            threshold, decay = _NEURONS[name]
            sums = np.cumsum(decay ** np.arange(len(self.pulses[name])))
            at = (threshold + self.offsets[name].astype(np.float64)) / sums
            candidates.append(((at if name.startswith("pos") else -at)[at > 0]).astype(kind))
        guesses = np.unique(np.concatenate(candidates))
        margin = 64 * np.finfo(kind).eps
        low = guesses - np.maximum(np.abs(guesses), np.asarray(0.01, kind)) * margin
        high = guesses + np.maximum(np.abs(guesses), np.asarray(0.01, kind)) * margin
        edges = {
            float(edge) for lo, hi in zip(low, high, strict=True) for edge in self._steps(lo, hi)
        }
        found = np.sort(np.asarray(list(edges), kind))
        below = np.nextafter(found[:1], np.asarray(-np.inf, kind))
        return found, self(np.concatenate([below, found]))

    def _steps(self, low: Any, high: Any) -> list[Any]:
        """All floats in (low, high] at which the output changes."""
        ends = np.asarray([low, high])
        first, last = self(ends)
        following = np.nextafter(low, high)
        if following == high:
            return [high] if first != last else []
        middle = low + (high - low) / 2
        middle = following if middle <= low else middle
        if middle >= high:
            return [high] if first != last else []
        inner = self(np.asarray([middle]))[0]
        if first == inner == last:
            return []  # a pulse up and a pulse down between two floats is not looked for
        return self._steps(low, middle) + self._steps(middle, high)


def _parameter(parameters: Parameters, key: str, axes: int) -> npt.NDArray[np.float32]:
    if key not in parameters:
        raise ValueError(f"SiLU staircase: missing parameter {key}")
    value = np.asarray(parameters[key], np.float32)
    if value.ndim != axes or not np.isfinite(value).all():
        raise ValueError(
            f"SiLU staircase: expected {key} with {axes} axes of finite numbers, got {value.shape}"
        )
    return value


def required(staircases: Sequence[Parameters] | None, layer: int) -> Parameters:
    """The parameters of a layer; an error that says where they come from if there are none."""
    if staircases is None:
        raise ValueError(
            "silu='staircase' needs the pulses of a BrainGPT checkpoint (keys mlp.act_fn...) or of "
            "an approximator file (staircase=FILE), and there are none; use silu='table' or 'exact'"
        )
    if layer >= len(staircases):
        raise ValueError(f"expected a SiLU staircase for layer {layer}, got {len(staircases)}")
    return staircases[layer]


def read_staircase(path: Path | str) -> dict[str, npt.NDArray[Any]]:
    """The SiLU parameters of an approximator file (keys `silu.pos.neuron1....`)."""
    stored = TensorFolder(Path(path))
    found = {}
    for name in stored.names:
        kind, _, rest = name.partition(".")
        side, _, tail = rest.partition(".")
        if kind == "silu" and side in ("pos", "neg"):
            found[f"{side}_model.{tail}"] = stored.read(name)
    if not found:
        raise ValueError(f"{path}: expected keys silu.pos... and silu.neg..., found none")
    return found
