"""MLX arrays in kernels without a gradient: refused in transforms, never a silent zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels import (
    PackedSpikes,
    PackedWeight,
    event_counts,
    grad_weight,
    lif_backward,
    lif_scan,
    pack,
    spike_attention,
    spike_attention_step,
    spike_conv2d,
    spike_linear,
    spike_linear_lif,
    spike_quantise,
    spike_taps,
)

Call = Callable[[mx.array], Any]


def _bits(*shape: int) -> np.ndarray:
    return (np.random.default_rng(0).random(shape) < 0.5).astype(np.int8)


def _mlx(*shape: int, kind: Any = np.float32) -> mx.array:
    return mx.array(np.random.default_rng(1).integers(0, 2, shape).astype(kind))


def _packed(*shape: int) -> PackedSpikes:
    return pack(_bits(*shape))


def _step(k: mx.array) -> Any:
    return spike_attention_step(np.zeros((2, 64, 64), np.int32), _bits(2, 64), k, _bits(2, 64))


READERS: dict[str, tuple[Call, mx.array]] = {
    "spike_linear": (lambda w: spike_linear(_bits(4, 16), w), _mlx(16, 8)),
    "spike_linear of counts": (lambda s: spike_linear(s, _bits(16, 8)), _mlx(4, 16, kind=np.int8)),
    "spike_conv2d": (lambda w: spike_conv2d(_packed(5, 5, 3), w), _mlx(3, 3, 3, 4)),
    "spike_linear_lif": (lambda w: spike_linear_lif(_packed(4, 2, 16), w), _mlx(16, 8)),
    "lif_scan": (lambda x: lif_scan(x).spikes, _mlx(4, 2, 8)),
    "grad_weight": (lambda g: grad_weight(_bits(4, 16), g), _mlx(4, 8)),
    "pack": (lambda x: pack(x).words, _mlx(4, 8)),
    "spike_attention": (
        lambda v: spike_attention(_bits(2, 5, 64), _bits(2, 5, 64), v).out,
        _mlx(2, 5, 64, kind=np.int8),
    ),
    "spike_attention with decay": (
        lambda q: spike_attention(q, _bits(5, 2, 8), _bits(5, 2, 8), [1, 2], 4).out,
        _mlx(5, 2, 8, kind=np.int8),
    ),
    "spike_attention_step": (_step, _mlx(2, 64, kind=np.int8)),
    "spike_quantise": (lambda x: spike_quantise(x)[1], _mlx(2, 8)),
    "spike_quantise scale": (lambda s: spike_quantise(_mlx(2, 8), scale=s)[0], _mlx(2, 1) + 1),
    "lif_scan state": (lambda v: lif_scan(_mlx(4, 2, 8), state=v).spikes, _mlx(2, 8)),
    "a kernel that is given decay": (lambda d: lif_scan(_mlx(4, 2, 8), decay=d).spikes, _mlx(8)),
    "lif_backward": (lambda g: lif_backward(g, _mlx(4, 2, 8), _mlx(4, 2, 8)).x, _mlx(4, 2, 8)),
    "spike_taps": (lambda w: spike_taps(_bits(4, 8), w), _mlx(3, 8)),
    "PackedWeight.pack": (lambda w: PackedWeight.pack(w).panels, _mlx(3, 8)),
    "event_counts": (lambda n: event_counts(n)["unary"], _mlx(2, 8, kind=np.int8)),
}


@pytest.mark.parametrize("name", READERS)
def test_compile_and_vmap_are_refused(name: str) -> None:
    call, x = READERS[name]
    call(x)
    expected = f"{name.split()[0]}.*runs outside mx.compile and mx.vmap only"
    with pytest.raises(ValueError, match=expected):
        mx.compile(call)(x)
    with pytest.raises(ValueError, match=expected):
        mx.vmap(call)(mx.stack([x, x]))


SMOOTH: dict[str, tuple[Call, mx.array, str]] = {
    "spike_linear": (*READERS["spike_linear"], "trainable_linear"),
    "spike_conv2d": (*READERS["spike_conv2d"], "trainable_conv2d"),
    "grad_weight": (*READERS["grad_weight"], "it is one"),
    "lif_scan": (
        lambda x: lif_scan(x, save_membrane=True).membrane, _mlx(4, 2, 8), "trainable_lif",
    ),
    "lif_scan state": (lambda x: lif_scan(x).state, _mlx(4, 2, 8), "trainable_lif"),
    "lif_scan spikes": (
        lambda x: lif_scan(x).spikes.astype(mx.float32), _mlx(4, 2, 8), "trainable_lif",
    ),
    "lif_scan decay": (
        lambda d: lif_scan(_mlx(4, 2, 8), decay=d).state, mx.full((8,), 0.5), "trainable_lif",
    ),
    "lif_backward": (
        lambda g: lif_backward(g, _mlx(4, 2, 8), _mlx(4, 2, 8)).x, _mlx(4, 2, 8), "it is one",
    ),
    "spike_linear of cast counts": (
        lambda s: spike_linear(s.astype(mx.int8), _mlx(16, 8)), _mlx(4, 16), "trainable_linear",
    ),
    "spike_attention": (
        lambda q: spike_attention(q.astype(mx.int8), _bits(2, 5, 64), _bits(2, 5, 64)).out
        .astype(mx.float32), _mlx(2, 5, 64), "trainable_attention",
    ),
    "spike_attention with decay": (
        lambda q: spike_attention(q.astype(mx.int8), _bits(5, 2, 8), _bits(5, 2, 8), [1, 2], 4)
        .out.astype(mx.float32), _mlx(5, 2, 8), "trainable_attention",
    ),
    "spike_quantise": (
        lambda x: spike_quantise(x, backend="cpu")[1], _mlx(2, 8), 'backend="mlx"',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_refused_and_not_zero(name: str) -> None:
    call, x, instead = SMOOTH[name]
    with pytest.raises(ValueError, match=f"{name.split()[0]}: it has no gradient; .*{instead}"):
        mx.eval(mx.grad(lambda y: call(y).sum())(x))
    with pytest.raises(ValueError, match="it has no gradient"):
        mx.eval(*mx.jvp(lambda y: call(y).sum(), [x], [x]))


def test_stopped_gradients_pass() -> None:
    """What is constant for the loss may come from any kernel."""
    x = _mlx(4, 2, 8)
    found = mx.grad(lambda y: (lif_scan(mx.stop_gradient(y)).state * y[0]).sum())(x)
    np.testing.assert_array_equal(found[0], lif_scan(x).state)


def test_other_errors_of_mlx_keep_their_text() -> None:
    with pytest.raises(Exception, match="(?i)singular|inver|LU|failed") as found:
        pack(mx.linalg.inv(mx.zeros((4, 4)), stream=mx.cpu))
    assert "mx.compile" not in str(found.value)


def test_a_differentiable_backend_stays_so() -> None:
    gradient = mx.grad(lambda x: spike_quantise(x, backend="mlx")[1].sum())(mx.array([[1.0, 2.0]]))
    np.testing.assert_allclose(np.asarray(gradient), [[0, 1 / 127]], rtol=1e-6)
