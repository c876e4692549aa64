"""The MLX model: the published values, the NumPy model's semantics, and its gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from braingpt_cases import GOLDEN, MICRO, golden, needs_golden, write_model
from mlx.utils import tree_flatten

from neurosim.kernels.dense import cross_entropy
from neurosim.models.braingpt import SiteRecord, load, mlx_ops, model, silu, site_names
from neurosim.models.braingpt.mlx_model import MlxBrainGPT, from_weights
from neurosim.models.braingpt.model import BrainGPT, Options
from neurosim.models.braingpt.stored import StoredModel

IDS = np.array([[5, 3, 90, 17, 17, 2, 60, 41, 8], [1, 0, 33, 4, 71, 2, 96, 41, 7]])


@pytest.fixture(params=["numba", "operations"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The loops of a CPU, and the MLX operations that a GPU runs (here on the CPU)."""
    if request.param == "operations":
        monkeypatch.setattr(mlx_ops, "on_cpu", lambda: False)
    return str(request.param)


def array(x: mx.array) -> np.ndarray:
    return np.array(x)


def in_mlx(folder: Path, options: Options, **more: Any) -> MlxBrainGPT:
    stored = StoredModel(folder)
    return from_weights(stored.config, stored.floats, options, **more)


def test_micro_counts_up_to_the_silu(backend: str) -> None:
    io, record = np.load(MICRO / "io.npz"), SiteRecord()
    load(MICRO, mode="reference", silu="exact", backend="mlx")(io["input_ids"], listener=record)
    for site in [site for site in site_names(1) if "down" not in site]:
        np.testing.assert_array_equal(record.counts[site], io[f"f32.spk.{site}.n"], site)
        np.testing.assert_allclose(record.scales[site], io[f"f32.spk.{site}.scale"], rtol=2e-6)


@needs_golden
def test_micro_is_the_published_model(backend: str) -> None:
    io, record = golden("micro"), SiteRecord()
    network = load(GOLDEN / "micro", mode="reference", backend="mlx")
    logits = array(network(io["input_ids"], listener=record))
    for site in site_names(1):
        np.testing.assert_array_equal(record.counts[site], io[f"f32.spk.{site}.n"], site)
    assert np.abs(logits - io["f32.logits"]).max() < 1e-3


@needs_golden
@pytest.mark.parametrize("name", ["micro", "tiny_tied"])
def test_decoding_from_a_cache(name: str) -> None:
    io = golden(name)
    network = load(GOLDEN / name, mode="reference", backend="mlx")
    tokens, start = io["gen.cache"], io["gen.prompt"].shape[1]
    cache, new = network.new_cache(), tokens[:, :start]
    for step in range(tokens.shape[1] - start):
        logits = array(network(new, cache, last=True))
        assert np.abs(logits - io["f32.gen.step_logits"][:, step]).max() < 1e-3
        new = tokens[:, start + step : start + step + 1]
        np.testing.assert_array_equal(logits.argmax(-1), new[:, 0])


@needs_golden
@pytest.mark.parametrize("name", ["micro", "tiny_tied"])
def test_left_padding(name: str) -> None:
    io = golden(name)
    mask = io["batch2.attention_mask"]
    network = load(GOLDEN / name, mode="reference", backend="mlx")
    logits = array(network(io["batch2.input_ids"], mask=mask))
    assert np.abs(logits - io["batch2.f32.logits"])[mask > 0].max() < 1e-3


@needs_golden
@pytest.mark.parametrize("name", ["micro", "tiny_tied", "trained"])
def test_the_ann_side(name: str) -> None:
    with np.load(GOLDEN / name / "qwen2" / "io.npz") as io:
        logits = load(GOLDEN / name / "qwen2", mode="ann", backend="mlx")(io["input_ids"])
        assert np.abs(array(logits) - io["f32.logits"]).max() < 1e-3


