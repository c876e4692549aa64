"""Spike-driven self-attention, variants 1 to 4 and the integer form."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

from neurosim.kernels._dispatch import choose
from neurosim.kernels.lif_scan import Neuron, lif_scan
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.sdsa import cpu, reference

__all__ = ["BACKENDS", "VARIANTS", "sdsa"]

BACKENDS: dict[str, ModuleType] = {"cpu": cpu, "reference": reference}
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
    decay: float = 0.5,
    gain: float = 0.5,
    neuron: Neuron = _HARD,
    backend: str = "auto",
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

    Sums are exact integers (input for which they could exceed int32 is refused); SN sees them as
    float32 times `scale`, so all backends give the same bits.

    Args:
        q, k: (T, B, L, C); binary, but for the integer form.
        v: (T, B, L, V), None in variant 2; V = C but for the integer form.
        variant: one of `VARIANTS`.
        heads: divides C and V; the column sums of variants 1 and 2 do not depend on it.
        scale: factor on the sums, float32.
        threshold: one number; in variant 4 one per channel, (V,).
        decay, gain, neuron: see `lif_scan`.
        backend: "auto", "cpu" (Numba, one thread) or "reference" (numpy).

    Returns:
        spikes (T, B, L, V), binary or 0..levels of the neuron.
    """
    _check(q, k, v, variant, heads, threshold, neuron)
    module = choose("sdsa", backend, BACKENDS)
    factor = np.float32(scale)
    if variant in ("1", "2"):
        steps, batch, tokens, channels = q.shape
        words = [
            None if x is None else x.words.reshape(steps * batch, tokens, x.words.shape[2])
            for x in (q, k, v)
        ]
        sums = module.column_sums(words[1], words[2], channels)
        current = sums.reshape(steps, batch, channels).astype(np.float32) * factor
        fired = lif_scan(
            current, threshold, decay, gain, neuron, output="packed", backend=backend
        ).spikes
        assert isinstance(fired, PackedSpikes)
        kept = module.masked(words[0], fired.words[0])
        return PackedSpikes(kept.reshape(q.words.shape), q.shape)
    assert v is not None
    groups = q.shape[0] * q.shape[1]
    counts = [x.unpack().reshape(groups, *x.shape[2:]) for x in (q, k, v)]
    sums = module.products(*counts, heads)
    current = sums.reshape(v.shape).astype(np.float32) * factor
    out = lif_scan(current, threshold, decay, gain, neuron, output="packed", backend=backend).spikes
    assert isinstance(out, PackedSpikes)
    return out


def _check(
    q: PackedSpikes,
    k: PackedSpikes,
    v: PackedSpikes | None,
    variant: str,
    heads: int,
    threshold: npt.ArrayLike,
    neuron: Neuron,
) -> None:
    if variant not in VARIANTS:
        raise ValueError(f"expected variant {', '.join(VARIANTS)}; got {variant!r}")
    if (v is None) != (variant == "2"):
        raise ValueError(f"expected v in every variant but 2, got {v!r} in variant {variant}")
    given = [x for x in (q, k, v) if x is not None]
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
    if heads < 1 or any(x.shape[3] % heads for x in given):
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
    if np.ndim(threshold) and variant != "4":
        raise ValueError(
            f"expected one threshold in variant {variant}; variant 4 has one a channel"
        )
    if v is not None and variant not in ("1", "2"):
        largest = q.shape[2] * (q.shape[3] // heads) * q.levels * k.levels * v.levels
        if largest > _LARGEST:
            raise ValueError(
                f"expected sums within int32, got up to {largest} for {q.shape[2]} tokens of "
                f"{q.shape[3] // heads} channels; use fewer tokens, levels or channels a head"
            )
