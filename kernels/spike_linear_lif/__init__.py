"""A layer in one kernel: spikes times weights, neurons, packed spikes."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._dispatch import choose
from neurosim.kernels._metal import metal_backends
from neurosim.kernels._training import known
from neurosim.kernels.lif_scan import Neuron, Scan
from neurosim.kernels.lif_scan._types import check_neuron
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.spike_linear._weight import PackedWeight
from neurosim.kernels.spike_linear_lif import cpu, metal, reference
from neurosim.kernels.spike_linear_lif._prepare import prepared

__all__ = ["BACKENDS", "spike_linear_lif"]

BACKENDS: dict[str, Any] = {"cpu": cpu, "reference": reference, **metal_backends(metal)}
_BINARY = Neuron()


def spike_linear_lif(
    spikes: PackedSpikes,
    weight: npt.NDArray[Any] | mx.array | PackedWeight,
    threshold: npt.ArrayLike = 1.0,
    decay: npt.ArrayLike = 0.5,
    gain: npt.ArrayLike = 1.0,
    neuron: Neuron = _BINARY,
    state: npt.NDArray[Any] | None = None,
    output: str = "packed",
    save_membrane: bool = False,
    integer: bool = False,
    algo: str = "auto",
    backend: str = "auto",
) -> Scan:
    """`spike_linear`, then `lif_scan` over the steps, without the sums in between.

        x[t] = sum of the weight rows of the inputs that spiked at t
        u[t] = decay v[t-1] + gain x[t], and so on as in `lif_scan`

    The result has the bits of `lif_scan(spike_linear(...))` with the same algorithm: "gather" sums
    floats in the order that `spike_linear` documents, on every backend. Sums of integer weights are
    exact; they are rounded to float32 where the membrane is float32, and their `scale`, where there
    is one, is multiplied into the gain first.

    With `integer`, membranes are int32 and nothing is multiplied: u[t] = (v[t-1] >> s) + x[t] for
    decay = 2^-s, rounded down. Thresholds are then whole numbers, or, where the weights have a
    scale, whole multiples of it: threshold / scale is rounded to the nearest, at least 1.

    Args:
        spikes: (T, ..., I); where `time_axis` is not the first axis, time is there instead.
        weight: float32 or int8 (I, O), or a PackedWeight, which saves packing it at every call.
        threshold, decay, gain: one number, or one per neuron (O,); threshold > 0.
        neuron: reset and levels.
        state: v[-1], float32 (int32 with `integer`), (..., O), without time; zero if None.
        output: "packed" for PackedSpikes (thermometer planes), or "int8" for counts.
        save_membrane: also return u.
        integer: int32 membranes; for integer weights, binary neurons, gain 1 and one decay of 1,
            1/2, 1/4, ...
        algo: "gather", "lut" (on the CPU) or "auto", as in `spike_linear`.
        backend: "auto", "cpu" (Numba, one thread), "reference" (numpy), "metal" (GPU) or
            "metal-emulated"; "auto" takes Metal where the weight is an MLX array.

    Returns:
        Scan: spikes and, where asked for, membranes of the shape of `spikes` with O for I; state
        v[T-1] (..., O).
    """
    if output not in ("int8", "packed"):
        raise ValueError(f"expected output int8 or packed, got {output!r}")
    if algo not in ("auto", *cpu.ALGORITHMS):
        raise ValueError(f"expected algo auto, {', '.join(cpu.ALGORITHMS)}; got {algo!r}")
    check_neuron(neuron)
    if neuron.signed or neuron.rounding != "half_up":
        raise ValueError(
            f"expected unsigned spikes, rounded half up, in a fused layer, got {neuron}; use "
            "spike_linear and lif_scan"
        )
    mlx = known("spike_linear_lif", weight)
    layer = prepared(spikes, weight, threshold, decay, gain, neuron, state, save_membrane, integer)
    module = choose("spike_linear_lif", backend, BACKENDS, layer, mlx=mlx)
    if module is cpu:
        words, last, membrane = cpu.layer_by(algo, layer)
    elif algo == "lut":
        raise ValueError(
            f"expected algo 'gather' on backend {backend!r}, got 'lut'; only the CPU has it"
        )
    else:
        words, last, membrane = module.spike_linear_lif(layer)
    shape = (*spikes.shape[:-1], layer.weight.shape[1])
    axis = spikes.time_axis or 0
    fired = PackedSpikes.trusted(np.asarray(words), shape, neuron.levels or 1, time_axis=axis)
    around = (*shape[:axis], *shape[axis + 1 :])
    counts: Any = fired if output == "packed" else fired.unpack()
    return Scan(
        counts,
        np.asarray(last).reshape(around),
        np.asarray(membrane).reshape(shape) if save_membrane else None,
    )
