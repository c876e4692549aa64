"""The paths of linear nodes between the neurons of a NIR graph, composed into one matrix each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from neurosim.io.nir import maps
from neurosim.io.nir.graph import NEURONS, SILENT, FlatGraph

_FIRST = {"Threshold": "threshold", "IF": "r", "I": "r"}  # the parameter that shows the shape


@dataclass
class Signal:
    """What flows along an edge: spikes of populations, weighted and delayed, plus a constant.

    `parts`: population -> (matrix (elements, K), source neuron (K,), delay (K,) s).
    """

    shape: maps.Shape
    parts: dict[str, tuple[maps.Matrix, npt.NDArray[np.int64], npt.NDArray[np.float64]]]
    bias: npt.NDArray[np.float64]


@dataclass
class Paths:
    """Signals at the nodes of a graph, composed from the neurons that cause them."""

    graph: FlatGraph
    _shapes: dict[str, maps.Shape] = field(default_factory=dict)
    _signals: dict[str, Signal] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)

    def is_population(self, name: str) -> bool:
        """Whether neurons or a source of spikes stand there."""
        outer = self.graph.kind(name) == "Input" and not self.graph.sources(name)
        return outer or self.graph.kind(name) in NEURONS

    def shape(self, name: str) -> maps.Shape:
        """Of the node's output; parameters of one number take the shape of what comes in."""
        if name not in self._shapes:
            if name in self._open:
                raise ValueError(f"{name}: its shape cannot be told: it depends on itself")
            self._open.append(name)
            try:
                self._shapes[name] = self._find_shape(name)
            finally:
                self._open.pop()
        return self._shapes[name]

    def _find_shape(self, name: str) -> maps.Shape:
        node, kind = self.graph.nodes[name], self.graph.kind(name)
        own: maps.Shape = ()
        if kind == "Input":
            own = tuple(int(size) for size in np.asarray(node.input_type["input"]).ravel())
            if not self.graph.sources(name) or own:
                return own
        elif kind in ("Affine", "Linear"):
            weight = np.shape(node.weight)
            return (*weight[:-2], weight[-2]) if len(weight) > 1 else ()
        elif kind in NEURONS:
            own = np.shape(getattr(node, _FIRST.get(kind, "v_leak")))
        elif kind in ("Scale", "Delay"):
            own = np.shape(node.scale if kind == "Scale" else node.delay)
        if math.prod(own) > 1:
            return own
        entering = self._entering(name)
        if entering is None:
            return own or (1,)
        if kind in (*NEURONS, "Scale", "Delay", "Input", "Output"):
            return entering
        return self._apply_shape(name, entering)

    def _entering(self, name: str) -> maps.Shape | None:
        """Shape of the first input that can be told without this node."""
        for source in self.graph.sources(name):
            if source not in self._open:
                try:
                    return self.shape(source)
                except ValueError:
                    continue
        return None

    def _apply_shape(self, name: str, entering: maps.Shape) -> maps.Shape:
        return self._map(name, entering)[1]

    def entering(self, name: str) -> Signal:
        """The sum of what arrives at a node."""
        signals = [self.signal(source) for source in self.graph.sources(name)]
        shape = self.shape(name) if self.is_population(name) else None
        for source, signal in zip(self.graph.sources(name), signals, strict=True):
            shape = shape or signal.shape
            if signal.shape != shape:
                raise ValueError(
                    f"edge {source} -> {name}: expected shape {shape}, got {signal.shape}"
                )
        if not signals:
            shape = shape or (1,)
            return Signal(shape, {}, np.zeros(math.prod(shape)))
        total = signals[0]
        for signal in signals[1:]:
            parts = dict(total.parts)
            for source, (matrix, ids, delays) in signal.parts.items():
                if source in parts:
                    before = parts[source]
                    matrix = sparse.hstack([before[0], matrix], format="csr")
                    ids = np.concatenate([before[1], ids])
                    delays = np.concatenate([before[2], delays])
                parts[source] = _merged(matrix, ids, delays)
            total = Signal(total.shape, parts, total.bias + signal.bias)
        return total

    def signal(self, name: str) -> Signal:
        """What a node sends: its own spikes, or what its linear map makes of its input."""
        if name in self._signals:
            return self._signals[name]
        if self.is_population(name):
            shape = self.shape(name)
            size = math.prod(shape)
            kind = self.graph.kind(name)
            if kind in SILENT:
                raise ValueError(
                    f"node {name} ({kind}) sends its voltage, not spikes, to another node: only an "
                    "Output may read it; put a LIF or IF there, or end the network at it"
                )
            eye = sparse.eye_array(size, format="csr")
            result = Signal(shape, {name: (eye, np.arange(size), np.zeros(size))}, np.zeros(size))
        else:
            if name in self._open:
                raise ValueError(
                    f"{' -> '.join([*self._open, name])}: a loop without neurons; NIR gives it no "
                    "meaning in time"
                )
            self._open.append(name)
            try:
                result = self._mapped(name, self.entering(name))
            finally:
                self._open.pop()
        self._signals[name] = result
        return result

    def _mapped(self, name: str, signal: Signal) -> Signal:
        kind = self.graph.kind(name)
        if kind in ("Input", "Output"):  # the border of a nested graph
            return signal
        if kind == "Delay":
            return _delayed(f"node {name}", self.graph.nodes[name], signal)
        matrix, shape, bias = self._map(name, signal.shape)
        parts = {
            source: _merged(matrix @ part, ids, delays)
            for source, (part, ids, delays) in signal.parts.items()
        }
        return Signal(shape, parts, matrix @ signal.bias + bias)

    def _map(self, name: str, shape: maps.Shape) -> tuple[maps.Matrix, maps.Shape, Any]:
        """Matrix, output shape and bias (elements,) of a linear node."""
        node, kind, where = self.graph.nodes[name], self.graph.kind(name), f"node {name}"
        if kind in ("Affine", "Linear"):
            matrix, out = maps.linear(where, node.weight, shape)
        elif kind == "Scale":
            matrix, out = maps.scale(where, node.scale, shape)
        elif kind in ("SumPool2d", "AvgPool2d"):
            matrix, out = maps.pooling(where, node, shape, kind == "AvgPool2d")
        elif kind == "Flatten":
            out = maps.flattened(where, shape, int(node.start_dim), int(node.end_dim))
            matrix = sparse.eye_array(math.prod(shape), format="csr")
        else:
            matrix, out = _convolution(where, node, shape, kind == "Conv1d")
        bias = np.zeros(matrix.shape[0])
        if hasattr(node, "bias") and node.bias is not None:
            given = maps.numbers(where, "bias", node.bias)
            if given.size not in (1, out[0], math.prod(out)):
                raise ValueError(f"{where}: expected a bias of shape {out}, got {given.shape}")
            each = given.ravel()
            bias = np.repeat(each, len(bias) // len(each))
        return matrix, out, bias


def _convolution(where: str, node: Any, shape: maps.Shape, flat: bool) -> Any:
    """Conv1d is a Conv2d of height 1."""
    weight = maps.numbers(where, "weight", node.weight)
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    axes = 2 if flat else 3
    shape = maps.unbatched(shape, axes)
    if len(shape) != axes or weight.ndim != axes + 1:
        raise ValueError(
            f"{where}: expected an input of {axes} axes and weights of {axes + 1}, got {shape} and "
            f"{weight.shape}"
        )
    groups = int(np.asarray(node.groups).ravel()[0])
    stride, dilation = maps.pair(node.stride), maps.pair(node.dilation)
    if not isinstance(padding, str):
        padding = maps.pair(padding)
    if not flat:
        return maps.convolution(where, weight, shape, stride, padding, dilation, groups)
    stride, dilation = (1, stride[0]), (1, dilation[0])
    if padding == "same" and stride != (1, 1):
        raise ValueError(f'{where}: expected stride 1 with padding "same", got {stride[1]}')
    if not isinstance(padding, str):
        padding = (0, padding[0])
    tall = (shape[0], 1, shape[1])
    matrix, out = maps.convolution(
        where, weight[:, :, None, :], tall, stride, padding, dilation, groups
    )
    return matrix, (out[0], out[2])


def _delayed(where: str, node: Any, signal: Signal) -> Signal:
    delay = maps.numbers(where, "delay", node.delay)
    if (delay < 0.0).any():
        raise ValueError(f"{where}: expected delays >= 0 s, got {delay.min():g}")
    each = maps.broadcast(where, "delay", delay, signal.shape).ravel()
    parts = {}
    for source, (matrix, ids, delays) in signal.parts.items():
        entries = matrix.tocoo()
        row, column = entries.coords
        width = len(row)  # one column for each entry, merged again below
        spread = sparse.csr_array((entries.data, (row, np.arange(width))), (len(each), width))
        parts[source] = _merged(spread, ids[column], delays[column] + each[row])
    return Signal(signal.shape, parts, signal.bias)


def _merged(matrix: maps.Matrix, ids: Any, delays: Any) -> tuple[maps.Matrix, Any, Any]:
    """Columns of the same source neuron and delay added up."""
    order = np.lexsort((delays, ids))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(ids[order]) != 0) | (np.diff(delays[order]) != 0.0)
    column = np.empty(len(order), np.int64)
    column[order] = np.cumsum(new) - 1
    entries = matrix.tocoo()
    row, old = entries.coords
    shape = (matrix.shape[0], int(new.sum()))
    joined = sparse.csr_array((entries.data, (row, column[old])), shape)
    joined.eliminate_zeros()
    first = order[new]
    return joined, ids[first], delays[first]
