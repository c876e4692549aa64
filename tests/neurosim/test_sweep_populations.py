"""Networks of populations in a sweep: equal to `simulate`, with their parameters and NIR files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from neurosim.events.simulate import Options, simulate
from neurosim.populations import LIF, NetworkBuilder, SpikingNetwork, brunel
from neurosim.sweep import SweepSpec, run_sweep
from neurosim.sweep.figure import plot
from neurosim.sweep.summary import summarise

BUILD = "neurosim.populations:brunel"


def spec(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": "net",
        "seeds": [0, 1],
        "network": {"build": BUILD, "duration": 0.1},
        "parameters": {"gain": [4.0, 7.0]},
        "set": {"size": 100},
    }
    return {**data, **changes}


def test_rates_and_counts_are_those_of_simulate(tmp_path: Path) -> None:
    rows = run_sweep(spec(), tmp_path / "out").table.to_pylist()
    assert [(row["gain"], row["seed"]) for row in rows] == [(4, 0), (4, 1), (7, 0), (7, 1)]
    for row in rows:
        network = brunel(100, row["seed"], gain=row["gain"])
        found = simulate(network, 0.1, options=Options(seed=row["seed"]))
        assert row["rate.excitatory"] == found.rate("excitatory")
        gaps = found.intervals("excitatory")
        assert row["cv.excitatory"] == pytest.approx(np.std(gaps) / np.mean(gaps), rel=1e-12)
        assert row["count.spikes"] == len(found.times)
        assert (row["engine"], row["simulated_s"]) == (found.engine, 0.1)
    assert len({row["count.spikes"] for row in rows}) > 1


@pytest.mark.parametrize(
    "chosen",
    [
        {"engine": "steps", "time_step": 5e-4, "precision": "float32"},
        {"engine": "bitmap", "time_step": 2.5e-4},
        {"engine": "calendar"},
    ],
    ids=lambda chosen: chosen["engine"],
)
def test_engine_step_and_precision_are_those_of_the_file(
    chosen: dict[str, Any], tmp_path: Path
) -> None:
    network = {"build": BUILD, "duration": 0.05, **chosen}
    data = spec(network=network, seeds=[1], parameters={"gain": [4.0]})
    (row,) = run_sweep(data, tmp_path / "out").table.to_pylist()
    engine = chosen.pop("engine")
    options = Options(seed=1, **chosen)
    found = simulate(brunel(100, 1, gain=4.0), 0.05, engine=engine, options=options)
    counts = {f"count.{name}": value for name, value in found.counts.items()}
    assert {key: row[key] for key in counts} == counts
    assert row["engine"] == engine and row["rate.inhibitory"] == found.rate("inhibitory") > 0.0


def test_on_processes_and_resumed_it_is_the_same(tmp_path: Path) -> None:
    def timeless(table: pa.Table) -> pa.Table:
        return table.drop_columns(["cpu_s"])

    whole = timeless(run_sweep(spec(), tmp_path / "here").table)
    run_sweep(spec(seeds=[1]), tmp_path / "there", workers=2)
    rest = run_sweep(spec(), tmp_path / "there")
    assert (rest.tally.skipped, rest.tally.finished, rest.tally.unit) == (2, 2, "simulated seconds")
    assert timeless(rest.table).equals(whole, check_metadata=True)
    assert whole.schema.field("rate.excitatory").metadata[b"unit"] == b"Hz"


def test_a_builder_beside_the_file(tmp_path: Path) -> None:
    """Its text is part of every point's identity: changed, it is another sweep."""
    module = tmp_path / "my_net_of_the_sweep_test.py"
    text = (
        "from neurosim.populations import LIF, NetworkBuilder, PoissonSource\n"
        "def build(rate=100.0, weight=0.03):\n"
        "    net = NetworkBuilder(0)\n"
        "    source = net.population('source', 5, PoissonSource(rate))\n"
        "    cell = net.population('cell', 5, LIF())\n"
        "    net.connect(source, cell, weight=weight, delay=1e-3, receptor='voltage')\n"
        "    return net\n"
    )
    module.write_text(text)
    path = tmp_path / "s.toml"
    path.write_text(
        'name = "n"\n[network]\nbuild = "my_net_of_the_sweep_test:build"\nduration = 0.1\n'
        "[parameters]\nrate = [0.0, 1000.0]\n"
    )
    silent, driven = run_sweep(path, tmp_path / "out").table.to_pylist()
    assert silent["rate.cell"] == 0.0 < driven["rate.cell"]
    assert silent["cv.cell"] is None
    module.write_text(text + "# changed\n")
    with pytest.raises(ValueError, match="points of another sweep"):
        run_sweep(path, tmp_path / "out")


