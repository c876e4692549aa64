"""Dense products to be faster than: numpy, MLX, torch, and torch's int8 product."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.profiling.case import Candidate
from neurosim.profiling.operations._inputs import Spikes, evaluated, torch_here, turns


def products(inputs: list[Spikes], weight: npt.NDArray[np.int8]) -> dict[str, Candidate]:
    """x W for each input (R, I) in turn; weights (I, O) that fit int8.

    Which layout of the weights a BLAS likes better depends on the shape, so both are measured.
    """
    weights, turned = _layouts(weight)
    out = np.empty((inputs[0].shape[0], weight.shape[1]), np.float32)
    dense = [x.astype(np.float32) for x in inputs]
    on_mlx = [mx.array(x) for x in dense]
    mlx_weight = mx.array(turned)
    found = {
        "numpy": Candidate(turns(lambda x: np.dot(x, weights, out=out), dense), "dense"),
        "numpy (O, I)": Candidate(turns(lambda x: np.dot(x, turned.T, out=out), dense), "dense"),
        "mlx": Candidate(turns(lambda x: evaluated(x @ mlx_weight.T), on_mlx), "dense"),
    }
    return found | torch_products(inputs, weight)


def torch_products(inputs: list[Spikes], weight: npt.NDArray[np.int8]) -> dict[str, Candidate]:
    """The same in torch, where it is installed."""
    torch = torch_here()
    if torch is None:
        return {}
    weights, turned = (torch.from_numpy(x) for x in _layouts(weight))
    out = torch.empty(inputs[0].shape[0], weight.shape[1])
    dense = [torch.from_numpy(x.astype(np.float32)) for x in inputs]
    small = [torch.from_numpy(x) for x in inputs]
    small_weight = torch.from_numpy(weight)
    small_turned = torch.from_numpy(np.ascontiguousarray(weight.T))
    runs: dict[str, tuple[Any, Any]] = {
        "torch": (turns(lambda x: torch.mm(x, weights, out=out), dense), "dense"),
        "torch (O, I)": (turns(lambda x: torch.mm(x, turned.t(), out=out), dense), "dense"),
        "torch int8": (turns(lambda x: torch._int_mm(x, small_weight), small), "int8"),
        "torch int8 (O, I)": (
            turns(lambda x: torch._int_mm(x, small_turned.t()), small),
            "int8",
        ),
    }
    return {name: Candidate(run, kind) for name, (run, kind) in runs.items()}


def _layouts(weight: npt.NDArray[np.int8]) -> tuple[Any, Any]:
    """float32 (I, O) and (O, I)."""
    large = weight.astype(np.float32)
    return large, np.ascontiguousarray(large.T)
