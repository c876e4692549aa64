"""Evening out: the same ANN, bit-identical backends, and less lost to few spikes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from braingpt_cases import write_model
from hypothesis import given
from hypothesis import strategies as st
from model_folders import write_folder

from neurosim.models.braingpt import BrainGPTConfig, SiteRecord, load
from neurosim.models.braingpt.convert import convert
from neurosim.models.braingpt.even import convert_even
from neurosim.models.braingpt.hadamard import check_block, largest_block, transform, transform_rows
from neurosim.models.braingpt.stored import StoredModel
from neurosim.models.braingpt.training.folder import save
from neurosim.models.braingpt.training.prepare import prepare
from neurosim.models.braingpt.training.recipe import Calibration, Conversion, Recipe

IDS = np.random.default_rng(2).integers(0, 97, 60)


@given(st.integers(0, 6), st.integers(1, 5), st.integers(0, 2**31))
def test_hadamard_blocks(power: int, blocks: int, seed: int) -> None:
    """H H = size I, the matrix of signs, and the compiled form to the bit."""
    size = 2**power
    x = np.random.default_rng(seed).standard_normal((3, size * blocks))
    once = transform(x, size)
    np.testing.assert_allclose(transform(once, size), size * x, rtol=1e-12, atol=1e-12)
    signs = transform(np.eye(size), size)
    assert set(np.unique(signs)) <= {-1.0, 1.0}
    expected = (x.reshape(3, blocks, size) @ signs).reshape(x.shape)
    np.testing.assert_allclose(once, expected, rtol=1e-12, atol=1e-12)
    rows = x.astype(np.float32)
    expected32 = transform(rows, size)
    transform_rows(rows, size)
    np.testing.assert_array_equal(rows, expected32)


def test_blocks() -> None:
    assert [largest_block(n) for n in (1536, 11008, 72, 7)] == [512, 256, 8, 1]
    np.testing.assert_array_equal(transform(np.ones((2, 3)), 0), np.ones((2, 3)))
    for wrong in (3, 16, -2, 2.0, True + 4.5):
        with pytest.raises(ValueError, match="Hadamard"):
            check_block(wrong, 72)


def evened(folder: Path, source: Path, **settings: object) -> Path:
    """A float copy with rotation, Hadamard blocks and gains, measured on random tokens."""
    recipe = Recipe(
        Conversion(str(source), "causal", 8, "exact", True, True),
        Calibration(1024, 64, clips=False, gains=0.5, **settings),
    )
    text = np.random.default_rng(1).integers(0, 97, 4000)
    found = prepare(recipe, text)
    weights = found.weights.__getitem__
    save(folder, found.config, weights, source, {}, found.staircases, gains=found.gains)
    return folder


def outliers(folder: Path, **changes: object) -> Path:
    """A model with a few channels that are thirty times larger than the rest."""
    first = folder.with_name(f"{folder.name}-before")
    stored = StoredModel(write_model(first, 6, hidden_size=64, intermediate_size=96, **changes))
    weights = {name: stored.floats(name).copy() for name in stored.config.weight_shapes()}
    for name, weight in weights.items():
        if name.endswith(("embed_tokens.weight", "norm.weight")):
            weight[..., [3, 17]] *= 30
        elif name.endswith(("gate_proj.weight", "up_proj.weight", "q_proj.weight")):
            weight[[1, 5]] *= 10
    family = "llama" if not stored.config.biases else "qwen2"
    return write_folder(folder, stored.config, weights, family)


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A model with outliers, and its evened-out copy."""
    folder = tmp_path_factory.mktemp("even")
    plain = outliers(folder / "plain", model_type=request.param)
    return [plain, evened(folder / "even", plain)]


