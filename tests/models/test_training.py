"""Training: what a step sees, resuming byte for byte, the loss, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten
from tiny_models import stream, twin_model

from neurosim.models import checkpoint
from neurosim.models.text.tokenizer import Tokenizer
from neurosim.models.training import loop
from neurosim.models.training.loop import Trainer, rounded_to_grid
from neurosim.models.training.schedule import TrainingConfig, batch_of_step, learning_rate
from neurosim.network import ngram_rows

SPIKING: dict[str, Any] = {
    "model_type": "spike_transformer",
    "width": 32,
    "layers": 1,
    "heads": 2,
    "ratio": 2,
    "decay_shift": [1, 3],
    "ngram_rows": [64],
}
TWIN: dict[str, Any] = {"model_type": "transformer", "width": 32, "layers": 1, "heads": 2}
STEPS = 8


def _config(**changes: Any) -> TrainingConfig:
    settings: dict[str, Any] = {
        "model": SPIKING,
        "steps": STEPS,
        "batch": 2,
        "context": 8,
        "warmup": 3,
        "quantise_from": 0.5,
        "log_every": 1,
        "evaluate_every": 4,
        "checkpoint_every": 3,
    }
    return TrainingConfig(**(settings | changes))


def _trainer(folder: Path, tokenizer: Tokenizer, **changes: Any) -> Trainer:
    train, validation = (stream(400, tokenizer.vocab_size, seed) for seed in (0, 1))
    return Trainer(_config(**changes), folder, train, validation[:100], tokenizer)


def _run(trainer: Trainer) -> bytes:
    """Train to the end; the weights' file."""
    folder = trainer.run(lambda line: None)
    return (folder / "model.safetensors").read_bytes()


