"""The mesh under a common clock (sync = "window").

In window w of a token, for w = 1 ... d, the banks of stage w integrate for T = window.duration;
each spike is a packet that leaves its tile at the neuron's crossing time (packets = "count": one
packet per channel when the window ends). When T is over and all packets have been delivered,
crossbars in front of accumulators are read, their words travel, then the words of accumulators to
the banks that read them, and the next window opens everywhere: an extra wait of the clock if
packets come after T ("late"; late = "drop" does not wait, the receiving tile ignores them, and
their spikes are lost there). Reading, conversion and additions take no time. So a token takes

    sum over w of max(T, last delivery of w) + time of the words before w.

Tokens of a prompt follow each other one window apart: token i runs stage s in window i + s, and all
that is in flight shares the links. Generated tokens run alone, as each depends on the one before;
so do all tokens with late = "drop". The pipeline gives each token in flight its own copy of the
accumulators, as the energy model does.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from neurosim.chip.mesh import Delivery, Gates, Packets, transport
from neurosim.chip.placement import Placement
from neurosim.events.mesh.losses import LateLosses
from neurosim.events.mesh.packets import joined
from neurosim.events.mesh.plan import WORD_BITS, MeshPlan
from neurosim.events.mesh.report import TrafficTally, zero_load
from neurosim.network import Accumulator, Network

Floats = npt.NDArray[np.float64]
Spikes = npt.NDArray[np.int8]


class WindowTraffic:
    """Carries the packets of one run; `tally` is the account of the phase that runs."""

    def __init__(
        self, plan: MeshPlan, network: Network, placement: Placement, window: float, drop: bool
    ) -> None:
        self.plan, self.window, self.drop = plan, window, drop
        self.depth = placement.depth
        self.stage = placement.stages.bank
        self.tallies: dict[str, TrafficTally] = {}
        self._words = WordBoundaries(plan, network, placement)
        self._stages: dict[int, list[tuple[str, Packets]]] = {}
        self._windows: dict[int, list[tuple[str, Packets]]] = {}
        self._losses: LateLosses | None = None
        if drop:
            self._losses = LateLosses(plan, network, placement)
        self._tokens = 0
        self.begin("prefill", False)

    def begin(self, phase: str, alone: bool) -> None:
        """Count for `phase`; its tokens run `alone` or follow each other."""
        self.end_text()
        self.tally = self.tallies.setdefault(phase, TrafficTally(self.plan.grid, self.drop))
        self.pipelined = not (alone or self.drop)

    def send(self, bank: str, packets: Packets) -> None:
        """What a bank emitted in its window of the current token."""
        self._stages.setdefault(self.stage[bank], []).append((bank, packets))

    def on_time(self, bank: str, reader: str, spikes: Spikes, seen: Spikes | None) -> Spikes | None:
        """The window's spikes without those that came late to each part of a reader, (parts, N);
        None if all came. `seen`: what dead links left of them. For late = "drop"."""
        assert self._losses is not None
        stage = self.stage[bank]
        if not self._losses.known(stage):
            delivery = self._carry(self._stages[stage])
            late = None if delivery is None else delivery.arrival > self.window
            self._losses.find(stage, self._stages[stage], delivery, late)
        return self._losses.subtract(bank, reader, spikes, seen)

    def end_token(self) -> None:
        """All banks of the token have fired."""
        if self.pipelined:
            for stage, packets in self._stages.items():
                self._windows.setdefault(self._tokens + stage, []).extend(packets)
            self._tokens += 1
            self._advance(self._tokens, 0)
        else:
            before = self.tally.seconds
            for stage in range(1, self.depth + 1):
                self._between([stage - 1])
                self.tally.seconds += self.window
                if self._losses is None or not self._losses.known(stage):
                    self._carry(self._stages.get(stage, []))
            self._between([self.depth])
            self.tally.token_seconds.append(self.tally.seconds - before)
            if self._losses is not None:
                self._losses.clear()
        self._stages = {}

    def end_text(self) -> None:
        """Let the pipeline run empty."""
        if self._tokens:
            last = self._tokens + self.depth - 1
            for window in range(self._tokens + 1, last + 1):
                self._advance(window, window - self._tokens)
            self._between([self.depth])
        self._tokens, self._windows = 0, {}

    def _advance(self, window: int, lowest: int) -> None:
        """One window of the pipeline; the boundary before it has stages `lowest` ... in flight."""
        self._between(range(lowest, min(window - 1, self.depth) + 1))
        self.tally.seconds += self.window
        self._carry(self._windows.pop(window, []))

    def _between(self, stages: Iterable[int]) -> None:
        """Words that travel after these stages, all at the same boundary."""
        self.tally.seconds += self._words.run(tuple(stages), self.tally)

    def _carry(self, parts: list[tuple[str, Packets]]) -> Delivery | None:
        """One window's packets, booked; the clock waits for the late ones unless they are lost."""
        if not parts:
            return None
        packets = joined([part for _, part in parts])
        delivery = transport(self.plan.grid, self.plan.routes, packets)
        arrived = ~np.isnan(delivery.arrival)
        latency = delivery.arrival - np.repeat(delivery.injected, np.diff(delivery.first_target))
        least = zero_load(self.plan.routes, packets, delivery)
        self.tally.spikes.add(latency[arrived], least[arrived])
        self.tally.add_links(delivery)
        self.tally.window_late += int(np.count_nonzero(delivery.arrival > self.window))
        if not self.drop:
            wait = max(delivery.end - self.window, 0.0)
            self.tally.waited_seconds += wait
            self.tally.seconds += wait
        return delivery


