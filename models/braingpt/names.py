"""Names of weights: the plain scheme (Qwen2, Llama) and BrainGPT's, and what to ignore.

BrainGPT inserts `.layer` before the leaf of the seven projections and of the embedding, stores the
pulses of its SiLU staircase under `act_fn`, and counters of its neurons under `*ifneuron*`.
"""

from __future__ import annotations

import re

_WRAPPED = re.compile(r"((?:[qkvo]|gate|up|down)_proj|embed_tokens)\.layer\.(weight|bias)(.*)$")
_PLAIN = re.compile(r"((?:[qkvo]|gate|up|down)_proj|embed_tokens)\.(weight|bias)(.*)$")
_GAIN = re.compile(r"model\.layers\.(\d+)\.(?:self_attn|mlp)\.((?:q|k|gate|up)_proj)\.gain$")
_STAIRCASE = re.compile(r"model\.layers\.(\d+)\.mlp\.act_fn\.(.+)$")


def plain(name: str) -> str:
    """A weight's plain name, from either scheme."""
    return _WRAPPED.sub(r"\1.\2\3", name)


def wrapped(name: str) -> str:
    """A weight's BrainGPT name, from either scheme."""
    return _PLAIN.sub(r"\1.layer.\2\3", plain(name))


def ignored(name: str) -> bool:
    """Whether a key carries no information: counters of neurons, tables of rotary frequencies."""
    return "ifneuron" in name or name.endswith("rotary_emb.inv_freq")


def gain(name: str) -> str | None:
    """The projection ("L0.q_proj") whose output gain a key holds, else None; see `gain_key`."""
    found = _GAIN.match(name)
    return f"L{found[1]}.{found[2]}" if found else None


def gain_key(projection: str) -> str:
    """Where the gain of a projection ("L0.q_proj") is stored: ours, beside its weight."""
    layer, name = projection.split(".")
    group = "self_attn" if name in ("q_proj", "k_proj") else "mlp"
    return f"model.layers.{layer[1:]}.{group}.{name}.gain"


def staircase(name: str) -> tuple[int, str] | None:
    """(layer, key inside the approximator) of a SiLU staircase parameter, else None."""
    found = _STAIRCASE.match(name)
    return (int(found[1]), found[2]) if found else None
