"""The run loop: one token at a time through the network on the chip, window by window.

Windows are synchronous: a node acts on the spikes of the window before, so a token takes as many
windows as the longest chain of banks and one for the head. Only events are worked on: rows of the
crossbars that got a spike, attention rows of keys and queries that fired, neurons by their closed
form. Every count is made where the event is handled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from neurosim.chip.description import ChipDescription
from neurosim.chip.fill import fill_banks, program_crossbars
from neurosim.chip.placement import Placement, place
from neurosim.chip.trim import TrimReport, trim
from neurosim.energy.counts import hash_operations
from neurosim.events.recorder import Ledger, Run
from neurosim.events.tally import Tally
from neurosim.kernels.spike_attention import spike_attention_step
from neurosim.kernels.spike_linear import spike_linear
from neurosim.kernels.spike_taps import spike_taps
from neurosim.network import (
    Accumulator,
    AttentionUnit,
    Crossbar,
    DelayCrossbar,
    Embedding,
    Network,
    NeuronBank,
    Readout,
    ngram_row,
)

Values = npt.NDArray[np.generic]
Action = Callable[[], None]


class Simulator:
    """A network placed and programmed on a chip, with its state; `step` runs one token.

    Args:
        network: what to run.
        chip: on what; its non-idealities are drawn from `seed` once (devices) or per window.
        seed: one seed is one chip and one run.
    """

    def __init__(self, network: Network, chip: ChipDescription, seed: int = 0) -> None:
        self.network, self.chip, self.seed = network, chip, seed
        self.placement: Placement = place(network, chip)
        self.banks = fill_banks(network, chip, self.placement, seed)
        calibrates = chip.trim.windows.value > 0.0
        self.calibration: TrimReport | None = (
            trim(self.banks, chip.trim, chip.window.duration.value) if calibrates else None
        )
        self.crossbars = program_crossbars(network, chip, self.placement, seed)
        self._vocabulary = min(
            (
                len(node.table)
                for node in network
                if isinstance(node, Embedding) and node.order == 1
            ),
            default=2**31,
        )
        self._order = {node.name: index for index, node in enumerate(network)}
        self.tokens: list[int] = []
        self._each_token: dict[str, dict[str, int]] = {}
        self._ledgers = {"prefill": Ledger(self._each_token)}
        self._ledger = self._ledgers["prefill"]
        self._booked = {name: bank.energy().parts() for name, bank in self.banks.items()}
        self._value: dict[str, Values] = {}
        self._logits: list[npt.NDArray[np.float64]] = []
        self._spikes: dict[str, list[npt.NDArray[np.int8]]] = {name: [] for name in self.banks}
        self._tally = {name: Tally(np.zeros(bank.size)) for name, bank in self.banks.items()}
        self._states: dict[str, npt.NDArray[np.int32]] = {}
        self.forget()
        self._plan: list[Action] = [self._action(node.name) for node in network]

    def forget(self) -> None:
        """Start a new text: attention states and delayed spikes are cleared, counts go on."""
        self._text_start = len(self.tokens)
        for node in self.network:
            if isinstance(node, AttentionUnit):
                shape = (node.heads, node.head_size, node.head_size)
                self._states[node.name] = np.zeros(shape, np.int32)

    def begin(self, phase: str) -> None:
        """From here on count for `phase` ("prefill" or "decode")."""
        self._book_neurons()
        self._ledger = self._ledgers.setdefault(phase, Ledger(self._each_token))

    def _book_neurons(self) -> None:
        """Give the current phase what the banks burnt since the last call."""
        for name, bank in self.banks.items():
            now = bank.energy().parts()
            before = self._booked[name]
            spent = {part: max(now[part] - before[part], 0.0) for part in now}
            self._ledger.burn(name, {f"neuron_{part}": joule for part, joule in spent.items()})
            self._booked[name] = now

    @property
    def neurons(self) -> int:
        """Physical neurons."""
        return sum(bank.neurons for bank in self.banks.values())

    def step(self, token: int) -> npt.NDArray[np.float64]:
        """Run one token; returns its logits (V,), in integer weight units (times Readout.scale)."""
        if not 0 <= token < self._vocabulary:
            raise ValueError(f"expected a token below {self._vocabulary}, got {token}")
        self.tokens.append(int(token))
        self._ledger.tokens += 1
        for act in self._plan:
            act()
        return self._logits[-1]

    def run(self) -> Run:
        """What was simulated so far."""
        self._book_neurons()
        spikes = {
            name: np.array(rows, np.int8).reshape(-1, self.banks[name].size)
            for name, rows in self._spikes.items()
        }
        return Run(
            tuple(self.tokens),
            np.array(self._logits),
            spikes,
            {name: ledger.freeze() for name, ledger in self._ledgers.items() if ledger.tokens},
            self.neurons,
            self.chip.window.duration.value,
            self.placement.depth,
        )

    def _count_each_token(self, node: str, **amounts: int) -> None:
        """Count for every token from now on, whatever spikes."""
        totals = self._each_token.setdefault(node, {})
        for name, amount in amounts.items():
            totals[name] = totals.get(name, 0) + int(amount)

    def _action(self, name: str) -> Action:
        node = self.network[name]
        handlers: dict[type, Callable[..., Action]] = {
            Embedding: self._embedding,
            Accumulator: self._accumulator,
            Crossbar: self._crossbar,
            DelayCrossbar: self._delay_crossbar,
            NeuronBank: self._bank,
            AttentionUnit: self._attention,
            Readout: self._readout,
        }
        return handlers[type(node)](node, self.network.sources(name))

    def _embedding(self, node: Embedding, sources: Sequence[str]) -> Action:
        table = np.zeros((len(node.table), node.size), np.int64)
        channels = node.table.shape[1]
        table[:, node.first_channel : node.first_channel + channels] = node.table
        order, hashing = node.order, hash_operations(node.order)
        value_hops = sum(
            self._value_hops(node.name, target) for target in self.network.targets(node.name)
        )

        self._count_each_token(
            node.name, embedding_reads=channels, value_hops=value_hops, **hashing
        )

        def act() -> None:
            recent = self.tokens[max(self._text_start, len(self.tokens) - order) :]
            gram = [0] * (order - len(recent)) + recent
            self._value[node.name] = table[gram[0] if order == 1 else ngram_row(gram, len(table))]

        return act

    def _accumulator(self, node: Accumulator, sources: Sequence[str]) -> Action:
        before = [name for name in sources if self._order[name] < self._order[node.name]]
        before.sort(key=self._order.__getitem__)
        words = [self._words(name) for name in before]
        self._count_each_token(
            node.name,
            accumulator_writes=sum(words),
            accumulator_reads=sum(words[1:]),  # the first write adds to nothing
            additions=sum(words[1:]),
        )
        for name in before:
            if not isinstance(self.network[name], Embedding):  # which counts its own
                self._count_each_token(name, value_hops=self._value_hops(name, node.name))

        def act() -> None:
            total = np.zeros(node.width, np.int64)
            for name in before:
                total += self._value[name]  # type: ignore[arg-type]
            self._value[node.name] = total

        return act

    def _words(self, name: str) -> int:
        """Words that a node writes: a table narrower than its sum fills only its own channels."""
        node = self.network[name]
        return int(node.table.shape[1]) if isinstance(node, Embedding) else node.size

    def _value_hops(self, source: str, target: str) -> int:
        """Links that the digital values of `source` use on their way to `target`, per window."""
        hops = self.placement.value_hops.get((source, target))
        return 0 if hops is None else int(hops.sum())

    def _deliver(self, name: str) -> Callable[[Values], None]:
        """Pass a crossbar's column sums on: onto accumulators, or to whoever reads `name`."""
        later = [
            target
            for target in self.network.targets(name)
            if isinstance(self.network[target], Accumulator)
            and self._order[target] < self._order[name]
        ]

        value_hops = sum(self._value_hops(name, target) for target in later)
        if value_hops:
            self._count_each_token(name, value_hops=value_hops)
        width = self.network[name].size
        for target in later:
            self._count_each_token(
                target, accumulator_reads=width, accumulator_writes=width, additions=width
            )

        def deliver(sums: Values) -> None:
            self._value[name] = sums
            for target in later:
                self._value[target] += sums  # type: ignore[misc]

        return deliver

    def _reader(self, name: str) -> Callable[[Values, int | npt.NDArray[np.int64]], Values]:
        """Column sums as they leave a crossbar: with read noise, digitised where `_converted`."""
        programmed, converted = self.crossbars[name], self._converted(name)

        def read(sums: Values, pulses: int | npt.NDArray[np.int64]) -> Values:
            return programmed.read(sums, pulses, len(self.tokens), converted)

        return read

    def _converted(self, name: str) -> bool:
        """Whether a crossbar's columns are digitised: they feed an accumulator or the read-out."""
        return any(
            isinstance(self.network[target], Accumulator | Readout)
            for target in self.network.targets(name)
        )

    def _crossbar(self, node: Crossbar, sources: Sequence[str]) -> Action:
        programmed, deliver = self.crossbars[node.name], self._deliver(node.name)
        nonzero = np.count_nonzero(node.weight, axis=1).astype(np.float64)
        outputs = node.size
        _, column_tiles = self.placement.tiling[node.name]
        source, read = sources[0], self._reader(node.name)
        tally, recorded = self._tally[source], self._spikes[source]
        if self._converted(node.name):
            self._count_each_token(node.name, conversions=outputs)

        def act() -> None:
            total = tally.total
            sums = spike_linear(recorded[-1][None], programmed.weight)[0]
            self._ledger.count(
                node.name,
                synaptic_operations=total * outputs,
                effective_operations=int(tally.weighted(nonzero)),
                row_pulses=total * column_tiles,
                weight_fetches=tally.active * outputs,
            )
            self._ledger.burn(node.name, {"synapse": tally.weighted(programmed.row_energy)})
            deliver(read(sums, total))

        return act

    def _delay_crossbar(self, node: DelayCrossbar, sources: Sequence[str]) -> Action:
        programmed, deliver = self.crossbars[node.name], self._deliver(node.name)
        nonzero = (node.weight != 0).astype(np.float64)
        source, taps, read = sources[0], node.weight.shape[0], self._reader(node.name)
        recorded = self._spikes[source]
        if self._converted(node.name):
            self._count_each_token(node.name, conversions=node.size)

        def act() -> None:
            used = min(taps, len(self.tokens) - self._text_start)
            recent = np.array(recorded[-used:])  # oldest first
            sums = spike_taps(recent, programmed.weight[:used])[-1]
            events = np.abs(recent[::-1].astype(np.float64))  # newest first
            pulses = events.sum(axis=0)
            total = int(pulses.sum())
            self._ledger.count(
                node.name,
                synaptic_operations=total,
                effective_operations=int(np.vdot(events, nonzero[:used])),
                row_pulses=total,
                weight_fetches=int(np.count_nonzero(events)),
            )
            burnt = float((events * programmed.row_energy[:used]).sum())
            self._ledger.burn(node.name, {"synapse": burnt})
            deliver(read(sums, pulses))

        return act

    def _bank(self, node: NeuronBank, sources: Sequence[str]) -> Action:
        bank, source = self.banks[node.name], sources[0]
        hops = np.ascontiguousarray(self.placement.hops[node.name], np.int64)
        feeds = self.network[source]
        digital = not isinstance(feeds, Crossbar | DelayCrossbar)
        counted = self.chip.routing.packets == "count"  # one packet carries n spikes
        tally, recorded = self._tally[node.name], self._spikes[node.name]
        self._count_each_token(
            node.name, neuron_windows=node.neurons, conversions=node.size if digital else 0
        )
        if isinstance(feeds, Accumulator):
            self._count_each_token(source, accumulator_reads=node.size)
        if digital and self._value_hops(source, node.name):
            self._count_each_token(source, value_hops=self._value_hops(source, node.name))

        def act() -> None:
            spikes = bank.fire(self._value[source], len(self.tokens))
            recorded.append(spikes)
            packet_hops = tally.count(spikes, hops, counted)
            self._ledger.count(
                node.name,
                neuron_spikes=tally.total,
                packets=tally.active if counted else tally.total,
                hops=packet_hops,
            )

        return act

    def _attention(self, node: AttentionUnit, sources: Sequence[str]) -> Action:
        shape = (node.heads, node.head_size)
        decaying = int(np.count_nonzero(node.decay_shift)) * node.head_size**2
        size = node.head_size
        queries, keys = self._tally[sources[0]], self._tally[sources[1]]

        def act() -> None:
            q, k, v = (self._spikes[name][-1].reshape(shape) for name in sources)
            out = spike_attention_step(
                self._states[node.name], q, k, v, node.decay_shift, node.fraction_bits
            )
            self._value[node.name] = out.reshape(-1)
            writes, reads = keys.active * size, queries.active * size
            additions = (keys.total + queries.total) * size
            self._ledger.count(
                node.name,
                state_reads=decaying + writes + reads,
                state_writes=decaying + writes,
                additions=decaying + additions,
                shifts=decaying,
            )

        return act

    def _readout(self, node: Readout, sources: Sequence[str]) -> Action:
        def act() -> None:
            self._logits.append(np.asarray(self._value[sources[0]], np.float64))

        return act


def simulate(network: Network, chip: ChipDescription, tokens: Sequence[int], seed: int = 0) -> Run:
    """Run given tokens (all as prefill) through the network on the chip."""
    if len(tokens) == 0:
        raise ValueError("expected at least one token, got none")
    simulator = Simulator(network, chip, seed)
    for token in tokens:
        simulator.step(token)
    return simulator.run()
