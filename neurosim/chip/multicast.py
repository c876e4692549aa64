"""XY routing on a 2-D mesh: the links of a multicast tree.

A packet first travels along its source's row, then up and down the columns of its targets. The
tree is the union of the XY paths, so a shared link is paid once.
"""

from __future__ import annotations

from collections.abc import Iterable

Position = tuple[int, int]


def tree_hops(source: Position, targets: Iterable[Position]) -> int:
    """Links in the union of the XY paths from `source` to all `targets`; positions are (x, y)."""
    x0, y0 = source
    west = east = 0
    columns: dict[int, tuple[int, int]] = {}
    for x, y in targets:
        west = max(west, x0 - x)
        east = max(east, x - x0)
        up, down = columns.get(x, (0, 0))
        columns[x] = (max(up, y0 - y), max(down, y - y0))
    return west + east + sum(up + down for up, down in columns.values())


def tree_crossings(source: Position, targets: Iterable[Position], chip: tuple[int, int]) -> int:
    """Links of the same tree that join two chips of `chip` = (width, height) tiles."""
    (wide, high), (x0, y0) = chip, source
    west = east = x0
    columns: dict[int, tuple[int, int]] = {}
    for x, y in targets:
        west, east = min(west, x), max(east, x)
        top, bottom = columns.get(x, (y0, y0))
        columns[x] = (min(top, y), max(bottom, y))
    spans = [bottom // high - top // high for top, bottom in columns.values()]
    return east // wide - west // wide + sum(spans)


def serpentine(index: int, width: int) -> Position:
    """Position of the `index`-th tile along a serpentine through rows of `width` tiles."""
    y, x = divmod(index, width)
    return (x if y % 2 == 0 else width - 1 - x), y
