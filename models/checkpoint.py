"""Model folders in the layout of Hugging Face and mlx-lm: config.json, model.safetensors,
tokenizer.json.

Weight matrices are stored as integer codes beside a float32 `<name>.unit`; everything else is
float32.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_flatten

from neurosim.files import replace_file
from neurosim.models.braingpt.config import FAMILIES
from neurosim.models.quantise import quantise
from neurosim.models.spike_transformer import SpikeTransformer, SpikeTransformerConfig
from neurosim.models.text.tokenizer import Tokenizer
from neurosim.models.transformer import Transformer, TransformerConfig

Model = SpikeTransformer | Transformer
CHECKPOINTS = Path(__file__).parent / "checkpoints"
DEFAULT = CHECKPOINTS / "spike-transformer"
TWIN = CHECKPOINTS / "transformer"
FILES = ("config.json", "model.safetensors", "tokenizer.json")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with its tokenizer, folder, hash of model.safetensors and training facts."""

    model: Model
    tokenizer: Tokenizer
    folder: Path
    sha256: str
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's name; for the `model` folder of a training run, the run's."""
        folder = self.folder.resolve()
        return folder.parent.name if folder.name == "model" else folder.name

    @property
    def parameters(self) -> int:
        """Trained numbers (running statistics not counted)."""
        return sum(array.size for _, array in tree_flatten(self.model.trainable_parameters()))

    def __iter__(self) -> Iterator[Any]:
        """model, tokenizer = load(folder), as in mlx-lm."""
        return iter((self.model, self.tokenizer))

    def __repr__(self) -> str:
        return f"LoadedModel({self.name}, {self.parameters / 1e6:.2f}M parameters)"


def build(config: Mapping[str, Any]) -> Model:
    """An untrained model from its configuration; `model_type` names the architecture."""
    kind = config.get("model_type")
    if kind == "spike_transformer":
        return SpikeTransformer(SpikeTransformerConfig.from_dict(config))
    if kind == "transformer":
        return Transformer(TransformerConfig.from_dict(config))
    hint = "; use neurosim.models.load, `neurosim run` or `chat`" if kind in FAMILIES else ""
    raise ValueError(f"expected model_type spike_transformer or transformer, got {kind!r}{hint}")


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write safetensors atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        mx.save_safetensors(str(part), {name: mx.array(array) for name, array in arrays.items()})
        os.replace(part, path)


def load_arrays(path: Path) -> dict[str, mx.array]:
    """Read safetensors."""
    return cast(dict[str, mx.array], mx.load(str(path)))


def save(
    folder: Path, model: Model, tokenizer: Tokenizer, training: Mapping[str, Any] | None = None
) -> None:
    """Write a model folder; weights are rounded to their integer grid (see `weight_units`)."""
    units = model.weight_units()
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, value in tree_flatten(model.parameters()):
        array = np.asarray(value)
        if name in units:
            arrays[name] = quantise(array, units[name], model.config.weight_bits)
            arrays[f"{name}.unit"] = units[name].astype(np.float32)
        else:
            arrays[name] = array
    save_arrays(folder / "model.safetensors", arrays)
    config = model.config.to_dict() | {
        "architectures": [type(model).__name__],
        "training": dict(training or {}),
    }
    replace_file(folder / "config.json", (json.dumps(config, indent=1) + "\n").encode())
    tokenizer.save(folder / "tokenizer.json")


def read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ValueError(f"no model folder at {folder}; expected a folder with {', '.join(FILES)}")
    for name in FILES:
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: no {name}; expected a folder with {', '.join(FILES)}")
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'}: not JSON ({error})") from error
    if not isinstance(config, dict):
        raise ValueError(f"{folder / 'config.json'}: expected an object")
    return config


def load(folder: str | Path = DEFAULT) -> LoadedModel:
    """Load a model folder; missing or extra keys, wrong shapes and NaN are named in the error."""
    folder = Path(folder)
    config = read_config(folder)
    training = config.pop("training", {})
    config.pop("architectures", None)
    try:
        model = build(config)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from error
    path = folder / "model.safetensors"
    try:
        stored = {name: np.asarray(array) for name, array in load_arrays(path).items()}
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error
    weights = []
    for name, value in tree_flatten(model.parameters()):
        if name not in stored:
            raise ValueError(f"{path}: missing key {name}; was it saved by another version?")
        raw = stored.pop(name)
        array, unit = raw.astype(np.float32), None
        if np.issubdtype(raw.dtype, np.integer):
            if f"{name}.unit" not in stored:
                raise ValueError(f"{path}: {name} holds integer codes but {name}.unit is missing")
            unit = stored.pop(f"{name}.unit")
        if tuple(array.shape) != tuple(value.shape):
            raise ValueError(f"{path}: {name}: expected shape {value.shape}, got {array.shape}")
        if not np.isfinite(array).all() or not (unit is None or np.isfinite(unit).all()):
            raise ValueError(f"{path}: {name} holds NaN or infinity; the weights are damaged")
        if unit is not None and unit.shape not in ((), array.shape[-1:]):
            raise ValueError(
                f"{path}: {name}.unit: expected shape () or {array.shape[-1:]}, got {unit.shape}"
            )
        weights.append((name, mx.array(array if unit is None else array * unit)))
    if stored:
        raise ValueError(
            f"{path}: unknown keys {sorted(stored)}; do config and weights belong together?"
        )
    model.load_weights(weights)
    model.eval()
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"{folder}: expected a tokenizer with the model's vocabulary of "
            f"{model.config.vocab_size}, got {tokenizer.vocab_size}"
        )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return LoadedModel(model, tokenizer, folder, sha256, training)
