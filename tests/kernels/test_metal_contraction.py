"""Spiking neurons in Metal keep their bits where the compiler fuses products and sums.

Metal may contract a b + c to one operation that rounds once; the emulator's compiler does not, so
that it would not notice an unprotected product. Here it is told to.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lif_cases import NEURONS, inputs

from neurosim.kernels import Neuron, lif_scan, pack, spike_linear_lif
from neurosim.kernels.metal_emulator import _compile, unavailable

X86 = platform.machine() == "x86_64"


def _fuses() -> bool:
    return not X86 or " fma " in Path("/proc/cpuinfo").read_text()


pytestmark = pytest.mark.skipif(
    unavailable() is not None or not _fuses(), reason="needs the emulator and fused operations"
)


@pytest.fixture
def contracting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels compiled with contraction, in a cache of their own."""
    more = ("-ffp-contract=fast", "-fexpensive-optimizations", *(["-mfma"] if X86 else []))
    monkeypatch.setattr(_compile, "_KERNEL_OPTIONS", (*_compile._KERNEL_OPTIONS, *more))
    monkeypatch.setenv("NEUROSIM_CACHE", str(tmp_path))
    _compile._fingerprint.cache_clear()
    yield
    _compile._fingerprint.cache_clear()


@pytest.mark.usefixtures("contracting")
@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
def test_scan(neuron: Neuron) -> None:
    x, parts = inputs((4, 3, 65), 1)
    scales = parts["threshold"], parts["decay"], parts["gain"], neuron, parts["state"]
    wanted = lif_scan(x, *scales, save_membrane=True, backend="reference")
    found = lif_scan(x, *scales, save_membrane=True, backend="metal-emulated")
    np.testing.assert_array_equal(found.membrane, wanted.membrane)
    np.testing.assert_array_equal(found.spikes, wanted.spikes)
    np.testing.assert_array_equal(found.state, wanted.state)


@pytest.mark.usefixtures("contracting")
@pytest.mark.parametrize("neuron", [Neuron(), Neuron(levels=3)], ids=repr)
def test_fused_layer(neuron: Neuron) -> None:
    rng = np.random.default_rng(2)
    spikes = pack(rng.random((4, 2, 40)) < 0.3, time_axis=0)
    weight = rng.normal(size=(40, 33)).astype(np.float32)
    edge, decay, gain = rng.random((3, 33)).astype(np.float32) + np.float32(0.3)
    wanted = spike_linear_lif(
        spikes, weight, edge, decay, gain, neuron, save_membrane=True, backend="reference"
    )
    found = spike_linear_lif(
        spikes, weight, edge, decay, gain, neuron, save_membrane=True, backend="metal-emulated"
    )
    np.testing.assert_array_equal(found.membrane, wanted.membrane)
    np.testing.assert_array_equal(found.state, wanted.state)
