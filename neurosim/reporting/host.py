"""Joules of the host that simulates: measured, and shown apart from everything modelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurosim.chip.description import ChipDescription
from neurosim.energy.measured import measure
from neurosim.events.engine import Simulator
from neurosim.models.checkpoint import LoadedModel, load
from neurosim.pipeline import spiking

_TOKENS = 20


def measure_host(model: str | Path | LoadedModel, chip: ChipDescription) -> dict[str, Any]:
    """Energy the host needs to simulate a token; ValueError where there is no sensor."""
    loaded = model if isinstance(model, LoadedModel) else load(model)
    simulator = Simulator(spiking(loaded).lower(), chip, 0)

    def run() -> int:
        simulator.forget()
        for token in range(_TOKENS):
            simulator.step(token)
        return _TOKENS

    return measure(run).to_dict()
