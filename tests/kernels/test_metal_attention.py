"""Spike attention as Metal kernels, in the emulator and on a GPU where there is one."""

from __future__ import annotations

import functools

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels import spike_attention, spike_attention_step
from neurosim.kernels._metal import Launch, on_gpu
from neurosim.kernels.metal_emulator import emulate, emulate_traced, unavailable
from neurosim.kernels.packed import PackedSpikes, pack
from neurosim.kernels.spike_attention import metal, reference
from neurosim.kernels.spike_attention._types import planes

NO_EMULATOR = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
LAUNCHERS = pytest.mark.parametrize(
    "launch",
    [
        pytest.param(functools.partial(emulate, order=order), id=order, marks=NO_EMULATOR)
        for order in ("forward", "reverse", "shuffled")
    ]
    + [
        pytest.param(
            on_gpu, id="gpu", marks=pytest.mark.skipif(not mx.metal.is_available(), reason="no GPU")
        )
    ],
)


def _spikes(rng, shape: tuple[int, ...], density=0.4, levels=1, signed=False, code="bits"):
    counts = rng.integers(1, levels + 1, shape) * (rng.random(shape) < density)
    return pack(counts * (rng.choice([-1, 1], shape) if signed else 1), levels, signed, code)


def _check(launch: Launch, given: list[PackedSpikes], heads: int, state, causal: bool) -> None:
    """Sums, spikes at the median and in three levels per head, and the state."""
    groups, tokens = given[0].shape[:2]
    operands = [planes(x, groups, tokens // heads, heads) for x in given]
    shape = groups, heads, given[0].size, given[2].size
    fresh = state is None
    start = np.full(shape, 77, np.int32) if fresh else state
    mine, wanted = start.copy(), start.copy()
    sums = reference.linear(*operands, wanted, fresh, causal, None)
    found = metal.linear(launch, *operands, mine, fresh, causal, None)
    np.testing.assert_array_equal(found, sums)
    np.testing.assert_array_equal(mine, wanted)
    middle = int(np.median(sums)) if sums.size else 0
    edges = middle + np.arange(3 * heads * given[2].size, dtype=np.int32).reshape(3, heads, -1) // 9
    for thresholds in (edges[:1, :1], edges):
        expected = reference.linear(*operands, wanted, True, causal, thresholds)
        fired = metal.linear(launch, *operands, None, True, causal, thresholds)
        assert fired.dtype == np.uint64
        np.testing.assert_array_equal(fired, expected)


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "all"])
@pytest.mark.parametrize("size", [1, 24, 64, 65, 130])
@LAUNCHERS
def test_sizes(launch: Launch, size: int, causal: bool) -> None:
    rng = np.random.default_rng(size)
    given = [_spikes(rng, (2, 6, n)) for n in (size, size, max(1, size // 2))]
    _check(launch, given, 2, None, causal)
    state = rng.integers(0, 1000, (2, 1, size, max(1, size // 2))).astype(np.int32)
    _check(launch, given, 1, state, causal)


@pytest.mark.parametrize("code", ["thermometer", "bits"])
@pytest.mark.parametrize(("levels", "signed"), [(4, False), (16, True)], ids=str)
@LAUNCHERS
def test_levels(launch: Launch, levels: int, signed: bool, code: str) -> None:
    rng = np.random.default_rng(levels)
    given = [_spikes(rng, (1, 4, n), 0.5, levels, signed, code) for n in (33, 33, 20)]
    state = rng.integers(-99, 99, (1, 1, 33, 20)).astype(np.int32)
    _check(launch, given, 1, state, True)
    _check(launch, given, 2, None, False)


@pytest.mark.parametrize("value", [0, 1], ids=["silent", "firing"])
@pytest.mark.parametrize("shape", [(0, 2, 5), (2, 0, 5), (2, 2, 0), (1, 3, 64)], ids=str)
@LAUNCHERS
def test_empty_silent_firing(launch: Launch, shape: tuple[int, ...], value: int) -> None:
    x = pack(np.full(shape, value, np.int8))
    for causal in (True, False):
        _check(launch, [x, x, x], 1, None, causal)
        state = np.full((shape[0], 1, shape[2], shape[2]), 5, np.int32)
        _check(launch, [x, x, x], 1, state, causal)


@pytest.mark.parametrize("kind", [np.int16, np.int32])
@pytest.mark.parametrize(("size", "columns"), [(1, 1), (33, 64), (70, 300)], ids=str)
@LAUNCHERS
def test_steps(launch: Launch, size: int, columns: int, kind: type) -> None:
    rng = np.random.default_rng(size)
    signed = kind is np.int32
    given = [_spikes(rng, (2, n), 0.4, 3, signed) for n in (size, size, columns)]
    operands = [planes(x, 2, 1) for x in given]
    mine = rng.integers(0, 100, (2, 1, size, columns)).astype(kind)
    wanted = mine.copy()
    for _ in range(2):
        sums, fits = metal.linear_step(launch, *operands, mine)
        expected, _ = reference.linear_step(*operands, wanted)
        assert fits
        np.testing.assert_array_equal(sums, expected)
        np.testing.assert_array_equal(mine, wanted)
    mine[:] = np.iinfo(kind).max - 8  # three times three is one too many
    before = mine.copy()
    one = [pack(np.full(x.shape, 3, np.int8), 3) for x in given[1:]]
    _, fits = metal.linear_step(launch, operands[0], *(planes(x, 2, 1) for x in one), mine)
    assert not fits
    np.testing.assert_array_equal(mine, before)


@pytest.mark.parametrize("large", [False, True], ids=["int32 sums", "int64 sums"])
@pytest.mark.parametrize("size", [1, 24, 48, 65])
@LAUNCHERS
def test_decay(launch: Launch, size: int, large: bool) -> None:
    rng = np.random.default_rng(size)
    q, k, v = (_spikes(rng, (5, 2, size), 0.6, 100, True).unpack() for _ in range(3))
    start = rng.integers(-5000, 5000, (2, size, size)).astype(np.int32)
    shifts, bits = np.array([0, 3]), 4
    mine, wanted = start.copy(), start.copy()
    bound = 2**31 - 1 if large else 5000 + 5 * 100**2 * 2**bits
    sums = reference.scan(q, k, v, shifts, bits, wanted, bound)
    np.testing.assert_array_equal(metal.scan(launch, q, k, v, shifts, bits, mine, bound), sums)
    np.testing.assert_array_equal(mine, wanted)
    out = np.empty((2, size), np.int64)
    metal.step(launch, start, q[0], k[0], v[0], shifts, bits, out)
    np.testing.assert_array_equal(out, sums[0])


@NO_EMULATOR
@examples(15)
@given(
    seed=st.integers(0, 2**32 - 1),
    groups=st.integers(0, 2),
    tokens=st.integers(0, 5),
    size=st.integers(0, 70),
    density=st.sampled_from([0.05, 0.5, 1.0]),
    levels=st.sampled_from([1, 4]),
    signed=st.booleans(),
    causal=st.booleans(),
)
def test_public_functions(
    seed: int, groups: int, tokens: int, size: int, density: float, levels: int, signed: bool,
    causal: bool,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    shape = groups, tokens, size
    q, k, v = (_spikes(rng, shape, density, levels, signed) for _ in range(3))
    for options in ({}, {"output": "spikes", "threshold": 3}):
        wanted = spike_attention(q, k, v, backend="reference", causal=causal, **options)
        found = spike_attention(q, k, v, backend="metal-emulated", causal=causal, **options)
        pairs = [x.words if options else x for x in (found.out, wanted.out)]
        np.testing.assert_array_equal(*pairs)
        np.testing.assert_array_equal(found.state, wanted.state)
    sums, final = spike_attention(q, k, v)
    state = np.zeros((groups, size, size), np.int16)
    for t in range(tokens):
        token = [pack(x.unpack()[:, t], levels, signed) for x in (q, k, v)]
        step = spike_attention_step(state, *token, backend="metal-emulated")
        np.testing.assert_array_equal(step, sums[:, t])
    np.testing.assert_array_equal(state, final)
    counts = [x.unpack() for x in (q, k, v)]  # (L, H, D) for the form with decay
    wanted, found = (
        spike_attention(*counts, np.arange(tokens), 3, backend=name)
        for name in ("cpu", "metal-emulated")
    )
    np.testing.assert_array_equal(found.out, wanted.out)
    np.testing.assert_array_equal(found.state, wanted.state)


@NO_EMULATOR
def test_traffic() -> None:
    """Rows of silent channels are not touched; spikes leave as bits; memory as documented."""
    rng = np.random.default_rng(0)
    given = [_spikes(rng, (1, 16, 64), 0.1) for _ in range(3)]
    traces = []

    def traced(*arguments, **options):  # type: ignore[no-untyped-def]
        results, trace = emulate_traced(*arguments, **options)
        traces.append(trace)
        return results

    operands = [planes(x, 1, 16) for x in given]
    metal.linear(traced, *operands, None, True, True, np.full((1, 1, 64), 2, np.int32))
    (trace,) = traces
    counts = [x.unpack().astype(int) for x in given]
    rows = counts[0].sum() + counts[1].sum()  # read for q; read and written for k
    assert trace.threadgroups == 2
    assert trace.threadgroup_memory == 64 * 32 * 4
    assert trace.threadgroup_read == 4 * 64 * rows
    assert trace.threadgroup_written == 4 * 64 * (64 + counts[1].sum())
    out = next(b for b in trace.buffers if b.name == "out")
    assert (out.written, out.size) == (16 * 8, 16 * 8)


@pytest.mark.parametrize("backend", ["metal", "metal-emulated"])
def test_refusals(backend: str) -> None:
    x = pack(np.ones((1, 2, 257), np.int8))
    with pytest.raises(ValueError, match="backend 'metal.* cannot run this"):
        spike_attention(x, x, x, backend=backend)
    if not mx.metal.is_available():
        small = pack(np.ones((1, 2, 4), np.int8))
        with pytest.raises(ValueError, match="no Metal device here.*use metal-emulated"):
            spike_attention(small, small, small, backend="metal")
    assert metal.supports(256) is None
    assert "257 rows" in str(metal.supports(257))
