"""Training: what a step sees, resuming byte for byte, the loss, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten
from tiny_models import stream, twin_model
from training_runs import STEPS, finished, records_of, short_config, short_trainer

from neurosim.cli.train import with_chip_noise
from neurosim.models import checkpoint
from neurosim.models.text.tokenizer import Tokenizer
from neurosim.models.training import loop
from neurosim.models.training.loop import Trainer, rounded_to_grid
from neurosim.models.training.schedule import TrainingConfig, batch_of_step, learning_rate
from neurosim.network import ngram_rows

# What a step sees.


@pytest.mark.parametrize(("length", "batch", "context"), [(100, 1, 8), (101, 3, 7), (64, 4, 16)])
def test_batches_cover_each_window_once_an_epoch(length: int, batch: int, context: int) -> None:
    """The windows of an epoch are disjoint but for the shared token, all of one random offset."""
    text = np.arange(length, dtype=np.uint16)  # a token is its own position
    windows = (length - 1) // context - 1
    rows = np.concatenate(
        [batch_of_step(text, step, batch, context, 5) for step in range(4 * windows)]
    )
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(np.diff(rows, axis=1), 1)  # every row is one stretch of text
    offsets, orders = set(), set()
    for epoch in range(4 * batch):
        starts = rows[epoch * windows : (epoch + 1) * windows, 0]
        offset = starts.min()
        assert 0 <= offset < context
        np.testing.assert_array_equal(np.sort(starts), offset + context * np.arange(windows))
        offsets.add(int(offset))
        orders.add(tuple(np.argsort(starts)))
    assert len(offsets) > 1
    assert len(orders) > 1


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    text = np.arange(300, dtype=np.uint16)
    later = batch_of_step(text, 9, 4, 8, 0)
    np.testing.assert_array_equal(later, batch_of_step(text, 9, 4, 8, 0))
    assert (later != batch_of_step(text, 9, 4, 8, 1)).any()
    assert (later != batch_of_step(text, 10, 4, 8, 0)).any()
    np.testing.assert_array_equal(  # two small steps are one large one
        np.concatenate([batch_of_step(text, step, 4, 8, 0) for step in (18, 19)]),
        batch_of_step(text, 9, 8, 8, 0),
    )


def test_too_short_a_corpus() -> None:
    batch_of_step(np.arange(17), 0, 1, 8, 0)
    with pytest.raises(ValueError, match="more than 17 tokens, got 16"):
        batch_of_step(np.arange(16), 0, 1, 8, 0)


def test_learning_rate() -> None:
    """Linear warm-up to the peak, half-way between peak and end in the middle, then the end."""
    config = short_config(learning_rate=0.4, warmup=10, steps=110, final_rate=0.1)
    rates = [learning_rate(config, step) for step in range(111)]
    np.testing.assert_allclose(rates[:11], [*(0.04 * np.arange(1, 11)), 0.4])
    assert rates[60] == pytest.approx(0.4 * 0.55)
    assert rates[110] == pytest.approx(0.04)
    assert (np.diff(rates[10:]) < 0).all()
    assert learning_rate(short_config(learning_rate=0.4, warmup=0), 0) == pytest.approx(0.4)


# What a step does.


def _reference_loss(model: checkpoint.Model, batch: np.ndarray) -> float:
    """Mean cross-entropy in float64, of the training-mode forward pass."""
    logits = np.asarray(model(mx.array(batch[:, :-1]))).astype(np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return float(-np.take_along_axis(log_p, batch[:, 1:, None], axis=-1).mean())


def _parameters(trainer: Trainer) -> dict[str, np.ndarray]:
    return {k: np.array(v) for k, v in tree_flatten(trainer.model.trainable_parameters())}


def test_the_forward_pass_uses_rounded_weights_from_the_given_step_on(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """The loss is that of the grid, the weights that are kept and updated are not on it."""
    trainer = short_trainer(tmp_path, tokenizer, quantise_from=0.5)
    trainer.model.train()
    for step in range(STEPS):
        before = _parameters(trainer)
        batch = batch_of_step(trainer.train_tokens, step, 2, 8, 0)
        plain = _reference_loss(trainer.model, batch)
        trainer.model.update(tree_unflatten(list(rounded_to_grid(trainer.model).items())))
        rounded = _reference_loss(trainer.model, batch)
        trainer.model.update(tree_unflatten([(k, mx.array(v)) for k, v in before.items()]))
        assert plain != pytest.approx(rounded, abs=1e-6)
        loss = trainer.train_step()
        assert loss == pytest.approx(rounded if step >= 4 else plain, abs=2e-5), step
    grid = {name: np.asarray(value) for name, value in rounded_to_grid(trainer.model).items()}
    after = _parameters(trainer)
    for name in ("blocks.0.query", "head", "embedding"):
        assert np.mean(grid[name] != after[name]) > 0.5, name
    assert trainer.step == STEPS


def test_rounding_leaves_the_kept_weights_alone(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """With a vanishing learning rate nothing moves, however far the grid is."""
    trainer = short_trainer(tmp_path, tokenizer, quantise_from=0.0, learning_rate=1e-7, warmup=0)
    trainer.model.train()
    before = _parameters(trainer)
    grid = {name: np.array(value) for name, value in rounded_to_grid(trainer.model).items()}
    trainer.train_step()
    for name, value in _parameters(trainer).items():
        assert np.abs(value - before[name]).max() < 1e-6, name
    assert np.abs(grid["head"] - before["head"]).max() > 1e-4


def test_muon_gets_the_block_matrices(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Its updates are nearly orthogonal; tables, head, convolution and vectors stay with AdamW."""
    for rate in (0.0, 0.01):
        trainer = short_trainer(
            tmp_path / str(rate), tokenizer, muon_rate=rate, warmup=0, weight_decay=0.0
        )
        trainer.model.train()
        before = _parameters(trainer)
        trainer.train_step()
        change = {name: value - before[name] for name, value in _parameters(trainer).items()}
        for name in ("query", "key", "value", "output", "up", "down"):
            size = np.abs(change[f"blocks.0.{name}"])
            one_size = np.quantile(size, 0.1) > 0.9 * np.quantile(size, 0.9)
            assert one_size == (rate == 0), f"{name}: {np.quantile(size, [0.1, 0.5, 0.9])}"
            if rate:
                values = np.linalg.svd(change[f"blocks.0.{name}"], compute_uv=False)
                assert values[0] < 2 * values[5], f"{name}: {values[:6]}"
        adam = trainer.config.learning_rate  # Adam's first step is its rate, whatever the gradient
        for name in ("head", "blocks.0.conv", "blocks.0.conv_read.shift"):
            assert np.abs(change[name]).max() == pytest.approx(adam, rel=0.01), name
            assert np.median(np.abs(change[name])) == pytest.approx(adam, rel=0.01), name


