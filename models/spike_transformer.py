"""The spiking language model: accumulate-only at inference, trained with integer neurons in MLX.

One block, with x the residual (the membrane shortcut, a running sum) and [.] an integer neuron bank
behind a batch normalisation, signed [.]+- or not [.]+:

    x += conv([x]+-)                              short spike convolution over the last tokens
    s = [x]+-;  q, k, v = [s W_q], [s W_k], [s W_v]+-
    S_t = S_{t-1} (1 - 2^-n) + k_t v_t^T;  o_t = q_t S_t      per head, n = decay shift, 0: no decay
    x += [o]+- W_o
    x += [[x]+- W_1]+ W_2

and logits = [x]+- W_head. Everything between the embedding and the logits therefore reads spikes.
`spike_transformer_folded.py` turns the trained model into integers and into a `Network`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt

from neurosim.kernels import trainable_attention
from neurosim.kernels.neuron import batch_norm_spikes, fixed_norm_spikes
from neurosim.kernels.neuron.reference import EPSILON
from neurosim.models.config import from_mapping
from neurosim.models.ngram_embedding import check_tokens, new_tables, ngram_sum
from neurosim.models.quantise import step_size

Reader = Callable[[str, mx.array, mx.array], mx.array]
"""(name of a crossbar, spikes on its rows, its exact column sums) -> what is read from it."""
Disturbed = Callable[[mx.array, mx.array, mx.array], mx.array]
"""(x, scale, offset) -> spikes of neurons that are not ideal."""
WEIGHTS = ("conv", "query", "key", "value", "output", "up", "down")  # of one block


@dataclass(frozen=True)
class SpikeTransformerConfig:
    """Sizes and neuron settings; `decay_shift` has one power of two per head, 0 for no decay."""

    model_type: str = "spike_transformer"
    vocab_size: int = 2048
    width: int = 192
    layers: int = 4
    heads: int = 8
    ratio: int = 4
    context: int = 256
    ngram_rows: tuple[int, ...] = ()
    taps: int = 4
    levels: int = 4
    signed_qk: bool = False
    decay_shift: tuple[int, ...] = (2, 3, 4, 4, 5, 5, 6, 7)
    fraction_bits: int = 8
    weight_bits: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "decay_shift", tuple(self.decay_shift))
        object.__setattr__(self, "ngram_rows", tuple(self.ngram_rows))
        for name in (
            "vocab_size",
            "width",
            "layers",
            "heads",
            "ratio",
            "context",
            "taps",
            "levels",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.levels > 127 or not 2 <= self.weight_bits <= 8:
            raise ValueError(
                f"expected levels <= 127 and weight_bits from 2 to 8, got {self.levels} and "
                f"{self.weight_bits}"
            )
        if self.fraction_bits < 0 or min(self.decay_shift, default=0) < 0:
            raise ValueError(
                f"expected fraction_bits >= 0 and decay shifts >= 0, got {self.fraction_bits} and "
                f"{self.decay_shift}"
            )
        if self.width % self.heads:
            raise ValueError(
                f"expected a width that {self.heads} heads divide, got {self.width}; change either"
            )
        if len(self.decay_shift) != self.heads:
            raise ValueError(
                f"expected {self.heads} decay shifts, one per head, got {len(self.decay_shift)}"
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SpikeTransformerConfig:
        """Build from a mapping; unknown keys are an error."""
        return from_mapping(cls, data, "model")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {
            "decay_shift": list(self.decay_shift),
            "ngram_rows": list(self.ngram_rows),
        }

    @property
    def head_size(self) -> int:
        return self.width // self.heads


class Neurons(nn.Module):
    """Batch normalisation and integer neurons: (..., N) -> spikes (..., N); see kernels.neuron."""

    def __init__(self, size: int, levels: int, signed: bool, fan_out: int) -> None:
        super().__init__()
        self.log_gain = mx.full((size,), float(np.log(levels / 2)))  # range: two deviations
        self.shift = mx.zeros((size,))
        self.running_mean = mx.zeros((size,))
        self.running_variance = mx.ones((size,))
        self.levels, self.signed, self.fan_out = levels, signed, fan_out
        self.momentum = 0.05
        self.disturb: Disturbed | None = None  # set by hardware-aware training
        self.freeze(keys=["running_mean", "running_variance"], recurse=False)

    def unfreeze(self, *args: Any, **kwargs: Any) -> None:
        """Everything but the running statistics, which are never trained."""
        super().unfreeze(*args, **kwargs)
        self.freeze(keys=["running_mean", "running_variance"], recurse=False)

    def fixed(self) -> tuple[mx.array, mx.array]:
        """Scale and offset (N,) of the running statistics: n = round(x scale + offset)."""
        scale = mx.exp(self.log_gain) * mx.rsqrt(self.running_variance + EPSILON)
        return scale, self.shift - self.running_mean * scale

    def __call__(self, x: mx.array) -> mx.array:
        if self.disturb is not None:
            spikes = self.disturb(x, *self.fixed())
            self["_activity"] = spikes
            return spikes
        if not self.training:
            return fixed_norm_spikes(x, *self.fixed(), self.levels, self.signed)
        spikes, mean, variance = batch_norm_spikes(
            x, self.log_gain, self.shift, self.levels, self.signed
        )
        keep = 1 - self.momentum
        self.running_mean = keep * self.running_mean + self.momentum * mean
        self.running_variance = keep * self.running_variance + self.momentum * variance
        self["_activity"] = spikes  # the loss may price it
        return spikes


class Block(nn.Module):
    """Convolution, attention and feed-forward, each from spikes to a sum onto the residual."""

    def __init__(self, config: SpikeTransformerConfig) -> None:
        super().__init__()
        width, hidden, levels = config.width, config.width * config.ratio, config.levels
        self._heads, self._decay_shift = config.heads, config.decay_shift
        self.reader: Reader | None = None  # set by hardware-aware training
        self.conv_read = Neurons(width, levels, True, config.taps)
        self.conv = mx.random.normal((config.taps, width)) * 0.02
        self.attention_read = Neurons(width, levels, True, 3 * width)
        for name in ("query", "key", "value"):
            self[name] = mx.random.normal((width, width)) / np.sqrt(width)
            signed = config.signed_qk or name == "value"
            self[f"{name}_neurons"] = Neurons(width, levels, signed, config.head_size)
        self.output_neurons = Neurons(width, levels, True, width)
        self.output = mx.random.normal((width, width)) * 0.002
        self.hidden_read = Neurons(width, levels, True, hidden)
        self.up = mx.random.normal((width, hidden)) / np.sqrt(width)
        self.hidden_neurons = Neurons(hidden, levels, False, width)
        self.down = mx.random.normal((hidden, width)) * 0.002

    def _read(self, name: str, spikes: mx.array) -> mx.array:
        """Column sums of a crossbar, (B, L, I) -> (B, L, O)."""
        weight = self[name]
        sums = convolve(spikes, weight) if name == "conv" else spikes @ weight
        return sums if self.reader is None else self.reader(name, spikes, sums)

    def _split(self, x: mx.array) -> mx.array:
        return x.reshape(*x.shape[:2], self._heads, -1).swapaxes(1, 2)  # (B, H, L, D)

    def __call__(self, x: mx.array) -> mx.array:
        """x (B, L, width) -> (B, L, width)."""
        x = x + self._read("conv", self.conv_read(x))
        spikes = self.attention_read(x)
        q, k, v = (
            self._split(self[f"{name}_neurons"](self._read(name, spikes)))
            for name in ("query", "key", "value")
        )
        o = trainable_attention(q, k, v, self._decay_shift).swapaxes(1, 2).reshape(x.shape)
        x = x + self._read("output", self.output_neurons(o))
        hidden = self.hidden_neurons(self._read("up", self.hidden_read(x)))
        return x + self._read("down", hidden)


def convolve(spikes: mx.array, weight: mx.array) -> mx.array:
    """out_t = sum_j spikes_{t-j} weight_j; spikes (B, L, N), weight (taps, N)."""
    out = spikes * weight[0]
    for j in range(1, weight.shape[0]):
        out = out + mx.pad(spikes, [(0, 0), (j, 0), (0, 0)])[:, : spikes.shape[1]] * weight[j]
    return out


class SpikeTransformer(nn.Module):
    """The model of the module docstring; call it on tokens (B, L) for logits (B, L, V)."""

    def __init__(self, config: SpikeTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = mx.random.normal((config.vocab_size, config.width)) * 0.5
        self.ngrams = new_tables(config.ngram_rows, config.width)
        self.blocks = [Block(config) for _ in range(config.layers)]
        self.head_read = Neurons(config.width, config.levels, True, config.vocab_size)
        self.head = mx.random.normal((config.width, config.vocab_size)) * 0.02
        self.reader: Reader | None = None  # set by hardware-aware training

    def __call__(self, tokens: mx.array) -> mx.array:
        check_tokens(tokens, self.config.vocab_size)
        x = self.embedding[tokens] + ngram_sum(self.ngrams, tokens)
        for block in self.blocks:
            x = block(x)
        spikes = self.head_read(x)
        logits = spikes @ self.head
        return logits if self.reader is None else self.reader("head", spikes, logits)

    def unfreeze(self, *args: Any, **kwargs: Any) -> None:
        """Everything but the running statistics of the banks."""
        super().unfreeze(*args, **kwargs)
        for bank in self.banks():
            bank.freeze(keys=["running_mean", "running_variance"], recurse=False)

    def banks(self) -> list[Neurons]:
        """All neuron banks, in the order of their names."""
        return [module for _, module in sorted(self.named_modules()) if isinstance(module, Neurons)]

    def activity_penalty(self) -> mx.array:
        """Synaptic operations per token of the last training forward: sum of mean |n| x fan-out."""
        total = mx.array(0.0)
        for bank in self.banks():
            total = total + mx.mean(mx.abs(bank["_activity"])) * (
                bank.fan_out * bank.log_gain.shape[0]
            )
        return total

    def tables(
        self, residual: npt.NDArray[np.float64]
    ) -> list[tuple[str, mx.array, npt.NDArray[np.float64]]]:
        """(name, table, its slice of the per-channel `residual`) of every embedding table."""
        slices = np.split(residual, max(len(self.ngrams), 1))
        return [("embedding", self.embedding, residual)] + [
            (f"ngrams.{i}", table, slices[i]) for i, table in enumerate(self.ngrams)
        ]

    def weight_units(self) -> dict[str, npt.NDArray[np.float64]]:
        """Real value of one integer weight step, by parameter name: (outputs,), a scalar for the
        head.

        All writers of a residual channel share the unit `residual`, tables a power of two times
        it, so that the residual is an integer sum.
        """
        bits = self.config.weight_bits
        parts = [{name: np.asarray(block[name]) for name in WEIGHTS} for block in self.blocks]
        writers = [part[name] for part in parts for name in ("conv", "output", "down")]
        units = {"residual": step_size(writers, bits, 0)}
        for name, table, residual in self.tables(units["residual"]):
            ratio = step_size([np.asarray(table)], bits, 0) / residual
            units[name] = residual * 2.0 ** np.maximum(np.ceil(np.log2(ratio) - 1e-6), 0)
        for i, part in enumerate(parts):
            for name in WEIGHTS:
                shared = name in ("conv", "output", "down")
                units[f"blocks.{i}.{name}"] = (
                    units["residual"] if shared else step_size([part[name]], bits, 0)
                )
        units["head"] = step_size([np.asarray(self.head)], bits, None)
        return units
