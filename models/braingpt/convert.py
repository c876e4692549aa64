"""Qwen2, Qwen2.5, Llama and BrainGPT folders, and GGUF files, made into a BrainGPT folder.

The weights pass through memory a block of rows at a time, so the size of the model does not matter.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neurosim.folders import replacing_folder
from neurosim.kernels.count_linear import IntegerWeight
from neurosim.models.braingpt import memory, names
from neurosim.models.braingpt.config import BrainGPTConfig
from neurosim.models.braingpt.folder_source import FolderSource
from neurosim.models.braingpt.gguf_source import GGUFSource
from neurosim.models.braingpt.silu import Staircase, read_staircase
from neurosim.models.tensor_files import TensorWriter, check_finite
from neurosim.models.text import tokenizer_files

Progress = Callable[[str, int, int], None]
_REPLACEABLE = ("*.json", "*.safetensors", "*.jinja", "LICENSE", "NOTICE")


class Source(Protocol):
    """What a model is converted from."""

    config: BrainGPTConfig
    kept: dict[str, Any]
    clips: dict[str, float]
    warnings: list[str]

    def rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows of a weight by its plain name."""
        ...

    def staircase(self) -> Mapping[str, NDArray[Any]]:
        """SiLU staircases of the layers, and the gains of projections."""
        ...

    def describe(self) -> dict[str, Any]:
        """Where the model comes from."""
        ...

    def write_tokenizer(self, target: Path) -> str | None:
        """Write the tokenizer's files; a warning if there is none."""
        ...


def open_source(path: str | Path) -> Source:
    """A folder or a GGUF file, its names and shapes checked."""
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.gguf"))
        if (path / "config.json").is_file() or not files:
            return FolderSource(path)
        if len(files) > 1:
            raise ValueError(f"{path} holds {len(files)} GGUF files; name one of them")
        path = files[0]
    if not path.is_file():
        raise ValueError(f"expected a model folder or a .gguf file, there is nothing at {path}")
    if path.suffix == ".safetensors":
        raise ValueError(f"{path}: give the folder, config.json and tokenizer are needed as well")
    return GGUFSource(path)


def convert(
    source: str | Path,
    out: str | Path,
    bits: int | None = None,
    weight_bits: int | None = None,
    staircase: str | Path | None = None,
    force: bool = False,
    progress: Progress = lambda name, done, total: None,
    warn: Callable[[str], None] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a BrainGPT folder; nothing appears at `out` before it is complete.

    Args:
        source: a Qwen2, Qwen2.5, Llama or BrainGPT folder, or a GGUF file.
        out: new or empty folder.
        bits: of the spike counts, 2 to 8; default those of a BrainGPT source, else 8.
        weight_bits: 32 (float32), 16 (bfloat16), 8 or 4 (integers); default 8. Embedding and head
            have 8 bits when `weight_bits` is 4.
        staircase: safetensors file with `silu.pos.*` and `silu.neg.*`, given to every layer in
            place of what the source has.
        force: replace a model folder that is already at `out`.
        progress: called with (tensor, weights done, weights in all) after every block.
        warn: called with what was left out or is missing; default `warnings.warn`.
        facts: what the config says the model was made from, in place of what `source` is.

    Returns:
        The folder: config.json, model.safetensors (or shards of 4 GB and an index) and, if the
        source has one, the tokenizer with its chat template.

    Raises:
        ValueError: a damaged file, a missing, unknown or misshapen tensor, NaN, another model's
            tokenizer, too little memory or disk, a folder that is not empty.
    """
    out = Path(out)
    tell = warn or (lambda text: warnings.warn(text, stacklevel=3))
    _check_place(Path(source), out, force)
    opened = open_source(source)
    config = replace(
        opened.config,
        bits=opened.config.bits if bits is None else bits,
        weight_bits=8 if weight_bits is None else weight_bits,
    )
    stairs = dict(opened.staircase())
    if staircase is not None:
        gains = {name: value for name, value in stairs.items() if names.gain(name)}
        stairs = gains | _staircases(Path(staircase), config.num_hidden_layers)
    stairs = {name: np.asarray(value, np.float32) for name, value in stairs.items()}
    memory.check_memory(
        memory.conversion_memory(config), "this conversion", "end other programs and try again"
    )
    memory.check_disk(memory.stored_bytes(config), out)
    for text in opened.warnings:
        tell(text)
    with replacing_folder(out) as folder:
        notes = list(opened.warnings)
        missing = opened.write_tokenizer(folder)
        if missing is not None:
            tell(missing)
            notes.append(missing)
        if (folder / "tokenizer.json").is_file():
            stops = tokenizer_files.check(folder, config.vocab_size, config.stop_ids)
            config = replace(config, stop_ids=tuple(sorted({*config.stop_ids, *stops})))
        described = opened.describe() | {
            "warnings": [*opened.warnings, *([missing] if missing else [])]
        }
        config = replace(config, source=dict(facts or described))
        data = opened.kept | config.to_dict()
        if opened.clips:
            data["neurosim"]["clips"] = opened.clips
        text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")
        specs = memory.stored_tensors(config)
        specs |= {name: ("F32", value.shape) for name, value in stairs.items()}
        with TensorWriter(folder, specs) as writer:
            _write_weights(opened, config, writer, progress)
            for name, value in stairs.items():
                check_finite(value, name)
                writer.write(name, value)
    return out


def _check_place(source: Path, out: Path, force: bool) -> None:
    """Refuse to overwrite a file, the source, or anything but a model folder."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder for the converted model")
    if out.resolve() in (source.resolve(), *source.resolve().parents):
        raise ValueError(f"{out} holds the source; name another folder for the converted model")
    present = list(out.iterdir()) if out.is_dir() else []
    if present and not force:
        raise ValueError(f"{out} is not empty; name another folder, or replace it with --force")
    if present and not (out / "config.json").is_file():
        raise ValueError(f"{out} is not empty and no model folder; it is not replaced")
    others = [
        item.name
        for item in present
        if item.is_dir() or not any(item.match(pattern) for pattern in _REPLACEABLE)
    ]
    if others:
        raise ValueError(f"{out} holds {', '.join(others[:3])} as well; it is not replaced")


def _write_weights(
    source: Source, config: BrainGPTConfig, writer: TensorWriter, progress: Progress
) -> None:
    """Every weight, a block of rows at a time."""
    done, total = 0, config.parameters
    for name, shape in config.weight_shapes().items():
        each = 4 * (shape[1] if len(shape) > 1 else 1)
        step = max(1, memory.BLOCK_BYTES // each)
        bits = memory.bits_of(name, config.weight_bits) if len(shape) > 1 else 32
        for start in range(0, shape[0], step):
            stop = min(start + step, shape[0])
            rows = source.rows(name, start, stop)
            check_finite(rows, name, start)
            if bits >= 16:
                writer.write(name, rows)
            else:
                weight = IntegerWeight.quantise(rows, bits)
                writer.write(name, weight.codes)
                writer.write(f"{name}.unit", weight.scale)
                if weight.multiplier is not None:
                    writer.write(f"{name}.multiplier", weight.multiplier)
            done += rows.size
            progress(name, done, total)


def _staircases(file: Path, layers: int) -> dict[str, NDArray[Any]]:
    """One published SiLU staircase under the names of every layer."""
    parameters = read_staircase(file)
    try:
        Staircase(parameters)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return {
        f"model.layers.{layer}.mlp.act_fn.{key}": value
        for layer in range(layers)
        for key, value in parameters.items()
    }