def _records(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without the times."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [{k: v for k, v in record.items() if k != "cpu_s_per_step"} for record in records]


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
    config = _config(learning_rate=0.4, warmup=10, steps=110, final_rate=0.1)
    rates = [learning_rate(config, step) for step in range(111)]
    np.testing.assert_allclose(rates[:11], [*(0.04 * np.arange(1, 11)), 0.4])
    assert rates[60] == pytest.approx(0.4 * 0.55)
    assert rates[110] == pytest.approx(0.04)
    assert (np.diff(rates[10:]) < 0).all()
    assert learning_rate(_config(learning_rate=0.4, warmup=0), 0) == pytest.approx(0.4)


# Resuming.


class Killed(BaseException):
    """Stands for Ctrl-C or a kill."""


def _stop_between_steps(trainer: Trainer, step: int) -> None:
    train_step = trainer.train_step

    def stopping() -> float:
        if trainer.step == step:
            raise Killed
        return train_step()

    trainer.train_step = stopping  # type: ignore[method-assign]


def _stop_in_the_loss(trainer: Trainer, step: int) -> None:
    """After the forward pass moved the running statistics, with rounded weights in place."""
    loss = trainer.loss

    def stopping(tokens: mx.array) -> Any:
        result = loss(tokens)
        if trainer.step == step:
            raise Killed
        return result

    trainer.loss = stopping  # type: ignore[method-assign]


def _stop_after_the_update(trainer: Trainer, step: int) -> None:
    """The weights have moved, the step is not counted yet."""
    update = trainer.optimizer.update

    def stopping(*arguments: Any) -> None:
        update(*arguments)
        if trainer.step == step:
            raise Killed

    trainer.optimizer.update = stopping


def _kill(trainer: Trainer, step: int) -> None:
    """As kill -9 does: nothing is written on the way out."""
    _stop_between_steps(trainer, step)
    checkpoint_now = trainer.checkpoint

    def only_in_time() -> None:
        if trainer.step % trainer.config.checkpoint_every == 0:
            checkpoint_now()

    trainer.checkpoint = only_in_time  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def uninterrupted(
    tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[bytes, list[dict[str, Any]]]]:
    """Weights and metrics of a run without a break, each configuration once."""
    results: dict[str, tuple[bytes, list[dict[str, Any]]]] = {}

    def get(**changes: Any) -> tuple[bytes, list[dict[str, Any]]]:
        key = json.dumps(changes, sort_keys=True)
        if key not in results:
            folder = tmp_path_factory.mktemp("run")
            results[key] = _run(_trainer(folder, tokenizer, **changes)), _records(folder)
        return results[key]

    return get


RUNS: dict[str, dict[str, Any]] = {
    "spiking": {},
    "muon": {"muon_rate": 0.01},
    "twin": {"model": TWIN},
    "rarely logged": {"log_every": 5, "evaluate_every": 8},
}


def _resume_equals(
    stop: Callable[[Trainer, int], None],
    steps: tuple[int, ...],
    changes: dict[str, Any],
    folder: Path,
    tokenizer: Tokenizer,
    uninterrupted: Callable[..., tuple[bytes, list[dict[str, Any]]]],
) -> None:
    weights, records = uninterrupted(**changes)
    for step in steps:
        trainer = _trainer(folder, tokenizer, **changes)
        stop(trainer, step)
        with pytest.raises(Killed):
            trainer.run(lambda line: None)
        mx.clear_cache()
    assert _run(_trainer(folder, tokenizer, **changes)) == weights
    assert _records(folder) == records


@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize(
    "steps", [(1,), (4,), tuple(range(1, STEPS))], ids=["at 1", "at 4", "at every step"]
)
def test_resume_after_an_interruption(
    steps: tuple[int, ...],
    changes: dict[str, Any],
    tmp_path: Path,
    tokenizer: Tokenizer,
    uninterrupted: Callable[..., tuple[bytes, list[dict[str, Any]]]],
) -> None:
    """Same weights byte for byte, same metrics; the weights are rounded from step 4 on."""
    _resume_equals(_stop_between_steps, steps, changes, tmp_path, tokenizer, uninterrupted)


@pytest.mark.parametrize("step", [2, 6], ids=["float weights", "rounded weights"])
@pytest.mark.parametrize("stop", [_stop_in_the_loss, _stop_after_the_update])
def test_resume_after_an_interruption_inside_a_step(
    stop: Callable[[Trainer, int], None],
    step: int,
    tmp_path: Path,
    tokenizer: Tokenizer,
    uninterrupted: Callable[..., tuple[bytes, list[dict[str, Any]]]],
) -> None:
    """Ctrl-C nearly always comes inside a step: half a step must not be saved as a whole one."""
    _resume_equals(stop, (step,), {}, tmp_path, tokenizer, uninterrupted)


@pytest.mark.parametrize("steps", [(2,), (5,), (7,), (4, 6)], ids=lambda steps: f"at {steps}")
def test_resume_after_a_kill(
    steps: tuple[int, ...],
    tmp_path: Path,
    tokenizer: Tokenizer,
    uninterrupted: Callable[..., tuple[bytes, list[dict[str, Any]]]],
) -> None:
    """From the last checkpoint (every 3 steps), or from the start; no step is logged twice."""
    _resume_equals(_kill, steps, {}, tmp_path, tokenizer, uninterrupted)


def test_a_line_cut_off_by_a_crash_does_not_stop_a_run(
    tmp_path: Path,
    tokenizer: Tokenizer,
    uninterrupted: Callable[..., tuple[bytes, list[dict[str, Any]]]],
) -> None:
    weights, records = uninterrupted()
    trainer = _trainer(tmp_path, tokenizer)
    _kill(trainer, 5)
    with pytest.raises(Killed):
        trainer.run(lambda line: None)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    assert _run(_trainer(tmp_path, tokenizer)) == weights
    assert _records(tmp_path) == records


def test_a_finished_run_may_be_called_again(
    tmp_path: Path,
    tokenizer: Tokenizer,
    uninterrupted: Callable[..., tuple[bytes, list[dict[str, Any]]]],
) -> None:
    weights, records = uninterrupted()
    for _ in range(2):
        assert _run(_trainer(tmp_path, tokenizer)) == weights
    assert _records(tmp_path) == records


def test_metrics(uninterrupted: Callable[..., tuple[bytes, list[dict[str, Any]]]]) -> None:
    _, records = uninterrupted()
    losses = [record["step"] for record in records if "loss" in record]
    assert losses == list(range(1, STEPS + 1))
    assert [record["step"] for record in records if "validation_loss" in record] == [4, 8]
    assert all(0 < record.get("loss", record.get("validation_loss")) < 20 for record in records)


def test_a_seed_is_a_run(
    uninterrupted: Callable[..., tuple[bytes, list[dict[str, Any]]]],
    tmp_path: Path,
    tokenizer: Tokenizer,
) -> None:
    weights, _ = uninterrupted()
    mx.random.normal((5,))  # what was drawn before does not matter
    assert _run(_trainer(tmp_path / "same", tokenizer)) == weights
    assert uninterrupted(seed=1)[0] != weights


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"steps": 9}, {"model": SPIKING | {"ratio": 3}}], ids=str
)
def test_other_settings_in_the_same_folder_are_refused(
    changes: dict[str, Any], tmp_path: Path, tokenizer: Tokenizer
) -> None:
    _trainer(tmp_path, tokenizer)
    _trainer(tmp_path, tokenizer)
    with pytest.raises(ValueError, match="holds a run with other settings"):
        _trainer(tmp_path, tokenizer, **changes)
    _trainer(tmp_path, tokenizer)  # the refused ones left nothing behind


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
    trainer = _trainer(tmp_path, tokenizer, quantise_from=0.5)
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
    trainer = _trainer(tmp_path, tokenizer, quantise_from=0.0, learning_rate=1e-7, warmup=0)
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
        trainer = _trainer(
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
    trainer = _trainer(tmp_path, tokenizer)
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
    trainer = _trainer(tmp_path, tokenizer)
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
    trainer = _trainer(tmp_path / "run", tokenizer, teacher=str(teacher_folder), distil=0.3)
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
    _run(trainer)
    assert trainer.teacher is not None
    after = dict(tree_flatten(trainer.teacher.parameters()))
    for name, value in tree_flatten(teacher.parameters()):
        np.testing.assert_array_equal(np.asarray(value), np.asarray(after[name]), err_msg=name)
    first = _records(tmp_path / "run")[0]
    assert first["loss"] == pytest.approx(wanted, abs=1e-5)  # the log shows the text's loss


def test_a_missing_teacher_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="no model folder at .*nobody"):
        _trainer(tmp_path, tokenizer, teacher=str(tmp_path / "nobody"))


