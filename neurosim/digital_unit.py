"""A node of `neurosim.network`: arithmetic that stays beside the crossbars."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

UnitStep = Callable[
    [int, Sequence[npt.NDArray[Any]]], tuple[npt.NDArray[np.int8], npt.NDArray[Any]]
]
DRIVES = ("pulse_width", "bit_plane")


@dataclass(frozen=True, eq=False)
class DigitalUnit:
    """Arithmetic that cannot be folded, in a digital block beside the crossbars.

    Its signed spikes, -levels..levels, drive crossbars: |n| pulses a row and one conversion a
    column (`drive` "pulse_width"), or one pulse per bit of |n| in as many reads, each converted
    ("bit_plane"; who reads the columns shifts and adds them). Its `values` go to later units or
    to the read-out.

    Attributes:
        inputs: sizes of what it reads, in edge order.
        width: spike channels; 0 if it drives no crossbar.
        values: words it passes on, 32 bits each; 0 for none.
        start: called where a text starts; gives the step: (token, inputs) -> (spikes (width,),
            values (values,)).
        operations: tokens of the text so far, the current one included -> counts of this token, by
            the names of `neurosim.energy.COUNTS`.
        memory_bytes: of tables and caches, which take tiles.
        levels: the most spikes of a channel in one window.
    """

    name: str
    inputs: tuple[int, ...]
    width: int
    values: int
    start: Callable[[], UnitStep]
    operations: Callable[[int], Mapping[str, int]]
    memory_bytes: int = 0
    levels: int = 127
    drive: str = "pulse_width"

    def __post_init__(self) -> None:
        if self.drive not in DRIVES:
            raise ValueError(
                f"{self.name}: expected drive {' or '.join(DRIVES)}, got {self.drive!r}"
            )
        if not 1 <= self.levels <= 127:
            raise ValueError(f"{self.name}: expected 1 to 127 levels, got {self.levels}")
        for name in ("width", "values", "memory_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{self.name}: expected {name} >= 0, got {getattr(self, name)}")

    @property
    def size(self) -> int:
        return self.width

    @property
    def signed(self) -> bool:
        return True

    @property
    def reads(self) -> int:
        """Reads of a crossbar in one window, each converted."""
        return self.levels.bit_length() if self.drive == "bit_plane" else 1

    def events(self, spikes: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """Pulses that each channel drives its row with."""
        sizes = np.abs(spikes)
        if self.drive == "bit_plane":
            return np.bitwise_count(sizes).astype(np.int8)
        return sizes
