"""Spike-driven self-attention against the same by dense operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.kernels import pack, sdsa
from neurosim.profiling.case import Candidate, Case, Operation, Request, Traffic
from neurosim.profiling.operations._inputs import Spikes, bernoulli, evaluated, fresh, torch_here
from neurosim.profiling.timing import Run

_THRESHOLD, _DECAY, _GAIN, _SCALE = 0.5, 0.5, 0.5, 0.125
_HEADS = 8
_COUNT = 2
_LETTERS = ("T", "B", "L", "C")
_SHAPE = (4, 1, 512, 512)


def _neuron(current: Any, zeros: Callable[[Any], Any]) -> list[Any]:
    """The binary hard-reset neuron of `sdsa`, over the first axis."""
    potential, fired = zeros(current[0]), []
    for x in current:
        potential = _DECAY * potential + _GAIN * x
        spikes = potential >= _THRESHOLD
        potential = potential * ~spikes
        fired.append(spikes)
    return fired


def _masks(inputs: Sequence[Any], stack: Any, zeros: Any, total: Any) -> Any:
    """Variant 1: q where the neuron of sum_l k v fires."""
    q, k, v = inputs
    fired = stack(_neuron(total(k * v) * _SCALE, zeros))
    return q * fired[:, :, None, :]


def _products(inputs: Sequence[Any], stack: Any, zeros: Any) -> Any:
    """Variant 3: the neuron of q (k^T v), per head."""
    q, k, v = (x.reshape(*x.shape[:3], _HEADS, -1).swapaxes(2, 3) for x in inputs)
    out = q @ (k.swapaxes(-1, -2) @ v)  # (T, B, H, L, D)
    joined = out.swapaxes(2, 3).reshape(*out.shape[:2], out.shape[3], -1)
    return stack(_neuron(joined * _SCALE, zeros))


def _dense(variant: str, q: Spikes, k: Spikes, v: Spikes) -> dict[str, Candidate]:
    arrays = [x.astype(np.float32) for x in (q, k, v)]
    on_mlx = [mx.array(x) for x in arrays]
    libraries: list[tuple[str, list[Any], Any, Any, Any]] = [
        ("numpy", arrays, np.stack, np.zeros_like, lambda x: x.sum(axis=2)),
        ("mlx", on_mlx, mx.stack, mx.zeros_like, lambda x: x.sum(axis=2)),
    ]
    torch = torch_here()
    if torch is not None:
        tensors = [torch.from_numpy(x) for x in arrays]
        libraries.append(("torch", tensors, torch.stack, torch.zeros_like, lambda x: x.sum(dim=2)))
    found = {}
    run: Run
    for name, inputs, stack, zeros, total in libraries:
        if variant == "1":
            run = partial(_masks, inputs, stack, zeros, total)
        else:
            run = partial(_products, inputs, stack, zeros)
        if name == "mlx":
            found[name] = Candidate(lambda r=run: evaluated(r()), "dense")  # type: ignore[misc]
        else:
            found[name] = Candidate(run, "dense")
    return found


def _case(variant: str, name: str, request: Request) -> Case:
    steps, batch, tokens, channels = request.shape
    rng = np.random.default_rng(request.seed)
    q, k, v = (bernoulli(rng, request.shape, request.density) for _ in range(3))
    packed = pack(q), pack(k), pack(v)
    words = 3 * packed[0].words.nbytes
    if variant == "1":
        additions = int((k & v).sum(dtype=np.int64))
        traffic = Traffic(words + packed[0].words.nbytes, words)
    else:
        size = channels // _HEADS
        per_head = [x.reshape(-1, _HEADS, size).sum(axis=-1, dtype=np.int64) for x in (q, k, v)]
        additions = int((per_head[1] * per_head[2]).sum()) + int(per_head[0].sum()) * size
        rows = 2 * int(per_head[1].sum()) + int(per_head[0].sum())
        traffic = Traffic(rows * size * 4 + words, size * size * 4)
    ours = Candidate(
        lambda: sdsa(
            *packed, variant, _HEADS, _SCALE, _THRESHOLD, _DECAY, _GAIN, backend=request.backend
        ),
        "ours",
        traffic,
        view=lambda spikes: spikes.unpack(),
    )
    shape = {"T": steps, "B": batch, "L": tokens, "C": channels}
    return Case(
        name, shape, request.density, {"packed": ours, **_dense(variant, q, k, v)}, additions
    )


def _checked(variant: str, name: str, request: Request) -> Case:
    if variant == "3" and request.shape[3] % _HEADS:
        raise ValueError(f"expected channels C that {_HEADS} heads divide, got {request.shape[3]}")
    return _case(variant, name, request)


def _causal(request: Request) -> Case:
    """Variant 1 with a neuron without memory: q where the count of k v so far reaches 2."""
    rng = np.random.default_rng(request.seed)
    q, k, v = (bernoulli(rng, request.shape, request.density) for _ in range(3))
    packed = pack(q), pack(k), pack(v)
    words = packed[0].words.nbytes
    found = {
        "packed": Candidate(
            lambda: sdsa(
                fresh(packed[0]), fresh(packed[1]), fresh(packed[2]), "1",
                threshold=float(_COUNT), decay=0.0, gain=1.0, causal=True,
                backend=request.backend,
            ),
            "ours",
            Traffic(4 * words, 3 * words),
            view=lambda spikes: spikes.unpack(),
        ),
        "numpy": Candidate(
            lambda: (np.cumsum(k & v, axis=2, dtype=np.int16) >= _COUNT) & q, "dense"
        ),
    }  # fmt: skip
    a, b, c = (mx.array(x.astype(np.float32)) for x in (q, k, v))
    found["mlx"] = Candidate(lambda: evaluated((mx.cumsum(b * c, axis=2) >= _COUNT) * a), "dense")
    torch = torch_here()
    if torch is not None:
        tensors = [torch.from_numpy(x.astype(np.float32)) for x in (q, k, v)]
        found["torch"] = Candidate(
            lambda: ((tensors[1] * tensors[2]).cumsum(2) >= _COUNT) * tensors[0], "dense"
        )
    return Case(
        "sdsa_causal",
        dict(zip(_LETTERS, request.shape, strict=True)),
        request.density,
        found,
        int((k & v).sum(dtype=np.int64)),
    )


MASKS = Operation(
    "sdsa",
    "spike-driven attention, variant 1 (masks)",
    _LETTERS,
    _SHAPE,
    partial(_checked, "1", "sdsa"),
    ("sdsa",),
    bench=(_SHAPE,),
    small=(2, 1, 64, 128),
)
PRODUCTS = Operation(
    "sdsa_products",
    f"spike-driven attention, variant 3 (k^T v, {_HEADS} heads)",
    _LETTERS,
    _SHAPE,
    partial(_checked, "3", "sdsa_products"),
    ("sdsa",),
    bench=(_SHAPE,),
    small=(2, 1, 64, 128),
)
CAUSAL = Operation(
    "sdsa_causal",
    "spike-driven attention, variant 1, tokens so far only",
    _LETTERS,
    (4, 4, 512, 64),
    _causal,
    ("sdsa",),
    bench=((4, 4, 512, 64),),
    small=(2, 1, 128, 64),
)
