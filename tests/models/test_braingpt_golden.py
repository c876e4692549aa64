"""The NumPy model against data made by the published code."""

from __future__ import annotations

import json

import numpy as np
import pytest
from braingpt_cases import GOLDEN, MICRO, MODELS, golden, needs_golden

from neurosim.models.braingpt import EventCounter, SiteRecord, load, site_names
from neurosim.models.braingpt.model import Options, spiking_attention
from neurosim.models.braingpt.rotary import frequencies, rotate, tables
from neurosim.models.braingpt.silu import Staircase, exact, read_staircase, table
from neurosim.models.evaluation import log_softmax


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_micro_counts_up_to_the_silu(dtype: str) -> None:
    """The part of the golden data that is in the repository: all sites before the staircase."""
    io = np.load(MICRO / "io.npz")
    record = SiteRecord()
    model = load(MICRO, mode="reference", silu="exact", dtype=f"float{dtype[1:]}")
    model(io["input_ids"], listener=record)
    sites = [site for site in site_names(1) if "down" not in site]
    for site in sites:
        np.testing.assert_array_equal(record.counts[site], io[f"{dtype}.spk.{site}.n"], site)
        close = 1e-12 if dtype == "f64" else 2e-6
        np.testing.assert_allclose(
            record.scales[site], io[f"{dtype}.spk.{site}.scale"], rtol=close, err_msg=site
        )
    assert len(sites) == 13


def test_micro_as_plain_qwen2() -> None:
    io = np.load(MICRO / "io.npz")
    logits = load(MICRO, mode="ann", dtype="float64")(io["ann.input_ids"])
    assert np.abs(logits - io["ann.f64.logits"]).max() < 1e-9


@needs_golden
@pytest.mark.parametrize("name", MODELS)
def test_float64_is_the_published_model(name: str) -> None:
    io, record = golden(name), SiteRecord()
    model = load(GOLDEN / name, mode="reference", dtype="float64")
    logits = model(io["input_ids"], listener=record)
    for site in site_names(model.config.num_hidden_layers):
        np.testing.assert_array_equal(record.counts[site], io[f"f64.spk.{site}.n"], site)
    assert np.abs(logits - io["f64.logits"]).max() < 1e-9


@needs_golden
def test_float32_micro_is_the_published_model() -> None:
    io, record = golden("micro"), SiteRecord()
    logits = load(GOLDEN / "micro", mode="reference")(io["input_ids"], listener=record)
    for site in site_names(1):
        np.testing.assert_array_equal(record.counts[site], io[f"f32.spk.{site}.n"], site)
    assert np.abs(logits - io["f32.logits"]).max() < 1e-3


@needs_golden
@pytest.mark.parametrize("name", MODELS)
def test_decoding_from_a_cache(name: str) -> None:
    io = golden(name)
    model = load(GOLDEN / name, mode="reference", dtype="float64")
    tokens, start = io["gen.cache"], io["gen.prompt"].shape[1]
    cache, new = model.new_cache(), tokens[:, :start]
    for step in range(tokens.shape[1] - start):
        logits = model(new, cache, last=True)
        assert np.abs(logits - io["f64.gen.step_logits"][:, step]).max() < 1e-9
        new = tokens[:, start + step : start + step + 1]
        np.testing.assert_array_equal(logits.argmax(-1), new[:, 0])


@needs_golden
@pytest.mark.parametrize("name", MODELS)
def test_left_padding(name: str) -> None:
    io = golden(name)
    if "batch2.input_ids" not in io:
        pytest.skip(f"{name} has no padded batch")
    mask = io["batch2.attention_mask"]
    model = load(GOLDEN / name, mode="reference", dtype="float64")
    logits = model(io["batch2.input_ids"], mask=mask)
    assert np.abs(logits - io["batch2.f64.logits"])[mask > 0].max() < 1e-9


@needs_golden
@pytest.mark.parametrize("name", MODELS)
def test_the_ann_side(name: str) -> None:
    with np.load(GOLDEN / name / "qwen2" / "io.npz") as io:
        logits = load(GOLDEN / name / "qwen2", mode="ann", dtype="float64")(io["input_ids"])
        assert np.abs(logits - io["f64.logits"]).max() < 1e-9


