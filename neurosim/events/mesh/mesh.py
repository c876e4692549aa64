"""The mesh as the run loop sees it: hops, losses, and the time that packets take."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.chip.description import ChipDescription
from neurosim.chip.placement import Placement
from neurosim.events.mesh.flow import FlowTraffic
from neurosim.events.mesh.packets import spike_packets
from neurosim.events.mesh.plan import MeshPlan
from neurosim.events.mesh.report import PhaseTraffic
from neurosim.events.mesh.windows import WindowTraffic
from neurosim.network import Network

Hops = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Spikes = npt.NDArray[np.int8]


class Mesh:
    """Carries the packets and words of a run, as the chip's [routing] says.

    With transport = "instant" nothing takes time, and packets are only counted; losses to dead
    links and tiles act all the same. `needs_times`: crossing times of spikes are wanted.
    """

    def __init__(
        self, network: Network, chip: ChipDescription, placement: Placement, seed: int
    ) -> None:
        routing = chip.routing
        self.placement = placement
        self._counted = routing.packets == "count"
        self._window = chip.window.duration.value
        queued = routing.transport == "queued"
        self._plan: MeshPlan | None = None
        if queued or chip.faults.any or routing.sync == "none":
            self._plan = MeshPlan.build(network, chip, placement, seed)
        self._closes = routing.sync == "none"
        self._traffic: WindowTraffic | FlowTraffic | None = None
        if queued and self._plan is not None:
            self._traffic = (
                WindowTraffic(self._plan, network, placement, self._window, routing.late == "drop")
                if routing.sync == "window"
                else FlowTraffic(self._plan, network, placement, self._window)
            )
        self.needs_times = self._traffic is not None and not self._counted

    # Structure.

    def packet_hops(self, bank: str) -> tuple[Hops, Hops | None]:
        """Links within chips, and between chips if there are several, of each channel's packet."""
        if self._plan is None:
            within, between = self.placement.hops[bank], self.placement.chip_hops[bank]
        else:
            route = self._plan.banks[bank].route
            within, between = self._plan.routes.hops[route], self._plan.routes.chip_hops[route]
        several = self.placement.chips > 1
        return np.ascontiguousarray(within, np.int64), (between if several else None)

    def packet_drops(self, bank: str) -> Hops | None:
        """Targets that each channel's packet never reaches, None if all are reached."""
        if self._plan is None:
            return None
        routes = self._plan.routes
        drops: Hops = (routes.targets - routes.reached)[self._plan.banks[bank].route]
        return drops if drops.any() else None

    def end_packets(self, bank: str) -> tuple[int, int, int] | None:
        """Packets that close a window of the bank, their hops within and between chips."""
        if not self._closes or self._plan is None:
            return None
        ends = np.array(list(self._plan.banks[bank].end_route.values()), np.int64)
        routes = self._plan.routes
        return ends.size, int(routes.hops[ends].sum()), int(routes.chip_hops[ends].sum())

    def word_hops(self, source: str, target: str) -> tuple[int, int, int]:
        """Word-hops of an edge in a token within and between chips, and words that are lost."""
        if self._plan is None:
            hops = self.placement.value_hops.get((source, target))
            between = self.placement.value_chip_hops.get((source, target))
            if hops is None or between is None:
                return 0, 0, 0
            return int(hops.sum()), int(between.sum()), 0
        words = self._plan.words.get((source, target))
        if words is None:
            return 0, 0, 0
        routes = self._plan.routes
        lost = (routes.targets - routes.reached)[words.route]
        hops, between = routes.hops[words.route], routes.chip_hops[words.route]
        return int(hops.sum()), int(between.sum()), int(lost.sum())

    def words_reached(self, source: str, target: str) -> Mask | None:
        """Channels of an edge whose words arrive, (N,); None if all do."""
        words = self._plan.words.get((source, target)) if self._plan is not None else None
        return None if words is None else words.reached

    # Events.

    def loses(self, bank: str, reader: str) -> bool:
        """Whether spikes of a bank may fail to reach a reader."""
        if self._plan is None:
            return False
        drop = isinstance(self._traffic, WindowTraffic) and self._traffic.drop
        return drop or (bank, reader) in self._plan.received

    def received(self, bank: str, reader: str, spikes: Spikes) -> Spikes | None:
        """The window's spikes as each part of a reader got them, (parts, N); None if all came."""
        assert self._plan is not None
        mask = self._plan.received.get((bank, reader))
        seen: Spikes | None = None if mask is None else np.where(mask, spikes, np.int8(0))
        if isinstance(self._traffic, WindowTraffic) and self._traffic.drop:
            return self._traffic.on_time(bank, reader, spikes, seen)
        return seen

    def send(
        self, bank: str, spikes: Spikes, times: npt.NDArray[np.float64] | None, total: int
    ) -> None:
        """Put a bank's window on the mesh."""
        if self._traffic is None or self._plan is None:
            return
        route = self._plan.banks[bank]
        if times is None:
            times = np.empty((0, 0))
        packets = spike_packets(route, spikes, times, total, self._window, self._counted)
        self._traffic.send(bank, packets)

    def end_token(self) -> None:
        """All nodes have acted."""
        if self._traffic is not None:
            self._traffic.end_token()

    def end_text(self) -> None:
        """No token of this text follows."""
        if self._traffic is not None:
            self._traffic.end_text()

    def begin(self, phase: str) -> None:
        """Count for this phase: tokens of a prompt follow each other, generated ones run alone."""
        if self._traffic is not None:
            self._traffic.begin(phase, phase != "prefill")

    def reports(self) -> dict[str, PhaseTraffic]:
        """Every phase so far; none if packets take no time. Lets a prompt's pipeline run empty."""
        self.end_text()
        tallies = {} if self._traffic is None else self._traffic.tallies
        return {phase: tally.freeze() for phase, tally in tallies.items()}
