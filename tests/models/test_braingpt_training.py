"""Rotation, calibration, fine-tuning: what they leave unchanged, improve, and resume."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from braingpt_cases import write_model

from neurosim.models.braingpt import clips, load
from neurosim.models.braingpt.mlx_model import Linear, from_weights
from neurosim.models.braingpt.model import Options
from neurosim.models.braingpt.silu import Staircase, exact
from neurosim.models.braingpt.sites import site_names
from neurosim.models.braingpt.stored import StoredModel
from neurosim.models.braingpt.training import Conversion, FineTuner, Recipe, losses_of
from neurosim.models.braingpt.training.adam import RelativeAdam
from neurosim.models.braingpt.training.clip_search import FACTORS, ClipSearch
from neurosim.models.braingpt.training.rotation import orthogonal, rotated, smoothed
from neurosim.models.braingpt.training.staircase_fit import STEPS, fitted_staircase

CONFIGS = Path(__file__).parents[2] / "models" / "braingpt" / "training" / "configs"
IDS = np.array([[5, 3, 90, 17, 17, 2, 60, 41, 8], [1, 0, 33, 4, 71, 2, 96, 41, 7]])


@pytest.fixture(scope="module")
def text() -> np.ndarray:
    """Two thousand tokens with something to learn: each follows from the one before."""
    rng = np.random.default_rng(0)
    tokens = [1]
    for _ in range(1999):
        follow = (tokens[-1] * 7 + 3) % 97
        tokens.append(follow if rng.random() < 0.8 else int(rng.integers(97)))
    return np.asarray(tokens)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen2 folder, biases included."""
    return write_model(tmp_path_factory.mktemp("source"), 4)


def recipe(source: Path, **more: Any) -> Recipe:
    base: dict[str, Any] = {
        "model_type": "braingpt",
        "convert": {"source": str(source), "bits": 4, "silu": "staircase", "rotate": True},
        "calibrate": {"tokens": 512, "context": 64, "smooth": 0.5, "staircase": True},
        "fine_tune": {
            "steps": 6,
            "batch": 2,
            "context": 32,
            "learning_rate": 3e-3,
            "warmup": 2,
            "checkpoint_every": 4,
            "evaluate_every": 3,
            "distil": 0.3,
        },
    }
    return Recipe.from_dict(base | more)


@pytest.mark.parametrize("size", [2, 9, 24, 64])
def test_orthogonal(size: int) -> None:
    turn = orthogonal(size, np.random.default_rng(0))
    np.testing.assert_allclose(turn @ turn.T, np.eye(size), atol=1e-12)
    assert np.abs(turn).max() <= np.sqrt(2 / size) * 1.001


@pytest.mark.parametrize("tied", [True, False])
def test_rotation_leaves_the_ann_and_removes_outliers(tmp_path: Path, tied: bool) -> None:
    folder = write_model(tmp_path, 5, tie_word_embeddings=tied)
    stored = StoredModel(folder)
    weights = {n: np.array(stored.floats(n)) for n in stored.config.weight_shapes()}
    weights["model.embed_tokens.weight"][:, 3] *= 30
    ann = Options("ann", "exact")
    wanted = np.array(from_weights(stored.config, weights.__getitem__, ann)(IDS))
    config, turned = rotated(stored.config, weights)
    assert not config.tie_word_embeddings
    model = from_weights(config, turned.__getitem__, ann)
    peaks = []

    def observe(site: str, x: mx.array) -> None:
        if site == "embed.post":
            values = np.abs(np.array(x))
            peaks.append((values.max(-1) / np.sqrt((values**2).mean(-1))).max())

    np.testing.assert_allclose(np.array(model(IDS, observer=observe)), wanted, atol=2e-4)
    assert peaks[0] < 3  # of 5.6 where one of 32 channels holds everything
    sizes = {f"L{i}.down_proj.pre": np.linspace(0.1, 5, 72) for i in range(2)}
    even = smoothed(config, turned, sizes, 0.5)
    np.testing.assert_allclose(
        np.array(from_weights(config, even.__getitem__, ann)(IDS)), wanted, atol=2e-4
    )


