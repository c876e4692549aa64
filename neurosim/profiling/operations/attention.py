"""Attention without softmax: a sequence, one token, and both with the language model's decay."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from neurosim.kernels import pack, spike_attention, spike_attention_step
from neurosim.profiling.case import Candidate, Case, Operation, Request, Traffic
from neurosim.profiling.operations import _attention_dense as dense_forms
from neurosim.profiling.operations._inputs import Spikes, bernoulli, fresh, signed_counts
from neurosim.profiling.timing import Run

_THRESHOLD = 32
_BITS = 6  # of fraction in the language model
_EMPTY_EVERY = 16_384  # steps: an int16 state holds 32,767


def additions(q: Spikes, k: Spikes, v: Spikes) -> int:
    """Of all tokens: v's spikes into the rows of k's, and D per spike of q."""
    sizes = [np.abs(x.astype(np.int64)).sum(axis=-1) for x in (q, k, v)]
    return int((sizes[1] * sizes[2]).sum()) + int(sizes[0].sum()) * int(q.shape[-1])


def traffic(q: Spikes, k: Spikes, out_bytes: float, state_bytes: int) -> Traffic:
    """State rows read and written for k's spikes and read for q's, spikes as bits, the result."""
    channels = q.shape[-1]
    row = channels * state_bytes
    touched = 2 * np.count_nonzero(k) + np.count_nonzero(q)
    return Traffic(int(touched) * row + 3 * q.size // 8 + int(q.size * out_bytes), channels * row)


def _sequence(request: Request) -> Case:
    rng = np.random.default_rng(request.seed)
    q, k, v = (bernoulli(rng, request.shape, request.density) for _ in range(3))
    a, b, c = pack(q), pack(k), pack(v)

    def ours(**options: Any) -> Run:
        return lambda: spike_attention(
            fresh(a), fresh(b), fresh(c), backend=request.backend, **options
        )

    found = {
        "sums": Candidate(ours(), "ours", traffic(q, k, 4, 2), view=lambda result: result.out),
        "spikes": Candidate(
            ours(output="spikes", threshold=_THRESHOLD),
            "ours",
            traffic(q, k, 1 / 8, 2),
            view=None,
        ),
    }
    return Case(
        "spike_attention",
        dict(zip(("S", "L", "D"), request.shape, strict=True)),
        request.density,
        found | dense_forms.sequence(*(x.astype(np.float32) for x in (q, k, v))),
        additions(q, k, v),
    )


def _step(request: Request) -> Case:
    streams, channels = request.shape
    rng = np.random.default_rng(request.seed)
    q, k, v = (bernoulli(rng, request.shape, request.density) for _ in range(3))
    packed = pack(q), pack(k), pack(v)
    state = np.zeros((streams, channels, channels), np.int16)
    calls = 0

    def ours() -> Any:
        nonlocal calls
        calls += 1
        if calls % _EMPTY_EVERY == 0:
            state.fill(0)
        return spike_attention_step(state, *packed, backend=request.backend)

    token = [x.astype(np.float32) for x in (q, k, v)]
    return Case(
        "spike_attention_step",
        dict(zip(("S", "D"), request.shape, strict=True)),
        request.density,
        {
            "sums": Candidate(ours, "ours", traffic(q, k, 4, 2)),
            **dense_forms.step(token, np.ones(streams, np.float32)),
        },
        additions(q, k, v),
    )


def _drawn(request: Request) -> tuple[Spikes, Spikes, Spikes, Any, Any]:
    """Signed counts and each head's shift and share kept, as in the language model."""
    rng = np.random.default_rng(request.seed)
    q, k, v = (signed_counts(rng, request.shape, request.density, 4) for _ in range(3))
    shifts = np.arange(1, request.shape[-2] + 1)
    return q, k, v, shifts, (1 - 2.0**-shifts).astype(np.float32)


def _decaying(request: Request) -> Case:
    tokens, heads, _ = request.shape
    if heads > 30:
        raise ValueError(f"expected at most 30 heads, each with a decay of its own, got {heads}")
    q, k, v, shifts, keep = _drawn(request)
    distance = np.arange(tokens)[:, None] - np.arange(tokens)
    mask = np.where(distance >= 0, keep[:, None, None] ** np.maximum(distance, 0), 0)
    mask = np.where(mask > 1e-25, mask, 0).astype(np.float32)  # no denormals: they are slow
    floats = [np.ascontiguousarray(x.transpose(1, 0, 2)).astype(np.float32) for x in (q, k, v)]
    ours: Callable[[], Any] = partial(
        spike_attention, q, k, v, shifts, _BITS, backend=request.backend
    )
    return Case(
        "spike_attention_decay",
        dict(zip(("L", "H", "D"), request.shape, strict=True)),
        request.density,
        {
            "sums": Candidate(ours, "ours", traffic(q, k, 8, 4), view=lambda result: result.out),
            **dense_forms.masked(floats, mask),
        },
        additions(q, k, v),
        tolerance=None,  # the integer decay rounds
    )


def _decaying_step(request: Request) -> Case:
    if request.shape[0] > 30:
        raise ValueError(
            f"expected at most 30 heads, each with a decay of its own, got {request.shape[0]}"
        )
    q, k, v, shifts, keep = _drawn(request)
    state = np.zeros((*k.shape, k.shape[1]), np.int32)
    ours: Callable[[], Any] = partial(
        spike_attention_step, state, q, k, v, shifts, _BITS, backend=request.backend
    )
    return Case(
        "spike_attention_decay_step",
        dict(zip(("H", "D"), request.shape, strict=True)),
        request.density,
        {
            "sums": Candidate(ours, "ours", traffic(q, k, 8, 4)),
            **dense_forms.step([x.astype(np.float32) for x in (q, k, v)], keep),
        },
        additions(q, k, v),
        tolerance=None,  # the integer decay rounds
    )


ATTENTION = Operation(
    name="spike_attention",
    text="causal attention of S streams, exact integers",
    letters=("S", "L", "D"),
    shape=(16, 512, 64),
    build=_sequence,
    covers=("spike_attention",),
    bench=((16, 512, 64), (16, 1024, 64), (16, 4096, 64)),
    small=(4, 64, 64),
)
STEP = Operation(
    name="spike_attention_step",
    text="one token of attention in S streams",
    letters=("S", "D"),
    shape=(32, 64),
    build=_step,
    covers=("spike_attention_step",),
    bench=((32, 64),),
    small=(8, 64),
)
DECAY = Operation(
    name="spike_attention_decay",
    text="causal attention with a decay per head, counts -4..4, as the language model's",
    letters=("L", "H", "D"),
    shape=(256, 8, 24),
    build=_decaying,
    covers=("spike_attention",),
    bench=((256, 8, 24), (256, 4, 48)),
    small=(64, 8, 24),
)
DECAY_STEP = Operation(
    name="spike_attention_decay_step",
    text="one token of it",
    letters=("H", "D"),
    shape=(8, 24),
    build=_decaying_step,
    covers=("spike_attention_step",),
    bench=((8, 24), (4, 48)),
    small=(8, 24),
)
