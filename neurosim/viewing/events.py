"""Every spike of a run on the chip as rows of the event table.

Time: windows laid end to end, `depth` of them a token, a bank in the window of its stage; within
the window the crossing of the threshold. A prompt's pipelining and the time of packets are not in
it. Energy: an equal share of what the simulator integrated for the spike's bank and phase, so that
the rows of a bank add up to its neurons' energy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from neurosim.chip.placement import Placement
from neurosim.energy.counts import PhaseCounts
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


def _shares(phases: Mapping[str, PhaseCounts], bank: str) -> list[tuple[int, float]]:
    """(tokens, J per spike) of every phase, in order."""
    found = []
    for phase in phases.values():
        spikes = phase.of(bank, "neuron_spikes")
        energy = sum(phase.joules.get(bank, {}).values())
        found.append((phase.tokens, energy / spikes if spikes else 0.0))
    return found


def run_events(run: Run, placement: Placement) -> Iterator[EventBatch]:
    """One batch a bank and phase; signed spikes of OFF neurons have the kind "spike off".

    `neuron` is the channel. ValueError if the run did not keep its spike times.
    """
    if not run.spike_times:
        raise ValueError("this run did not keep its spike times; simulate with record_times = True")
    for bank, times in run.spike_times.items():
        first = 0
        for tokens, share in _shares(run.phases, bank):
            counts = run.spikes[bank][first : first + tokens].astype(np.int64)
            inside = np.arange(times.shape[2]) < np.abs(counts)[..., None]  # (T, N, levels)
            token, channel, _ = np.nonzero(inside)
            if token.size:
                start = np.array(
                    [window_start(run, placement, bank, first + t) for t in range(tokens)]
                )
                when = start[token] + times[first : first + tokens][inside]
                order = np.argsort(when, kind="stable")
                kind = np.where(counts[token, channel] > 0, "spike", "spike off")
                yield EventBatch(
                    when[order],
                    channel[order].astype(np.int64),
                    bank,
                    kind[order],
                    np.full(token.size, share),
                )
            first += tokens
