"""Dead tiles and dead links of the mesh: drawn from the run's seed, or listed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.chip.sections import Section, flag, listed, number
from neurosim.devices.counter_random import stream_key, uniform
from neurosim.kernels._jit import compiled
from neurosim.quantity import Quantity

DIRECTIONS = ("+x", "-x", "+y", "-y")
"""Order of the four links that leave a tile, in `Faults.dead_links`."""
_TILES, _LINKS = np.uint64(0xDEAD71_1E5), np.uint64(0xDEAD_11CC5)  # streams of the seed


def _tiles(where: str, entry: object) -> tuple[int, ...]:
    """A list of tile numbers."""
    good = isinstance(entry, list | tuple) and all(
        isinstance(tile, int) and not isinstance(tile, bool) and tile >= 0 for tile in entry
    )
    if not good:
        raise ValueError(f"{where}: expected a list of tile numbers >= 0, got {entry!r}")
    return tuple(entry)  # type: ignore[arg-type]


def _links(where: str, entry: object) -> tuple[tuple[int, str], ...]:
    """A list of [tile, direction]."""
    if not isinstance(entry, list | tuple):
        raise ValueError(f'{where}: expected a list of links such as [3, "+x"], got {entry!r}')
    links: list[tuple[int, str]] = []
    for link in entry:
        pair = isinstance(link, list | tuple) and len(link) == 2
        if not pair or link[1] not in DIRECTIONS:
            raise ValueError(
                f"{where}: expected links as [tile, direction out of {', '.join(DIRECTIONS)}], "
                f"got {link!r}"
            )
        links.append((_tiles(where, link[:1])[0], str(link[1])))
    return tuple(links)


@compiled
def _below(seed: np.uint64, stream: np.uint64, chance: float, dead: npt.NDArray[np.bool_]) -> None:
    """dead[i] |= draw i < chance: the first entries do not depend on how many there are."""
    key = stream_key(seed, stream)
    for i in range(dead.size):
        dead[i] |= uniform(key, np.uint64(i)) < chance


@dataclass(frozen=True)
class Faults(Section):
    """What of the mesh does not work. Tiles are numbered along the serpentine of the placement.

    dead_tile_fraction, dead_link_fraction: chance of each tile, and of each of its outgoing links
    (one per direction: the way back is another link). tiles, links: dead whatever the seed; a
    link is [tile, direction]. A dead tile's crossbars read 0, its neurons are silent, packets to it
    are drops; its router works. Routes are fixed: what a dead link cuts off is dropped. avoid:
    placement leaves dead tiles empty.
    """

    dead_tile_fraction: Quantity = number("1", 0.0, 1.0)
    dead_link_fraction: Quantity = number("1", 0.0, 1.0)
    tiles: tuple[int, ...] = listed(_tiles)
    links: tuple[tuple[int, str], ...] = listed(_links)
    avoid: bool = flag()

    @property
    def any(self) -> bool:
        """Whether anything can be dead."""
        drawn = self.dead_tile_fraction.value > 0.0 or self.dead_link_fraction.value > 0.0
        return drawn or bool(self.tiles) or bool(self.links)

    def dead_tiles(self, tiles: int, seed: int) -> npt.NDArray[np.bool_]:
        """Which of the first `tiles` tiles are dead, (tiles,)."""
        dead = np.zeros(tiles, dtype=np.bool_)
        if self.dead_tile_fraction.value > 0.0:
            _below(np.uint64(seed), _TILES, self.dead_tile_fraction.value, dead)
        dead[[tile for tile in self.tiles if tile < tiles]] = True
        return dead

    def dead_links(self, tiles: int, seed: int) -> npt.NDArray[np.bool_]:
        """Which links out of each tile are dead, (tiles, 4), in the order of `DIRECTIONS`."""
        dead = np.zeros((tiles, len(DIRECTIONS)), dtype=np.bool_)
        if self.dead_link_fraction.value > 0.0:
            _below(np.uint64(seed), _LINKS, self.dead_link_fraction.value, dead.reshape(-1))
        for tile, direction in self.links:
            if tile < tiles:
                dead[tile, DIRECTIONS.index(direction)] = True
        return dead


def dead_channels(
    channel_tile: npt.NDArray[np.int64], dead: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_] | None:
    """Channels that sit on dead tiles, (N,), None if none does."""
    on_dead: npt.NDArray[np.bool_] = dead[channel_tile]
    return on_dead if on_dead.any() else None
