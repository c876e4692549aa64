"""Spike-driven self-attention, variants 1 to 4 and the integer form."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels._dispatch import choose
from neurosim.kernels._metal import metal_backends
from neurosim.kernels.lif_scan import BACKENDS as NEURONS
from neurosim.kernels.lif_scan import Neuron, lif_scan
from neurosim.kernels.lif_scan._types import check_neuron
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.packed._words import Words
from neurosim.kernels.sdsa import cpu, metal, reference
from neurosim.kernels.sdsa._edges import edges
from neurosim.kernels.sdsa._heads import merge, split
from neurosim.kernels.spike_attention._types import Planes

__all__ = ["BACKENDS", "VARIANTS", "sdsa"]

BACKENDS: dict[str, Any] = {"cpu": cpu, "reference": reference, **metal_backends(metal)}
VARIANTS = ("1", "2", "3", "4", "integer")
_LARGEST = 2**31 - 1
_HARD = Neuron("hard")


def sdsa(
    q: PackedSpikes,
    k: PackedSpikes,
    v: PackedSpikes | None,
    variant: str,
    heads: int = 1,
    scale: float = 1.0,
    threshold: npt.ArrayLike = 0.5,
    decay: npt.ArrayLike = 0.5,
    gain: npt.ArrayLike = 0.5,
    neuron: Neuron = _HARD,
    backend: str = "auto",
    causal: bool = False,
) -> PackedSpikes:
    """Attention between spikes without multiplication or softmax; every token sees every other.

    With SN the neuron of `lif_scan` over the time steps, fed with integer sums over the tokens:

        "1"        q AND SN(scale sum_l (k AND v))    Yao et al., 2023 (2307.01694)
        "2"        q AND SN(scale sum_l k)            Yao et al., 2024 (2404.03663)
        "3"        SN(scale q (k^T v)), per head      the same
        "4"        as "3", with a threshold per channel (the trained one)
        "integer"  SN(scale q (k^T v)), counts 0..D   Yao et al., 2025 (2411.16061)

    The default neuron is that of the released code: tau = 2, decaying input, hard reset, threshold
    0.5; variant 3 there has scale 0.125. The integer form there has scale 2 / sqrt(C / heads) / D^3
    and the neuron round(clip(x, 0, D)): threshold = gain = 1, decay = 0, `Neuron(levels=D)`
    (rounding half up, where the small released models round half to even), and v with 4 C channels.
    Planes of q, k and v are combined with all cross terms: counts are summed, not plane by plane.

    With `causal`, sums are over the tokens so far, l <= i, and every token has its own neuron (for
    language; the papers' models see whole images).

    Sums are exact integers (input for which they could exceed int32 is refused); SN sees them as
    float32 times `scale`, so all backends give the same bits. A neuron without memory (one step, or
    decay 0) becomes integer thresholds with the same outcome, and nothing but words is written.

    Args:
        q, k: (T, B, L, C); binary, but for the integer form.
        v: (T, B, L, V), None in variant 2; V = C but for the integer form.
        variant: one of `VARIANTS`.
        heads: divides C and V; the column sums of variants 1 and 2 do not depend on it.
        scale: factor on the sums, float32.
        threshold: one number; in variant 4 one per channel, (V,).
        decay, gain, neuron: see `lif_scan`; per channel (V,) where an array.
        backend: "auto", "cpu" (Numba, one thread), "reference" (numpy), "metal" or
            "metal-emulated".
        causal: whether a token sees only itself and those before it.

    Returns:
        spikes (T, B, L, V), binary or 0..levels of the neuron.
    """
    _check(q, k, v, variant, heads, threshold, neuron)
    if not math.isfinite(scale):
        raise ValueError(f"expected a finite scale, got {scale}")
    columns = variant in ("1", "2")
    largest = q.shape[2] if columns else _largest(q, k, v, heads)
    if largest > _LARGEST:
        raise ValueError(
            f"expected sums within int32, got up to {largest} for {q.shape[2]} tokens of "
            f"{q.shape[3] // heads} channels; use fewer tokens, levels or channels a head"
        )
    module = choose("sdsa", backend, BACKENDS, 0 if columns else q.shape[3] // heads)
    limits = edges(largest, q.shape[0], scale, threshold, decay, gain, neuron)
    if columns:
        words = [_grouped(x) for x in (q, k)] + [None if v is None else _grouped(v)]
        if limits is not None:
            out = module.gated(*words, q.size, int(limits[0, 0]), causal)
            return PackedSpikes.trusted(out.reshape(q.words.shape), q.shape, time_axis=0)
        sums = module.column_sums(*words[1:], q.size, causal)
        sums = sums.reshape(*q.shape[:2], sums.shape[1], q.size)
    else:
        assert v is not None
        operands = [_by_head(x, heads) for x in (q, k, v)]
        if limits is not None:
            found = module.linear(*operands, None, True, causal, _tiled(limits, v, heads))
            return _merged(found, v, heads)
        sums = module.linear(*operands, None, True, causal, None).reshape(v.shape)
    current = sums.astype(np.float32) * np.float32(scale)
    fired: Any = lif_scan(
        current, threshold, decay, gain, neuron, output="packed", backend=_host(backend)
    ).spikes
    if not columns:
        return fired  # type: ignore[no-any-return]
    mask = fired.words.reshape(q.shape[0] * q.shape[1], current.shape[2], q.words.shape[2])
    return PackedSpikes.trusted((words[0] & mask).reshape(q.words.shape), q.shape, time_axis=0)


def _check(
    q: PackedSpikes,
    k: PackedSpikes,
    v: PackedSpikes | None,
    variant: str,
    heads: int,
    threshold: npt.ArrayLike,
    neuron: Neuron,
) -> None:
    if _is_common(q, k, v, variant, heads, threshold, neuron):
        return
    check_neuron(neuron)
    if variant not in VARIANTS:
        raise ValueError(f"expected variant {', '.join(VARIANTS)}; got {variant!r}")
    if (v is None) != (variant == "2"):
        raise ValueError(f"expected v in every variant but 2, got {v!r} in variant {variant}")
    given = [x for x in (q, k, v) if x is not None]
    if not all(isinstance(x, PackedSpikes) for x in given):
        kinds = ", ".join(type(x).__name__ for x in given)
        raise ValueError(f"expected PackedSpikes, got {kinds}; make them with pack")
    wide = v is not None and v.shape[-1:] != q.shape[-1:]
    if (
        len(q.shape) != 4
        or q.shape != k.shape
        or (v is not None and (len(v.shape) != 4 or v.shape[:3] != q.shape[:3]))
        or (wide and variant != "integer")
    ):
        raise ValueError(
            "expected q, k and v of one shape (T, B, L, C) (v may be wider in the integer form), "
            f"got {', '.join(str(x.shape) for x in given)}"
        )
    if not isinstance(heads, Integral) or heads < 1 or any(x.shape[3] % heads for x in given):
        raise ValueError(
            f"expected heads that divide {' and '.join(str(x.shape[3]) for x in given)} channels, "
            f"got {heads}"
        )
    if any(x.signed or (x.levels > 1 and variant != "integer") for x in given):
        raise ValueError(
            f"expected {'counts 0..D' if variant == 'integer' else 'binary spikes'} in variant "
            f"{variant}, got {', '.join(map(repr, given))}"
        )
    if neuron.levels is not None and neuron.levels > 1 and variant != "integer":
        raise ValueError(f"expected a binary neuron in variant {variant}, got {neuron}")
    shape = () if isinstance(threshold, (int, float)) else np.shape(threshold)
    if shape and variant != "4":
        raise ValueError(
            f"expected one threshold in variant {variant}; variant 4 has one a channel"
        )
    if shape and v is not None and shape != v.shape[3:]:
        raise ValueError(f"expected one threshold or one per channel {v.shape[3:]}, got {shape}")


def _is_common(
    q: PackedSpikes,
    k: PackedSpikes,
    v: PackedSpikes | None,
    variant: str,
    heads: int,
    threshold: npt.ArrayLike,
    neuron: Neuron,
) -> bool:
    """One head of binary spikes: told from attributes, before checks of microseconds."""
    return (
        type(q) is type(k) is type(v) is PackedSpikes
        and q.shape == k.shape == v.shape
        and len(q.shape) == 4
        and q.levels == k.levels == v.levels == 1
        and not (q.signed or k.signed or v.signed)
        and variant in ("1", "3", "4", "integer")
        and type(heads) is int
        and heads == 1
        and type(threshold) is float
        and type(neuron) is Neuron
        and neuron.levels is None
    )


def _largest(q: PackedSpikes, k: PackedSpikes, v: PackedSpikes | None, heads: int) -> int:
    """A bound on the sums."""
    levels = 1 if v is None else q.levels * k.levels * v.levels
    return q.shape[2] * (q.shape[3] // heads) * levels


def _grouped(x: PackedSpikes) -> Words:
    """Words (T B, L, W) of binary spikes."""
    words: Words = x.words.reshape(x.shape[0] * x.shape[1], x.shape[2], x.words.shape[2])
    return words


def _by_head(x: PackedSpikes, heads: int) -> Planes:
    size = x.size // heads
    words = split(x.words, heads, size)
    shape = len(words), x.shape[0] * x.shape[1], x.shape[2], heads, words.shape[3]
    return Planes(words.reshape(shape), x.levels, x.signed, x.code, size)


def _tiled(limits: npt.NDArray[np.int32], v: PackedSpikes, heads: int) -> npt.NDArray[np.int32]:
    """Limits (levels, 1 or V) as (levels, 1 or heads, V / heads)."""
    size = v.size // heads
    if limits.shape[1] == 1 and v.size != 1:
        return np.ascontiguousarray(np.broadcast_to(limits[..., None], (len(limits), 1, size)))
    return limits.reshape(len(limits), heads, size)


def _merged(words: Words, v: PackedSpikes, heads: int) -> PackedSpikes:
    """Words (levels, T B, L, heads, W) as spikes of the shape of v."""
    rows = words.reshape(len(words), v.rows, heads, words.shape[4])
    return PackedSpikes.trusted(merge(rows, v.size // heads), v.shape, len(words), time_axis=0)


def _host(backend: str) -> str:
    """The backend for `lif_scan`, where it has it."""
    return backend if backend in NEURONS else "auto"
