"""The event loop of the link model, compiled; see `links.py` for what it models.

Events are (time, tie, code) in a binary heap. Codes: link l is done with its packet; gate g injects
its next packet (links + g); gate edge e arrives (links + gates + e). Ties: ascending source, then
ascending packet, then code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neurosim.kernels._jit import compiled

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]


class Mesh(NamedTuple):
    """Constants: links, trees (see `Routes`), packets and gates (see `links.Traffic`)."""

    seconds_per_bit: Floats
    latency: Floats
    depth: int
    root: Longs
    child: Ints
    link: Ints
    target: Ints
    offset: Floats
    source: Longs
    route: Longs
    bits: Floats
    tile: Longs
    first_target: Longs
    target_gate: Longs
    gate_packet: Longs
    gate_edge: Longs
    edge_gate: Longs
    edge_delay: Floats


class State(NamedTuple):
    """What changes: queues as linked lists of entries, waiting copies, the heap, the results.

    Ports are the links, then one injection port per tile. `numbers`: heap size, first free entry,
    release stack size, deliveries.
    """

    head: Ints
    tail: Ints
    length: Ints
    busy: npt.NDArray[np.bool_]
    entry_packet: Ints
    entry_node: Ints
    entry_next: Ints
    entry_ready: Floats
    missing: Ints
    block_start: Floats
    waiter: Ints
    waiter_node: Ints
    waiters: Ints
    need: Longs
    next_packet: Longs
    heap_time: Floats
    heap_tie: Longs
    heap_code: Longs
    stack: Ints
    numbers: Longs
    arrival: Floats
    injected: Floats
    opened: Floats
    load: Longs
    busy_time: Floats
    blocked_time: Floats
    high_water: Longs


@compiled
def _before(state: State, i: int, time: float, tie: int, code: int) -> bool:
    if state.heap_time[i] != time:
        return bool(state.heap_time[i] < time)
    if state.heap_tie[i] != tie:
        return bool(state.heap_tie[i] < tie)
    return bool(state.heap_code[i] < code)


@compiled
def _push(state: State, time: float, tie: int, code: int) -> None:
    i = state.numbers[0]
    state.numbers[0] += 1
    while i > 0:
        parent = (i - 1) >> 1
        if _before(state, parent, time, tie, code):
            break
        state.heap_time[i] = state.heap_time[parent]
        state.heap_tie[i] = state.heap_tie[parent]
        state.heap_code[i] = state.heap_code[parent]
        i = parent
    state.heap_time[i] = time
    state.heap_tie[i] = tie
    state.heap_code[i] = code


@compiled
def _pop(state: State) -> None:
    """Remove the first event (read it at index 0 before)."""
    size = state.numbers[0] - 1
    state.numbers[0] = size
    time, tie, code = state.heap_time[size], state.heap_tie[size], state.heap_code[size]
    i = 0
    while True:
        least = 2 * i + 1
        if least >= size:
            break
        right = least + 1
        if right < size and _before(
            state, right, state.heap_time[least], state.heap_tie[least], state.heap_code[least]
        ):
            least = right
        if not _before(state, least, time, tie, code):
            break
        state.heap_time[i] = state.heap_time[least]
        state.heap_tie[i] = state.heap_tie[least]
        state.heap_code[i] = state.heap_code[least]
        i = least
    state.heap_time[i] = time
    state.heap_tie[i] = tie
    state.heap_code[i] = code


@compiled
def _append(state: State, port: int, packet: int, node: int, ready: float) -> None:
    entry = state.numbers[1]
    state.numbers[1] = state.entry_next[entry]
    state.entry_packet[entry] = packet
    state.entry_node[entry] = node
    state.entry_ready[entry] = ready
    state.entry_next[entry] = -1
    if state.length[port] == 0:
        state.head[port] = entry
    else:
        state.entry_next[state.tail[port]] = entry
    state.tail[port] = entry
    state.length[port] += 1
    state.high_water[port] = max(state.high_water[port], state.length[port])


@compiled
def _transmit(mesh: Mesh, state: State, link: int, now: float) -> None:
    """Start on the packet at the head of the link's queue, when its latency has passed."""
    entry = state.head[link]
    packet = state.entry_packet[entry]
    service = mesh.bits[packet] * mesh.seconds_per_bit[link]
    state.busy[link] = True
    state.load[link] += 1
    state.busy_time[link] += service
    tie = (mesh.source[packet] << 32) | packet
    _push(state, max(now, state.entry_ready[entry]) + service, tie, link)


@compiled
def _enter(mesh: Mesh, state: State, link: int, packet: int, node: int, now: float) -> None:
    """Put a packet into a link's queue, which has room for it."""
    _append(state, link, packet, node, now + mesh.latency[link])
    if not state.busy[link]:
        _transmit(mesh, state, link, now)


@compiled
def _copy(mesh: Mesh, state: State, port: int, packet: int, node: int, now: float) -> int:
    """Hand a packet at `node` on to every branch that has room; returns branches without room."""
    waiting = 0
    for direction in range(4):
        child = mesh.child[node, direction]
        if child < 0:
            continue
        link = mesh.link[child]
        if mesh.depth == 0 or state.length[link] < mesh.depth:
            _enter(mesh, state, link, packet, child, now)
        else:
            state.waiter[link, state.waiters[link]] = port
            state.waiter_node[link, state.waiters[link]] = child
            state.waiters[link] += 1
            waiting += 1
    return waiting


