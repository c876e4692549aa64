"""BrainGPT in NumPy: the definition of right, in float64 or float32, with every option.

Every linear layer's input and output, and the embedding's output, are spike counts: x becomes n s
with n = sign(x) min(T, round(|x| / s)) and s = max |x| / T. `mode` says over what the maximum runs:

- "reference": the whole tensor, as published (results depend on batch mates and later tokens).
- "causal": one token's row, so that a token depends on nothing after it.
- "ann": nothing is quantised; the plain Qwen2 or Llama model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels import spike_quantise
from neurosim.models.braingpt import silu as silus
from neurosim.models.braingpt.clips import source_of
from neurosim.models.braingpt.config import ATTENTIONS, MODES, SILUS, BrainGPTConfig
from neurosim.models.braingpt.hadamard import transform
from neurosim.models.braingpt.rotary import frequencies, rotate, tables
from neurosim.models.braingpt.sites import Listener

Floats = npt.NDArray[np.floating]
Staircases = list[Mapping[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class Options:
    """How a model computes; see the module docstring."""

    mode: str = "causal"
    silu: str = "table"
    attention: str = "float"
    bits: int = 8

    def __post_init__(self) -> None:
        for name, value, known in (
            ("mode", self.mode, (*MODES, "ann")),
            ("silu", self.silu, SILUS),
            ("attention", self.attention, ATTENTIONS),
        ):
            if value not in known:
                raise ValueError(f"expected {name} {', '.join(known)}, got {value!r}")
        if self.bits not in range(2, 9):
            raise ValueError(f"expected 2 to 8 bits, got {self.bits!r}")
        if self.mode == "ann" and self.attention == "spiking":
            raise ValueError("mode 'ann' has no spikes; choose attention='float'")

    @property
    def levels(self) -> int:
        """The most spikes of a neuron in one window: T = 2^(bits-1) - 1."""
        return int(2 ** (self.bits - 1)) - 1


class Cache:
    """Keys (after rotation) and values of the tokens so far: per layer (B, G, S, D).

    `visible` says what is held: what a call that failed has left in the layers is dropped.
    """

    def __init__(self) -> None:
        self.layers: list[tuple[Any, Any]] = []
        self.visible: npt.NDArray[np.bool_] | None = None  # (B, S), False at padding
        self.next_position: npt.NDArray[np.int64] | None = None  # (B,)

    @property
    def length(self) -> int:
        """Tokens held, padding included."""
        return 0 if self.visible is None else int(self.visible.shape[1])

    def joined(self, old: Any, new: Any) -> Any:
        """(B, G, S, D) and (B, G, L, D), one after the other."""
        return np.concatenate([old, new], axis=2)

    def extend(self, layer: int, keys: Any, values: Any) -> tuple[Any, Any]:
        """Append (B, G, L, D) to a layer and return all of it."""
        held = self.length
        if not held:
            del self.layers[layer:]
            self.layers.append((keys, values))
        else:
            old_keys, old_values = self.layers[layer]
            self.layers[layer] = (
                self.joined(old_keys[:, :, :held], keys),
                self.joined(old_values[:, :, :held], values),
            )
        return self.layers[layer]


def placed(
    ids: npt.NDArray[np.integer],
    mask: npt.NDArray[Any] | None,
    positions: npt.NDArray[np.integer] | None,
    cache: Any,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """What of cache and new tokens is text, (B, S), and the new tokens' positions, (B, L).

    Positions count text only; padding has position 1, as Hugging Face's `generate` gives it.
    """
    new = np.ones(ids.shape, bool) if mask is None else np.asarray(mask) > 0
    if new.shape != ids.shape:
        raise ValueError(f"expected a mask of shape {ids.shape}, got {new.shape}")
    before, start = cache.visible, cache.next_position
    if before is not None and len(before) != len(ids):
        raise ValueError(
            f"expected a batch of {len(before)} as in the cache, got {len(ids)}; a cache belongs "
            "to the texts it was filled with"
        )
    found = np.where(new, np.cumsum(new, axis=1) - 1, 1)
    if start is not None:
        found = np.where(new, found + start[:, None], 1)
    if positions is not None:
        found = np.asarray(positions)
        if not np.issubdtype(found.dtype, np.integer):
            raise ValueError(f"expected positions as integers, got {found.dtype}")
        found = found.astype(np.int64)
        if found.shape != ids.shape:
            raise ValueError(f"expected positions of shape {ids.shape}, got {found.shape}")
    visible = new if before is None else np.concatenate([before, new], axis=1)
    return visible, found


def checked_ids(ids: Any, vocabulary: int) -> tuple[npt.NDArray[np.int64], bool]:
    """Token ids as (B, L), and whether they came as a single row (L,)."""
    found = np.asarray(ids)
    single = found.ndim == 1
    if found.ndim not in (1, 2) or not np.issubdtype(found.dtype, np.integer) or not found.size:
        raise ValueError(
            f"expected token ids, integers (L,) or (B, L) with at least one token, got "
            f"{found.dtype} {found.shape}"
        )
    if int(found.min()) < 0 or int(found.max()) >= vocabulary:
        raise ValueError(
            f"expected token ids from 0 to {vocabulary - 1}, got {int(found.min())} to "
            f"{int(found.max())}; is this the model's own tokenizer?"
        )
    return np.atleast_2d(found).astype(np.int64), single


class BrainGPT:
    """Call it on token ids (B, L) or (L,) for logits (B, L, V) or (L, V).

    Args:
        config: sizes.
        weights: plain name -> array of `config.weight_shapes()`.
        options: see `Options`.
        dtype: float64 or float32, of everything.
        staircases: one mapping of SiLU parameters per layer; needed by silu="staircase".
        clips: clip factor of sites, see `clips.py`.
        gains: projection -> factor on its spikes, see `StoredModel.gains`.
    """

    def __init__(
        self,
        config: BrainGPTConfig,
        weights: Mapping[str, npt.NDArray[Any]],
        options: Options,
        dtype: npt.DTypeLike = np.float64,
        staircases: Staircases | None = None,
        clips: Mapping[str, float] | None = None,
        gains: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        self.clips = dict(clips or {})
        kind = np.dtype(dtype)
        self._gains = {name: gain.astype(kind) for name, gain in (gains or {}).items()}
        self.config, self.options, self.dtype = config, options, np.dtype(dtype)
        self._weights = {name: array.astype(self.dtype) for name, array in weights.items()}
        self._staircases = staircases
        self._silus = _silus(options, config.num_hidden_layers, staircases)
        self._frequency = frequencies(config, self.dtype)

    def __repr__(self) -> str:
        o = self.options
        return (
            f"BrainGPT({self.config.parameters / 1e6:.1f}M parameters, {o.mode}, {o.bits} bits, "
            f"silu {o.silu}, attention {o.attention}, numpy {self.dtype})"
        )

    @property
    def gained(self) -> tuple[str, ...]:
        """Projections ("L0.q_proj") with a factor on every channel of their spikes."""
        return tuple(self._gains)

    def with_options(self, **changes: Any) -> BrainGPT:
        """The same weights with other options."""
        options = replace(self.options, **changes)
        given = (self._staircases, self.clips, self._gains)
        return BrainGPT(self.config, self._weights, options, self.dtype, *given)

    def new_cache(self) -> Cache:
        """An empty cache, for `model(ids, cache)`: each call adds its tokens."""
        return Cache()

    def __call__(
        self,
        ids: Any,
        cache: Cache | None = None,
        mask: npt.NDArray[Any] | None = None,
        positions: npt.NDArray[np.integer] | None = None,
        listener: Listener | None = None,
        last: bool = False,
    ) -> Floats:
        """Logits of every token, in the model's dtype.

        Args:
            ids: token ids (B, L) or (L,).
            cache: what came before; extended by these tokens.
            mask: (B, L), 0 at (left) padding.
            positions: (B, L); default: counted over the text.
            listener: told about every spike count, see `neurosim.models.braingpt.sites`.
            last: only the last token's logits, (B, V) or (V,).
        """
        found, single = checked_ids(ids, self.config.vocab_size)
        cache = Cache() if cache is None else cache
        visible, places = placed(found, mask, positions, cache)
        run = _Pass(self, cache, listener, visible, places)
        logits = run.forward(found, last)
        cache.visible, cache.next_position = visible, visible.sum(axis=1)
        return logits[0] if single else logits


def _silus(options: Options, layers: int, staircases: Staircases | None) -> list[Any]:
    if options.silu == "staircase":
        return [silus.Staircase(silus.required(staircases, i)) for i in range(layers)]
    return [silus.exact if options.silu == "exact" else silus.table] * layers


class _Pass:
    """One forward pass over a batch."""

    def __init__(
        self,
        model: BrainGPT,
        cache: Cache,
        listener: Listener | None,
        visible: npt.NDArray[np.bool_],
        positions: npt.NDArray[np.int64],
    ) -> None:
        self.model, self.cache, self.listener = model, cache, listener
        self.options, self.config = model.options, model.config
        self.spiking = model.options.mode != "ann"
        length = positions.shape[1]
        seen = np.tril(np.ones((length, visible.shape[1]), bool), visible.shape[1] - length)
        seen = seen[None, None] & visible[:, None, None, :]
        self.seen = seen | ~seen.any(axis=-1, keepdims=True)  # (B, 1, L, S); blind rows see all
        cos, sin = tables(model._frequency, positions)
        self.cos, self.sin = cos[:, None], sin[:, None]

    def quantise(self, x: Floats, site: str, fan_out: int = 0) -> Floats:
        """Spike counts times their scale."""
        if not self.spiking:
            return x
        scale = "tensor" if self.options.mode == "reference" else "token"
        counts, unit = spike_quantise(x, self.options.bits, scale, backend="reference")
        clip = self.model.clips.get(source_of(site), 1.0)
        if clip != 1:
            unit = unit * x.dtype.type(clip)
            counts, _ = spike_quantise(x, self.options.bits, unit, backend="reference")
        if self.listener is not None:
            self.listener.site(site, counts, unit, fan_out)
        return np.asarray(counts.astype(x.dtype) * unit)

    def synapsis(self, x: Floats, layer: int, name: str) -> Floats:
        """Quantise, multiply, quantise."""
        group = "mlp" if name in ("gate_proj", "up_proj", "down_proj") else "self_attn"
        at = f"model.layers.{layer}.{group}.{name}"
        weight = self.model._weights[at + ".weight"]
        y = self.quantise(x, f"L{layer}.{name}.pre", len(weight)) @ weight.T
        bias = self.model._weights.get(at + ".bias")
        z = self.quantise(y if bias is None else y + bias, f"L{layer}.{name}.post")
        gain = self.model._gains.get(f"L{layer}.{name}")
        return z if gain is None else z * gain

    def norm(self, x: Floats, name: str) -> Floats:
        """RMSNorm."""
        kind = x.dtype.type
        mean = np.mean(x * x, axis=-1, keepdims=True)
        scaled = x * (kind(1) / np.sqrt(mean + kind(self.config.rms_norm_eps)))
        return np.asarray(self.model._weights[name] * scaled)

    def heads(self, x: Floats, number: int) -> Floats:
        """(B, L, number D) -> (B, number, L, D)."""
        return x.reshape(*x.shape[:2], number, self.config.head_dim).transpose(0, 2, 1, 3)

    def attend(self, layer: int, x: Floats) -> Floats:
        """Attention of one layer without its output projection."""
        config = self.config
        q = self.heads(self.synapsis(x, layer, "q_proj"), config.num_attention_heads)
        k = self.heads(self.synapsis(x, layer, "k_proj"), config.num_key_value_heads)
        v = self.heads(self.synapsis(x, layer, "v_proj"), config.num_key_value_heads)
        q, k = rotate(q, self.cos, self.sin), rotate(k, self.cos, self.sin)
        k, v = self.cache.extend(layer, k, v)
        groups = config.num_attention_heads // config.num_key_value_heads
        k, v = np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1)
        mix = spiking_attention if self.options.attention == "spiking" else float_attention
        o = mix(q, k, v, self.seen, self.options)
        return o.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1)

    def forward(self, ids: npt.NDArray[np.int64], last: bool) -> Floats:
        """Logits (B, L, V), or (B, V) of the last token."""
        weights = self.model._weights
        table = weights["model.embed_tokens.weight"]
        h = self.quantise(table[ids], "embed.post")
        for i in range(self.config.num_hidden_layers):
            at = f"model.layers.{i}."
            mixed = self.attend(i, self.norm(h, at + "input_layernorm.weight"))
            h = h + self.synapsis(mixed, i, "o_proj")
            x = self.norm(h, at + "post_attention_layernorm.weight")
            gate, up = self.synapsis(x, i, "gate_proj"), self.synapsis(x, i, "up_proj")
            product = transform(self.model._silus[i](gate) * up, self.config.hadamard)
            h = h + self.synapsis(product, i, "down_proj")
        h = self.norm(h[:, -1] if last else h, "model.norm.weight")
        return np.asarray(h @ weights.get("lm_head.weight", table).T)


def softmax(scores: Floats) -> Floats:
    """Over the last axis; -inf gets 0."""
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def float_attention(
    q: Floats, k: Floats, v: Floats, seen: npt.NDArray[np.bool_], options: Options
) -> Floats:
    """softmax(q k^T / sqrt(D)) v over the keys that are seen; q (B, A, L, D), k, v (B, A, S, D)."""
    scores = q @ k.transpose(0, 1, 3, 2) / q.dtype.type(np.sqrt(q.shape[-1]))
    return np.asarray(softmax(np.where(seen, scores, -np.inf)) @ v)


def spiking_attention(
    q: Floats, k: Floats, v: Floats, seen: npt.NDArray[np.bool_], options: Options
) -> Floats:
    """The same with spike counts for q, k, the scores, the probabilities and v.

    The scale of the scores is taken from what is seen only; what is not seen takes no part. In
    mode "causal" every neuron bank has one scale per token and head (scores and probabilities: per
    query), so that nothing depends on later tokens.
    """
    scale = "tensor" if options.mode == "reference" else "token"

    def counted(x: Floats) -> Floats:
        counts, unit = spike_quantise(x, options.bits, scale, backend="reference")
        return np.asarray(counts.astype(x.dtype) * unit)

    scores = counted(q) @ counted(k).transpose(0, 1, 3, 2) / q.dtype.type(np.sqrt(q.shape[-1]))
    visible = np.broadcast_to(seen, scores.shape)
    rounded = counted(np.where(visible, scores, 0))  # zeros never raise a maximum
    weights = counted(softmax(np.where(visible, rounded, -np.inf)))
    return np.asarray(weights @ counted(v))