def test_a_teacher_of_another_vocabulary_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    other = Tokenizer.train(["a b c"], 257)
    checkpoint.save(tmp_path / "teacher", twin_model(0, vocab_size=257, ngram_rows=()), other)
    with pytest.raises(ValueError, match="vocab"):
        _trainer(tmp_path / "run", tokenizer, teacher=str(tmp_path / "teacher")).train_step()


def test_the_penalty_prices_synaptic_operations(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """In nats per million operations a token; it lowers the activity."""
    activity = {}
    for penalty in (0.0, 3000.0):
        trainer = _trainer(
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
    trainer = _trainer(tmp_path, tokenizer)
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
        _config(**changes)


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
    """Both TOML files are read, and describe two models of about one size."""
    folder = Path(loop.__file__).parent / "configs"
    sizes = {}
    for path in sorted(folder.glob("*.toml")):
        config = TrainingConfig.load(path)
        model = checkpoint.build({**config.model, "vocab_size": 300})
        sizes[path.stem] = sum(v.size for _, v in tree_flatten(model.trainable_parameters()))
    assert set(sizes) == {"spike_transformer", "transformer"}
    assert sizes["spike_transformer"] == pytest.approx(sizes["transformer"], rel=0.05)


def test_a_validation_text_shorter_than_a_window_is_refused_early(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """Not after the last step."""
    with pytest.raises(ValueError, match="validation"):
        Trainer(_config(), tmp_path, stream(400, 300), stream(8, 300), tokenizer)