class WordBoundaries:
    """Words between windows. What travels depends on the stages alone: each set of them once."""

    def __init__(self, plan: MeshPlan, network: Network, placement: Placement) -> None:
        self.plan = plan
        self._accumulators = {node.name for node in network.of(Accumulator)}
        self._edges: dict[int, list[tuple[str, str]]] = {}
        for edge in plan.words:
            self._edges.setdefault(placement.stages.edge[edge], []).append(edge)
        self._done: dict[tuple[int, ...], tuple[Delivery, Floats, Floats] | None] = {}

    def run(self, stages: tuple[int, ...], tally: TrafficTally) -> float:
        """Carry the words of a boundary into the account; returns the time they take, s."""
        if stages not in self._done:
            self._done[stages] = self._carry(stages)
        found = self._done[stages]
        if found is None:
            return 0.0
        delivery, latency, least = found
        tally.words.add(latency, least)
        tally.add_links(delivery)
        return delivery.end

    def _carry(self, stages: tuple[int, ...]) -> tuple[Delivery, Floats, Floats] | None:
        gate_of: dict[tuple[int, str, int], int] = {}
        need = [0]
        chosen = [(stage, edge) for stage in stages for edge in self._edges.get(stage, [])]
        for stage, (source, target) in chosen:
            if source in self._accumulators:
                for slot in np.unique(self.plan.words[source, target].from_slot).tolist():
                    if (stage, source, slot) not in gate_of:
                        gate_of[stage, source, slot] = len(need)
                        need.append(0)
        if not chosen:
            return None
        parts: list[Packets] = []
        target_gate: list[int] = []
        for stage, (source, target) in chosen:
            words = self.plan.words[source, target]
            gates = [gate_of.get((stage, source, slot), 0) for slot in words.from_slot.tolist()]
            opens = [gate_of.get((stage, target, slot), -1) for slot in words.to_slot.tolist()]
            reached = self.plan.routes.reached[words.route] > 0
            for gate, arrives in zip(opens, reached.tolist(), strict=True):
                if gate >= 0 and arrives:
                    need[gate] += 1
            target_gate += opens
            parts.append(
                Packets.of(np.zeros(words.route.size), words.source, words.route, WORD_BITS, gates)
            )
        packets = joined(parts)
        gates_needed = Gates(np.array(need, np.int64), target_gate=np.array(target_gate, np.int64))
        delivery = transport(self.plan.grid, self.plan.routes, packets, gates_needed)
        arrived = ~np.isnan(delivery.arrival)
        latency = delivery.arrival - np.repeat(delivery.injected, np.diff(delivery.first_target))
        least = zero_load(self.plan.routes, packets, delivery)
        return delivery, latency[arrived], least[arrived]
