"""The network the hardware understands: the one contract between models and chips.

A model's `lower()` returns a `Network`. Every number in it is an integer, so that what is left to
do is look up, add, compare and shift. Nodes are executed in the order they are stored, once per
token (one window); edges carry integer spike counts (from banks and attention inputs) or integer
sums.

Neuron bank, per channel, with charge a (an integer sum) and threshold 2h (h = `half_threshold`):
    unsigned: n = clip(floor((a + b + h) / 2h), 0, levels)
    signed:   n = sign(a + b) min(floor((|a + b| + h) / 2h), levels)
which is an integrate-and-fire neuron with reset by subtraction that starts half way. A signed
channel is an ON and an OFF neuron, of which at most one fires in a window.

The one exception to integers is a `DigitalUnit`: what a model could not fold (a norm, a softmax)
stands as a block of its own, whose operations are declared, counted and priced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.digital_unit import DigitalUnit as DigitalUnit

Integers = npt.NDArray[np.integer]
_WORD = 0xFFFFFFFF  # n-gram hashes are of 32 bits


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def ngram_rows(tokens: Integers, order: int, rows: int) -> npt.NDArray[np.int64]:
    """Row of the table that each token reads, from itself and the `order` - 1 tokens before; (...,
    L).

    Order 1: the token. Else Jenkins' one-at-a-time hash of the last `order` tokens (additions,
    shifts and exclusive-ors of 32 bits), oldest first, folded to `rows` (a power of two); tokens
    before the text count as 0.
    """
    tokens = np.asarray(tokens)
    if order == 1:
        return tokens.astype(np.int64)
    length = tokens.shape[-1]
    gram = []
    for back in range(order - 1, -1, -1):
        padded = np.zeros(tokens.shape, np.uint64)
        padded[..., back:] = tokens[..., : max(length - back, 0)]
        gram.append(padded)
    return np.asarray(ngram_row(gram, rows)).astype(np.int64)


def ngram_row(gram: Sequence[Any], rows: int) -> Any:
    """The row of one n-gram of two tokens or more, oldest first: integers, or uint64 arrays."""
    key = gram[0] * 0
    for token in gram:
        key = (key + token) & _WORD
        key = (key + (key << 10)) & _WORD
        key = key ^ (key >> 6)
    key = (key + (key << 3)) & _WORD
    key = key ^ (key >> 11)
    key = (key + (key << 15)) & _WORD
    return key & (rows - 1)


def _check_integers(name: str, what: str, values: Integers) -> None:
    _check(
        np.issubdtype(values.dtype, np.integer),
        f"{name}: expected {what} of integers, got {values.dtype}; quantise it first",
    )


def _check_weight(name: str, shape: str, weight: Integers, bits: int) -> None:
    """Two axes, integers, within `bits`."""
    _check(
        weight.ndim == 2 and np.issubdtype(weight.dtype, np.integer),
        f"{name}: expected integer weights {shape}, got {weight.dtype} {weight.shape}; "
        "quantise them first",
    )
    limit = 2 ** (bits - 1) - 1
    _check(
        weight.size == 0 or int(np.abs(weight.astype(np.int64)).max()) <= limit,
        f"{name}: weights exceed {bits} bits (|w| <= {limit})",
    )


@dataclass(frozen=True, eq=False)
class Embedding:
    """Table `table` (V, N) of integers, looked up and added to its targets; memory, no operation.

    `order` tokens choose the row (see `ngram_rows`); V is a power of two where order > 1. The row
    fills channels first_channel, ... of `width` (0: exactly the table's), zeros elsewhere.
    """

    name: str
    table: Integers
    order: int = 1
    first_channel: int = 0
    width: int = 0

    def __post_init__(self) -> None:
        _check(
            self.table.ndim == 2, f"{self.name}: expected a table (V, N), got {self.table.shape}"
        )
        _check_integers(self.name, "a table", self.table)
        rows = self.table.shape[0]
        _check(self.order >= 1, f"{self.name}: expected order >= 1, got {self.order}")
        _check(
            self.order == 1 or rows & (rows - 1) == 0,
            f"{self.name}: expected a power of two of hashed rows, got {rows}",
        )
        _check(
            0 <= self.first_channel <= self.size - self.table.shape[1],
            f"{self.name}: {self.table.shape[1]} channels from {self.first_channel} on do not fit "
            f"into {self.size}",
        )

    @property
    def size(self) -> int:
        return self.width or int(self.table.shape[1])


@dataclass(frozen=True, eq=False)
class Crossbar:
    """Spikes times integer weights: out[j] = sum_i n[i] weight[i, j]; `weight` (I, O) integers."""

    name: str
    weight: Integers
    weight_bits: int = 8

    def __post_init__(self) -> None:
        _check_weight(self.name, "(I, O)", self.weight, self.weight_bits)

    @property
    def size(self) -> int:
        return int(self.weight.shape[1])


@dataclass(frozen=True, eq=False)
class DelayCrossbar:
    """Short spike convolution: out[c] = sum_j n_{t-j}[c] weight[j, c]; `weight` (K, N) integers.

    Tap j reads the spikes of j tokens ago: a diagonal crossbar fed by delayed copies of each spike.
    """

    name: str
    weight: Integers
    weight_bits: int = 8

    def __post_init__(self) -> None:
        _check_weight(self.name, "(taps, N)", self.weight, self.weight_bits)

    @property
    def size(self) -> int:
        return int(self.weight.shape[1])


@dataclass(frozen=True, eq=False)
class NeuronBank:
    """Integer integrate-and-fire neurons; see the module docstring for the equation.

    `half_threshold` (N,) positive integers in weight units, `bias` (N,) integers in weight units,
    `levels` the most spikes in one window, `signed` for ON/OFF pairs.
    """

    name: str
    half_threshold: Integers
    bias: Integers
    levels: int
    signed: bool

    def __post_init__(self) -> None:
        _check(
            self.half_threshold.shape == self.bias.shape and self.bias.ndim == 1,
            f"{self.name}: expected thresholds and biases of one shape (N,), got "
            f"{self.half_threshold.shape} and {self.bias.shape}",
        )
        _check_integers(self.name, "thresholds", self.half_threshold)
        _check_integers(self.name, "biases", self.bias)
        _check(bool((self.half_threshold > 0).all()), f"{self.name}: thresholds must be positive")
        _check(self.levels >= 1, f"{self.name}: expected levels >= 1, got {self.levels}")

    @property
    def size(self) -> int:
        return int(self.bias.shape[0])

    @property
    def neurons(self) -> int:
        """Physical neurons: two per channel when signed."""
        return self.size * (2 if self.signed else 1)


@dataclass(frozen=True, eq=False)
class AttentionUnit:
    """Accumulate-only attention with a decaying state per head.

    Per token and head: S += 2^fraction_bits k v^T after S -= S >> decay_shift; out = q S.
    Inputs in this order: q, k, v, each integer spikes (heads * head_size,). `decay_shift` (heads,),
    0 means no decay. Output integers (heads * head_size,) in units of 2^-fraction_bits.
    """

    name: str
    heads: int
    head_size: int
    decay_shift: Integers
    fraction_bits: int

    def __post_init__(self) -> None:
        _check(
            self.decay_shift.shape == (self.heads,),
            f"{self.name}: expected one decay shift per head ({self.heads},), got "
            f"{self.decay_shift.shape}",
        )

    @property
    def size(self) -> int:
        return self.heads * self.head_size

    @property
    def state_size(self) -> int:
        return self.heads * self.head_size * self.head_size


@dataclass(frozen=True, eq=False)
class Accumulator:
    """Membrane shortcut: within a token, a running integer sum of everything written to it.

    It starts a token at zero. A bank that reads it sees what its earlier inputs have written.
    """

    name: str
    width: int
    bits: int = 32

    @property
    def size(self) -> int:
        return self.width


@dataclass(frozen=True, eq=False)
class Readout:
    """Logits: integers (V,); `scale` is the real value of one unit, used off the chip."""

    name: str
    width: int
    scale: float

    @property
    def size(self) -> int:
        return self.width


Node = (
    Embedding
    | Crossbar
    | DelayCrossbar
    | NeuronBank
    | AttentionUnit
    | Accumulator
    | DigitalUnit
    | Readout
)
_INPUTS: dict[type, tuple[int, int | None]] = {  # fewest and most inputs of each kind of node
    Embedding: (0, 0),
    Crossbar: (1, 1),
    DelayCrossbar: (1, 1),
    NeuronBank: (1, 1),
    AttentionUnit: (3, 3),
    Accumulator: (1, None),
    DigitalUnit: (1, None),
    Readout: (1, 1),
}
_SPIKES = (NeuronBank,)


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes in execution order and edges (source name, target name).

    An accumulator stands in the order at its first write; crossbars that come later in the order
    add to it when they run. All other nodes read only nodes before them.
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    layer: dict[str, str]
    """Node name -> the report's layer it belongs to (e.g. "embedding", "block 0", "head")."""

    def __post_init__(self) -> None:
        position = {node.name: i for i, node in enumerate(self.nodes)}
        _check(len(position) == len(self.nodes), "node names must be unique")
        for source, target in self.edges:
            for name in (source, target):
                _check(name in position, f"edge {source} -> {target}: no node called {name}")
        for node in self.nodes:
            _check(node.name in self.layer, f"{node.name}: no layer named for it")
            sources = self.sources(node.name)
            fewest, most = _INPUTS[type(node)]
            _check(
                len(sources) >= fewest and (most is None or len(sources) <= most),
                f"{node.name}: {type(node).__name__} takes {fewest} input(s), got {len(sources)}",
            )
            for source in sources:
                self._check_edge(self[source], node, position)
            first = min((position[source] for source in sources), default=-1)
            _check(
                first < position[node.name],
                f"{node.name}: stands before its first write, by {', '.join(sources)}",
            )

    def _check_edge(self, source: Node, target: Node, position: dict[str, int]) -> None:
        where = f"edge {source.name} -> {target.name}"
        late = isinstance(target, Accumulator) and isinstance(source, Crossbar | DelayCrossbar)
        if not late:
            _check(position[source.name] < position[target.name], f"{where}: runs backwards")
        if isinstance(source, DigitalUnit) or isinstance(target, DigitalUnit):
            self._check_unit_edge(source, target)
            return
        if isinstance(target, Crossbar | DelayCrossbar | AttentionUnit):
            _check(isinstance(source, _SPIKES), f"{where}: {target.name} reads spikes only")
        else:
            _check(
                not isinstance(source, _SPIKES), f"{where}: {target.name} reads sums, not spikes"
            )
        wanted = target.size
        if isinstance(target, Crossbar):
            wanted = int(target.weight.shape[0])
        _check(source.size == wanted, f"{where}: expected {wanted} channels, got {source.size}")

    def _check_unit_edge(self, source: Node, target: Node) -> None:
        """Units read sums and other units' values; their spikes drive crossbars."""
        where = f"edge {source.name} -> {target.name}"
        got = source.size
        if isinstance(source, DigitalUnit):
            _check(
                isinstance(target, Crossbar | DigitalUnit | Readout),
                f"{where}: a digital unit feeds crossbars, units and read-outs",
            )
            got = source.width if isinstance(target, Crossbar) else source.values
        _check(not isinstance(source, NeuronBank), f"{where}: {target.name} reads sums, not spikes")
        wanted = target.size
        if isinstance(target, Crossbar):
            wanted = int(target.weight.shape[0])
        elif isinstance(target, DigitalUnit):
            names = self.sources(target.name)
            _check(
                len(target.inputs) == len(names),
                f"{target.name}: expected {len(target.inputs)} inputs, got {len(names)}",
            )
            wanted = target.inputs[names.index(source.name)]
        _check(got == wanted, f"{where}: expected {wanted} channels, got {got}")

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"no node called {name}")

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def sources(self, name: str) -> tuple[str, ...]:
        """Names of the nodes that feed `name`, in edge order."""
        return tuple(source for source, target in self.edges if target == name)

    def targets(self, name: str) -> tuple[str, ...]:
        """Names of the nodes that `name` feeds, in edge order."""
        return tuple(target for source, target in self.edges if source == name)

    def of(self, kind: type) -> tuple[Node, ...]:
        """All nodes of one kind, in order."""
        return tuple(node for node in self.nodes if isinstance(node, kind))

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for node in self.nodes:
            counts[type(node).__name__] = counts.get(type(node).__name__, 0) + 1
        inside = ", ".join(f"{name} {count}" for name, count in counts.items())
        return f"Network({inside}; {len(self.edges)} edges)"
