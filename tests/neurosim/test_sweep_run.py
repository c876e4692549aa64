"""Running a sweep: what a point measures, resuming, failures, and folders that are not ours."""

from __future__ import annotations

import errno
import fcntl
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sweep_subjects import Troublesome, troubled_spec

from neurosim.chip import load_chip
from neurosim.chip.values import with_values
from neurosim.models.checkpoint import load
from neurosim.models.sampling import Sampler
from neurosim.models.text.corpus import sample_documents
from neurosim.models.text.tokenizer import token_stream
from neurosim.pipeline import chip_bits_per_byte, run, spiking
from neurosim.sweep import SweepResult, load_results, run_sweep, store
from neurosim.sweep.run import Tally

NOISE = "crossbar.read_noise"


def spec(model: Path, **changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": "tiny",
        "models": [str(model)],
        "chips": ["ag_v2c_w"],
        "seeds": [3, 4],
        "parameters": {NOISE: [0.0, 0.1]},
        "quality": {"tokens": 12},
    }
    return {**data, **changes}


def timeless(table: pa.Table) -> pa.Table:
    """Everything but the time it took."""
    return table.drop_columns(["cpu_s"])


def test_quality_is_that_of_the_pipeline(tiny_checkpoint: Path, tmp_path: Path) -> None:
    loaded = load(tiny_checkpoint)
    network = spiking(loaded).lower()
    stream = token_stream(sample_documents(), loaded.tokenizer, 0)[:13]
    rows = run_sweep(spec(tiny_checkpoint), tmp_path / "out").table.to_pylist()
    assert [(row[NOISE], row["seed"]) for row in rows] == [(0.0, 3), (0.0, 4), (0.1, 3), (0.1, 4)]
    for row in rows:
        chip = with_values(load_chip("ag_v2c_w"), {NOISE: row[NOISE]})
        wanted = chip_bits_per_byte(network, chip, loaded, stream, row["seed"])
        assert row["bits_per_byte"] == wanted
        assert (row["status"], row["phase"], row["tokens"]) == ("ok", "prefill", 12)
    assert len({row["bits_per_byte"] for row in rows}) == 4


