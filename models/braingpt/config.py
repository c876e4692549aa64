"""Sizes of a BrainGPT model, read from the config.json of BrainGPT, Qwen2, Qwen2.5 and Llama."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from neurosim.models.braingpt.hadamard import check_block

FAMILIES = ("braingpt", "qwen2", "llama")
MODES = ("causal", "reference")
SILUS = ("staircase", "table", "exact")
ATTENTIONS = ("float", "spiking")
CODES = ("unary", "bit_plane", "signed_digit")
_OURS = "neurosim"  # the part of config.json that other software may ignore
_LAYOUT = 1  # of stored integer weights; goes up when the packing of `IntegerWeight` changes


@dataclass(frozen=True)
class BrainGPTConfig:
    """Sizes in the terms of Qwen2's config.json; `biases`: whether q, k and v have one.

    Attributes:
        bits: of the spike counts, 2 to 8: a neuron fires at most 2^(bits-1) - 1 times.
        weight_bits: of the stored weights: 32, 16 (floats), 8 or 4 (integers).
        rope_scaling: None, or Hugging Face's mapping for "linear" and "llama3".
        hadamard: channels of a Hadamard block in front of down_proj's neurons, 0: none.
        stop_ids: token ids that end a reply.
        source: what a converted model was made from.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int = 32768
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: Mapping[str, Any] | None = None
    tie_word_embeddings: bool = False
    biases: bool = True
    bits: int = 8
    weight_bits: int = 32
    hadamard: int = 0
    stop_ids: tuple[int, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "max_position_embeddings",
        ):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"expected {name} to be a positive integer, got {value!r}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"expected num_attention_heads to be a multiple of num_key_value_heads, got "
                f"{self.num_attention_heads} and {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"expected an even head_dim for rotary positions, got {self.head_dim}")
        for name in ("rms_norm_eps", "rope_theta"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 < value < math.inf):
                raise ValueError(f"expected {name} to be a positive number, got {value!r}")
        if self.bits not in range(2, 9):
            raise ValueError(f"expected 2 to 8 bits of spike counts, got {self.bits!r}")
        if self.weight_bits not in (4, 8, 16, 32):
            raise ValueError(f"expected weight_bits 4, 8, 16 or 32, got {self.weight_bits!r}")
        check_scaling(self.rope_scaling)
        check_block(self.hadamard, self.intermediate_size)
        object.__setattr__(self, "stop_ids", tuple(self.stop_ids))

    @property
    def levels(self) -> int:
        """The most spikes of a neuron in one window: T = 2^(bits-1) - 1."""
        return int(2 ** (self.bits - 1)) - 1

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BrainGPTConfig:
        """Build from a config.json; fields this model does not use are ignored.

        Qwen2 fixes biases on q, k and v; Llama says so in `attention_bias`.
        """
        family = data.get("model_type")
        if family not in FAMILIES:
            raise ValueError(f"expected model_type {', '.join(FAMILIES)}, got {family!r}")
        missing = [name for name in _REQUIRED if name not in data]
        if missing:
            raise ValueError(f"missing configuration keys {missing}")
        if data.get("hidden_act", "silu") != "silu":
            raise ValueError(f"expected hidden_act 'silu', got {data['hidden_act']!r}")
        if family == "llama" and data.get("mlp_bias"):
            raise ValueError("expected no biases in the feed-forward layers, got mlp_bias = true")
        ours = dict(data.get(_OURS, {}))
        if ours.get("layout", _LAYOUT) != _LAYOUT:
            raise ValueError(
                f"expected packed weights of layout {_LAYOUT}, got {ours['layout']!r}; convert the "
                "model again with this version"
            )
        data = _old_style(data)
        heads = data["num_attention_heads"]
        size = data.get("head_dim") or (
            data["hidden_size"] // heads if type(heads) is int and heads > 0 else 0
        )
        stop = data.get("eos_token_id")
        stops = ours.get("stop_ids", stop if isinstance(stop, list) else [stop])
        return cls(
            **{name: data[name] for name in _REQUIRED},
            num_key_value_heads=data.get("num_key_value_heads") or heads,
            head_dim=size,
            max_position_embeddings=_context(data),
            rms_norm_eps=data.get("rms_norm_eps", 1e-6),
            rope_theta=data.get("rope_theta", 10000.0),
            rope_scaling=data.get("rope_scaling"),
            tie_word_embeddings=bool(data.get("tie_word_embeddings", False)),
            biases=bool(ours.get("biases", data.get("attention_bias", family != "llama"))),
            bits=ours.get("bits", 8),
            weight_bits=ours.get("weight_bits", 32),
            hadamard=ours.get("hadamard", 0),
            stop_ids=tuple(i for i in stops if i is not None),
            source=ours.get("source", {}),
        )

    def to_dict(self) -> dict[str, Any]:
        """The config.json of a BrainGPT folder."""
        mine = ("biases", "bits", "weight_bits", "hadamard", "stop_ids", "source")
        values = asdict(self)
        stops = list(values["stop_ids"])
        ours = {name: values.pop(name) for name in mine}
        ours |= {"stop_ids": stops, "layout": _LAYOUT}
        return {
            "architectures": ["BrainGPTForCausalLM"],
            "model_type": "braingpt",
            "hidden_act": "silu",
            **values,
            "eos_token_id": stops[0] if len(stops) == 1 else stops or None,
            _OURS: ours,
        }

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight by its plain (Qwen2) name, in the order of the forward pass."""
        width, hidden = self.hidden_size, self.intermediate_size
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, width)}
        for i in range(self.num_hidden_layers):
            at = f"model.layers.{i}."
            shapes[at + "input_layernorm.weight"] = (width,)
            for name, size in (("q", queries), ("k", keys), ("v", keys)):
                shapes[at + f"self_attn.{name}_proj.weight"] = (size, width)
                if self.biases:
                    shapes[at + f"self_attn.{name}_proj.bias"] = (size,)
            shapes[at + "self_attn.o_proj.weight"] = (width, queries)
            shapes[at + "post_attention_layernorm.weight"] = (width,)
            for name in ("gate", "up"):
                shapes[at + f"mlp.{name}_proj.weight"] = (hidden, width)
            shapes[at + "mlp.down_proj.weight"] = (width, hidden)
        shapes["model.norm.weight"] = (width,)
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, width)
        return shapes

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return sum(math.prod(shape) for shape in self.weight_shapes().values())


_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)


def _old_style(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """With rope_theta and rope_scaling in place of the rope_parameters of transformers 5."""
    rotary = data.get("rope_parameters")
    part = (rotary or data).get("partial_rotary_factor", 1)
    if part not in (1, None):
        raise ValueError(f"expected rotary positions on whole heads, got a part of {part}")
    if not rotary:
        return data
    kept = {name: rotary[name] for name in ("rope_theta",) if name in rotary}
    scaled = rotary.get("rope_type", "default") != "default"
    return {**data, **kept, "rope_scaling": dict(rotary) if scaled else None}


def check_scaling(scaling: Mapping[str, Any] | None) -> None:
    """Refuse rotary scalings that are not known here."""
    if scaling is None:
        return
    kind = scaling.get("rope_type", scaling.get("type"))
    wanted: dict[str, tuple[str, ...]] = {
        "default": (),
        "linear": ("factor",),
        "llama3": (
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        ),
    }
    if kind not in wanted:
        raise ValueError(f"expected rope_scaling of {', '.join(wanted)}, got {kind!r}")
    missing = [name for name in wanted[kind] if name not in scaling]
    if missing:
        raise ValueError(f"rope_scaling {kind!r} needs {missing}")


def _context(data: Mapping[str, Any]) -> Any:
    """Longest text; sliding windows are not computed, and within one they change nothing."""
    longest, window = data.get("max_position_embeddings", 32768), data.get("sliding_window")
    slides = data.get("use_sliding_window") and type(window) is int and type(longest) is int
    return min(longest, window) if slides else longest


QWEN25_3B = BrainGPTConfig(
    vocab_size=151936,
    hidden_size=2048,
    intermediate_size=11008,
    num_hidden_layers=36,
    num_attention_heads=16,
    num_key_value_heads=2,
    head_dim=128,
    max_position_embeddings=32768,
    rope_theta=1000000.0,
    tie_word_embeddings=True,
)
"""The sizes of the released BrainGPT-3B (those of Qwen2.5-3B)."""
