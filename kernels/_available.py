"""What can run here."""

from __future__ import annotations

from neurosim.kernels import fast_blas
from neurosim.kernels.spike_attention import BACKENDS as ATTENTION
from neurosim.kernels.spike_linear import BACKENDS as LINEAR


def backends() -> dict[str, tuple[str, ...]]:
    """Operation -> its backends on this machine, the automatic choice first; and MLX's BLAS now."""
    return {
        "spike_linear": tuple(LINEAR),
        "spike_attention": tuple(ATTENTION),
        "mlx_blas": (fast_blas.active(),),
    }
