"""Dense forms of causal attention without softmax, and softmax attention beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.profiling.case import Candidate
from neurosim.profiling.operations._inputs import evaluated, torch_here
from neurosim.profiling.timing import Run

Floats = npt.NDArray[np.float32]
_CHUNK = 64  # tokens of the dense chunked form
_MOST_QUADRATIC = 2048  # tokens: 16 score matrices of float32 are then 1/4 GB
CACHES = (256, 1024)
"""Tokens in the key-value cache that softmax attention reads for one token."""


def sequence(q: Floats, k: Floats, v: Floats) -> dict[str, Candidate]:
    """(q k^T masked) v of (S, L, D): by the mask, and by states between chunks of tokens."""
    tokens = q.shape[1]
    found: dict[str, Candidate] = {}
    if tokens <= _MOST_QUADRATIC:
        found |= masked((q, k, v), np.tril(np.ones((tokens, tokens), np.float32)))
    torch = torch_here()
    if torch is None:
        return found
    tensors = [torch.from_numpy(x) for x in (q, k, v)]
    if tokens % _CHUNK == 0:
        found["torch chunked"] = Candidate(
            _chunked(torch, *tensors), "dense", view=lambda x: np.asarray(x).reshape(q.shape)
        )
    attend = torch.nn.functional.scaled_dot_product_attention
    batched = [x[None] for x in tensors]
    found["torch softmax (SDPA)"] = Candidate(lambda: attend(*batched, is_causal=True), "other")
    return found


def masked(inputs: Sequence[Floats], mask: Floats) -> dict[str, Candidate]:
    """(q k^T * mask) v in every library; inputs (S, L, D), mask (L, L) or (S, L, L)."""
    on_mlx, mlx_mask = [mx.array(x) for x in inputs], mx.array(mask)
    found = {
        "numpy masked": Candidate(lambda: _masked(inputs, mask), "dense"),
        "mlx masked": Candidate(lambda: evaluated(_masked(on_mlx, mlx_mask)), "dense"),
    }
    torch = torch_here()
    if torch is not None:
        q, k, v = (torch.from_numpy(x) for x in inputs)
        weights = torch.from_numpy(mask)
        found["torch masked"] = Candidate(
            lambda: torch.bmm(torch.bmm(q, k.transpose(1, 2)).mul_(weights), v), "dense"
        )
    return found


def _masked(inputs: Sequence[Any], mask: Any) -> Any:
    q, k, v = inputs
    return ((q @ k.swapaxes(1, 2)) * mask) @ v


def _chunked(torch: Any, q: Any, k: Any, v: Any) -> Run:
    """Linear attention by dense products: states between chunks, quadratic within them."""
    streams, tokens, channels = q.shape
    chunks = tokens // _CHUNK
    inside = torch.tril(torch.ones(_CHUNK, _CHUNK))
    first = torch.zeros(streams, 1, channels, channels)
    a, b, c = (x.reshape(streams * chunks, _CHUNK, channels) for x in (q, k, v))

    def run() -> Any:
        state = torch.bmm(b.transpose(1, 2), c).view(streams, chunks, channels, channels)
        state = torch.cat([first, torch.cumsum(state, 1)[:, :-1]], 1)
        out = torch.bmm(torch.bmm(a, b.transpose(1, 2)).mul_(inside), c)
        return torch.baddbmm(out, a, state.view(streams * chunks, channels, channels))

    return run


def step(token: Sequence[Floats], keep: Floats) -> dict[str, Candidate]:
    """One token: the state kept, k v^T added, read by q; (S, D), keep (S,)."""
    factor = keep[:, None, None]
    on_mlx, mlx_factor = [mx.array(x) for x in token], mx.array(factor)
    decays = bool((keep != 1).any())
    found = {
        "numpy": Candidate(_numpy_step(token, factor, decays), "dense"),
        "mlx": Candidate(_mlx_step(on_mlx, mlx_factor, decays), "dense"),
    }
    torch = torch_here()
    if torch is None:
        return found
    found["torch"] = Candidate(_torch_step(torch, token, factor, decays), "dense")
    attend = torch.nn.functional.scaled_dot_product_attention
    query = torch.from_numpy(token[0])[None, :, None]
    for context in CACHES:
        cache = torch.rand(2, 1, query.shape[1], context, query.shape[3])
        found[f"torch softmax, cache of {context}"] = Candidate(
            lambda cache=cache: attend(query, cache[0], cache[1]),  # type: ignore[misc]
            "other",
        )
    return found


def _numpy_step(token: Sequence[Any], factor: Any, decays: bool) -> Run:
    q, k, v = token
    state = np.zeros((*k.shape, k.shape[1]), np.float32)

    def run() -> Any:
        if decays:
            np.multiply(state, factor, out=state)
        np.add(state, k[:, :, None] * v[:, None, :], out=state)
        return (q[:, None, :] @ state)[:, 0]

    return run


def _mlx_step(token: Sequence[Any], factor: Any, decays: bool) -> Run:
    q, k, v = token
    state = [mx.zeros((*k.shape, k.shape[1]))]

    def run() -> Any:
        old = state[0] * factor if decays else state[0]
        state[0] = old + k[:, :, None] * v[:, None, :]
        out = (q[:, None, :] @ state[0])[:, 0]
        mx.eval(out, state[0])
        return out

    return run


def _torch_step(torch: Any, token: Sequence[Any], keep: Any, decays: bool) -> Run:
    q, k, v = (torch.from_numpy(x) for x in token)
    factor = torch.from_numpy(keep)
    state = torch.zeros(*k.shape, k.shape[1])

    def run() -> Any:
        if decays:
            state.mul_(factor)
        state.baddbmm_(k.unsqueeze(2), v.unsqueeze(1))
        return torch.bmm(q.unsqueeze(1), state)[:, 0]

    return run