def test_evaluation_by_hand(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Mean loss of the first windows, with the running statistics, which it does not move."""
    trainer = short_trainer(tmp_path, tokenizer)
    trainer.train_step()
    statistics = np.array(trainer.model.head_read.running_mean)
    rows = np.stack([trainer.validation_tokens[i : i + 9] for i in range(0, 24, 8)])
    found = trainer.evaluate(windows=3)
    assert trainer.model.training
    np.testing.assert_array_equal(statistics, np.asarray(trainer.model.head_read.running_mean))
    trainer.model.eval()
    assert found == pytest.approx(_reference_loss(trainer.model, rows.astype(np.int64)), abs=1e-5)


def test_the_model_that_is_saved(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """On the grid, with running statistics measured at the rounded weights, and its facts."""
    trainer = short_trainer(tmp_path, tokenizer)
    folder = trainer.run(lambda line: None)
    loaded = checkpoint.load(folder)
    assert loaded.training["steps"] == STEPS
    assert loaded.training["validation_loss"] == pytest.approx(trainer.evaluate())
    assert loaded.model.config.vocab_size == tokenizer.vocab_size
    sums = 0
    x = loaded.model.embedding
    for index in range(loop.STATISTICS_BATCHES):
        ids = batch_of_step(trainer.train_tokens, index, 2, 8, 1)[:, :-1]
        sums = sums + np.asarray(x[mx.array(ids)]).mean(axis=(0, 1))
        table = np.asarray(loaded.model.ngrams[0])
        sums = sums + table[ngram_rows(ids, 2, len(table))].mean(axis=(0, 1))
    np.testing.assert_allclose(
        np.asarray(loaded.model.blocks[0].conv_read.running_mean),
        sums / loop.STATISTICS_BATCHES,
        atol=1e-5,
    )


def test_distillation_from_a_teacher(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """(1 - w) cross-entropy to the text + w cross-entropy to the teacher, who stays as he is."""
    teacher_folder = tmp_path / "teacher"
    checkpoint.save(teacher_folder, twin_model(0, vocab_size=tokenizer.vocab_size), tokenizer)
    teacher = checkpoint.load(teacher_folder).model
    trainer = short_trainer(tmp_path / "run", tokenizer, teacher=str(teacher_folder), distil=0.3)
    trainer.model.train()
    batch = batch_of_step(trainer.train_tokens, 0, 2, 8, 0)
    total, plain = trainer.loss(mx.array(batch))
    wanted = _reference_loss(trainer.model, batch)

    def log_p(model: checkpoint.Model) -> np.ndarray:
        logits = np.asarray(model(mx.array(batch[:, :-1]))).astype(np.float64)
        shifted = logits - logits.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

    taught = -(np.exp(log_p(teacher)) * log_p(trainer.model)).sum(axis=-1).mean()
    assert float(np.asarray(plain)) == pytest.approx(wanted, abs=1e-5)
    assert float(np.asarray(total)) == pytest.approx(0.7 * wanted + 0.3 * taught, abs=1e-5)
    finished(trainer)
    assert trainer.teacher is not None
    after = dict(tree_flatten(trainer.teacher.parameters()))
    for name, value in tree_flatten(teacher.parameters()):
        np.testing.assert_array_equal(np.asarray(value), np.asarray(after[name]), err_msg=name)
    first = records_of(tmp_path / "run")[0]
    assert first["loss"] == pytest.approx(wanted, abs=1e-5)  # the log shows the text's loss


def test_a_missing_teacher_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="no model folder at .*nobody"):
        short_trainer(tmp_path, tokenizer, teacher=str(tmp_path / "nobody"))


def test_a_teacher_of_another_vocabulary_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    other = Tokenizer.train(["a b c"], 257)
    checkpoint.save(tmp_path / "teacher", twin_model(0, vocab_size=257, ngram_rows=()), other)
    with pytest.raises(ValueError, match="vocab"):
        short_trainer(tmp_path / "run", tokenizer, teacher=str(tmp_path / "teacher")).train_step()


def test_the_penalty_prices_synaptic_operations(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """In nats per million operations a token; it lowers the activity."""
    activity = {}
    for penalty in (0.0, 3000.0):
        trainer = short_trainer(
            tmp_path / str(penalty), tokenizer, penalty=penalty, steps=30, quantise_from=1.0,
            learning_rate=0.03, warmup=0,
        )  # fmt: skip
        trainer.model.train()
        batch = mx.array(batch_of_step(trainer.train_tokens, 0, 2, 8, 0))
        total, plain = (float(np.asarray(part)) for part in trainer.loss(batch))
        operations = float(np.asarray(trainer.model.activity_penalty()))
        assert total == pytest.approx(plain + penalty * 1e-6 * operations, rel=1e-5)
        for _ in range(12):
            trainer.train_step()
        activity[penalty] = float(np.asarray(trainer.model.activity_penalty()))
    assert activity[3000.0] < 0.9 * activity[0.0]


def test_rounded_to_grid_is_the_saved_model(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """What the end of training computes with is what a checkpoint holds."""
    trainer = short_trainer(tmp_path, tokenizer)
    checkpoint.save(tmp_path / "model", trainer.model, tokenizer)
    stored = dict(tree_flatten(checkpoint.load(tmp_path / "model").model.parameters()))
    for name, value in rounded_to_grid(trainer.model).items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(stored[name]), err_msg=name)


# Refusals.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "expected steps >= 1"),
        ({"batch": 0}, "batch >= 1"),
        ({"context": 1}, "context >= 2"),
        ({"model": {}}, "model.model_type"),
        ({"log_every": 0}, "log_every"),
        ({"evaluate_every": 0}, "evaluate_every"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"distil": 1.5}, "distil"),
        ({"seed": -1}, "seed"),
    ],
    ids=str,
)
def test_config_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        short_config(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = ", "Invalid value"),
        ("steps = 3", r"\[model\]"),
        ("speed = 3\n[model]\nmodel_type = 'transformer'", r"unknown training keys \['speed'\]"),
        ("[model]\nwidth = 3", "model.model_type"),
        ("model = 3", "model"),
        ("steps = 'many'\n[model]\nmodel_type = 'transformer'", "steps"),
    ],
)
def test_config_file_refuses(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        TrainingConfig.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_config_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("steps = 12\n[model]\nmodel_type = 'transformer'\nwidth = 64\n")
    config = TrainingConfig.load(path)
    assert config.steps == 12
    assert config.model == {"model_type": "transformer", "width": 64}
    assert TrainingConfig.from_dict(config.to_dict()) == config


def test_shipped_settings_build_models() -> None:
    """The TOML files are read, and describe two models of about one size, or start from one."""
    folder = Path(loop.__file__).parent / "configs"
    sizes = {}
    for path in sorted(folder.glob("*.toml")):
        config = TrainingConfig.load(path, with_chip_noise)
        if config.init:
            assert config.init.endswith(("checkpoints/spike-transformer", "_thresholds/model"))
            assert config.hardware is not None
            continue
        model = checkpoint.build({**config.model, "vocab_size": 300})
        sizes[path.stem] = sum(v.size for _, v in tree_flatten(model.trainable_parameters()))
    assert set(sizes) == {"spike_transformer", "transformer"}
    assert sizes["spike_transformer"] == pytest.approx(sizes["transformer"], rel=0.05)


def test_a_validation_text_shorter_than_a_window_is_refused_early(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """Not after the last step."""
    with pytest.raises(ValueError, match="validation"):
        Trainer(short_config(), tmp_path, stream(400, 300), stream(8, 300), tokenizer)
