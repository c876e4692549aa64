"""The folder of a training run: its settings, the state to go on from, and the metrics so far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from neurosim.files import replace_file
from neurosim.models.checkpoint import load_arrays, save_arrays

STATE, METRICS, SETTINGS = "state.safetensors", "metrics.jsonl", "train.json"


def remember(folder: Path, settings: Mapping[str, Any]) -> None:
    """A folder belongs to one run; other settings are refused."""
    path = folder / SETTINGS
    if path.is_file() and json.loads(path.read_text()) != json.loads(json.dumps(settings)):
        raise ValueError(f"{folder} holds a run with other settings ({path}); choose another --out")
    replace_file(path, json.dumps(settings, indent=1).encode())


def write_state(folder: Path, step: int, parts: Mapping[str, list[tuple[str, mx.array]]]) -> None:
    """Everything needed to go on from a step: part ("model", "optimizer") -> named arrays."""
    arrays: dict[str, Any] = {"step": mx.array(step)}
    arrays |= {f"{part}.{name}": value for part, named in parts.items() for name, value in named}
    save_arrays(folder / STATE, arrays)


def read_state(folder: Path) -> tuple[int, dict[str, list[tuple[str, mx.array]]]] | None:
    """The step and the parts of `write_state`; None before the first."""
    if not (folder / STATE).is_file():
        return None
    stored = load_arrays(folder / STATE)
    step = int(np.asarray(stored.pop("step")))
    parts: dict[str, list[tuple[str, mx.array]]] = {}
    for key, array in stored.items():
        part, name = key.split(".", 1)
        parts.setdefault(part, []).append((name, array))
    return step, parts


def cut_metrics(folder: Path, step: int) -> None:
    """Drop lines of steps that will be done again, and a last line that a crash cut off."""
    path, kept = folder / METRICS, []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    replace_file(path, "".join(kept).encode())
