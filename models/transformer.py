"""The ANN twin: a causal transformer of the same size, trained on the same tokens.

Pre-norm blocks with RMSNorm, rotary positions, softmax attention and a squared-ReLU feed-forward
(So et al. 2021, "Primer"); no biases, separate embedding and head, as in the spiking model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt

from neurosim.kernels.dense import causal_softmax
from neurosim.models.config import from_mapping
from neurosim.models.ngram_embedding import check_tokens, new_tables, ngram_sum
from neurosim.models.quantise import step_size


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of the twin."""

    model_type: str = "transformer"
    vocab_size: int = 2048
    width: int = 192
    layers: int = 4
    heads: int = 4
    ratio: int = 4
    context: int = 256
    ngram_rows: tuple[int, ...] = ()
    rope_base: float = 10000.0
    weight_bits: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "ngram_rows", tuple(self.ngram_rows))
        for name in ("vocab_size", "width", "layers", "heads", "ratio", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                f"expected an even head size, got width {self.width} over {self.heads} heads"
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TransformerConfig:
        """Build from a mapping; unknown keys are an error."""
        return from_mapping(cls, data, "model")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"ngram_rows": list(self.ngram_rows)}


Read = Callable[[str, mx.array], mx.array]


def unchanged(name: str, value: mx.array) -> mx.array:
    """A reader that changes nothing."""
    return value


def prefixed(prefix: str, read: Read) -> Read:
    """`read` with `prefix` before every name."""
    return lambda name, value: read(prefix + name, value)


class Block(nn.Module):
    """Attention and feed-forward with residual sums."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.width * config.ratio
        self._heads, self._base = config.heads, config.rope_base
        self.attention_norm = nn.RMSNorm(width)
        self.qkv = mx.random.normal((width, 3 * width)) / np.sqrt(width)
        self.output = mx.random.normal((width, width)) * 0.002
        self.hidden_norm = nn.RMSNorm(width)
        self.up = mx.random.normal((width, hidden)) / np.sqrt(width)
        self.down = mx.random.normal((hidden, width)) * 0.002

    def __call__(self, x: mx.array, read: Read = unchanged) -> mx.array:
        """x (B, L, width) -> (B, L, width)."""
        batch, length, width = x.shape
        size = width // self._heads
        qkv = (read("qkv", self.attention_norm(x)) @ self.qkv).reshape(
            batch, length, 3, self._heads, size
        )
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # (B, H, L, D)
        q, k = (
            mx.fast.rope(a, size, traditional=False, base=self._base, scale=1.0, offset=0)
            for a in (q, k)
        )
        weights = causal_softmax((q * size**-0.5) @ k.swapaxes(-1, -2))
        mixed = (weights @ v).swapaxes(1, 2).reshape(x.shape)
        x = x + read("output", mixed) @ self.output
        hidden = mx.maximum(read("up", self.hidden_norm(x)) @ self.up, 0)
        return x + read("down", hidden * hidden) @ self.down


class Transformer(nn.Module):
    """Call it on tokens (B, L) for logits (B, L, V).

    `read` (matrix name, its input) -> what the matrix multiplies: to quantise or to watch inputs.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = mx.random.normal((config.vocab_size, config.width)) * 0.5
        self.ngrams = new_tables(config.ngram_rows, config.width)
        self.blocks = [Block(config) for _ in range(config.layers)]
        self.head_norm = nn.RMSNorm(config.width)
        self.head = mx.random.normal((config.width, config.vocab_size)) * 0.02

    def __call__(self, tokens: mx.array, read: Read = unchanged) -> mx.array:
        check_tokens(tokens, self.config.vocab_size)
        x = self.embedding[tokens] + ngram_sum(self.ngrams, tokens)
        for i, block in enumerate(self.blocks):
            x = block(x, prefixed(f"blocks.{i}.", read))
        logits: mx.array = read("head", self.head_norm(x)) @ self.head
        return logits

    def weight_units(self) -> dict[str, npt.NDArray[np.float64]]:
        """Real value of one integer weight step per output channel, by parameter name."""
        bits = self.config.weight_bits
        units = {"embedding": step_size([np.asarray(self.embedding)], bits, 0)}
        for i, table in enumerate(self.ngrams):
            units[f"ngrams.{i}"] = step_size([np.asarray(table)], bits, 0)
        for i, block in enumerate(self.blocks):
            for name in ("qkv", "output", "up", "down"):
                units[f"blocks.{i}.{name}"] = step_size([np.asarray(block[name])], bits, 0)
        units["head"] = step_size([np.asarray(self.head)], bits, 0)
        return units
