"""BrainGPT in MLX: every mode of `model.BrainGPT` in float32, with gradients for training.

The values are those of the NumPy model up to the order of float sums. Gradients pass the quantisers
and the SiLU's forms straight through, see `mlx_ops`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_unflatten

from neurosim.kernels import fast_blas
from neurosim.kernels.dense import causal_softmax
from neurosim.models.braingpt import mlx_ops
from neurosim.models.braingpt.clips import checked
from neurosim.models.braingpt.config import BrainGPTConfig
from neurosim.models.braingpt.model import Cache, Options, Staircases, checked_ids, placed
from neurosim.models.braingpt.rotary import frequencies, tables
from neurosim.models.braingpt.silu import required
from neurosim.models.braingpt.sites import Listener

Observer = Callable[[str, mx.array], None]


class Linear(nn.Module):
    """x W^T + b; with `add_low_rank` plus r x A^T B^T (Hu et al. 2021), of which B starts at 0.

    r is the root mean square of W, so that steps of A and B are relative to it.
    """

    def __init__(self, shape: tuple[int, ...], bias: bool) -> None:
        super().__init__()
        self.weight = mx.zeros(shape)
        if bias:
            self.bias = mx.zeros(shape[0])

    def add_low_rank(self, rank: int, generator: np.random.Generator) -> None:
        """A of `rank` rows, uniform in +-1, and B = 0."""
        outputs, inputs = self.weight.shape
        start = generator.uniform(-1, 1, (rank, inputs)).astype(np.float32)
        self._unit = float(np.sqrt(np.mean(np.square(np.asarray(self.weight)))))
        self.low_rank_a = mx.array(start)
        self.low_rank_b = mx.zeros((outputs, rank))

    def merge(self) -> None:
        """W becomes W + r B A, and A and B go."""
        if "low_rank_a" in self:
            self.weight = self.weight + self._unit * (self.low_rank_b @ self.low_rank_a)
            del self["low_rank_a"], self["low_rank_b"]

    def __call__(self, x: mx.array) -> mx.array:
        y = x @ self.weight.T
        if "low_rank_a" in self:
            y = y + self._unit * ((x @ self.low_rank_a.T) @ self.low_rank_b.T)
        return y + self.bias if "bias" in self else y


class _Gain(nn.Module):
    """The weight of an RMSNorm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = mx.ones(width)


