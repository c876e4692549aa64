"""`load`: a BrainGPT from a folder, on the backend that fits."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.kernels._threads import check_threads
from neurosim.models.braingpt.memory import check_memory, estimate_memory
from neurosim.models.braingpt.model import BrainGPT, Options, Staircases
from neurosim.models.braingpt.silu import read_staircase
from neurosim.models.braingpt.stored import StoredModel

BACKENDS = ("auto", "cpu", "numpy", "mlx")
_LARGE = 1_000_000_000


@dataclass(frozen=True)
class LoadOptions:
    """The options of `load` as one value, for those who pass them on."""

    mode: str = "causal"
    dtype: str = "float32"
    silu: str | None = None
    attention: str = "float"
    bits: int | None = None
    backend: str = "auto"
    weight_bits: int | None = None
    staircase: str | Path | None = None
    threads: int | None = None

    def load(
        self, folder: str | Path, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Any:
        """`load` with these options."""
        return load(folder, **self.__dict__, progress=progress)


def load(
    folder: str | Path,
    mode: str = "causal",
    dtype: Any = "float32",
    silu: str | None = None,
    attention: str = "float",
    bits: int | None = None,
    backend: str = "auto",
    weight_bits: int | None = None,
    staircase: str | Path | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Any:
    """A model that is called on token ids and gives logits.

    Args:
        folder: of a BrainGPT (published, or made by `neurosim convert`), a Qwen2 or a Llama.
        mode: "causal" (a scale per token: nothing depends on later tokens, padding or batch
            mates), "reference" (a scale per tensor, as published), "ann" (nothing quantised).
        dtype: "float32" or "float64" of all that is not a count.
        silu: "staircase" (published; needs its pulses), "table" (finer steps of 1/16), "exact".
            Default: "staircase" in mode "reference", "exact" in mode "ann", else "table".
        attention: "float" or "spiking".
        bits: 2 to 8, of the spike counts; default: those of the folder.
        backend: "cpu" (compiled; causal, float32, float attention), "numpy" (everything), "mlx"
            (trainable, and for a GPU); "auto" takes the first that can.
        weight_bits: 32, 8 or 4 for backend "cpu"; default: as stored.
        staircase: a file with the SiLU pulses, instead of the folder's own.
        threads: of backend "cpu"; default: one below 10^9 parameters, where starting others takes
            longer than they save, else one a core.
        progress: called with (layers read, layers) by backend "cpu".

    Returns:
        model(ids (B, L) or (L,), cache=None, mask=None, ...) -> logits (B, L, V) or (L, V).

    Raises:
        ValueError: what is missing or wrong in the folder, by tensor; options that do not go
            together.
    """
    stored = StoredModel(folder)
    kind = _float(dtype)
    default = {"reference": "staircase", "ann": "exact"}.get(mode, "table")
    options = Options(
        mode, silu or default, attention, stored.config.bits if bits is None else bits
    )
    config = replace(stored.config, bits=options.bits)
    staircases = _staircases(stored, options, staircase)
    if backend not in BACKENDS:
        raise ValueError(f"expected backend {', '.join(BACKENDS)}, got {backend!r}")
    fits = mode == "causal" and attention == "float" and kind == np.float32
    if backend == "cpu" and kind != np.float32:
        raise ValueError(f"backend 'cpu' computes in float32, got {kind}; choose backend='numpy'")
    if backend == "cpu" or (backend == "auto" and fits):
        from neurosim.models.braingpt.engine import Engine
        from neurosim.models.braingpt.engine_weights import check_weight_bits

        if threads is None:
            threads = os.cpu_count() or 1 if config.parameters >= _LARGE else 1
        check_threads(threads)
        check_weight_bits(weight_bits)
        needed = estimate_memory(config, weight_bits)
        check_memory(needed, f"loading {folder}", "choose fewer weight bits (--weight-bits)")
        return Engine(stored, options, weight_bits, threads, staircases, progress)
    if weight_bits is not None:
        raise ValueError("weight_bits are for backend 'cpu'; convert with --weight-bits instead")
    if backend == "mlx":
        from neurosim.models.braingpt.mlx_model import from_weights

        gains = stored.gains()
        return from_weights(config, stored.floats, options, staircases, stored.clips, gains)
    weights = {name: stored.floats(name) for name in config.weight_shapes()}
    gains = stored.gains()
    return BrainGPT(config, weights, options, kind, staircases, stored.clips, gains)


def _float(dtype: Any) -> np.dtype[Any]:
    name = str(dtype).rpartition(".")[2]  # also mlx.core.float32
    try:
        kind = np.dtype(name if isinstance(dtype, str) or "mlx" in str(dtype) else dtype)
    except TypeError as error:
        raise ValueError(f"expected dtype float32 or float64, got {dtype!r}") from error
    if kind not in (np.float32, np.float64):
        raise ValueError(f"expected dtype float32 or float64, got {dtype!r}")
    return kind


def _staircases(
    stored: StoredModel, options: Options, path: str | Path | None
) -> Staircases | None:
    if options.silu != "staircase":
        if path is not None:
            raise ValueError(f"a staircase file needs silu='staircase', got {options.silu!r}")
        return None
    if path is not None:
        return [read_staircase(path)] * stored.config.num_hidden_layers
    return list(stored.staircases() or []) or None
