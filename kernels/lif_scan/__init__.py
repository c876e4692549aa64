"""Spiking neurons over time: LIF, PLIF, IF and integer, forward and backward."""

from __future__ import annotations

from types import ModuleType

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._dispatch import choose
from neurosim.kernels.lif_scan import _training, cpu, reference
from neurosim.kernels.lif_scan._types import Gradients, Neuron, Scan
from neurosim.kernels.packed import PackedSpikes

__all__ = ["BACKENDS", "Gradients", "Neuron", "Scan", "lif_backward", "lif_scan", "lif_spikes"]

BACKENDS: dict[str, ModuleType] = {"cpu": cpu, "reference": reference}
Floats = npt.NDArray[np.float32]
_BINARY = Neuron()


def lif_scan(
    x: Floats,
    threshold: npt.ArrayLike = 1.0,
    decay: npt.ArrayLike = 0.5,
    gain: npt.ArrayLike = 1.0,
    neuron: Neuron = _BINARY,
    state: Floats | None = None,
    output: str = "int8",
    save_membrane: bool = False,
    backend: str = "auto",
) -> Scan:
    """Integrate, leak, fire and reset, over T steps.

        u[t] = decay v[t-1] + gain x[t]
        n[t] = 1 where u[t] >= threshold, else 0                    binary
               floor(u[t] / threshold + 1/2), clipped to 0..levels  integer (half up)
        v[t] = u[t] - threshold n[t]                                soft reset
               0 where n[t] = 1, else u[t]                          hard reset

    All in float32, each product and sum rounded as written: every backend gives the same bits.
    With time constant tau, LIF is decay = 1 - 1/tau and gain = 1 (Gerstner et al., 2014), or
    gain = 1/tau where the input decays too (tau = 2, hard reset: Spike-driven Transformer, Yao et
    al., 2023). PLIF (Fang et al., 2021) is decay = 1 - sigmoid(w) and gain = sigmoid(w), IF is
    decay = gain = 1, I-LIF (Luo et al., 2024) is decay = 0.25 with levels = 4.

    Args:
        x: input, float32, finite, (T, ..., N), dimensionless like the membrane.
        threshold, decay, gain: one number, or one per neuron (N,); threshold > 0.
        neuron: reset, levels and (for gradients) surrogate.
        state: v[-1], float32, (..., N); zero if None. Not changed.
        output: "int8" for counts, or "packed" for PackedSpikes (thermometer planes).
        save_membrane: also return u, which `lif_backward` needs.
        backend: "auto", "cpu" (Numba, one thread) or "reference" (numpy).

    Returns:
        Scan: spikes (T, ..., N), state v[T-1] (..., N), membrane (T, ..., N) or None.
    """
    _check_input(x, "x")
    if output not in ("int8", "packed"):
        raise ValueError(f"expected output int8 or packed, got {output!r}")
    flat, parameters, start = _prepared(x, threshold, decay, gain, state)
    module = choose("lif_scan", backend, BACKENDS)
    packed = output == "packed"
    spikes, last, membrane = module.scan(flat, *parameters, neuron, start, packed, save_membrane)
    if packed:
        spikes = PackedSpikes.trusted(spikes, x.shape, neuron.levels or 1, time_axis=0)
    else:
        spikes = spikes.reshape(x.shape)
    kept = membrane.reshape(x.shape) if save_membrane else None
    return Scan(spikes, last.reshape(x.shape[1:]), kept)


def lif_backward(
    gradient: Floats,
    x: Floats,
    membrane: Floats,
    threshold: npt.ArrayLike = 1.0,
    decay: npt.ArrayLike = 0.5,
    gain: npt.ArrayLike = 1.0,
    neuron: Neuron = _BINARY,
    state: Floats | None = None,
    state_gradient: Floats | None = None,
    backend: str = "auto",
) -> Gradients:
    """Surrogate gradients of `lif_scan` by backpropagation through time.

    From the last step to the first, with r = threshold (soft reset) or u (hard reset), and r = 0
    where `neuron.detach_reset`:

        du[t] = (gradient[t] - r dv[t]) surrogate'(u[t]) + dv[t] (0 where a hard reset fired)
        dx[t] = gain du[t],    dv[t-1] = decay du[t]

    Args:
        gradient: of the loss with respect to the spikes, float32, (T, ..., N).
        x, threshold, decay, gain, neuron, state: as given to `lif_scan`.
        membrane: u, as it returned.
        state_gradient: of the loss with respect to the last state, (..., N); zero if None.
        backend: as there.

    Returns:
        Gradients of x, of the first state, and of decay, gain and threshold of every neuron (sum
        them where one number was given).
    """
    for name, array in (("gradient", gradient), ("x", x), ("membrane", membrane)):
        _check_input(array, name)
        if array.shape != x.shape:
            raise ValueError(f"expected {name} of the shape of x {x.shape}, got {array.shape}")
    flat, parameters, start = _prepared(x, threshold, decay, gain, state)
    end = _state(state_gradient, x.shape, flat.shape, "state_gradient")
    gradients = choose("lif_backward", backend, BACKENDS).backward(
        _rows(gradient), end, flat, _rows(membrane), start, *parameters, neuron, True
    )
    dx, dstate, *rest = gradients
    return Gradients(dx.reshape(x.shape), dstate.reshape(x.shape[1:]), *rest)