@pytest.mark.parametrize("seed", [0, 9])
def test_generation_is_that_of_neurosim_run(
    seed: int, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    generate = {"prompts": ["The city", "A"], "tokens": 5, "temperature": 0.5, "top_k": 7}
    data = spec(tiny_checkpoint, seeds=[seed], parameters={}, quality=None, generate=generate)
    for row in run_sweep(data, tmp_path / "out").table.to_pylist():
        report = run(
            row["prompt"], tiny_checkpoint, "ag_v2c_w", 5, seed, Sampler(0.5, 7), quality=False
        ).to_dict()
        energy = report["energy"]
        assert row["text"] == report["text"]
        assert row["energy_J_per_token"] == energy["decode_J_per_token"]
        assert row["prefill_J_per_token"] == energy["prefill_J_per_token"]
        for name, joules in energy["by_mechanism_J"].items():
            assert row[f"energy.{name}"] == joules
        for name, count in energy["phases"]["decode"]["counts_per_token"].items():
            assert row[f"count.{name}"] == 5 * count
        assert row["tiles"] == report["chip"]["tiles"]
        assert row["spike_rate"] == report["spikes"]["rate"]


def test_energies_add_up_and_every_column_says_its_unit(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    table = run_sweep(spec(tiny_checkpoint), tmp_path / "out").table
    for row in table.to_pylist():
        parts = [value for name, value in row.items() if name.startswith("energy.")]
        assert sum(parts) == pytest.approx(row["energy_J_per_token"], rel=1e-12)
    for part in table.schema:
        assert part.metadata[b"meaning"], part.name
        assert b"unit" in part.metadata
    units = {part.name: part.metadata[b"unit"] for part in table.schema}
    assert units["bits_per_byte"] == b"bit/byte"
    assert units["energy.synapse"] == b"J/token"
    assert pa.types.is_int64(table.schema.field("count.hops").type)
    device = spec(tiny_checkpoint, parameters={"device.hold_voltage": [0.1]})
    other = run_sweep(device, tmp_path / "other").table
    assert other.schema.field("device.hold_voltage").metadata[b"unit"] == b"V"


def stop_after(points: int) -> Any:
    def progress(tally: Tally) -> None:
        if tally.done == points:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("points", [0, 1, 3])
def test_interrupted_and_resumed_is_the_same(
    points: int, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    whole = run_sweep(spec(tiny_checkpoint), tmp_path / "whole").table
    with pytest.raises(KeyboardInterrupt):
        run_sweep(spec(tiny_checkpoint), tmp_path / "cut", progress=stop_after(points))
    assert load_results(tmp_path / "cut").num_rows == points
    result = run_sweep(spec(tiny_checkpoint), tmp_path / "cut")
    assert (result.tally.skipped, result.tally.finished) == (points, 4 - points)
    assert timeless(result.table).equals(timeless(whole), check_metadata=True)
    again = run_sweep(spec(tiny_checkpoint), tmp_path / "cut")
    assert (again.tally.skipped, again.tally.finished) == (4, 0)


def test_more_seeds_run_only_what_is_new(tiny_checkpoint: Path, tmp_path: Path) -> None:
    run_sweep(spec(tiny_checkpoint), tmp_path / "out")
    more = run_sweep(spec(tiny_checkpoint, seeds=[3, 4, 5]), tmp_path / "out")
    assert (more.tally.skipped, more.tally.finished) == (4, 2)
    assert more.table["seed"].to_pylist() == [3, 4, 5, 3, 4, 5]
    fewer = run_sweep(spec(tiny_checkpoint, seeds=[4]), tmp_path / "out")
    assert fewer.table["seed"].to_pylist() == [4, 4]


def test_another_key_keeps_the_points_that_are_equal(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Columns of keys that the file named before are left out."""
    run_sweep(spec(tiny_checkpoint, design="each"), tmp_path / "out")
    other = {"device.threshold_spread_device": [0.0]}
    data = spec(tiny_checkpoint, design="each", parameters=other)
    result = run_sweep(data, tmp_path / "out")
    assert (result.tally.skipped, result.tally.finished) == (2, 2)
    assert NOISE not in result.table.column_names
    fresh = run_sweep(data, tmp_path / "fresh").table
    assert timeless(result.table).equals(timeless(fresh), check_metadata=True)


def test_models_and_chips_of_one_name_stay_apart(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for part in "ab":
        shutil.copytree(tiny_checkpoint, tmp_path / part / "model")
        (tmp_path / part / "chip.toml").write_text('base = "ideal"\nname = "same"\n')
    chips = [str(tmp_path / part / "chip.toml") for part in "ab"]
    data = spec(tiny_checkpoint, parameters={}, seeds=[0], chips=chips)
    data["models"] = [str(tmp_path / part / "model") for part in "ab"]
    result = run_sweep(data, tmp_path / "out")
    assert [(row["model"], row["chip"]) for row in result.table.to_pylist()] == [
        (f"{model}/model", f"{chip}/chip.toml") for model in "ab" for chip in "ab"
    ]
    assert result.tally.finished == 1  # they are equal: one point


def test_equal_points_run_once(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The base of design "each" is also one of the listed values."""
    data = spec(tiny_checkpoint, design="each", seeds=[1], parameters={NOISE: [0.01, 0.2]})
    result = run_sweep(data, tmp_path / "out")
    assert result.tally.finished == 2
    rows = result.table.to_pylist()
    assert [row["varied"] for row in rows] == ["base", NOISE, NOISE]
    assert rows[0]["bits_per_byte"] == rows[1]["bits_per_byte"] != rows[2]["bits_per_byte"]


def test_a_point_that_fails_is_recorded_and_the_rest_finished(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """A mesh that is too small is noticed when the network is placed."""
    cases = [{"name": "small", "set": {"mesh.width": 1, "mesh.height": 1}}, {"name": "auto"}]
    data = spec(tiny_checkpoint, cases=cases)
    result = run_sweep(data, tmp_path / "out")
    assert (result.tally.finished, result.tally.failed) == (4, 4)
    rows = result.table.to_pylist()
    assert [row["status"] for row in rows] == ["failed"] * 4 + ["ok"] * 4
    assert "ValueError: expected a mesh of at least" in rows[0]["error"]
    assert rows[0]["bits_per_byte"] is None
    again = run_sweep(data, tmp_path / "out")
    assert (again.tally.skipped, again.tally.failed) == (4, 4)
    assert again.table.num_rows == 8


def troubled(folder: Path, subject: Troublesome, **changes: Any) -> SweepResult:
    return run_sweep(troubled_spec(6), folder, subjects=[subject], **changes)


def test_a_failed_point_is_tried_again(tmp_path: Path) -> None:
    first = troubled(tmp_path / "out", Troublesome(fails=(2, 5)))
    errors = [row["error"] for row in first.table.to_pylist()]
    assert errors[2] == "RuntimeError: seed 2 misbehaves"
    assert (first.tally.failed, first.tally.last_error) == (2, "RuntimeError: seed 5 misbehaves")
    second = troubled(tmp_path / "out", Troublesome())
    assert (second.tally.finished, second.tally.skipped) == (2, 4)
    assert second.table["status"].to_pylist() == ["ok"] * 6
    assert second.table["bits_per_byte"].to_pylist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_disk_full_keeps_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BATCH_SECONDS", 0.0)  # one file a point
    real = store.replace_file

    def full(path: Path, data: bytes) -> None:
        if path.name == "part-000004.parquet":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr(store, "replace_file", full)
    with pytest.raises(OSError, match="No space left on device.*1 finished points are lost"):
        troubled(tmp_path / "out", Troublesome())
    assert load_results(tmp_path / "out")["seed"].to_pylist() == [0, 1, 2]
    monkeypatch.setattr(store, "replace_file", real)
    assert troubled(tmp_path / "out", Troublesome()).tally.skipped == 3
    assert load_results(tmp_path / "out")["seed"].to_pylist() == [0, 1, 2, 3, 4, 5]


def test_parts_stand_alone_and_are_never_half_written(tmp_path: Path) -> None:
    troubled(tmp_path / "out", Troublesome())
    (part,) = (tmp_path / "out" / "results").iterdir()
    rows = pq.read_table(part).to_pylist()
    assert [row["seed"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["chip"] for row in rows] == ["ideal"] * 6
    (tmp_path / "out" / "results" / ".part-000002.parquet.abc").write_bytes(b"half")
    assert load_results(tmp_path / "out").num_rows == 6
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"part-000001\.parquet: not a readable Parquet file"):
        load_results(tmp_path / "out")


def test_beside_the_results_stands_what_they_were_made_with(tmp_path: Path) -> None:
    troubled(tmp_path / "out", Troublesome())
    troubled(tmp_path / "out", Troublesome())
    about = store.read_about(tmp_path / "out")
    assert about["seeds"] == [0, 1, 2, 3, 4, 5]
    assert about["spec"]["chips"] == ["ideal"]
    assert about["points"] == 6
    assert len(about["runs"]) == 2
    assert {"commit", "versions", "started", "workers"} <= set(about["runs"][0])


def test_folders_that_are_not_ours(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="no sweep.json; expected the folder of a sweep"):
        load_results(tmp_path)
    troubled(out, Troublesome())
    with pytest.raises(ValueError, match="holds 6 points of another sweep"):
        troubled(out, Troublesome(work_digests=("other",)))
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another sweep is writing to it"):
            troubled(out, Troublesome())
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="expected a folder for the results, got the file"):
        troubled(file, Troublesome())
    with pytest.raises(ValueError, match="expected workers >= 1, got 0"):
        troubled(out, Troublesome(), workers=0)
    with pytest.raises(ValueError, match="got both; choose one"):
        troubled(out, Troublesome(), workers=2, client=object())
