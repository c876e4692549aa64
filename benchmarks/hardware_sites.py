"""Where a chip's disturbances cost quality: one kind of bank or crossbar disturbed at a time.

    python -m benchmarks.hardware_sites [--model FOLDER] [--windows 16] [--draws 8]

Bits per byte lost on the first windows of the test split, mean and standard error over draws; one
draw is a chip for every window. The neurons and crossbars are those of hardware-aware training
(models/training/hardware.py), which see many chips at once; tests hold them to the chip's. The
integer grid is the chip's, so the undisturbed loss is `neurosim eval`'s but for rounding.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import mlx.core as mx
import numpy as np
from mlx.utils import tree_unflatten

from neurosim.chip import load_chip
from neurosim.chip.training_noise import training_noise
from neurosim.kernels import fast_blas
from neurosim.models.checkpoint import DEFAULT, LoadedModel, load
from neurosim.models.evaluation import bits_per_byte, log_softmax
from neurosim.models.held_out import test_stream
from neurosim.models.spike_transformer import WEIGHTS, SpikeTransformer
from neurosim.models.training.hardware import HardwareDraw, HardwareNoise
from neurosim.models.training.loop import rounded_to_grid

SITES = (
    "conv_read", "attention_read", "query_neurons", "key_neurons", "value_neurons",
    "output_neurons", "hidden_read", "hidden_neurons", "head_read",
)  # fmt: skip
SPREAD = 0.1374  # 10 % of V_th over the climb from V_h, as in benchmarks/sweeps/hardware_aware.toml


def measured(
    loaded: LoadedModel, noise: HardwareNoise, sites: set[str], windows: int, draw: int
) -> float:
    """Bits per byte of one draw; `sites`: the last part of the names of what is disturbed."""
    model = loaded.model
    assert isinstance(model, SpikeTransformer)
    size = model.config.context
    stream = test_stream(loaded.tokenizer)[: windows * size + 1].astype(np.int64)
    rows = np.stack([stream[i * size : (i + 1) * size] for i in range(windows)])
    targets = stream[1:]
    grid = rounded_to_grid(model)
    chips = HardwareDraw(noise, (draw,))
    held = chips.weights(model, grid)
    chosen = {name: held[name] for name in held if name.rsplit(".", 1)[-1] in sites}
    model.update(tree_unflatten(list({**grid, **chosen}.items())))
    with chips.install(model, grid, windows):
        for path, module in model.named_modules():
            if hasattr(module, "disturb") and path.rsplit(".", 1)[-1] not in sites:
                module.disturb = None
        for block in model.blocks:
            block.reader = None
        model.reader = None
        logits = np.asarray(model(mx.array(rows.astype(np.int32))))
    model.update(tree_unflatten(list(grid.items())))
    log_p = log_softmax(logits).reshape(len(targets), -1)
    losses = -np.take_along_axis(log_p, targets[:, None], axis=-1)[:, 0]
    return bits_per_byte(losses, targets, loaded.tokenizer)


def cases() -> Iterator[tuple[str, HardwareNoise, tuple[str, ...]]]:
    """(what, noise, the sites it may be at)."""
    chip = HardwareNoise.from_dict(training_noise(load_chip("ag_v2c_w")))
    quiet = HardwareNoise(headroom=chip.headroom)
    yield "V_th D2D 10 %", replace(quiet, threshold_device=SPREAD), SITES
    yield "V_th C2C 10 %", replace(quiet, threshold_cycle=SPREAD), SITES
    errors = replace(
        quiet,
        programming_error=chip.programming_error,
        programming_curve=chip.programming_curve,
        g_min=chip.g_min,
    )
    yield "programming error", errors, (*WEIGHTS, "head")


def main() -> None:
    """Print one line per site."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(DEFAULT))
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--draws", type=int, default=8)
    options = parser.parse_args()
    fast_blas.enable()
    loaded = load(options.model)
    loaded.model.eval()
    ideal = measured(loaded, HardwareNoise(), set(), options.windows, 0)
    print(f"undisturbed {ideal:.4f} bits per byte, {options.windows} windows", flush=True)
    for what, noise, sites in cases():
        for name in (*sites, "all"):
            chosen = set(sites) if name == "all" else {name}
            lost = [
                measured(loaded, noise, chosen, options.windows, draw) - ideal
                for draw in range(options.draws)
            ]
            error = np.std(lost) / np.sqrt(max(len(lost) - 1, 1))
            print(f"{what:18s} {name:16s} {np.mean(lost):+.4f} +- {error:.4f}", flush=True)


if __name__ == "__main__":
    main()
