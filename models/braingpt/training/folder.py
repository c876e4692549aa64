"""Model folders written from arrays in memory; `neurosim.models.braingpt.load` reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.folders import replacing_folder
from neurosim.models.braingpt.config import BrainGPTConfig
from neurosim.models.braingpt.names import gain_key
from neurosim.models.tensor_files import TensorWriter
from neurosim.models.text import tokenizer_files

Staircases = list[Mapping[str, npt.NDArray[Any]]]


def save(
    folder: Path,
    config: BrainGPTConfig,
    floats: Callable[[str], npt.NDArray[np.float32]],
    tokenizer_from: Path,
    clips: Mapping[str, float] | None = None,
    staircases: Staircases | None = None,
    facts: Mapping[str, Any] | None = None,
    gains: Mapping[str, npt.NDArray[Any]] | None = None,
) -> None:
    """Write a BrainGPT folder with float32 weights; nothing appears before it is complete.

    Args:
        floats: plain name -> array, of `config.weight_shapes()`.
        tokenizer_from: folder whose tokenizer files are copied.
        clips: factors of sites, see `neurosim.models.braingpt.clips`.
        staircases: SiLU parameters of every layer.
        gains: projection -> factor on its spikes, see `StoredModel.gains`.
        facts: how it was made, for `neurosim.training` of config.json.
    """
    data = config.to_dict()
    data["neurosim"] |= {"weight_bits": 32, "clips": dict(clips or {}), "training": facts or {}}
    shapes = config.weight_shapes()
    stairs = {
        f"model.layers.{i}.mlp.act_fn.{key}": np.asarray(value, np.float32)
        for i, parameters in enumerate(staircases or [])
        for key, value in parameters.items()
    }
    stairs |= {gain_key(name): np.asarray(gain, np.float32) for name, gain in (gains or {}).items()}
    specs = {name: ("F32", shape) for name, shape in shapes.items()}
    specs |= {name: ("F32", value.shape) for name, value in stairs.items()}
    with replacing_folder(folder) as unfinished:
        tokenizer_files.copy_from_folder(tokenizer_from, unfinished)
        text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
        (unfinished / "config.json").write_text(text, encoding="utf-8")
        with TensorWriter(unfinished, specs) as writer:
            for name in shapes:
                writer.write(name, np.asarray(floats(name), np.float32))
            for name, value in stairs.items():
                writer.write(name, value)