@needs_golden
def test_single_layers_in_float32() -> None:
    """With the stored input only ties may differ, and by one spike (README of the golden data)."""
    from neurosim.kernels import spike_quantise
    from neurosim.models.braingpt.stored import StoredModel

    for name in MODELS:
        io, stored = golden(name), StoredModel(GOLDEN / name)
        off = elements = 0
        keys = [k[:-3] for k in io if k.startswith("f32.op.") and "proj" in k and k.endswith(".in")]
        for key in keys:
            at = "model." + key.removeprefix("f32.op.")
            counts, scale = spike_quantise(io[f"{key}.in"], scale="tensor")
            y = (counts * scale) @ stored.floats(f"{at}.weight").T
            if any(f"{n}_proj" in at for n in "qkv"):
                y = y + stored.floats(f"{at}.bias")
            found, unit = spike_quantise(y, scale="tensor")
            wanted = np.round(io[f"{key}.out"] / unit)
            assert np.abs(found - wanted).max() <= 1, key
            off, elements = off + int((found != wanted).sum()), elements + found.size
        assert off <= max(2, 3e-4 * elements), name


@needs_golden
class TestOperations:
    """ops.npz, one operation at a time."""

    io = np.load(GOLDEN / "ops.npz") if (GOLDEN / "ops.npz").is_file() else {}

    def test_staircase(self) -> None:
        silu = Staircase(read_staircase(GOLDEN / "approximators.safetensors"))
        x = self.io["silu.f32.x"]
        np.testing.assert_array_equal(silu(x), self.io["silu.f32.y"])
        assert np.abs(silu(x.astype(np.float64)) - self.io["silu.f64.y"]).max() < 1e-12

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_look_up_equals_the_recurrence(self, dtype: type) -> None:
        silu = Staircase(read_staircase(GOLDEN / "approximators.safetensors"))
        edges, values = silu.lookup(dtype)
        rng = np.random.default_rng(0)
        near = [np.nextafter(edges, dtype(far)) for far in (-np.inf, np.inf)]
        x = np.concatenate([edges, *near, rng.normal(0, 4, 100_000).astype(dtype)])
        np.testing.assert_array_equal(values[np.searchsorted(edges, x, side="right")], silu(x))
        assert len(edges) == 43

    def test_exact_silu(self) -> None:
        x = self.io["silu.f32.x"].astype(np.float64)
        np.testing.assert_allclose(exact(x), self.io["silu.f32.true"], atol=2e-6, rtol=2e-6)

    def test_rotation(self) -> None:
        from neurosim.models.braingpt import BrainGPTConfig

        config = BrainGPTConfig(10, 64, 10, 1, 4, 2, 16, rope_theta=10000.0)
        for theta in (10000.0, 1000000.0):
            config = BrainGPTConfig(10, 64, 10, 1, 4, 2, 16, rope_theta=theta)
            cos, sin = tables(frequencies(config, np.float32), self.io["rope.pos"][0])
            if np.abs(cos - self.io["rope.cos"][self.io["rope.pos"][0], :8]).max() < 1e-6:
                break
        for part in "qk":
            found = rotate(self.io[f"rope.{part}"], cos, sin)
            np.testing.assert_allclose(found, self.io[f"rope.{part}_out"], atol=2e-6)

    def test_spiking_attention_sees_nothing_later(self) -> None:
        q, k, v = (self.io[f"attn_full.unmasked.{n}"].astype(np.float64) for n in "QKV")
        options = Options("reference", "exact", "spiking")
        seen = np.tril(np.ones((6, 6), bool))[None, None]
        found = spiking_attention(q, k, v, seen, options)
        assert np.abs(found - self.io["attn_full.causal_f64.out"]).max() < 1e-12

    def test_spiking_attention_without_a_mask(self) -> None:
        q, k, v = (self.io[f"attn_full.unmasked.{n}"] for n in "QKV")
        options = Options("reference", "exact", "spiking")
        found = spiking_attention(q, k, v, np.ones((1, 1, 6, 6), bool), options)
        assert np.abs(found - self.io["attn_full.unmasked.out"]).max() < 2e-5


