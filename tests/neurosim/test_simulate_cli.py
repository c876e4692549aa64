"""`neurosim simulate`: what it prints and writes, and one line for every wrong word."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from neurosim.cli import main
from neurosim.cli._simulate_report import variation
from neurosim.events.recording import Recording
from neurosim.io.nir import write_nir
from neurosim.populations import LIF, NetworkBuilder, PoissonSource, SpikeSource

SHORT = ["--duration-ms", "20"]
STEPS = [*SHORT, "--engine", "steps"]


def relay(model=None):
    """Input 0 -> cell 0, input 1 -> cell 1, each spike one spike."""
    build = NetworkBuilder()
    silent = SpikeSource(np.zeros(0), np.zeros(0, np.int64))
    source = build.population("source", 2, silent)
    cells = build.population("cells", 2, model or LIF(10e-3, 0.0, 1.0, 0.0))
    build.connect(source, cells, weight=2.0, delay=1e-3, one_to_one=True)
    return build.network()


@pytest.fixture
def nir_file(tmp_path):
    pytest.importorskip("nir", reason="the extra nir is not installed")
    path = tmp_path / "relay.nir"
    write_nir(relay(), path)
    return path


@pytest.fixture
def spikes(tmp_path):
    path = tmp_path / "spikes.csv"
    path.write_text("time_s,neuron\n0.002,0\n0.004,1\n0.009,0\n")
    return path


def run(capsys, *words):
    status = main(["simulate", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


def test_an_example_as_json(capsys):
    status, out, err = run(capsys, "--example", "cuba", "--size", 200, *SHORT, "--json")
    data = json.loads(out)
    assert (status, err) == (0, "")
    assert data["neurons"] == 200 and data["duration_s"] == pytest.approx(0.02)
    assert data["counts"]["spikes"] == sum(p["spikes"] for p in data["populations"].values())
    row = data["populations"]["excitatory"]
    assert row["rate_Hz"] == pytest.approx(row["spikes"] / (160 * 0.02))
    chosen = data["engines"][data["engine"]]["predicted_cpu_s_per_s"]
    costs = [e["predicted_cpu_s_per_s"] for e in data["engines"].values() if "refused" not in e]
    assert chosen == min(costs)
    assert data["rtf"] == pytest.approx(data["cpu_s"]["run"] / 0.02)


def test_a_nir_file_with_spikes_from_a_table_and_everything_written(
    capsys, nir_file, spikes, tmp_path
):
    out = tmp_path / "out"
    words = (nir_file, "--input", spikes, *STEPS, "--out", out, "--trace", "cells:1,0")
    status, text, _ = run(capsys, *words)
    assert status == 0 and "note: read as continuous time" in text
    names = {path.name for path in out.iterdir()}
    pictures = {f"{name}.{kind}" for name in ("raster", "traces") for kind in ("svg", "png")}
    assert names == {"report.json", "events.parquet", "traces.parquet"} | pictures
    table = pq.read_table(out / "events.parquet")
    assert table.schema.field("time_s").metadata[b"unit"] == b"s"
    rows = [tuple(row.values()) for row in table.to_pylist()]
    wanted = [(0.002, 0), (0.004, 1), (0.009, 0)]
    for name, late in (("source", 0.0), ("cells", 1e-3)):
        found = [(t, n) for t, n, layer, _, _ in rows if layer == name]
        np.testing.assert_allclose(found, [(t + late, n) for t, n in wanted], atol=1e-9)
    assert {row[3:] for row in rows} == {("spike", None)}
    samples = pq.read_table(out / "traces.parquet")
    assert samples.column_names == ["time_s", "layer", "neuron", "voltage_V"]
    assert set(samples["neuron"].to_pylist()) == {0, 1}
    again = tmp_path / "again"  # our own events feed another simulation
    words = (nir_file, "--input", f"source={out / 'events.parquet'}:source", *STEPS, "--out", again)
    assert run(capsys, *words)[0] == 0
    assert pq.read_table(again / "events.parquet").equals(table)


def test_poisson_input_and_a_function_of_ones_own(capsys, tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(
        "from neurosim.populations import *\n"
        "def chain(size=10, seed=0):\n"
        "    build = NetworkBuilder(seed)\n"
        "    noise = build.population('noise', size, PoissonSource(500.0))\n"
        "    cells = build.population('cells', size, LIF(10e-3, 0.0, 1.0, 0.0))\n"
        "    build.connect(noise, cells, weight=2.0, delay=1e-3, one_to_one=True)\n"
        "    return build\n"
        "def wrong():\n"
        "    return 3\n"
        "def broken():\n"
        "    return 1 / 0\n"
    )
    (tmp_path / "my_torn_net.py").write_text("x = nothing\n")
    monkeypatch.chdir(tmp_path)
    own = ("--example", "my_networks:chain", *STEPS, "--json")
    data = [json.loads(run(capsys, *own, "--size", 30, "--seed", seed)[1]) for seed in (1, 1, 2)]
    assert data[0]["populations"] == data[1]["populations"] != data[2]["populations"]
    assert data[0]["populations"]["noise"]["neurons"] == 30
    for name, message in (
        ("my_networks:wrong", "expected it to return a SpikingNetwork"),
        ("my_networks:none", "has no function 'none'"),
        ("my_nets:none", "my_nets cannot be imported"),
        ("my_torn_net:none", "my_torn_net cannot be imported (NameError: name 'nothing'"),
        ("my_networks:", 'expected "module:function", got'),
        ("my_networks:broken", "my_networks:broken failed: ZeroDivisionError: division by zero"),
    ):
        status, out, err = run(capsys, "--example", name, *SHORT)
        assert (status, out, err.count("\n")) == (2, "", 1) and message in err


WRONG = {
    "nothing": ([], "expected a FILE.nir or --example NAME"),
    "unknown example": (["--example", "cubs"], "expected an example cuba, coba, brunel"),
    "no file": (["none.nir"], "none.nir: no such file"),
    "size of a file": (["FILE", "--size", "9"], "--size is for examples"),
    "engine": (["--example", "cuba", "--engine", "warp"], "expected engine auto"),
    "precision": (["--example", "cuba", "--precision", "half"], 'expected precision "float64"'),
    "duration": (["--example", "cuba", "--duration-ms", "-1"], "expected a duration > 0 s"),
    "step": (["--example", "cuba", "--step-ms", "nan"], "expected --step-ms > 0 ms"),
    "no step": (["--example", "cuba", "--step-ms", "0"], "expected --step-ms > 0 ms, got 0"),
    "no trace step": (["--example", "cuba", "--trace-step-ms", "0"], "--trace-step-ms > 0 ms"),
    "good export, bad engine": (
        ["FILE", "--export-nir", "x.nir", "--engine", "warp"], "expected engine auto"
    ),
    "good export, bad duration": (
        ["FILE", "--export-nir", "x.nir", "--duration-ms", "0"], "expected a duration > 0 s"
    ),
    "threads": (["--example", "cuba", "--threads", "0"], "at least 1 thread"),
    "tiny": (["--example", "cuba", "--size", "2"], "--size of at least 5 neurons"),
    "trace": (["--example", "cuba", "--trace", "excitatory"], "expected POPULATION:0,1,2"),
    "trace number": (["--example", "cuba", "--trace", "excitatory:9999"], "neurons 0..3199"),
    "trace name": (["--example", "cuba", "--trace", "cells:0"], "expected a population out of"),
    "input name": (["FILE", "--input", "other=a.csv"], "an input out of source"),
    "input file": (["FILE", "--input", "a.csv"], "a.csv: no such file"),
    "input neuron": (["FILE", "--input", "SPIKES9"], "expected spikes of neurons 0..1, got 9..9"),
    "rate": (["--example", "cuba", "--rate", "5"], "has no inputs to drive"),
    "negative rate": (["FILE", "--rate", "-5"], "PoissonSource.rate: expected"),
    "two clocks": (["FILE", "--nir-step-ms", "1", "--step-ms", "0.5"], "leave out --step-ms"),
    "export": (["--example", "cuba", "--export-nir", "x.nir"], "NIR cannot express this network"),
    "sanafe": (["--example", "brunel", "--size", "50", "--export-sanafe", "x"], "SANA-FE cannot"),
}  # fmt: skip


@pytest.mark.parametrize("words, message", WRONG.values(), ids=WRONG)
def test_wrong_words_give_one_line(words, message, capsys, nir_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nine.csv").write_text("time_s,neuron\n0.001,9\n")
    before = sorted(tmp_path.iterdir())
    named = {"FILE": str(nir_file), "SPIKES9": "nine.csv"}
    status, out, err = run(capsys, *(named.get(word, word) for word in words), "--json")
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("neurosim simulate: ") and message in err
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_left_of_an_output_that_fails(capsys, tmp_path, monkeypatch):
    from neurosim.cli import _simulate_plots

    def full(figure, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_simulate_plots, "save", full)
    out = tmp_path / "out"
    status, _, err = run(capsys, "--example", "cuba", "--size", 50, *SHORT, "--out", out)
    assert status == 2 and "No space left" in err and not out.exists()


def test_exports_of_a_network_that_runs(capsys, nir_file, spikes, tmp_path):
    pytest.importorskip("yaml")
    words = ("--export-nir", tmp_path / "b.nir", "--export-sanafe", tmp_path / "sanafe")
    status, out, _ = run(capsys, nir_file, "--input", spikes, *STEPS, "--step-ms", 1, *words)
    assert status == 0 and out.count("\nwrote") == 2, out
    assert {p.name for p in (tmp_path / "sanafe").iterdir()} == {
        "architecture.yaml",
        "network.yaml",
    }
    first, second = (json.loads(run(capsys, path, "--input", spikes, *STEPS, "--json")[1])
                     for path in (nir_file, tmp_path / "b.nir"))  # fmt: skip
    assert first["populations"] == second["populations"]


def test_a_checkpoint_goes_on_where_it_was(capsys, tmp_path):
    base = ("--example", "cuba", "--size", 100, "--json")
    whole = json.loads(run(capsys, *base, "--duration-ms", 40)[1])
    file = ("--checkpoint", tmp_path / "state.npz")
    run(capsys, *base, *file, "--duration-ms", 15)
    resumed = json.loads(run(capsys, *base, *file, "--duration-ms", 40)[1])
    assert resumed["populations"] == whole["populations"]
    status, _, err = run(capsys, *base, *file, "--duration-ms", 40, "--seed", 3)
    assert status == 2 and "expected a checkpoint of this network" in err


def test_variation_of_intervals():
    build = NetworkBuilder()
    build.population("cells", 4, PoissonSource(1.0))
    times = np.concatenate([np.arange(5) * 0.1, [0.0, 0.1, 0.3, 0.4, 0.6], [0.2, 0.3]])
    neurons = np.repeat([0, 2, 3], [5, 5, 2])
    order = np.lexsort((neurons, times))
    recording = Recording(build.network(), "none", 1.0, times[order], neurons[order], {})
    gaps = np.array([0.1, 0.2, 0.1, 0.2])
    cv, count = variation(recording, "cells")
    assert count == 2
    assert cv == pytest.approx((0.0 + gaps.std() / gaps.mean()) / 2)
    empty = Recording(build.network(), "none", 1.0, times[:0], neurons[:0], {})
    assert variation(empty, "cells") == (None, 0)
