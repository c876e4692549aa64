"""The weights of a BrainGPT as the compiled engine uses them, read from a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neurosim.kernels import IntegerWeight
from neurosim.models.braingpt import names as names_of
from neurosim.models.braingpt import rows, silu
from neurosim.models.braingpt.hadamard import transform_rows
from neurosim.models.braingpt.model import Staircases
from neurosim.models.braingpt.stored import StoredModel, joined

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int8]
Weight = IntegerWeight | Floats
_BITS = (4, 8, 32)  # of weights; those of 16 are kept as 32
_NONE = np.zeros(0, np.float32)


def check_weight_bits(bits: int | None) -> None:
    """Refuse what the engine has no weights of; None: those stored."""
    if bits not in (None, *_BITS):
        raise ValueError(f"expected weight_bits 4, 8 or 32, got {bits!r}")


@dataclass(frozen=True, eq=False)
class Projection:
    """Several linear layers that read the same counts, as one product."""

    weight: Weight
    bias: Floats
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    gains: tuple[Floats, ...]
    """Factors on the spikes of each; empty: 1."""


class SiluRows(NamedTuple):
    """The SiLU of a layer as `rows.gate_rows` takes it."""

    kind: int
    edges: Floats
    values: Floats


@dataclass(frozen=True, eq=False)
class Layer:
    """One transformer layer."""

    qkv: Projection
    output: Projection
    gate_up: Projection
    down: Projection
    first_gain: Floats
    second_gain: Floats
    silu: SiluRows
    hadamard: int

    def gate(
        self, gate: tuple[Counts, Floats], up: tuple[Counts, Floats], table: Floats, out: Floats
    ) -> None:
        """What the neurons of down_proj see, (R, F); `table` (255,) is work space."""
        form, (gate_gain, up_gain) = self.silu, self.gate_up.gains
        how = (form.kind, form.edges, form.values, gate_gain, up_gain)
        rows.gate_rows(gate[0], gate[1], up[0], up[1], *how, table, out)
        transform_rows(out, self.hadamard)


class WeightReader:
    """Weights of a stored model as the engine wants them."""

    def __init__(self, stored: StoredModel, weight_bits: int | None) -> None:
        check_weight_bits(weight_bits)
        self._stored, self._bits, self.gains = stored, weight_bits, stored.gains()
        self.config = stored.config

    def vector(self, name: str) -> Floats:
        """A gain or bias."""
        return self._stored.floats(name).astype(np.float32)

    def _gain(self, key: str) -> Floats:
        return self.gains.get(names_of.gain(key) or "", _NONE)

    def matrix(self, name: str, least: int = 4) -> Weight:
        """Integers of the bits asked for (at least `least`), else floats."""
        stored = self._stored.stored_bits(name)
        bits = stored if self._bits is None else max(self._bits, least)
        if bits < 16:
            return self._stored.integers(name, bits)
        return np.ascontiguousarray(self._stored.floats(name), np.float32)

    def projection(self, at: str, names: tuple[str, ...], biases: bool) -> Projection:
        """Layers that read the same input, one above the other."""
        parts = [self.matrix(f"{at}{name}.weight") for name in names]
        bias = _NONE
        if biases:
            bias = np.concatenate([self.vector(f"{at}{name}.bias") for name in names])
        sizes = tuple(part.shape[0] for part in parts)
        gains = tuple(self._gain(f"{at}{name}.gain") for name in names)
        weight: Weight = parts[0]
        if len(parts) == 1:
            return Projection(weight, bias, names, sizes, gains)
        if isinstance(weight, IntegerWeight):
            weight = joined([part for part in parts if isinstance(part, IntegerWeight)])
        else:
            weight = np.concatenate([part for part in parts if isinstance(part, np.ndarray)])
        for name in names:
            self._stored.release(f"{at}{name}.weight")
        return Projection(weight, bias, names, sizes, gains)


def read_layer(read: WeightReader, index: int, form: str, staircases: Staircases | None) -> Layer:
    """One layer; `form` of the SiLU."""
    at = f"model.layers.{index}."
    attention, mlp = at + "self_attn.", at + "mlp."
    biases = read.config.biases
    return Layer(
        read.projection(attention, ("q_proj", "k_proj", "v_proj"), biases),
        read.projection(attention, ("o_proj",), False),
        read.projection(mlp, ("gate_proj", "up_proj"), False),
        read.projection(mlp, ("down_proj",), False),
        read.vector(at + "input_layernorm.weight"),
        read.vector(at + "post_attention_layernorm.weight"),
        _lookup(form, staircases, index),
        read.config.hadamard,
    )


def _lookup(kind: str, staircases: Staircases | None, layer: int) -> SiluRows:
    """A form of the SiLU for `rows.gate_rows`."""
    if kind == "exact":
        return SiluRows(rows.EXACT, _NONE, _NONE)
    if kind == "table":
        step = np.array([silu.TABLE_STEP], np.float32)
        return SiluRows(rows.TABLE, step, silu.table_values().astype(np.float32))
    parameters = silu.required(staircases, layer)
    edges, values = silu.Staircase(parameters).lookup(np.float32)
    return SiluRows(rows.STAIRCASE, edges.astype(np.float32), values.astype(np.float32))
