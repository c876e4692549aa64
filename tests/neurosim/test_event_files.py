"""Tables of events, Chrome traces, lists of spikes: what is in them, and that none is left half."""

from __future__ import annotations

import errno
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from neurosim.files import replacing_all
from neurosim.io.events_parquet import EventBatch, write_events
from neurosim.io.spike_files import read_spikes
from neurosim.io.trace import Counter, Slice, write_trace


def batches():
    yield EventBatch(np.array([0.1, 0.2]), np.array([3, 4]), "block 0", "spike")
    yield EventBatch(np.zeros(0), np.zeros(0, np.int64), "block 0", "spike")
    layers = np.array(["block 1", "block 0", "block 1"])
    kinds = np.array(["spike", "hop", "hop"])
    energy = np.array([1e-12, 2e-12, 3e-12])
    yield EventBatch(np.array([0.3, 0.3, 0.4]), np.array([0, 1, 2]), layers, kinds, energy)


def test_events(tmp_path):
    path = tmp_path / "events.parquet"
    assert write_events(path, batches(), {"seed": "7"}) == 5
    table = pq.read_table(path)
    assert [field.name for field in table.schema] == [
        "time_s",
        "neuron",
        "layer",
        "kind",
        "energy_J",
    ]
    units = {
        name: table.schema.field(name).metadata.get(b"unit") for name in ("time_s", "energy_J")
    }
    assert units == {"time_s": b"s", "energy_J": b"J"}
    assert pq.read_schema(path).metadata[b"seed"] == b"7"
    assert table["layer"].to_pylist() == ["block 0"] * 2 + ["block 1", "block 0", "block 1"]
    assert table["kind"].to_pylist() == ["spike", "spike", "spike", "hop", "hop"]
    assert table["energy_J"].to_pylist() == [None, None, 1e-12, 2e-12, 3e-12]
    assert table["time_s"].to_pylist() == [0.1, 0.2, 0.3, 0.3, 0.4]


def test_no_events_are_an_empty_table(tmp_path):
    assert write_events(tmp_path / "a.parquet", []) == 0
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 0


def test_a_batch_of_unequal_columns_is_refused():
    with pytest.raises(ValueError, match=r"expected neuron of shape \(2,\) like time, got \(3,\)"):
        EventBatch(np.zeros(2), np.zeros(3, np.int64), "a", "spike")
    with pytest.raises(ValueError, match="expected energy of shape"):
        EventBatch(np.zeros(2), np.zeros(2, np.int64), "a", "spike", np.zeros(1))


@pytest.mark.parametrize("error", [RuntimeError("stopped"), KeyboardInterrupt()], ids=str)
def test_the_old_file_stays_when_a_batch_fails(error, tmp_path):
    path = tmp_path / "events.parquet"
    write_events(path, batches())

    def failing():
        yield from batches()
        raise error

    before = path.read_bytes()
    with pytest.raises(type(error)):
        write_events(path, failing())
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named(tmp_path):
    def full():
        yield next(batches())
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "events.parquet"
    with pytest.raises(OSError, match=r"events.parquet: the disk is full; not written"):
        write_events(path, full())
    assert list(tmp_path.iterdir()) == []


