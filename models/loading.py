"""`load` for every model of this package, with its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neurosim.models import checkpoint
from neurosim.models.braingpt.config import FAMILIES
from neurosim.models.braingpt.loading import LoadOptions
from neurosim.models.tensor_files import find_files
from neurosim.models.text.cache import file_sha256
from neurosim.models.text.chat_tokenizer import ChatTokenizer


@dataclass(frozen=True, eq=False)
class LoadedBrainGPT:
    """A BrainGPT (or the Qwen2 or Llama model it is computed from) with its tokenizer."""

    model: Any
    tokenizer: ChatTokenizer
    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return int(self.model.config.parameters)

    @cached_property
    def sha256(self) -> str:
        """Of the weights; of several files the first 16 digits each, joined."""
        hashes = [file_sha256(path) for path in find_files(self.folder)]
        return hashes[0] if len(hashes) == 1 else "-".join(found[:16] for found in hashes)

    def __iter__(self) -> Iterator[Any]:
        """model, tokenizer = load(folder), as in mlx-lm."""
        return iter((self.model, self.tokenizer))

    def __repr__(self) -> str:
        return f"LoadedBrainGPT({self.name}, {self.parameters / 1e6:.2f}M parameters)"


def model_type(folder: str | Path) -> str | None:
    """What config.json calls the architecture; None where there is no readable one."""
    try:
        data = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = data.get("model_type") if isinstance(data, dict) else None
    return found if isinstance(found, str) else None


def is_braingpt(folder: str | Path) -> bool:
    """Whether a folder holds a BrainGPT, Qwen2 or Llama model."""
    return model_type(folder) in FAMILIES


def load(
    folder: str | Path = checkpoint.DEFAULT,
    options: LoadOptions | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> checkpoint.LoadedModel | LoadedBrainGPT:
    """A model and its tokenizer: `model, tokenizer = load(folder)`.

    Args:
        folder: a model folder; default: the language model that ships.
        options: how a BrainGPT computes; see `neurosim.models.braingpt.load`.
        progress: called with (layers read, layers) for a BrainGPT.
    """
    if not is_braingpt(folder):
        if options is not None:
            raise ValueError(
                f"{folder}: options are for BrainGPT, Qwen2 and Llama folders, got model_type "
                f"{model_type(folder)!r}"
            )
        return checkpoint.load(folder)
    tokenizer = ChatTokenizer.load(folder)
    model = (options or LoadOptions()).load(folder, progress)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"{folder}: expected a tokenizer within the model's vocabulary of "
            f"{model.config.vocab_size}, got {tokenizer.vocab_size}; use the model's own"
        )
    return LoadedBrainGPT(model, tokenizer, Path(folder))