class _Table(nn.Module):
    """A matrix that is looked up, and multiplied with where tied."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = mx.zeros((rows, width))


def _module(**children: nn.Module) -> nn.Module:
    module = nn.Module()
    for name, child in children.items():
        setattr(module, name, child)
    return module


class MlxCache(Cache):
    """Keys (after rotation) and values, MLX arrays (B, G, S, D) per layer."""

    def joined(self, old: Any, new: Any) -> Any:
        """(B, G, S, D) and (B, G, L, D), one after the other."""
        return mx.concatenate([old, new], axis=2)


class MlxBrainGPT(nn.Module):
    """Call it on token ids (B, L) or (L,) for float32 logits (B, L, V) or (L, V).

    Its parameters carry the plain (Qwen2) names. `from_weights` fills them.

    Args:
        config: sizes.
        options: see `model.Options`.
        staircases: SiLU parameters of every layer, for silu="staircase".
        clips: factors of sites, see `clips`.
        gains: projection -> factor on its spikes, see `StoredModel.gains`.
    """

    def __init__(
        self,
        config: BrainGPTConfig,
        options: Options,
        staircases: Staircases | None = None,
        clips: Mapping[str, float] | None = None,
        gains: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        super().__init__()
        self._gains = {name: mx.array(gain) for name, gain in (gains or {}).items()}
        fast_blas.enable()
        self.config = config
        shapes = config.weight_shapes()
        layers = []
        for i in range(config.num_hidden_layers):
            at = f"model.layers.{i}."

            def linear(name: str, at: str = at) -> Linear:
                return Linear(shapes[f"{at}{name}.weight"], f"{at}{name}.bias" in shapes)

            attention = {f"{n}_proj": linear(f"self_attn.{n}_proj") for n in "qkvo"}
            mlp = {f"{n}_proj": linear(f"mlp.{n}_proj") for n in ("gate", "up", "down")}
            layers.append(
                _module(
                    input_layernorm=_Gain(config.hidden_size),
                    self_attn=_module(**attention),
                    post_attention_layernorm=_Gain(config.hidden_size),
                    mlp=_module(**mlp),
                )
            )
        self.model = _module(
            embed_tokens=_Table(config.vocab_size, config.hidden_size),
            norm=_Gain(config.hidden_size),
        )
        self.model.layers = layers
        if not config.tie_word_embeddings:
            self.lm_head = _Table(config.vocab_size, config.hidden_size)
        self._frequency = frequencies(config, np.float32)
        self._staircases = staircases
        self.set_options(options, clips)

    def set_options(self, options: Options, clips: Mapping[str, float] | None = None) -> None:
        """Compute with other options (and clip factors) from now on."""
        layers = self.config.num_hidden_layers
        self.options = options
        self._clips = checked(clips or {}, layers)
        if options.silu == "staircase":
            self._gates = tuple(
                mlx_ops.Gate(mlx_ops.lookup("staircase", required(self._staircases, i)))
                for i in range(layers)
            )
        else:
            self._gates = (mlx_ops.Gate(mlx_ops.lookup(options.silu)),) * layers

    def set_staircases(self, staircases: Staircases) -> None:
        """Other SiLU parameters."""
        self._staircases = staircases
        self.set_options(self.options, self._clips)

    @property
    def clips(self) -> dict[str, float]:
        """Factors of the sites, 1 where not named."""
        return dict(self._clips)

    def __repr__(self) -> str:
        o = self.options
        return (
            f"MlxBrainGPT({self.config.parameters / 1e6:.1f}M parameters, {o.mode}, {o.bits} bits, "
            f"silu {o.silu}, attention {o.attention})"
        )

    @property
    def gained(self) -> tuple[str, ...]:
        """Projections ("L0.q_proj") with a factor on every channel of their spikes."""
        return tuple(self._gains)

    def new_cache(self) -> MlxCache:
        """An empty cache, for `model(ids, cache)`: each call adds its tokens."""
        return MlxCache()

    def __call__(
        self,
        ids: Any,
        cache: MlxCache | None = None,
        mask: npt.NDArray[Any] | None = None,
        positions: npt.NDArray[np.integer] | None = None,
        listener: Listener | None = None,
        last: bool = False,
        observer: Observer | None = None,
    ) -> mx.array:
        """Logits of every token; arguments as those of `model.BrainGPT`.

        `observer` is told the site and the values of everything that is, or in mode "ann" would
        be, quantised.
        """
        hidden, single = self._hidden(ids, cache, mask, positions, listener, observer)
        logits = self.head(hidden[:, -1] if last else hidden)
        return logits[0] if single else logits

    def hidden(self, ids: Any, observer: Observer | None = None) -> mx.array:
        """What the head reads, (B, L, width)."""
        return self._hidden(ids, None, None, None, None, observer)[0]

    def head(self, hidden: mx.array) -> mx.array:
        """Logits of hidden states (..., width)."""
        table = self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head
        logits: mx.array = hidden @ table.weight.T
        return logits

    def _hidden(
        self,
        ids: Any,
        cache: MlxCache | None,
        mask: npt.NDArray[Any] | None,
        positions: npt.NDArray[np.integer] | None,
        listener: Listener | None,
        observer: Observer | None,
    ) -> tuple[mx.array, bool]:
        found, single = checked_ids(np.asarray(ids), self.config.vocab_size)
        square = cache is None and mask is None
        cache = MlxCache() if cache is None else cache
        visible, places = placed(found, mask, positions, cache)
        run = _Pass(self, cache, listener, observer, None if square else visible, places)
        hidden = run.forward(mx.array(found.astype(np.int32)))
        cache.visible, cache.next_position = visible, visible.sum(axis=1)
        return hidden, single


class _Pass:
    """One forward pass over a batch; `visible` (B, S) or None: all of it, and no cache before."""

    def __init__(
        self,
        model: MlxBrainGPT,
        cache: MlxCache,
        listener: Listener | None,
        observer: Observer | None,
        visible: npt.NDArray[np.bool_] | None,
        positions: npt.NDArray[np.int64],
    ) -> None:
        self.model, self.cache = model, cache
        self.listener, self.observer = listener, observer
        self.config, self.options = model.config, model.options
        self.spiking = self.options.mode != "ann"
        self.whole = self.options.mode == "reference"
        self.top = 2 ** (self.options.bits - 1) - 1
        cos, sin = tables(model._frequency, positions)
        self.cos = mx.array(cos[:, None].astype(np.float32))
        self.sin = mx.array(sin[:, None].astype(np.float32))
        length = positions.shape[1]
        self.fast = visible is None and mlx_ops.on_cpu() and self.options.attention == "float"
        if visible is None:
            visible = np.ones(positions.shape, bool)
        seen = np.tril(np.ones((length, visible.shape[1]), bool), visible.shape[1] - length)
        seen = seen[None, None, None] & visible[:, None, None, None, :]
        seen = seen | ~seen.any(axis=-1, keepdims=True)  # rows that see nothing see everything
        self.seen = mx.array(seen)  # (B, 1, 1, L, S)

    def quantise(self, x: mx.array, sites: tuple[str, ...] = (), fans: Any = (0,)) -> mx.array:
        """Spike counts times their scale; all `sites` read these counts."""
        if self.observer is not None and sites:
            self.observer(sites[0], x)
        if not self.spiking:
            return x
        clip = self.model._clips.get(sites[0], 1.0) if sites else 1.0
        y, scales = mlx_ops.spikes(x, self.top, self.whole, clip)
        if self.listener is not None and sites:
            unit = np.asarray(scales)
            counts = np.rint(np.asarray(y) / unit).astype(np.int8)
            for site, fan_out in zip(sites, fans, strict=True):
                self.listener.site(site, counts, unit, fan_out)
        return y

    def synapsis(self, x: mx.array, layer: int, names: tuple[str, ...]) -> list[mx.array]:
        """Quantise once, multiply with each weight, quantise each."""
        block = self.model.model.layers[layer]
        group = block.mlp if names[0] in ("gate_proj", "down_proj") else block.self_attn
        linears = [getattr(group, name) for name in names]
        before = tuple(f"L{layer}.{name}.pre" for name in names)
        x = self.quantise(x, before, [len(linear.weight) for linear in linears])
        found = []
        for linear, name in zip(linears, names, strict=True):
            y = self.quantise(linear(x), (f"L{layer}.{name}.post",))
            gain = self.model._gains.get(f"L{layer}.{name}")
            found.append(y if gain is None else y * gain)
        return found

    def turn(self, x: mx.array) -> mx.array:
        """Hadamard blocks, see `hadamard`."""
        size = self.config.hadamard
        if not size:
            return x
        return mx.hadamard_transform(x.reshape(*x.shape[:-1], -1, size), 1.0).reshape(x.shape)

    def norm(self, x: mx.array, gain: nn.Module) -> mx.array:
        """RMSNorm."""
        return mx.fast.rms_norm(x, gain.weight, self.config.rms_norm_eps)

    def heads(self, x: mx.array, number: int) -> mx.array:
        """(B, L, number D) -> (B, number, L, D)."""
        return x.reshape(*x.shape[:2], number, self.config.head_dim).transpose(0, 2, 1, 3)

    def rotate(self, x: mx.array) -> mx.array:
        """Rotary positions."""
        half = x.shape[-1] // 2
        first, second = x[..., :half], x[..., half:]
        turned = [first * self.cos - second * self.sin, second * self.cos + first * self.sin]
        return mx.concatenate(turned, axis=-1)

    def attend(self, layer: int, x: mx.array) -> mx.array:
        """Attention of one layer without its output projection."""
        config = self.config
        number, groups = config.num_attention_heads, config.num_key_value_heads
        q, k, v = self.synapsis(x, layer, ("q_proj", "k_proj", "v_proj"))
        q = self.rotate(self.heads(q, number))
        k, v = self.rotate(self.heads(k, groups)), self.heads(v, groups)
        k, v = self.cache.extend(layer, k, v)
        batch, _, length, size = q.shape
        mixed = self.mix(q.reshape(batch, groups, -1, size), k, v, number // groups)
        o = mixed.reshape(batch, number, length, size).transpose(0, 2, 1, 3)
        return o.reshape(batch, length, number * size)

    def mix(self, q: mx.array, k: mx.array, v: mx.array, share: int) -> mx.array:
        """softmax(q k^T / sqrt(D)) v; q (B, G, share L, D), k and v (B, G, S, D)."""
        spiking = self.options.attention == "spiking"
        if spiking:
            q, k = self.quantise(q), self.quantise(k)
        batch, groups, rows, size = q.shape
        scores = (q @ k.swapaxes(-1, -2)) / mx.array(math.sqrt(size))
        scores = scores.reshape(batch, groups, share, rows // share, -1)
        if self.fast:
            weights = causal_softmax(scores)
        else:
            if spiking:  # zeros never raise a maximum
                scores = self.quantise(mx.where(self.seen, scores, mx.array(0.0)))
            weights = mx.softmax(mx.where(self.seen, scores, mx.array(-np.inf)), axis=-1)
            weights = self.quantise(weights) if spiking else weights
        v = self.quantise(v) if spiking else v
        return weights.reshape(batch, groups, rows, -1) @ v

    def forward(self, ids: mx.array) -> mx.array:
        """Hidden states before the head, (B, L, width)."""
        model = self.model.model
        h = self.quantise(model.embed_tokens.weight[ids], ("embed.post",))
        for i, block in enumerate(model.layers):
            mixed = self.attend(i, self.norm(h, block.input_layernorm))
            h = h + self.synapsis(mixed, i, ("o_proj",))[0]
            x = self.norm(h, block.post_attention_layernorm)
            gate, up = self.synapsis(x, i, ("gate_proj", "up_proj"))
            product = self.turn(self.model._gates[i](gate, up))
            h = h + self.synapsis(product, i, ("down_proj",))[0]
        return self.norm(h, model.norm)


def from_weights(
    config: BrainGPTConfig,
    floats: Callable[[str], npt.NDArray[Any]],
    options: Options,
    staircases: Staircases | None = None,
    clips: Mapping[str, float] | None = None,
    gains: Mapping[str, npt.NDArray[Any]] | None = None,
) -> MlxBrainGPT:
    """A model with the weights that `floats` gives by their plain names."""
    model = MlxBrainGPT(config, options, staircases, clips, gains)
    arrays = [
        (name, mx.array(np.asarray(floats(name), np.float32))) for name in config.weight_shapes()
    ]
    model.update(tree_unflatten(arrays))
    mx.eval(model.parameters())
    return model
