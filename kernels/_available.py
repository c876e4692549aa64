"""What can run here."""

from __future__ import annotations

from neurosim.kernels import fast_blas
from neurosim.kernels.lif_scan import BACKENDS as LIF
from neurosim.kernels.packed import BACKENDS as PACKED
from neurosim.kernels.sdsa import BACKENDS as SDSA
from neurosim.kernels.spike_attention import BACKENDS as ATTENTION
from neurosim.kernels.spike_linear import BACKENDS as LINEAR


def backends() -> dict[str, tuple[str, ...]]:
    """Operation -> its backends on this machine, the automatic choice first; and MLX's BLAS now."""
    return {
        "spike_linear": tuple(LINEAR),
        "spike_attention": tuple(ATTENTION),
        "lif_scan": tuple(LIF),
        "pack": tuple(PACKED),
        "sdsa": tuple(SDSA),
        "mlx_blas": (fast_blas.active(),),
    }
