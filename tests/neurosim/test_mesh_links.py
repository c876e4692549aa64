"""The link model: closed forms, conservation, ties, finite buffers, and a reference in Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_cases import LINK, lindley, network_of_routes, random_packets
from properties import examples

from neurosim.chip.mesh import Gates, Grid, LinkTiming, Packets, Routes, transport
from neurosim.chip.multicast import tree_hops


@pytest.mark.parametrize("target", [0, 1, 3, 4, 11, 15])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_latency_without_contention(target: int, depth: int) -> None:
    """links x (latency + bits / rate); a target at home is reached at once."""
    grid = Grid.build(4, 4, LINK, depth)
    sent = transport(grid, Routes.build(grid, [(0, [target])]), Packets.of(2e-7, 0, 0, 24))
    links = target % 4 + target // 4
    assert sent.arrival[0] - 2e-7 == pytest.approx(links * (LINK.latency + 24 / LINK.rate))
    assert sent.hops == links and sent.delivered == 1 and sent.dropped == 0


def test_links_between_chips_have_their_own_timing() -> None:
    far = LinkTiming(1e8, 1e-7)
    grid = Grid.build(6, 2, LINK, 4, (3, 1), far)
    sent = transport(grid, Routes.build(grid, [(0, [11])]), Packets.of(0.0, 0, 0, 10))
    assert (sent.hops, sent.chip_hops) == (4, 2)
    within, between = LINK.latency + 10 / LINK.rate, far.latency + 10 / far.rate
    assert sent.end == pytest.approx(4 * within + 2 * between)


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8, 0.9])
@pytest.mark.parametrize("depth", [0, 3])
def test_one_link_is_an_m_d_1_queue(load: float, depth: int) -> None:
    """Mean wait load S / 2 (1 - load) within its 99.9 % band; busy share = load; what a short queue
    holds back waits at the tile, so the buffer does not change the wait."""
    count, service = 200_000, 20 / LINK.rate
    link = LinkTiming(LINK.rate, 0.0)
    grid = Grid.build(2, 1, link, depth)
    gaps = np.random.default_rng((7, depth)).exponential(service / load, count)
    packets = Packets.of(np.cumsum(gaps), 0, 0, 20)
    sent = transport(grid, Routes.build(grid, [(0, [1])]), packets)
    waits = (sent.latency - service) / service
    batches = waits.reshape(50, -1).mean(axis=1)
    band = 3.5 * batches.std(ddof=1) / math.sqrt(50)  # t of 49 degrees at 99.9 %
    assert waits.mean() == pytest.approx(load / (2 * (1 - load)), abs=band)
    assert band < 0.25 * waits.mean()
    assert sent.busy_time[0] / packets.time[-1] == pytest.approx(load, rel=0.02)
    assert (waits > -1e-6).all()
    if depth:
        assert sent.high_water.max() == depth and sent.source_queue[0] > 0


@examples(60)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4))
def test_unlimited_queues_equal_the_reference(seed: int, width: int, height: int) -> None:
    """Every arrival, busy time and load; times from a small set, so that many are simultaneous."""
    grid = Grid.build(width, height, LINK, 0)
    pairs, packets = random_packets(seed, grid, 40)
    sent = transport(grid, Routes.build(grid, pairs), packets)
    arrival, load, busy = lindley(grid, pairs, packets)
    np.testing.assert_allclose(sent.arrival, arrival, rtol=1e-12)
    np.testing.assert_array_equal(sent.load, load)
    np.testing.assert_allclose(sent.busy_time, busy)


@examples(60)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
def test_properties(seed: int, width: int, height: int, depth: int) -> None:
    """Conservation, hops = trees, no early arrival, bounded queues, no overtaking, determinism."""
    grid = Grid.build(width, height, LINK, depth)
    pairs, packets = random_packets(seed, grid, 60)
    routes = Routes.build(grid, pairs)
    sent = transport(grid, routes, packets)
    spots = [(tile % width, tile // width) for tile in range(grid.tiles)]
    trees = [tree_hops(spots[s], [spots[t] for t in targets]) for s, targets in pairs]
    assert sent.hops == sum(trees[r] for r in packets.route) == sent.load.sum()
    assert sent.delivered == sum(len(pairs[r][1]) for r in packets.route)
    assert not np.isnan(sent.arrival).any() and sent.dropped == 0
    np.testing.assert_array_equal(sent.injected, packets.time)
    assert depth == 0 or sent.high_water.max(initial=0) <= depth
    order = np.lexsort((packets.source, packets.time))
    between: dict[tuple[int, int], float] = {}
    for p in order.tolist():
        source, targets = pairs[packets.route[p]]
        for i, target in enumerate(targets):
            at = sent.arrival[sent.first_target[p] + i]
            x0, y0 = spots[source]
            x1, y1 = spots[target]
            links = abs(x1 - x0) + abs(y1 - y0)
            least = links * (LINK.latency + packets.bits[p] / LINK.rate)
            assert at - packets.time[p] >= least * (1 - 1e-9)
            assert at >= between.get((source, target), 0.0)
            between[source, target] = at
    again = transport(grid, routes, packets)
    np.testing.assert_array_equal(sent.arrival, again.arrival)
    shuffle = np.random.default_rng(seed).permutation(len(packets))
    if np.unique(packets.source).size == len(packets):  # else their place in the list decides
        moved = Packets(
            *(
                getattr(packets, name)[shuffle]
                for name in ("time", "source", "route", "bits", "gate")
            )
        )
        other = transport(grid, routes, moved)
        np.testing.assert_array_equal(other.load, sent.load)
        for i, p in enumerate(shuffle.tolist()):
            here = other.arrival[other.first_target[i] : other.first_target[i + 1]]
            there = sent.arrival[sent.first_target[p] : sent.first_target[p + 1]]
            np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("depth", [0, 2])
def test_simultaneous_packets_go_by_source_number(depth: int) -> None:
    """Two tiles send to the link in the middle; equal times, so the smaller source goes first."""
    grid = Grid.build(3, 2, LinkTiming(1e9, 0.0), depth)
    routes = Routes.build(grid, [(0, [2]), (1, [2])])
    for first, second in ((5, 9), (9, 5)):
        # Route 0 has one more link: it starts one transmission earlier, to arrive with route 1.
        sent = transport(grid, routes, Packets.of([0.0, 1e-8], [first, second], [0, 1], 10.0))
        earlier, later = sorted(sent.arrival)
        assert later - earlier == pytest.approx(1e-8)
        assert int(np.argmin(sent.arrival)) == (0 if first < second else 1)


def test_a_full_buffer_holds_back_the_link_before() -> None:
    """A fast link into a slow one: closed form of blocking after service."""
    fast, slow, depth, count = LinkTiming(1e9, 0.0), LinkTiming(1e8, 0.0), 2, 20
    grid = Grid.build(3, 1, fast, depth, (1, 1), slow)  # every link crosses
    grid.seconds_per_bit[0] = 1e-9  # the first of the two is fast
    sent = transport(grid, Routes.build(grid, [(0, [2])]), Packets.of(np.zeros(count), 0, 0, 10))
    quick, long = 1e-8, 1e-7
    expected = quick + long * np.arange(1, count + 1)
    np.testing.assert_allclose(sent.arrival, expected)
    assert sent.high_water[0] == sent.high_water[4] == depth
    # Packets 0 and 1 pass at once; the k-th is done at the latest `quick` after it may start, and
    # leaves when packet k - 2 leaves the slow link.
    leaves = [quick, 2 * quick] + [quick + long * (k - 1) for k in range(2, count)]
    done = [quick, 2 * quick] + [leaves[k - 1] + quick for k in range(2, count)]
    blocked = sum(b - a for a, b in zip(done, leaves, strict=True))
    assert sent.blocked_time[0] == pytest.approx(blocked)
    assert sent.source_queue[0] == count - depth
    free = transport(
        Grid(3, 1, 0, grid.seconds_per_bit, grid.latency, grid.crossing),
        Routes.build(grid, [(0, [2])]),
        Packets.of(np.zeros(count), 0, 0, 10),
    )
    assert free.blocked_time.sum() == 0 and free.high_water[4] > depth


@examples(60)
@given(
    seed=st.integers(0, 10**6),
    links=st.integers(1, 5),
    depth=st.integers(1, 3),
    latency=st.sampled_from([0.0, 5e-9, 60e-9]),
)
def test_a_line_with_buffers_equals_its_recursion(
    seed: int, links: int, depth: int, latency: float
) -> None:
    """One flow over links in a row: a packet starts `latency` after it has entered and when the one
    before has left; it leaves when it is sent and the packet `depth` before has left the next."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    time = np.sort(rng.integers(0, 30, count)) * 1e-8
    bits = rng.integers(8, 60, count).astype(float)
    grid = Grid.build(links + 1, 1, LinkTiming(LINK.rate, latency), depth)
    sent = transport(
        grid, Routes.build(grid, [(0, [links])]), Packets.of(time, np.arange(count), 0, bits)
    )
    never = -math.inf
    left = np.full((links + 1, count), never)
    for k in range(count):
        entered = max(time[k], left[0, k - depth] if k >= depth else never)
        for link in range(links):
            start = max(entered + latency, left[link, k - 1] if k else never)
            left[link, k] = start + bits[k] / LINK.rate
            if link + 1 < links and k >= depth:
                left[link, k] = max(left[link, k], left[link + 1, k - depth])
            entered = left[link, k]
    np.testing.assert_allclose(sent.arrival, left[links - 1], rtol=1e-12)


