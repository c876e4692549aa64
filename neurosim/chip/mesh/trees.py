"""Multicast trees on the mesh as arrays, for the link model.

A route is one source tile and its target tiles; its tree is the union of the XY paths (row first,
then columns), so that a packet crosses a shared link once and is copied where the paths part.
Routing is fixed: nothing goes around a dead link. Branches behind one are cut, and the targets
behind the cut are `lost`. A dead tile sends and takes nothing; its router passes packets on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.chip.mesh.grid import EAST, NORTH, SOUTH, WEST, Grid

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Routes:
    """R routes. Nodes of all trees are numbered together; a tree's root comes first.

    `source`, `root` (R,): tile and node of the source. `child` (nodes, 4): node in each direction,
    -1 if none. `link` (nodes,): link that leads to the node, -1 at a root. `target` (nodes,): index
    of the target among the route's own, -1 where nothing is delivered. `targets`, `reached` (R,):
    targets asked for, and how many of them can be reached. `hops`, `chip_hops` (R,): links of the
    tree within chips and between them. Of every (route, target), route by route: `latency` s and
    `seconds_per_bit`, sums over the links of the path, NaN where the target is lost. `lost`: per
    route, indices of targets that are not reached.
    """

    source: Indices
    root: Indices
    child: npt.NDArray[np.int32]
    link: npt.NDArray[np.int32]
    target: npt.NDArray[np.int32]
    targets: Indices
    reached: Indices
    hops: Indices
    chip_hops: Indices
    latency: npt.NDArray[np.float64]
    seconds_per_bit: npt.NDArray[np.float64]
    lost: tuple[tuple[int, ...], ...]

    @classmethod
    def build(
        cls,
        grid: Grid,
        pairs: Sequence[tuple[int, Sequence[int]]],
        dead_links: Mask | None = None,
        dead_tiles: Mask | None = None,
    ) -> Routes:
        """Trees of (source tile, target tiles); targets of one route must differ.

        Args:
            grid: the mesh; tiles are numbered row by row.
            pairs: the routes, in order.
            dead_links: (tiles, 4), links that carry nothing.
            dead_tiles: (tiles,), tiles whose contents are gone.
        """
        links = np.zeros((grid.tiles, 4), np.bool_) if dead_links is None else dead_links
        tiles = np.zeros(grid.tiles, np.bool_) if dead_tiles is None else dead_tiles
        if links.shape != (grid.tiles, 4) or tiles.shape != (grid.tiles,):
            raise ValueError(
                f"expected dead links ({grid.tiles}, 4) and dead tiles ({grid.tiles},), got "
                f"{links.shape} and {tiles.shape}"
            )
        forest = _Forest(grid, links, tiles)
        for source, targets in pairs:
            forest.grow(source, targets)
        return cls(
            np.array([source for source, _ in pairs], np.int64),
            np.array(forest.root, np.int64),
            np.array(forest.child, np.int32).reshape(-1, 4),
            np.array(forest.link, np.int32),
            np.array(forest.target, np.int32),
            np.array(forest.targets, np.int64),
            np.array(forest.reached, np.int64),
            np.array(forest.hops, np.int64),
            np.array(forest.chip_hops, np.int64),
            np.array(forest.latency, np.float64),
            np.array(forest.per_bit, np.float64),
            tuple(forest.lost),
        )

    def __len__(self) -> int:
        return int(self.root.size)

    def __repr__(self) -> str:
        return f"Routes({len(self)} trees, {self.link.size - len(self)} links)"


class _Forest:
    """Trees while they grow."""

    def __init__(self, grid: Grid, dead_links: Mask, dead_tiles: Mask) -> None:
        self.grid = grid
        self.dead_link: list[bool] = dead_links.reshape(-1).tolist()
        self.dead_tile: list[bool] = dead_tiles.tolist()
        self.crossing: list[bool] = grid.crossing.tolist()
        self.root: list[int] = []
        self.child: list[list[int]] = []
        self.link: list[int] = []
        self.target: list[int] = []
        self.targets: list[int] = []
        self.reached: list[int] = []
        self.hops: list[int] = []
        self.chip_hops: list[int] = []
        self.lost: list[tuple[int, ...]] = []
        self.latency: list[float] = []
        self.per_bit: list[float] = []
        self._link_latency: list[float] = grid.latency.tolist()
        self._link_per_bit: list[float] = grid.seconds_per_bit.tolist()

    def grow(self, source: int, targets: Sequence[int]) -> None:
        """Add the tree of one route."""
        grid = self.grid
        if not 0 <= source < grid.tiles or not all(0 <= tile < grid.tiles for tile in targets):
            raise ValueError(
                f"expected tiles below {grid.tiles}, got source {source} and targets "
                f"{list(targets)[:8]}"
            )
        first = len(self.link)
        self.root.append(self._node(-1))
        at = {source: -1 if self.dead_tile[source] else first}  # tile -> node, -1 cut off
        lost: list[int] = []
        crossings = 0
        for index, target in enumerate(targets):
            node, here = at[source], source
            latency = per_bit = 0.0
            for direction, step, count in self._legs(source, target):
                for _ in range(count):
                    link = 4 * here + direction
                    here += step
                    if here not in at:
                        if node < 0 or self.dead_link[link]:
                            at[here] = -1
                        else:
                            at[here] = self.child[node][direction] = self._node(link)
                            crossings += self.crossing[link]
                    node = at[here]
                    latency += self._link_latency[link]
                    per_bit += self._link_per_bit[link]
            if node < 0 or self.dead_tile[target]:
                lost.append(index)
                latency = per_bit = math.nan
            elif self.target[node] >= 0:
                raise ValueError(f"expected different targets, got tile {target} twice")
            else:
                self.target[node] = index
            self.latency.append(latency)
            self.per_bit.append(per_bit)
        self.targets.append(len(targets))
        self.reached.append(len(targets) - len(lost))
        self.hops.append(len(self.link) - first - 1 - crossings)
        self.chip_hops.append(crossings)
        self.lost.append(tuple(lost))

    def _node(self, link: int) -> int:
        self.link.append(link)
        self.child.append([-1, -1, -1, -1])
        self.target.append(-1)
        return len(self.link) - 1

    def _legs(self, source: int, target: int) -> tuple[tuple[int, int, int], ...]:
        """(direction, step of the tile number, links) along the row, then along the column."""
        width = self.grid.width
        dx = target % width - source % width
        dy = target // width - source // width
        return (
            (EAST, 1, dx) if dx > 0 else (WEST, -1, -dx),
            (SOUTH, width, dy) if dy > 0 else (NORTH, -width, -dy),
        )
