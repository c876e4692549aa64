"""What the run loop counts, exactly: names, one phase's counts, and multiplies from the structure.

A count is a Python integer, an energy a float in joule. Neither is sampled or extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from neurosim.network import (
    Accumulator,
    AttentionUnit,
    Crossbar,
    DelayCrossbar,
    DigitalUnit,
    Embedding,
    Network,
    NeuronBank,
    Node,
    Readout,
)

COUNTS: dict[str, str] = {
    "synaptic_operations": "spikes times fan-out, sum |n| x O; zero weights included",
    "effective_operations": "spikes times fan-out over non-zero weights only",
    "row_pulses": "word-line pulses: sum |n| x the column tiles a row crosses",
    "weight_fetches": "distinct (token, row) pairs times fan-out: what a digital chip would fetch",
    "conversions": "ADC (crossbar column) or DAC (value to charge, per channel)",
    "neuron_spikes": "spikes emitted, sum |n|",
    "neuron_windows": "physical neurons times tokens, silent ones included",
    "packets": "spike packets put on the mesh",
    "hops": "packet-hops on the mesh, within chips",
    "chip_hops": "packet-hops between chips",
    "end_packets": "packets that close a bank's window on a chip without a common clock",
    "end_hops": "hops of these packets within chips",
    "end_chip_hops": "hops of these packets between chips",
    "dropped": "(packet or word, target) pairs that dead links or tiles cut off",
    "accumulator_reads": "words read from an accumulator",
    "accumulator_writes": "words written to an accumulator",
    "additions": "integer additions, subtractions and bitwise operations outside the crossbars",
    "state_reads": "words of attention state read",
    "state_writes": "words of attention state written",
    "shifts": "bit shifts of a word (decay, hashing)",
    "embedding_reads": "words read from the embedding table",
    "value_hops": "word-hops on the mesh: sums on their way to an accumulator or a bank",
    "value_chip_hops": "word-hops between chips",
    "float_multiplies": "floating-point multiplications of digital units",
    "float_additions": "floating-point additions and subtractions of digital units",
    "float_compares": "floating-point comparisons of digital units",
    "special_functions": "exponentials, divisions, roots, sines and cosines of digital units",
    "memory_bits": "bits of tables and caches that digital units read and write",
}
_WORDS = ("value_hops", "value_chip_hops", "dropped")
EMITS: dict[type, frozenset[str]] = {
    Embedding: frozenset({"embedding_reads", "additions", "shifts", *_WORDS}),
    Crossbar: frozenset(
        {
            "synaptic_operations",
            "effective_operations",
            "row_pulses",
            "weight_fetches",
            "conversions",
            *_WORDS,
        }
    ),
    NeuronBank: frozenset(
        {
            "neuron_spikes",
            "neuron_windows",
            "conversions",
            "packets",
            "hops",
            "chip_hops",
            "end_packets",
            "end_hops",
            "end_chip_hops",
            "dropped",
        }
    ),
    Accumulator: frozenset({"accumulator_reads", "accumulator_writes", "additions", *_WORDS}),
    AttentionUnit: frozenset({"state_reads", "state_writes", "additions", "shifts", *_WORDS}),
    DigitalUnit: frozenset(
        {
            "neuron_spikes",
            "packets",
            "hops",
            "chip_hops",
            "additions",
            "shifts",
            "float_multiplies",
            "float_additions",
            "float_compares",
            "special_functions",
            "memory_bits",
            *_WORDS,
        }
    ),
    Readout: frozenset(),
}
EMITS[DelayCrossbar] = EMITS[Crossbar]


def hash_operations(order: int) -> dict[str, int]:
    """Additions (with exclusive-ors and the final mask) and shifts of one `ngram_rows` row.

    Per token of the n-gram 3 additions and 2 shifts, then 4 and 3; order 1 hashes nothing.
    """
    if order == 1:
        return {"additions": 0, "shifts": 0}
    return {"additions": 3 * order + 4, "shifts": 2 * order + 3}


@dataclass(frozen=True)
class PhaseCounts:
    """Counts and integrated energies of one phase ("prefill" or "decode").

    `counts`: node name -> count name -> int; `joules`: node name -> mechanism -> J, what the
    simulator integrated itself. Both are totals over the `tokens` of the phase. `seconds`: what
    the phase took, where the time of its packets was simulated; None: windows decide.
    """

    tokens: int
    counts: Mapping[str, Mapping[str, int]]
    joules: Mapping[str, Mapping[str, float]]
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"expected a phase of at least one token, got {self.tokens}")
        if self.seconds is not None and not 0.0 <= self.seconds < math.inf:
            raise ValueError(f"expected seconds >= 0 of a phase, got {self.seconds}")
        for node, counts in self.counts.items():
            for name, value in counts.items():
                if name not in COUNTS:
                    raise ValueError(f"{node}: unknown count {name!r}; known: {', '.join(COUNTS)}")
                if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                    raise ValueError(
                        f"{node}: expected {name} to be a Python int >= 0, got {value!r}; "
                        "counts are exact, convert with int()"
                    )
        for node, joules in self.joules.items():
            rounding = 1e-12 * sum(abs(energy) for energy in joules.values())
            for mechanism, energy in joules.items():
                if not math.isfinite(energy) or energy < -rounding:
                    raise ValueError(f"{node}: expected {mechanism} energy >= 0 J, got {energy!r}")

    def check(self, network: Network) -> None:
        """Refuse nodes that the network lacks and counts that their kind of node cannot emit."""
        kinds = {node.name: type(node) for node in network}
        for name in (*self.counts, *self.joules):
            if name not in kinds:
                raise ValueError(f"counts name a node {name!r} that the network does not have")
        for name, counts in self.counts.items():
            wrong = sorted(set(counts) - EMITS[kinds[name]])
            if wrong:
                raise ValueError(f"{name}: a {kinds[name].__name__} does not emit {wrong}")

    def of(self, node: str, count: str) -> int:
        """One count of one node, 0 where the node did not emit it."""
        return self.counts.get(node, {}).get(count, 0)

    def total(self, count: str) -> int:
        """One count over all nodes."""
        return sum(counts.get(count, 0) for counts in self.counts.values())

    def totals(self) -> dict[str, int]:
        """Every count over all nodes, zeros included."""
        return {name: self.total(name) for name in COUNTS}

    def per_token(self) -> dict[str, float]:
        """Every count divided by the tokens of the phase."""
        return {name: value / self.tokens for name, value in self.totals().items()}

    def by_layer(self, network: Network) -> dict[str, dict[str, int]]:
        """Report layer -> count name -> int, layers in network order, only what was counted."""
        layers: dict[str, dict[str, int]] = {}
        for node in network:
            into = layers.setdefault(network.layer[node.name], {})
            for name, value in self.counts.get(node.name, {}).items():
                into[name] = into.get(name, 0) + value
        return layers

    def joules_by_mechanism(self) -> dict[str, float]:
        """Integrated mechanism -> J over all nodes."""
        parts: dict[str, list[float]] = {}
        for joules in self.joules.values():
            for mechanism, energy in joules.items():
                parts.setdefault(mechanism, []).append(energy)
        return {mechanism: math.fsum(energies) for mechanism, energies in parts.items()}


def combined(phases: Iterable[PhaseCounts], times: int = 1) -> PhaseCounts:
    """Phases one after the other as one, the whole repeated `times` times.

    The time is known if that of every phase is.
    """
    counts: dict[str, dict[str, int]] = {}
    joules: dict[str, dict[str, list[float]]] = {}
    tokens, seconds = 0, []
    for phase in phases:
        tokens += phase.tokens
        seconds.append(phase.seconds)
        for node, amounts in phase.counts.items():
            into = counts.setdefault(node, {})
            for name, value in amounts.items():
                into[name] = into.get(name, 0) + value
        for node, energies in phase.joules.items():
            parts = joules.setdefault(node, {})
            for mechanism, energy in energies.items():
                parts.setdefault(mechanism, []).append(energy)
    return PhaseCounts(
        tokens * times,
        {node: {k: v * times for k, v in row.items()} for node, row in counts.items()},
        {node: {k: math.fsum(v) * times for k, v in row.items()} for node, row in joules.items()},
        None if None in seconds else math.fsum(s for s in seconds if s is not None) * times,
    )


def _not_a_shift(shifts: np.ndarray) -> int:
    """How many entries are not a shift by a whole, non-negative number of bits."""
    if np.issubdtype(shifts.dtype, np.integer):
        return int((shifts < 0).sum())
    return int(((shifts < 0) | (shifts != np.rint(shifts))).sum())


def multiplies_by_node(nodes: Iterable[Node], edges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Multiplications per token of each node, from its kind, its numbers and what feeds it.

    A crossbar fed by neurons adds a row per spike: 0. Fed by anything else it is a product of real
    numbers: fan-in x fan-out. Attention adds k rows of v and q rows of S only if k and q are
    spikes, and decays by shifting only if the shift is a whole number of bits. Thresholds,
    running sums, look-ups and the scale of the logits (used off the chip) multiply nothing; the
    per-channel gain of a bank is a charge conversion and is counted as `conversions`. What digital
    units multiply depends on the context: the run counts it as `float_multiplies`.
    """
    nodes = tuple(nodes)
    kinds = {node.name: node for node in nodes}
    sources: dict[str, list[str]] = {name: [] for name in kinds}
    for source, target in edges:
        sources[target].append(source)

    def spikes(name: str, index: int) -> bool:
        return isinstance(kinds[sources[name][index]], NeuronBank | DigitalUnit)

    result: dict[str, int] = {}
    for node in nodes:
        count = 0
        if isinstance(node, Crossbar | DelayCrossbar):
            count = 0 if spikes(node.name, 0) else int(node.weight.size)
        elif isinstance(node, AttentionUnit):
            head_state = node.head_size * node.head_size
            query, key = spikes(node.name, 0), spikes(node.name, 1)
            count = node.state_size * ((not query) + (not key))
            count += head_state * _not_a_shift(node.decay_shift)
            if node.fraction_bits != int(node.fraction_bits) or node.fraction_bits < 0:
                count += node.size  # v scaled by a factor that is not a power of two
        elif not isinstance(node, Embedding | NeuronBank | Accumulator | DigitalUnit | Readout):
            raise ValueError(f"cannot count the multiplications of a {type(node).__name__}")
        result[node.name] = count
    return result


def multiplies(network: Network) -> int:
    """Multiplications per token between embedding and logits, derived from the network."""
    return sum(multiplies_by_node(network.nodes, network.edges).values())
