"""The run loop: one token at a time through the network on the chip, window by window.

A node acts on the spikes of the window before, so a token takes as many windows as the longest
chain of banks and one for the head. What the nodes compute does not depend on the time that packets
take (unless late packets are dropped, see `neurosim.events.mesh.windows`): times come from the mesh
(`routing.transport = "queued"`), under a common clock or without one (`routing.sync`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from neurosim.chip.crossbar import ProgrammedCrossbar
from neurosim.chip.description import ChipDescription
from neurosim.chip.fill import Programming, fill_banks, no_progress, program_crossbars
from neurosim.chip.neuron_bank import ChipBank
from neurosim.chip.placement import Placement, place
from neurosim.chip.trim import TrimReport, trim
from neurosim.chip.units import check_units
from neurosim.events.actions import build_actions
from neurosim.events.mesh import Mesh
from neurosim.events.recorder import Run
from neurosim.events.workspace import Workspace
from neurosim.network import Embedding, Network


class Simulator:
    """A network placed and programmed on a chip, with its state; `step` runs one token.

    Args:
        network: what to run.
        chip: on what; its non-idealities are drawn from `seed` once (devices) or per window.
        seed: one seed is one chip and one run.
        chips: over how many chips to spread the network.
        record_times: keep when every spike fired, `Run.spike_times` (8 bytes a channel and level).
        progress: called with (weights programmed, weights in all) after every crossbar.
    """

    def __init__(
        self,
        network: Network,
        chip: ChipDescription,
        seed: int = 0,
        chips: int = 1,
        record_times: bool = False,
        progress: Programming = no_progress,
    ) -> None:
        if not 0 <= seed < 2**63:
            raise ValueError(f"expected a seed from 0 to 2^63 - 1, got {seed}")
        check_units(network, chip, record_times)
        self.network, self.chip, self.seed = network, chip, seed
        self.placement: Placement = place(network, chip, chips, seed)
        self.banks: Mapping[str, ChipBank] = fill_banks(network, chip, self.placement, seed)
        calibrates = chip.trim.windows.value > 0.0
        self.calibration: TrimReport | None = (
            trim(self.banks, chip.trim, chip.window.duration.value) if calibrates else None
        )
        self.crossbars: Mapping[str, ProgrammedCrossbar] = program_crossbars(
            network, chip, self.placement, seed, progress
        )
        tables = [node for node in network.of(Embedding) if isinstance(node, Embedding)]
        self._vocabulary = min(
            (len(node.table) for node in tables if node.order == 1), default=2**31
        )
        self._work = Workspace(
            network,
            chip,
            self.placement,
            self.banks,
            self.crossbars,
            Mesh(network, chip, self.placement, seed),
            record_times,
        )
        self._booked = {name: bank.energy().parts() for name, bank in self.banks.items()}
        self._plan = build_actions(self._work)

    @property
    def tokens(self) -> list[int]:
        """Tokens so far."""
        return self._work.tokens

    @property
    def neurons(self) -> int:
        """Physical neurons."""
        return sum(bank.neurons for bank in self.banks.values())

    def forget(self) -> None:
        """Start a new text: states, delayed spikes and caches are cleared, counts go on."""
        self._work.clear_text()
        self._work.mesh.end_text()

    def begin(self, phase: str) -> None:
        """From here on count for `phase` ("prefill" or "decode")."""
        self._book_neurons()
        self._work.begin(phase)
        self._work.mesh.begin(phase)

    def _book_neurons(self) -> None:
        """Give the current phase what the banks burnt since the last call."""
        for name, bank in self.banks.items():
            now = bank.energy().parts()
            before = self._booked[name]
            spent = {part: max(now[part] - before[part], 0.0) for part in now}
            burnt = {f"neuron_{part}": joule for part, joule in spent.items()}
            self._work.ledger.burn(name, burnt)
            self._booked[name] = now

    def step(self, token: int) -> npt.NDArray[np.float64]:
        """Run one token; returns its logits (V,), in integer weight units (times Readout.scale)."""
        if not 0 <= token < self._vocabulary:
            raise ValueError(f"expected a token below {self._vocabulary}, got {token}")
        work = self._work
        work.tokens.append(int(token))
        work.ledger.tokens += 1
        work.phase_of.append(work.phase)
        for act in self._plan:
            act()
        work.mesh.end_token()
        return work.logits[-1]

    def run(self) -> Run:
        """What was simulated so far."""
        self._book_neurons()
        work = self._work
        spikes = {
            name: np.array(rows, np.int8).reshape(-1, work.tally[name].sizes.size)
            for name, rows in work.spikes.items()
        }
        traffic = work.mesh.reports()
        return Run(
            tuple(work.tokens),
            np.array(work.logits),
            spikes,
            {
                name: ledger.freeze(traffic[name].seconds if name in traffic else None)
                for name, ledger in work.ledgers.items()
                if ledger.tokens
            },
            self.neurons,
            self.chip.window.duration.value,
            self.placement.depth,
            traffic,
            {name: np.array(rows) for name, rows in work.times.items() if rows},
            tuple(work.phase_of),
        )


def simulate(
    network: Network, chip: ChipDescription, tokens: Sequence[int], seed: int = 0, chips: int = 1
) -> Run:
    """Run given tokens (all as prefill) through the network on the chip."""
    if len(tokens) == 0:
        raise ValueError("expected at least one token, got none")
    simulator = Simulator(network, chip, seed, chips)
    for token in tokens:
        simulator.step(token)
    return simulator.run()
