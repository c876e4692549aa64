"""Many processes and Dask give what one process gives; workers that die cost no result."""

from __future__ import annotations

import logging
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sweep_subjects import Troublesome, troubled_spec

from neurosim.cli import main
from neurosim.sweep import load_results, run_sweep
from neurosim.sweep.run import Tally


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes of one thread each."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    quiet = {"silence_logs": logging.CRITICAL, "dashboard_address": None}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **quiet) as found,
    ):
        yield found


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    import distributed

    with distributed.Client(cluster) as found:
        yield found


def monte_carlo(model: Path, chips: int, tokens: int) -> dict[str, Any]:
    return {
        "name": "monte-carlo",
        "models": [str(model)],
        "chips": ["ag_v2c_w"],
        "seeds": {"count": chips},
        "set": {"device.threshold_spread_device": 0.02},
        "quality": {"tokens": tokens},
    }


def timeless(table: pa.Table) -> pa.Table:
    return table.drop_columns(["cpu_s"])


@pytest.fixture(scope="module")
def serial(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """200 chips in this process."""
    table = run_sweep(monte_carlo(tiny_checkpoint, 200, 4), tmp_path_factory.mktemp("serial")).table
    assert table["status"].to_pylist() == ["ok"] * 200
    assert len(set(table["bits_per_byte"].to_pylist())) == 200  # no two chips are alike
    return timeless(table)


def test_200_chips_over_dask_equal_the_serial_result(
    serial: pa.Table, tiny_checkpoint: Path, tmp_path: Path, client: Any
) -> None:
    spec = monte_carlo(tiny_checkpoint, 200, 4)
    result = run_sweep(spec, tmp_path / "out", client=client)
    assert result.tally.finished == 200
    assert timeless(result.table).equals(serial, check_metadata=True)


def test_two_processes_equal_the_serial_result(
    serial: pa.Table, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    result = run_sweep(monte_carlo(tiny_checkpoint, 40, 4), tmp_path / "out", workers=2)
    assert timeless(result.table).equals(serial.slice(0, 40), check_metadata=True)


@pytest.mark.slow
def test_200_chips_of_the_shipped_model_over_dask(tmp_path: Path, client: Any) -> None:
    spec = monte_carlo(Path("shipped"), 200, 4)
    serial = run_sweep(spec, tmp_path / "serial").table
    over_dask = run_sweep(spec, tmp_path / "dask", client=client).table
    assert timeless(over_dask).equals(timeless(serial), check_metadata=True)


def test_a_worker_that_dies_costs_nothing_or_its_own_point(tmp_path: Path) -> None:
    """Seed 1 kills its process whenever it runs, seed 2 once."""
    subject = Troublesome(tmp_path, dies=(1,), dies_once=(2,))
    result = run_sweep(troubled_spec(6), tmp_path / "out", workers=2, subjects=[subject])
    assert (result.tally.finished, result.tally.failed) == (5, 1)
    rows = result.table.to_pylist()
    assert [row["status"] for row in rows] == ["ok", "failed", "ok", "ok", "ok", "ok"]
    assert rows[1]["error"] == "the worker was ended by SIGKILL (out of memory?), 2 times"
    assert rows[2]["bits_per_byte"] == 2.0


def test_interrupted_workers_keep_what_finished_and_are_gone(tmp_path: Path) -> None:
    def progress(tally: Tally) -> None:
        if tally.done == 3:
            raise KeyboardInterrupt

    before = set(multiprocessing.active_children())
    subject = Troublesome(waits=0.02)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(troubled_spec(40), tmp_path / "out", 2, progress=progress, subjects=[subject])
    assert load_results(tmp_path / "out").num_rows == 3
    assert set(multiprocessing.active_children()) == before
    result = run_sweep(troubled_spec(40), tmp_path / "out", subjects=[Troublesome()])
    assert (result.tally.skipped, result.tally.finished) == (3, 37)


@pytest.mark.slow
def test_a_dask_worker_that_dies(tmp_path: Path, client: Any) -> None:
    """The cluster restarts it; a point that kills every worker it is given is recorded."""
    subject = Troublesome(tmp_path, dies=(1,), dies_once=(2,), fails=(3,))
    result = run_sweep(troubled_spec(6), tmp_path / "out", client=client, subjects=[subject])
    rows = result.table.to_pylist()
    assert [row["status"] for row in rows] == ["ok", "failed", "ok", "failed", "ok", "ok"]
    assert rows[1]["error"].startswith("the Dask worker that ran it alone died 2 times")
    assert rows[3]["error"] == "RuntimeError: seed 3 misbehaves"


def test_dask_from_the_command_line(
    cluster: Any, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        f'name = "s"\nmodels = ["{tiny_checkpoint}"]\nchips = ["ideal"]\n[quality]\ntokens = 3\n'
    )
    arguments = ["sweep", str(path), "--out", str(tmp_path / "out"), "--dask"]
    assert main([*arguments, cluster.scheduler_address]) == 0
    assert "1 points finished" in " ".join(capsys.readouterr().out.split())


def test_a_script_without_its_guard_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from neurosim.sweep import run_sweep\n"
        "run_sweep({'name': 's', 'chips': ['ideal'], 'seeds': [0], 'quality': {'tokens': 2}},\n"
        f"          {str(tmp_path / 'out')!r}, workers=2)\n"
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert run.returncode == 1
    assert 'under `if __name__ == "__main__":`' in run.stderr.splitlines()[-1]
