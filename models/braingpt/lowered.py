"""BrainGPT on a chip: linear layers as crossbars, everything else as digital units.

The spikes of a linear layer's input drive its crossbars (integer weights as they are); what cannot
be folded stays in five kinds of digital units, one after the other, with the operations of
`workload`:

    embed        the token's row as spike counts
    L{l}.attend  scales the sums of the layer before, adds them to the residual, norm -> spikes of
                 q, k and v
    L{l}.mix     q, k, v: bias, counts, rotation, cache, softmax -> spikes of o
    L{l}.feed    residual, norm -> spikes of gate and up
    L{l}.gate    SiLU of the gate times up -> spikes of down
    logits       residual, norm and the head, which stays a product of floats

A unit passes on the scale of its spikes and the residual stream, width + 1 words. On an ideal chip
every count and logit has the bits of `Engine`, as the units call its functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.kernels import IntegerWeight, cached_attention, row_linear
from neurosim.models.braingpt import rows, workload
from neurosim.models.braingpt.engine import Engine, counted
from neurosim.models.braingpt.rotary import tables
from neurosim.models.braingpt.sites import Listener
from neurosim.models.braingpt.workload import Work
from neurosim.network import Crossbar, DigitalUnit, Embedding, Network, Node, Readout

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int8]
Step = Callable[[int, Sequence[npt.NDArray[Any]]], tuple[Counts, npt.NDArray[Any]]]
_NO_SPIKES = np.zeros(0, np.int8)
_FLOAT_BITS = 32


def lower(
    model: Any, drive: str = "pulse_width", context: int = 1024, listener: Listener | None = None
) -> Network:
    """The network of a chip.

    Args:
        model: an `Engine` with integer weights: load(folder, weight_bits=8), or 4.
        drive: "pulse_width": |n| pulses a row in one read; "bit_plane": 7 reads, one for each bit.
        context: most tokens of a text, for which the caches have room.
        listener: told about every spike count of every site, as by the engine itself.

    Raises:
        ValueError: float weights, or a model that is not the compiled engine.
    """
    if not isinstance(model, Engine):
        raise ValueError(
            f"expected the compiled engine with integer weights, got {type(model).__name__}; "
            "load(folder, backend='cpu', weight_bits=8)"
        )
    if context < 1:
        raise ValueError(f"expected a context of at least one token, got {context}")
    return _Lowering(model, drive, context, listener).network()


def _integers(weight: Any, name: str) -> IntegerWeight:
    if not isinstance(weight, IntegerWeight):
        raise ValueError(
            f"{name}: expected integer weights for crossbars, got {weight.dtype}; load the model "
            "with weight_bits=8 or 4"
        )
    return weight


class _Lowering:
    """Nodes and edges of one model."""

    def __init__(self, engine: Engine, drive: str, context: int, listener: Listener | None) -> None:
        self.engine, self.config, self.context = engine, engine.config, context
        self.drive, self.listener = drive, listener
        self.levels = engine.options.levels
        self.nodes: list[Node] = []
        self.edges: list[tuple[str, str]] = []
        self.layer: dict[str, str] = {}

    def network(self) -> Network:
        config, engine = self.config, self.engine
        table = _integers(engine._table, "embedding")
        codes = table.codes if table.bits == 8 else table.integers()
        looked = self._add(Embedding("embedding", codes), "embedding")
        before = self._unit("embed", "embedding", [looked], self._embed(table))
        read: list[str] = []
        for i, layer in enumerate(engine._layers):
            where = f"block {i}"
            before = self._unit(f"L{i}.attend", where, [before, *read], self._enter(i, False))
            qkv = self._crossbars(i, layer.qkv, where, before)
            before = self._unit(f"L{i}.mix", where, [before, *qkv], self._mix(i))
            read = self._crossbars(i, layer.output, where, before)
            before = self._unit(f"L{i}.feed", where, [before, *read], self._enter(i, True))
            gate_up = self._crossbars(i, layer.gate_up, where, before)
            before = self._unit(f"L{i}.gate", where, [before, *gate_up], self._gate(i))
            read = self._crossbars(i, layer.down, where, before)
        self._unit("logits", "head", [before, *read], self._head(), config.vocab_size)
        self._add(Readout("readout", config.vocab_size, 1.0), "head", "logits")
        return Network(tuple(self.nodes), tuple(self.edges), self.layer)

    def _add(self, node: Node, where: str, *sources: str) -> str:
        self.nodes.append(node)
        self.layer[node.name] = where
        self.edges.extend((source, node.name) for source in sources)
        return node.name

    def _crossbars(self, index: int, projection: Any, where: str, source: str) -> list[str]:
        weight = _integers(projection.weight, f"L{index}.{projection.names[0]}")
        integers = weight.codes if weight.bits == 8 else weight.integers()
        bits = 8 if weight.bits == 8 else 10  # 7 x 63 at most
        names, start = [], 0
        for name, size in zip(projection.names, projection.sizes, strict=True):
            own = np.ascontiguousarray(integers[start : start + size].T)  # (I, O)
            names.append(self._add(Crossbar(f"L{index}.{name}", own, bits), where, source))
            start += size
        return names

    def _unit(self, name: str, where: str, sources: list[str], made: _Made, values: int = 0) -> str:
        """A unit that passes on `values` words; 0: scale and residual."""
        width = self.config.hidden_size
        sizes = {node.name: _values(node) for node in self.nodes if node.name in sources}
        unit = DigitalUnit(
            name,
            tuple(sizes[source] for source in sources),
            made.width,
            values or width + 1,
            made.start,
            made.operations,
            made.memory_bytes,
            self.levels,
            self.drive,
        )
        return self._add(unit, where, *sources)

    # What each kind of unit computes, with the engine's own functions, and what that is counted as.

    def count(self, x: Floats, site: str, fan_outs: Mapping[str, int]) -> tuple[Counts, Floats]:
        """Counts (1, N) and scale (1,) of a row, reported for every site that shares them."""
        counts, scales = counted(x, np.float32(self.levels), site, self.engine.clips)
        if self.listener is not None:
            for name, fan_out in fan_outs.items():
                self.listener.site(name, counts[None], scales.reshape(1, 1, 1), fan_out)
        return counts, scales

    def spikes(self, x: Floats, index: int, projection: Any) -> tuple[Counts, Floats]:
        """The spikes that drive a projection's crossbars."""
        sites = {
            f"L{index}.{name}.pre": size
            for name, size in zip(projection.names, projection.sizes, strict=True)
        }
        return self.count(x, next(iter(sites)), sites)

    def outputs(
        self, sums: Sequence[npt.NDArray[Any]], scale: Floats, index: int, projection: Any
    ) -> list[tuple[Counts, Floats]]:
        """Column sums of a projection's crossbars as the counts behind them."""
        found, start = [], 0
        for name, values in zip(projection.names, sums, strict=True):
            size = values.size
            y = np.empty((1, size), np.float32)
            unit = projection.weight.scale[start : start + size]
            bias = projection.bias[start : start + size]
            rows.scale_sums(values.astype(np.int32)[None], 0, scale, unit, bias, y)
            site = f"L{index}.{name}.post"
            found.append(self.count(y, site, {site: 0}))
            start += size
        return found

    def added(self, index: int, h: Floats, scale: Floats, sums: Any, feeding: bool) -> None:
        """h plus what the output layer (or the layer before's down layer) gave."""
        layers = self.engine._layers
        projection = layers[index].output if feeding else layers[index].down
        (result,) = self.outputs(sums, scale, index, projection)
        rows.add_real(*result, h)

    def _embed(self, table: IntegerWeight) -> _Made:
        width = self.config.hidden_size

        def step(token: int, inputs: Sequence[Any]) -> tuple[Counts, Floats]:
            h = np.multiply(inputs[0].astype(np.int16), table.scale[token], dtype=np.float32)[None]
            counts, scales = self.count(h, "embed.post", {"embed.post": 0})
            rows.real(counts, scales, h)
            return _NO_SPIKES, _passed(scales, h)

        work = workload.quantise(width) + Work(multiply=2 * width)
        memory = 4 * self.config.vocab_size
        return _Made(0, lambda: step, _fixed(work, _FLOAT_BITS), memory)

    def _enter(self, index: int, feeding: bool) -> _Made:
        config, layer = self.config, self.engine._layers[index]
        projection = layer.gate_up if feeding else layer.qkv
        gain = layer.second_gain if feeding else layer.first_gain
        width = config.hidden_size
        source = index if feeding else index - 1  # whose sums it adds

        def step(token: int, inputs: Sequence[Any]) -> tuple[Counts, Floats]:
            scale, h = _received(inputs[0])
            if source >= 0:
                self.added(source, h, scale, inputs[1:], feeding)
            normal = np.empty_like(h)
            rows.normalise(h, gain, config.rms_norm_eps, normal)
            counts, scales = self.spikes(normal, index, projection)
            return counts[0], _passed(scales, h)

        work = workload.norm(width) + workload.quantise(width)
        added, shifts = Work(), {}
        if source >= 0:
            added = _output_work(width) + Work(add=width)
            shifts = self._shift_adds(width)
        operations = _fixed(work + added, _FLOAT_BITS * width, shifts)
        return _Made(width, lambda: step, operations, 4 * width)

    def _mix(self, index: int) -> _Made:
        config, layer = self.config, self.engine._layers[index]
        size, groups = config.head_dim, config.num_key_value_heads
        heads, width = config.num_attention_heads, config.num_attention_heads * config.head_dim
        keys_width = groups * size

        def start() -> Step:
            shape = (1, groups, self.context, size)
            cached, values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
            held = 0

            def step(token: int, inputs: Sequence[Any]) -> tuple[Counts, Floats]:
                nonlocal held
                if held == self.context:
                    raise ValueError(
                        f"expected at most {self.context} tokens in a text, as the caches of this "
                        "network hold; lower the model with a larger context, or forget()"
                    )
                scale, h = _received(inputs[0])
                q, k, v = self.outputs(inputs[1:], scale, index, layer.qkv)
                cos, sin = tables(self.engine._frequency, np.array([held]))
                queries = np.empty((1, heads, size), np.float32)
                rows.rotate_rows(*q, layer.qkv.gains[0], cos, sin, queries)
                rotated = np.empty((1, groups, size), np.float32)
                rows.rotate_rows(*k, layer.qkv.gains[1], cos, sin, rotated)
                real = np.empty((1, keys_width), np.float32)
                rows.real(*v, real)
                cached[0, :, held], values[0, :, held] = rotated[0], real.reshape(groups, size)
                end = held + 1
                mixed = cached_attention(
                    queries[None],
                    cached[:, :, :end],
                    values[:, :, :end],
                    np.zeros(1, np.int64),
                    held,
                    1,
                )
                held = end
                counts, scales = self.spikes(mixed.reshape(1, -1), index, layer.output)
                return counts[0], _passed(scales, h)

            return step

        outputs = width + 2 * keys_width
        work = _output_work(width) + _output_work(keys_width).times(2)
        work += workload.positions(config) + workload.quantise(width)
        work += Work(multiply=size // 2, special=size)  # sine and cosine of the position
        work += Work(multiply=sum(len(gain) for gain in layer.qkv.gains))
        if config.biases:
            work += Work(add=outputs)
        shifts, stored = self._shift_adds(outputs), 2 * keys_width * _FLOAT_BITS
        fixed = _FLOAT_BITS * (outputs + (outputs if config.biases else 0))

        def operations(context: int) -> Mapping[str, int]:
            everything = work + workload.attention(config, context)
            return _counts(everything, fixed + (context + 1) * stored, shifts)

        memory = self.context * stored // 8 + 4 * outputs * (2 if config.biases else 1)
        return _Made(width, start, operations, memory)

    def _gate(self, index: int) -> _Made:
        config, layer = self.config, self.engine._layers[index]
        hidden = config.intermediate_size
        gains = layer.gate_up.gains

        def step(token: int, inputs: Sequence[Any]) -> tuple[Counts, Floats]:
            scale, h = _received(inputs[0])
            gate, up = self.outputs(inputs[1:], scale, index, layer.gate_up)
            table, product = np.empty(255, np.float32), np.empty((1, hidden), np.float32)
            layer.gate(gate, up, table, product)
            counts, scales = self.spikes(product, index, layer.down)
            return counts[0], _passed(scales, h)

        work = _output_work(hidden).times(2) + workload.quantise(hidden)
        work += workload.silu(config, self.engine.options.silu, True, bool(len(gains[0])))
        work += Work(multiply=len(gains[1])) + workload.turned(config)
        operations = _fixed(work, _FLOAT_BITS * 2 * hidden, self._shift_adds(2 * hidden))
        return _Made(hidden, lambda: step, operations, 8 * hidden)

    def _head(self) -> _Made:
        config, engine = self.config, self.engine
        last, width = config.num_hidden_layers - 1, config.hidden_size

        def step(token: int, inputs: Sequence[Any]) -> tuple[Counts, Floats]:
            scale, h = _received(inputs[0])
            self.added(last, h, scale, inputs[1:], feeding=False)
            normal = np.empty_like(h)
            rows.normalise(h, engine._gain, config.rms_norm_eps, normal)
            return _NO_SPIKES, np.asarray(row_linear(normal, engine._head)[0])

        bytes_of_head = workload.matrix_bytes(config.vocab_size, width, _stored_bits(engine._head))
        work = _output_work(width) + workload.norm(width)
        work += Work(add=width, mac=config.vocab_size * width, multiply=config.vocab_size)
        bits = 8 * bytes_of_head + _FLOAT_BITS * 2 * width
        operations = _fixed(work, bits, self._shift_adds(width))
        return _Made(0, lambda: step, operations, bytes_of_head + 8 * width)

    def _shift_adds(self, columns: int) -> dict[str, int]:
        """Shifts and additions that put bit planes together."""
        planes = self.levels.bit_length()
        if self.drive != "bit_plane":
            return {}
        return {"additions": (planes - 1) * columns, "shifts": (planes - 1) * columns}


class _Made:
    """One unit's program and its cost."""

    def __init__(
        self,
        width: int,
        start: Callable[[], Step],
        operations: Callable[[int], Mapping[str, int]],
        memory_bytes: int,
    ) -> None:
        self.width, self.start = width, start
        self.operations, self.memory_bytes = operations, memory_bytes


def _values(node: Node) -> int:
    return node.values if isinstance(node, DigitalUnit) else node.size


def _stored_bits(weight: Any) -> int:
    return weight.bits if isinstance(weight, IntegerWeight) else 8 * int(weight.dtype.itemsize)


def _passed(scale: Floats, h: Floats) -> Floats:
    return np.concatenate([scale, h[0]])


def _received(words: Floats) -> tuple[Floats, Floats]:
    """Scale (1,) and residual (1, width): a copy, which may be added to."""
    return words[:1].copy(), words[None, 1:].copy()


def _output_work(size: int) -> Work:
    """Sums of a linear layer to counts and back to real values."""
    return workload.sums(size, True) + workload.quantise(size) + Work(multiply=size)


def _counts(work: Work, memory_bits: int, shifts: Mapping[str, int]) -> Mapping[str, int]:
    """Work by the run loop's names; a table is read as memory."""
    return {
        "float_multiplies": work.multiply + work.mac,
        "float_additions": work.add + work.mac,
        "float_compares": work.compare,
        "special_functions": work.special,
        "memory_bits": memory_bits + work.reads * _FLOAT_BITS,
        **shifts,
    }


def _fixed(
    work: Work, memory_bits: int, shifts: Mapping[str, int] | None = None
) -> Callable[[int], Mapping[str, int]]:
    """The same for every token."""
    found = _counts(work, memory_bits, shifts or {})
    return lambda context: found
