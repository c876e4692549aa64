"""Spike-driven attention: backends bit for bit, and the equations written out with numpy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neurosim.kernels.lif_scan import Neuron
from neurosim.kernels.packed import PackedSpikes, pack
from neurosim.kernels.sdsa import BACKENDS, cpu, reference, sdsa

SIZES = (1, 63, 64, 65, 123)
RUNNABLE = [name for name in BACKENDS if not name.startswith("metal")]


def _spikes(
    shape: tuple[int, ...], density: float = 0.4, levels: int = 1, seed: int = 0
) -> PackedSpikes:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, levels + 1, shape) * (rng.random(shape) < density)
    return pack(counts, levels)


def _fire(current: np.ndarray, threshold: float | np.ndarray = 0.5) -> np.ndarray:
    """The released neuron (tau 2, decaying input, hard reset) in float64; exact for dyadics."""
    v, spikes = np.zeros(current.shape[1:]), np.zeros(current.shape)
    for t, x in enumerate(current):
        v = v + (x - v) / 2
        spikes[t] = v >= threshold
        v = v * (1 - spikes[t])
    return spikes


def _heads(x: np.ndarray, heads: int) -> np.ndarray:
    return x.reshape(*x.shape[:3], heads, x.shape[3] // heads)


def _linear(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> np.ndarray:
    """(q k^T) v, with the score matrix that the kernels never form."""
    scores = np.einsum("tblhc,tbmhc->tbhlm", _heads(q, heads), _heads(k, heads))
    return np.einsum("tbhlm,tbmhv->tblhv", scores, _heads(v, heads)).reshape(v.shape)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tokens", [1, 7, 65])
@pytest.mark.parametrize("variant", ["1", "2"])
def test_column_variants(variant: str, tokens: int, size: int) -> None:
    shape = (4, 2, tokens, size)
    q, k, v = (_spikes(shape, density, seed=s) for s, density in enumerate((0.5, 0.3, 0.3)))
    q64, k64, v64 = (x.unpack(np.int64) for x in (q, k, v))
    sums = (k64 & v64 if variant == "1" else k64).sum(2)
    scale = 2.0**-3
    threshold = (1 + np.round(sums.mean() * scale * 32)) / 64  # exact, near half of the inputs
    mask = _fire(sums * scale, threshold)
    wanted = q64 * mask[:, :, None]
    for backend in RUNNABLE:
        third = v if variant == "1" else None
        out = sdsa(q, k, third, variant, 1, scale, threshold, backend=backend)
        assert out.shape == shape
        np.testing.assert_array_equal(out.unpack(), wanted)
    if tokens > 1 and size > 1:
        assert 0.1 < mask.mean() < 0.9


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tokens", [1, 7, 65])
def test_linear_variants(tokens: int, size: int) -> None:
    heads = 3 if size % 3 == 0 else 1
    q, k, v = (_spikes((3, 2, tokens, size), 0.3, seed=s) for s in range(3))
    sums = _linear(*(x.unpack(np.int64) for x in (q, k, v)), heads)
    threshold = np.random.default_rng(1).integers(1, 40, size) / 8
    for backend in RUNNABLE:
        out = sdsa(q, k, v, "3", heads, 0.125, backend=backend)
        np.testing.assert_array_equal(out.unpack(), _fire(sums * 0.125))
        out = sdsa(q, k, v, "4", heads, 0.125, threshold, backend=backend)
        np.testing.assert_array_equal(out.unpack(), _fire(sums * 0.125, threshold))


def test_scale_folds_into_the_threshold() -> None:
    """Variant 3: 0.125 and 0.5 is 1 and 4."""
    q, k, v = (_spikes((4, 2, 30, 64), 0.2, seed=s) for s in range(3))
    scaled, folded = sdsa(q, k, v, "3", 2, 0.125), sdsa(q, k, v, "3", 2, 1.0, 4.0)
    np.testing.assert_array_equal(scaled.words, folded.words)
    assert 0.1 < scaled.density < 0.9


@pytest.mark.parametrize("code", ["thermometer", "bits"])
@pytest.mark.parametrize(("size", "values"), [(1, 1), (63, 63), (64, 256), (15, 123)], ids=str)
@pytest.mark.parametrize("levels", [1, 4, 16])
def test_integer_form(levels: int, size: int, values: int, code: str) -> None:
    heads = 3 if size % 3 == 0 else 1
    shape = (1, 2, 20)
    q, k = (_spikes((*shape, size), 0.4, levels, seed) for seed in (0, 1))
    v = _spikes((*shape, values), 0.4, levels, 2)
    q, k, v = (pack(x.unpack(), levels, code=code) for x in (q, k, v))
    scale = np.float32(2 / np.sqrt(size / heads) / levels**3)
    sums = _linear(*(x.unpack(np.int64) for x in (q, k, v)), heads)
    current = sums.astype(np.float32) * scale
    wanted = np.clip(np.floor(current + np.float32(0.5)), 0, levels)
    for backend in RUNNABLE:
        out = sdsa(q, k, v, "integer", heads, scale, 1.0, 0.0, 1.0, Neuron(levels=levels), backend)
        assert (out.levels, out.shape) == (levels, (*shape, values))
        np.testing.assert_array_equal(out.unpack(), wanted)


@pytest.mark.parametrize("backend", RUNNABLE)
def test_planes_need_their_cross_terms(backend: str) -> None:
    """Attention plane by plane is another function (specification, 0.3)."""
    q, k, v = (_spikes((1, 1, 9, 8), 0.6, 3, seed) for seed in range(3))
    neuron = Neuron(levels=127)
    whole = sdsa(q, k, v, "integer", 1, 1.0, 1.0, 0.0, 1.0, neuron, backend).unpack(np.int64)
    planes = np.zeros_like(whole)
    for level in range(3):
        part = (pack((x.unpack() > level).astype(np.int8)) for x in (q, k, v))
        planes += sdsa(*part, "integer", 1, 1.0, 1.0, 0.0, 1.0, neuron, backend).unpack()
    assert (whole > planes).any()


@pytest.mark.parametrize("shape", [(0, 1, 3, 5), (2, 0, 3, 5), (2, 1, 0, 5), (2, 1, 3, 0)], ids=str)
@pytest.mark.parametrize("variant", ["1", "2", "3", "4", "integer"])
@pytest.mark.parametrize("backend", RUNNABLE)
def test_empty(backend: str, variant: str, shape: tuple[int, ...]) -> None:
    x = pack(np.zeros(shape, np.int8))
    out = sdsa(x, x, None if variant == "2" else x, variant, backend=backend)
    assert out.shape == shape
    assert not out.count


@pytest.mark.parametrize("variant", ["1", "2", "3", "4", "integer"])
@pytest.mark.parametrize("backend", RUNNABLE)
def test_silent_and_saturated(backend: str, variant: str) -> None:
    """All spikes reach every threshold, none reach any; one silent side silences all but 2."""
    full, none = (pack(np.full((2, 1, 5, 65), value, np.int8)) for value in (1, 0))
    drop = variant == "2"
    assert sdsa(full, full, None if drop else full, variant, backend=backend).density == 1
    assert not sdsa(none, full, None if drop else full, variant, backend=backend).count
    assert not sdsa(full, none, None if drop else full, variant, backend=backend).count
    if not drop:
        assert not sdsa(full, full, none, variant, backend=backend).count


def test_counters_do_not_overflow() -> None:
    """More tokens than an int16 counts, all firing; edges on both sides of what it counts."""
    tokens = 70_001
    words = np.full((1, tokens, 1), np.uint64(2**64 - 1))
    for module in (cpu, reference):
        assert (module.column_sums(words, None, 64, False) == tokens).all()
        so_far = module.column_sums(words, None, 64, True)
        np.testing.assert_array_equal(so_far[0, :, 63], np.arange(1, tokens + 1))
        for edge in (0, 1, 32_766, 32_767, 32_768, 65_536, tokens, tokens + 1):
            out = module.gated(words, words, words, 64, edge, True)
            np.testing.assert_array_equal(out[0, :, 0] != 0, np.arange(1, tokens + 1) >= edge)
            whole = module.gated(words, words, None, 64, edge, False)
            assert (whole != 0).all() == (edge <= tokens)
    words[0, ::2, 0] = np.uint64(1)
    for module in (cpu, reference):
        sums = module.column_sums(words, words, 64, False)
        assert sums[0, 0, :2].tolist() == [70_001, 35_000]


GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "spike_driven"
golden = pytest.mark.skipif(not GOLDEN.exists(), reason="../shared/golden/spike_driven is not here")


def _tokens(x: np.ndarray) -> np.ndarray:
    """(T, B, C, H, W) or (T, B, C, L) as (T, B, L, C)."""
    return x.reshape(*x.shape[:3], -1).swapaxes(2, 3)


def _recorded(folder: str) -> tuple[dict[str, np.ndarray], int]:
    config = json.loads((GOLDEN / folder / "config.json").read_text())["config"]
    with np.load(GOLDEN / folder / "outputs.npz") as file:
        return {name: file[name] for name in file.files if "attn" in name}, config["num_heads"]


@golden
@pytest.mark.parametrize("backend", RUNNABLE)
def test_golden_variant_1(backend: str) -> None:
    """The released Spike-driven Transformer: mask from its recorded q, k, v, exactly."""
    spikes, heads = _recorded("sdt_v1_image")
    for block in range(2):
        name = f"spike/block.{block}.attn."
        q, k, v = (_tokens(spikes[f"{name}{x}_lif"]) for x in "qkv")
        mask = spikes[name + "talking_heads_lif"].reshape(*q.shape[:2], 1, q.shape[3])
        out = sdsa(pack(q), pack(k), pack(v), "1", heads, backend=backend)
        np.testing.assert_array_equal(out.unpack(), q & mask)


@golden
@pytest.mark.parametrize("backend", RUNNABLE)
def test_golden_variant_3(backend: str) -> None:
    """The released Meta-SpikeFormer, T = 4, exactly."""
    spikes, heads = _recorded("meta_spikeformer_v2_T4")
    names = [name.removesuffix("q_lif") for name in spikes if name.endswith("attn.q_lif")]
    assert len(names) == 8
    fired = 0
    for name in names:
        q, k, v = (pack(_tokens(spikes[f"{name}{x}_lif"])) for x in "qkv")
        out = sdsa(q, k, v, "3", heads, 0.125, backend=backend)
        np.testing.assert_array_equal(out.unpack(), _tokens(spikes[name + "attn_lif"]))
        fired += out.count
    assert fired > 0


@golden
@pytest.mark.parametrize("backend", RUNNABLE)
def test_golden_integer_form(backend: str) -> None:
    """The released E-SpikeFormer; it rounds half to even, so ties may be one off."""
    spikes, heads = _recorded("e_spikeformer_v3_base")
    names = [name.removesuffix("q_spike") for name in spikes if name.endswith("attn.q_spike")]
    assert len(names) == 8
    fired = 0
    for name in names:
        counts = [_tokens(spikes[f"{name}{x}_spike"][None]) for x in "qkv"]
        scale = 2 / np.sqrt(counts[0].shape[3] / heads) / 4**3
        out = sdsa(
            *(pack(x, 4) for x in counts), "integer", heads, scale, 1.0, 0.0, 1.0,
            Neuron(levels=4), backend,
        )  # fmt: skip
        sums = _linear(*(x.astype(np.int64) for x in counts), heads)
        sure = np.abs(sums * scale % 1 - 0.5) > 1e-5
        wanted = _tokens(spikes[name + "attn_spike"][None])
        np.testing.assert_array_equal(out.unpack()[sure], wanted[sure])
        assert sure.mean() > 0.5
        fired += out.count
    assert fired > 0


X = pack(np.ones((2, 1, 3, 6), np.int8))
COUNTS = pack(np.full((2, 1, 3, 6), 2), 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, X, X, "5"), "got '5'"),
        ((X, X, None, "1"), "v in every variant but 2"),
        ((X, X, X, "2"), "v in every variant but 2"),
        ((X, pack(np.ones((2, 1, 4, 6))), X, "1"), "one shape"),
        ((X, X, pack(np.ones((2, 1, 3, 12))), "3"), "wider in the integer form"),
        ((pack(np.ones((3, 6))),) * 3 + ("1",), r"\(T, B, L, C\)"),
        ((X, X, X, "3", 4), "heads that divide 6 and 6 and 6 channels, got 4"),
        ((X, COUNTS, X, "1"), "binary spikes in variant 1"),
        ((X, pack(-np.ones((2, 1, 3, 6)), 1, True), X, "integer"), r"counts 0\.\.D"),
        ((X, X, X, "3", 1, 1.0, np.ones(6)), "one threshold in variant 3"),
        ((X, X, X, "1", 1, 1.0, 0.5, 0.5, 0.5, Neuron(levels=4)), "binary neuron"),
        ((X, X, X, "1", 1, 1.0, 0.5, 0.5, 0.5, Neuron(), "gpu"), "got 'gpu'"),
    ],
    ids=str,
)
def test_refusals(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sdsa(*arguments)  # type: ignore[arg-type]


def test_sums_beyond_int32_are_refused() -> None:
    big = pack(np.zeros((1, 1, 200, 64), np.int8), 127, code="bits")
    with pytest.raises(ValueError, match="sums within int32, got up to 26219302400"):
        sdsa(big, big, big, "integer")


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("variant", ["1", "2", "3"])
def test_a_threshold_just_above_every_sum_is_never_reached(variant: str, backend: str) -> None:
    """Neurons without memory are integer limits: 5 tokens (of 8 channels) make 5 (40) at most."""
    full = pack(np.ones((2, 1, 5, 8)), time_axis=0)
    most = 40.0 if variant == "3" else 5.0
    for threshold, count in ((most, full.count), (most + 0.25, 0)):
        found = sdsa(
            full, full, None if variant == "2" else full, variant, threshold=threshold, decay=0,
            gain=1, backend=backend,
        )  # fmt: skip
        assert found.count == count