@needs_golden
class TestOperations:
    """ops.npz, one operation at a time."""

    io = np.load(GOLDEN / "ops.npz") if (GOLDEN / "ops.npz").is_file() else {}

    def test_quantiser(self, backend: str) -> None:
        y, scale = mlx_ops.spikes(mx.array(self.io["quant.f32.x"]), 127, True)
        np.testing.assert_array_equal(array(y), self.io["quant.f32.y"])
        assert float(scale.item()) == self.io["quant.f32.scale"]
        zero, _ = mlx_ops.spikes(mx.zeros((1, 3, 4)), 127, True)
        np.testing.assert_array_equal(array(zero), self.io["quant.zero.y"])

    def test_staircase(self, backend: str) -> None:
        parameters = silu.read_staircase(GOLDEN / "approximators.safetensors")
        gate = mlx_ops.Gate(mlx_ops.lookup("staircase", parameters))
        x = mx.array(self.io["silu.f32.x"])
        np.testing.assert_array_equal(array(gate(x, mx.ones(x.shape))), self.io["silu.f32.y"])

    def test_other_forms_of_silu(self, backend: str) -> None:
        x = self.io["silu.f32.x"]
        one = mx.ones(x.shape)
        exact = mlx_ops.Gate(mlx_ops.lookup("exact"))(mx.array(x), one)
        np.testing.assert_allclose(array(exact), self.io["silu.f32.true"], atol=2e-6, rtol=2e-6)
        table = mlx_ops.Gate(mlx_ops.lookup("table"))(mx.array(x), one)
        np.testing.assert_array_equal(array(table), silu.table(x))

    def test_norm(self) -> None:
        found = mx.fast.rms_norm(
            mx.array(self.io["rmsnorm.x"]), mx.array(self.io["rmsnorm.w"]), 1e-6
        )
        assert np.abs(array(found) - self.io["rmsnorm.y"]).max() < 2e-6

    def test_rotation_and_spiking_attention(self, tmp_path: Path) -> None:
        from neurosim.models.braingpt.mlx_model import MlxCache, _Pass

        io = self.io
        folder = write_model(tmp_path, hidden_size=32, num_attention_heads=4, num_key_value_heads=4)
        for seen, want in ((None, io["attn_full.unmasked.out"]), ("tril", None)):
            network = in_mlx(folder, Options("reference", "exact", "spiking"))
            run = _Pass(network, MlxCache(), None, None, None, np.arange(6)[None])
            q, k, v = (mx.array(io[f"attn_full.unmasked.{n}"]) for n in "QKV")
            if seen is None:
                run.seen = mx.ones((1, 1, 1, 6, 6)) > 0
                assert np.abs(array(run.mix(q, k, v, 1)) - want).max() < 2e-5
            else:
                found = array(run.mix(q, k, v, 1))
                assert np.abs(found - io["attn_full.causal_f64.out"]).max() < 1e-5
        theta = {"rope_theta": 10000.0, "head_dim": 16, "hidden_size": 64}
        for base in (10000.0, 1000000.0):
            folder = write_model(tmp_path / f"{base}", **(theta | {"rope_theta": base}))
            run = _Pass(in_mlx(folder, Options()), MlxCache(), None, None, None, io["rope.pos"])
            cos = io["rope.cos"][io["rope.pos"][0], :8]
            if np.abs(array(run.cos)[0, 0] - cos).max() < 1e-6:
                break
        for part in "qk":
            found = array(run.rotate(mx.array(io[f"rope.{part}"])))
            np.testing.assert_allclose(found, io[f"rope.{part}_out"], atol=2e-6)


