"""BrainGPT on a CPU: integer products, compiled loops, a cache that grows in place.

Mode "causal" with float attention in float32, as `model.BrainGPT` computes it. Every token's
result has the same bits however it came: one by one from a cache, in a full run, in pieces of any
length, in a batch with padding, on any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neurosim.kernels import IntegerWeight, cached_attention, count_linear, row_linear
from neurosim.kernels.spike_quantise.cpu import quantise_by, quantise_rows
from neurosim.models.braingpt import names as names_of
from neurosim.models.braingpt import rows, silu
from neurosim.models.braingpt.clips import source_of
from neurosim.models.braingpt.config import BrainGPTConfig
from neurosim.models.braingpt.hadamard import transform_rows
from neurosim.models.braingpt.model import Options, Staircases, checked_ids, placed
from neurosim.models.braingpt.rotary import frequencies, tables
from neurosim.models.braingpt.sites import Listener
from neurosim.models.braingpt.stored import StoredModel, joined

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int8]
Weight = IntegerWeight | Floats
_NO_BIAS = np.zeros(0, np.float32)
PIECE = 256  # tokens of a batch run at a time, so that memory does not grow with the prompt
ENGINE_BITS = (4, 8, 32)  # of weights; those of 16 are kept as 32
_FIRST_CAPACITY = 64


@dataclass(frozen=True, eq=False)
class _Projection:
    """Several linear layers that read the same counts, as one product."""

    weight: Weight
    bias: Floats
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    gains: tuple[Floats, ...]
    """Factors on the spikes of each; empty: 1."""


class SiluRows(NamedTuple):
    """The SiLU of a layer as `rows.gate_rows` takes it."""

    kind: int
    edges: Floats
    values: Floats


@dataclass(frozen=True, eq=False)
class _Layer:
    qkv: _Projection
    output: _Projection
    gate_up: _Projection
    down: _Projection
    first_gain: Floats
    second_gain: Floats
    silu: SiluRows
    hadamard: int

    def gate(
        self, gate: tuple[Counts, Floats], up: tuple[Counts, Floats], table: Floats, out: Floats
    ) -> None:
        """What the neurons of down_proj see, (R, F); `table` (255,) is work space."""
        form, (gate_gain, up_gain) = self.silu, self.gate_up.gains
        how = (form.kind, form.edges, form.values, gate_gain, up_gain)
        rows.gate_rows(gate[0], gate[1], up[0], up[1], *how, table, out)
        transform_rows(out, self.hadamard)


class EngineCache:
    """Keys (after rotation) and values so far, (B, G, capacity, D) per layer; room is doubled."""

    def __init__(self, config: BrainGPTConfig) -> None:
        self._config = config
        self.keys: list[Floats] = []
        self.values: list[Floats] = []
        self.visible: npt.NDArray[np.bool_] | None = None
        self.next_position: npt.NDArray[np.int64] | None = None
        self._held = 0

    @property
    def length(self) -> int:
        """Tokens held, padding included."""
        return self._held

    @property
    def nbytes(self) -> int:
        """Memory of keys and values."""
        return sum(array.nbytes for array in (*self.keys, *self.values))

    def reserve(self, batch: int, length: int) -> None:
        """Make room for `length` tokens in all."""
        if self.keys and self.keys[0].shape[0] != batch:  # of a first call that failed
            self.keys.clear()
            self.values.clear()
        capacity = self.keys[0].shape[2] if self.keys else 0
        if length <= capacity:
            return
        capacity = max(length, 2 * capacity, _FIRST_CAPACITY)
        config = self._config
        shape = (batch, config.num_key_value_heads, capacity, config.head_dim)
        for arrays in (self.keys, self.values):
            for i in range(config.num_hidden_layers):
                grown = np.zeros(shape, np.float32)
                if i < len(arrays):
                    grown[:, :, : self._held] = arrays[i][:, :, : self._held]
                    arrays[i] = grown
                else:
                    arrays.append(grown)

    def advance(self, tokens: int) -> None:
        """So many more tokens are held."""
        self._held += tokens

    def back(self, length: int) -> None:
        """Only so many tokens are held after all."""
        self._held = length


class Engine:
    """Call it on token ids (B, L) or (L,) for float32 logits (B, L, V) or (L, V).

    Args:
        stored: the folder to read.
        options: mode "causal", attention "float"; any SiLU and bits.
        weight_bits: 32, 8 or 4; None for those stored. Embedding and head have at least 8.
        threads: of products and attention.
        staircases: SiLU parameters of every layer, for silu="staircase".
        progress: called with (layers read, layers).
    """

    def __init__(
        self,
        stored: StoredModel,
        options: Options,
        weight_bits: int | None = None,
        threads: int = 1,
        staircases: Staircases | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        if options.mode != "causal" or options.attention != "float":
            raise ValueError(
                f"the compiled engine computes mode 'causal' with float attention, got "
                f"{options.mode!r} and {options.attention!r}; choose backend='numpy'"
            )
        self.config = replace(stored.config, bits=options.bits)
        self.options, self.threads = options, threads
        self.dtype = np.dtype(np.float32)
        self.clips, self.weight_bits = stored.clips, weight_bits or stored.config.weight_bits
        read = _Reader(stored, weight_bits)
        self.gained = tuple(read.gains)
        self._table = read.matrix("model.embed_tokens.weight", least=8)
        layers = []
        for i in range(self.config.num_hidden_layers):
            layers.append(_layer(read, i, SiluRows(*_lookup(options.silu, staircases, i))))
            progress(i + 1, self.config.num_hidden_layers)
        self._layers = tuple(layers)
        self._gain = read.vector("model.norm.weight")
        tied = self.config.tie_word_embeddings
        self._head = self._table if tied else read.matrix("lm_head.weight", least=8)
        self._frequency = frequencies(self.config, np.float32)

    def __repr__(self) -> str:
        o = self.options
        return (
            f"Engine({self.config.parameters / 1e6:.1f}M parameters, {o.bits} bits, silu {o.silu}, "
            f"weights {self.nbytes / 1e6:.1f} MB, {self.threads} threads)"
        )

    @property
    def nbytes(self) -> int:
        """Memory of the weights."""
        matrices: list[Weight] = [self._table]
        for layer in self._layers:
            for part in (layer.qkv, layer.output, layer.gate_up, layer.down):
                matrices.append(part.weight)
        if self._head is not self._table:
            matrices.append(self._head)
        return sum(matrix.nbytes for matrix in matrices)

    def new_cache(self) -> EngineCache:
        """An empty cache, for `model(ids, cache)`: each call adds its tokens."""
        return EngineCache(self.config)

    def __call__(
        self,
        ids: Any,
        cache: EngineCache | None = None,
        mask: npt.NDArray[Any] | None = None,
        positions: npt.NDArray[np.integer] | None = None,
        listener: Listener | None = None,
        last: bool = False,
    ) -> Floats:
        """Logits of every token; arguments as those of `model.BrainGPT`.

        With a mask, padding must be on the left.
        """
        found, single = checked_ids(ids, self.config.vocab_size)
        cache = self.new_cache() if cache is None else cache
        before = cache.length
        visible, places = placed(found, mask, positions, cache)
        first = np.argmax(visible, axis=1)
        if not (visible == (np.arange(visible.shape[1]) >= first[:, None])).all():
            raise ValueError("expected padding on the left only; move it there")
        cache.reserve(len(found), before + found.shape[1])
        length = max(PIECE // len(found), 1)
        parts = []
        try:
            for start in range(0, found.shape[1], length):
                piece = slice(start, min(start + length, found.shape[1]))
                hidden = self._run(found[:, piece], places[:, piece], first, cache, listener)
                ends = piece.stop == found.shape[1]
                if not last:
                    parts.append(self._logits(hidden))
                elif ends:
                    parts.append(self._logits(hidden[:, -1:])[:, 0])
        except BaseException:
            cache.back(before)
            raise
        cache.visible, cache.next_position = visible, visible.sum(axis=1)
        logits = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
        return logits[0] if single else logits

    def _logits(self, hidden: Floats) -> Floats:
        """(B, L, width) -> (B, L, V)."""
        flat = np.ascontiguousarray(hidden.reshape(-1, hidden.shape[-1]))
        normal = np.empty_like(flat)
        rows.normalise(flat, self._gain, self.config.rms_norm_eps, normal)
        logits: Floats = row_linear(normal, self._head, self.threads)
        return logits.reshape(*hidden.shape[:2], -1)

    def _run(
        self,
        ids: npt.NDArray[np.int64],
        positions: npt.NDArray[np.int64],
        first: npt.NDArray[np.int64],
        cache: EngineCache,
        listener: Listener | None,
    ) -> Floats:
        """One piece (B, L) through all layers: the residual stream (B, L, width)."""
        flat = ids.reshape(-1)
        step = _Step(self, len(flat), ids.shape, listener)
        table = self._table
        h = table.dequantise(flat) if isinstance(table, IntegerWeight) else table[flat]
        counts, scales = step.count(h, "embed.post", 0)
        rows.real(counts, scales, h)
        cos, sin = tables(self._frequency, positions.reshape(-1))
        offset = cache.length
        for i, layer in enumerate(self._layers):
            step.layer = i
            rows.normalise(h, layer.first_gain, self.config.rms_norm_eps, step.normal)
            q, k, v = step.project(step.normal, layer.qkv)
            q_gain, k_gain, _ = layer.qkv.gains
            turned = step.rotate(q, q_gain, k, k_gain, cos, sin)
            mixed = step.attend(*turned, v, cache, i, offset, first)
            (o,) = step.project(mixed, layer.output)
            rows.add_real(*o, h)
            rows.normalise(h, layer.second_gain, self.config.rms_norm_eps, step.normal)
            gate, up = step.project(step.normal, layer.gate_up)
            layer.gate(gate, up, step.table, step.hidden)
            (down,) = step.project(step.hidden, layer.down)
            rows.add_real(*down, h)
        cache.advance(ids.shape[1])
        return h.reshape(*ids.shape, -1)


def counted(
    x: Floats, levels: np.float32, site: str, clips: Mapping[str, float]
) -> tuple[Counts, Floats]:
    """Counts and scales of rows x (R, N) at a site."""
    counts = np.empty(x.shape, np.int8)
    scales = np.empty(len(x), np.float32)
    if not quantise_rows(x, levels, counts, scales):
        raise ValueError(f"{site}: values are not finite; the weights are damaged")
    clip = clips.get(source_of(site), 1.0) if clips else 1.0
    if clip != 1:
        scales *= np.float32(clip)
        quantise_by(x, levels, counts, scales)
    return counts, scales


class _Step:
    """Work space of one pass over R rows."""

    def __init__(
        self, engine: Engine, size: int, shape: tuple[int, ...], listener: Listener | None
    ) -> None:
        config = engine.config
        self.config, self.shape, self.listener = config, shape, listener
        self.threads, self.levels = engine.threads, np.float32(engine.options.levels)
        self.layer, self.clips = 0, engine.clips
        self.normal = np.empty((size, config.hidden_size), np.float32)
        self.hidden = np.empty((size, config.intermediate_size), np.float32)
        self.table = np.empty(255, np.float32)
        width = config.num_attention_heads * config.head_dim
        self.queries = np.empty((size, width), np.float32)

    def count(self, x: Floats, site: str, fan_out: int) -> tuple[Counts, Floats]:
        """Counts and scales of rows x (R, N)."""
        counts, scales = counted(x, self.levels, site, self.clips)
        if self.listener is not None:
            self._tell(site, counts, scales, fan_out)
        return counts, scales

    def _tell(self, site: str, counts: Counts, scales: Floats, fan_out: int) -> None:
        assert self.listener is not None
        shaped = counts.reshape(*self.shape, -1)
        self.listener.site(site, shaped, scales.reshape(*self.shape, 1), fan_out)

    def project(self, x: Floats, projection: _Projection) -> list[tuple[Counts, Floats]]:
        """Quantise, multiply, quantise, for every layer of a projection."""
        at = f"L{self.layer}."
        names, sizes = projection.names, projection.sizes
        counts, scales = self.count(x, f"{at}{names[0]}.pre", sizes[0])
        if self.listener is not None:
            for name, size in zip(names[1:], sizes[1:], strict=True):
                self._tell(f"{at}{name}.pre", counts, scales, size)
        weight, bias = projection.weight, projection.bias
        products: Any
        if isinstance(weight, IntegerWeight):
            products = count_linear(counts, weight, self.threads)
        else:
            values = np.empty(counts.shape, np.float32)
            rows.real(counts, scales, values)
            products = row_linear(values, weight, self.threads)
        found, start = [], 0
        for name, size in zip(names, sizes, strict=True):
            y = np.empty((len(x), size), np.float32)
            if isinstance(weight, IntegerWeight):
                rows.scale_sums(products, start, scales, weight.scale, bias, y)
            else:
                rows.part(products, start, bias, y)
            found.append(self.count(y, f"{at}{name}.post", 0))
            start += size
        return found

    def rotate(
        self,
        q: tuple[Counts, Floats],
        q_gain: Floats,
        k: tuple[Counts, Floats],
        k_gain: Floats,
        cos: Floats,
        sin: Floats,
    ) -> tuple[Floats, Floats]:
        """Queries (R, A, D) and keys (R, G, D) at their positions."""
        config = self.config
        queries = self.queries.reshape(-1, config.num_attention_heads, config.head_dim)
        rows.rotate_rows(*q, q_gain, cos, sin, queries)
        keys = np.empty((len(queries), config.num_key_value_heads, config.head_dim), np.float32)
        rows.rotate_rows(*k, k_gain, cos, sin, keys)
        return queries, keys

    def attend(
        self,
        queries: Floats,
        keys: Floats,
        v: tuple[Counts, Floats],
        cache: EngineCache,
        layer: int,
        offset: int,
        first: npt.NDArray[np.int64],
    ) -> Floats:
        """Append to the cache and mix; (R, A D)."""
        config, (batch, length) = self.config, self.shape
        size, groups = config.head_dim, config.num_key_value_heads
        values = np.empty((batch * length, groups * size), np.float32)
        rows.real(*v, values)
        new = slice(offset, offset + length)
        for arrays, block in ((cache.keys, keys), (cache.values, values)):
            shaped = block.reshape(batch, length, groups, size).transpose(0, 2, 1, 3)
            arrays[layer][:, :, new] = shaped
        end = offset + length
        mixed: Floats = cached_attention(
            queries.reshape(batch, length, -1, size),
            cache.keys[layer][:, :, :end],
            cache.values[layer][:, :, :end],
            first,
            offset,
            self.threads,
        )
        return mixed.reshape(batch * length, -1)


class _Reader:
    """Weights of a stored model as the engine wants them."""

    def __init__(self, stored: StoredModel, weight_bits: int | None) -> None:
        if weight_bits not in (None, *ENGINE_BITS):
            raise ValueError(f"expected weight_bits 4, 8 or 32, got {weight_bits!r}")
        self._stored, self._bits, self.gains = stored, weight_bits, stored.gains()
        self.config = stored.config

    def vector(self, name: str) -> Floats:
        return self._stored.floats(name).astype(np.float32)

    def _gain(self, key: str) -> Floats:
        return self.gains.get(names_of.gain(key) or "", _NO_BIAS)

    def matrix(self, name: str, least: int = 4) -> Weight:
        """Integers of the bits asked for (at least `least`), else floats."""
        stored = self._stored.stored_bits(name)
        bits = stored if self._bits is None else max(self._bits, least)
        if bits < 16:
            return self._stored.integers(name, bits)
        return np.ascontiguousarray(self._stored.floats(name), np.float32)

    def projection(self, at: str, names: tuple[str, ...], biases: bool) -> _Projection:
        """Layers that read the same input, one above the other."""
        parts = [self.matrix(f"{at}{name}.weight") for name in names]
        bias = _NO_BIAS
        if biases:
            bias = np.concatenate([self.vector(f"{at}{name}.bias") for name in names])
        sizes = tuple(part.shape[0] for part in parts)
        gains = tuple(self._gain(f"{at}{name}.gain") for name in names)
        weight: Weight = parts[0]
        if len(parts) == 1:
            return _Projection(weight, bias, names, sizes, gains)
        if isinstance(weight, IntegerWeight):
            weight = joined([part for part in parts if isinstance(part, IntegerWeight)])
        else:
            weight = np.concatenate([part for part in parts if isinstance(part, np.ndarray)])
        for name in names:
            self._stored.release(f"{at}{name}.weight")
        return _Projection(weight, bias, names, sizes, gains)


def _layer(read: _Reader, index: int, lookup: SiluRows) -> _Layer:
    at = f"model.layers.{index}."
    attention, mlp = at + "self_attn.", at + "mlp."
    biases = read.config.biases
    return _Layer(
        read.projection(attention, ("q_proj", "k_proj", "v_proj"), biases),
        read.projection(attention, ("o_proj",), False),
        read.projection(mlp, ("gate_proj", "up_proj"), False),
        read.projection(mlp, ("down_proj",), False),
        read.vector(at + "input_layernorm.weight"),
        read.vector(at + "post_attention_layernorm.weight"),
        lookup,
        read.config.hadamard,
    )


def _lookup(kind: str, staircases: Staircases | None, layer: int) -> tuple[int, Floats, Floats]:
    """(kind, edges, values) for `rows.gate_rows`."""
    if kind == "exact":
        return rows.EXACT, _NO_BIAS, _NO_BIAS
    if kind == "table":
        step = np.array([silu.TABLE_STEP], np.float32)
        return rows.TABLE, step, silu.table_values().astype(np.float32)
    parameters = silu.required(staircases, layer)
    edges, values = silu.Staircase(parameters).lookup(np.float32)
    return rows.STAIRCASE, edges.astype(np.float32), values.astype(np.float32)
