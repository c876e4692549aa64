"""Short training runs of a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_models import stream

from neurosim.models.text.tokenizer import Tokenizer
from neurosim.models.training.loop import Trainer
from neurosim.models.training.schedule import TrainingConfig

SPIKING: dict[str, Any] = {
    "model_type": "spike_transformer",
    "width": 32,
    "layers": 1,
    "heads": 2,
    "ratio": 2,
    "decay_shift": [1, 3],
    "ngram_rows": [64],
}


STEPS = 8


def short_config(**changes: Any) -> TrainingConfig:
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


def short_trainer(folder: Path, tokenizer: Tokenizer, **changes: Any) -> Trainer:
    train, validation = (stream(400, tokenizer.vocab_size, seed) for seed in (0, 1))
    return Trainer(short_config(**changes), folder, train, validation[:100], tokenizer)


def finished(trainer: Trainer) -> bytes:
    """Train to the end; the weights' file."""
    folder = trainer.run(lambda line: None)
    return (folder / "model.safetensors").read_bytes()


def records_of(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without the times."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [{k: v for k, v in record.items() if k != "cpu_s_per_step"} for record in records]
