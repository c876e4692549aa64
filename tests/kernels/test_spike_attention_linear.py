"""Attention without decay: every backend against the masked quadratic form, steps, refusals."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels.packed import PackedSpikes, pack
from neurosim.kernels.spike_attention import BACKENDS, spike_attention, spike_attention_step

RUNNABLE = [name for name in BACKENDS if not name.startswith("metal")]
CODES = ("thermometer", "bits")


def _spikes(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    density: float = 0.3,
    levels: int = 1,
    signed: bool = False,
    code: str = "thermometer",
) -> PackedSpikes:
    counts = rng.integers(1, levels + 1, shape) * (rng.random(shape) < density)
    if signed:
        counts *= rng.choice([-1, 1], shape)
    return pack(counts, levels, signed, code)


def _quadratic(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool, start: np.ndarray | int = 0
) -> np.ndarray:
    """(q k^T masked) v + q S_0 in int64, with the scores that no backend forms."""
    q, k, v = (x.astype(np.int64) for x in (q, k, v))
    scores = q @ k.swapaxes(-1, -2)
    if causal:
        scores = np.tril(scores)
    state = np.zeros((*q.shape[:-2], q.shape[-1], v.shape[-1]), np.int64) + start
    return scores @ v + q @ state


def _check(
    q: PackedSpikes, k: PackedSpikes, v: PackedSpikes, backend: str, state: np.ndarray | None = None
) -> np.ndarray:
    """All of spike_attention against the quadratic form; the causal sums."""
    counts = [np.asarray(x.unpack(), np.int64) for x in (q, k, v)]
    start = 0 if state is None else state.astype(np.int64)
    final = counts[1].swapaxes(-1, -2) @ counts[2] + start
    for causal in (False, True):
        wanted = _quadratic(*counts, causal, start)
        out, after = spike_attention(q, k, v, state=state, backend=backend, causal=causal)
        assert (out.dtype, after.dtype) == (np.int32, np.int32)
        np.testing.assert_array_equal(out, wanted)
        np.testing.assert_array_equal(after, final)
        if wanted.size:
            edges = np.unique(wanted)
            for threshold in (edges[0], edges[len(edges) // 2], edges[-1], edges[-1] + 1):
                fired, after = spike_attention(
                    q, k, v, None, None, state, backend, causal, "spikes", int(threshold)
                )
                np.testing.assert_array_equal(fired.unpack(), wanted >= threshold)  # ties fire
                np.testing.assert_array_equal(after, final)
    return wanted


@pytest.mark.parametrize("size", [1, 63, 64, 65, 123, 256])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("backend", RUNNABLE)
def test_sizes(backend: str, lead: tuple[int, ...], size: int) -> None:
    rng = np.random.default_rng(size)
    q, k, v = (_spikes(rng, (*lead, 37, size), 0.4) for _ in range(3))
    assert _check(q, k, v, backend).any()


@pytest.mark.parametrize("shape", [(0, 5, 64), (2, 0, 64), (2, 5, 0), (0, 0, 0)], ids=str)
@pytest.mark.parametrize("backend", RUNNABLE)
def test_empty(backend: str, shape: tuple[int, ...]) -> None:
    x = pack(np.zeros(shape, np.int8))
    assert not _check(x, x, x, backend).any()
    fired, _ = spike_attention(x, x, x, backend=backend, output="spikes", threshold=0)
    assert (fired.shape, fired.count) == (shape, fired.rows * fired.size)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("signed", [False, True], ids=["counts", "signed"])
@pytest.mark.parametrize("levels", [1, 2, 4, 16])
@pytest.mark.parametrize("backend", RUNNABLE)
def test_levels(backend: str, levels: int, signed: bool, code: str) -> None:
    """Planes need their cross terms; keys and values of other levels and widths than queries."""
    rng = np.random.default_rng(levels)
    q = _spikes(rng, (2, 70, 65), 0.5, levels, signed, code)
    k = _spikes(rng, (2, 70, 65), 0.5, max(1, levels // 2), signed, code)
    v = _spikes(rng, (2, 70, 130), 0.5, levels, False, "bits")
    _check(q, k, v, backend)
    start = rng.integers(-9 if signed else 0, 10_000, (2, 65, 130)).astype(np.int32)
    _check(q, k, v, backend, start)


@pytest.mark.parametrize("firing", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("backend", RUNNABLE)
def test_silent_and_firing(backend: str, firing: tuple[int, ...]) -> None:
    q, k, v = (pack(np.full((2, 1100, 64), value, np.int8)) for value in firing)
    out, _ = spike_attention(q, k, v, backend=backend)
    wanted = 64 * np.arange(1, 1101) if all(firing) else np.zeros(1100, int)
    np.testing.assert_array_equal(out, np.broadcast_to(wanted[:, None], out.shape))


@pytest.mark.parametrize("levels", [1, 4])
def test_more_tokens_than_int16_counts(levels: int) -> None:
    """40,000 tokens, all firing: sum i is D levels^3 (i + 1), past the narrow state and uint16."""
    tokens = 40_000
    x = pack(np.full((tokens, 64), levels, np.int8), levels)
    out, state = spike_attention(x, x, x, backend="cpu")
    wanted = 64 * levels**3 * np.arange(1, tokens + 1)
    np.testing.assert_array_equal(out, np.broadcast_to(wanted[:, None], out.shape))
    assert (state == levels**2 * tokens).all()
    fired, _ = spike_attention(x, x, x, output="spikes", threshold=int(wanted[35_000]))
    np.testing.assert_array_equal(fired.row_counts, 64 * (np.arange(tokens) >= 35_000))
    out, _ = spike_attention(x, x, x, backend="cpu", causal=False)
    assert (out == wanted[-1]).all()


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    groups=st.integers(0, 3),
    tokens=st.integers(0, 200),
    size=st.integers(0, 140),
    columns=st.integers(0, 140),
    density=st.sampled_from([0.02, 0.3, 1.0]),
    levels=st.tuples(*[st.sampled_from([1, 2, 4, 100])] * 3),
    signed=st.booleans(),
    code=st.sampled_from(CODES),
    bits=st.sampled_from([0, 3, 14, 15, 16, 20]),
)
def test_backends_agree(
    seed: int,
    groups: int,
    tokens: int,
    size: int,
    columns: int,
    density: float,
    levels: tuple[int, ...],
    signed: bool,
    code: str,
    bits: int,
) -> None:
    """Also across the change from int16 to int32, wherever the first state puts it."""
    rng = np.random.default_rng(seed)
    shape = groups, tokens
    q = _spikes(rng, (*shape, size), density, levels[0], signed, code)
    k = _spikes(rng, (*shape, size), density, levels[1], signed and bool(seed % 2), code)
    v = _spikes(rng, (*shape, columns), density, levels[2], signed, code)
    start = rng.integers(0, 2**bits, (groups, size, columns)).astype(np.int32)
    if size * levels[0] * (2**bits + tokens * levels[1] * levels[2]) >= 2**31:
        start[:] = 0
    if size * levels[0] * tokens * levels[1] * levels[2] >= 2**31:
        return
    threshold = int(rng.integers(-5, 50))
    for state in (None, start):
        for causal in (True, False):
            results = [
                spike_attention(q, k, v, None, None, state, backend, causal, *spikes)
                for backend in RUNNABLE
                for spikes in (("int32",), ("spikes", threshold))
            ]
            out, after = results[0]
            for i, result in enumerate(results):
                np.testing.assert_array_equal(result.state, after)
                found = result.out if i % 2 == 0 else result.out.unpack()
                np.testing.assert_array_equal(found, out if i % 2 == 0 else out >= threshold)


@pytest.mark.parametrize("backend", RUNNABLE)
def test_thresholds_per_head(backend: str) -> None:
    rng = np.random.default_rng(0)
    q, k, v = (_spikes(rng, (2, 3, 20, 65), 0.5) for _ in range(3))
    sums, _ = spike_attention(q, k, v)
    for edges in (np.array([20, 60, 100]), np.array([[10], [90]]), np.arange(6).reshape(2, 3) * 20):
        fired, _ = spike_attention(q, k, v, backend=backend, output="spikes", threshold=edges)
        full = np.broadcast_to(edges, (2, 3))[..., None, None]
        np.testing.assert_array_equal(fired.unpack(), sums >= full)


@pytest.mark.parametrize("backend", RUNNABLE)
def test_resumable_and_causal(backend: str) -> None:
    rng = np.random.default_rng(1)
    counts = [(rng.random((3, 50, 64)) < 0.3).astype(np.int8) for _ in range(3)]
    out, end = spike_attention(*counts, backend=backend)
    first, middle = spike_attention(*(x[:, :20] for x in counts), backend=backend)
    assert first.flags.c_contiguous
    rest, last = spike_attention(*(x[:, 20:] for x in counts), state=middle, backend=backend)
    np.testing.assert_array_equal(np.concatenate([first, rest], 1), out)
    np.testing.assert_array_equal(last, end)
    changed = [x.copy() for x in counts]
    for x in changed:
        x[:, 30:] = 1 - x[:, 30:]
    other, _ = spike_attention(*changed, backend=backend)
    np.testing.assert_array_equal(other[:, :30], out[:, :30])
    assert (other[:, 30:] != out[:, 30:]).any()


def test_kinds_of_arrays() -> None:
    """int8 like packed, any layout; MLX in, MLX out."""
    rng = np.random.default_rng(2)
    counts = [_spikes(rng, (2, 30, 10), 0.5, 3, True).unpack() for _ in range(3)]
    flipped = [x[:, ::-1].copy() for x in counts]
    out, state = spike_attention(*(pack(x, 3, True) for x in counts))
    for same in (counts, [np.asfortranarray(x) for x in counts], [x[:, ::-1] for x in flipped]):
        found = spike_attention(*same)
        np.testing.assert_array_equal(found.out, out)
        np.testing.assert_array_equal(found.state, state)
    found = spike_attention(*(mx.array(x) for x in counts))
    assert isinstance(found.out, mx.array) and isinstance(found.state, mx.array)
    assert (found.out.dtype, found.state.dtype) == (mx.int32, mx.int32)
    np.testing.assert_array_equal(np.asarray(found.out), out)
    memory = mx.zeros((2, 10, 10), mx.int32)
    step = spike_attention_step(memory, *(mx.array(x[:, 0]) for x in counts))
    np.testing.assert_array_equal(np.asarray(step), out[:, 0])
    assert np.asarray(memory).any()


X = pack(np.ones((2, 3, 8), np.int8))
STATE = np.zeros((2, 8, 8), np.int32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": pack(np.ones((2, 4, 8)))}, r"one shape \(\.\.\., L, D\).* got \(2, 3, 8\), \(2, 4"),
        ({"k": pack(np.ones((2, 3, 9)))}, "q and k of one shape"),
        ({"v": pack(np.ones((1, 3, 8)))}, "but for its channels"),
        ({"q": pack(np.ones(8)), "k": pack(np.ones(8)), "v": pack(np.ones(8))}, "q and k of one"),
        ({"q": np.ones((2, 3, 8))}, "PackedSpikes or int8 spike counts, got float64"),
        ({"q": np.full((2, 3, 8), -128, np.int8)}, "-127..127, got -128"),
        ({"state": STATE.astype(np.int64)}, "int16 or int32 state of shape .*got int64"),
        ({"state": STATE[0]}, r"got int32 \(8, 8\)"),
        ({"fraction_bits": 4}, "no fraction_bits without decay_shift, got 4"),
        ({"output": "bits"}, "output int32 or spikes, got 'bits'"),
        ({"output": "spikes"}, "a threshold for spikes"),
        ({"threshold": 3}, "for spikes only; got 3"),
        ({"output": "spikes", "threshold": 1.5}, "integer thresholds .* got float64"),
        ({"output": "spikes", "threshold": 2**31}, "thresholds within int32, got 2147483648"),
        ({"output": "spikes", "threshold": [1, 2, 3]}, r"leading axes \(2,\), got shape \(3,\)"),
        ({"decay_shift": [1, 2], "fraction_bits": 1, "causal": False}, "causal attention"),
        ({"decay_shift": [1, 1, 1]}, "fraction_bits 0..30, got None"),
        ({"backend": "gpu"}, "got 'gpu'"),
    ],
    ids=lambda x: "" if isinstance(x, str) else "-".join(x),
)
def test_bad_input(change: dict, message: str) -> None:
    arguments = {"q": X, "k": X, "v": X}
    spike_attention(**arguments)
    with pytest.raises(ValueError, match=message):
        spike_attention(**{**arguments, **change})


def test_sums_beyond_int32_are_refused() -> None:
    """D max|q| (|S_0| + L max|k| max|v|) at the limit, with a state of either sign."""
    x = pack(np.zeros((1, 4, 64), np.int8))
    state = np.full((1, 64, 64), 2**25 - 5, np.int32)
    spike_attention(x, x, x, state=state)
    for wrong in (state + 1, -state - 1):
        with pytest.raises(ValueError, match="sums within int32, got up to 2147483648 for 4"):
            spike_attention(x, x, x, state=wrong)


def test_spikes_with_decay() -> None:
    """The decaying form thresholds too, per head, and takes packed counts and MLX arrays."""
    rng = np.random.default_rng(3)
    counts = [_spikes(rng, (12, 2, 9), 0.5, 3, True).unpack() for _ in range(3)]
    shifts = np.array([2, 3])
    sums, state = spike_attention(*counts, shifts, 4)
    edges = np.array([100, 10])
    packed = [pack(x, 3, True) for x in counts]
    fired, after = spike_attention(*packed, shifts, 4, output="spikes", threshold=edges)
    np.testing.assert_array_equal(fired.unpack(), sums >= edges[:, None])
    np.testing.assert_array_equal(after, state)
    found = spike_attention(*(mx.array(x) for x in counts), shifts, 4)
    assert isinstance(found.out, mx.array)
    np.testing.assert_array_equal(np.asarray(found.out), sums)
    memory = mx.zeros(state.shape, mx.int32)
    for t in range(12):
        token = (mx.array(x[t]) for x in counts)
        step = spike_attention_step(memory, *token, shifts, 4)
        np.testing.assert_array_equal(np.asarray(step), sums[t])
    np.testing.assert_array_equal(np.asarray(memory), state)
    with pytest.raises(ValueError, match=r"one per head \(2,\), got int64 \(3,\)"):
        spike_attention(*counts, shifts, 4, output="spikes", threshold=[1, 2, 3])