@pytest.mark.parametrize("family", ["qwen2", "llama"])
@pytest.mark.parametrize(
    ("mode", "form", "attention", "bits"),
    [
        ("causal", "table", "float", 8),
        ("causal", "exact", "float", 4),
        ("causal", "exact", "spiking", 8),
        ("reference", "exact", "float", 2),
        ("ann", "exact", "float", 8),
    ],
)
def test_it_is_the_numpy_model(
    tmp_path: Path, backend: str, family: str, mode: str, form: str, attention: str, bits: int
) -> None:
    """Every count and the logits, for the first weights whose sums fall on no tie's other side."""
    options = Options(mode, form, attention, bits)
    clips = {"L0.q_proj.pre": 0.5, "L1.down_proj.post": 0.8, "embed.post": 0.9}
    tied = family == "qwen2"
    for seed in range(20):
        folder = write_model(
            tmp_path / str(seed), seed, model_type=family, tie_word_embeddings=tied
        )
        stored = StoredModel(folder)
        weights = {name: stored.floats(name) for name in stored.config.weight_shapes()}
        exact = BrainGPT(stored.config, weights, options, np.float32, None, clips)
        network = in_mlx(folder, options, clips=clips)
        first, second = SiteRecord(), SiteRecord()
        wanted, found = exact(IDS, listener=first), array(network(IDS, listener=second))
        assert first.fan_outs == second.fan_outs
        off = [s for s in first.counts if (first.counts[s] != second.counts[s]).any()]
        if not off and np.abs(wanted - found).max() < 1e-4:
            return
        if off:  # one tie, which then spreads
            differs = first.counts[off[0]].astype(int) - second.counts[off[0]]
            assert np.abs(differs).sum() <= 2
    pytest.fail("none of the seeds gave the NumPy model's numbers")


def test_tokens_one_by_one_and_alone(tmp_path: Path) -> None:
    """Mode causal: from a cache, alone, last only and padded, the same up to float sums."""
    network = in_mlx(write_model(tmp_path, 2), Options("causal", "table"))
    whole = array(network(IDS))
    np.testing.assert_allclose(array(network(IDS[1])), whole[1], atol=1e-4)
    np.testing.assert_allclose(array(network(IDS, last=True)), whole[:, -1], atol=1e-4)
    cache = network.new_cache()
    parts = [array(network(IDS[:, i : i + 3], cache)) for i in (0, 3, 6)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-4)
    padded = np.concatenate([np.zeros((2, 4), int), IDS], axis=1)
    mask = np.arange(13)[None] >= np.array([[4], [4]])
    np.testing.assert_allclose(array(network(padded, mask=mask))[:, 4:], whole, atol=1e-4)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        mx.eval(mlx_ops.spikes(mx.array([[1.0, float("nan")]]), 7, False))


class Surrogate(model._Pass):
    """The NumPy pass with every quantiser replaced by what its gradient is of.

    At first every quantiser's error is kept; then x becomes clip(x) plus that constant.
    """

    errors: dict[int, tuple[np.ndarray, np.ndarray]]
    calls: int

    def quantise(self, x: Any, site: str = "", fan_out: int = 0) -> Any:
        """See model._Pass."""
        factor = self.model.clips.get(site.replace("k_proj.pre", "q_proj.pre"), 1.0)
        number = Surrogate.calls
        Surrogate.calls += 1
        if number not in Surrogate.errors:
            limit = factor * np.abs(x).max(-1, keepdims=True) if factor < 1 else np.inf
            y = super().quantise(x, site, fan_out)
            Surrogate.errors[number] = (y - np.clip(x, -limit, limit), np.asarray(limit))
        error, limit = Surrogate.errors[number]
        return np.clip(x, -limit, limit) + error


