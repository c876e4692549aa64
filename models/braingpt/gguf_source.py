"""A GGUF file (llama.cpp) of a Llama or Qwen2 model as the source of a conversion."""

from __future__ import annotations

import hashlib
import math
import mmap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, ReaderTensor
from gguf.quants import dequantize
from numpy.typing import NDArray

from neurosim.models.braingpt.config import BrainGPTConfig
from neurosim.models.braingpt.rotary import frequencies
from neurosim.models.text import tokenizer_files

ARCHITECTURES = ("llama", "qwen2")
_PARTS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_ROPE = "rope_freqs.weight"
_LLAMA3_CONTEXT = 8192  # tokens that Llama 3 was trained on before its context was stretched
_AGAIN = "the file is damaged or incomplete, fetch it again"


def _open(path: Path) -> GGUFReader:
    """The file, its metadata and tensors checked against its size."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError(f"{path}: expected a GGUF file, it does not begin with 'GGUF'")
    try:
        return GGUFReader(path)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path}: not a readable GGUF file ({error}); {_AGAIN}") from error


def _decimal(value: float) -> float:
    """A float32 as the shortest decimal that means it: 9.9999997e-06 is 1e-05."""
    return float(str(np.float32(value)))


class GGUFSource:
    """Weights by their Qwen2 and Llama names, multiplied out to float32 a block of rows at a time.

    Rows of q and k of the architecture "llama" are stored in the order of interleaved rotary
    pairs; here they come in the "rotate half" order of Hugging Face.

    Attributes:
        config, kept, clips, warnings: as in FolderSource.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clips: dict[str, float] = {}
        self.warnings: list[str] = []
        reader = _open(path)
        try:
            self.metadata = {key: field.contents() for key, field in reader.fields.items()}
        except (ValueError, IndexError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: unreadable metadata ({error}); {_AGAIN}") from error
        self._header = int(reader.data_offset)
        self._tensors: dict[str, ReaderTensor] = {}
        self._map = getattr(reader.data, "_mmap", None)
        unknown = []
        for tensor in reader.tensors:
            name = _plain(tensor.name)
            if name is not None:
                self._tensors[name] = tensor
            elif tensor.name != _ROPE:
                unknown.append(tensor.name)
        if unknown:
            raise ValueError(
                f"{path}: unknown tensors {', '.join(unknown[:5])} ({len(unknown)} in all); "
                "expected the layers of Llama or Qwen2 and no others"
            )
        self.architecture = str(self.metadata.get("general.architecture"))
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"{path}: expected the architecture {' or '.join(ARCHITECTURES)}, got "
                f"{self.architecture!r}"
            )
        try:
            self.config = self._config()
            self.config = self._scaled(reader)
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise ValueError(f"{path}: {error}") from error
        self.kept = {
            name: self.metadata[key]
            for name, key in (
                ("bos_token_id", "tokenizer.ggml.bos_token_id"),
                ("pad_token_id", "tokenizer.ggml.padding_token_id"),
            )
            if key in self.metadata
        }
        for name, shape in self.config.weight_shapes().items():
            self._check(name, shape)

    def _get(self, key: str, default: Any = None) -> Any:
        """A field of the architecture, "llama.block_count" by "block_count"."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if value is None:
            raise ValueError(f"missing metadata {self.architecture}.{key}; {_AGAIN}")
        return value

    def _config(self) -> BrainGPTConfig:
        """Sizes from the metadata, without rotary scaling."""
        if self._get("expert_count", 0):
            raise ValueError("a mixture of experts is not supported")
        width, heads = self._get("embedding_length"), self._get("attention.head_count")
        key_heads = self._get("attention.head_count_kv", heads)
        if isinstance(heads, list) or isinstance(key_heads, list):
            raise ValueError("a number of heads that differs from layer to layer is not supported")
        head = self._get("attention.key_length", width // heads)
        if head != self._get("attention.value_length", head):
            raise ValueError("keys and values of different sizes are not supported")
        if self._get("rope.dimension_count", head) != head:
            raise ValueError("rotary positions on a part of a head are not supported")
        if "model.embed_tokens.weight" not in self._tensors:
            raise ValueError("missing tensor token_embd.weight")
        stops = [self.metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot")]
        return BrainGPTConfig(
            vocab_size=int(self._tensors["model.embed_tokens.weight"].shape[1]),
            hidden_size=width,
            intermediate_size=self._get("feed_forward_length"),
            num_hidden_layers=self._get("block_count"),
            num_attention_heads=heads,
            num_key_value_heads=key_heads,
            head_dim=head,
            max_position_embeddings=self._get("context_length"),
            rms_norm_eps=_decimal(self._get("attention.layer_norm_rms_epsilon")),
            rope_theta=_decimal(self._get("rope.freq_base", 10000.0)),
            tie_word_embeddings="lm_head.weight" not in self._tensors,
            biases="model.layers.0.self_attn.q_proj.bias" in self._tensors,
            stop_ids=tuple(sorted({int(i) for i in stops if i is not None})),
        )

    def _scaled(self, reader: GGUFReader) -> BrainGPTConfig:
        """With rotary scaling: "linear" from the metadata, Llama 3's recognised by its table."""
        kind = self._get("rope.scaling.type", "none")
        if kind == "linear":
            factor = _decimal(self._get("rope.scaling.factor"))
            return replace(self.config, rope_scaling={"rope_type": "linear", "factor": factor})
        if kind != "none":
            raise ValueError(f"expected rope.scaling.type none or linear, got {kind!r}")
        table = next((tensor.data for tensor in reader.tensors if tensor.name == _ROPE), None)
        if table is None or np.all(np.asarray(table) == 1):
            return self.config
        wanted = np.asarray(table, np.float64).reshape(-1)
        scaled = replace(
            self.config,
            rope_scaling={
                "rope_type": "llama3",
                "factor": round(float(wanted.max()), 3),
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": _LLAMA3_CONTEXT,
            },
        )
        found = frequencies(self.config, np.float64) / frequencies(scaled, np.float64)
        if found.shape != wanted.shape or not np.allclose(found, wanted, rtol=1e-4):
            raise ValueError(
                f"{_ROPE} is not Llama 3's scaling of a context of {_LLAMA3_CONTEXT}; convert from "
                "the model's Hugging Face folder instead"
            )
        return scaled

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        if name not in self._tensors:
            raise ValueError(f"{self.path}: missing tensor {name} {shape}; {_AGAIN}")
        tensor = self._tensors[name]
        found = tuple(int(size) for size in reversed(tensor.shape))
        if found != shape:
            raise ValueError(f"{self.path}: {tensor.name}: expected shape {shape}, got {found}")
        try:
            data = np.asarray(tensor.data)
            dequantize(data[:1] if data.ndim > 1 else data, tensor.tensor_type)
        except (NotImplementedError, ValueError, AssertionError) as error:
            raise ValueError(
                f"{self.path}: {tensor.name} is stored as {tensor.tensor_type.name}, which cannot "
                f"be read ({error}); convert from another quantisation"
            ) from error

    def rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows start:stop of a weight."""
        tensor = self._tensors[name]
        data = np.asarray(tensor.data)
        vector = len(tensor.shape) == 1
        order = self._order(name)
        if vector:
            whole = dequantize(data, tensor.tensor_type).reshape(-1)
            picked = whole[start:stop] if order is None else whole[order[start:stop]]
        else:
            block = data[start:stop] if order is None else data[order[start:stop]]
            picked = dequantize(block, tensor.tensor_type)
        values = np.array(picked, dtype=np.float32)
        self._release(tensor, start, stop)
        return values

    def _order(self, name: str) -> NDArray[np.int64] | None:
        """Stored row of every row, where they differ."""
        if self.architecture != "llama" or ".self_attn." not in name:
            return None
        which = name.split(".self_attn.")[1][0]
        heads = {"q": self.config.num_attention_heads, "k": self.config.num_key_value_heads}
        if which not in heads:
            return None
        half = self.config.head_dim // 2
        stored = np.arange(heads[which] * 2 * half).reshape(heads[which], half, 2)
        return stored.swapaxes(1, 2).reshape(-1)  # (H, D / 2, 2) -> (H, 2, D / 2)

    def _release(self, tensor: ReaderTensor, start: int, stop: int) -> None:
        """Drop the pages of rows from memory."""
        if self._map is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        rows = len(tensor.data)
        first = int(tensor.data_offset) + start * int(tensor.n_bytes) // rows
        last = int(tensor.data_offset) + math.ceil(stop * int(tensor.n_bytes) / rows)
        page = first - first % mmap.PAGESIZE
        self._map.madvise(mmap.MADV_DONTNEED, page, last - page)

    def staircase(self) -> Mapping[str, NDArray[Any]]:
        """GGUF files have none."""
        return {}

    def describe(self) -> dict[str, Any]:
        """What this is, for the converted model's config.json."""
        with self.path.open("rb") as file:
            header = hashlib.sha256(file.read(self._header)).hexdigest()
        weights = self.config.weight_shapes()
        return {
            "format": "gguf",
            "name": self.path.name,
            "model": self.metadata.get("general.name"),
            "licence": self.metadata.get("general.license"),
            "architecture": self.architecture,
            "files": {self.path.name: self.path.stat().st_size},
            "headers_sha256": header,
            "types": sorted({self._tensors[name].tensor_type.name for name in weights}),
        }

    def write_tokenizer(self, target: Path) -> str | None:
        """Write a tokenizer from the metadata; a warning if there is none."""
        return tokenizer_files.write_from_gguf(self.metadata, target)


def _plain(name: str) -> str | None:
    """Qwen2's name of a GGUF tensor, None if it has none."""
    if name in _OUTER:
        return _OUTER[name]
    words = name.split(".")
    if len(words) != 4 or words[0] != "blk" or words[2] not in _PARTS or not words[1].isdigit():
        return None
    if words[3] not in ("weight", "bias"):
        return None
    return f"model.layers.{words[1]}.{_PARTS[words[2]]}.{words[3]}"