def test_clip_search_finds_the_best_factor() -> None:
    """Against every factor through the quantiser itself."""
    from neurosim.kernels import spike_quantise

    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 64)).astype(np.float32)
    x[:, 0] *= 6
    search = ClipSearch(4, relative=False)
    search("L0.q_proj.pre", mx.array(x[:20]))
    search("L0.q_proj.pre", mx.array(x[20:]))
    errors = []
    for factor in FACTORS:
        scale = np.abs(x).max(-1, keepdims=True) / np.float32(7) * np.float32(factor)
        counts, unit = spike_quantise(x, 4, scale)
        errors.append(float(((counts * unit - x) ** 2).sum()))
    best = FACTORS[int(np.argmin(errors))]
    np.testing.assert_allclose(search.errors["L0.q_proj.pre"], errors, rtol=1e-3)
    assert best < 1
    found = search.clips(site_names(1))
    assert found == {f"L0.{n}_proj.pre": best for n in "qkv"}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"L9.q_proj.pre": 0.5}, "no site"),
        ({"embed.post": 0.0}, "expected embed.post from"),
        ({"embed.post": "1"}, "expected embed.post from"),
        ({"L0.q_proj.pre": 0.5, "L0.k_proj.pre": 0.6}, "read the same counts"),
    ],
)
def test_wrong_clips_are_refused(bad: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        clips.checked(bad, 2)


@pytest.mark.parametrize("spread", [0.3, 1.5, 6.0])
def test_fitted_staircase(spread: float) -> None:
    """Close to SiLU where the gate values are, and the same by look-up as by the recurrence."""
    x = (np.random.default_rng(0).standard_normal(50_000) * spread).astype(np.float32)
    silu = Staircase(fitted_staircase(x))
    assert {name: len(pulses) for name, pulses in silu.pulses.items()} == STEPS
    error = np.sqrt(np.mean((silu(x) - exact(x)) ** 2) / np.mean(exact(x) ** 2))
    assert error < 0.05
    edges, values = silu.lookup(np.float32)
    np.testing.assert_array_equal(values[np.searchsorted(edges, x, side="right")], silu(x))


def test_stages_and_backends(source: Path, tmp_path: Path, text: np.ndarray) -> None:
    """Training lowers the held-out loss; the folders load on every backend with one result."""
    run = recipe(source)
    folder = FineTuner(run, tmp_path / "run", text[:1600], text[1600:]).run()
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    validation = [line["validation_loss"] for line in lines if "validation_loss" in line]
    assert len(validation) == 3 and validation[-1] < validation[0]
    for made in (tmp_path / "run" / "prepared", folder):
        stored = StoredModel(made)
        assert stored.config.bits == 4 and min(stored.clips.values()) < 1
        assert stored.staircases() is not None
        precise = load(made, silu="staircase", dtype="float64")(IDS)
        for backend in ("cpu", "mlx"):
            model = load(made, silu="staircase", backend=backend)
            assert np.mean(np.abs(np.array(model(IDS)) - precise)) < 0.1 * precise.std()
    assert json.loads((folder / "config.json").read_text())["neurosim"]["training"]["seed"] == 0


@pytest.mark.parametrize("method", ["full", "lora"])
def test_killed_and_resumed(source: Path, tmp_path: Path, text: np.ndarray, method: str) -> None:
    """The same bits as without the interruption; in between, steps that no checkpoint has."""
    settings = recipe(source).to_dict()["fine_tune"] | {"method": method, "rank": 3}
    run = recipe(source, fine_tune=settings)
    assert run.fine_tune is not None
    whole = FineTuner(run, tmp_path / "whole", text[:1600], text[1600:]).run()
    broken = FineTuner(run, tmp_path / "broken", text[:1600], text[1600:])
    for _ in range(4):
        broken.train_step(run.fine_tune)
    broken.checkpoint()
    broken.train_step(run.fine_tune)
    again = FineTuner(run, tmp_path / "broken", text[:1600], text[1600:])
    assert again.step == 4
    resumed = again.run()
    one, two = ((f / "model.safetensors").read_bytes() for f in (whole, resumed))
    assert one == two


def test_low_rank_additions_merge() -> None:
    linear = Linear((6, 5), bias=True)
    linear.weight = mx.array(np.random.default_rng(1).standard_normal((6, 5)).astype(np.float32))
    x = mx.array(np.random.default_rng(2).standard_normal((3, 5)).astype(np.float32))
    before = np.array(linear(x))
    linear.add_low_rank(2, np.random.default_rng(0))
    np.testing.assert_array_equal(np.array(linear(x)), before)
    linear.low_rank_b = mx.ones((6, 2))
    trained = np.array(linear(x))
    linear.merge()
    assert set(linear) == {"weight", "bias"}
    np.testing.assert_allclose(np.array(linear(x)), trained, atol=1e-6)
    assert np.abs(trained - before).max() > 0.1


def test_a_control_without_spikes(source: Path, tmp_path: Path, text: np.ndarray) -> None:
    run = recipe(source, convert={"source": str(source), "mode": "ann"})
    tuner = FineTuner(run, tmp_path, text[:1600], text[1600:])
    assert tuner.model.options.mode == "ann" and not tuner.model.clips
    logits = np.array(load(source, mode="ann", backend="mlx")(IDS))
    np.testing.assert_array_equal(np.array(tuner.model(IDS)), logits)
    losses = losses_of(tuner.model, text[1600:], 64, 2)
    assert losses.shape == (128,) and abs(losses.mean() - np.log(97)) < 1.5


def test_another_recipe_in_the_folder_is_refused(
    source: Path, tmp_path: Path, text: np.ndarray
) -> None:
    run = recipe(source)
    FineTuner(run, tmp_path, text[:1600], text[1600:])
    with pytest.raises(ValueError, match="other settings"):
        FineTuner(recipe(source, seed=5), tmp_path, text[:1600], text[1600:])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"convert": {"source": "x", "bits": 9}}, "convert.bits 2 to 8"),
        ({"convert": {"source": "x", "silu": "relu"}}, "convert.silu"),
        ({"convert": {"source": "x", "mode": "reference"}}, "convert.mode"),
        ({"convert": {"source": "x", "bit": 4}}, "unknown convert keys"),
        ({"convert": "x"}, "to be a table"),
        ({"calibrate": {"tokens": 3}}, "calibrate.tokens"),
        ({"fine_tune": {"method": "adapter"}}, "fine_tune.method"),
        ({"fine_tune": {"steps": 0}}, "fine_tune.steps"),
        ({"fine_tune": {"distil": 2.0}}, "fine_tune.distil"),
        ({"model_type": "qwen2"}, "model_type 'braingpt'"),
    ],
)
def test_wrong_recipes_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Recipe.from_dict({"convert": {"source": "x"}} | change)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_read(path: Path) -> None:
    found = Recipe.load(path)
    assert isinstance(found.convert, Conversion) and found.fine_tune is not None


