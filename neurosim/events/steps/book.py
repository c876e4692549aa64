"""The book of a simulation: addresses and numbers that the compiled loop looks up."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.events.steps import _tables as T


class Book:
    """Entries (int64), and the arrays whose addresses are in them, held while they are."""

    def __init__(self) -> None:
        self.entries = np.zeros(T.BOOK_LENGTH, np.int64)
        self.address: int = self.entries.ctypes.data
        self._held: dict[int, npt.NDArray[Any]] = {}

    def place(self, entry: int, array: npt.NDArray[Any]) -> None:
        """Note where a C-contiguous array is."""
        if not array.flags.c_contiguous:
            raise ValueError("expected a C-contiguous array")
        if self._held.get(entry) is not array:
            self._held[entry] = array
            self.entries[entry] = array.ctypes.data
