"""What can run here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurosim.kernels import fast_blas
from neurosim.kernels.cached_attention import BACKENDS as CACHED
from neurosim.kernels.count_linear import BACKENDS as COUNTS
from neurosim.kernels.event_counts import BACKENDS as EVENTS
from neurosim.kernels.grad_weight import BACKENDS as GRAD_WEIGHT
from neurosim.kernels.lif_scan import BACKENDS as LIF
from neurosim.kernels.neuron import BACKENDS as INTEGER
from neurosim.kernels.packed import BACKENDS as PACKED
from neurosim.kernels.sdsa import BACKENDS as SDSA
from neurosim.kernels.spike_attention import BACKENDS as ATTENTION
from neurosim.kernels.spike_conv2d import BACKENDS as CONV2D
from neurosim.kernels.spike_linear import BACKENDS as LINEAR
from neurosim.kernels.spike_linear_lif import BACKENDS as LINEAR_LIF
from neurosim.kernels.spike_quantise import BACKENDS as QUANTISE
from neurosim.kernels.spike_taps import BACKENDS as TAPS

_OPERATIONS: dict[str, Mapping[str, Any]] = {
    "spike_linear": LINEAR,
    "spike_linear_lif": LINEAR_LIF,
    "spike_conv2d": CONV2D,
    "grad_weight": GRAD_WEIGHT,
    "spike_attention": ATTENTION,
    "lif_scan": LIF,
    "integer_spikes": INTEGER,
    "pack": PACKED,
    "sdsa": SDSA,
    "spike_taps": TAPS,
    "spike_quantise": QUANTISE,
    "event_counts": EVENTS,
    "count_linear": COUNTS,
    "cached_attention": CACHED,
}


def backends() -> dict[str, dict[str, str]]:
    """Operation -> backend -> "available" or the reason why not; and the BLAS that MLX uses now."""
    found = {
        operation: {name: _state(backend) for name, backend in table.items()}
        for operation, table in _OPERATIONS.items()
    }
    return {**found, "mlx_blas": {fast_blas.active(): "active"}}


def _state(backend: Any) -> str:
    unavailable = getattr(backend, "unavailable", None)
    return (None if unavailable is None else unavailable()) or "available"
