"""Causal attention without softmax: many tokens, and one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.kernels import spike_attention, spike_attention_step
from neurosim.profiling.case import Candidate, Case, Operation, Request, Traffic
from neurosim.profiling.operations._inputs import Spikes, bernoulli, evaluated, torch_here

_CHUNK = 64  # tokens of the dense chunked form
_MOST_QUADRATIC = 2048  # tokens: (H, L, L) float32 stays below 1/4 GB for 16 heads


def _masked(inputs: Sequence[Any], mask: Any) -> Any:
    """(q k^T * mask) v, (H, L, D)."""
    q, k, v = inputs
    return ((q @ k.swapaxes(1, 2)) * mask) @ v


def _torch_chunked(torch: Any, q: Any, k: Any, v: Any) -> Any:
    """Linear attention by dense products: states between chunks, quadratic within them."""
    heads, tokens, channels = q.shape
    chunks = tokens // _CHUNK
    inside = torch.tril(torch.ones(_CHUNK, _CHUNK))
    a, b, c = (x.reshape(heads * chunks, _CHUNK, channels) for x in (q, k, v))

    def run() -> Any:
        state = torch.bmm(b.transpose(1, 2), c).view(heads, chunks, channels, channels)
        state = torch.cumsum(state, 1)
        first = torch.zeros(heads, 1, channels, channels)
        state = torch.cat([first, state[:, :-1]], 1).view(heads * chunks, channels, channels)
        out = torch.bmm(torch.bmm(a, b.transpose(1, 2)).mul_(inside), c)
        return torch.baddbmm(out, a, state)

    return run


def _heads_first(x: Any) -> Any:
    """(L, H, D) from what the dense forms return."""
    return np.asarray(x).transpose(1, 0, 2)


def _dense(q: Spikes, k: Spikes, v: Spikes) -> dict[str, Candidate]:
    tokens, heads, channels = q.shape
    dense = [np.ascontiguousarray(x.transpose(1, 0, 2)).astype(np.float32) for x in (q, k, v)]
    found: dict[str, Candidate] = {}
    mask = np.tril(np.ones((tokens, tokens), np.float32)) if tokens <= _MOST_QUADRATIC else None
    if mask is not None:
        on_mlx, mlx_mask = [mx.array(x) for x in dense], mx.array(mask)
        found["numpy masked"] = Candidate(lambda: _masked(dense, mask), "dense", view=_heads_first)
        found["mlx masked"] = Candidate(
            lambda: evaluated(_masked(on_mlx, mlx_mask)), "dense", view=_heads_first
        )
    torch = torch_here()
    if torch is None:
        return found
    ours = [torch.from_numpy(x) for x in dense]
    if mask is not None:
        torch_mask = torch.from_numpy(mask)
        found["torch masked"] = Candidate(
            lambda: torch.bmm(
                torch.bmm(ours[0], ours[1].transpose(1, 2)).mul_(torch_mask), ours[2]
            ),
            "dense",
            view=_heads_first,
        )
    if tokens % _CHUNK == 0:
        found["torch chunked"] = Candidate(
            _torch_chunked(torch, *ours),
            "dense",
            view=lambda x: _heads_first(x.reshape(heads, tokens, channels)),
        )
    attend = torch.nn.functional.scaled_dot_product_attention
    batched = [x[None] for x in ours]
    found["torch softmax (SDPA)"] = Candidate(lambda: attend(*batched, is_causal=True), "other")
    return found


def _additions(q: Spikes, k: Spikes, v: Spikes) -> int:
    """Additions of all tokens: v's spikes into the rows of k's, and D per spike of q."""
    kept = k.sum(axis=-1, dtype=np.int64) * v.sum(axis=-1, dtype=np.int64)
    return int(kept.sum()) + int(q.sum(dtype=np.int64)) * int(q.shape[-1])


def _traffic(q: Spikes, k: Spikes, out_bytes: int, state_bytes: int) -> Traffic:
    """State rows read and written for k's spikes and read for q's, spikes as bits, the result."""
    channels = q.shape[-1]
    row = channels * state_bytes
    touched = 2 * int(k.sum(dtype=np.int64)) + int(q.sum(dtype=np.int64))
    return Traffic(touched * row + 3 * q.size // 8 + q.size * out_bytes, channels * row)


def _many(request: Request) -> Case:
    tokens, heads, channels = request.shape
    rng = np.random.default_rng(request.seed)
    q, k, v = (bernoulli(rng, request.shape, request.density) for _ in range(3))
    shifts = np.zeros(heads, np.int64)
    ours = Candidate(
        lambda: spike_attention(q, k, v, shifts, 0, backend=request.backend)[0],
        "ours",
        _traffic(q, k, 8, 4),
    )
    return Case(
        "spike_attention",
        {"L": tokens, "H": heads, "D": channels},
        request.density,
        {"counts": ours, **_dense(q, k, v)},
        _additions(q, k, v),
    )


def _step(request: Request) -> Case:
    heads, channels = request.shape
    rng = np.random.default_rng(request.seed)
    q, k, v = (bernoulli(rng, request.shape, request.density) for _ in range(3))
    shifts = np.full(heads, 3)  # decay: else a state that is never reset would grow for ever
    keep = (1 - 2.0**-shifts).astype(np.float32)
    state = np.zeros((heads, channels, channels), np.int32)
    ours = Candidate(
        lambda: spike_attention_step(state, q, k, v, shifts, 6, backend=request.backend),
        "ours",
        _traffic(q[None], k[None], 8, 4),
    )
    dense = [x.astype(np.float32) for x in (q, k, v)]
    found = {
        "counts": ours,
        "numpy": Candidate(_numpy_step(dense, keep), "dense"),
        "mlx": Candidate(_mlx_step([mx.array(x) for x in dense], mx.array(keep)), "dense"),
    }
    torch = torch_here()
    if torch is not None:
        found["torch"] = Candidate(_torch_step(torch, dense, keep), "dense")
        attend = torch.nn.functional.scaled_dot_product_attention
        for context in (256, 1024):
            one = torch.from_numpy(dense[0])[None, :, None]
            cache = torch.rand(2, 1, heads, context, channels)
            found[f"torch softmax, cache of {context}"] = Candidate(
                lambda one=one, cache=cache: attend(one, cache[0], cache[1]),  # type: ignore[misc]
                "other",
            )
    return Case(
        "spike_attention_step",
        {"H": heads, "D": channels},
        request.density,
        found,
        _additions(q[None], k[None], v[None]),
        tolerance=None,  # states go on: shifts of integers here, floats there
    )


def _numpy_step(token: list[Any], keep: Any) -> Any:
    q, k, v = token
    state = np.zeros((*k.shape, k.shape[1]), np.float32)

    def run() -> Any:
        np.multiply(state, keep[:, None, None], out=state)
        np.add(state, k[:, :, None] * v[:, None, :], out=state)
        return (q[:, None, :] @ state)[:, 0]

    return run


def _mlx_step(token: list[Any], keep: Any) -> Any:
    q, k, v = token
    state = [mx.zeros((*k.shape, k.shape[1]))]

    def run() -> Any:
        state[0] = state[0] * keep[:, None, None] + k[:, :, None] * v[:, None, :]
        out = (q[:, None, :] @ state[0])[:, 0]
        mx.eval(out, state[0])
        return out

    return run


def _torch_step(torch: Any, token: list[Any], keep: Any) -> Any:
    q, k, v = (torch.from_numpy(x) for x in token)
    factor = torch.from_numpy(keep)[:, None, None]
    state = torch.zeros(*k.shape, k.shape[1])

    def run() -> Any:
        state.mul_(factor).baddbmm_(k.unsqueeze(2), v.unsqueeze(1))
        return torch.bmm(q.unsqueeze(1), state)

    return run


ATTENTION = Operation(
    name="spike_attention",
    text="causal attention of a sequence, exact integers, no decay",
    letters=("L", "H", "D"),
    shape=(512, 16, 64),
    build=_many,
    covers=("spike_attention",),
    bench=((512, 16, 64), (1024, 16, 64), (4096, 16, 64)),
)
STEP = Operation(
    name="spike_attention_step",
    text="one token of attention with decay, 32 heads or streams",
    letters=("H", "D"),
    shape=(32, 64),
    build=_step,
    covers=("spike_attention_step",),
    bench=((32, 64), (8, 24)),
)