def test_a_nir_file_driven_at_several_rates(tmp_path: Path) -> None:
    pytest.importorskip("nir")
    from neurosim.io.nir import write_nir
    from neurosim.populations import SpikeSource

    build = NetworkBuilder(0)
    source = build.population("input", 4, SpikeSource(np.zeros(0), np.zeros(0, np.int64)))
    cell = build.population("cell", 4, LIF())
    build.connect(source, cell, weight=0.03, delay=1e-3, receptor="voltage")
    write_nir(build.network(), tmp_path / "net.nir")
    data = spec(
        network={"file": "net.nir", "duration": 0.1}, set={}, parameters={"rate": [0.0, 800.0]}
    )
    result = run_sweep(SweepSpec.from_dict(data, folder=tmp_path), tmp_path / "out")
    rows = result.table.to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 4, rows[0]["error"]
    assert [row["rate.cell"] > 0.0 for row in rows] == [False, False, True, True]
    for row in rows:  # 4 trains of 0.1 s
        assert row["rate.input"] == pytest.approx(row["rate"], abs=5.0 * (800.0 / 0.4) ** 0.5)
    assert result.table.schema.field("rate").metadata[b"unit"] == b"Hz"


def test_table_and_plot(tmp_path: Path) -> None:
    run_sweep(spec(), tmp_path / "out")
    summary = summarise(tmp_path / "out")
    headings, cells = summary.rows()
    assert headings[:3] == ["gain", "seeds", "rate.excitatory"]
    assert " Hz" in cells[0][2]
    plot(summary, tmp_path / "p.svg")
    assert "<svg" in (tmp_path / "p.svg").read_text()


def clashing(tokens: int) -> int:
    return tokens


def not_a_network(seed: int) -> int:
    return seed


def test_what_the_builder_returns_is_checked(tmp_path: Path) -> None:
    network = {"build": f"{__name__}:not_a_network", "duration": 0.1}
    row = run_sweep(spec(network=network, set={}, parameters={}), tmp_path / "o").table.to_pylist()
    assert "expected it to return a SpikingNetwork" in row[0]["error"]
    assert not isinstance(not_a_network(0), SpikingNetwork)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"network": {"duration": 1.0}}, "network: expected build = "),
        ({"network": {"build": BUILD}}, "network: missing duration"),
        ({"network": {"build": "brunel", "duration": 1}}, 'network.build: expected "module:func'),
        ({"network": {"build": "no_such:f", "duration": 1}}, "no_such cannot be imported"),
        ({"network": {"build": BUILD + "s", "duration": 1}}, "has no function 'brunels'"),
        ({"network": {"file": "no.nir", "duration": 1}}, "no.nir"),
        ({"network": {"build": BUILD, "duration": -1}}, "network.duration: expected a finite"),
        (
            {"network": {"build": BUILD, "duration": 1, "engine": "x"}},
            "network.engine: expected one of auto, ",
        ),
        ({"network": {"build": BUILD, "duration": 1, "precision": "half"}}, "network.precision"),
        ({"parameters": {"gian": [1.0]}}, "takes no parameter 'gian'; known: gain, size"),
        (
            {
                "network": {"build": f"{__name__}:clashing", "duration": 1},
                "set": {},
                "parameters": {"tokens": [1]},
            },
            "a parameter called 'tokens' would hide a column",
        ),
        ({"parameters": {"seed": [1]}}, "takes no parameter 'seed'"),
        ({"chips": ["ideal"]}, "chips: expected a list of chips for language models and none"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], part: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        run_sweep(spec(**changes), tmp_path / "out")
    assert part in str(caught.value)
    assert not (tmp_path / "out").exists()
