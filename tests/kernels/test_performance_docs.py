"""docs/kernels.md: its example runs, and it names every public kernel and algorithm."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from neurosim import kernels
from neurosim.cli.profile import add_arguments
from neurosim.kernels.spike_linear._cost import ALGORITHMS
from neurosim.profiling import m1

PAGE = (Path(__file__).resolve().parents[2] / "docs/kernels.md").read_text()


def test_the_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    found: dict[str, object] = {}
    exec(code, found)
    sums, layer, out = found["sums"], found["layer"], found["out"]
    assert isinstance(sums, np.ndarray) and (sums.shape, sums.dtype) == ((256, 4, 256), np.int32)
    assert isinstance(layer, kernels.PackedSpikes) and layer.shape == (256, 4, 256)
    assert 0 < layer.density < 1
    assert isinstance(out, np.ndarray) and out.shape == (8, 512, 64)


def test_every_kernel_and_algorithm_is_named() -> None:
    for name in {*kernels.__all__} - {"Neuron"}:
        assert f"`{name}`" in PAGE or f"neurosim.kernels.{name}()" in PAGE, name
    for algorithm in ALGORITHMS:
        assert f"| `{algorithm}` |" in PAGE


def test_options_that_it_shows_exist() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    known = {option for action in parser._actions for option in action.option_strings}
    shown = {
        word
        for line in re.findall(r"neurosim profile[^`\n|]*", PAGE)
        for word in re.findall(r"--[a-z]+", line)
    }
    assert shown - known == set()
    assert shown >= {"--density", "--shape", "--algo", "--plot", "--json", "--model", "--list"}


def test_the_prediction_uses_the_numbers_it_names() -> None:
    assert (m1.M1.bandwidth, m1.M1.lanes, m1.M1.clock) == (68e9, 8 * 128, 1.278e9)
    assert "68 GB/s, cycles / (8 cores x 128 lanes x 1.278 GHz)" in PAGE
