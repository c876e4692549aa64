"""The same ANN, kinder to spike counts: conversion through an evened-out copy of the weights.

Real language models have channels a hundred times larger than the rest; under one scale a token the
others are left with few spikes. Three changes that keep the ANN: the residual stream and the value
heads in another orthogonal basis, Hadamard transforms in front of down_proj, and thresholds of
their own for the neurons behind q, k, gate and up (`training/rotation.py`), the last measured on
training text. The pulses of the SiLU staircase are fitted to the same text, where none are given.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from neurosim.models.braingpt.convert import Progress, convert
from neurosim.models.braingpt.memory import check_memory
from neurosim.models.braingpt.stored import read_config
from neurosim.models.braingpt.training.folder import save
from neurosim.models.braingpt.training.prepare import prepare
from neurosim.models.braingpt.training.recipe import Calibration, Conversion, Recipe
from neurosim.models.text.chat_tokenizer import ChatTokenizer
from neurosim.models.text.fetch import fetch
from neurosim.models.text.tokenizer import split_stream

TEXT = "vital"
TOKENS = 4096
STRENGTH = 0.5
_COPIES = 4  # of the float32 weights: as read, rotated, in MLX, and one being made


def convert_even(
    source: str | Path,
    out: str | Path,
    bits: int | None = None,
    weight_bits: int | None = None,
    staircase: str | Path | None = None,
    force: bool = False,
    progress: Progress = lambda name, done, total: None,
    warn: Callable[[str], None] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """`convert` by way of an evened-out copy; it needs the whole model in memory, in float32.

    Arguments as those of `convert`; `tell` hears what is being done. The tokenizer is needed, to
    read the text that is measured on (fetched if it is not cached). The head is written apart from
    the embedding, which costs its size once more.
    """
    with tempfile.TemporaryDirectory(prefix="neurosim-even-") as temporary:
        plain, evened = Path(temporary) / "plain", Path(temporary) / "even"
        convert(source, plain, bits, 32, staircase, progress=progress, warn=warn)
        if not (plain / "tokenizer.json").is_file():
            raise ValueError(
                f"evening out measures on text and needs a tokenizer.json, there is none in "
                f"{source}; add it, or convert without --even"
            )
        config = read_config(plain)
        if config.hadamard:
            raise ValueError(f"{source} is evened out already; convert it without --even")
        check_memory(
            _COPIES * 4 * config.parameters,
            "evening out a model in memory",
            "convert it without --even",
        )
        tell("reading the text to measure on")
        fetch([TEXT])
        text = split_stream("train", ChatTokenizer.load(plain), sources=[TEXT])
        recipe = Recipe(
            Conversion(str(plain), "causal", config.bits, "exact", True, True),
            Calibration(TOKENS, clips=False, gains=STRENGTH, staircase=staircase is None),
            sources=(TEXT,),
        )
        found = prepare(recipe, np.asarray(text), tell)
        save(
            evened,
            found.config,
            found.weights.__getitem__,
            plain,
            staircases=found.staircases,
            gains=found.gains,
        )
        facts = dict(config.source) | {
            "evened": {"text": TEXT, "tokens": TOKENS, "strength": STRENGTH, "seed": recipe.seed}
        }
        return convert(evened, out, bits, weight_bits, None, force, progress, warn, facts)
