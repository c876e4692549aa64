"""The first two stages: the float weights as the run starts from them, and what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.models.braingpt.config import BrainGPTConfig
from neurosim.models.braingpt.mlx_model import MlxBrainGPT, Observer, from_weights
from neurosim.models.braingpt.model import Options
from neurosim.models.braingpt.sites import site_names
from neurosim.models.braingpt.stored import StoredModel
from neurosim.models.braingpt.training.clip_search import ClipSearch
from neurosim.models.braingpt.training.folder import Staircases
from neurosim.models.braingpt.training.recipe import Calibration, Recipe
from neurosim.models.braingpt.training.rotation import (
    GAINED,
    gained,
    rotated,
    smoothed,
    transformed,
)
from neurosim.models.braingpt.training.staircase_fit import fitted_staircase

Tokens = npt.NDArray[np.integer]
Tell = Callable[[str], None]
_SAMPLES = 1 << 16  # gate values a layer's staircase is fitted to
_ANN = Options("ann", "exact")


@dataclass
class Prepared:
    """Weights by plain name, and the calibration that goes with them."""

    config: BrainGPTConfig
    weights: dict[str, npt.NDArray[np.float32]]
    clips: dict[str, float] = field(default_factory=dict)
    staircases: Staircases | None = None
    gains: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def model(self, options: Options) -> MlxBrainGPT:
        """It in MLX."""
        return from_weights(
            self.config,
            self.weights.__getitem__,
            options,
            self.staircases,
            self.clips,
            self.gains,
        )


def options_of(recipe: Recipe) -> Options:
    """What the model of a recipe computes with."""
    if recipe.convert.mode == "ann":
        return _ANN
    return Options("causal", recipe.convert.silu, "float", recipe.convert.bits)


def prepare(recipe: Recipe, text: Tokens, tell: Tell = lambda line: None) -> Prepared:
    """Convert and calibrate on `text`, which is training text."""
    stored = StoredModel(recipe.convert.source)
    names = stored.config.weight_shapes()
    weights = {name: np.asarray(stored.floats(name), np.float32) for name in names}
    config = replace(stored.config, bits=recipe.convert.bits, weight_bits=32)
    stairs: Staircases = [*(stored.staircases() or [])]
    clips = {} if recipe.convert.rotate else dict(stored.clips)  # of the sites as they were
    found = Prepared(config, weights, clips, stairs or None, stored.gains())
    if recipe.convert.rotate:
        tell("rotating the weights")
        found.config, found.weights = rotated(config, weights, recipe.seed)
    if recipe.convert.hadamard and not found.config.hadamard:
        found.config, found.weights = transformed(found.config, found.weights)
    if recipe.calibrate is not None and recipe.convert.mode != "ann":
        _calibrate(found, recipe, recipe.calibrate, text, tell)
    return found


def _calibrate(
    found: Prepared, recipe: Recipe, settings: Calibration, text: Tokens, tell: Tell
) -> None:
    if settings.smooth or settings.gains:
        tell("measuring the channels")
        _even_out(found, recipe, settings, text)
    if not settings.clips and not settings.staircase:
        return
    model = found.model(_ANN)
    search = ClipSearch(recipe.convert.bits, settings.relative)
    gates: dict[str, list[npt.NDArray[np.float32]]] = {}
    generator = np.random.default_rng(recipe.seed)
    share = min(1.0, _SAMPLES / (settings.tokens * found.config.intermediate_size))

    def look(site: str, x: mx.array) -> None:
        if settings.clips:
            search(site, x)
        if settings.staircase and site.endswith("gate_proj.post"):
            gain = found.gains.get(site.removesuffix(".post"), np.float32(1))
            flat = (np.asarray(x) * gain).reshape(-1)
            gates.setdefault(site, []).append(flat[generator.random(flat.size) < share])

    tell("measuring every site")
    _watch(model, text, settings, recipe.seed, look)
    if settings.clips:
        found.clips = search.clips(site_names(found.config.num_hidden_layers))
    if settings.staircase:
        found.staircases = [
            fitted_staircase(np.concatenate(gates[f"L{i}.gate_proj.post"]))
            for i in range(found.config.num_hidden_layers)
        ]


def _even_out(found: Prepared, recipe: Recipe, settings: Calibration, text: Tokens) -> None:
    """Channels made alike, the ANN kept."""
    largest: dict[str, npt.NDArray[Any]] = {}
    squares: dict[str, npt.NDArray[Any]] = {}

    def look(site: str, x: mx.array) -> None:
        if site.endswith("down_proj.pre"):
            size = np.abs(np.asarray(x)).reshape(-1, x.shape[-1]).max(axis=0)
            largest[site] = np.maximum(largest.get(site, 0), size)
        elif site.endswith(tuple(f"{name}.post" for name in GAINED)):
            values = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
            squares[site] = squares.get(site, 0) + (values * values).sum(axis=0)

    _watch(found.model(_ANN), text, settings, recipe.seed, look)
    if settings.smooth:
        found.weights = smoothed(found.config, found.weights, largest, settings.smooth)
    if settings.gains:
        sizes = {site: np.sqrt(total / settings.tokens) for site, total in squares.items()}
        found.weights, found.gains = gained(found.weights, sizes, settings.gains, found.gains)


def _watch(
    model: MlxBrainGPT, text: Tokens, settings: Calibration, seed: int, observer: Observer
) -> None:
    """Run the ANN over random windows of the text with an observer."""
    for window in _windows(text, settings, seed):
        mx.eval(model.hidden(window[None], observer))


def _windows(text: Tokens, settings: Calibration, seed: int) -> Iterator[npt.NDArray[np.int32]]:
    if len(text) < settings.context:
        raise ValueError(
            f"expected a training text of at least {settings.context} tokens, got {len(text)}"
        )
    starts = np.random.default_rng((seed, 1)).integers(
        0, len(text) - settings.context + 1, settings.tokens // settings.context
    )
    for start in starts:
        yield np.asarray(text[start : start + settings.context], np.int32)