def test_files_that_belong_together_come_together(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(RuntimeError), replacing_all(folder) as place:
        (place / "a").write_text("a")
        raise RuntimeError
    assert not folder.exists()
    with replacing_all(folder) as place:
        (place / "a").write_text("a")
        (place / "b").write_text("b")
        assert [path.name for path in folder.iterdir()] == [place.name]
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_a_trace_loads_as_chrome_reads_it(tmp_path):
    path = tmp_path / "trace.json"
    events = [
        Slice("matmul", 0.0, 2e-6, "tile 0", "crossbar", {"rows": 3}),
        Slice("spike", 1e-6, 0.0, "tile 0", "neurons"),
        Counter("queue", 1.5e-6, {"depth": 2}, "tile 1"),
        Slice("matmul", 3e-6, 1e-6, "tile 1", "crossbar"),
    ]
    assert write_trace(path, events) == 4
    entries = json.loads(path.read_text())
    names = {(e["name"], e["args"]["name"]) for e in entries if e["name"].endswith("_name")}
    assert set(names) == {
        ("process_name", "tile 0"), ("process_name", "tile 1"), ("thread_name", "crossbar"),
        ("thread_name", "neurons"),
    }  # fmt: skip
    places = [e["args"]["sort_index"] for e in entries if e["name"] == "process_sort_index"]
    assert places == [1, 2]
    first, spike, queue, last = (e for e in entries if e["ph"] != "M")
    assert first["ts"] == 0.0 and first["dur"] == pytest.approx(2.0) and first["ph"] == "X"
    assert spike["ts"] == pytest.approx(1.0) and spike["ph"] == "i"
    assert queue["ph"] == "C" and queue["args"] == {"depth": 2}
    assert first["pid"] == spike["pid"] != last["pid"] == queue["pid"]
    assert len({first["tid"], spike["tid"], last["tid"]}) == 3
    assert all({"name", "ph", "ts", "pid", "tid"} <= set(e) for e in entries)


def test_an_empty_trace_is_a_list_and_a_bad_time_leaves_none(tmp_path):
    assert write_trace(tmp_path / "a.json", []) == 0
    assert json.loads((tmp_path / "a.json").read_text()) == []
    for start, duration in ((-1.0, 0.0), (0.0, float("nan"))):
        with pytest.raises(ValueError, match="trace event 'x': expected times >= 0 s"):
            write_trace(tmp_path / "b.json", [Slice("x", start, duration, "p", "t")])
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_spikes_of_npz_csv_and_parquet(tmp_path):
    times, neurons = np.array([0.3, 0.1]), np.array([1, 0])
    np.savez(tmp_path / "a.npz", times=times, neurons=neurons)
    (tmp_path / "a.csv").write_text("neuron,time_s\n1,0.3\n0,0.1\n")
    write_events(tmp_path / "a.parquet", [EventBatch(times, neurons, "in", "spike")])
    for name in ("a.npz", "a.csv", "a.parquet"):
        source = read_spikes(tmp_path / name)
        np.testing.assert_array_equal(source.times, [0.1, 0.3])
        np.testing.assert_array_equal(source.neurons, [0, 1])


def test_spikes_of_one_layer(tmp_path):
    write_events(tmp_path / "a.parquet", batches())
    source = read_spikes(tmp_path / "a.parquet", "block 1")
    np.testing.assert_array_equal(source.neurons, [0, 2])
    with pytest.raises(
        ValueError, match=r"several layers \(block 0, block 1\); name one as a.parq"
    ):
        read_spikes(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="expected a layer out of"):
        read_spikes(tmp_path / "a.parquet", "block 7")


BAD = {
    "columns.csv": ("t,n\n0.1,1\n", "expected a column 'time_s', got t, n"),
    "words.csv": ("time_s,neuron\nsoon,1\n", "expected times as numbers"),
    "negative.csv": ("time_s,neuron\n-0.1,1\n", "expected finite times >= 0 s"),
    "nan.csv": ("time_s,neuron\nnan,1\n", "expected"),
    "fraction.csv": ("time_s,neuron\n0.1,1.5\n", "expected integer neuron numbers"),
    "hole.csv": ("time_s,neuron\n0.1,\n0.2,3\n", "expected no empty cells in neuron"),
    "torn.parquet": ("PAR1", "cannot be read as .parquet"),
    "torn.npz": ("PK", "cannot be read as .npz"),
    "list.txt": ("0.1 1", "expected .parquet, .csv or .npz"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_lists_of_spikes_name_the_file(name, tmp_path):
    text, message = BAD[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_spikes(tmp_path / name)
    assert name in str(error.value)