@compiled
def _free(mesh: Mesh, state: State, first: int, now: float) -> None:
    """The packet at the head of port `first` has been handed on: free its place, and go on."""
    links = mesh.latency.size
    state.stack[0] = first
    state.numbers[2] = 1
    while state.numbers[2] > 0:
        state.numbers[2] -= 1
        port = state.stack[state.numbers[2]]
        entry = state.head[port]
        state.head[port] = state.entry_next[entry]
        state.length[port] -= 1
        state.entry_next[entry] = state.numbers[1]
        state.numbers[1] = entry
        state.busy[port] = False
        if port >= links:  # an injection port: no transmission, straight into the queues
            while state.length[port] > 0:
                entry = state.head[port]
                packet = state.entry_packet[entry]
                state.missing[port] = _copy(mesh, state, port, packet, state.entry_node[entry], now)
                if state.missing[port] > 0:
                    state.block_start[port] = now
                    state.busy[port] = True
                    break
                state.head[port] = state.entry_next[entry]
                state.length[port] -= 1
                state.entry_next[entry] = state.numbers[1]
                state.numbers[1] = entry
            continue
        if state.waiters[port] > 0:  # first come, first served
            waiting, node = state.waiter[port, 0], state.waiter_node[port, 0]
            state.waiters[port] -= 1
            for i in range(state.waiters[port]):
                state.waiter[port, i] = state.waiter[port, i + 1]
                state.waiter_node[port, i] = state.waiter_node[port, i + 1]
            packet = state.entry_packet[state.head[waiting]]
            _append(state, port, packet, node, now + mesh.latency[port])
            state.missing[waiting] -= 1
            if state.missing[waiting] == 0:
                state.blocked_time[waiting] += now - state.block_start[waiting]
                state.stack[state.numbers[2]] = waiting
                state.numbers[2] += 1
        if state.length[port] > 0:
            _transmit(mesh, state, port, now)


@compiled
def _inject(mesh: Mesh, state: State, packet: int, now: float) -> None:
    """A packet appears at its source: delivered there, copied into the queues, or waiting."""
    port = mesh.latency.size + mesh.tile[packet]
    node = mesh.root[mesh.route[packet]]
    state.injected[packet] = now
    _deliver(mesh, state, packet, node, now)
    if state.length[port] > 0:
        _append(state, port, packet, node, now)
        return
    waiting = _copy(mesh, state, port, packet, node, now)
    if waiting > 0:
        _append(state, port, packet, node, now)
        state.missing[port] = waiting
        state.block_start[port] = now
        state.busy[port] = True


@compiled
def _arrived(mesh: Mesh, state: State, gate: int, now: float) -> None:
    """One of the things a gate waits for is there."""
    state.need[gate] -= 1
    if state.need[gate] == 0:
        _open(mesh, state, gate, now)


@compiled
def _open(mesh: Mesh, state: State, gate: int, now: float) -> None:
    """A gate opens: schedule its first packet and its edges."""
    links, gates = mesh.latency.size, state.need.size
    state.opened[gate] = now
    packet = state.next_packet[gate]
    if packet < mesh.gate_packet[gate + 1]:
        tie = (mesh.source[packet] << 32) | packet
        _push(state, now + mesh.offset[packet], tie, links + gate)
    for edge in range(mesh.gate_edge[gate], mesh.gate_edge[gate + 1]):
        _push(state, now + mesh.edge_delay[edge], 0, links + gates + edge)


@compiled
def _deliver(mesh: Mesh, state: State, packet: int, node: int, now: float) -> None:
    target = mesh.target[node]
    if target < 0:
        return
    place = mesh.first_target[packet] + target
    state.arrival[place] = now
    state.numbers[3] += 1
    if mesh.target_gate.size > 0 and mesh.target_gate[place] >= 0:
        _arrived(mesh, state, mesh.target_gate[place], now)


@compiled
def run_events(mesh: Mesh, state: State) -> None:
    """From the gates that need nothing until nothing is left to do."""
    links, gates = mesh.latency.size, state.need.size
    for gate in range(gates):
        if state.need[gate] == 0:
            _open(mesh, state, gate, 0.0)
    while state.numbers[0] > 0:
        now, code = state.heap_time[0], state.heap_code[0]
        _pop(state)
        if code < links:
            entry = state.head[code]
            packet, node = state.entry_packet[entry], state.entry_node[entry]
            _deliver(mesh, state, packet, node, now)
            state.missing[code] = _copy(mesh, state, code, packet, node, now)
            if state.missing[code] == 0:
                _free(mesh, state, code, now)
            else:
                state.block_start[code] = now
        elif code < links + gates:
            gate = code - links
            packet = state.next_packet[gate]
            state.next_packet[gate] = packet + 1
            if packet + 1 < mesh.gate_packet[gate + 1]:
                tie = (mesh.source[packet + 1] << 32) | (packet + 1)
                _push(state, state.opened[gate] + mesh.offset[packet + 1], tie, code)
            _inject(mesh, state, packet, now)
        else:
            _arrived(mesh, state, mesh.edge_gate[code - links - gates], now)
