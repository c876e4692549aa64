"""Spiking neurons with Numba: 32 membranes stay in registers over all steps.

Words are written by halves, as uint32: little-endian, like every machine Numba supports.

A neuron count that is no multiple of 64 is padded with neurons that get no input and never fire.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels import _simd, _simd_masks
from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels.lif_scan._types import SURROGATES, Neuron
from neurosim.kernels.packed._words import new_words

Floats = npt.NDArray[np.float32]
_WORD, _LANES = 64, 32
_NOTHING = np.empty((0, 0, 0), np.float32)

_F = _simd.Vector("float32", _LANES)
_zero, _load, _store, _splat = (
    _simd.zero(_F),
    _simd.load(_F),
    _simd.store(_F),
    _simd_masks.splat_float(_F),
)
_add, _subtract, _times, _over = (
    _simd.binary(_F, f"f{name}") for name in ("add", "sub", "mul", "div")
)
_at_least, _above, _select = (
    _simd_masks.compare(_F, ">="),
    _simd_masks.compare(_F, ">"),
    _simd_masks.select(_F),
)
_floor, _size = _simd_masks.unary(_F, "floor"), _simd_masks.unary(_F, "fabs")

_B = _simd.Vector("int8", _LANES)
_zero_bytes, _splat_bytes, _store_bytes = _simd.zero(_B), _simd.splat(_B), _simd.store(_B)
_select_bytes, _to_bytes = _simd_masks.select(_B), _simd_masks.to_integers(_F, _B)


def padded(x: Floats, fill: float = 0) -> Floats:
    """x with its last axis filled up to a multiple of 64; x itself where it is one."""
    missing = -x.shape[-1] % _WORD
    if not missing:
        return np.ascontiguousarray(x)
    widths = [(0, 0)] * (x.ndim - 1) + [(0, missing)]
    return np.pad(x, widths, constant_values=fill)


def scan(
    x: Floats,
    decay: Floats,
    gain: Floats,
    threshold: Floats,
    neuron: Neuron,
    state: Floats,
    pack: bool,
    save: bool,
) -> tuple[npt.NDArray[Any], Floats, Floats | None]:
    """See reference.py."""
    steps, rows, columns = x.shape
    x, state = padded(x), padded(state) if columns % _WORD else np.array(state, order="C")
    width = x.shape[2]
    planes = (neuron.levels or 1) if pack else 0
    words = new_words((planes, steps * rows, width // _WORD))
    counts = np.empty((0, 0, 0) if pack else x.shape, np.int8)
    membrane = np.empty(x.shape if save else (0, 0, 0), np.float32)
    _scan(
        x,
        padded(decay),
        padded(gain),
        padded(threshold, 1),
        neuron.levels or 0,
        neuron.reset == "hard",
        state,
        words.view(np.uint32),
        counts,
        _NOTHING,
        membrane,
    )
    spikes: npt.NDArray[Any] = words if pack else counts[..., :columns]
    return spikes, state[..., :columns], membrane[..., :columns] if save else None


def scan_into(
    x: Floats,
    decay: Floats,
    gain: Floats,
    threshold: Floats,
    neuron: Neuron,
    state: Floats,
    spikes: Floats,
    membrane: Floats,
) -> None:
    """Fill float32 spikes and membranes from padded arrays; state is updated in place."""
    levels, hard = neuron.levels or 0, neuron.reset == "hard"
    words, counts = np.empty((0, 0, 0), np.uint32), np.empty((0, 0, 0), np.int8)
    _scan(x, decay, gain, threshold, levels, hard, state, words, counts, spikes, membrane)


@compiled
def _scan(
    x: Any,
    decay: Any,
    gain: Any,
    threshold: Any,
    levels: int,
    hard: bool,
    state: Floats,
    words: Any,
    counts: Any,
    numbers: Floats,
    membrane: Floats,
) -> None:
    """Whichever of words, counts, numbers and membrane is not empty is filled."""
    steps, rows, columns = x.shape
    zero, one, half = _zero(), _splat(np.float32(1)), _splat(np.float32(0.5))
    top = _splat(np.float32(levels))
    no_bytes, one_bytes = _zero_bytes(), _splat_bytes(1)
    for r in range(rows):
        for c in range(0, columns, _LANES):
            beta, scale, edge = _load(decay, c), _load(gain, c), _load(threshold, c)
            v = _load(state, r * columns + c)
            for t in range(steps):
                row = t * rows + r
                at = row * columns + c
                u = _add(_times(beta, v), _times(scale, _load(x, at)))
                if membrane.size:
                    _store(membrane, at, u)
                if levels == 0:
                    mask = _at_least(u, edge)
                    v = _select(mask, zero if hard else _subtract(u, edge), u)
                    if words.size:
                        words[0, row, c // _LANES] = mask
                    if counts.size:
                        _store_bytes(counts, at, _select_bytes(mask, one_bytes, no_bytes))
                    if numbers.size:
                        _store(numbers, at, _select(mask, one, zero))
                else:
                    n = _floor(_add(_over(u, edge), half))
                    n = _select(_above(n, zero), n, zero)
                    n = _select(_above(n, top), top, n)
                    v = _subtract(u, _times(edge, n))
                    if words.size:
                        for d in range(levels):
                            mask = _above(n, _splat(np.float32(d)))
                            words[d, row, c // _LANES] = mask
                    if counts.size:
                        _store_bytes(counts, at, _to_bytes(n))
                    if numbers.size:
                        _store(numbers, at, n)
            _store(state, r * columns + c, v)


def backward(
    gradient: Floats,
    state_gradient: Floats,
    x: Floats,
    membrane: Floats,
    state: Floats,
    decay: Floats,
    gain: Floats,
    threshold: Floats,
    neuron: Neuron,
    learn: bool,
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """See reference.py."""
    columns = x.shape[2]
    dx = np.empty((*x.shape[:2], columns + -columns % _WORD), np.float32)
    dstate = np.empty((x.shape[1], dx.shape[2]), np.float32)
    parameters = backward_into(
        padded(gradient),
        padded(state_gradient),
        padded(x),
        padded(membrane),
        padded(state),
        padded(decay),
        padded(gain),
        padded(threshold, 1),
        neuron,
        learn,
        dx,
        dstate,
    )
    ddecay, dgain, dthreshold = parameters[:, :columns]
    return dx[..., :columns], dstate[..., :columns], ddecay, dgain, dthreshold


def backward_into(
    gradient: Floats,
    state_gradient: Floats,
    x: Floats,
    membrane: Floats,
    state: Floats,
    decay: Floats,
    gain: Floats,
    threshold: Floats,
    neuron: Neuron,
    learn: bool,
    dx: Floats,
    dstate: Floats,
) -> Floats:
    """Fill dx and dstate from padded arrays; the gradients of decay, gain and threshold (3, N)."""
    parameters = np.zeros((3, dx.shape[2]), np.float64)
    a, surrogate = neuron.sharpness, SURROGATES.index(neuron.surrogate)
    _backward(
        gradient,
        state_gradient,
        x,
        membrane,
        state,
        decay,
        gain,
        threshold,
        neuron.levels or 0,
        neuron.reset == "hard",
        neuron.detach_reset,
        surrogate,
        np.float32(a),
        np.float32((np.pi / 2 * a, a, 1 / (2 * a))[surrogate]),
        learn,
        dx,
        dstate,
        parameters,
    )
    return parameters.astype(np.float32)


@inlined
def _count(u: Any, edge: Any, levels: int) -> Any:
    """Spikes as floats, as in the forward pass."""
    zero = _zero()
    if levels == 0:
        return _select(_at_least(u, edge), _splat(np.float32(1)), zero)
    n = _floor(_add(_over(u, edge), _splat(np.float32(0.5))))
    n = _select(_above(n, zero), n, zero)
    top = _splat(np.float32(levels))
    return _select(_above(n, top), top, n)


@inlined
def _slope(u: Any, edge: Any, levels: int, surrogate: int, sharpness: Any, scale: Any) -> Any:
    """The surrogate's slope; `scale` multiplies |u - threshold|, or is the boxcar's half width."""
    zero, one = _zero(), _splat(np.float32(1))
    if levels > 0:
        low = _at_least(u, zero)
        high = _at_least(_times(_splat(np.float32(levels)), edge), u)
        return _select(low & high, _over(one, edge), zero)
    z = _size(_subtract(u, edge))
    if surrogate == 2:
        return _select(_above(_splat(scale), z), _splat(sharpness), zero)
    z = _times(z, _splat(scale))
    if surrogate == 1:
        z = _add(one, z)
        return _over(one, _times(z, z))
    peak = _splat(sharpness * np.float32(0.5))
    return _over(peak, _add(one, _times(z, z)))


@compiled
def _backward(
    gradient: Any,
    state_gradient: Any,
    x: Any,
    membrane: Any,
    state: Any,
    decay: Any,
    gain: Any,
    threshold: Any,
    levels: int,
    hard: bool,
    detached: bool,
    surrogate: int,
    sharpness: Any,
    scale: Any,
    learn: bool,
    dx: Floats,
    dstate: Floats,
    parameters: npt.NDArray[np.float64],
) -> None:
    steps, rows, columns = x.shape
    zero = _zero()
    sums = np.empty((3, _LANES), np.float32)
    for r in range(rows):
        for c in range(0, columns, _LANES):
            here = r * columns + c
            beta, weight, edge = _load(decay, c), _load(gain, c), _load(threshold, c)
            dv = _load(state_gradient, here)
            dbeta, dweight, dedge = zero, zero, zero
            for back in range(steps):
                t = steps - 1 - back
                at = (t * rows + r) * columns + c
                u = _load(membrane, at)
                n = _count(u, edge, levels)
                ds = _load(gradient, at)
                if not detached:
                    ds = _subtract(ds, _times(dv, u if hard else edge))
                through = _times(ds, _slope(u, edge, levels, surrogate, sharpness, scale))
                kept = _select(_above(n, zero), zero, dv) if hard else dv
                du = _add(through, kept)
                _store(dx, at, _times(weight, du))
                if learn:
                    if t > 0:
                        old = _load(membrane, at - rows * columns)
                        fired = _count(old, edge, levels)
                        if hard:
                            old = _select(_above(fired, zero), zero, old)
                        else:
                            old = _subtract(old, _times(edge, fired))
                    else:
                        old = _load(state, here)
                    dbeta = _add(dbeta, _times(du, old))
                    dweight = _add(dweight, _times(du, _load(x, at)))
                    if levels > 0:
                        through = _times(through, _over(u, edge))
                    dedge = _subtract(dedge, through)
                    if not hard:
                        dedge = _subtract(dedge, _times(dv, n))
                dv = _times(beta, du)
            _store(dstate, here, dv)
            if learn:  # float32 within a row, float64 across rows
                _store(sums, 0, dbeta)
                _store(sums, _LANES, dweight)
                _store(sums, 2 * _LANES, dedge)
                for p in range(3):
                    for lane in range(_LANES):
                        parameters[p, c + lane] += sums[p, lane]
