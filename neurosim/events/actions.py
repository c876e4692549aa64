"""What each kind of node does in a window, and what is counted while it does it.

Only events are worked on: rows of the crossbars that got a spike, attention rows of keys and
queries that fired, neurons by their closed form. Every count is made where the event is handled.
Structure that costs the same in every token is counted once, when the action is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from neurosim.energy.counts import hash_operations
from neurosim.events.reading import crossbar_action, delay_crossbar_action
from neurosim.events.workspace import Values, Workspace
from neurosim.kernels.spike_attention import spike_attention_step
from neurosim.network import (
    Accumulator,
    AttentionUnit,
    Crossbar,
    DelayCrossbar,
    DigitalUnit,
    Embedding,
    NeuronBank,
    Readout,
    ngram_row,
)

Action = Callable[[], None]


def build_actions(work: Workspace) -> list[Action]:
    """One action per node, in execution order."""
    return [_action(work, node.name) for node in work.network]


def _action(work: Workspace, name: str) -> Action:
    node, sources = work.network[name], work.network.sources(name)
    if isinstance(node, Crossbar):
        return crossbar_action(work, node, sources[0], _deliver(work, name))
    if isinstance(node, DelayCrossbar):
        return delay_crossbar_action(work, node, sources[0], _deliver(work, name))
    if isinstance(node, Embedding):
        return _embedding(work, node)
    if isinstance(node, Accumulator):
        return _accumulator(work, node, sources)
    if isinstance(node, NeuronBank):
        return _bank(work, node, sources[0])
    if isinstance(node, AttentionUnit):
        return _attention(work, node, sources)
    if isinstance(node, DigitalUnit):
        return _unit(work, node, sources)
    return _readout(work, node, sources[0])


def _send_words(work: Workspace, source: str, target: str) -> None:
    """Count the words of an edge for every token."""
    within, between, dropped = work.mesh.word_hops(source, target)
    amounts = {"value_hops": within, "value_chip_hops": between, "dropped": dropped}
    work.count_each_token(source, **{name: amount for name, amount in amounts.items() if amount})


def _embedding(work: Workspace, node: Embedding) -> Action:
    table, order = node.table, node.order
    first, channels = node.first_channel, node.table.shape[1]
    work.count_each_token(node.name, embedding_reads=channels, **hash_operations(order))
    for target in work.network.targets(node.name):
        _send_words(work, node.name, target)

    def act() -> None:
        recent = work.tokens[max(work.text_start, len(work.tokens) - order) :]
        gram = [0] * (order - len(recent)) + recent
        value = np.zeros(node.size, np.int64)
        row = gram[0] if order == 1 else ngram_row(gram, len(table))
        value[first : first + channels] = table[row]
        work.value[node.name] = value

    return act


def _accumulator(work: Workspace, node: Accumulator, sources: Sequence[str]) -> Action:
    before = [name for name in sources if work.order[name] < work.order[node.name]]
    before.sort(key=work.order.__getitem__)
    words = [_words(work, name, node.name) for name in before]
    work.count_each_token(
        node.name,
        accumulator_writes=sum(words),
        accumulator_reads=sum(words[1:]),  # the first write adds to nothing
        additions=sum(words[1:]),
    )
    for name in before:
        if not isinstance(work.network[name], Embedding):  # which counts its own
            _send_words(work, name, node.name)
    masks = [work.mesh.words_reached(name, node.name) for name in before]

    def act() -> None:
        total = np.zeros(node.width, np.int64)
        for name, mask in zip(before, masks, strict=True):
            value = work.value[name]
            total += value if mask is None else value * mask  # type: ignore[arg-type]
        work.value[node.name] = total

    return act


def _words(work: Workspace, name: str, target: str) -> int:
    """Words of an edge that arrive: a table narrower than its sum fills only its own channels."""
    node, reached = work.network[name], work.mesh.words_reached(name, target)
    words = int(node.table.shape[1]) if isinstance(node, Embedding) else node.size
    return words if reached is None else words - int(np.count_nonzero(~reached))


def _deliver(work: Workspace, name: str) -> Callable[[Values], None]:
    """Pass a crossbar's column sums on: onto accumulators, or to whoever reads `name`."""
    later = [
        target
        for target in work.network.targets(name)
        if isinstance(work.network[target], Accumulator) and work.order[target] < work.order[name]
    ]
    for target in later:
        _send_words(work, name, target)
        width = _words(work, name, target)
        work.count_each_token(
            target, accumulator_reads=width, accumulator_writes=width, additions=width
        )
    masks = [work.mesh.words_reached(name, target) for target in later]

    def deliver(sums: Values) -> None:
        work.value[name] = sums
        for target, mask in zip(later, masks, strict=True):
            work.value[target] += sums if mask is None else sums * mask  # type: ignore

    return deliver


