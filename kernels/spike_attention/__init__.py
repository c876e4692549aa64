"""Accumulate-only attention: a state per head, read by the query's spikes."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from neurosim.kernels._metal import metal_backends
from neurosim.kernels.spike_attention import _decaying, _exact, cpu, metal, reference
from neurosim.kernels.spike_attention._types import Attention

__all__ = ["BACKENDS", "Attention", "spike_attention", "spike_attention_step"]

BACKENDS: dict[str, Any] = {"cpu": cpu, "reference": reference, **metal_backends(metal)}


def spike_attention(
    q: Any,
    k: Any,
    v: Any,
    decay_shift: npt.ArrayLike | None = None,
    fraction_bits: int | None = None,
    state: Any = None,
    backend: str = "auto",
    causal: bool = True,
    output: str = "int32",
    threshold: npt.ArrayLike | None = None,
) -> Attention:
    """Attention over L tokens by additions, subtractions and shifts of integers, no softmax.

    Without `decay_shift`, per stream (a head of a batch, of a time step, ...):

        S += k v^T       row i gets v added |k_i| times
        out = q S        row i of S is added |q_i| times

    That is (q k^T masked to tokens j <= i) v: for integers, linear attention (Katharopoulos et al.,
    2020) is exact, and the score matrix is never formed. With causal=False every token reads the
    final S: q (k^T v).

    With `decay_shift`, per token and head, S in fixed point (F = `fraction_bits`):

        S -= S >> n      decay by 1 - 2^-n, arithmetic shift; not at all where n = 0
        S += k v^T 2^F
        out = q S        in units of 2^-F

    Exact: all backends give the same integers, and L tokens at once the same as L single steps.
    Input for which S or, without decay, the sums could exceed int32 is refused. Without decay,
    |S| <= |S_0| + L max|k| max|v| and |out| <= D max|q| max|S|, with the levels of the spikes for
    their maxima. With decay and K = max|k| max|v| 2^F of a head,
    |S| <= min(|S_0| + L K, max(|S_0|, 2^n (K + 1) - 1)), the second only for n > 0 (geometric
    series); there `out` is int64 and cannot overflow.

    Args:
        q, k, v: PackedSpikes, or spike counts as int8 arrays, numpy or MLX; binary, 0..D or signed.
            Without decay (..., L, D), v (..., L, V): streams lead, and 64 channels are the fast
            case. With decay (L, H, D).
        decay_shift: n of each head, integers 0..30, (H,); None for no decay.
        fraction_bits: F, 0..30; with a decay_shift only.
        state: S before the first token, (..., D, V), int32 or int16, or int32 (H, D, D) with
            decay; zero if None. Not changed.
        backend: "auto", "cpu" (Numba, one thread), "reference" (numpy), "metal" or
            "metal-emulated". "auto" is Metal for MLX arrays where there is a GPU, else the CPU.
        causal: whether token i sees tokens 0..i only; must be so with decay.
        output: "int32" for sums (int64 with decay), "spikes" for sums >= threshold.
        threshold: of the spikes, integers in the units of the sums: one, or some that broadcast
            to the leading axes (..., such as one per head), or (H,) with decay.

    Returns:
        Attention: out, of the shape of v, an array or PackedSpikes; state after the last token,
        int32. Arrays are MLX if q is, without gradients: those has `trainable_attention`.
    """
    if output not in ("int32", "spikes"):
        raise ValueError(f"expected output int32 or spikes, got {output!r}")
    if (output == "spikes") != (threshold is not None):
        raise ValueError(
            f"expected a threshold for spikes, and for spikes only; got {threshold!r} with output "
            f"{output}"
        )
    if decay_shift is None:
        _refuse_fraction(fraction_bits)
        return _exact.attend(BACKENDS, (q, k, v), state, backend, causal, threshold)
    if not causal:
        raise ValueError("expected causal attention with decay_shift, got causal=False; drop one")
    return _decaying.attend(
        BACKENDS, (q, k, v), decay_shift, fraction_bits, state, backend, threshold
    )


def spike_attention_step(
    state: Any,
    q: Any,
    k: Any,
    v: Any,
    decay_shift: npt.ArrayLike | None = None,
    fraction_bits: int | None = None,
    backend: str = "auto",
) -> Any:
    """One token of `spike_attention`; `state` is updated in place.

    Refused, with `state` unchanged: with decay, if the bound given there (L = 1) exceeds int32;
    without, if a count of the state or a sum does not fit its type.

    Args:
        state: writable, C-contiguous; without decay (..., D, V), int16 (half the memory) or
            int32; with decay (H, D, D), int32. An MLX state gets new values assigned.
        q, k, v: as there, without the token axis: (..., D) and (..., V), or (H, D) with decay.
        decay_shift, fraction_bits, backend: as there.

    Returns:
        out, of the shape of v, int32, or int64 with decay.
    """
    if decay_shift is None:
        if backend == "auto" and fraction_bits is None:
            quick = cpu.quick_step(state, q, k, v)  # before checks that take longer than the token
            if quick is not None:
                return quick
        _refuse_fraction(fraction_bits)
        return _exact.step(BACKENDS, state, (q, k, v), backend)
    if backend == "auto":
        decayed = cpu.quick_decaying_step(state, q, k, v, decay_shift, fraction_bits)
        if decayed is not None:
            return decayed
    return _decaying.step(BACKENDS, state, (q, k, v), decay_shift, fraction_bits, backend)


def _refuse_fraction(fraction_bits: int | None) -> None:
    if fraction_bits is not None:
        raise ValueError(
            f"expected no fraction_bits without decay_shift, got {fraction_bits}; give both"
        )
