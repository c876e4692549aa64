"""Training that is interrupted, killed and called again ends as if it had not been."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from training_runs import SPIKING, STEPS, finished, records_of, short_trainer

from neurosim.models.text.tokenizer import Tokenizer
from neurosim.models.training.loop import Trainer

TWIN: dict[str, Any] = {"model_type": "transformer", "width": 32, "layers": 1, "heads": 2}


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
            results[key] = finished(short_trainer(folder, tokenizer, **changes)), records_of(folder)
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
        trainer = short_trainer(folder, tokenizer, **changes)
        stop(trainer, step)
        with pytest.raises(Killed):
            trainer.run(lambda line: None)
        mx.clear_cache()
    assert finished(short_trainer(folder, tokenizer, **changes)) == weights
    assert records_of(folder) == records


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
    trainer = short_trainer(tmp_path, tokenizer)
    _kill(trainer, 5)
    with pytest.raises(Killed):
        trainer.run(lambda line: None)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    assert finished(short_trainer(tmp_path, tokenizer)) == weights
    assert records_of(tmp_path) == records


def test_a_finished_run_may_be_called_again(
    tmp_path: Path,
    tokenizer: Tokenizer,
    uninterrupted: Callable[..., tuple[bytes, list[dict[str, Any]]]],
) -> None:
    weights, records = uninterrupted()
    for _ in range(2):
        assert finished(short_trainer(tmp_path, tokenizer)) == weights
    assert records_of(tmp_path) == records


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
    assert finished(short_trainer(tmp_path / "same", tokenizer)) == weights
    assert uninterrupted(seed=1)[0] != weights


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"steps": 9}, {"model": SPIKING | {"ratio": 3}}], ids=str
)
def test_other_settings_in_the_same_folder_are_refused(
    changes: dict[str, Any], tmp_path: Path, tokenizer: Tokenizer
) -> None:
    short_trainer(tmp_path, tokenizer)
    short_trainer(tmp_path, tokenizer)
    with pytest.raises(ValueError, match="holds a run with other settings"):
        short_trainer(tmp_path, tokenizer, **changes)
    short_trainer(tmp_path, tokenizer)  # the refused ones left nothing behind