def test_the_freed_place_goes_to_the_copy_that_has_waited_longest() -> None:
    """Four flows meet in front of one slow link with one place."""
    grid = Grid.build(3, 3, LinkTiming(1e9, 0.0), 1)
    grid.seconds_per_bit[4 * 4 + 2] *= 1000  # from the middle down
    routes = Routes.build(grid, [(4, [7]), (3, [7]), (1, [7]), (5, [7])])
    # The first fills the queue; then west, north, east and home, against the order of sources.
    packets = Packets.of(
        np.array([0.0, 1e-8, 2e-8, 3e-8, 4.5e-8]), [9, 8, 7, 6, 5], [0, 1, 2, 3, 0], 10
    )
    sent = transport(grid, routes, packets)
    np.testing.assert_allclose(sent.arrival, 1e-5 * np.arange(1, 6))


def test_a_copy_waits_alone() -> None:
    """One branch of a tree is blocked; the other has its copy at once."""
    grid = Grid.build(3, 3, LinkTiming(1e9, 0.0), 1)
    routes = Routes.build(grid, [(4, [5]), (3, [5, 1])])
    sent = transport(grid, routes, Packets.of(np.zeros(4), np.arange(4), [0, 0, 0, 1], 10))
    step = 1e-8
    # Packets 0 to 2 come from the tile itself and wait since 0; the copy of 3 waits since 1 step.
    np.testing.assert_allclose(sent.arrival[:4], step * np.arange(1, 5))
    assert sent.arrival[4] == pytest.approx(2 * step)  # north: one link after the first
    assert sent.blocked_time[4 * 3] == pytest.approx(2 * step)


