"""A run as a Chrome or Perfetto trace: every bank's windows in lanes, and spikes as a graph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neurosim.chip.placement import Placement
from neurosim.events.recorder import Run
from neurosim.io import Counter, Slice
from neurosim.network import Network
from neurosim.viewing.events import window_start


def run_slices(
    run: Run, placement: Placement, network: Network, words: list[str] | None = None
) -> Iterator[Slice | Counter]:
    """Tokens, and each bank's window of each token with its spikes; see `events` for the time.

    `words`: the tokens as text, to name their slices.
    """
    length = run.windows_per_token * run.window_s
    for token in range(len(run.tokens)):
        word = words[token] if words else ""
        name = f"{token}: {word!r}" if word else f"{token}: token {run.tokens[token]}"
        start = token * length
        details = {"id": run.tokens[token], "phase": run.phase_of[token]}
        yield Slice(name, start, length, "tokens", "text", details)
        spikes = np.zeros(run.windows_per_token + 1, np.int64)
        for bank, rows in run.spikes.items():
            counts = np.abs(rows[token].astype(np.int64))
            total = int(counts.sum())
            begin = window_start(run, placement, bank, token)
            spikes[placement.stages.bank[bank] - 1] += total
            active = {"spikes": total, "active_channels": int(np.count_nonzero(counts))}
            yield Slice(f"{total} spikes", begin, run.window_s, network.layer[bank], bank, active)
        for window, total in enumerate(spikes[:-1].tolist()):
            begin = start + window * run.window_s
            yield Counter("spikes per window", begin, {"spikes": float(total)}, "tokens")
