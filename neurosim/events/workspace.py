"""What a run on the chip carries from node to node and from token to token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neurosim.chip.crossbar import ProgrammedCrossbar
from neurosim.chip.description import ChipDescription
from neurosim.chip.neuron_bank import ChipBank
from neurosim.chip.placement import Placement
from neurosim.digital_unit import UnitStep
from neurosim.events.mesh import Mesh
from neurosim.events.recorder import Ledger
from neurosim.events.tally import Tally
from neurosim.network import AttentionUnit, DigitalUnit, Network

Values = npt.NDArray[np.generic]


@dataclass(eq=False)
class Workspace:
    """The chip with its network, and the state of the run.

    `value`: node -> the sums it holds in the current token. `spikes`: bank -> counts of every token
    so far. `tally`: bank -> counts of the last window. `states`: attention unit -> S (H, D, D).
    `units`: digital unit -> its step for the current text. `logits` and `phase_of` of every token.
    `text_start`: tokens before the current text. `each_token`: node -> counts that every token
    adds. `times`: bank -> spike times (N, levels) of every token, s from the window's start, if
    `record_times`; entries beyond |n| mean nothing.
    """

    network: Network
    chip: ChipDescription
    placement: Placement
    banks: Mapping[str, ChipBank]
    crossbars: Mapping[str, ProgrammedCrossbar]
    mesh: Mesh
    record_times: bool = False
    each_token: dict[str, dict[str, int]] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)
    text_start: int = 0
    value: dict[str, Values] = field(default_factory=dict)
    logits: list[npt.NDArray[np.float64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.units: dict[str, UnitStep] = {}
        sizes = {name: bank.size for name, bank in self.banks.items()}
        sizes.update({node.name: node.size for node in self.network.of(DigitalUnit) if node.size})
        self.spikes: dict[str, list[npt.NDArray[np.int8]]] = {name: [] for name in sizes}
        self.times: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in self.banks}
        self.tally = {name: Tally(np.zeros(size)) for name, size in sizes.items()}
        self.states: dict[str, npt.NDArray[np.int32]] = {}
        self.ledgers: dict[str, Ledger] = {}
        self.phase_of: list[str] = []
        self.begin("prefill")
        self.order = {node.name: index for index, node in enumerate(self.network)}
        self.clear_text()

    def clear_text(self) -> None:
        """Start a new text: states, delayed spikes and caches are cleared, counts go on."""
        self.text_start = len(self.tokens)
        for node in self.network.of(AttentionUnit):
            assert isinstance(node, AttentionUnit)
            shape = (node.heads, node.head_size, node.head_size)
            self.states[node.name] = np.zeros(shape, np.int32)
        for unit in self.network.of(DigitalUnit):
            assert isinstance(unit, DigitalUnit)
            self.units[unit.name] = unit.start()

    def begin(self, phase: str) -> None:
        """From here on count for `phase`."""
        self.phase = phase
        self.ledger = self.ledgers.setdefault(phase, Ledger(self.each_token))

    def count_each_token(self, node: str, **amounts: int) -> None:
        """Count for every token from now on, whatever spikes."""
        totals = self.each_token.setdefault(node, {})
        for name, amount in amounts.items():
            totals[name] = totals.get(name, 0) + int(amount)

    @property
    def used_taps(self) -> int:
        """Tokens of the current text, the current one included."""
        return len(self.tokens) - self.text_start
