"""Reading crossbars: column sums of the spikes that arrived, their counts and their energy.

Where packets are lost (dead links and tiles, late packets that are dropped) the tiles of a crossbar
see different spikes; then each column block is read, and paid for, with its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.chip.crossbar import ProgrammedCrossbar
from neurosim.events.workspace import Values, Workspace
from neurosim.kernels.spike_linear import spike_linear
from neurosim.kernels.spike_taps import spike_taps
from neurosim.network import Accumulator, Crossbar, DelayCrossbar, DigitalUnit, Readout

Action = Callable[[], None]
Deliver = Callable[[Values], None]


Read = Callable[[Values, int | npt.NDArray[np.int64]], Values]


def _reader(work: Workspace, name: str, reads: int = 1) -> Read:
    """Column sums as they leave a crossbar: with read noise, digitised where `_converted`.

    `reads`: how often it is called for a token; each has noise and conversions of its own.
    """
    programmed, converted = work.crossbars[name], _converted(work, name)
    if converted:
        work.count_each_token(name, conversions=reads * work.network[name].size)
    done = 0

    def read(sums: Values, pulses: int | npt.NDArray[np.int64]) -> Values:
        nonlocal done
        done = (done + 1) % reads
        return programmed.read(sums, pulses, reads * len(work.tokens) + done, converted)

    return read


def _converted(work: Workspace, name: str) -> bool:
    """Whether columns are digitised: they feed an accumulator, a unit or the read-out."""
    targets = work.network.targets(name)
    return any(isinstance(work.network[t], Accumulator | DigitalUnit | Readout) for t in targets)


def column_sums(spikes: npt.NDArray[np.int8], weight: npt.NDArray[Any]) -> Values:
    """n @ weight; integers of more than 8 bits, for which there is no spike kernel, in int64."""
    if weight.dtype == np.int32:
        return np.asarray(spikes.astype(np.int64) @ weight)
    return np.asarray(spike_linear(spikes[None], weight)[0])


def crossbar_action(work: Workspace, node: Crossbar, source: str, deliver: Deliver) -> Action:
    """Sums of the rows of the channels that fired."""
    programmed, driver = work.crossbars[node.name], work.network[source]
    reads = driver.reads if isinstance(driver, DigitalUnit) else 1
    read = _reader(work, node.name, reads)
    if work.mesh.loses(source, node.name):
        return _crossbar_by_blocks(work, node, source, deliver, read)
    planes = reads > 1 and (not programmed.exact or programmed.adc_codes > 0)
    nonzero = np.count_nonzero(node.weight, axis=1).astype(np.float64)
    outputs = node.size
    _, column_tiles = work.placement.tiling[node.name]
    tally, recorded = work.tally[source], work.spikes[source]

    def act() -> None:
        total = tally.total
        work.ledger.count(
            node.name,
            synaptic_operations=total * outputs,
            effective_operations=int(tally.weighted(nonzero)),
            row_pulses=total * column_tiles,
            weight_fetches=tally.active * outputs,
        )
        work.ledger.burn(node.name, {"synapse": tally.weighted(programmed.row_energy)})
        if planes:
            deliver(_plane_sums(recorded[-1], programmed, reads, read))
        else:
            deliver(read(column_sums(recorded[-1], programmed.weight), total))

    return act


def _plane_sums(
    spikes: npt.NDArray[np.int8], programmed: ProgrammedCrossbar, planes: int, read: Read
) -> Values:
    """The bits of |n| read one after the other, shifted and added."""
    sizes, signs = np.abs(spikes), np.sign(spikes)
    total = np.zeros(programmed.weight.shape[1], np.int64)
    for bit in range(planes):
        plane = ((sizes >> bit) & 1) * signs
        sums = column_sums(plane, programmed.weight)
        total += np.asarray(read(sums, int(np.count_nonzero(plane))), np.int64) << bit
    return total


def _crossbar_by_blocks(
    work: Workspace,
    node: Crossbar,
    source: str,
    deliver: Deliver,
    read: Read,
) -> Action:
    """The same, each column block with the spikes that reached it."""
    programmed, recorded = work.crossbars[node.name], work.spikes[source]
    _, column_tiles = work.placement.tiling[node.name]
    columns = int(work.chip.tile.columns.value)
    edges = [min(part * columns, node.size) for part in range(column_tiles + 1)]
    blocks = [
        np.ascontiguousarray(programmed.weight[:, a:b])
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    nonzero = [
        np.count_nonzero(node.weight[:, a:b], axis=1)
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    widths = np.diff(edges)

    def act() -> None:
        seen = work.mesh.received(source, node.name, recorded[-1])
        parts = [recorded[-1]] * column_tiles if seen is None else list(seen)
        sizes = [np.abs(part.astype(np.int64)) for part in parts]
        totals = np.array([size.sum() for size in sizes], np.int64)
        active = np.array([np.count_nonzero(size) for size in sizes], np.int64)
        sums = [
            column_sums(np.ascontiguousarray(part), block)
            for part, block in zip(parts, blocks, strict=True)
        ]
        work.ledger.count(
            node.name,
            synaptic_operations=int(totals @ widths),
            effective_operations=sum(int(a @ b) for a, b in zip(sizes, nonzero, strict=True)),
            row_pulses=int(totals.sum()),
            weight_fetches=int(active @ widths),
        )
        each = zip(sizes, programmed.block_energy, strict=True)
        burnt = sum(float(size @ energy) for size, energy in each)
        work.ledger.burn(node.name, {"synapse": burnt})
        deliver(read(np.concatenate(sums), np.repeat(totals, widths)))

    return act


def delay_crossbar_action(
    work: Workspace, node: DelayCrossbar, source: str, deliver: Deliver
) -> Action:
    """Each channel's last spikes times its taps; a tap holds the spikes that reached its tile."""
    programmed, read = work.crossbars[node.name], _reader(work, node.name)
    nonzero = (node.weight != 0).astype(np.float64)
    taps, recorded = node.weight.shape[0], work.spikes[source]
    lossy = work.mesh.loses(source, node.name)
    rows = int(work.chip.tile.rows.value)
    held: list[npt.NDArray[np.int8]] = []  # of every token, (row tiles, N), where packets are lost

    def act() -> None:
        used = min(taps, work.used_taps)
        if lossy:
            seen = work.mesh.received(source, node.name, recorded[-1])
            tiles = work.placement.tiling[node.name][0]
            held.append(np.broadcast_to(recorded[-1], (tiles, node.size)) if seen is None else seen)
            recent = np.array([held[-1 - tap][tap // rows] for tap in range(used)])[::-1]
            recent = np.ascontiguousarray(recent)
        else:
            recent = np.array(recorded[-used:])  # oldest first
        sums = spike_taps(recent, programmed.weight[:used])[-1]
        events = np.abs(recent[::-1].astype(np.float64))  # newest first
        pulses = events.sum(axis=0)
        total = int(pulses.sum())
        work.ledger.count(
            node.name,
            synaptic_operations=total,
            effective_operations=int(np.vdot(events, nonzero[:used])),
            row_pulses=total,
            weight_fetches=int(np.count_nonzero(events)),
        )
        burnt = float((events * programmed.row_energy[:used]).sum())
        work.ledger.burn(node.name, {"synapse": burnt})
        deliver(read(sums, pulses))

    return act
