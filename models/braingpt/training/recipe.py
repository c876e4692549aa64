"""What a fine-tuning run of BrainGPT is: conversion, calibration, training, from one TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from neurosim.models.braingpt.config import SILUS
from neurosim.models.config import from_mapping

METHODS = ("full", "lora")


@dataclass(frozen=True)
class Conversion:
    """`[convert]`: the float model to start from and the spiking one to make of it.

    Attributes:
        source: a Qwen2, Llama or BrainGPT folder with float weights and a tokenizer.
        mode: "causal" (spike counts), or "ann": the same run without any, as a control.
        bits: of the spike counts.
        silu: form of the SiLU; "staircase" needs calibration or a source that has one.
        rotate: write the weights in a basis without outliers, see `rotation`.
        hadamard: transform the inputs of down_proj, see `hadamard`.
    """

    source: str
    mode: str = "causal"
    bits: int = 8
    silu: str = "table"
    rotate: bool = False
    hadamard: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("causal", "ann"):
            raise ValueError(f"expected convert.mode causal or ann, got {self.mode!r}")
        if self.silu not in SILUS:
            raise ValueError(f"expected convert.silu {', '.join(SILUS)}, got {self.silu!r}")
        if self.bits not in range(2, 9):
            raise ValueError(f"expected convert.bits 2 to 8, got {self.bits}")


@dataclass(frozen=True)
class Calibration:
    """`[calibrate]`: what is measured on training text before anything is trained.

    Attributes:
        tokens: of training text, in windows of `context`.
        clips: whether sites get clip factors, see `clip_search`.
        relative: in that search every token weighs the same, rather than by its size.
        smooth: strength of evening out the feed-forward channels, 0 (off) to 1, see `rotation`.
        gains: strength of evening out the outputs of q, k, gate and up by thresholds of their
            own, 0 to 1.
        staircase: whether the SiLU staircase's pulses are fitted, see `staircase_fit`.
    """

    tokens: int = 2048
    context: int = 256
    clips: bool = True
    relative: bool = False
    smooth: float = 0.0
    gains: float = 0.0
    staircase: bool = False

    def __post_init__(self) -> None:
        if self.tokens < self.context or self.context < 2:
            raise ValueError(
                f"expected calibrate.tokens >= context >= 2, got {self.tokens}, {self.context}"
            )
        for name in ("smooth", "gains"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"expected calibrate.{name} from 0 to 1, got {getattr(self, name)}"
                )


@dataclass(frozen=True)
class FineTuning:
    """`[fine_tune]`: Adam through the quantisers, warm-up and cosine.

    Attributes:
        method: "full" (all weights) or "lora" (low-rank additions, merged when saved).
        rank: of those.
        learning_rate: of Adam, in units of each array's root mean square, see `adam`.
        embedding: whether "full" trains embedding and head too.
        distil: weight of the distribution of the ANN (the source) in the loss, 0 to 1.
        clip: largest norm of the gradient.
        final_rate: learning rate at the end, as a share of the largest.
        evaluate_windows: windows of validation text looked at every `evaluate_every` steps.
    """

    method: str = "full"
    rank: int = 16
    embedding: bool = True
    steps: int = 100
    batch: int = 2
    context: int = 256
    learning_rate: float = 2e-3
    final_rate: float = 0.1
    warmup: int = 10
    distil: float = 0.0
    clip: float = 1.0
    log_every: int = 5
    evaluate_every: int = 50
    evaluate_windows: int = 4
    checkpoint_every: int = 25

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"expected fine_tune.method {', '.join(METHODS)}, got {self.method!r}")
        for name in ("rank", "steps", "batch", "log_every", "evaluate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected fine_tune.{name} >= 1, got {getattr(self, name)}")
        if self.context < 2 or self.warmup < 0 or self.evaluate_windows < 1:
            raise ValueError("expected fine_tune context >= 2, warmup >= 0, evaluate_windows >= 1")
        if self.learning_rate <= 0 or self.clip <= 0:
            raise ValueError("expected positive fine_tune learning_rate and clip")
        for name in ("distil", "final_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"expected fine_tune.{name} from 0 to 1")


@dataclass(frozen=True)
class Recipe:
    """One run. Without `[calibrate]` or `[fine_tune]` that stage is left out."""

    convert: Conversion
    calibrate: Calibration | None = None
    fine_tune: FineTuning | None = None
    sources: tuple[str, ...] = ("vital",)
    seed: int = 0
    model_type: str = field(default="braingpt")

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))
        if self.model_type != "braingpt":
            raise ValueError(f"expected model_type 'braingpt', got {self.model_type!r}")
        if self.convert.hadamard and self.calibrate and self.calibrate.smooth:
            raise ValueError(
                "calibrate.smooth scales the channels of down_proj one by one, which "
                "convert.hadamard mixes; choose one of them"
            )
        if self.seed < 0 or not self.sources:
            raise ValueError("expected seed >= 0 and at least one of the text sources")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Build from a mapping; unknown keys are an error."""
        if "convert" not in data:
            raise ValueError("expected a [convert] table with source = FOLDER")
        data = dict(data)
        stages = {"convert": Conversion, "calibrate": Calibration, "fine_tune": FineTuning}
        for name, stage in stages.items():
            if name in data:
                if not isinstance(data[name], Mapping):
                    raise ValueError(f"expected [{name}] to be a table, got {data[name]!r}")
                data[name] = from_mapping(stage, data[name], name)
        return from_mapping(cls, data, "training")

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a TOML file."""
        try:
            return cls.from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)
