"""MLX's product functions, watched: they report their operands as a model is counted.

While a graph is exported nothing is reported, and what has no graph (a custom function, a Numba
kernel) is replaced by plain MLX operations of the same arithmetic.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

if TYPE_CHECKING:
    from neurosim.energy.trace import _Seen


def _matmul(original: Any, seen: _Seen) -> Any:
    def call(a: mx.array, b: mx.array, **options: Any) -> Any:
        if seen.path and not seen.exporting:
            seen.product(a, b)
        return original(a, b, **options)

    return call


def _addmm(original: Any, seen: _Seen) -> Any:
    def call(c: mx.array, a: mx.array, b: mx.array, *rest: Any, **options: Any) -> Any:
        if seen.path and not seen.exporting:
            seen.product(a, b, bias=True)
        return original(c, a, b, *rest, **options)

    return call


def _attention(original: Any, seen: _Seen) -> Any:
    def call(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> Any:
        if seen.exporting:  # its arithmetic is counted apart: only what it depends on remains
            repeat = q.shape[1] // k.shape[1]
            parts = [q, *(mx.repeat(x, repeat, axis=1) for x in (k, v))]
            return mx.concatenate(parts, axis=2)[:, :, : q.shape[2], : v.shape[3]]
        if seen.path:
            seen.attend(q, k, v, options.get("mask"))
        return original(q, k, v, **options)

    return call


def _per_axis(value: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def _convolution(original: Any, seen: _Seen) -> Any:
    def call(
        inputs: mx.array,
        weight: mx.array,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        **options: Any,
    ) -> Any:
        axes = inputs.ndim - 2
        if seen.path and not seen.exporting:
            settings = {
                "stride": _per_axis(stride, axes),
                "padding": [(one, one) for one in _per_axis(padding, axes)],
                "dilation": _per_axis(dilation, axes),
                "groups": groups,
                **seen.bits,
            }
            seen.convolve(inputs, weight, settings)
        return original(inputs, weight, stride, padding, dilation, groups, **options)

    return call


def _general(original: Any, seen: _Seen) -> Any:
    def call(
        inputs: mx.array,
        weight: mx.array,
        stride: Any = 1,
        padding: Any = 0,
        kernel_dilation: Any = 1,
        input_dilation: Any = 1,
        groups: int = 1,
        flip: bool = False,
        **options: Any,
    ) -> Any:
        axes = inputs.ndim - 2
        if seen.path and not seen.exporting:
            if flip or set(_per_axis(input_dilation, axes)) != {1}:
                raise ValueError(
                    f"{seen.where}: cannot count a transposed or flipped convolution (input "
                    "dilation, flip); write it as an upsampling and a convolution"
                )
            pairs = isinstance(padding, tuple | list) and not isinstance(padding[0], int)
            before, after = padding if pairs else (padding, padding)
            sides = (_per_axis(before, axes), _per_axis(after, axes))
            settings = {
                "stride": _per_axis(stride, axes),
                "padding": list(zip(*sides, strict=True)),
                "dilation": _per_axis(kernel_dilation, axes),
                "groups": groups,
                **seen.bits,
            }
            seen.convolve(inputs, weight, settings)
        rest = (stride, padding, kernel_dilation, input_dilation, groups, flip)
        return original(inputs, weight, *rest, **options)

    return call


def _quantized(original: Any, seen: _Seen) -> Any:
    def call(
        x: mx.array,
        w: mx.array,
        scales: mx.array,
        biases: mx.array | None = None,
        transpose: bool = True,
        group_size: int | None = None,
        bits: int | None = None,
        mode: str = "affine",
        **options: Any,
    ) -> Any:
        if seen.path and not seen.exporting:
            matrix = mx.dequantize(w, scales, biases, group_size, bits, mode)
            packed = 32 * w.shape[-1] // matrix.shape[-1]
            seen.quantized(x, matrix.T if transpose else matrix, packed)
        return original(x, w, scales, biases, transpose, group_size, bits, mode, **options)

    return call


def _causal_softmax(original: Any, seen: _Seen) -> Any:
    def call(scores: mx.array) -> Any:
        if seen.exporting:  # its arithmetic is counted apart
            return scores
        if seen.path:
            seen.causal_softmax(scores)
        return original(scores)

    return call


def _fixed_norm_spikes(original: Any, seen: _Seen) -> Any:
    def call(x: mx.array, scale: mx.array, offset: mx.array, levels: int, signed: bool) -> Any:
        if seen.exporting:
            return mx.clip(mx.round(x * scale + offset), -levels if signed else 0, levels)
        return original(x, scale, offset, levels, signed)

    return call


def _decaying_attention(original: Any, seen: _Seen) -> Any:
    """Counted as the products of all pairs: what the kernel does in chunks is not seen."""

    def call(q: mx.array, k: mx.array, v: mx.array, decay_shift: Any) -> Any:
        if not seen.path:
            return original(q, k, v, decay_shift)
        keep = np.array([1 - 2.0**-n if n else 1.0 for n in decay_shift])[:, None, None]
        age = np.arange(q.shape[-2])[:, None] - np.arange(q.shape[-2])
        mask = np.where(age >= 0, keep ** np.maximum(age, 0), 0).astype(np.float32)
        return ((q @ k.swapaxes(-1, -2)) * mx.array(mask)) @ v

    return call


def _ngram_sum(original: Any, seen: _Seen) -> Any:
    def call(tables: Any, tokens: mx.array) -> Any:
        if seen.exporting and tables:  # only shapes matter here: a look-up for every table
            return mx.concatenate([table[tokens] for table in tables], axis=-1)
        if seen.path and not seen.exporting:
            seen.hashed(tokens.size, [i + 2 for i in range(len(tables))])
        return original(tables, tokens)

    return call


_Wrap = Callable[[Any, "_Seen"], Any]
_FUNCTIONS: tuple[tuple[Any, str, _Wrap], ...] = (
    (mx, "matmul", _matmul),
    (mx.array, "__matmul__", _matmul),
    (mx, "addmm", _addmm),
    (mx.fast, "scaled_dot_product_attention", _attention),
    (mx, "conv1d", _convolution),
    (mx, "conv2d", _convolution),
    (mx, "conv3d", _convolution),
    (mx, "conv_general", _general),
    (mx, "quantized_matmul", _quantized),
)
_KERNELS: tuple[tuple[str, str, _Wrap], ...] = (  # where this package's own models call them
    ("neurosim.models.transformer", "causal_softmax", _causal_softmax),
    ("neurosim.models.spike_transformer", "fixed_norm_spikes", _fixed_norm_spikes),
    ("neurosim.models.spike_transformer", "trainable_attention", _decaying_attention),
    ("neurosim.models.transformer", "ngram_sum", _ngram_sum),
    ("neurosim.models.spike_transformer", "ngram_sum", _ngram_sum),
)


def watched_functions() -> list[tuple[Any, str, _Wrap]]:
    """(owner, name, wrapper) of every function to watch."""
    kernels = [(sys.modules[m], name, wrap) for m, name, wrap in _KERNELS if m in sys.modules]
    return [*_FUNCTIONS, *kernels]
