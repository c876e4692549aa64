"""A Qwen2, Qwen2.5, Llama or BrainGPT folder as the source of a conversion."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurosim.kernels.count_linear import IntegerWeight
from neurosim.models.braingpt import names
from neurosim.models.braingpt.clips import read_clips
from neurosim.models.braingpt.config import BrainGPTConfig
from neurosim.models.braingpt.memory import GROUP
from neurosim.models.tensor_files import TensorFolder
from neurosim.models.text import tokenizer_files
from neurosim.models.text.chat_tokenizer import read_json

_FLOATS = ("F64", "F32", "F16", "BF16")
_COMPANIONS = (".unit", ".multiplier")
_TOGETHER = "do config.json and weights belong together?"
_KEPT = ("bos_token_id", "pad_token_id")  # of config.json, beside what BrainGPTConfig holds


class FolderSource:
    """Weights by their plain names, a block of rows at a time; checked before any is read.

    Attributes:
        config: with `weight_bits` as stored here.
        kept: other fields of config.json that the converted model keeps.
        clips: clip factors of sites, see `clips.py`.
        warnings: what was left out or changed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warnings: list[str] = []
        path = folder / "config.json"
        data = read_json(path)
        if not data:
            raise ValueError(
                f"expected a model folder with a config.json, there is none in {folder}"
            )
        if data.get("quantization_config"):
            method = dict(data["quantization_config"]).get("quant_method")
            raise ValueError(
                f"{path}: the weights are quantised ({method}); convert from the model in float16, "
                "bfloat16 or float32, or from a GGUF file"
            )
        try:
            self.config = BrainGPTConfig.from_dict(self._windowed(data))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error
        self.clips = read_clips(folder, self.config.num_hidden_layers)
        self.architecture = str((data.get("architectures") or [data["model_type"]])[0])
        self.kept = {name: data[name] for name in _KEPT if data.get(name) is not None}
        self._tensors = TensorFolder(folder)
        self._keys: dict[str, str] = {}
        self._staircase: list[str] = []
        self._sort_keys()
        for name, shape in self.config.weight_shapes().items():
            self._check(name, shape)
        if any(self._tensors.dtype(key) in ("I8", "U8") for key in self._keys.values()):
            self.warnings.append(
                "the source's weights are integers already; rounded again, they are less exact "
                "than from the original model"
            )

    def _windowed(self, data: dict[str, Any]) -> dict[str, Any]:
        """Sliding windows are not computed: within one window they change nothing."""
        window, longest = data.get("sliding_window"), data.get("max_position_embeddings", 0)
        if data.get("use_sliding_window") and type(window) is int and window < longest:
            self.warnings.append(
                f"sliding windows are not computed here: the context is cut from {longest} to "
                f"the window of {window} tokens, within which they change nothing"
            )
            return data | {"max_position_embeddings": window}
        return data

    def _sort_keys(self) -> None:
        """Which stored key is which weight; unknown weights are refused."""
        known = self.config.weight_shapes()
        unknown = []
        for key in self._tensors.names:
            name = names.plain(key)
            if name in self._keys:
                raise ValueError(f"{self.folder}: {key} and {self._keys[name]} are the same weight")
            stem = name
            for ending in _COMPANIONS:
                stem = stem.removesuffix(ending)
            if stem in known:
                self._keys[name] = key
            elif names.staircase(key) or names.gain(key):
                self._staircase.append(key)
            elif name == "lm_head.weight":  # tied: it is the embedding once more
                continue
            elif not names.ignored(key):
                unknown.append(key)
        weights = [key for key in unknown if key.endswith((".weight", ".bias"))]
        if weights:
            raise ValueError(
                f"{self.folder}: unknown weights {', '.join(weights[:5])} ({len(weights)} in all); "
                "expected the layers of Qwen2, Llama or BrainGPT and no others; " + _TOGETHER
            )
        if unknown:
            self.warnings.append(f"left out: {', '.join(unknown[:5])} ({len(unknown)} keys in all)")

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        if name not in self._keys:
            raise ValueError(f"{self.folder}: missing tensor {name} {shape}; {_TOGETHER}")
        key = self._keys[name]
        where = f"{self._tensors.file(key)}: tensor {key}"
        dtype, found = self._tensors.dtype(key), self._tensors.shape(key)
        if dtype not in (*_FLOATS, "I8", "U8"):
            raise ValueError(f"{where}: expected a type of {', '.join(_FLOATS)}, got {dtype}")
        if dtype == "U8":
            groups = -(-shape[1] // GROUP)
            self._companion(name, ".multiplier", (shape[0], groups))
            shape = (shape[0], groups * GROUP // 2)
        if found != shape:
            raise ValueError(f"{where}: expected shape {shape}, got {found}; {_TOGETHER}")
        if dtype in ("I8", "U8"):
            self._companion(name, ".unit", shape[:1])

    def _companion(self, name: str, ending: str, shape: tuple[int, ...]) -> None:
        key = self._keys.get(name + ending)
        if key is None:
            raise ValueError(f"{self.folder}: {name} holds integers but {name}{ending} is missing")
        if self._tensors.shape(key) != shape:
            raise ValueError(
                f"{self.folder}: {key}: expected shape {shape}, got {self._tensors.shape(key)}"
            )

    def rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows start:stop of a weight; float64 is rounded, integers are multiplied out."""
        key = self._keys[name]
        dtype = self._tensors.dtype(key)
        if dtype in _FLOATS:
            values = self._tensors.read(key, start, stop)
            return values if dtype != "F64" else values.astype(np.float32)
        unit = self._tensors.read(self._keys[f"{name}.unit"], start, stop)
        codes = self._tensors.read(key, start, stop)
        if dtype == "I8":
            return np.asarray(codes * unit[:, None], np.float32)
        multiplier = self._tensors.read(self._keys[f"{name}.multiplier"], start, stop)
        shape = (stop - start, self.config.weight_shapes()[name][1])
        return IntegerWeight(codes, unit, 4, shape, multiplier).dequantise()

    def staircase(self) -> dict[str, NDArray[Any]]:
        """The SiLU staircases of the layers and the gains of projections, by their stored names."""
        return {key: self._tensors.read(key) for key in self._staircase}

    def describe(self) -> dict[str, Any]:
        """What this is, for the converted model's config.json."""
        digest = hashlib.sha256()
        for file in self._tensors.files:
            digest.update(self._tensors.headers[file])
        weights = [self._keys[name] for name in self.config.weight_shapes()]
        return {
            "format": "safetensors",
            "name": self.folder.resolve().name,
            "architecture": self.architecture,
            "files": {file.name: file.stat().st_size for file in self._tensors.files},
            "headers_sha256": digest.hexdigest(),
            "types": sorted({self._tensors.dtype(key) for key in weights}),
        }

    def write_tokenizer(self, target: Path) -> str | None:
        """Put the tokenizer's files into a folder; a warning if there is none."""
        return tokenizer_files.copy_from_folder(self.folder, target)
