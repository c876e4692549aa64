"""Weights turned so that no channel stands out: the same ANN, kinder to few-bit spike counts.

The residual stream of a pre-norm transformer may be written in any orthogonal basis: with the gains
of the norms moved into the matrices that read them, RMSNorm commutes with a rotation (Ashkboos et
al. 2024, QuaRot). A scale per token then no longer has to cover one giant channel. The same holds
for the channels of a value head, and each channel of the feed-forward layer may be scaled between
its up and down projections (Xiao et al. 2023, SmoothQuant). Neither changes the ANN beyond
rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.models.braingpt.config import BrainGPTConfig
from neurosim.models.braingpt.hadamard import largest_block, transform
from neurosim.models.braingpt.names import gain_key

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def orthogonal(size: int, generator: np.random.Generator) -> Doubles:
    """A Hadamard matrix times a cosine basis of the odd rest, with random signs; (size, size)."""
    odd = size
    while odd % 2 == 0:
        odd //= 2
    at = np.arange(odd)
    basis = np.cos(np.pi * (at[None] + 0.5) * at[:, None] / odd) * np.sqrt(2 / odd)
    basis[0] = np.sqrt(1 / odd)
    while len(basis) < size:
        basis = np.kron(np.asarray([[1.0, 1.0], [1.0, -1.0]]), basis) / np.sqrt(2)
    signs = generator.choice([-1.0, 1.0], size)
    return np.asarray(signs[:, None] * basis)


def rotated(
    config: BrainGPTConfig, weights: Mapping[str, npt.NDArray[Any]], seed: int = 0
) -> tuple[BrainGPTConfig, dict[str, Floats]]:
    """The same ANN in another basis of the residual stream and of the value heads.

    Gains become 1. Embedding and head part, because only the head takes in the last gain.
    """
    generator = np.random.default_rng(seed)
    turn = orthogonal(config.hidden_size, generator)
    inner = orthogonal(config.head_dim, generator)
    out: dict[str, Floats] = {}

    def put(name: str, value: Doubles) -> None:
        out[name] = np.ascontiguousarray(value, np.float32)

    def wide(name: str) -> Doubles:
        return np.asarray(weights[name], np.float64)

    table = wide("model.embed_tokens.weight")
    put("model.embed_tokens.weight", table @ turn)
    for i in range(config.num_hidden_layers):
        at = f"model.layers.{i}."
        for norm, names in (
            ("input_layernorm", [f"self_attn.{n}_proj" for n in "qkv"]),
            ("post_attention_layernorm", ["mlp.gate_proj", "mlp.up_proj"]),
        ):
            gain = wide(f"{at}{norm}.weight")
            put(f"{at}{norm}.weight", np.ones_like(gain))
            for name in names:
                put(f"{at}{name}.weight", (wide(f"{at}{name}.weight") * gain) @ turn)
                if f"{at}{name}.bias" in weights:
                    put(f"{at}{name}.bias", wide(f"{at}{name}.bias"))
        put(f"{at}mlp.down_proj.weight", turn.T @ wide(f"{at}mlp.down_proj.weight"))
        mixed = turn.T @ wide(f"{at}self_attn.o_proj.weight")
        heads = mixed.reshape(len(mixed), -1, config.head_dim) @ inner
        put(f"{at}self_attn.o_proj.weight", heads.reshape(mixed.shape))
        for leaf in ("weight", "bias"):
            name = f"{at}self_attn.v_proj.{leaf}"
            if name in out:
                value = out[name].astype(np.float64)
                value = value.reshape(-1, config.head_dim, *value.shape[1:])
                turned = np.einsum("gd...,de->ge...", value, inner)
                put(name, turned.reshape(out[name].shape))
    gain = wide("model.norm.weight")
    put("model.norm.weight", np.ones_like(gain))
    head = table if config.tie_word_embeddings else wide("lm_head.weight")
    put("lm_head.weight", (head * gain) @ turn)
    return replace(config, tie_word_embeddings=False), out


def smoothed(
    config: BrainGPTConfig,
    weights: Mapping[str, Floats],
    largest: Mapping[str, npt.NDArray[Any]],
    strength: float,
) -> dict[str, Floats]:
    """The same ANN with even channels between up and down: up / c, down times c.

    c of a channel is (its largest |value| at the input of down, over their geometric mean) to the
    power `strength`.

    Args:
        largest: site "L{i}.down_proj.pre" -> (F,).
    """
    out = dict(weights)
    for i in range(config.num_hidden_layers):
        at = f"model.layers.{i}.mlp."
        size = np.maximum(np.asarray(largest[f"L{i}.down_proj.pre"], np.float64), 1e-6)
        factor = (size / np.exp(np.log(size).mean())) ** strength
        up, down = weights[f"{at}up_proj.weight"], weights[f"{at}down_proj.weight"]
        out[f"{at}up_proj.weight"] = np.asarray(up / factor[:, None], np.float32)
        out[f"{at}down_proj.weight"] = np.asarray(down * factor, np.float32)
    return out


GAINED = ("q_proj", "k_proj", "gate_proj", "up_proj")
"""Whose neurons may have thresholds of their own (v and o: the value heads are rotated)."""


def gained(
    weights: Mapping[str, Floats],
    sizes: Mapping[str, npt.NDArray[Any]],
    strength: float,
    before: Mapping[str, Floats],
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """The same ANN with even outputs: the weights of a projection over g, and g on its spikes.

    g of a channel is (its size over the geometric mean) to the power `strength`: a threshold of its
    own for every neuron.

    Args:
        sizes: site "L0.q_proj.post" -> root mean square (O,).
        before: gains that the weights have already.

    Returns:
        weights, and projection -> gain (O,); see `StoredModel.gains`.
    """
    out, gains = dict(weights), dict(before)
    for site, found in sizes.items():
        projection = site.removesuffix(".post")
        size = np.maximum(np.asarray(found, np.float64), 1e-6)
        factor = (size / np.exp(np.log(size).mean())) ** strength
        stem = gain_key(projection).removesuffix("gain")
        out[f"{stem}weight"] = np.asarray(weights[f"{stem}weight"] / factor[:, None], np.float32)
        if f"{stem}bias" in weights:
            out[f"{stem}bias"] = np.asarray(weights[f"{stem}bias"] / factor, np.float32)
        gains[projection] = np.asarray(factor * before.get(projection, 1.0), np.float32)
    return out, gains


def transformed(
    config: BrainGPTConfig, weights: Mapping[str, Floats]
) -> tuple[BrainGPTConfig, dict[str, Floats]]:
    """The same ANN with Hadamard blocks in front of down_proj, see `hadamard`."""
    size = largest_block(config.intermediate_size)
    out = dict(weights)
    for i in range(config.num_hidden_layers):
        name = f"model.layers.{i}.mlp.down_proj.weight"
        wide = transform(np.asarray(weights[name], np.float64), size) / size
        out[name] = np.asarray(wide, np.float32)
    return replace(config, hadamard=size), out
