"""Gradients of spiking neurons with Numba: 64 neurons at a time, from the last step to the first.

The exponential of the sigmoid surrogate is 2^n 2^f with f in -1/2..1/2 and seven terms of the
Taylor series of 2^f (relative error below 2e-7).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled, inlined
from neurosim.kernels.lif_scan import _vectors as v64
from neurosim.kernels.lif_scan._fire import fired, flat, padded, read, write
from neurosim.kernels.lif_scan._types import SURROGATES, LifWorkspace, Neuron

Floats = npt.NDArray[np.float32]

_zero, _load, _store, _splat = v64.zero, v64.load, v64.store, v64.splat
_add, _subtract, _times, _over = v64.add, v64.subtract, v64.times, v64.over
_at_least, _above, _below, _select = v64.at_least, v64.above, v64.below, v64.select
_nearest, _size, _two_to_the = v64.nearest, v64.size, v64.two_to_the

_LOG2_E = np.float32(1 / math.log(2))
_C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(math.log(2) ** k / math.factorial(k)) for k in range(1, 7)
)


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
    """See reference.py."""
    take = (workspace or LifWorkspace()).array
    dx, dstate = take("dx", x.shape, np.float32), take("dstate", x.shape[1:], np.float32)
    parameters = backward_into(
        gradient, state_gradient, x, membrane, state, decay, gain, threshold, neuron, learn, dx,
        dstate,
    )  # fmt: skip
    return dx, dstate, *parameters


def backward_into(
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
    dx: Floats,
    dstate: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Fill dx and dstate (R, N); the gradients of decay, gain and threshold, (N,).

    dx is (T, R, N), or in panels (ceil(N / 64), T R, 64) as `PackedWeight` has them, where it
    becomes the matrix of a product; columns beyond N become 0.
    """
    steps, rows, columns = x.shape
    edge = padded(threshold, 1)
    parameters = np.zeros(3 * edge.size, np.float64)
    _backward(
        steps, rows, columns, gradient.reshape(-1), flat(state_gradient), x.reshape(-1),
        membrane.reshape(-1), flat(state), padded(decay), padded(gain), edge, neuron.levels,
        neuron.reset == "hard", neuron.signed, neuron.rounding == "half_even", neuron.clip_bounds,
        neuron.levels is not None and bool((edge == 1).all()), neuron.detach_reset,
        *slope_scale(neuron), dx.reshape(-1), dx.shape != x.shape, dstate.reshape(-1),
        np.zeros(3 * edge.size, np.float32) if learn else None, parameters,
    )  # fmt: skip
    sums = parameters.reshape(3, edge.size)[:, :columns]
    ddecay, dgain, dthreshold = sums.astype(np.float32)
    return ddecay, dgain, dthreshold


def slope_scale(neuron: Neuron) -> tuple[int, np.float32, np.float32]:
    """Surrogate, sharpness and the factor of z: the last arguments of `binary_slope`."""
    a, surrogate = neuron.sharpness, SURROGATES.index(neuron.surrogate)
    scale = (math.pi / 2 * a, a, 1 / (2 * a), a)[surrogate]
    return surrogate, np.float32(a), np.float32(scale)


@inlined
def _exponential(y: Any) -> Any:
    """exp(y) for y <= 0; 2^-126 where that is smaller."""
    bottom = _splat(np.float32(-126))
    y = _times(y, _splat(_LOG2_E))
    y = _select(_above(y, bottom), y, bottom)
    n = _nearest(y)
    f = _subtract(y, n)
    p = _add(_times(_splat(_C6), f), _splat(_C5))
    p = _add(_times(p, f), _splat(_C4))
    p = _add(_times(p, f), _splat(_C3))
    p = _add(_times(p, f), _splat(_C2))
    p = _add(_times(p, f), _splat(_C1))
    return _times(_add(_times(p, f), _splat(np.float32(1))), _two_to_the(n))


@inlined
def binary_slope(ds: Any, u: Any, edge: Any, surrogate: Any, a: Any, scale: Any) -> Any:
    """ds times the slope of a binary spike; `scale` belongs to the surrogate."""
    one = _splat(np.float32(1))
    z = _size(_subtract(u, edge))
    if surrogate == 2:
        return _select(_below(z, _splat(scale)), _times(ds, _splat(a)), _zero())
    z = _times(z, _splat(scale))
    if surrogate == 0:
        return _over(_times(ds, _splat(a * np.float32(0.5))), _add(one, _times(z, z)))
    if surrogate == 1:
        z = _add(one, z)
        return _over(ds, _times(z, z))
    e = _exponential(_subtract(_zero(), z))
    whole = _add(one, e)
    return _over(_times(ds, _times(_splat(a), e)), _times(whole, whole))


