"""NIR files of snnTorch, Norse and SpikingJelly: read, and run like the framework's forward pass.

Their step n is our tick n + 1: at the first one, decay and bias have acted once. A layer with
synaptic currents answers a tick later than theirs, which read the current within the step.
"""

from __future__ import annotations

import framework_exports
import numpy as np
import pytest
from clock_reference import spike_trains
from framework_exports import Export

pytest.importorskip("nir", reason="the extra nir is not installed")

from neurosim.events.simulate import Options, simulate
from neurosim.io.nir import read_nir
from neurosim.populations import SpikeSource

LAG = {"snntorch": {}, "recurrent": {}, "norse": {"3": 1, "5": 1}, "spikingjelly": {"_7": 1}}
SIZES = {
    "snntorch": {"input": 12, "1": 15, "3": 6},
    "recurrent": {"input": 12, "1.lif": 10, "3": 4},
    "norse": {"input": 12, "1": 15, "3": 10, "5": 4},
    "spikingjelly": {"input_1": 128, "_1": 48, "_5": 8, "_7": 5},
}


def imported(export, folder, **options):
    path = folder / "network.nir"
    path.write_bytes(export.file.tobytes())
    return read_nir(path, time_step=export.time_step, **options)


def compare(name, export, folder):
    """Every spike of every layer, and the readout's voltage."""
    found = imported(export, folder, hop_delay=0.0)
    assert {p.name: p.size for p in found.network} == SIZES[name]
    before = np.zeros((1, export.spikes_in.shape[1]))
    spikes_in = np.concatenate([before, export.spikes_in])
    spikes, voltages = spike_trains(
        found.network, {found.inputs[0]: spikes_in}, export.time_step, len(spikes_in)
    )
    for layer, wanted in export.layers.items():
        lag = LAG[name].get(layer, 0)
        until = len(wanted) - lag
        if np.isinf(found.network[layer].parameter("threshold_voltage")).all():
            late = voltages[layer][1 + lag :]
            assert abs(late - wanted[:until])[30:].max() < 1e-3 * abs(wanted).max()
        else:
            assert wanted.any()
            np.testing.assert_array_equal(spikes[layer][1 + lag :], wanted[:until])


@pytest.mark.parametrize("name", sorted(LAG))
def test_stored_exports_run_spike_for_spike(name, tmp_path):
    compare(name, Export.load(name), tmp_path)


@pytest.mark.parametrize("name", sorted(LAG))
def test_engine_steps_runs_them_later_by_the_lags(name, tmp_path):
    """With a step for each hop; a layer that cannot start later differs in its first spikes."""
    export = Export.load(name)
    step = export.time_step
    found = imported(export, tmp_path)
    ticks, neurons = np.nonzero(export.spikes_in)
    driven = found.with_inputs({found.inputs[0]: SpikeSource((ticks + 1) * step, neurons)})
    total = len(export.spikes_in) + 8
    options = Options(time_step=step)
    recording = simulate(driven.network, total * step, engine="steps", options=options)
    for layer, wanted in export.layers.items():
        if np.isinf(found.network[layer].parameter("threshold_voltage")).all():
            continue
        times, who = recording.spikes(layer)
        spikes = np.zeros((total + 1, wanted.shape[1]))
        spikes[np.rint(times / step).astype(int), who] = 1.0
        first = 1 + round(found.lags[layer] / step) + LAG[name].get(layer, 0)
        differing = np.nonzero(spikes[first : first + len(wanted)] != wanted)[0]
        late_start = any(note.startswith(f"{layer} starts at 0 s") for note in found.notes)
        assert differing.max(initial=-1) < (5 if late_start else 0)


@pytest.mark.parametrize("name", sorted(LAG))
def test_fresh_exports_run_spike_for_spike(name, tmp_path):
    package = "snntorch" if name == "recurrent" else name
    pytest.importorskip(package, reason=f"no {package} here; its stored export is tested")
    compare(name, getattr(framework_exports, name)(), tmp_path)


def test_what_snntorch_does_not_write():
    """A reset in the next step gives the same spikes; reset by subtraction is not in its file."""
    pytest.importorskip("snntorch", reason="snntorch is not installed here")
    prompt = framework_exports.snntorch()
    late, subtracts = (
        framework_exports.snntorch(reset, reset_delay=True) for reset in ("zero", "subtract")
    )
    np.testing.assert_array_equal(late.layers["1"], prompt.layers["1"])
    assert subtracts.layers["1"].sum() > prompt.layers["1"].sum()
    for other in (late, subtracts):
        np.testing.assert_array_equal(other.file, prompt.file)


def test_continuous_time_reads_the_same_weights_as_other_jumps(tmp_path):
    export = Export.load("snntorch")
    path = tmp_path / "network.nir"
    path.write_bytes(export.file.tobytes())
    clocked, continuous = read_nir(path, time_step=export.time_step), read_nir(path)
    jumps = [found.network.projections[0].synapses.weight for found in (clocked, continuous)]
    np.testing.assert_allclose(jumps[1] * export.time_step, jumps[0], rtol=1e-6)
    assert "time step" in continuous.notes[0]
