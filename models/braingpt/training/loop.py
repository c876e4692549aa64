"""The third stage: Adam through the quantisers, resumable, with metrics in JSON lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_flatten, tree_unflatten
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from neurosim.kernels.dense import cross_entropy, distillation
from neurosim.models.braingpt.mlx_model import Linear, MlxBrainGPT, from_weights
from neurosim.models.braingpt.model import Options
from neurosim.models.braingpt.stored import StoredModel
from neurosim.models.braingpt.training import folder as folders
from neurosim.models.braingpt.training.adam import RelativeAdam
from neurosim.models.braingpt.training.prepare import options_of, prepare
from neurosim.models.braingpt.training.recipe import FineTuning, Recipe
from neurosim.models.evaluation import windows
from neurosim.models.training import run_folder
from neurosim.models.training.schedule import batch_of_step, learning_rate

Tokens = npt.NDArray[np.integer]
Tell = Callable[[str], None]
PREPARED, MODEL = "prepared", "model"
_LOW_RANK = ["low_rank_a", "low_rank_b"]


def losses_of(
    model: Callable[[Any], mx.array], stream: Tokens, context: int, most: int | None = None
) -> npt.NDArray[np.float64]:
    """-log p of every predicted token, nats, over windows of a stream (see `evaluation`)."""
    found = []
    for window in windows(stream, context, most):
        logits = model(window[None, :-1])[0]
        found.append(np.asarray(cross_entropy(logits, mx.array(window[1:].astype(np.int32)))))
    return np.concatenate(found).astype(np.float64)


class FineTuner:
    """One run in `folder`.

    `prepared/` is the model after conversion and calibration, `state.safetensors` what a run goes
    on from, `metrics.jsonl` the losses, and `model/` the result.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        train: Tokens,
        validation: Tokens,
        tell: Tell = lambda line: None,
    ) -> None:
        self.recipe, self.folder, self.tell = recipe, folder, tell
        self.train_tokens, self.validation_tokens = train, validation
        self.options = options_of(recipe)
        folder.mkdir(parents=True, exist_ok=True)
        run_folder.remember(folder, recipe.to_dict())
        if not (folder / PREPARED / "config.json").is_file():
            self._prepare()
        stored = StoredModel(folder / PREPARED)
        stairs = stored.staircases()
        self.staircases: folders.Staircases | None = None if stairs is None else [*stairs]
        self.gains = stored.gains()
        self.model = from_weights(
            stored.config,
            stored.floats,
            self.options,
            self.staircases,
            stored.clips,
            self.gains,
        )
        self.step = 0
        self.teacher: MlxBrainGPT | None = None
        self.optimizer = RelativeAdam(1e-3)
        if recipe.fine_tune is not None:
            self._begin(recipe.fine_tune)

    def _prepare(self) -> None:
        recipe = self.recipe
        found = prepare(recipe, self.train_tokens, self.tell)
        folders.save(
            self.folder / PREPARED,
            found.config,
            found.weights.__getitem__,
            Path(recipe.convert.source),
            found.clips,
            found.staircases,
            recipe.to_dict() | {"fine_tune": None},
            found.gains,
        )

    def _begin(self, settings: FineTuning) -> None:
        model = self.model
        if settings.method == "lora":
            generator = np.random.default_rng((self.recipe.seed, 2))
            model.freeze()
            for module in model.modules():
                if isinstance(module, Linear):
                    module.add_low_rank(settings.rank, generator)
                    module.unfreeze(keys=_LOW_RANK)
        elif not settings.embedding:
            model.model.embed_tokens.freeze()
            if "lm_head" in model:
                model.lm_head.freeze()
        if settings.distil:
            stored = StoredModel(self.recipe.convert.source)
            self.teacher = from_weights(
                stored.config,
                stored.floats,
                Options("ann", "exact"),
                gains=stored.gains(),
            )
        self.optimizer.init(model.trainable_parameters())
        state = run_folder.read_state(self.folder)
        if state is not None:
            self.step, parts = state
            model.update(tree_unflatten(parts["model"]))
            self.optimizer.state = tree_unflatten(parts["optimizer"])
        run_folder.cut_metrics(self.folder, self.step)

    def checkpoint(self) -> None:
        """Write everything needed to go on from this step."""
        parts = {
            "model": tree_flatten(self.model.trainable_parameters()),
            "optimizer": tree_flatten(self.optimizer.state),
        }
        run_folder.write_state(self.folder, self.step, parts)

    def _gradients(self, settings: FineTuning, tokens: npt.NDArray[np.int32]) -> tuple[Any, Any]:
        """(cross-entropy in nats per token, gradients) of a batch (B, context + 1)."""
        inputs, targets = tokens[:, :-1], mx.array(tokens[:, 1:].reshape(-1))
        taught = None
        if self.teacher is not None:
            taught = self.teacher(inputs)
            taught = taught.reshape(-1, taught.shape[-1])
            mx.eval(taught)

        def loss(model: MlxBrainGPT) -> tuple[mx.array, mx.array]:
            logits = model(inputs)
            logits = logits.reshape(-1, logits.shape[-1])
            if taught is None:
                plain = cross_entropy(logits, targets).mean()
                return plain, plain
            total, plain = distillation(logits, taught, targets, settings.distil)
            return total.mean(), plain.mean()

        (_, plain), gradients = nn.value_and_grad(self.model, loss)(self.model)
        return plain, gradients

    def train_step(self, settings: FineTuning) -> float:
        """One update; returns the cross-entropy, nats per token."""
        batch = batch_of_step(
            self.train_tokens, self.step, settings.batch, settings.context, self.recipe.seed
        )
        self.optimizer.learning_rate = learning_rate(settings, self.step)
        plain, gradients = self._gradients(settings, batch)
        gradients, _ = optim.clip_grad_norm(gradients, settings.clip)
        self.optimizer.update(self.model, gradients)
        mx.eval(self.model.parameters(), self.optimizer.state, plain)
        self.step += 1
        return float(np.asarray(plain))

    def evaluate(self, settings: FineTuning) -> float:
        """Cross-entropy on the first windows of validation text, nats per token."""
        found = losses_of(
            self.model, self.validation_tokens, settings.context, settings.evaluate_windows
        )
        return float(found.mean())

    def _log(self, record: dict[str, Any]) -> None:
        with (self.folder / run_folder.METRICS).open("a") as file:
            file.write(json.dumps(record) + "\n")

    def run(self) -> Path:
        """Train to the end; returns the model folder (`prepared` without a `[fine_tune]`).

        Interrupt at will and call again: it goes on from the last checkpoint, with the same result.
        """
        settings = self.recipe.fine_tune
        if settings is None:
            self.tell(f"calibrated model in {self.folder / PREPARED}")
            return self.folder / PREPARED
        if self.step == 0:
            self._log({"step": 0, "validation_loss": self.evaluate(settings)})
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        mean, seconds, first = None, 0.0, self.step
        with Progress(*columns, TimeRemainingColumn()) as progress:
            task = progress.add_task("training", total=settings.steps, completed=self.step)
            while self.step < settings.steps:
                started = time.process_time()
                loss = self.train_step(settings)
                seconds += time.process_time() - started
                mean = loss if mean is None else 0.9 * mean + 0.1 * loss
                progress.update(task, completed=self.step, description=f"loss {mean:.3f}")
                ends = self.step == settings.steps
                if self.step % settings.log_every == 0:
                    rate = seconds / (self.step - first)
                    self._log({"step": self.step, "loss": loss, "cpu_s_per_step": rate})
                if self.step % settings.evaluate_every == 0 or ends:
                    self._log({"step": self.step, "validation_loss": self.evaluate(settings)})
                if self.step % settings.checkpoint_every == 0 or ends:
                    self.checkpoint()
        return self.finish(settings)

    def finish(self, settings: FineTuning) -> Path:
        """Merge low-rank additions and save the model."""
        for module in self.model.modules():
            if isinstance(module, Linear):
                module.merge()
        loss = self.evaluate(settings)
        weights = dict(tree_flatten(self.model.parameters()))
        facts = self.recipe.to_dict() | {"validation_loss": loss}
        target = self.folder / MODEL
        folders.save(
            target,
            self.model.config,
            lambda name: np.asarray(weights[name]),
            self.folder / PREPARED,
            self.model.clips,
            self.staircases,
            facts,
            self.gains,
        )
        self.tell(f"validation loss {loss:.4f} nats per token; model in {target}")
        return target
