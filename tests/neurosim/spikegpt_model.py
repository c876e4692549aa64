"""SpikeGPT as an MLX module, for counting: energy-and-language-models.md 1.1, binary embedding."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

DATA = Path(__file__).parents[1] / "data" / "spikegpt_char_L3.safetensors"


def shifted(x: mx.array) -> mx.array:
    """The vector before, zero at the first token."""
    return mx.concatenate([mx.zeros_like(x[:, :1]), x[:, :-1]], axis=1)


def mixed(x: mx.array, before: mx.array, mix: mx.array) -> mx.array:
    return x * mix + before * (1 - mix)


class TimeMix(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.time_decay, self.time_first = mx.zeros(width), mx.zeros(width)
        self.time_mix_k, self.time_mix_v, self.time_mix_r = (
            mx.zeros((1, 1, width)) for _ in range(3)
        )
        self.key, self.value, self.receptance, self.output = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )

    def __call__(self, x: mx.array) -> mx.array:
        before = shifted(x)
        k = self.key(mixed(x, before, self.time_mix_k))
        v = self.value(mixed(x, before, self.time_mix_v))
        r = mx.sigmoid(self.receptance(mixed(x, before, self.time_mix_r)))
        decay, rows = -mx.exp(self.time_decay), []
        above = below = mx.zeros_like(k[:, 0])
        for t in range(x.shape[1]):  # direct sums: the golden models are short
            now = mx.exp(self.time_first + k[:, t])
            rows.append((above + now * v[:, t]) / (below + now))
            grown = mx.exp(k[:, t])
            above = mx.exp(decay) * above + grown * v[:, t]
            below = mx.exp(decay) * below + grown
        return self.output(r * mx.stack(rows, axis=1))


class ChannelMix(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.time_mix_k, self.time_mix_r = (mx.zeros((1, 1, width)) for _ in range(2))
        self.key = nn.Linear(width, 4 * width, bias=False)
        self.receptance = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(4 * width, width, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        before = shifted(x)
        k = mx.square(mx.maximum(self.key(mixed(x, before, self.time_mix_k)), 0))
        r = mx.sigmoid(self.receptance(mixed(x, before, self.time_mix_r)))
        return r * self.value(k)


def lif(current: mx.array) -> mx.array:
    """tau = 2 along the tokens, threshold 1, hard reset."""
    v, spikes = mx.zeros_like(current[:, 0]), []
    for t in range(current.shape[1]):
        v = v + (current[:, t] - v) / 2
        spike = (v >= 1).astype(mx.float32)
        v = (1 - spike) * v
        spikes.append(spike)
    return mx.stack(spikes, axis=1)


class Block(nn.Module):
    def __init__(self, width: int, first: bool) -> None:
        super().__init__()
        self.first = first
        if first:
            self.ln0 = nn.LayerNorm(width)
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.att, self.ffn = TimeMix(width), ChannelMix(width)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.ln0(x) if self.first else x
        x = x + lif(self.att(self.ln1(x)))
        return x + lif(self.ffn(self.ln2(x)))


class SpikeGPT(nn.Module):
    def __init__(self, vocabulary: int, width: int, layers: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(vocabulary, width)
        self.blocks = [Block(width, i == 0) for i in range(layers)]
        self.ln_out = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def __call__(self, tokens: mx.array) -> mx.array:
        x = (self.emb(tokens) >= 0).astype(mx.float32)
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_out(x))


def golden() -> tuple[SpikeGPT, mx.array]:
    """The golden model of 3 layers and its tokens (2, 24)."""
    weights = dict(mx.load(str(DATA)).items())
    tokens = weights.pop("tokens")
    model = SpikeGPT(77, 32, 3)
    model.load_weights(list(weights.items()))
    return model, tokens
