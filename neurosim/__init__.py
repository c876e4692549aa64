"""neurosim: spiking transformers on simulated memristive neuron hardware, with their energy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from neurosim.pipeline import RunReport, run

__all__ = ["RunReport", "__version__", "run"]


def __getattr__(name: str) -> Any:
    """Import the main job only when it is asked for: it needs MLX and Numba."""
    if name in ("run", "RunReport"):
        from neurosim import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'neurosim' has no attribute {name!r}")
