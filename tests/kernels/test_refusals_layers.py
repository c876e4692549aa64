"""What attention, SDSA, fused layers, convolutions and taps refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels import (
    PackedWeight,
    pack,
    sdsa,
    spike_attention,
    spike_attention_step,
    spike_conv2d,
    spike_linear_lif,
    spike_taps,
)

Q = np.ones((2, 3, 4), np.int8)  # (streams, L, D), or (L, H, D)
TOKEN, STATE = Q[:, 0], np.zeros((2, 4, 4), np.int32)
SPIKES = pack(np.ones((2, 3, 5)), time_axis=0)
DENSE = np.ones((5, 2), np.float32)
SMALLEST = np.full((2, 2, 2), -128, np.int8)
IMAGE, CONV = pack(np.ones((1, 4, 4, 2))), np.ones((3, 3, 2, 5), np.float32)
STORED = PackedWeight.pack(CONV.reshape(18, 5))
HEADS = pack(np.ones((2, 1, 3, 4)), time_axis=0)


def half(x: Any) -> mx.array:
    return mx.array(x).astype(mx.bfloat16)


def decaying(**options: Any) -> Callable[[], Any]:
    return lambda: spike_attention(Q, Q, Q, [1, 2, 3], **options)


def fused(**options: Any) -> Callable[[], Any]:
    return lambda: spike_linear_lif(SPIKES, DENSE, **options)


def scaled(scale: float) -> Callable[[], Any]:
    weight = PackedWeight.pack(DENSE, 8, scale=np.full(2, scale))
    return lambda: spike_linear_lif(SPIKES, weight, integer=True)


def conv(**options: Any) -> Callable[[], Any]:
    return lambda: spike_conv2d(IMAGE, CONV, **options)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "-128": (lambda: spike_attention(SMALLEST, SMALLEST, SMALLEST), "-127..127, got -128"),
    "bfloat16 spikes": (lambda: spike_attention(half(Q), Q, Q), "int8 spike counts, got float32"),
    "fraction of a bit": (decaying(fraction_bits=2.5), "fraction_bits 0..30, got 2.5"),
    "list of states": (lambda: spike_attention_step([[0]], TOKEN, TOKEN, TOKEN), "got list"),
    "bfloat16 weight": (lambda: spike_linear_lif(SPIKES, half(DENSE)), "weights.*astype"),
    "threshold lost": (fused(threshold=1e-60), "expected positive thresholds"),
    "threshold infinite": (fused(threshold=1e60), r"expected a finite threshold.* got 1e\+60"),
    "state, a list": (fused(state=[[0.0]]), "state as a numpy array, got list"),
    "negative unit": (scaled(-1.0), "expected positive scales"),
    "no unit": (scaled(0.0), "expected positive scales"),
    "bfloat16 kernel": (lambda: spike_conv2d(IMAGE, half(CONV)), "weights.*astype"),
    "half a stride": (conv(stride=1.5), "expected stride 1 or more"),
    "three paddings": (conv(padding=(1, 1, 1)), "expected padding 0 or more"),
    "threads": (conv(threads=1.5), "expected at least 1 thread"),
    "kernel": (lambda: spike_conv2d(IMAGE, STORED, kernel=(3.0, 3)), "expected kernel 1 or more"),  # type: ignore[arg-type]
    "no kernel": (lambda: spike_conv2d(IMAGE, STORED), r"expected kernel=\(kh, kw\)"),
    "arrays": (lambda: sdsa(Q, Q, Q, "1"), "expected PackedSpikes, got ndarray"),  # type: ignore[arg-type]
    "scale": (lambda: sdsa(HEADS, HEADS, HEADS, "1", scale=np.nan), "finite scale, got nan"),
    "infinite scale": (lambda: sdsa(HEADS, HEADS, HEADS, "3", scale=np.inf), "finite scale"),
    "heads": (lambda: sdsa(HEADS, HEADS, HEADS, "3", heads=2.0), "heads that divide"),  # type: ignore[arg-type]
    "lists": (lambda: spike_taps([[1]], [[1]]), "expected int8 spike counts"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("kind", [np.int16, np.int32])
def test_a_read_only_state_is_not_written(kind: type[Any]) -> None:
    """Vector stores do not ask: memory mapped for reading would have ended the process."""
    state = STATE.astype(kind)
    state.flags.writeable = False
    with pytest.raises(ValueError, match="expected a writable C-contiguous state"):
        spike_attention_step(state, TOKEN, TOKEN, TOKEN)
    assert not state.any()


def test_a_read_only_state_with_decay_is_not_written() -> None:
    state = STATE.copy()
    state.flags.writeable = False
    with pytest.raises(ValueError, match="expected a writable C-contiguous state"):
        spike_attention_step(state, TOKEN, TOKEN, TOKEN, [1, 2], 4)
    assert not state.any()


def test_what_lies_in_read_only_memory_is_read() -> None:
    frozen = Q.copy()
    frozen.flags.writeable = False
    start = np.broadcast_to(np.int32(3), STATE.shape)
    wanted = spike_attention(Q, Q, Q, state=np.full_like(STATE, 3)).out
    np.testing.assert_array_equal(spike_attention(frozen, frozen, frozen, state=start).out, wanted)


def test_one_number_is_a_square_kernel() -> None:
    np.testing.assert_array_equal(spike_conv2d(IMAGE, STORED, kernel=3), spike_conv2d(IMAGE, CONV))


def test_bfloat16_thresholds_are_numbers_too() -> None:
    wanted = spike_linear_lif(SPIKES, DENSE, threshold=0.75)
    found = spike_linear_lif(SPIKES, DENSE, threshold=mx.full((2,), 0.75, mx.bfloat16))
    np.testing.assert_array_equal(found.spikes.words, wanted.spikes.words)  # type: ignore[union-attr]


def test_halved_membranes_may_be_twice_a_sum() -> None:
    """u + u / 2 + u / 4 + ... < 2 u, and counts to 127 of bytes make sums of 16,256 per input."""

    def layer(inputs: int) -> Any:
        spikes = pack(np.zeros((1, 1, inputs), np.int8), 127, code="bits", time_axis=0)
        weight = np.zeros((inputs, 1), np.int8)
        return spike_linear_lif(spikes, weight, decay=0.5, integer=True, algo="gather").state

    assert layer(2**30 // 16_256).tolist() == [[0]]
    with pytest.raises(ValueError, match="expected sums within int32, got up to 2147515136"):
        layer(2**30 // 16_256 + 1)
