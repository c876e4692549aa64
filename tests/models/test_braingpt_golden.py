"""The NumPy model against data made by the published code."""

from __future__ import annotations

import numpy as np
import pytest
from braingpt_cases import GOLDEN, MICRO, MODELS, golden, needs_golden

from neurosim.models.braingpt import SiteRecord, load, site_names
from neurosim.models.braingpt.model import Options, spiking_attention
from neurosim.models.braingpt.rotary import frequencies, rotate, tables
from neurosim.models.braingpt.silu import Staircase, exact, read_staircase, table


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
