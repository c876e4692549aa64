"""A placed network written onto its tiles: crossbars programmed, neurons built, dead tiles dead."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from neurosim.chip.crossbar import ProgrammedCrossbar, crossbar_key
from neurosim.chip.description import ChipDescription
from neurosim.chip.faults import dead_channels
from neurosim.chip.neuron_bank import ChipBank, build_banks
from neurosim.chip.placement import Placement
from neurosim.chip.units import input_rms
from neurosim.network import Crossbar, DelayCrossbar, Network, NeuronBank

Programming = Callable[[int, int], None]
"""Called with (weights programmed, weights in all)."""


def no_progress(done: int, total: int) -> None:
    """Tells nobody."""


def dead_tiles(
    chip: ChipDescription, placement: Placement, seed: int
) -> npt.NDArray[np.bool_] | None:
    """Dead tiles of the mesh, (mesh_tiles,); None if there are none, or they were avoided."""
    if chip.faults.avoid or not chip.faults.any:
        return None
    dead = chip.faults.dead_tiles(placement.mesh_tiles, seed)
    return dead if dead.any() else None


def program_crossbars(
    network: Network,
    chip: ChipDescription,
    placement: Placement,
    seed: int,
    progress: Programming = no_progress,
) -> dict[str, ProgrammedCrossbar]:
    """Every crossbar of the network as the chip of this seed holds it; `progress` after each."""
    dead = dead_tiles(chip, placement, seed)
    crossbars: dict[str, ProgrammedCrossbar] = {}
    arrays = [node for node in network if isinstance(node, Crossbar | DelayCrossbar)]
    done, total = 0, sum(int(node.weight.size) for node in arrays)
    progress(done, total)
    for index, node in enumerate(network):
        if not isinstance(node, Crossbar | DelayCrossbar):
            continue
        rows, columns = placement.tiling[node.name]  # tiles: column block by column block
        own = None if dead is None else dead[placement.slots[node.name]]
        crossbars[node.name] = ProgrammedCrossbar.program(
            node.weight,
            chip.crossbar,
            crossbar_key(seed, index),
            int(chip.conversion.adc_bits.value),
            diagonal=isinstance(node, DelayCrossbar),
            tile=(int(chip.tile.rows.value), int(chip.tile.columns.value)),
            dead=own.reshape(columns, rows).T if own is not None and own.any() else None,
            input_rms=input_rms(network, node.name),
        )
        done += int(node.weight.size)
        progress(done, total)
    return crossbars


def fill_banks(
    network: Network, chip: ChipDescription, placement: Placement, seed: int
) -> Mapping[str, ChipBank]:
    """Every bank of the network on the chip of this seed; channels on dead tiles are silent."""
    dead = dead_tiles(chip, placement, seed)
    lost = {}
    if dead is not None:
        for bank in network.of(NeuronBank):
            channels = dead_channels(placement.channel_tile[bank.name], dead)
            if channels is not None:
                lost[bank.name] = channels
    return build_banks(network, chip, seed, lost)