def test_table_of_the_silu() -> None:
    """Half a step from SiLU inside, slope 1 beyond 8, 0 below -8, and odd ties away from zero."""
    x = np.linspace(-12, 12, 100_001)
    assert np.abs(table(x) - exact(x)).max() < 1.1 / 32 + 1e-12
    np.testing.assert_array_equal(table(np.array([9.0, 100.0])), [9.0, 100.0])
    np.testing.assert_array_equal(table(np.array([-9.0, -100.0])), [0.0, 0.0])
    np.testing.assert_array_equal(table(np.array([1 / 32, -1 / 32])), exact(np.array([1, -1]) / 16))
    assert table(np.float32([0.3])).dtype == np.float32


def rows_of_text(count: int) -> np.ndarray:
    """The first rows of 128 bytes of the held-out text of the trained golden model."""
    with np.load(GOLDEN / "trained" / "eval_tokens.npz") as file:
        return file[file.files[0]].reshape(-1)[: 128 * count].reshape(count, 128).astype(int)


def nats(folder: str, batch: int, **how: object) -> tuple[float, np.ndarray]:
    """Mean loss of the next byte inside each row, and every most probable byte."""
    model = load(GOLDEN / "trained" / folder, **how)
    ids = rows_of_text(48)
    logits = np.concatenate([model(ids[i : i + batch]) for i in range(0, 48, batch)])
    losses = -np.take_along_axis(log_softmax(logits[:, :-1]), ids[:, 1:, None], axis=-1)
    return float(losses.mean()), logits[:, :-1].argmax(axis=-1)


@needs_golden
class TestConversionMetrics:
    """conversion_metrics.json: what each change costs, measured by other code."""

    metrics = (
        json.loads((GOLDEN / "trained" / "conversion_metrics.json").read_text())
        if (GOLDEN / "trained" / "conversion_metrics.json").is_file()
        else {}
    )

    @pytest.mark.parametrize(
        ("name", "how"),
        [
            ("ann", {"mode": "ann"}),
            ("quant_per_tensor_B1", {"mode": "reference", "silu": "exact"}),
            ("quant_per_token", {"silu": "exact"}),
            ("silu_approx_only", {"mode": "ann", "silu": "staircase"}),
            ("braingpt_as_run_B1", {"mode": "reference"}),
            (
                "quant_plus_spiking_attention_per_tensor",
                {"mode": "reference", "silu": "exact", "attention": "spiking"},
            ),
            (
                "quant_plus_spiking_attention_per_token",
                {"silu": "exact", "attention": "spiking", "backend": "numpy"},
            ),
            ("6bit_per_token", {"silu": "exact", "bits": 6}),
            ("5bit_per_token", {"silu": "exact", "bits": 5}),
            ("4bit_per_token", {"silu": "exact", "bits": 4}),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_losses(self, name: str, how: dict[str, object]) -> None:
        found, best = nats(".", 1, **how)
        few = "4bit" in name or "5bit" in name  # a tie that falls the other way moves more
        assert found == pytest.approx(self.metrics["nll"][name], abs=3e-3 if few else 2e-4)
        agreement = self.metrics["top1_agreement_with_ann"].get(name)
        if agreement is not None:
            ann = nats(".", 48, mode="ann", dtype="float64")[1]
            assert (best == ann).mean() == pytest.approx(agreement, abs=2e-3)

    def test_a_batch_changes_the_published_model(self) -> None:
        found, _ = nats(".", 16, mode="reference")
        assert found == pytest.approx(self.metrics["nll"]["braingpt_as_run_B16"], abs=2e-4)

    @pytest.mark.parametrize("mode", ["reference", "causal"])
    def test_events_of_every_code(self, mode: str) -> None:
        counter = EventCounter()
        model = load(GOLDEN / "trained", mode=mode, silu="exact")
        for row in rows_of_text(48):
            model(row, listener=counter)
        suffix = "per_tensor" if mode == "reference" else "per_token"
        names = {"unary": "rate", "bit_plane": "bitplane", "signed_digit": "naf"}
        for code, found in counter.per_mac().items():
            expected = self.metrics["events_per_mac"][f"{names.get(code, 'nonzero')}_{suffix}"]
            assert found == pytest.approx(expected, rel=0.02), code
