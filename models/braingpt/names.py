"""Names of weights: the plain scheme (Qwen2, Llama) and BrainGPT's, and what to ignore.

BrainGPT inserts `.layer` before the leaf of the seven projections and of the embedding, stores the
pulses of its SiLU staircase under `act_fn`, and counters of its neurons under `*ifneuron*`.
"""

from __future__ import annotations

import re

_WRAPPED = re.compile(r"((?:[qkvo]|gate|up|down)_proj|embed_tokens)\.layer\.(weight|bias)(.*)$")
_PLAIN = re.compile(r"((?:[qkvo]|gate|up|down)_proj|embed_tokens)\.(weight|bias)(.*)$")
INPUT_GAIN = "input_gain"
"""Of `act_fn`: factor on every channel of the gate before its SiLU, ours; 1 where there is none."""
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


def staircase(name: str) -> tuple[int, str] | None:
    """(layer, key inside the approximator) of a SiLU staircase parameter, else None."""
    found = _STAIRCASE.match(name)
    return (int(found[1]), found[2]) if found else None
