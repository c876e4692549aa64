"""Binary spikes in heads of up to 64 channels have a kernel: equal to the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels.packed import pack
from neurosim.kernels.spike_attention import _linear_cpu, cpu, reference, spike_attention
from neurosim.kernels.spike_attention._linear_binary import supports
from neurosim.kernels.spike_attention._types import planes


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    groups=st.integers(1, 5),
    heads=st.integers(1, 3),
    tokens=st.sampled_from([1, 2, 63, 64, 65, 130]),
    channels=st.sampled_from([1, 5, 24, 63, 64]),
    columns=st.sampled_from([1, 5, 24, 63, 64]),
    density=st.sampled_from([0.0, 0.02, 0.2, 0.5, 1.0]),
    edge=st.sampled_from([None, "one", "heads"]),
    keep=st.booleans(),
)
def test_binary_equals_the_reference(
    seed: int,
    groups: int,
    heads: int,
    tokens: int,
    channels: int,
    columns: int,
    density: float,
    edge: str | None,
    keep: bool,
) -> None:
    """Sums, spikes by thresholds from negative to out of reach, and the state."""
    rng = np.random.default_rng(seed)
    operands = [
        planes(pack(rng.random((groups, tokens, heads, n)) < density), groups, tokens, heads)
        for n in (channels, channels, columns)
    ]
    assert supports(3, operands[0].words.shape[4], operands[2].words.shape[4], tokens, 1)
    thresholds = None
    if edge is not None:
        rows = 1 if edge == "one" else groups * heads
        drawn = rng.choice([-(2**31) + 1, -5, 0, 1, 2, 40, 2**16, 2**31 - 1], (1, rows, columns))
        thresholds = drawn.astype(np.int32)
    shape = groups, heads, channels, columns
    state, wanted = (np.full(shape, 7, np.int32) if keep else None for _ in range(2))
    out = cpu.linear(*operands, state, True, True, thresholds)
    expected = reference.linear(*operands, wanted, True, True, thresholds)
    np.testing.assert_array_equal(out, expected)
    if keep:
        np.testing.assert_array_equal(state, wanted)


@pytest.mark.parametrize("density", [0.1, 0.6, 1.0])
@pytest.mark.parametrize("streams", [1, 2])
def test_long_sums(density: float, streams: int) -> None:
    """Past 1,022 tokens a word of rows may exceed uint16: the sums are taken in parts."""
    rng = np.random.default_rng(3)
    tokens = 2300
    q, k, v = (pack(rng.random((streams, tokens, 64)) < density) for _ in range(3))
    expected = spike_attention(q, k, v, backend="reference")
    out = spike_attention(q, k, v)
    np.testing.assert_array_equal(out.out, expected.out)
    np.testing.assert_array_equal(out.state, expected.state)
    for threshold in (60_000, 65_535, 65_536, 100_000):
        spikes = spike_attention(q, k, v, output="spikes", threshold=threshold).out
        np.testing.assert_array_equal(spikes.unpack(), expected.out >= threshold)
    if density == 1.0:
        assert expected.out.max() == 64 * tokens


@pytest.mark.parametrize("tokens", [1090, 2**15 - 1, 2**15, 2**15 + 1])
def test_any_query_of_a_full_state(tokens: int) -> None:
    """The largest counts at every token: out is (bits of q) (tokens so far), in int64."""
    rng = np.random.default_rng(tokens)
    bits = rng.integers(0, 65, (3, tokens))
    q = pack(np.arange(64) < bits[..., None])
    full = pack(np.ones((3, tokens, 64), bool))
    wanted = bits.astype(np.int64) * np.arange(1, tokens + 1)
    found = spike_attention(q, full, full)
    np.testing.assert_array_equal(found.out, np.broadcast_to(wanted[..., None], (3, tokens, 64)))
    assert (found.state == tokens).all()
    for threshold in (-1, 2**15 - 1, 2**15, 2**16 - 1, 2**16, 64 * tokens, 2**31 - 1):
        spikes = spike_attention(q, full, full, output="spikes", threshold=threshold).out
        fired = np.where(wanted >= threshold, np.uint64(2**64 - 1), np.uint64(0))
        np.testing.assert_array_equal(spikes.words.reshape(3, tokens), fired)


def test_most_tokens() -> None:
    """The last count that int16 holds; one token more takes the general kernel, with one result."""
    tokens = 2**15
    silent, full = np.zeros((1, tokens, 64), bool), np.ones((1, tokens, 64), bool)
    silent[0, -3:] = True
    q, k = pack(silent), pack(full)
    short = [pack(x[:, 1:]) for x in (silent, full, full)]
    for token, count in (([q, k, k], tokens), (short, tokens - 1)):
        out = spike_attention(*token)
        assert (out.out[0, -1] == 64 * count).all() and (out.out[0, -3] == 64 * (count - 2)).all()
        assert not out.out[0, :-3].any() and (out.state == count).all()


def test_what_it_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts, several words, states that were handed in and attention to all tokens are general."""

    def refused(*arguments: object) -> None:
        raise AssertionError("the binary kernel was called")

    rng = np.random.default_rng(0)
    q = pack(rng.random((2, 9, 64)) < 0.3)
    counts, wide = pack(q.unpack(), 3), pack(rng.random((2, 9, 65)) < 0.3)
    expected = spike_attention(q, q, q).out
    monkeypatch.setattr(_linear_cpu, "attend", refused)
    np.testing.assert_array_equal(spike_attention(q, counts, q).out, expected)
    np.testing.assert_array_equal(
        spike_attention(q, q, q, state=np.zeros((2, 64, 64), "i4")).out, expected
    )
    spike_attention(wide, wide, q)
    spike_attention(q, q, wide)
    spike_attention(q, q, q, causal=False)
    with pytest.raises(AssertionError, match="binary kernel"):
        spike_attention(q, q, q)
