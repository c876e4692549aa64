"""Every spike of a run on the chip as rows of the event table.

Time: windows laid end to end, `depth` of them a token, a bank in the window of its stage; within
the window the crossing of the threshold. A prompt's pipelining and the time of packets are not in
it. Energy: an equal share of what the simulator integrated for the spike's bank and phase, so that
the rows of a bank add up to its neurons' energy. What a bank burns in a phase without any spike
(leak, precharge) has no row: `energy_without_spikes`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neurosim.chip.placement import Placement
from neurosim.events.recorder import Run
from neurosim.io import EventBatch

METADATA = {
    "time": "windows laid end to end, without pipelining and packet times",
    "energy": "an equal share of its bank's integrated neuron energy in its phase",
}


def window_start(run: Run, placement: Placement, bank: str, token: int) -> float:
    """When a bank's window of a token starts, s."""
    windows = token * run.windows_per_token + placement.stages.bank[bank] - 1
    return windows * run.window_s


def energy_without_spikes(run: Run) -> float:
    """What banks burnt in phases in which none of their neurons fired, J: it has no event."""
    silent = (
        sum(phase.joules.get(bank, {}).values())
        for phase in run.phases.values()
        for bank in run.spikes
        if not phase.of(bank, "neuron_spikes")
    )
    return sum(silent, 0.0)


def _shares(run: Run) -> dict[tuple[str, str], float]:
    """(phase, bank) -> J of each of its spikes; without those that have none."""
    found = {}
    for name, phase in run.phases.items():
        for bank in run.spikes:
            spikes = phase.of(bank, "neuron_spikes")
            if spikes:
                found[name, bank] = sum(phase.joules.get(bank, {}).values()) / spikes
    return found


def run_events(run: Run, placement: Placement) -> Iterator[EventBatch]:
    """One batch a token, in the order of time; spikes of OFF neurons have the kind "spike off".

    `neuron` is the channel. ValueError if the run did not keep its spike times.
    """
    if not run.spike_times:
        raise ValueError("this run did not keep its spike times; simulate with record_times = True")
    shares = _shares(run)
    for token, phase in enumerate(run.phase_of):
        batches = [_bank_events(run, placement, bank, token, shares, phase) for bank in run.spikes]
        fired = [batch for batch in batches if len(batch.time)]
        if fired:
            yield _in_order(fired)


def _bank_events(
    run: Run,
    placement: Placement,
    bank: str,
    token: int,
    shares: dict[tuple[str, str], float],
    phase: str,
) -> EventBatch:
    """The spikes of one bank and token."""
    times, counts = run.spike_times[bank][token], run.spikes[bank][token].astype(np.int64)
    inside = np.arange(times.shape[1]) < np.abs(counts)[:, None]  # (N, levels)
    channel = np.nonzero(inside)[0]
    return EventBatch(
        window_start(run, placement, bank, token) + times[inside],
        channel.astype(np.int64),
        bank,
        np.where(counts[channel] > 0, "spike", "spike off"),
        np.full(channel.size, shares.get((phase, bank), 0.0)),
    )


def _in_order(batches: list[EventBatch]) -> EventBatch:
    """Several batches as one, by time; simultaneous events by bank, then by channel."""
    time = np.concatenate([batch.time for batch in batches])
    order = np.argsort(time, kind="stable")
    layer = np.repeat([str(batch.layer) for batch in batches], [len(b.time) for b in batches])
    return EventBatch(
        time[order],
        np.concatenate([batch.neuron for batch in batches])[order],
        layer[order],
        np.concatenate([np.asarray(batch.kind) for batch in batches])[order],
        np.concatenate([np.asarray(batch.energy) for batch in batches])[order],
    )
