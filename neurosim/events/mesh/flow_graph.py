"""What waits for what on a chip without a common clock, as gates of the link model; see `flow`.

Gates of a token: its start; the windows of each bank's tiles; the readiness of each crossbar column
block and attention tile; the words of each edge at each accumulator tile; and each accumulator
tile's words to each reader.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.chip.mesh import Packets
from neurosim.chip.placement import Placement
from neurosim.events.mesh.plan import WORD_BITS, MeshPlan
from neurosim.network import (
    Accumulator,
    AttentionUnit,
    Crossbar,
    DelayCrossbar,
    Embedding,
    Network,
    NeuronBank,
    Readout,
)

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
WORD, END = 1, 2  # kinds of deliveries; spikes are 0


class FlowGraph:
    """The gates of one token and the packets that every token sends.

    `packets`: words and end packets; `target_gate`, `target_kind` of their deliveries.
    `channel_gate`: bank -> gate of each channel's tile, (N,). `lasts` (size,): what goes on after a
    gate opens, s: a window for banks and for crossbars in front of a read-out.
    """

    def __init__(
        self, plan: MeshPlan, network: Network, placement: Placement, window: float
    ) -> None:
        self._plan, self._network, self._placement = plan, network, placement
        self._window = window
        self._gate: dict[tuple[str, ...] | tuple[str, str, int], int] = {}
        self._need: list[int] = []
        self._lasts: list[float] = []
        self._edges: list[tuple[int, int, float]] = []
        self._rows: list[tuple[int, float, int, int, int]] = []  # gate, time, source, route, bits
        self._target_gate: list[int] = []
        self._target_kind: list[int] = []
        self._order = {node.name: index for index, node in enumerate(network)}
        self._start = self._new("start", "", 0)
        self._part_of = _slot_parts(network, placement)
        self._ready_gates()
        self._window_gates()
        self._words()
        self._end_packets()
        self._freeze()

    def repeated(self, tokens: int) -> tuple[Longs, tuple[Longs, Longs, Floats]]:
        """Needs and edges (from, to, delay) of so many tokens that follow each other."""
        need = np.tile(self._one_need, (tokens, 1))
        banks, first = self._bank_gates, self._first_gates
        need[1:, banks] += 1
        need[1:, self._start] += first.size
        shift = np.arange(tokens) * self.size
        begin = np.concatenate([self._edge_from, banks, first])
        end = np.concatenate(
            [
                self._edge_to,
                banks + self.size,
                np.full(first.size, self._start + self.size),
            ]
        )
        delay = np.concatenate([self._edge_delay, np.full(banks.size + first.size, self._window)])
        all_begin = (begin + shift[:, None]).reshape(-1)
        all_end = (end + shift[:, None]).reshape(-1)
        all_delay = np.tile(delay, tokens)
        kept = all_end < tokens * self.size  # nothing follows the last token
        return need.reshape(-1), (all_begin[kept], all_end[kept], all_delay[kept])

    def _new(self, kind: str, name: str, slot: int, lasts: float = 0.0) -> int:
        self._gate[kind, name, slot] = len(self._need)
        self._need.append(0)
        self._lasts.append(lasts)
        return len(self._need) - 1

    def _join(self, begin: int, end: int, delay: float = 0.0) -> None:
        self._edges.append((begin, end, delay))
        self._need[end] += 1

    def _ready_gates(self) -> None:
        for node in self._network:
            if isinstance(node, Crossbar | DelayCrossbar | AttentionUnit):
                last = any(
                    isinstance(self._network[name], Readout)
                    for name in self._network.targets(node.name)
                )
                for part in sorted(
                    {part for name, part in self._part_of.values() if name == node.name}
                ):
                    self._new("ready", node.name, part, self._window if last else 0.0)

    def _window_gates(self) -> None:
        self.channel_gate: dict[str, Longs] = {}
        for bank in self._network.of(NeuronBank):
            slots = self._placement.channel_tile[bank.name]
            source = self._network[self._network.sources(bank.name)[0]]
            for slot in np.unique(slots).tolist():
                gate = self._new("window", bank.name, slot, self._window)
                if isinstance(source, Embedding):
                    self._join(self._start, gate)
                elif not isinstance(source, Accumulator):
                    self._join(self._gate["ready", source.name, self._part_of[slot][1]], gate)
            gates = {
                slot: self._gate["window", bank.name, slot] for slot in np.unique(slots).tolist()
            }
            self.channel_gate[bank.name] = np.array(
                [gates[slot] for slot in slots.tolist()], np.int64
            )

    def _words(self) -> None:
        routes = self._plan.routes
        written: dict[tuple[str, int], list[tuple[int, int]]] = {}
        edges = sorted(self._plan.words, key=lambda edge: self._order[edge[1]])
        for source, target in edges:  # gates of arrivals first: readers join them
            if not isinstance(self._network[target], Accumulator):
                continue
            words = self._plan.words[source, target]
            reached = routes.reached[words.route] > 0
            for slot in np.unique(words.to_slot[reached]).tolist():
                written.setdefault((target, slot), []).append(
                    (self._order[source], self._new("written", f"{source} {target}", slot))
                )
        for source, target in edges:
            words = self._plan.words[source, target]
            reached = (routes.reached[words.route] > 0).tolist()
            release = {
                slot: self._release(source, target, slot, written)
                for slot in np.unique(words.from_slot).tolist()
            }
            for number, route, begin, end, arrives in zip(
                words.source.tolist(),
                words.route.tolist(),
                words.from_slot.tolist(),
                words.to_slot.tolist(),
                reached,
                strict=True,
            ):
                gate = self._arrival_gate(source, target, end) if arrives else -1
                if gate >= 0:
                    self._need[gate] += 1
                self._rows.append((release[begin], 0.0, number, route, WORD_BITS))
                self._target_gate.append(gate)
                self._target_kind.append(WORD)

    def _release(
        self,
        source: str,
        target: str,
        slot: int,
        written: dict[tuple[str, int], list[tuple[int, int]]],
    ) -> int:
        """The gate that sends the words of a source's tile to a target."""
        node = self._network[source]
        if isinstance(node, Embedding):
            return self._start
        if not isinstance(node, Accumulator):
            return self._gate["ready", source, self._part_of[slot][1]]
        gate = self._new("sum", f"{source} {target}", slot)
        for order, arrived in written.get((source, slot), []):
            if order < self._order[target]:
                self._join(arrived, gate)
        return gate

    def _arrival_gate(self, source: str, target: str, slot: int) -> int:
        node = self._network[target]
        if isinstance(node, Accumulator):
            return self._gate["written", f"{source} {target}", slot]
        return self._gate["window", target, slot] if isinstance(node, NeuronBank) else -1

    def _end_packets(self) -> None:
        routes = self._plan.routes
        last = 1 + max(
            [0]
            + [int(bank.source + bank.route.size) for bank in self._plan.banks.values()]
            + [int(words.source.max(initial=0)) for words in self._plan.words.values()]
        )
        for name, bank in self._plan.banks.items():
            for slot, route in bank.end_route.items():
                gate = self._gate["window", name, slot]
                self._rows.append((gate, self._window, last, route, bank.bits))
                last += 1
                lost = set(routes.lost[route])
                for index, target in enumerate(self._plan.route_slots[route]):
                    reader, part = self._part_of[target]
                    ready = -1 if index in lost else self._gate["ready", reader, part]
                    if ready >= 0:
                        self._need[ready] += 1
                    self._target_gate.append(ready)
                    self._target_kind.append(END)

    def _freeze(self) -> None:
        rows = np.array(self._rows, np.float64).reshape(-1, 5)
        whole = rows[:, [0, 2, 3]].astype(np.int64)
        self.packets = Packets(
            rows[:, 1].copy(), whole[:, 1].copy(), whole[:, 2].copy(), rows[:, 4].copy(),
            whole[:, 0].copy(),
        )  # fmt: skip
        self.target_gate = np.array(self._target_gate, np.int64)
        self.target_kind = np.array(self._target_kind, np.int64)
        self.size = len(self._need)
        self.lasts = np.array(self._lasts)
        self._one_need = np.array(self._need, np.int64)
        edges = np.array(self._edges, np.float64).reshape(-1, 3)
        self._edge_from, self._edge_to = edges[:, :2].astype(np.int64).T
        self._edge_delay = edges[:, 2].copy()
        stage = self._placement.stages.bank
        windows = [(key, gate) for key, gate in self._gate.items() if key[0] == "window"]
        self._bank_gates = np.array([gate for _, gate in windows], np.int64)
        self._first_gates = np.array(
            [gate for key, gate in windows if stage[str(key[1])] == 1], np.int64
        )


def _slot_parts(network: Network, placement: Placement) -> dict[int, tuple[str, int]]:
    """Slot -> its crossbar or attention unit, and which column block or tile of it."""
    found: dict[int, tuple[str, int]] = {}
    for node in network:
        if isinstance(node, Crossbar | DelayCrossbar):
            rows = placement.tiling[node.name][0]
            for place, slot in enumerate(placement.slots[node.name].tolist()):
                found[slot] = (node.name, place // rows)
        elif isinstance(node, AttentionUnit):
            for place, slot in enumerate(placement.slots[node.name].tolist()):
                found[slot] = (node.name, place)
    return found
