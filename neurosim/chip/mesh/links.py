"""Packets on a mesh whose links are first-in first-out servers: event by event, without a clock.

A packet enters the queue in front of a link, may be transmitted `latency` later, and then occupies
the link for bits / rate seconds. When transmission ends it is at the next router, where it is
delivered if that tile is a target, and copied into the queue of every further link of its tree. A
queue holds `buffer_depth` packets. A copy that finds a queue full waits for it, and its link stands
still until all copies have left (blocking after service); a freed place goes to the copy that has
waited longest. Packets of a tile that find no room wait at the tile, in order. Targets take
packets at once.

Without contention a target k links away is reached after the sum over these links of
latency + bits / rate.

Simultaneous events: ascending source, then ascending place in the list. No packet overtakes another
between the same two tiles. Deadlock-free: XY routes make a queue wait only for queues further along
its row, or for columns, never in a circle, and branches take copies one by one.

Gates tie injections to deliveries. A gate opens when everything it needs has arrived: deliveries
that name it, and edges from other gates, each with a delay. Its packets are injected `time` after
it opens. Gates that need nothing open at 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neurosim.chip.mesh._loop import Mesh, State, run_events
from neurosim.chip.mesh.grid import Grid
from neurosim.chip.mesh.trees import Routes

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

_MOST_INPUTS = 5  # ports that feed one queue: three links (a packet never turns back) and the tile


@dataclass(frozen=True, eq=False)
class Packets:
    """P packets: `time` (P,) s after their gate opens, `source` (P,) the number that breaks ties
    (a neuron's), `route` (P,), `bits` (P,) and `gate` (P,)."""

    time: Floats
    source: Longs
    route: Longs
    bits: Floats
    gate: Longs

    @classmethod
    def of(
        cls,
        time: npt.ArrayLike,
        source: npt.ArrayLike,
        route: npt.ArrayLike,
        bits: npt.ArrayLike,
        gate: npt.ArrayLike = 0,
    ) -> Packets:
        """From arrays or numbers, which are repeated for all packets."""
        times = np.atleast_1d(np.asarray(time, np.float64))
        parts = [np.broadcast_to(np.asarray(part), times.shape) for part in (source, route, gate)]
        sources, routes, gates = (np.ascontiguousarray(part, np.int64) for part in parts)
        sizes = np.ascontiguousarray(np.broadcast_to(np.asarray(bits), times.shape), np.float64)
        if not (np.isfinite(times).all() and (times >= 0).all() and (sizes > 0).all()):
            raise ValueError("expected packets with finite times >= 0 s and bits > 0")
        if times.size and not (int(sources.min()) >= 0 and int(sources.max()) < 2**31):
            raise ValueError("expected sources from 0 to 2^31 - 1")
        return cls(times, sources, routes, sizes, gates)

    def __len__(self) -> int:
        return int(self.time.size)


@dataclass(frozen=True, eq=False)
class Gates:
    """`need` (G,): arrivals before a gate opens. Edges from gate `edge_from` to gate `edge_to`,
    `edge_delay` seconds, each (E,). `target_gate`: the gate that each delivery counts for, in the
    order of `Delivery.arrival`, -1 for none."""

    need: Longs
    edge_from: Longs = field(default_factory=lambda: np.zeros(0, np.int64))
    edge_to: Longs = field(default_factory=lambda: np.zeros(0, np.int64))
    edge_delay: Floats = field(default_factory=lambda: np.zeros(0))
    target_gate: Longs = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True, eq=False)
class Delivery:
    """What became of the packets. Times in s from the start.

    `arrival`: of every (packet, target), packet by packet, targets in the route's order, NaN where
    the target was lost; packet p's are first_target[p] ... first_target[p + 1] - 1. `injected`
    (P,): when the packet appeared at its tile. `opened` (G,): when each gate opened. Per link
    (4 tiles,): `load` packets, `busy_time` s in transmission, `blocked_time` s standing still with
    a packet that the next router has no room for, `high_water` most packets in its queue. Per tile:
    `source_blocked` s with a packet that cannot leave, `source_queue` most packets waiting.
    """

    first_target: Longs
    arrival: Floats
    injected: Floats
    opened: Floats
    load: Longs
    busy_time: Floats
    blocked_time: Floats
    high_water: Longs
    source_blocked: Floats
    source_queue: Longs
    dropped: int
    """(packet, target) pairs that cannot be reached."""
    hops: int
    """Packet-hops on links within chips."""
    chip_hops: int
    """Packet-hops on links between chips."""

    @property
    def delivered(self) -> int:
        """(packet, target) pairs that were reached."""
        return int(self.arrival.size) - self.dropped

    @property
    def latency(self) -> Floats:
        """From appearing to delivery, of every delivery, s; waiting at the tile included."""
        per_packet = np.repeat(self.injected, np.diff(self.first_target))
        late: Floats = self.arrival - per_packet
        return late[~np.isnan(late)]

    @property
    def end(self) -> float:
        """The last delivery, s; 0 if there is none."""
        return float(np.nanmax(self.arrival)) if self.delivered else 0.0

    def __repr__(self) -> str:
        return (
            f"Delivery({self.injected.size} packets, {self.delivered} delivered, "
            f"{self.dropped} dropped, {self.hops} hops, {self.chip_hops} between chips)"
        )