def test_the_ann_is_the_same(pair: list[Path]) -> None:
    plain, even = (load(f, mode="ann", dtype="float64")(IDS) for f in pair)
    assert np.abs(plain - even).max() < 1e-4 * np.abs(plain).max()
    assert StoredModel(pair[1]).config.hadamard == 32
    assert set(StoredModel(pair[1]).gains()) == {
        f"L{i}.{name}_proj" for i in range(2) for name in ("q", "k", "gate", "up")
    }


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_less_is_lost(pair: list[Path], bits: int) -> None:
    """Distance of the logits from the ANN's, with and without evening out."""
    exact = load(pair[0], mode="ann", dtype="float64")(IDS)
    errors = [
        np.sqrt(np.mean((load(f, bits=bits, silu="exact", dtype="float64")(IDS) - exact) ** 2))
        for f in pair
    ]
    assert errors[1] < 0.85 * errors[0]


def test_backends_agree(pair: list[Path]) -> None:
    records = [SiteRecord() for _ in range(3)]
    ways: list[dict[str, object]] = [{"dtype": "float64"}, {}, {"backend": "mlx"}]
    logits = [
        np.asarray(load(pair[1], **way)(IDS, listener=record))
        for way, record in zip(ways, records, strict=True)
    ]
    for record in records[1:]:
        off = [
            (record.counts[site] != records[0].counts[site]).mean() for site in records[0].counts
        ]
        assert np.mean(off) < 0.01
    for found in logits[1:]:
        assert np.abs(found - logits[0]).mean() < 0.01 * np.abs(logits[0]).max()


def test_the_cache_agrees(pair: list[Path]) -> None:
    model = load(pair[1], weight_bits=8)
    cache = model.new_cache()
    steps = np.concatenate([model(IDS[i : i + 1], cache) for i in range(len(IDS))])
    np.testing.assert_array_equal(steps, model(IDS))


@pytest.mark.parametrize("weight_bits", [32, 8, 4])
def test_conversion_keeps_gains_and_blocks(
    pair: list[Path], tmp_path: Path, weight_bits: int
) -> None:
    with pytest.warns(UserWarning, match="tokenizer"):
        folder = convert(pair[1], tmp_path / "out", weight_bits=weight_bits)
    source, found = StoredModel(pair[1]), StoredModel(folder)
    assert found.config.hadamard == source.config.hadamard
    for name, gain in source.gains().items():
        np.testing.assert_array_equal(found.gains()[name], gain)
    again = load(pair[1], weight_bits=weight_bits)(IDS)
    np.testing.assert_array_equal(load(folder)(IDS), again)


def test_a_fitted_staircase_is_stored(tmp_path: Path) -> None:
    plain = outliers(tmp_path / "plain")
    even = evened(tmp_path / "even", plain, staircase=True)
    exact = load(even, silu="exact")(IDS)
    fitted = load(even, silu="staircase")(IDS)
    assert np.abs(fitted - exact).mean() < 0.2 * np.abs(exact).mean()


def test_a_gain_of_the_wrong_size(pair: list[Path], tmp_path: Path) -> None:
    source = StoredModel(pair[1])
    gains = source.gains() | {"L0.q_proj": np.ones(3, np.float32)}
    save(tmp_path / "out", source.config, source.floats, pair[1], gains=gains)
    with pytest.raises(ValueError, match="q_proj.gain"):
        load(tmp_path / "out")


def test_a_block_that_does_not_divide(pair: list[Path], tmp_path: Path) -> None:
    data = json.loads((pair[1] / "config.json").read_text())
    data["neurosim"]["hadamard"] = 64
    with pytest.raises(ValueError, match="Hadamard"):
        BrainGPTConfig.from_dict(data)


def test_weights_packed_by_another_version(pair: list[Path]) -> None:
    data = json.loads((pair[1] / "config.json").read_text())
    assert data["neurosim"]["layout"] == 1
    data["neurosim"]["layout"] = 2
    with pytest.raises(ValueError, match="convert the model again"):
        BrainGPTConfig.from_dict(data)


def test_smoothing_does_not_go_with_hadamard_blocks() -> None:
    with pytest.raises(ValueError, match="choose one"):
        Recipe(Conversion("x", hadamard=True), Calibration(smooth=0.5))


def test_without_a_tokenizer(pair: list[Path], tmp_path: Path) -> None:
    with (
        pytest.warns(UserWarning, match="tokenizer"),
        pytest.raises(ValueError, match="tokenizer"),
    ):
        convert_even(pair[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()
