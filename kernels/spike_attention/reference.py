"""Spike attention in plain numpy: the definition, one token and one head after the other."""

from __future__ import annotations

import numpy as np

from neurosim.kernels.spike_attention._types import Shifts, Spikes, State, Sums


def largest(array: Spikes | State) -> int:
    """Largest absolute value."""
    return int(np.abs(array.astype(np.int64)).max(initial=0))


def scan(
    q: Spikes, k: Spikes, v: Spikes, decay_shift: Shifts, fraction_bits: int, state: State
) -> Sums:
    """All tokens in order; updates `state`."""
    out = np.zeros(q.shape, np.int64)
    for token in range(q.shape[0]):
        step(state, q[token], k[token], v[token], decay_shift, fraction_bits, out[token])
    return out


def step(
    state: State,
    q: Spikes,
    k: Spikes,
    v: Spikes,
    decay_shift: Shifts,
    fraction_bits: int,
    out: Sums,
) -> None:
    """One token; updates `state` and fills `out`."""
    for head in range(q.shape[0]):
        memory = state[head]  # (D, D)
        if decay_shift[head] > 0:
            memory -= memory >> decay_shift[head]  # arithmetic: rounds towards minus infinity
        value = v[head].astype(np.int32) << fraction_bits
        for channel, count in enumerate(k[head].astype(np.int64)):
            for _ in range(abs(count)):
                memory[channel] += value if count > 0 else -value
        out[head] = 0
        for channel, count in enumerate(q[head].astype(np.int64)):
            for _ in range(abs(count)):
                out[head] += memory[channel] if count > 0 else -memory[channel].astype(np.int64)
