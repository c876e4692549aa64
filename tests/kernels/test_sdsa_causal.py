"""Causal spike-driven attention, and neurons without memory as integer thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels.lif_scan import Neuron, lif_scan
from neurosim.kernels.packed import PackedSpikes, pack
from neurosim.kernels.sdsa import BACKENDS, cpu, reference, sdsa
from neurosim.kernels.sdsa._edges import edges
from neurosim.kernels.sdsa._heads import merge, split

RUNNABLE = [name for name in BACKENDS if not name.startswith("metal")]
VARIANTS = ("1", "2", "3", "4", "integer")


def _spikes(
    shape: tuple[int, ...], density: float, levels: int = 1, seed: int = 0, code: str = "bits"
) -> PackedSpikes:
    rng = np.random.default_rng(seed)
    return pack(
        rng.integers(1, levels + 1, shape) * (rng.random(shape) < density), levels, code=code
    )


def _sums(q: np.ndarray, k: np.ndarray, v: np.ndarray, variant: str, heads: int, causal: bool):
    """Integer sums (T, B, L, V) that the neurons see, from the equations."""
    if variant in ("1", "2"):
        both = k * v if variant == "1" else k
        return (
            np.cumsum(both, 2) if causal else np.broadcast_to(both.sum(2, keepdims=True), q.shape)
        )
    q, k, v = (x.reshape(*x.shape[:3], heads, x.shape[3] // heads) for x in (q, k, v))
    scores = np.einsum("tblhc,tbmhc->tbhlm", q, k)
    if causal:
        scores = np.tril(scores)
    out = np.einsum("tbhlm,tbmhv->tblhv", scores, v)
    return out.reshape(*out.shape[:3], -1)


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("decay", [0.0, 0.5], ids=["memoryless", "memory"])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("size", [1, 63, 64, 96, 130])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("backend", RUNNABLE)
def test_equals_the_sums_and_the_neuron(
    backend: str, variant: str, size: int, steps: int, decay: float, causal: bool
) -> None:
    """Thresholds in the middle of what comes, and the neuron of lif_scan on the sums."""
    heads = {63: 3, 64: 2, 96: 2, 130: 2}.get(size, 1)
    integer = variant == "integer"
    levels, width = (3, 2 * size) if integer else (1, size)
    q, k = (_spikes((steps, 2, 21, size), 0.4, levels, seed) for seed in (0, 1))
    v = _spikes((steps, 2, 21, width), 0.4, levels, 2)
    sums = _sums(*(x.unpack(np.int64) for x in (q, k, v)), variant, heads, causal)
    scale = np.float32(1 / 7)
    current = sums.astype(np.float32) * scale
    threshold: np.ndarray | float = float(np.median(current)) * 0.5 + 0.01
    if variant == "4":
        threshold = np.linspace(0.5, 1.5, width) * threshold
    neuron = Neuron(levels=levels) if integer else Neuron("hard")
    gain = 0.3 if integer else 0.5
    fired = lif_scan(current, threshold, decay, gain, neuron, backend="reference").spikes
    wanted = fired if variant in ("3", "4", "integer") else q.unpack() & fired
    out = sdsa(
        q, k, None if variant == "2" else v, variant, heads, scale, threshold, decay, gain, neuron,
        backend, causal,
    )  # fmt: skip
    assert (out.shape, out.levels) == (v.shape, levels)
    np.testing.assert_array_equal(out.unpack(), wanted)
    if size > 1:
        assert 0.02 < (wanted > 0).mean() < 0.98


@examples(100)
@given(
    seed=st.integers(0, 2**32 - 1),
    variant=st.sampled_from(VARIANTS),
    steps=st.integers(0, 3),
    tokens=st.integers(0, 70),
    heads=st.integers(1, 3),
    size=st.sampled_from([0, 1, 31, 64, 65]),
    density=st.sampled_from([0.05, 0.5, 1.0]),
    decay=st.sampled_from([0.0, 0.5]),
    causal=st.booleans(),
)
def test_backends_agree(
    seed: int, variant: str, steps: int, tokens: int, heads: int, size: int, density: float,
    decay: float, causal: bool,
) -> None:  # fmt: skip
    levels = 1 + seed % 4 if variant == "integer" else 1
    shape = steps, 2, tokens, heads * size
    q, k, v = (
        _spikes(shape, density, levels, seed + i, ("bits", "thermometer")[i % 2]) for i in range(3)
    )
    neuron = Neuron(levels=levels) if variant == "integer" else Neuron("hard")
    scale = float(np.random.default_rng(seed).uniform(0.01, 2))
    threshold = 0.7 + np.arange(heads * size) if variant == "4" else 1.3
    results = [
        sdsa(
            q, k, None if variant == "2" else v, variant, heads, scale, threshold, decay, 0.5,
            neuron, backend, causal,
        )
        for backend in RUNNABLE
    ]  # fmt: skip
    for found in results[1:]:
        np.testing.assert_array_equal(found.words, results[0].words)


@pytest.mark.parametrize("density", [0.0, 0.1, 0.6, 1.0])
@pytest.mark.parametrize("groups", [7, 8, 9, 17])
@pytest.mark.parametrize("tokens", [1, 7, 8, 9, 40])
def test_streams_side_by_side(tokens: int, groups: int, density: float) -> None:
    """Streams of one word, in eights and left over; every edge that can be reached, and one not."""
    rng = np.random.default_rng(tokens)
    q, k, v = (pack(rng.random((groups, tokens, 50)) < density) for _ in range(3))
    words = [x.words.reshape(groups, tokens, 1) for x in (q, k, v)]
    for third in (words[2], None):
        for causal in (False, True):
            for edge in range(tokens + 2):
                arguments = (words[0], words[1], third, 50, edge, causal)
                np.testing.assert_array_equal(cpu.gated(*arguments), reference.gated(*arguments))


def test_causal_is_causal() -> None:
    q, k, v = (_spikes((1, 1, 60, 64), 0.4, 1, seed) for seed in range(3))
    later = [x.unpack().copy() for x in (q, k, v)]
    for x in later:
        x[:, :, 40:] = 1 - x[:, :, 40:]
    for variant in VARIANTS:
        drop, scale = variant == "2", 0.05 if variant in ("1", "2") else 0.005
        out = sdsa(q, k, None if drop else v, variant, scale=scale, causal=True).unpack()
        q2, k2, v2 = (pack(x) for x in later)
        other = sdsa(q2, k2, None if drop else v2, variant, scale=scale, causal=True).unpack()
        np.testing.assert_array_equal(out[:, :, :40], other[:, :, :40])
        assert (out[:, :, 40:] != other[:, :, 40:]).any()


@examples(200)
@given(
    largest=st.integers(0, 2**31 - 2),
    scale=st.floats(0, 10, width=32),
    threshold=st.floats(2**-10, 10_000, width=32),
    gain=st.floats(0, 3, width=32),
    levels=st.sampled_from([None, 1, 4, 127]),
)
def test_edges_are_where_the_neuron_starts(
    largest: int, scale: float, threshold: float, gain: float, levels: int | None
) -> None:
    """One below an edge the float32 neuron counts less, at it enough."""
    neuron = Neuron(levels=levels)
    found = edges(largest, 1, scale, threshold, 0.5, gain, neuron)
    assert found is not None
    assert (np.diff(found[:, 0]) >= 0).all()
    sums = np.concatenate([found[:, 0], found[:, 0] - 1]).clip(0, largest)
    current = sums.astype(np.float32) * np.float32(scale)
    counts = lif_scan(current[None, None], threshold, 0.5, gain, neuron, backend="reference").spikes
    np.testing.assert_array_equal(counts[0, 0], (sums >= found).sum(axis=0))


@pytest.mark.parametrize(
    "arguments",
    [
        (10, 2, 1.0, 0.5, 0.5, 0.5),
        (10, 1, -1.0, 0.5, 0.5, 0.5),
        (10, 1, 1.0, 0.5, 0.5, -0.5),
        (2**31 - 1, 1, 1.0, 0.5, 0.5, 0.5),
        (10, 1, np.inf, 0.5, 0.5, 0.5),
    ],
    ids=["memory", "falling scale", "falling gain", "no edge above", "infinite"],
)
def test_neurons_without_edges(arguments: tuple[float, ...]) -> None:
    assert edges(*arguments, Neuron()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 31, 63, 64, 65, 100, 128])
@pytest.mark.parametrize("heads", [1, 2, 5])
def test_words_by_head(heads: int, size: int) -> None:
    rng = np.random.default_rng(size)
    counts = rng.integers(0, 4, (7, heads * size))
    x = pack(counts, 3)
    parts = split(x.words, heads, size)
    one = [pack(counts[:, h * size : (h + 1) * size], 3).words for h in range(heads)]
    np.testing.assert_array_equal(parts, np.stack(one, 2))
    np.testing.assert_array_equal(merge(parts, size), x.words)


@pytest.mark.parametrize("variant", ["1", "3"])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("kind", [float, np.float32, np.array, None], ids=str)
def test_decay_and_gain_of_any_kind(kind: Any, steps: int, variant: str) -> None:
    """Numbers, arrays of no axes and, as in `lif_scan`, one per channel."""
    q, k, v = (_spikes((steps, 2, 9, 6), 0.5, 1, seed) for seed in range(3))
    decay, gain = (np.full(6, x) if kind is None else kind(x) for x in (0.5, 0.25))
    if kind is None:
        gain = np.linspace(0.1, 0.5, 6)
    sums = _sums(*(x.unpack(np.int64) for x in (q, k, v)), variant, 1, False)
    fired = lif_scan(sums.astype(np.float32), 0.7, decay, gain, Neuron("hard")).spikes
    out = sdsa(q, k, v, variant, 1, 1.0, 0.7, decay, gain)
    np.testing.assert_array_equal(out.unpack(), fired if variant == "3" else q.unpack() & fired)
    assert 0 < out.count < q.rows * q.size


def test_bad_threshold_is_refused_on_every_path() -> None:
    x = pack(np.ones((1, 1, 3, 6), np.int8))
    for threshold in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="threshold"):
            sdsa(x, x, x, "1", threshold=threshold)
    with pytest.raises(ValueError, match=r"one per channel \(6,\), got \(5,\)"):
        sdsa(x, x, x, "4", threshold=np.ones(5))
