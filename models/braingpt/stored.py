"""Reading a BrainGPT, Qwen2 or Llama folder: strict about weights, tolerant about the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels import IntegerWeight
from neurosim.models.braingpt import names
from neurosim.models.braingpt.clips import read_clips
from neurosim.models.braingpt.config import BrainGPTConfig
from neurosim.models.tensor_files import TensorFolder, check_finite
from neurosim.models.text.chat_tokenizer import read_json

_ROWS = 4096  # rows looked at at a time, so that temporaries stay small


def read_config(folder: Path) -> BrainGPTConfig:
    """The configuration of a model folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"expected a model folder with a config.json, there is none in {folder}")
    data = read_json(path)
    try:
        return BrainGPTConfig.from_dict(data)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


class StoredModel:
    """The weights of a folder, read when asked for, and checked against its configuration.

    Both naming schemes are accepted. A missing, misshapen or unknown weight is an error before
    anything is read; keys that are no weights are left alone.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config = read_config(self.folder)
        self.clips = read_clips(self.folder, self.config.num_hidden_layers)
        self.tensors = TensorFolder(self.folder)
        self._key: dict[str, str] = {}
        for key in self.tensors.names:
            other = self._key.setdefault(names.plain(key), key)
            if other != key:
                raise ValueError(f"{self.folder}: {key} and {other} are the same weight; keep one")
        for name, shape in self.config.weight_shapes().items():
            self._check(name, shape)
        self._refuse_unknown()

    def _refuse_unknown(self) -> None:
        """A weight that takes no part would change the model without a word."""
        known = self.config.weight_shapes().keys() | {"lm_head.weight"}  # tied: stored all the same
        unknown = [
            key
            for name, key in self._key.items()
            if key.endswith((".weight", ".bias")) and name not in known and not names.ignored(key)
        ]
        if unknown:
            raise ValueError(
                f"{self.folder}: unknown weights {', '.join(unknown[:5])} ({len(unknown)} in all); "
                "do config.json and weights belong together?"
            )

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        if name not in self._key:
            raise ValueError(
                f"{self.folder}: missing tensor {name} {shape}; do config.json and weights belong "
                "together?"
            )
        key = self._key[name]
        found, kind = self.tensors.shape(key), self.tensors.dtype(key)
        if kind in ("I8", "U8"):
            wanted = {f"{name}.unit": shape[:1]}
            if kind == "U8":
                groups = -(-shape[1] // 32)
                wanted[f"{name}.multiplier"] = (shape[0], groups)
            for extra, size in wanted.items():
                if extra not in self._key:
                    raise ValueError(f"{self.folder}: {name} holds integers but {extra} is missing")
                if self.tensors.shape(self._key[extra]) != size:
                    raise ValueError(
                        f"{self.folder}: {extra}: expected shape {size}, got "
                        f"{self.tensors.shape(self._key[extra])}"
                    )
        if kind != "U8" and found != shape:
            raise ValueError(f"{self.folder}: {name}: expected shape {shape}, got {found}")

    def floats(self, name: str) -> npt.NDArray[Any]:
        """A weight as float32 (float64 where it is stored so); integers times their unit."""
        if self.stored_bits(name) < 16:
            return self.integers(name, self.stored_bits(name)).dequantise()
        key = self._key[name]
        value = self.tensors.read(key)
        check_finite(value, name)
        return value

    def stored_bits(self, name: str) -> int:
        """32 for floats of any width, 8 or 4 for integers."""
        return {"I8": 8, "U8": 4}.get(self.tensors.dtype(self._key[name]), 32)

    def integers(self, name: str, bits: int) -> IntegerWeight:
        """A weight (O, I) as integers of `bits`; floats are quantised here, row block by row
        block."""
        stored = self.stored_bits(name)
        if stored == bits:
            return self._stored_integers(name, bits)
        if stored < bits:
            raise ValueError(
                f"{self.folder}: {name} is stored with {stored} bits, more were asked for ({bits})"
            )
        key, rows = self._key[name], self.config.weight_shapes()[name][0]
        parts = []
        for start in range(0, rows, _ROWS):
            stop = min(start + _ROWS, rows)
            if stored < 16:
                block = self._stored_integers(name, stored).dequantise(np.arange(start, stop))
            else:
                block = self.tensors.read(key, start, stop).astype(np.float32)
                check_finite(block, name, start)
            parts.append(IntegerWeight.quantise(block, bits))
            self.tensors.release(key, start, stop)
        return joined(parts)

    def _stored_integers(self, name: str, bits: int) -> IntegerWeight:
        key = self._key[name]
        unit = self.tensors.read(self._key[f"{name}.unit"])
        check_finite(unit, f"{name}.unit")
        multiplier = self.tensors.read(self._key[f"{name}.multiplier"]) if bits == 4 else None
        outputs, inputs = self.config.weight_shapes()[name]
        codes = self.tensors.view(key)
        return IntegerWeight(codes, unit, bits, (outputs, inputs), multiplier)

    def release(self, name: str) -> None:
        """Give back the memory of a weight that was copied; views of it read the file again."""
        self.tensors.release(self._key[name])

    def gains(self) -> dict[str, npt.NDArray[np.float32]]:
        """Projection ("L0.q_proj") -> factor (O,) on its spikes; those without one are left out.

        The neurons behind it then have thresholds of their own: its weights are stored divided by
        the gain, so that one scale a token serves channels of different size.
        """
        found = {}
        for key in self.tensors.names:
            projection = names.gain(key)
            if projection is None:
                continue
            size = self.config.weight_shapes().get(key.removesuffix("gain") + "weight", (0,))[0]
            gain = self.tensors.read(key)
            if gain.shape != (size,):
                raise ValueError(f"{self.folder}: {key}: expected ({size},), got {gain.shape}")
            check_finite(gain, key)
            found[projection] = gain.astype(np.float32)
        return found

    def staircases(self) -> list[dict[str, npt.NDArray[Any]]] | None:
        """SiLU parameters of every layer, None where the folder has none."""
        layers = self.config.num_hidden_layers
        found: list[dict[str, npt.NDArray[Any]]] = [{} for _ in range(layers)]
        for key in self.tensors.names:
            place = names.staircase(key)
            if place is not None and place[0] < layers:
                found[place[0]][place[1]] = self.tensors.read(key)
        if not any(found):
            return None
        if not all(found):
            empty = [i for i, layer in enumerate(found) if not layer]
            raise ValueError(f"{self.folder}: layers {empty} have no SiLU staircase, others do")
        return found


def joined(parts: list[IntegerWeight]) -> IntegerWeight:
    """Weights of the same inputs one above the other: outputs (O_1 + O_2 + ..., I)."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return IntegerWeight(
        np.concatenate([part.codes for part in parts]),
        np.concatenate([part.scale for part in parts]),
        first.bits,
        (sum(part.shape[0] for part in parts), first.shape[1]),
        None if first.multiplier is None else np.concatenate([p.multiplier for p in parts]),
    )