@inlined
def integer_slope(
    ds: Any, u: Any, edge: Any, levels: Any, signed: Any, bounds: Any, unit: Any
) -> Any:
    """ds / threshold where the integer spikes are not clipped."""
    size = _size(u) if signed else u
    top = _times(_splat(np.float32(levels)), edge)
    if bounds:
        inside = ~_above(size, top)
        if not signed:
            inside &= _at_least(size, _zero())
    else:
        inside = _below(size, top)
        if not signed:
            inside &= _above(size, _zero())
    return _select(inside, ds if unit else _over(ds, edge), _zero())


@inlined
def _block(
    steps: Any, rows: Any, columns: Any, r: Any, c: Any, partial: bool,
    gradient: Any, state_gradient: Any, x: Any, membrane: Any, state: Any,
    decay: Any, gain: Any, threshold: Any,
    levels: Any, hard: Any, signed: Any, even: Any, bounds: Any, unit: Any, detached: Any,
    surrogate: Any, a: Any, scale: Any,
    dx: Any, panels: Any, dstate: Any, sums: Any,
) -> None:  # fmt: skip
    mask = ~np.uint64(0) >> np.uint64(c + 64 - columns) if partial else ~np.uint64(0)
    beta, weight, edge = _load(decay, c), _load(gain, c), _load(threshold, c)
    here, stride = r * columns + c, rows * columns
    dv = read(state_gradient, here, mask, partial) if state_gradient is not None else _zero()
    dbeta, dweight, dedge = _zero(), _zero(), _zero()
    for back in range(steps):
        t = steps - 1 - back
        at = here + t * stride
        u = read(membrane, at, mask, partial)
        ds = read(gradient, at, mask, partial)
        if not detached:
            ds = _subtract(ds, _times(dv, u if hard else edge))
        if levels is None:
            through = binary_slope(ds, u, edge, surrogate, a, scale)
            kept = _select(_at_least(u, edge), _zero(), dv) if hard else dv
        else:
            through = integer_slope(ds, u, edge, levels, signed, bounds, unit)
            kept = dv
        du = _add(through, kept)
        if panels:
            _store(dx, ((c // 64 * steps + t) * rows + r) * 64, _times(weight, du))
        else:
            write(dx, at, _times(weight, du), mask, partial)
        if sums is not None:
            if t > 0:
                old = read(membrane, at - stride, mask, partial)
                if levels is None:
                    m = _at_least(old, edge)
                    old = _select(m, _zero() if hard else _subtract(old, edge), old)
                else:
                    n = fired(old, edge, levels, signed, even, unit)
                    old = _subtract(old, _times(edge, n))
            else:
                old = read(state, here, mask, partial) if state is not None else _zero()
            dbeta = _add(dbeta, _times(du, old))
            dweight = _add(dweight, _times(du, read(x, at, mask, partial)))
            if levels is not None:
                dedge = _subtract(dedge, _times(through, _over(u, edge)))
                n = fired(u, edge, levels, signed, even, unit)
                dedge = _subtract(dedge, _times(dv, n))
            else:
                dedge = _subtract(dedge, through)
                if not hard:
                    dedge = _subtract(dedge, _select(_at_least(u, edge), dv, _zero()))
        dv = _times(beta, du)
    write(dstate, here, dv, mask, partial)
    if sums is not None:
        width = decay.size
        _store(sums, c, _add(_load(sums, c), dbeta))
        _store(sums, width + c, _add(_load(sums, width + c), dweight))
        _store(sums, 2 * width + c, _add(_load(sums, 2 * width + c), dedge))


@compiled
def _backward(
    steps: int, rows: int, columns: int,
    gradient: Any, state_gradient: Any, x: Any, membrane: Any, state: Any,
    decay: Any, gain: Any, threshold: Any,
    levels: int | None, hard: bool, signed: bool, even: bool, bounds: bool, unit: bool,
    detached: bool, surrogate: int, a: Any, scale: Any,
    dx: Any, panels: bool, dstate: Any, sums: Any, parameters: npt.NDArray[np.float64],
) -> None:  # fmt: skip
    """`sums` is None or room for (3, N) float32: those of up to 64 rows, added up in float64."""
    for r in range(rows):
        for w in range(columns // 64):
            _block(
                steps, rows, columns, r, 64 * w, False, gradient, state_gradient, x, membrane,
                state, decay, gain, threshold, levels, hard, signed, even, bounds, unit, detached,
                surrogate, a, scale, dx, panels, dstate, sums,
            )  # fmt: skip
        if columns % 64:
            _block(
                steps, rows, columns, r, columns // 64 * 64, True, gradient, state_gradient, x,
                membrane, state, decay, gain, threshold, levels, hard, signed, even, bounds, unit,
                detached, surrogate, a, scale, dx, panels, dstate, sums,
            )  # fmt: skip
        if sums is not None and (r % 64 == 63 or r == rows - 1):
            for i in range(sums.size):
                parameters[i] += sums[i]
                sums[i] = np.float32(0)
