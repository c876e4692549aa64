"""What a training run is: its settings, the batch and the learning rate of each step."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from neurosim.models.config import from_mapping
from neurosim.models.training.hardware import HardwareNoise

Resolve = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one run; `model` goes to the architecture named by its `model_type`.

    With `init` (a model folder) the run starts from its weights, and `model` may be left out;
    `hardware` disturbs every step as a chip does (hardware-aware training, see `hardware`).
    `learning_rate` is AdamW's; `muon_rate` > 0 gives the block matrices to Muon at that rate;
    `sources` are the texts (none named: all);
    `repeat` says how often the documents of a source stand in the stream (once where not named);
    `tokenizer` is a tokenizer.json, or "" to train one of `model.vocab_size` on the train split;
    `penalty` weighs synaptic operations per token, in nats per million; with a `teacher` (a model
    folder) `distil` is the weight of its distribution in the loss, from the fraction `distil_from`
    of the run on; from `quantise_from` on, the forward pass uses the rounded weights of inference.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    init: str = ""
    hardware: HardwareNoise | None = None
    sources: tuple[str, ...] = ()
    repeat: Mapping[str, int] = field(default_factory=dict)
    tokenizer: str = ""
    steps: int = 4000
    batch: int = 8
    context: int = 256
    learning_rate: float = 3e-3
    muon_rate: float = 0.0
    final_rate: float = 0.05
    warmup: int = 100
    weight_decay: float = 0.1
    clip: float = 1.0
    seed: int = 0
    penalty: float = 0.0
    teacher: str = ""
    distil: float = 0.5
    distil_from: float = 0.0
    quantise_from: float = 0.8
    log_every: int = 20
    evaluate_every: int = 500
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))
        if self.steps < 1 or self.batch < 1 or self.context < 2:
            raise ValueError(
                f"expected steps >= 1, batch >= 1 and context >= 2, got {self.steps}, "
                f"{self.batch}, {self.context}"
            )
        for name in ("log_every", "evaluate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.learning_rate <= 0 or self.seed < 0:
            raise ValueError(
                f"expected learning_rate > 0 and seed >= 0, got {self.learning_rate}, {self.seed}"
            )
        for name in ("distil", "distil_from", "quantise_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"expected {name} from 0 to 1, got {getattr(self, name)}")
        if not self.init and "model_type" not in self.model:
            raise ValueError("expected model.model_type: spike_transformer or transformer")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainingConfig:
        """Build from a mapping; unknown keys are an error."""
        if "model" not in data and "init" not in data:
            raise ValueError("expected a [model] table with model_type and sizes, or init = folder")
        data = dict(data)
        if "hardware" in data:
            data["hardware"] = HardwareNoise.from_dict(data["hardware"])
        return from_mapping(cls, data, "training")

    @classmethod
    def load(cls, path: Path, resolve: Resolve = dict) -> TrainingConfig:
        """Read a TOML file; `resolve` completes its mapping before it is checked."""
        try:
            return cls.from_dict(resolve(tomllib.loads(path.read_text())))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; without `init` and `hardware` where they are not used."""
        unused = [name for name in ("init", "hardware") if not getattr(self, name)]
        return {key: value for key, value in asdict(self).items() if key not in unused}


def batch_of_step(
    stream: npt.NDArray[np.integer], step: int, batch: int, context: int, seed: int
) -> npt.NDArray[np.int32]:
    """Tokens (batch, context + 1) of one step: windows of the stream, each epoch in a new order.

    A function of (seed, step) alone, so a resumed run sees what an uninterrupted one would.
    """
    windows = (len(stream) - 1) // context - 1  # one window is left for the epoch's random offset
    if windows < 1:
        raise ValueError(
            f"expected a corpus of more than {2 * context + 1} tokens, got {len(stream)}"
        )
    rows = []
    for index in range(step * batch, (step + 1) * batch):
        epoch, position = divmod(index, windows)
        generator = np.random.default_rng((seed, epoch))
        offset = int(generator.integers(context))
        start = offset + context * int(generator.permutation(windows)[position])
        rows.append(stream[start : start + context + 1])
    return np.stack(rows).astype(np.int32)


class Schedule(Protocol):
    """The settings a learning rate follows from."""

    @property
    def steps(self) -> int:
        """In all."""

    @property
    def warmup(self) -> int:
        """Steps."""

    @property
    def learning_rate(self) -> float:
        """The largest."""

    @property
    def final_rate(self) -> float:
        """At the end, as a share of the largest."""


def learning_rate(config: Schedule, step: int) -> float:
    """Linear warm-up, then cosine down to `final_rate` of the peak."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(config.steps - config.warmup, 1)
    cosine = 0.5 * (1 + np.cos(np.pi * progress))
    return float(config.learning_rate * (config.final_rate + (1 - config.final_rate) * cosine))