def _bank(work: Workspace, node: NeuronBank, source: str) -> Action:
    bank, mesh = work.banks[node.name], work.mesh
    hops, chip_hops = mesh.packet_hops(node.name)
    drops = mesh.packet_drops(node.name)
    feeds = work.network[source]
    digital = not isinstance(feeds, Crossbar | DelayCrossbar)
    counted = work.chip.routing.packets == "count"  # one packet carries n spikes
    tally, recorded = work.tally[node.name], work.spikes[node.name]
    work.count_each_token(
        node.name, neuron_windows=node.neurons, conversions=node.size if digital else 0
    )
    closing = mesh.end_packets(node.name)
    if closing is not None:
        names = ("end_packets", "end_hops", "end_chip_hops")
        work.count_each_token(node.name, **dict(zip(names, closing, strict=True)))
    mask = None
    if isinstance(feeds, Accumulator):
        mask = mesh.words_reached(source, node.name)
        work.count_each_token(source, accumulator_reads=node.size)
        _send_words(work, source, node.name)
    timed = mesh.needs_times or work.record_times
    times = np.zeros((node.size, node.levels)) if timed else None
    recorded_times = work.times[node.name]

    def act() -> None:
        charge = work.value[source]
        if mask is not None:
            charge = charge * mask
        spikes = bank.fire(charge, len(work.tokens), times=times)
        recorded.append(spikes)
        if work.record_times and times is not None:
            recorded_times.append(times.copy())
        packet_hops = tally.count(spikes, hops, counted)
        work.ledger.count(
            node.name,
            neuron_spikes=tally.total,
            packets=tally.active if counted else tally.total,
            hops=packet_hops,
        )
        if chip_hops is not None:
            work.ledger.count(node.name, chip_hops=tally.over(spikes, chip_hops, counted))
        if drops is not None:
            work.ledger.count(node.name, dropped=tally.over(spikes, drops, counted))
        mesh.send(node.name, spikes, times, tally.total)

    return act


def _attention(work: Workspace, node: AttentionUnit, sources: Sequence[str]) -> Action:
    shape = (node.heads, node.head_size)
    decaying = int(np.count_nonzero(node.decay_shift)) * node.head_size**2
    size = node.head_size
    queries, keys = work.tally[sources[0]], work.tally[sources[1]]
    lossy = any(work.mesh.loses(name, node.name) for name in sources)

    def seen(name: str) -> npt.NDArray[np.int8]:
        spikes = work.spikes[name][-1]
        received = work.mesh.received(name, node.name, spikes)
        return spikes if received is None else received[0]

    def act() -> None:
        q, k, v = (seen(name) if lossy else work.spikes[name][-1] for name in sources)
        out = spike_attention_step(
            work.states[node.name],
            q.reshape(shape),
            k.reshape(shape),
            v.reshape(shape),
            node.decay_shift,
            node.fraction_bits,
        )
        work.value[node.name] = out.reshape(-1)
        if lossy:
            active = [int(np.count_nonzero(part)) for part in (q, k)]
            total = sum(int(np.abs(part.astype(np.int64)).sum()) for part in (q, k))
        else:
            active, total = [queries.active, keys.active], queries.total + keys.total
        reads, writes = (count * size for count in active)
        additions = total * size
        work.ledger.count(
            node.name,
            state_reads=decaying + writes + reads,
            state_writes=decaying + writes,
            additions=decaying + additions,
            shifts=decaying,
        )

    return act


def _unit(work: Workspace, node: DigitalUnit, sources: Sequence[str]) -> Action:
    for name in sources:
        if not isinstance(work.network[name], Embedding):  # which counts its own
            _send_words(work, name, node.name)
    fire = _unit_spikes(work, node) if node.size else None

    def act() -> None:
        inputs = [work.value[name] for name in sources]
        spikes, values = work.units[node.name](work.tokens[-1], inputs)
        if spikes.shape != (node.width,) or values.shape != (node.values,):
            raise ValueError(
                f"{node.name}: expected spikes ({node.width},) and values ({node.values},), got "
                f"{spikes.shape} and {values.shape}"
            )
        work.value[node.name] = values
        work.ledger.count(node.name, **node.operations(work.used_taps))
        if fire is not None:
            fire(spikes)

    return act


def _unit_spikes(work: Workspace, node: DigitalUnit) -> Callable[[npt.NDArray[np.int8]], None]:
    """Record a unit's spikes and count the pulses that carry them."""
    hops, chip_hops = work.mesh.packet_hops(node.name)
    counted = work.chip.routing.packets == "count"
    tally, recorded = work.tally[node.name], work.spikes[node.name]

    def fire(spikes: npt.NDArray[np.int8]) -> None:
        recorded.append(spikes)
        events = node.events(spikes)
        packet_hops = tally.count(events, hops, counted)
        work.ledger.count(
            node.name,
            neuron_spikes=tally.total,
            packets=tally.active if counted else tally.total,
            hops=packet_hops,
        )
        if chip_hops is not None:
            work.ledger.count(node.name, chip_hops=tally.over(events, chip_hops, counted))

    return fire


def _readout(work: Workspace, node: Readout, source: str) -> Action:
    def act() -> None:
        work.logits.append(np.asarray(work.value[source], np.float64))

    return act
