"""The log of spikes: what was recorded, and what is still on its way to its targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Steps = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]


class SpikeLog:
    """A log per part of the neurons, which the kernels write; full ones are put away.

    `neurons`, `steps` (parts, room): entries; `starts` (parts, ring, populations + 1): where those
    of a step lie, for the last `ring` steps; `lengths` (parts,).
    """

    def __init__(self, parts: int, ring: int, populations: int, room: int) -> None:
        self.neurons = np.empty((parts, room), np.int32)
        self.steps = np.empty((parts, room), np.int32)
        self.starts = np.zeros((parts, ring, populations + 1), np.int64)
        self.lengths = np.zeros(parts, np.int64)
        self._stored = np.zeros(parts, np.int64)  # entries up to here are put away already
        self._away: list[tuple[Steps, Steps]] = []

    def make_room(self, step: int, wanted: int) -> bool:
        """Put entries away and keep those of the last `ring` steps, so that `wanted` more fit.

        Returns whether the logs are new arrays.
        """
        room = self.neurons.shape[1]
        if int(self.lengths.max()) + wanted <= room:
            return False
        self._store()
        oldest = step - self.starts.shape[1] + 1
        keep = [
            int(np.searchsorted(self.steps[part, : self.lengths[part]], oldest))
            for part in range(len(self.lengths))
        ]
        longest = max(int(length) - k for length, k in zip(self.lengths, keep, strict=True))
        larger = max(room, 2 * (longest + wanted)) if longest + wanted > room else room
        neurons, steps = (np.empty((len(keep), larger), np.int32) for _ in range(2))
        for part, k in enumerate(keep):
            length = int(self.lengths[part])
            neurons[part, : length - k] = self.neurons[part, k:length]
            steps[part, : length - k] = self.steps[part, k:length]
            np.maximum(self.starts[part] - k, 0, out=self.starts[part])
            self.lengths[part] -= k
            self._stored[part] -= k
        self.neurons, self.steps = neurons, steps
        return True

    def _store(self) -> None:
        for part, length in enumerate(self.lengths):
            if length > self._stored[part] or not self._away:
                new = slice(int(self._stored[part]), int(length))
                self._away.append((self.steps[part, new].copy(), self.neurons[part, new].copy()))
                self._stored[part] = length

    def all(self) -> tuple[Steps, Steps]:
        """Steps and neurons of all spikes, sorted by step, then neuron."""
        self._store()
        if len(self._away) > 1:
            steps = np.concatenate([item[0] for item in self._away])
            neurons = np.concatenate([item[1] for item in self._away])
            if len(self.lengths) > 1:
                order = np.lexsort((neurons, steps))
                steps, neurons = steps[order], neurons[order]
            self._away = [(steps, neurons)]
        return self._away[0]

    def fill(
        self, steps: Steps, neurons: Steps, step: int, firsts: Integers, owners: npt.NDArray[Any]
    ) -> None:
        """Set all spikes, sorted; those after `step` - ring are made ready for delivery.

        `firsts` (populations + 1,): the numbers of the first neurons; `owners` (K,): the part that
        each spike's neuron belongs to.
        """
        ring = self.starts.shape[1]
        recent = int(np.searchsorted(steps, step - ring + 1))
        parts = len(self.lengths)
        self._away = [(steps, neurons)]
        self.starts[:] = 0
        for part in range(parts):
            chosen = np.flatnonzero(owners[recent:] == part) + recent
            if len(chosen) > self.neurons.shape[1]:
                more = np.empty((parts, 2 * len(chosen)), np.int32)
                self.neurons, self.steps = more, more.copy()
        for part in range(parts):
            chosen = np.flatnonzero(owners[recent:] == part) + recent
            self.neurons[part, : len(chosen)] = neurons[chosen]
            self.steps[part, : len(chosen)] = steps[chosen]
            self.lengths[part] = self._stored[part] = len(chosen)
            for n in range(max(step - ring + 1, 0), step + 1):
                begin, end = np.searchsorted(steps[chosen], (n, n + 1))
                self.starts[part, n % ring] = begin + np.searchsorted(
                    neurons[chosen][begin:end], firsts
                )
