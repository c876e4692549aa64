"""Spiking neurons over time: LIF, PLIF, IF and integer, forward and backward."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._arrays import is_a
from neurosim.kernels._checks import numbers as numbers_of
from neurosim.kernels._checks import per_neuron
from neurosim.kernels._dispatch import choose
from neurosim.kernels._metal import metal_backends
from neurosim.kernels._threads import check_threads
from neurosim.kernels._training import constant, known
from neurosim.kernels.lif_scan import _training, cpu, metal, reference
from neurosim.kernels.lif_scan._types import (
    Gradients,
    LifWorkspace,
    Neuron,
    Scan,
    check_neuron,
)
from neurosim.kernels.packed import PackedSpikes

__all__ = [
    "BACKENDS",
    "Gradients",
    "LifWorkspace",
    "Neuron",
    "Scan",
    "lif_backward",
    "lif_scan",
    "trainable_lif",
]

BACKENDS: dict[str, Any] = {"cpu": cpu, "reference": reference, **metal_backends(metal)}
Floats = npt.NDArray[np.float32]
_BINARY = Neuron()
_FLOAT32 = np.dtype(np.float32)
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def lif_scan(
    x: Floats | mx.array,
    threshold: npt.ArrayLike = 1.0,
    decay: npt.ArrayLike = 0.5,
    gain: npt.ArrayLike = 1.0,
    neuron: Neuron = _BINARY,
    state: Floats | mx.array | None = None,
    output: str = "int8",
    save_membrane: bool = False,
    backend: str = "auto",
    token_major: bool = False,
    workspace: LifWorkspace | None = None,
    keep_state: bool = True,
    threads: int = 1,
) -> Scan:
    """Integrate, leak, fire and reset, over T steps.

        u[t] = decay v[t-1] + gain x[t]
        n[t] = 1 where u[t] >= threshold, else 0                    binary
               u[t] / threshold, rounded and clipped to 0..levels   integer
        v[t] = u[t] - threshold n[t]                                soft reset
               0 where n[t] = 1, else u[t]                          hard reset

    All in float32, each product, quotient and sum rounded as written: every backend gives the same
    bits. (On a GPU also without contraction to fused multiply-adds; only denormal numbers, below
    1.2e-38, may be taken for zero there.)
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
        backend: "auto", "cpu" (Numba), "reference" (numpy), "metal" or "metal-emulated"; "auto" is
            the CPU for numpy arrays.
        token_major: packed spikes with time as the last of the leading axes, (..., T, N), as
            pattern lists and fused kernels want them; costs nothing here.
        workspace: memory for the results; see LifWorkspace. Fresh memory if None.
        keep_state: whether to return the last state; writing it can take a third of the time.
        threads: of the CPU backend; the result has the same bits for any number.

    Returns:
        Scan: spikes (T, ..., N), state v[T-1] (..., N) or None, membrane (T, ..., N) or None; MLX
        arrays where x is one, without gradients: those has `trainable_lif`.
    """
    _check_input(x, "x")
    check_neuron(neuron)
    LifWorkspace.check(workspace)
    if output not in ("int8", "packed"):
        raise ValueError(f"expected output int8 or packed, got {output!r}")
    packed = output == "packed"
    if token_major and not packed:
        raise ValueError(f"expected output packed for token_major, got {output!r}")
    mlx = isinstance(x, mx.array)
    module = choose("lif_scan", backend, BACKENDS, mlx=mlx)
    shape = tuple(x.shape)
    check_threads(threads)
    if threads > 1 and module is not cpu:
        raise ValueError(f"expected 1 thread on backend {backend!r}, got {threads}; use the CPU")
    if mlx and not _training.is_lazy(module):
        known("lif_scan", x, state)
    parameters = _parameters(shape[-1], threshold, decay, gain)
    spikes, last, membrane = module.scan(
        _rows(x), *parameters, neuron, _state(state, shape, "state"), packed, save_membrane,
        keep_state, token_major, workspace, threads,
    )  # fmt: skip
    scan = Scan(
        _packed(spikes, shape, neuron, token_major) if packed else _like(spikes, shape, mlx),
        _like(last, shape[1:], mlx) if keep_state else None,
        _like(membrane, shape, mlx) if save_membrane else None,
    )
    return _without_gradients(scan, x, state, threshold, decay, gain) if mlx else scan


def lif_backward(
    gradient: Floats | mx.array,
    x: Floats | mx.array,
    membrane: Floats | mx.array,
    threshold: npt.ArrayLike = 1.0,
    decay: npt.ArrayLike = 0.5,
    gain: npt.ArrayLike = 1.0,
    neuron: Neuron = _BINARY,
    state: Floats | mx.array | None = None,
    state_gradient: Floats | mx.array | None = None,
    backend: str = "auto",
    learn: bool = True,
    workspace: LifWorkspace | None = None,
) -> Gradients:
    """Surrogate gradients of `lif_scan` by backpropagation through time.

    From the last step to the first, with r = threshold (soft reset) or u (hard reset), and r = 0
    where `neuron.detach_reset`:

        du[t] = (gradient[t] - r dv[t]) surrogate'(u[t]) + dv[t] (0 where a hard reset fired)
        dx[t] = gain du[t],    dv[t-1] = decay du[t]

    In float32; backends agree to rounding (1e-5 relative).

    Args:
        gradient: of the loss with respect to the spikes, float32, (T, ..., N).
        x, threshold, decay, gain, neuron, state: as given to `lif_scan`.
        membrane: u, as it returned.
        state_gradient: of the loss with respect to the last state, (..., N); zero if None.
        backend: as there.
        learn: whether to compute the gradients of decay, gain and threshold; zeros if not.
        workspace: memory for the results; see LifWorkspace. Fresh memory if None.

    Returns:
        Gradients of x, of the first state, and of decay, gain and threshold of every neuron (sum
        them where one number was given).
    """
    check_neuron(neuron)
    LifWorkspace.check(workspace)
    shape = tuple(x.shape)
    for name, array in (("gradient", gradient), ("x", x), ("membrane", membrane)):
        _check_input(array, name)
        if tuple(array.shape) != shape:
            raise ValueError(f"expected {name} of the shape of x {shape}, got {tuple(array.shape)}")
    mlx = isinstance(x, mx.array)
    module = choose("lif_backward", backend, BACKENDS, mlx=mlx)
    if mlx and not _training.is_lazy(module):
        known("lif_backward", gradient, x, membrane, state, state_gradient)
    dx, dstate, *rest = module.backward(
        _rows(gradient), _state(state_gradient, shape, "state_gradient"), _rows(x),
        _rows(membrane), _state(state, shape, "state"),
        *_parameters(shape[-1], threshold, decay, gain), neuron, learn, workspace,
    )  # fmt: skip
    parameters = (_like(part, shape[-1:], mlx) for part in rest)
    found = Gradients(_like(dx, shape, mlx), _like(dstate, shape[1:], mlx), *parameters)
    if not mlx:
        return found
    given = (gradient, x, membrane, state, state_gradient, threshold, decay, gain)
    parts: Any = (constant("lif_backward", "it is one", part, *given) for part in found)  # type: ignore[arg-type]
    return Gradients(*parts)


def trainable_lif(
    x: mx.array,
    threshold: mx.array | float = 1.0,
    decay: mx.array | float = 0.5,
    gain: mx.array | float = 1.0,
    neuron: Neuron = _BINARY,
    state: mx.array | None = None,
    backend: str = "auto",
) -> tuple[mx.array, mx.array]:
    """`lif_scan` of MLX arrays, for training: works in `mx.grad` and `nn.value_and_grad`.

    Gradients are those of `lif_backward`, for x, the state, and whichever of threshold, decay and
    gain is an array. mx.compile, mx.vmap, mx.jvp and second derivatives are refused.

    Args:
        x: float32, (T, ..., N).
        threshold, decay, gain: numbers, or arrays of shape () or (N,) that may be trained.
        neuron: reset, levels, surrogate.
        state: v[-1], (..., N); zero if None.
        backend: "cpu" (Numba, one thread), "metal", "metal-emulated" or "reference"; "auto" is
            Metal where the default device of MLX is a GPU, else the CPU. On Metal nothing is read
            before it is needed: thresholds in arrays are not checked.

    Returns:
        spikes (T, ..., N) as float32, and the last state (..., N).
    """
    if x.dtype != mx.float32 or x.ndim < 2:
        raise ValueError(
            f"expected float32 input of shape (T, ..., N), got {x.dtype} {tuple(x.shape)}"
        )
    check_neuron(neuron)
    neurons, rows = x.shape[-1], math.prod(x.shape[1:-1])
    numbers: dict[str, float] = {}
    arrays = {"x": x.reshape(x.shape[0], rows, neurons)}
    if state is not None:
        if state.dtype != mx.float32 or state.shape != x.shape[1:]:
            raise ValueError(
                f"expected a float32 state of shape {tuple(x.shape[1:])}, got {state.dtype} "
                f"{tuple(state.shape)}"
            )
        arrays["state"] = state.reshape(rows, neurons)
    for name, value in (("decay", decay), ("gain", gain), ("threshold", threshold)):
        if isinstance(value, float | int):
            _parameter(name, value, neurons, positive=name == "threshold")
            numbers[name] = float(value)
            continue
        if not isinstance(value, mx.array):
            value = mx.array(numbers_of(name, value, neurons))
        if value.dtype != mx.float32 or value.shape not in ((), (neurons,)):
            raise ValueError(
                f"expected a float32 {name} of shape () or ({neurons},), got {value.dtype} "
                f"{tuple(value.shape)}"
            )
        arrays[name] = mx.broadcast_to(value, (neurons,))
    gpu = backend == "auto" and mx.default_device() == mx.gpu
    module = choose("trainable_lif", backend, BACKENDS, mlx=gpu)
    if _training.is_lazy(module):
        scales = (
            arrays[name] if name in arrays else mx.full((neurons,), numbers[name])
            for name in _training.SCALES
        )
        start = arrays.get("state", mx.zeros((rows, neurons), mx.float32))
        scan = _training.lazily(neuron, len(numbers) < 3, module)
        spikes, last, _ = scan(arrays["x"], start, *scales)
    else:
        constants = {name: _constant(number, neurons) for name, number in numbers.items()}
        spikes, last = _training.now(neuron, module, arrays, constants)
    return spikes.reshape(x.shape), last.reshape(x.shape[1:])


def _check_input(x: Floats | mx.array, name: str) -> None:
    if type(x) is np.ndarray and x.dtype is _FLOAT32 and x.ndim > 1:
        return
    if not isinstance(x, (np.ndarray, mx.array)):
        raise ValueError(f"expected {name} as a numpy or MLX array, got {type(x).__name__}")
    if not is_a(x, "float32") or x.ndim < 2:
        raise ValueError(
            f"expected float32 {name} of shape (T, ..., N), got {x.dtype} {tuple(x.shape)}; "
            "convert with astype, and add a time axis to a single step"
        )


def _rows(x: Any) -> Any:
    """(T, ..., N) as (T, R, N), row-major."""
    if type(x) is np.ndarray and x.ndim == 3 and x.flags.c_contiguous:
        return x
    rows = math.prod(x.shape[1:-1])
    if not isinstance(x, mx.array):
        x = np.ascontiguousarray(x)
    return x.reshape(x.shape[0], rows, x.shape[-1])


def _state(state: Any, shape: tuple[int, ...], name: str) -> Any:
    """(R, N), or None for zero."""
    if state is None:
        return None
    if not isinstance(state, (np.ndarray, mx.array)):
        raise ValueError(f"expected {name} as a numpy or MLX array, got {type(state).__name__}")
    if not is_a(state, "float32") or tuple(state.shape) != shape[1:]:
        raise ValueError(
            f"expected a float32 {name} of shape {shape[1:]}, got {state.dtype} "
            f"{tuple(state.shape)}"
        )
    if not isinstance(state, mx.array):
        state = np.ascontiguousarray(state)
    return state.reshape(math.prod(shape[1:-1]), shape[-1])


@lru_cache(maxsize=64)
def _constant(value: float, neurons: int) -> Floats:
    """Shared: never written to, but not frozen, because Numba would compile once more for that."""
    return np.full(neurons, value, np.float32)


def _parameters(
    neurons: int, threshold: npt.ArrayLike, decay: npt.ArrayLike, gain: npt.ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """decay, gain and threshold as (N,)."""
    if type(threshold) is type(decay) is type(gain) is float:
        return _numbers(neurons, threshold, decay, gain)
    return _checked(neurons, threshold, decay, gain)


def _checked(
    neurons: int, threshold: npt.ArrayLike, decay: npt.ArrayLike, gain: npt.ArrayLike
) -> tuple[Floats, Floats, Floats]:
    return (
        _parameter("decay", decay, neurons),
        _parameter("gain", gain, neurons),
        _parameter("threshold", threshold, neurons, positive=True),
    )


_numbers = lru_cache(maxsize=64)(_checked)
"""The same of three numbers; refused ones are not kept."""


def _parameter(name: str, value: npt.ArrayLike, neurons: int, positive: bool = False) -> Floats:
    if isinstance(value, float | int) and -_FLOAT32_MAX <= value <= _FLOAT32_MAX:
        array = _constant(float(value), neurons)
        low = float(np.float32(value))
    else:
        array = per_neuron(name, value, neurons)
        low = float(array.min(initial=np.inf))
    if positive and not low > 0:
        raise ValueError(f"expected positive {name}s, got {low:g} in float32")
    return array


def _without_gradients(scan: Scan, *arguments: Any) -> Scan:
    def part(array: Any) -> Any:
        plain = not isinstance(array, mx.array)
        return array if plain else constant("lif_scan", "use trainable_lif", array, *arguments)

    return Scan(part(scan.spikes), part(scan.state), part(scan.membrane))


def _like(array: Any, shape: tuple[int, ...], mlx: bool) -> Any:
    """An array of a backend, shaped, as the caller's kind."""
    if mlx:
        array = array if isinstance(array, mx.array) else mx.array(array)
    else:
        array = np.asarray(array)
    return array.reshape(shape)


def _packed(words: Any, shape: tuple[int, ...], neuron: Neuron, token_major: bool) -> PackedSpikes:
    """Packed spikes of a backend's words, 32 or 64 bits each; a view, which can be frozen."""
    words = np.asarray(words).view(np.uint64)
    time = 0
    if token_major:
        time = len(shape) - 2
        shape = (*shape[1:-1], shape[0], shape[-1])
    levels = neuron.levels or 1
    return PackedSpikes.trusted(words, shape, levels, neuron.signed, time_axis=time)
