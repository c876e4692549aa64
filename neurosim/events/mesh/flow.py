"""The mesh without a common clock (sync = "none"): every tile opens its own windows.

A bank's tile opens its window for a token as soon as all that it waits for is there, integrates for
T = window.duration, and then sends an end packet to every tile that its channels there reach. Its
spikes leave at their crossing times. Links keep the order of packets between two tiles, so a tile
that has the end packets of all its sources has all their spikes. Then

- a crossbar's column block (all its row tiles) or an attention tile drives the bank on it at once,
  or is read and sends its words at once;
- an accumulator's tile sends its words to a bank when all words of the writes before it are there;
- a bank in front of an accumulator waits for all its words. A bank on a table opens with the token.

So spikes act as soon as everything they act with has arrived, not at a clock's tick; the rows hold
them until then. What a window computes is the same as under a clock, and so are all spikes; only
times differ. (A membrane that integrated spikes as they come would fire on the order of excitation
and inhibition too: that is the event-driven engine's subject, not this chip's.)

The last crossbar takes a window, reading the others, conversion and additions take no time, as
under a clock. A generated token runs alone. Tokens of a prompt follow each other: one starts when
all tiles of the first stage have done the one before, and a tile opens only when its own window
before is over. Tiles do not wait for sources that cannot reach them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.chip.mesh import Gates, Packets, transport
from neurosim.chip.placement import Placement
from neurosim.events.mesh.flow_graph import FlowGraph
from neurosim.events.mesh.packets import joined
from neurosim.events.mesh.plan import MeshPlan
from neurosim.events.mesh.report import TrafficTally, zero_load
from neurosim.network import Network

Longs = npt.NDArray[np.int64]


class FlowTraffic:
    """Carries the packets of one run; `tally` is the account of the phase that runs."""

    def __init__(
        self, plan: MeshPlan, network: Network, placement: Placement, window: float
    ) -> None:
        self.plan, self.window = plan, window
        self.graph = FlowGraph(plan, network, placement, window)
        self.tallies: dict[str, TrafficTally] = {}
        self._channel_tile = placement.channel_tile
        self._sent: list[Packets] = []  # spikes of the current token
        self._waiting: list[Packets | None] = []  # of the tokens that follow each other
        self.begin("prefill", False)

    def begin(self, phase: str, alone: bool) -> None:
        """Count for `phase`; its tokens run `alone` or follow each other."""
        self.end_text()
        self.tally = self.tallies.setdefault(phase, TrafficTally(self.plan.grid, False))
        self.alone = alone

    def send(self, bank: str, packets: Packets) -> None:
        """What a bank emitted in its window of the current token: at its tiles' gates."""
        gate = self.graph.channel_gate[bank][packets.source - self.plan.banks[bank].source]
        self._sent.append(Packets(packets.time, packets.source, packets.route, packets.bits, gate))

    def end_token(self) -> None:
        """All banks of the token have fired."""
        self._waiting.append(joined(self._sent) if self._sent else None)
        self._sent = []
        if self.alone:
            self.tally.token_seconds.append(self._run())

    def end_text(self) -> None:
        """Run the tokens that follow each other."""
        if self._waiting:
            self._run()

    def _run(self) -> float:
        """Carry all that waits over an empty mesh; returns and books the time it takes, s."""
        graph, tokens = self.graph, len(self._waiting)
        parts: list[Packets] = []
        target_gate: list[Longs] = []
        kinds: list[Longs] = []  # of every delivery: 0 spike, 1 word, 2 end packet
        for token, spikes in enumerate(self._waiting):
            first = token * graph.size
            fixed = graph.packets
            parts.append(
                Packets(fixed.time, fixed.source, fixed.route, fixed.bits, fixed.gate + first)
            )
            gate = graph.target_gate
            target_gate.append(np.where(gate >= 0, gate + first, -1))
            kinds.append(graph.target_kind)
            if spikes is not None:
                parts.append(
                    Packets(
                        spikes.time, spikes.source, spikes.route, spikes.bits, spikes.gate + first
                    )
                )
                count = int(self.plan.routes.targets[spikes.route].sum())
                target_gate.append(np.full(count, -1))
                kinds.append(np.zeros(count, np.int64))
        self._waiting = []
        need, edges = graph.repeated(tokens)
        packets = joined(parts)
        gates = Gates(need, *edges, np.concatenate(target_gate))
        delivery = transport(self.plan.grid, self.plan.routes, packets, gates)
        latency = delivery.arrival - np.repeat(delivery.injected, np.diff(delivery.first_target))
        least, kind = zero_load(self.plan.routes, packets, delivery), np.concatenate(kinds)
        arrived = ~np.isnan(delivery.arrival)
        for number, tally in ((0, self.tally.spikes), (1, self.tally.words)):
            chosen = arrived & (kind == number)
            tally.add(latency[chosen], least[chosen])
        self.tally.add_links(delivery)
        opened = delivery.opened.reshape(tokens, graph.size)
        seconds = max(delivery.end, float((opened + graph.lasts).max(initial=0.0)))
        self.tally.seconds += seconds
        return seconds