def test_command_names_what_is_wrong(tmp_path: Path) -> None:
    """`neurosim train` hands a recipe of this family on, and says what is wrong in one line."""
    path = tmp_path / "wrong.toml"
    path.write_text('model_type = "braingpt"\n[convert]\nsource = "nowhere"\nbits = 40\n')
    command = [sys.executable, "-m", "neurosim", "train", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "convert.bits 2 to 8" in done.stderr
    assert "Traceback" not in done.stderr


def test_steps_are_relative() -> None:
    """A weight written ten times larger takes ten times larger steps; zeros take the rate's."""
    rng = np.random.default_rng(0)
    weight, gradient = (mx.array(rng.standard_normal((4, 3)).astype(np.float32)) for _ in "ab")
    moved = {}
    for scale in (1.0, 10.0):
        optimizer = RelativeAdam(0.01)
        parameters = {"w": scale * weight, "z": mx.zeros((2,))}
        optimizer.init(parameters)
        for _ in range(3):
            given = {"w": gradient / scale, "z": mx.ones((2,))}
            parameters = optimizer.apply_gradients(given, parameters)
        moved[scale] = np.array(parameters["w"]) / scale
        np.testing.assert_allclose(np.array(parameters["z"]), -0.03, rtol=1e-4)
    np.testing.assert_allclose(moved[1.0], moved[10.0], rtol=1e-4)
    size = np.sqrt(np.mean(np.square(np.array(weight))))
    np.testing.assert_allclose(np.abs(moved[1.0] - np.array(weight)), 0.03 * size, rtol=1e-3)
