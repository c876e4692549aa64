"""The training loop: resumable, seeded, with metrics in JSON lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_flatten, tree_unflatten
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from neurosim.kernels import fast_blas
from neurosim.kernels.dense import cross_entropy, distillation
from neurosim.models.checkpoint import (
    Model,
    build,
    load,
    save,
)
from neurosim.models.spike_transformer import SpikeTransformer
from neurosim.models.text.tokenizer import Tokenizer
from neurosim.models.training import run_folder
from neurosim.models.training.hardware import HardwareDraw, clip_head
from neurosim.models.training.schedule import TrainingConfig, batch_of_step, learning_rate

Tokens = npt.NDArray[np.integer]
STATISTICS_BATCHES = 256
"""Batches whose mean statistics the saved model gets."""


def trainable(model: Model) -> dict[str, mx.array]:
    """Trained parameters by name."""
    return dict(tree_flatten(model.trainable_parameters()))


def rounded_to_grid(model: Model) -> dict[str, mx.array]:
    """Every weight matrix rounded to the integer grid that inference will use, by name."""
    units = model.weight_units()
    limit = 2 ** (model.config.weight_bits - 1) - 1
    result = {}
    for name, weight in trainable(model).items():
        if name in units:
            unit = mx.array(units[name].astype(np.float32))
            result[name] = mx.clip(mx.round(weight / unit), -limit, limit) * unit
    return result


class Trainer:
    """One run in `folder`: `state.safetensors` to resume from, `metrics.jsonl`, then the model."""

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        train: Tokens,
        validation: Tokens,
        tokenizer: Tokenizer,
    ) -> None:
        fast_blas.enable()
        self.config, self.folder = config, folder
        self.train_tokens, self.validation_tokens, self.tokenizer = train, validation, tokenizer
        mx.random.seed(config.seed)
        self.model = self._first_model()
        self.teacher = load(config.teacher).model if config.teacher else None
        self._check_data()
        self.optimizer = self._new_optimizer()
        self.optimizer.init(self.model.trainable_parameters())
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        run_folder.remember(folder, config.to_dict())
        state = run_folder.read_state(folder)
        if state is not None:
            self.step, parts = state
            self.model.load_weights(parts["model"])
            self.optimizer.state = tree_unflatten(parts["optimizer"])
        run_folder.cut_metrics(folder, self.step)

    def _first_model(self) -> Model:
        """Untrained, or the checkpoint named by `init`."""
        config, size = self.config, self.tokenizer.vocab_size
        if not config.init:
            model = build({"vocab_size": size, **config.model})
        else:
            loaded = load(config.init)
            if loaded.tokenizer.sha256 != self.tokenizer.sha256:
                raise ValueError(
                    f"{config.init} was trained with another tokenizer than this run's; set "
                    f'tokenizer = "{config.init}/tokenizer.json"'
                )
            wanted = loaded.model.config.to_dict() | dict(config.model)
            if build(wanted).config != loaded.model.config:
                raise ValueError(f"{config.init}: its sizes differ from [model]; leave [model] out")
            model = loaded.model
        if config.hardware is not None and not isinstance(model, SpikeTransformer):
            raise ValueError("expected a spiking model for [hardware]; the ANN twin has no neurons")
        return model

    def _check_data(self) -> None:
        context, size = self.config.context, self.tokenizer.vocab_size
        if self.model.config.vocab_size != size:
            raise ValueError(
                f"expected model.vocab_size = {size} (the tokenizer's), got "
                f"{self.model.config.vocab_size}; leave it out to take the tokenizer's"
            )
        if len(self.validation_tokens) <= context:
            raise ValueError(
                f"expected a validation text of more than {context} tokens (the context), got "
                f"{len(self.validation_tokens)}"
            )
        if self.teacher is not None and self.teacher.config.vocab_size != size:
            raise ValueError(
                f"{self.config.teacher}: expected a teacher with a vocabulary of {size}, got "
                f"{self.teacher.config.vocab_size}"
            )

    def _new_optimizer(self) -> optim.MultiOptimizer:
        """Muon (Jordan et al. 2024) on the blocks' matrices if it has a rate, AdamW elsewhere."""
        config = self.config
        adam = optim.AdamW(
            learning_rate=config.learning_rate,
            betas=[0.9, 0.95],
            weight_decay=config.weight_decay,
            bias_correction=True,
        )
        muon = optim.Muon(learning_rate=config.muon_rate, momentum=0.95, weight_decay=0.0)

        def is_block_matrix(name: str, weight: mx.array) -> bool:
            inside = name.startswith("blocks.") and not name.endswith(".conv")
            return config.muon_rate > 0 and inside and weight.ndim == 2

        return optim.MultiOptimizer([muon, adam], [is_block_matrix])

    def _set_rates(self) -> None:
        rate = learning_rate(self.config, self.step)
        muon, adam = self.optimizer.optimizers
        adam.learning_rate = rate
        muon.learning_rate = self.config.muon_rate * rate / self.config.learning_rate

    def checkpoint(self) -> None:
        """Write everything needed to go on from this step."""
        parts = {
            "model": tree_flatten(self.model.parameters()),
            "optimizer": tree_flatten(self.optimizer.state),
        }
        run_folder.write_state(self.folder, self.step, parts)

    def loss(self, tokens: mx.array) -> tuple[mx.array, mx.array]:
        """What is minimised, and the cross-entropy, nats per token; tokens (B, context + 1)."""
        config = self.config
        logits = self.model(tokens[:, :-1])
        logits, targets = logits.reshape(-1, logits.shape[-1]), tokens[:, 1:].reshape(-1)
        if self.teacher is None or self.step < config.distil_from * config.steps:
            plain = total = cross_entropy(logits, targets).mean()
        else:
            taught = mx.stop_gradient(self.teacher(tokens[:, :-1])).reshape(logits.shape)
            losses, plain_losses = distillation(logits, taught, targets, config.distil)
            total, plain = losses.mean(), plain_losses.mean()
        if config.penalty and isinstance(self.model, SpikeTransformer):
            total = total + config.penalty * 1e-6 * self.model.activity_penalty()
        return total, plain

    def _gradients(self, tokens: mx.array) -> tuple[mx.array, Any]:
        """Loss and gradients; near the end at the rounded weights, passed straight through."""
        quantised = self.step >= self.config.quantise_from * self.config.steps
        with self._as_on_chips(len(tokens)) if self.config.hardware else self._as(quantised):
            (_, plain), gradients = nn.value_and_grad(self.model, self.loss)(tokens)
            mx.eval(plain, gradients)
        return plain, gradients

    @contextmanager
    def _as(self, quantised: bool) -> Iterator[None]:
        """Within, the model has the rounded weights of inference if asked."""
        grid = rounded_to_grid(self.model) if quantised else {}
        with self._replaced(grid):
            yield

    @contextmanager
    def _as_on_chips(self, sequences: int) -> Iterator[None]:
        """Within, the model runs on chips drawn for this step; see `hardware`."""
        noise, model = self.config.hardware, self.model
        assert noise is not None and isinstance(model, SpikeTransformer)
        if noise.head_clip:
            clip_head(model, noise.head_clip)
        growth = noise.ramp * self.config.steps
        strength = min((self.step + 1) / growth, 1.0) if growth else 1.0
        draw = HardwareDraw(noise, (self.config.seed, self.step), strength)
        grid = rounded_to_grid(model)
        with draw.install(model, grid, sequences), self._replaced(draw.weights(model, grid)):
            yield

    @contextmanager
    def _replaced(self, weights: Mapping[str, mx.array]) -> Iterator[None]:
        """Within, the model has these weights instead of its own."""
        kept = {name: value for name, value in trainable(self.model).items() if name in weights}
        self.model.update(tree_unflatten(list(weights.items())))
        try:
            yield
        finally:
            self.model.update(tree_unflatten(list(kept.items())))

    def train_step(self) -> float:
        """One update; returns the cross-entropy, nats per token."""
        config = self.config
        batch = batch_of_step(
            self.train_tokens, self.step, config.batch, config.context, config.seed
        )
        self._set_rates()
        loss, gradients = self._gradients(mx.array(batch))
        gradients, _ = optim.clip_grad_norm(gradients, config.clip)
        self.optimizer.update(self.model, gradients)
        mx.eval(self.model.parameters(), self.optimizer.state, loss)
        self.step += 1
        return float(np.asarray(loss))

    def evaluate(self, windows: int = 64) -> float:
        """Mean validation cross-entropy over the first `windows` windows, nats per token."""
        size, stream = self.config.context, self.validation_tokens
        rows = np.stack(
            [
                stream[i : i + size + 1]
                for i in range(0, min(windows * size, len(stream) - size), size)
            ]
        ).astype(np.int32)
        self.model.eval()
        losses = []
        for start in range(0, len(rows), self.config.batch):
            part = mx.array(rows[start : start + self.config.batch])
            logits = self.model(part[:, :-1])
            losses.append(
                cross_entropy(logits.reshape(-1, logits.shape[-1]), part[:, 1:].reshape(-1))
            )
        self.model.train()
        return float(np.asarray(mx.concatenate(losses).mean()))

    def _log(self, record: dict[str, Any]) -> None:
        with (self.folder / run_folder.METRICS).open("a") as file:
            file.write(json.dumps(record) + "\n")

    def run(self, report: Callable[[str], None] = print) -> Path:
        """Train to the end; returns the model folder.

        Interrupt at will and call again: it goes on from the last checkpoint, with the same result.
        """
        config = self.config
        self.model.train()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        mean, seconds = None, 0.0
        first = self.step
        with Progress(*columns, TimeRemainingColumn()) as progress:
            task = progress.add_task("training", total=config.steps, completed=self.step)
            while self.step < config.steps:
                started = time.process_time()
                loss = self.train_step()
                seconds += time.process_time() - started
                mean = loss if mean is None else 0.98 * mean + 0.02 * loss
                progress.update(task, completed=self.step, description=f"loss {mean:.3f}")
                if self.step % config.log_every == 0:
                    rate = seconds / (self.step - first)
                    self._log({"step": self.step, "loss": loss, "cpu_s_per_step": rate})
                if self.step % config.evaluate_every == 0 or self.step == config.steps:
                    self._log({"step": self.step, "validation_loss": self.evaluate()})
                if self.step % config.checkpoint_every == 0 or self.step == config.steps:
                    self.checkpoint()
        return self.finish(report)

    def finish(self, report: Callable[[str], None]) -> Path:
        """Round the weights, measure the running statistics anew with them, and save the model.

        Hardware-aware training keeps the statistics that it trained with.
        """
        hardware = self.config.hardware
        if hardware is not None and hardware.head_clip and isinstance(self.model, SpikeTransformer):
            clip_head(self.model, hardware.head_clip)
        self.model.update(tree_unflatten(list(rounded_to_grid(self.model).items())))
        if isinstance(self.model, SpikeTransformer) and hardware is None:
            self._measure_statistics()
        loss = self.evaluate()
        facts = self.config.to_dict() | {"validation_loss": loss}
        folder = self.folder / "model"
        save(folder, self.model, self.tokenizer, facts)
        report(f"validation loss {loss:.4f} nats per token; model in {folder}")
        return folder

    def _measure_statistics(self, batches: int = STATISTICS_BATCHES) -> None:
        """Mean of the batch statistics over fixed batches, in place of the running ones."""
        assert isinstance(self.model, SpikeTransformer)
        self.model.train()
        for index in range(batches):
            for bank in self.model.banks():
                bank.momentum = 1 / (index + 1)
            tokens = batch_of_step(
                self.train_tokens,
                index,
                self.config.batch,
                self.config.context,
                self.config.seed + 1,
            )
            self.model(mx.array(tokens[:, :-1]))
            mx.eval(self.model.parameters())
