"""Spikes that miss their window on a chip that does not wait for them (late = "drop")."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.chip.mesh import Delivery, Packets
from neurosim.chip.placement import Placement
from neurosim.events.mesh.plan import MeshPlan, reader_part, reader_parts
from neurosim.network import AttentionUnit, Crossbar, DelayCrossbar, Network

Spikes = npt.NDArray[np.int8]
Longs = npt.NDArray[np.int64]


class LateLosses:
    """Late deliveries of the current token, by bank and reader. Refuses networks in which a reader
    acts before all banks of its sources' stage have fired: what is late is not known then."""

    def __init__(self, plan: MeshPlan, network: Network, placement: Placement) -> None:
        self._plan = plan
        self._parts = {
            node.name: reader_parts(node, placement)
            for node in network
            if isinstance(node, Crossbar | DelayCrossbar | AttentionUnit)
        }
        self._at = {
            slot: (name, reader_part(network[name], placement, slot))
            for name in self._parts
            for slot in placement.slots[name].tolist()
        }
        self._late: dict[int, dict[tuple[str, str], tuple[Longs, Longs]]] = {}
        order = {node.name: index for index, node in enumerate(network)}
        stage = placement.stages.bank
        for bank in stage:
            for reader in network.targets(bank):
                later = [
                    other
                    for other in stage
                    if stage[other] == stage[bank] and order[other] > order[reader]
                ]
                if later:
                    raise ValueError(
                        f"{reader} reads {bank} before {later[0]}, of the same window, has fired: "
                        'which packets are late is not known then; use routing.late = "wait"'
                    )

    def known(self, stage: int) -> bool:
        """Whether the packets of a stage have been carried in this token."""
        return stage in self._late

    def clear(self) -> None:
        """The next token begins."""
        self._late = {}

    def find(
        self,
        stage: int,
        parts: list[tuple[str, Packets]],
        delivery: Delivery | None,
        late: npt.NDArray[np.bool_] | None,
    ) -> None:
        """Remember the late deliveries of a stage; `parts` in the order they were carried."""
        lost: dict[tuple[str, str], list[tuple[int, int]]] = {}
        if delivery is not None and late is not None and late.any():
            banks = np.repeat(np.arange(len(parts)), [len(packets) for _, packets in parts])
            source = np.concatenate([packets.source for _, packets in parts])
            route = np.concatenate([packets.route for _, packets in parts])
            places = np.flatnonzero(late)
            owner = np.searchsorted(delivery.first_target, places, side="right") - 1
            for place, packet in zip(places.tolist(), owner.tolist(), strict=True):
                bank = parts[banks[packet]][0]
                index = place - int(delivery.first_target[packet])
                reader, part = self._at[self._plan.route_slots[route[packet]][index]]
                channel = int(source[packet]) - self._plan.banks[bank].source
                lost.setdefault((bank, reader), []).append((part, channel))
        self._late[stage] = {
            key: (
                np.array([part for part, _ in found], np.int64),
                np.array([channel for _, channel in found], np.int64),
            )
            for key, found in lost.items()
        }

    def subtract(
        self, bank: str, reader: str, spikes: Spikes, seen: Spikes | None
    ) -> Spikes | None:
        """The window's spikes as they came on time to each part of a reader; None if all did."""
        found = [late[bank, reader] for late in self._late.values() if (bank, reader) in late]
        if not found:
            return seen
        shape = (self._parts[reader], spikes.size)
        left = np.array(np.broadcast_to(spikes if seen is None else seen, shape))
        for part, channel in found:
            np.subtract.at(left, (part, channel), np.sign(spikes[channel]))
        return left