@pytest.mark.parametrize("depth", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_saturation_does_not_deadlock(depth: int) -> None:
    """1e6 packets in 20 us over 64 tiles: all delivered, more than the links carry in that time."""
    rng = np.random.default_rng(depth)
    grid = Grid.build(8, 8, LINK, depth)
    pairs = network_of_routes(rng, grid, 300, 2)
    count = 1_000_000
    packets = Packets.of(
        rng.random(count) * 2e-5, np.arange(count) % 1000, rng.integers(0, 300, count), 16
    )
    sent = transport(grid, Routes.build(grid, pairs), packets)
    assert sent.delivered == 2 * count and sent.dropped == 0
    assert sent.end > 10 * 2e-5 and sent.high_water.max() == depth
    assert sent.busy_time.max() / sent.end > 0.5  # the busiest link works most of the time


def test_dead_links_and_tiles_are_reported_drops() -> None:
    """Exactly the targets on dead tiles, or whose XY path meets a dead link."""
    rng = np.random.default_rng(3)
    grid = Grid.build(5, 4, LINK, 2)
    pairs = network_of_routes(rng, grid, 40, 5)
    dead_links = rng.random((20, 4)) < 0.08
    dead_tiles = rng.random(20) < 0.06
    assert dead_links.any() and dead_tiles.any()
    routes = Routes.build(grid, pairs, dead_links, dead_tiles)
    steps = {(1, 0): 0, (-1, 0): 1, (0, 1): 2, (0, -1): 3}
    for index, (source, targets) in enumerate(pairs):
        lost = []
        for i, target in enumerate(targets):
            (x, y), end = (source % 5, source // 5), (target % 5, target // 5)
            cut = dead_tiles[source]
            while (x, y) != end:
                dx = (end[0] > x) - (end[0] < x)
                step = (dx, 0) if dx else (0, (end[1] > y) - (end[1] < y))
                cut |= dead_links[y * 5 + x, steps[step]]
                x, y = x + step[0], y + step[1]
            if cut or dead_tiles[target]:
                lost.append(i)
        assert routes.lost[index] == tuple(lost)
    packets = Packets.of(rng.random(500) * 1e-6, np.arange(500), rng.integers(0, 40, 500), 16)
    sent = transport(grid, routes, packets)
    assert sent.dropped == sum(len(routes.lost[r]) for r in packets.route) > 0
    assert np.isnan(sent.arrival).sum() == sent.dropped
    assert sent.delivered + sent.dropped == 5 * 500
    assert sent.load.reshape(20, 4)[dead_links].sum() == 0


# Gates.


def test_gates_release_packets_when_all_has_arrived() -> None:
    """0 -> 1 and 0 -> 2, both opened at 0; a gate needs both arrivals and an edge; then 1 -> 0."""
    grid = Grid.build(3, 1, LinkTiming(1e9, 0.0), 2)
    routes = Routes.build(grid, [(0, [1]), (0, [2]), (1, [0])])
    packets = Packets.of([0.0, 0.0, 5e-9], [0, 1, 2], [0, 1, 2], 10, [0, 0, 1])
    for delay, opens in ((0.0, 3e-8), (1e-7, 1e-7)):
        gates = Gates(
            np.array([0, 3]),
            np.array([0]),
            np.array([1]),
            np.array([delay]),
            np.array([1, 1, -1]),
        )
        sent = transport(grid, routes, packets, gates)
        assert sent.opened[1] == pytest.approx(opens)  # the second packet waits for the first
        assert sent.injected[2] == pytest.approx(opens + 5e-9)
        assert sent.arrival[2] == pytest.approx(opens + 5e-9 + 1e-8)


def test_a_gate_that_never_opens_is_an_error() -> None:
    grid = Grid.build(2, 1, LINK)
    routes = Routes.build(grid, [(0, [1])])
    gates = Gates(np.array([0, 1]))
    with pytest.raises(RuntimeError, match="1 deliveries never happened"):
        transport(grid, routes, Packets.of(0.0, 0, 0, 8, 1), gates)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LinkTiming(0.0, 1e-9), "link rate > 0"),
        (lambda: LinkTiming(1e9, math.nan), "latency >= 0"),
        (lambda: Grid.build(0, 3, LINK), "at least 1 x 1"),
        (lambda: Grid.build(5, 4, LINK, 0, (2, 2)), "whole chips of 2 x 2"),
        (lambda: Routes.build(Grid.build(2, 2, LINK), [(0, [4])]), "tiles below 4"),
        (lambda: Routes.build(Grid.build(2, 2, LINK), [(0, [3, 3])]), "tile 3 twice"),
        (
            lambda: Routes.build(Grid.build(2, 2, LINK), [], np.zeros((4, 3), bool)),
            r"dead links \(4, 4\)",
        ),
        (lambda: Packets.of([0.0, -1.0], 0, 0, 8), "finite times >= 0"),
        (lambda: Packets.of([0.0], -1, 0, 8), "sources from 0"),
        (
            lambda: transport(
                Grid.build(2, 2, LINK),
                Routes.build(Grid.build(2, 2, LINK), [(0, [1])]),
                Packets.of(0.0, 0, 1, 8),
            ),
            "routes below 1",
        ),
    ],
)
def test_bad_input(build: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