def agreeing(
    folder: Path, options: Options, ids: np.ndarray, clips: dict[str, float], evened: bool
) -> tuple[BrainGPT, dict[str, np.ndarray], MlxBrainGPT]:
    """A small model with the same counts in float64 (NumPy) and float32 (MLX), and its weights.

    `evened`: with Hadamard blocks before down_proj and gains on the spikes of some projections.
    """
    sizes = {"hidden_size": 16, "intermediate_size": 24, "vocab_size": 31}
    for seed in range(20):
        stored = StoredModel(write_model(folder / str(seed), seed, **sizes))
        config = replace(stored.config, hadamard=8) if evened else stored.config
        rng = np.random.default_rng(seed)
        gains = {
            f"L{i}.{name}_proj": rng.uniform(0.5, 2, size).astype(np.float32)
            for i in range(2 * evened)
            for name, size in (("q", 16), ("gate", 24), ("up", 24))
        }
        names = config.weight_shapes()
        weights = {name: stored.floats(name).astype(np.float64) for name in names}
        network = from_weights(config, stored.floats, options, None, clips, gains)
        first, second = SiteRecord(), SiteRecord()
        exact = BrainGPT(config, weights, options, np.float64, None, clips, gains)
        exact(ids, listener=first)
        network(ids, listener=second)
        if all((first.counts[site] == second.counts[site]).all() for site in first.counts):
            return exact, weights, network
    pytest.fail("every seed had a sum on a tie")


@pytest.mark.parametrize("evened", [False, True], ids=["plain", "evened"])
@pytest.mark.parametrize("clip", [1.0, 0.6], ids=["whole range", "clipped"])
@pytest.mark.parametrize("form", ["exact", "table"])
def test_gradients(
    tmp_path: Path,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    clip: float,
    evened: bool,
) -> None:
    """Against finite differences, in float64, of the function whose gradient it is meant to be."""
    options, ids = Options("causal", form, bits=5), IDS[:, :7] % 31
    clips = {"L0.v_proj.post": clip, "L1.down_proj.pre": clip} if clip < 1 else {}
    exact, weights, network = agreeing(tmp_path, options, ids[:, :-1], clips, evened)

    def loss(network: MlxBrainGPT) -> mx.array:
        logits = network(ids[:, :-1])
        targets = mx.array(ids[:, 1:].reshape(-1).astype(np.int32))
        return cross_entropy(logits.reshape(-1, 31), targets).mean()

    _, gradients = nn.value_and_grad(network, loss)(network)
    found = {name: array(value) for name, value in tree_flatten(gradients)}

    kept: dict[int, np.ndarray] = {}
    plain = silu.exact if form == "exact" else silu.table

    def straight(x: np.ndarray) -> np.ndarray:
        number = Surrogate.calls
        kept.setdefault(number, plain(x) - silu.exact(x))
        return np.asarray(silu.exact(x) + kept[number])

    monkeypatch.setattr(model, "_Pass", Surrogate)
    monkeypatch.setattr(exact, "_silus", [straight] * 2)
    Surrogate.errors = {}

    def surrogate(changed: dict[str, np.ndarray]) -> float:
        Surrogate.calls = 0
        monkeypatch.setattr(exact, "_weights", changed)
        logits = exact(ids[:, :-1])
        top = logits.max(-1, keepdims=True)
        log_p = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
        return float(-np.take_along_axis(log_p, ids[:, 1:, None], -1).mean())

    surrogate(weights)
    rng = np.random.default_rng(0)
    for name, value in weights.items():
        direction = rng.standard_normal(value.shape)
        h = 1e-6
        up = surrogate(weights | {name: value + h * direction})
        down = surrogate(weights | {name: value - h * direction})
        slope, mine = (up - down) / (2 * h), float((found[name] * direction).sum())
        size = np.sqrt((found[name] ** 2).sum())
        assert abs(mine - slope) < 1e-5 * max(size, 1.0), (name, mine, slope)
    for layer in range(2):
        assert np.abs(found[f"model.layers.{layer}.mlp.gate_proj.weight"]).max() > 1e-4


def test_beyond_the_clip_no_gradient(backend: str) -> None:
    x = mx.array([[1.0, -4.0, 2.0, 0.1]])
    gradient = mx.grad(lambda x: mlx_ops.spikes(x, 7, False, 0.5)[0].sum())(x)
    np.testing.assert_array_equal(array(gradient), [[1, 0, 1, 1]])
    gradient = mx.grad(lambda x: mlx_ops.spikes(x, 7, False)[0].sum())(x)
    np.testing.assert_array_equal(array(gradient), [[1, 1, 1, 1]])
