"""LIF neurons over time."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.kernels import LifWorkspace, lif_scan
from neurosim.profiling.case import Candidate, Case, Operation, Request, Traffic
from neurosim.profiling.operations._inputs import evaluated, torch_here

_DECAY = 0.5


def current(request: Request) -> Any:
    """Input of which about a third of the neurons fire; float32, (T, B, N)."""
    rng = np.random.default_rng(request.seed)
    return rng.normal(0.4, 0.8, request.shape).astype(np.float32)


def _named(request: Request) -> dict[str, int]:
    return dict(zip(("T", "B", "N"), request.shape, strict=True))


def _spikes(scan: Any) -> Any:
    return scan.spikes if isinstance(scan.spikes, np.ndarray) else scan.spikes.unpack()


def _numpy_in_place(x: Any) -> Any:
    potential, scaled = np.zeros(x.shape[1:], np.float32), np.empty(x.shape[1:], np.float32)
    out = np.empty(x.shape, np.int8)

    def run() -> Any:
        potential[:] = 0
        for t in range(x.shape[0]):
            np.multiply(potential, np.float32(_DECAY), out=potential)
            np.add(potential, x[t], out=potential)
            fired = np.greater_equal(potential, 1, out=out[t].view(bool))
            np.copyto(scaled, fired)
            np.subtract(potential, scaled, out=potential)
        return out

    return run


def _torch_in_place(torch: Any, x: Any) -> Any:
    potential, out = torch.zeros(x.shape[1:]), torch.empty(x.shape)

    def run() -> Any:
        potential.zero_()
        for t in range(x.shape[0]):
            potential.mul_(_DECAY).add_(x[t])
            out[t].copy_(potential.ge(1.0))
            potential.sub_(out[t])
        return out

    return run


def _mlx_scan(x: mx.array) -> mx.array:
    potential, out = mx.zeros(x.shape[1:]), []
    for t in range(x.shape[0]):
        potential = _DECAY * potential + x[t]
        fired = (potential >= 1).astype(mx.float32)
        potential = potential - fired
        out.append(fired)
    return mx.stack(out)


def _scan(request: Request) -> Case:
    x = current(request)
    bits = request.shape[0] * request.shape[1] * -(-request.shape[2] // 64) * 8
    state = 4 * request.shape[1] * request.shape[2]

    def ours(output: str, **options: Any) -> Candidate:
        written = bits if output == "packed" else x.size
        written += x.nbytes if options.get("save_membrane") else 0
        written += state if options.get("keep_state", True) else 0
        return Candidate(
            lambda: lif_scan(
                x, 1.0, _DECAY, output=output, backend=request.backend, threads=request.threads,
                **options,
            ),
            "ours",
            Traffic(x.nbytes + written, x.nbytes + written),
            view=_spikes,
        )  # fmt: skip

    on_mlx = mx.array(x)
    found = {
        "packed": ours("packed", workspace=LifWorkspace()),
        "packed, spikes only": ours("packed", workspace=LifWorkspace(), keep_state=False),
        "packed, fresh memory": ours("packed"),
        "packed, membrane kept": ours("packed", workspace=LifWorkspace(), save_membrane=True),
        "int8": ours("int8", workspace=LifWorkspace()),
        "numpy in place": Candidate(_numpy_in_place(x), "dense"),
        "mlx": Candidate(lambda: evaluated(_mlx_scan(on_mlx)), "dense"),
    }
    torch = torch_here()
    if torch is not None:
        found["torch in place"] = Candidate(_torch_in_place(torch, torch.from_numpy(x)), "dense")
    return Case("lif_scan", _named(request), None, found)


SCAN = Operation(
    "lif_scan",
    "LIF neurons over T steps",
    ("T", "B", "N"),
    (4, 256, 512),
    _scan,
    ("lif_scan", "Neuron", "LifWorkspace"),
    by_density=False,
    bench=((4, 16, 512), (4, 256, 512), (4, 4096, 512)),
    small=(4, 8, 256),
)
