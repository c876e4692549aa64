"""The links of a 2-D mesh of tiles, on one chip or on a grid of chips.

Tiles are numbered row by row: tile = y width + x. A tile has four outgoing links, link = 4 tile +
direction, with the directions `EAST` (x + 1), `WEST`, `SOUTH` (y + 1), `NORTH`. Chips of
chip_width x chip_height tiles stand side by side in one large mesh; a link whose ends lie on
different chips crosses, and has a rate and a latency of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.chip.multicast import Position

EAST, WEST, SOUTH, NORTH = range(4)
STEPS = ((1, 0), (-1, 0), (0, 1), (0, -1))  # (dx, dy) of each direction
DIRECTION_NAMES = ("east", "west", "south", "north")


@dataclass(frozen=True)
class LinkTiming:
    """A kind of link: bits per second it carries, and seconds from entering a router to the start
    of transmission (router pipeline and wire)."""

    rate: float
    latency: float

    def __post_init__(self) -> None:
        if not (0.0 < self.rate < np.inf and 0.0 <= self.latency < np.inf):
            raise ValueError(
                f"expected a link rate > 0 bit/s and a latency >= 0 s, got {self.rate:g} and "
                f"{self.latency:g}"
            )


@dataclass(frozen=True, eq=False)
class Grid:
    """Width x height tiles with their links; see the module docstring for the numbering.

    `seconds_per_bit`, `latency` (4 tiles,): of every directed link. `crossing` (4 tiles,): links
    between chips. `buffer_depth`: packets that the queue in front of a link holds, the one in
    transmission included; 0 is unlimited.
    """

    width: int
    height: int
    buffer_depth: int
    seconds_per_bit: npt.NDArray[np.float64]
    latency: npt.NDArray[np.float64]
    crossing: npt.NDArray[np.bool_]

    @classmethod
    def build(
        cls,
        width: int,
        height: int,
        link: LinkTiming,
        buffer_depth: int = 0,
        chip_size: tuple[int, int] | None = None,
        chip_link: LinkTiming | None = None,
    ) -> Grid:
        """A mesh of equal links; `chip_size` (width, height) of one of several chips, in tiles."""
        if width < 1 or height < 1 or buffer_depth < 0:
            raise ValueError(
                "expected a mesh of at least 1 x 1 tiles and a buffer depth >= 0, got "
                f"{width} x {height} and {buffer_depth}"
            )
        chip_width, chip_height = chip_size or (width, height)
        if width % chip_width or height % chip_height:
            raise ValueError(
                f"expected whole chips of {chip_width} x {chip_height} tiles, got a mesh of "
                f"{width} x {height}"
            )
        tile = np.arange(width * height)
        x, y = tile % width, tile // width
        crossing = np.empty((width * height, 4), np.bool_)
        for direction, (dx, dy) in enumerate(STEPS):
            same_column = (x + dx) // chip_width == x // chip_width
            crossing[:, direction] = ~(same_column & ((y + dy) // chip_height == y // chip_height))
        for direction, edge in enumerate((x == width - 1, x == 0, y == height - 1, y == 0)):
            crossing[edge, direction] = False  # no such link
        flat = crossing.reshape(-1)
        far = chip_link or link
        return cls(
            width,
            height,
            buffer_depth,
            np.where(flat, 1.0 / far.rate, 1.0 / link.rate),
            np.where(flat, far.latency, link.latency),
            flat,
        )

    @property
    def tiles(self) -> int:
        return self.width * self.height

    def tile(self, position: Position) -> int:
        """Number of the tile at (x, y)."""
        return position[1] * self.width + position[0]

    def name(self, link: int) -> str:
        """A link in words, for reports: "(2, 0) east"."""
        tile, direction = divmod(link, 4)
        y, x = divmod(tile, self.width)
        return f"({x}, {y}) {DIRECTION_NAMES[direction]}"

    def __repr__(self) -> str:
        chips = f", {int(self.crossing.sum())} links between chips" if self.crossing.any() else ""
        return f"Grid({self.width} x {self.height} tiles, buffers {self.buffer_depth}{chips})"
