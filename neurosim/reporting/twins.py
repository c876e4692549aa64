"""Baselines on the same terms: the ANN twin as it is, narrower, and with its zeros skipped.

A row has an energy only with a quality measured at the same setting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.energy.baseline import DenseTransformerSizes, dense_token_energy
from neurosim.energy.compare import SHARING
from neurosim.energy.prices import PriceList
from neurosim.energy.terms import Breakdown
from neurosim.models.checkpoint import LoadedModel
from neurosim.models.evaluation import bits_per_byte, token_losses
from neurosim.models.transformer import Transformer
from neurosim.pipeline import transformer_sizes

UNTRAINED = (
    "not printed: the same network with continuous neurons, retrained, is not trained here, and an "
    "energy without a quality says nothing. For this architecture it is also the non-spiking "
    "recurrent twin"
)


@dataclass(frozen=True)
class Baseline:
    """One way to run the twin: its quality on the report's text, and its energy by context."""

    key: str
    title: str
    bits_per_byte: float
    note: str
    sizes: DenseTransformerSizes
    hidden_density: tuple[float, ...] | None = None

    def price(
        self, prices: PriceList, context: int, cache: float | str | None, batch: int = 1
    ) -> Breakdown:
        """Energy of one decoded token, `batch` texts at once."""
        return dense_token_energy(
            self.sizes,
            prices,
            context,
            cache_level=cache,
            hidden_density=self.hidden_density,
            streams=batch,
        )

    def prefill(self, prices: PriceList, tokens: int) -> Breakdown:
        """Energy of one of `tokens` prompt tokens; at most `SHARING` of them share a fetch."""
        return dense_token_energy(
            self.sizes,
            prices,
            (tokens + 1) / 2,
            tokens,
            True,
            min(tokens, SHARING),
            hidden_density=self.hidden_density,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without energies."""
        return {
            "key": self.key,
            "title": self.title,
            "bits_per_byte": self.bits_per_byte,
            "note": self.note,
            "hidden_density": self.hidden_density and list(self.hidden_density),
        }


def rounded(values: mx.array, bits: int) -> mx.array:
    """Symmetric integers of `bits` bits (sign included), one scale a token, as real numbers."""
    largest = 2 ** (bits - 1) - 1
    top = mx.max(mx.abs(values), axis=-1, keepdims=True)
    scale = mx.where(top > 0, top, 1.0) / largest
    result: mx.array = mx.round(values / scale) * scale
    return result


def narrow_quality(
    twin: LoadedModel, stream: npt.NDArray[np.integer], bits: int | None
) -> tuple[float, tuple[float, ...]]:
    """Bits per byte of the twin with inputs of all matrices rounded to `bits` bits (None: not).

    Also the share of non-zero hidden values of every layer.
    """
    model = twin.model
    if not isinstance(model, Transformer):
        raise ValueError(f"{twin.folder}: expected an ANN twin, got {type(model).__name__}")
    nonzero = np.zeros(len(model.blocks), np.int64)
    seen = np.zeros(len(model.blocks), np.int64)

    def read(name: str, value: mx.array) -> mx.array:
        value = value if bits is None else rounded(value, bits)
        if name.endswith(".down"):
            layer = int(name.split(".")[1])
            nonzero[layer] += np.count_nonzero(np.asarray(value))
            seen[layer] += value.size
        return value

    def logits(tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
        return np.asarray(model(mx.array(tokens[None].astype(np.int32)), read)[0])

    losses = token_losses(logits, stream, model.config.context)
    quality = bits_per_byte(losses, stream[1 : len(losses) + 1], twin.tokenizer)
    return quality, tuple((nonzero / seen).tolist())


def baselines(
    twin: LoadedModel, stream: npt.NDArray[np.integer], levels: int
) -> tuple[Baseline, ...]:
    """The twin with 8-bit activations, with those that as many levels need, and without zeros."""
    narrow = 1 + math.ceil(math.log2(levels + 1))  # the sign, and 0..D
    full, density = narrow_quality(twin, stream, 8)
    low, low_density = narrow_quality(twin, stream, narrow)
    wide = transformer_sizes(twin)
    return (
        Baseline(
            "ann_int8",
            "ANN twin, int8",
            full,
            "softmax transformer of the same size, 8-bit weights, activations and cache",
            wide,
        ),
        Baseline(
            "ann_narrow",
            f"ANN twin, {narrow}-bit activations",
            low,
            f"as many levels as the neurons have (0 to {levels}, and a sign); rounded after "
            "training, not retrained, so its quality is a lower bound",
            replace(wide, activation_bits=narrow),
        ),
        Baseline(
            "ann_sparse",
            "ANN twin, int8, zeros skipped",
            full,
            "rows of the second matrix at zeros of the squared ReLU neither fetched nor multiplied",
            wide,
            density,
        ),
        Baseline(
            "ann_narrow_sparse",
            f"ANN twin, {narrow}-bit activations, zeros skipped",
            low,
            "both",
            replace(wide, activation_bits=narrow),
            low_density,
        ),
    )


def missing_rows() -> list[dict[str, str]]:
    """Baselines without a measured quality, and so without an energy."""
    return [{"key": "continuous", "title": "same network, continuous neurons", "why": UNTRAINED}]


def cheapest(rows: Sequence[tuple[Baseline, Breakdown]]) -> tuple[Baseline, Breakdown]:
    """The fair opponent: the least energy among the baselines."""
    return min(rows, key=lambda row: row[1].total)
