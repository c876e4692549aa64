"""What a non-ideality of crossbars does to weights and text: `python -m benchmarks.weight_errors`.

For every setting of the chip (arguments KEY=VALUE[,KEY=VALUE], or those of docs/chip.md) the
programmed weights w' are split into a gain and an error per crossbar, w' = gain w + error. Printed,
as JSON lines: the mean gain, the error's root mean square and largest value in units of the rms
weight, both over all crossbars; bits per byte on the test split as it is, after dividing every
crossbar by its gain (one number per crossbar), and with the errors of the head alone and of all
crossbars but the head.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.chip import ChipDescription, load_chip, parse_values, with_values
from neurosim.events.engine import Simulator
from neurosim.kernels import fast_blas
from neurosim.models.checkpoint import DEFAULT, LoadedModel, load
from neurosim.models.evaluation import bits_per_byte
from neurosim.models.held_out import test_stream
from neurosim.network import Crossbar, DelayCrossbar, Network
from neurosim.pipeline import spiking, text_losses
from neurosim.profiling.environment import restart

TOKENS, SEED, HEAD = 1024, 0, "head"
SETTINGS = (
    "crossbar.conductance_levels=8",
    "crossbar.conductance_levels=16",
    "crossbar.programming_error=0.5",
    "crossbar.programming_error=1.0",
    "crossbar.drift_spread=0.03",
    "crossbar.drift_exponent=0.01",
    "crossbar.drift_exponent=0.03",
    "crossbar.drift_exponent=0.1",
    "crossbar.stuck_low=0.03",
    "crossbar.stuck_low=0.1",
    "crossbar.stuck_high=0.0003",
    "crossbar.stuck_high=0.001",
    "crossbar.wire_resistance=0.1",
    "crossbar.wire_resistance=1.0",
)


def _weight(network: Network, name: str) -> npt.NDArray[np.float64]:
    """What a crossbar should hold, (I, O)."""
    node = network[name]
    assert isinstance(node, Crossbar | DelayCrossbar)
    return node.weight.astype(np.float64)


def _errors(simulator: Simulator, network: Network) -> dict[str, float]:
    """Gains and errors of the programmed weights."""
    gains, squares, largest = [], 0.0, 0.0
    cells = 0
    for name, programmed in simulator.crossbars.items():
        wanted = _weight(network, name)
        held = programmed.weight.astype(np.float64)
        gain = float((wanted * held).sum() / (wanted * wanted).sum())
        error = (held - gain * wanted) / np.sqrt((wanted * wanted).mean())
        gains.append(gain)
        squares += float((error * error).sum())
        largest = max(largest, float(np.abs(error).max()))
        cells += wanted.size
    return {
        "gain": round(float(np.mean(gains)), 4),
        "lowest_gain": round(min(gains), 4),
        "error_rms": round(float(np.sqrt(squares / cells)), 4),
        "error_largest": round(largest, 2),
    }


class _Bench:
    """One programmed chip whose weights are changed in place between readings of the text."""

    def __init__(self, network: Network, chip: ChipDescription, loaded: LoadedModel) -> None:
        self.network, self._loaded = network, loaded
        self.simulator = Simulator(network, chip, SEED)
        self._stream = test_stream(loaded.tokenizer)[: TOKENS + 1]
        self._held = {name: one.weight.copy() for name, one in self.simulator.crossbars.items()}

    def bits_per_byte(self, kept: Callable[[str], bool], restored: bool = False) -> float:
        """Quality with the errors of the crossbars `kept` only, `restored`: without their gain."""
        for name, programmed in self.simulator.crossbars.items():
            held, wanted = self._held[name], _weight(self.network, name)
            gain = (wanted * held).sum() / (wanted * wanted).sum() if restored else 1.0
            programmed.weight[:] = held / gain if kept(name) else wanted
        text = self._loaded.model.config.context
        losses, targets = text_losses(self.simulator, self._stream, text)
        return round(bits_per_byte(losses, targets, self._loaded.tokenizer), 4)


def main() -> None:
    """Print a JSON line a setting."""
    restart([sys.executable, "-m", "benchmarks.weight_errors", *sys.argv[1:]], 1)
    fast_blas.enable()
    loaded = load(DEFAULT)
    network = spiking(loaded).lower()
    for setting in sys.argv[1:] or SETTINGS:
        values = parse_values(setting.split(","))
        bench = _Bench(network, with_values(load_chip("ag_v2c_w_clean"), values), loaded)
        line: dict[str, Any] = {"setting": setting, **_errors(bench.simulator, network)}
        line["bits_per_byte"] = bench.bits_per_byte(lambda name: True)
        line["gain_restored"] = bench.bits_per_byte(lambda name: True, restored=True)
        line["head_alone"] = bench.bits_per_byte(lambda name: name == HEAD)
        line["all_but_head"] = bench.bits_per_byte(lambda name: name != HEAD)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
