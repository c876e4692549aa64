"""Spike-driven self-attention of MLX arrays, with gradients."""

from __future__ import annotations

import mlx.core as mx

from neurosim.kernels.lif_scan import Neuron, trainable_lif
from neurosim.kernels.spike_attention._training import trainable_attention

_NAME = "trainable_sdsa"
_VARIANTS = ("1", "2", "3", "4", "integer")
_HARD = Neuron("hard")


def trainable_sdsa(
    q: mx.array,
    k: mx.array,
    v: mx.array | None,
    variant: str,
    heads: int = 1,
    scale: float = 1.0,
    threshold: mx.array | float = 0.5,
    decay: mx.array | float = 0.5,
    gain: mx.array | float = 0.5,
    neuron: Neuron = _HARD,
    causal: bool = False,
) -> mx.array:
    """`sdsa` for training: works in `mx.grad` and `nn.value_and_grad`.

    The same spikes, while sums are whole and below 2^24. AND is a product, so that gradients reach
    both sides; sums are smooth; SN has the surrogate of its `neuron`, see `trainable_lif`.
    mx.compile, mx.vmap, mx.jvp and second derivatives are refused, but for those of q alone in
    variants 1 and 2, where it only multiplies.

    Args:
        q, k, v: spikes as float32, (T, B, L, C), v (T, B, L, V) or None, as there.
        variant, heads, scale, causal: as there.
        threshold, decay, gain: numbers, or arrays of shape () or (V,) that may be trained (variant
            4 of the paper is a trained threshold).
        neuron: reset, levels and surrogate.

    Returns:
        spikes, float32, (T, B, L, V).
    """
    _check(q, k, v, variant, heads)
    if variant in ("1", "2"):
        both = k if v is None else k * v
        sums = mx.cumsum(both, axis=2) if causal else both.sum(axis=2, keepdims=True)
        fired, _ = trainable_lif(scale * sums, threshold, decay, gain, neuron)
        return q * fired
    assert v is not None
    found = trainable_attention(
        _by_head(q, heads), _by_head(k, heads), _by_head(v, heads), None, causal
    )
    sums = found.swapaxes(2, 3).reshape(v.shape)
    fired, _ = trainable_lif(scale * sums, threshold, decay, gain, neuron)
    return fired


def _by_head(x: mx.array, heads: int) -> mx.array:
    """(T, B, L, C) as (T, B, heads, L, C / heads)."""
    return x.reshape(*x.shape[:3], heads, x.shape[3] // heads).swapaxes(2, 3)


def _check(q: mx.array, k: mx.array, v: mx.array | None, variant: str, heads: int) -> None:
    if variant not in _VARIANTS:
        raise ValueError(f"{_NAME}: expected variant {', '.join(_VARIANTS)}; got {variant!r}")
    if (v is None) != (variant == "2"):
        raise ValueError(f"{_NAME}: expected v in every variant but 2, got variant {variant}")
    given = [x for x in (q, k, v) if x is not None]
    if not all(isinstance(x, mx.array) and x.dtype == mx.float32 for x in given):
        kinds = ", ".join(str(getattr(x, "dtype", type(x).__name__)) for x in given)
        raise ValueError(f"{_NAME}: expected float32 MLX arrays, got {kinds}; use astype, or sdsa")
    shapes = [tuple(x.shape) for x in given]
    free = 3 if variant == "integer" else 4
    if q.ndim != 4 or shapes[1] != shapes[0] or shapes[-1][:free] != shapes[0][:free]:
        raise ValueError(
            f"{_NAME}: expected q, k and v of one shape (T, B, L, C) (v may be wider in the "
            f"integer form), got {', '.join(map(str, shapes))}"
        )
    if heads < 1 or any(shape[3] % heads for shape in shapes):
        raise ValueError(f"{_NAME}: expected heads that divide the channels, got {heads}")