def transport(grid: Grid, routes: Routes, packets: Packets, gates: Gates | None = None) -> Delivery:
    """Carry packets over an empty mesh until all are delivered."""
    gates = gates or Gates(np.zeros(1, np.int64))
    count, size = len(packets), gates.need.size
    if count and not (
        int(packets.route.min()) >= 0
        and int(packets.route.max()) < len(routes)
        and int(packets.gate.min()) >= 0
        and int(packets.gate.max()) < size
    ):
        raise ValueError(f"expected routes below {len(routes)} and gates below {size}")
    order = np.lexsort((packets.source, packets.time, packets.gate))
    route = packets.route[order]
    per_packet = routes.targets[packets.route]
    first_target = np.concatenate([[0], np.cumsum(per_packet)])
    edge_order = np.argsort(gates.edge_from, kind="stable")
    mesh = Mesh(
        grid.seconds_per_bit,
        grid.latency,
        grid.buffer_depth,
        routes.root,
        routes.child,
        routes.link,
        routes.target,
        packets.time[order],
        packets.source[order],
        route,
        packets.bits[order],
        routes.source[route],
        first_target[:-1][order],
        gates.target_gate,
        np.searchsorted(packets.gate[order], np.arange(size + 1)),
        np.searchsorted(gates.edge_from[edge_order], np.arange(size + 1)),
        gates.edge_to[edge_order],
        gates.edge_delay[edge_order],
    )
    state = _new_state(grid, routes, mesh, gates, int(first_target[-1]))
    run_events(mesh, state)
    dropped = int((routes.targets - routes.reached)[route].sum())
    if int(state.numbers[3]) + dropped != int(first_target[-1]):
        stuck = int(first_target[-1]) - dropped - int(state.numbers[3])
        raise RuntimeError(
            f"{stuck} deliveries never happened; expected every gate to open: does one need more "
            "arrivals than there are, or wait for itself?"
        )
    injected = np.empty(count)
    injected[order] = state.injected
    links = grid.latency.size
    return Delivery(
        first_target,
        state.arrival,
        injected,
        state.opened,
        state.load,
        state.busy_time,
        state.blocked_time[:links],
        state.high_water[:links],
        state.blocked_time[links:],
        state.high_water[links:],
        dropped,
        int(routes.hops[route].sum()),
        int(routes.chip_hops[route].sum()),
    )


def _new_state(grid: Grid, routes: Routes, mesh: Mesh, gates: Gates, targets: int) -> State:
    """Empty queues. A packet has at most as many copies as its tree has ends, one waits at home."""
    links, count = grid.latency.size, mesh.route.size
    ports = links + grid.tiles
    copies = int(np.minimum(routes.hops + routes.chip_hops, routes.reached)[mesh.route].sum())
    if grid.buffer_depth:
        copies = min(copies, links * grid.buffer_depth)
    entries = copies + count + 1
    events = links + 2 * gates.need.size + mesh.edge_gate.size + 1
    long, single = np.int64, np.int32
    return State(
        np.full(ports, -1, single),
        np.full(ports, -1, single),
        np.zeros(ports, single),
        np.zeros(ports, np.bool_),
        np.empty(entries, single),
        np.empty(entries, single),
        np.arange(1, entries + 1, dtype=single),
        np.empty(entries),
        np.zeros(ports, single),
        np.zeros(ports),
        np.empty((links, _MOST_INPUTS), single),
        np.empty((links, _MOST_INPUTS), single),
        np.zeros(links, single),
        gates.need.astype(long),
        mesh.gate_packet[:-1].astype(long),
        np.empty(events),
        np.empty(events, long),
        np.empty(events, long),
        np.empty(ports + 1, single),
        np.zeros(4, long),
        np.full(targets, np.nan),
        np.full(count, np.nan),
        np.full(gates.need.size, np.nan),
        np.zeros(links, long),
        np.zeros(links),
        np.zeros(ports),
        np.zeros(ports, long),
    )
