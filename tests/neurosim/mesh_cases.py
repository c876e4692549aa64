"""Random traffic, and a slow reference of the link model for queues without limit."""

from __future__ import annotations

import numpy as np

from neurosim.chip.mesh import Grid, LinkTiming, Packets

LINK = LinkTiming(1e9, 5e-9)
Pairs = list[tuple[int, list[int]]]


def network_of_routes(rng: np.random.Generator, grid: Grid, routes: int, targets: int) -> Pairs:
    """Random trees with `targets` targets each."""
    return [
        (
            int(rng.integers(grid.tiles)),
            rng.choice(grid.tiles, min(targets, grid.tiles), replace=False).tolist(),
        )
        for _ in range(routes)
    ]


def random_packets(seed: int, grid: Grid, most: int) -> tuple[Pairs, Packets]:
    """A few trees and up to `most` packets, many at the same time."""
    rng = np.random.default_rng(seed)
    pairs = network_of_routes(rng, grid, 6, int(rng.integers(1, 6)))
    count = int(rng.integers(0, most))
    packets = Packets.of(
        rng.integers(0, 12, count) * 1e-8,
        rng.permutation(count) if rng.random() < 0.5 else rng.integers(0, 4, count),
        rng.integers(0, len(pairs), count),
        rng.integers(8, 20, count),
    )
    return pairs, packets


def lindley(
    grid: Grid, pairs: Pairs, packets: Packets
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrivals, load and busy time, link after link in the order in which XY paths use them.

    Each link serves in the order (entering time, source, place in the list), by Lindley's
    recursion; its packets enter the next link of their path when they leave it.
    """
    width = grid.width
    order = np.lexsort((packets.source, packets.time))
    rank = {p: i for i, p in enumerate(order.tolist())}
    at: dict[tuple[int, int], float] = {}  # (packet, tile) -> time
    wanted: dict[tuple[int, int], list[int]] = {}  # link ends -> packets
    for p in range(len(packets)):
        source, targets = pairs[packets.route[p]]
        at[p, source] = packets.time[p]
        edges = set()
        for target in targets:
            here = source
            while here % width != target % width:
                step = here + (1 if target % width > here % width else -1)
                edges.add((here, step))
                here = step
            while here != target:
                step = here + (width if target > here else -width)
                edges.add((here, step))
                here = step
        for edge in edges:
            wanted.setdefault(edge, []).append(p)
    load = np.zeros(4 * grid.tiles, np.int64)
    busy = np.zeros(4 * grid.tiles)

    def place(edge: tuple[int, int]) -> tuple[int, int]:
        """Rows before columns; along a direction, upstream first."""
        (a, b), step = edge, edge[1] - edge[0]
        row = a // width == b // width
        return (0 if row else 1, a if step > 0 else -a)

    for edge in sorted(wanted, key=place):
        a, b = edge
        direction = (0 if b > a else 1) if a // width == b // width else (2 if b > a else 3)
        link, free = 4 * a + direction, 0.0
        entering = sorted(wanted[edge], key=lambda p: (at[p, a], packets.source[p], rank[p]))
        for p in entering:
            service = packets.bits[p] * grid.seconds_per_bit[link]
            free = max(free, at[p, a] + grid.latency[link]) + service
            at[p, b] = free
            load[link] += 1
            busy[link] += service
    arrival = [at[p, target] for p in range(len(packets)) for target in pairs[packets.route[p]][1]]
    return np.array(arrival), load, busy