def lif_spikes(
    x: mx.array,
    threshold: mx.array | float = 1.0,
    decay: mx.array | float = 0.5,
    gain: mx.array | float = 1.0,
    neuron: Neuron = _BINARY,
    state: mx.array | None = None,
) -> tuple[mx.array, mx.array]:
    """`lif_scan` of MLX arrays, for training: works in `mx.grad` and `nn.value_and_grad`.

    Gradients are those of `lif_backward`, for x, the state, and whichever of threshold, decay and
    gain is an array. mx.compile, mx.vmap, mx.jvp and second derivatives are refused.

    Args:
        x: float32, (T, ..., N).
        threshold, decay, gain: numbers, or arrays of shape () or (N,) that may be trained.
        neuron: reset, levels, surrogate.
        state: v[-1], (..., N); zero if None.

    Returns:
        spikes (T, ..., N) as float32, and the last state (..., N).
    """
    if x.dtype != mx.float32 or x.ndim < 2:
        raise ValueError(
            f"expected float32 input of shape (T, ..., N), got {x.dtype} {tuple(x.shape)}"
        )
    neurons = x.shape[-1]
    parameters = []
    for name, value in (("decay", decay), ("gain", gain), ("threshold", threshold)):
        array = value if isinstance(value, mx.array) else mx.array(value, mx.float32)
        if array.dtype != mx.float32 or array.shape not in ((), (neurons,)):
            raise ValueError(
                f"expected a float32 {name} of shape () or ({neurons},), got {array.dtype} "
                f"{tuple(array.shape)}"
            )
        parameters.append(mx.broadcast_to(array, (neurons,)))
    if state is None:
        state = mx.zeros(x.shape[1:], mx.float32)
    elif state.dtype != mx.float32 or state.shape != x.shape[1:]:
        raise ValueError(
            f"expected a float32 state of shape {tuple(x.shape[1:])}, got {state.dtype} "
            f"{tuple(state.shape)}"
        )
    learn = any(isinstance(value, mx.array) for value in (threshold, decay, gain))
    rows = int(np.prod(x.shape[1:-1], dtype=np.int64))
    flat = x.reshape(x.shape[0], rows, neurons), state.reshape(rows, neurons)
    spikes, last, _ = _training.scan(neuron, learn)(*flat, *parameters)
    return spikes.reshape(x.shape), last.reshape(x.shape[1:])


def _check_input(x: Floats, name: str) -> None:
    if x.dtype != np.float32 or x.ndim < 2:
        raise ValueError(
            f"expected float32 {name} of shape (T, ..., N), got {x.dtype} {x.shape}; convert with "
            "astype(np.float32), and add a time axis to a single step"
        )


def _rows(x: Floats) -> Floats:
    """(T, ..., N) as (T, R, N)."""
    rows = int(np.prod(x.shape[1:-1], dtype=np.int64))
    return np.ascontiguousarray(x).reshape(x.shape[0], rows, x.shape[-1])


def _state(
    state: Floats | None, shape: tuple[int, ...], flat: tuple[int, ...], name: str
) -> Floats:
    if state is None:
        return np.zeros(flat[1:], np.float32)
    if state.dtype != np.float32 or state.shape != shape[1:]:
        raise ValueError(
            f"expected a float32 {name} of shape {shape[1:]}, got {state.dtype} {state.shape}"
        )
    return np.ascontiguousarray(state).reshape(flat[1:])


def _prepared(
    x: Floats,
    threshold: npt.ArrayLike,
    decay: npt.ArrayLike,
    gain: npt.ArrayLike,
    state: Floats | None,
) -> tuple[Floats, list[Floats], Floats]:
    """x (T, R, N); decay, gain and threshold (N,); state (R, N)."""
    flat = _rows(x)
    parameters = []
    for name, value in (("decay", decay), ("gain", gain), ("threshold", threshold)):
        array = np.asarray(value, np.float32)
        if array.shape not in ((), x.shape[-1:]) or not np.isfinite(array).all():
            raise ValueError(
                f"expected a finite {name}, one number or one per neuron {x.shape[-1:]}, got "
                f"shape {array.shape}"
            )
        parameters.append(np.ascontiguousarray(np.broadcast_to(array, x.shape[-1:])))
    if not (parameters[2] > 0).all():
        raise ValueError(f"expected positive thresholds, got {parameters[2].min()}")
    return flat, parameters, _state(state, x.shape, flat.shape, "state")
