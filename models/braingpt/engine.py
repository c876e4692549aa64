"""BrainGPT on a CPU: integer products, compiled loops, a cache that grows in place.

Mode "causal" with float attention in float32, as `model.BrainGPT` computes it. Every token's
result has the same bits however it came: one by one from a cache, in a full run, in pieces of any
length, in a batch with padding, on any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels import IntegerWeight, cached_attention, count_linear, row_linear
from neurosim.kernels.spike_quantise.cpu import quantise_by, quantise_rows
from neurosim.models.braingpt import rows
from neurosim.models.braingpt.clips import source_of
from neurosim.models.braingpt.engine_cache import EngineCache
from neurosim.models.braingpt.engine_weights import Projection, Weight, WeightReader, read_layer
from neurosim.models.braingpt.model import Options, Staircases, checked_ids, placed
from neurosim.models.braingpt.rotary import frequencies, tables
from neurosim.models.braingpt.sites import Listener
from neurosim.models.braingpt.stored import StoredModel

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int8]
PIECE = 256  # tokens of a batch run at a time, so that memory does not grow with the prompt


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
        read = WeightReader(stored, weight_bits)
        self.gained = tuple(read.gains)
        self._table = read.matrix("model.embed_tokens.weight", least=8)
        layers = []
        for i in range(self.config.num_hidden_layers):
            layers.append(read_layer(read, i, options.silu, staircases))
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

    def project(self, x: Floats, projection: Projection) -> list[tuple[Counts, Floats]]:
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
