"""Spiking neurons in plain numpy: the definition, forward and backward, in the type of x."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels.lif_scan._types import Floats, LifWorkspace, Neuron
from neurosim.kernels.packed import reference as packed


def fire(u: Floats, threshold: Floats, neuron: Neuron) -> Floats:
    """Spike counts of membranes u."""
    if neuron.levels is None:
        return np.asarray(u >= threshold, u.dtype)
    n = u / threshold
    size = np.abs(n) if neuron.signed else n
    even = neuron.rounding == "half_even"
    size = np.rint(size) if even else np.floor(size + u.dtype.type(0.5))
    size = np.clip(size, 0, neuron.levels)
    return np.asarray(np.where(n < 0, -size, size) if neuron.signed else size)


def after(u: Floats, spikes: Floats, threshold: Floats, neuron: Neuron) -> Floats:
    """The membrane once it has been reset."""
    if neuron.reset == "hard":
        return np.where(spikes > 0, u.dtype.type(0), u)
    return np.asarray(u - threshold * spikes)


def slope(u: Floats, threshold: Floats, neuron: Neuron) -> Floats:
    """d spikes / d u of the surrogate."""
    if neuron.levels is not None:
        size, top = np.abs(u) if neuron.signed else u, neuron.levels * threshold
        bottom = -np.inf if neuron.signed else 0
        if neuron.clip_bounds:
            inside = (size >= bottom) & (size <= top)
        else:
            inside = (size > bottom) & (size < top)
        return np.asarray(inside / threshold, u.dtype)
    z, a = np.abs(u - threshold), neuron.sharpness
    if neuron.surrogate == "atan":
        return np.asarray(a / 2 / (1 + (np.pi / 2 * a * z) ** 2), u.dtype)
    if neuron.surrogate == "fast_sigmoid":
        return np.asarray(1 / (1 + a * z) ** 2, u.dtype)
    if neuron.surrogate == "sigmoid":
        e = np.exp(-a * z)
        return np.asarray(a * e / (1 + e) ** 2, u.dtype)
    return np.asarray(np.where(z < 1 / (2 * a), a, 0), u.dtype)


def scan(
    x: Floats,
    decay: Floats,
    gain: Floats,
    threshold: Floats,
    neuron: Neuron,
    state: Floats | None,
    pack: bool,
    save: bool,
    keep: bool = True,
    token_major: bool = False,
    workspace: LifWorkspace | None = None,
    threads: int = 1,
) -> tuple[npt.NDArray[Any], Floats | None, Floats | None]:
    """Spikes, last state (R, N) if `keep`, membranes (T, R, N) if `save`; x is (T, R, N).

    Spikes are int8 counts (T, R, N), or words (P, T R, W), whose rows go with
    `token_major` by row and then by step. Workspace and threads stay unused.
    """
    spikes, membrane = np.empty(x.shape, np.int8), np.empty_like(x)
    v = np.zeros(x.shape[1:], x.dtype) if state is None else np.array(state)
    for t in range(x.shape[0]):
        u = decay * v + gain * x[t]
        fired = fire(u, threshold, neuron)
        v = after(u, fired, threshold, neuron)
        spikes[t], membrane[t] = fired, u
    last, kept = v if keep else None, membrane if save else None
    if not pack:
        return spikes, last, kept
    rows = spikes.transpose(1, 0, 2) if token_major else spikes
    flat = rows.reshape(x.shape[0] * x.shape[1], x.shape[2])
    return packed.pack(flat, neuron.levels or 1, neuron.signed, "thermometer")[0], last, kept


def backward(
    gradient: Floats,
    state_gradient: Floats | None,
    x: Floats,
    membrane: Floats,
    state: Floats | None,
    decay: Floats,
    gain: Floats,
    threshold: Floats,
    neuron: Neuron,
    learn: bool,
    workspace: LifWorkspace | None = None,
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Gradients of x, state, decay, gain and threshold; the last three are zero unless `learn`.

    The workspace stays unused.
    """
    dx = np.empty_like(x)
    ddecay, dgain, dthreshold = (np.zeros(x.shape[2]) for _ in range(3))
    nothing = np.zeros(x.shape[1:], x.dtype)
    dv = nothing if state_gradient is None else state_gradient
    first = nothing if state is None else state
    for t in range(x.shape[0] - 1, -1, -1):
        u = membrane[t]
        spikes = fire(u, threshold, neuron)
        ds = gradient[t]
        if not neuron.detach_reset:
            ds = ds - dv * (u if neuron.reset == "hard" else threshold)
        through = ds * slope(u, threshold, neuron)
        du = through + (np.where(spikes > 0, 0, dv) if neuron.reset == "hard" else dv)
        dx[t] = gain * du
        if learn:
            before = membrane[t - 1] if t else first
            if t:
                before = after(before, fire(before, threshold, neuron), threshold, neuron)
            ddecay += (du * before).sum(axis=0)
            dgain += (du * x[t]).sum(axis=0)
            scale = 1 if neuron.levels is None else u / threshold  # d spikes / d threshold
            dthreshold -= (through * scale).sum(axis=0)
            if neuron.reset == "soft":
                dthreshold -= (dv * spikes).sum(axis=0)
        dv = decay * du
    kind = x.dtype
    return dx, np.array(dv), ddecay.astype(kind), dgain.astype(kind), dthreshold.astype(kind)
