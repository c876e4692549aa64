"""`neurosim sweep`: the command, its table, Markdown and plot, and one line for what is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from sweep_subjects import Troublesome, troubled_spec

from neurosim.cli import main
from neurosim.sweep import run_sweep
from neurosim.sweep.figure import plot
from neurosim.sweep.summary import Statistic, summarise, to_markdown

Capture = pytest.CaptureFixture[str]
NOISE, SPREAD = "crossbar.read_noise", "device.threshold_spread_device"


@pytest.fixture(scope="module")
def spec_file(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "s.toml"
    path.write_text(
        f'name = "s"\nmodels = ["{tiny_checkpoint}"]\nchips = ["ag_v2c_w"]\n'
        f'seeds = {{ count = 3 }}\ndesign = "each"\n[parameters]\n"{NOISE}" = [0.0, 0.3]\n'
        f'"{SPREAD}" = [0.05]\n[quality]\ntokens = 5\n[generate]\nprompts = ["The"]\ntokens = 2\n'
    )
    return path


@pytest.fixture(scope="module")
def folder(spec_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results") / "out"
    run_sweep(spec_file, out)
    return out


def test_the_command_runs_shows_and_goes_on(
    spec_file: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "180")
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", str(spec_file)]) == 0
    text = capsys.readouterr().out
    assert "s: 24 of 24 points" in text
    assert "24 points finished;" in text
    assert "results in sweep-s" in text
    assert f"{SPREAD}  quality" in text
    assert "PLACEHOLDER" in text
    assert main(["sweep", str(spec_file), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["found"], data["finished"], data["failed"]) == (24, 0, 0)
    assert len(data["groups"]) == 8
    assert data["groups"][0]["seeds"] == 3
    assert data["units"]["energy_J_per_token"] == "J/token"


def test_dry_run_writes_nothing(
    spec_file: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", str(spec_file), "--dry-run", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    prompt = (
        data["simulated"]["amount"] // 12 - 5 - 2
    )  # 12 points of 5 tokens, 12 of the prompt and 2
    assert data["points"] == 24
    assert prompt >= 2  # end-of-text and at least one token
    assert main(["sweep", str(spec_file), "--dry-run"]) == 0
    assert "s: 24 points" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_table_markdown_and_plot_of_a_folder(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    markdown, figure = tmp_path / "t.md", tmp_path / "p.png"
    arguments = ["sweep", "--table", str(folder)]
    assert main([*arguments, "--markdown", str(markdown), "--plot", str(figure)]) == 0
    assert capsys.readouterr().out.count("wrote") == 2
    lines = markdown.read_text().splitlines()
    assert lines[0].startswith("| varied | work | prompt | value | seeds | bits per byte | energy")
    assert len([line for line in lines if line.startswith("|")]) == 2 + 8
    assert "0.05 V" in markdown.read_text()
    assert figure.read_bytes().startswith(b"\x89PNG")
    for suffix in ("svg", "pdf"):
        assert main([*arguments, "--plot", str(tmp_path / f"p.{suffix}")]) == 0
    svg = (tmp_path / "p.svg").read_text()
    assert "<svg" in svg


def test_medians_and_spread_over_the_seeds(folder: Path) -> None:
    summary = summarise(folder)
    base = summary.groups[0]
    assert base.axes["varied"] == "base"
    assert base.axes[NOISE] == 0.01  # the chip's own
    from neurosim.sweep import load_results

    rows = [row for row in load_results(folder).to_pylist() if row["work"] == "quality"]
    values = sorted(row["bits_per_byte"] for row in rows[:3])
    found = base.statistics["bits_per_byte"]
    assert found.median == values[1]
    assert found.low == pytest.approx(values[0] + 0.2 * (values[1] - values[0]))
    assert found.high == pytest.approx(values[2] - 0.2 * (values[2] - values[1]))
    assert Statistic.of([2.0]) == Statistic(2.0, 2.0, 2.0)


def troubled(tmp_path: Path, subject: Troublesome, **changes: Any) -> Path:
    run_sweep(troubled_spec(3, **changes), tmp_path / "out", subjects=[subject])
    return tmp_path / "out"


def test_failures_are_shown(tmp_path: Path) -> None:
    folder = troubled(tmp_path, Troublesome(fails=(1,)), parameters={NOISE: [0.0, 0.5]})
    summary = summarise(folder)
    assert (summary.done, summary.failed) == (6, 2)
    headings, cells = summary.rows()
    assert headings == [NOISE, "seeds", "failed", "bits per byte"]
    assert cells[0][:3] == ["0", "2", "1"]
    assert "2 failed" in to_markdown(summary)
    assert summary.groups[0].error == "RuntimeError: seed 1 misbehaves"


def test_nothing_finished_yet(tmp_path: Path, capsys: Capture) -> None:
    folder = troubled(tmp_path, Troublesome(fails=(0, 1, 2)))
    assert main(["sweep", "--table", str(folder)]) == 0
    assert "failed: RuntimeError: seed 0 misbehaves" in capsys.readouterr().out
    with pytest.raises(ValueError, match="nothing to plot yet"):
        plot(summarise(folder), tmp_path / "p.png")


def test_lines_against_a_number_and_against_words(tmp_path: Path) -> None:
    """Two keys in a grid: one is the axis, the other the lines; words become rows."""
    data = {NOISE: [0.0, 0.1, 10.0], "routing.packets": ["count", "spike"]}
    summary = summarise(troubled(tmp_path, Troublesome(), parameters=data))
    for key in (None, NOISE):
        plot(summary, tmp_path / "p.svg", key, "bits_per_byte")
        assert "routing.packets" not in summary.units
    with pytest.raises(ValueError, match=r"--x: expected a key with several numbers .*read_noise"):
        plot(summary, tmp_path / "p.svg", "routing.packets")
    with pytest.raises(ValueError, match="--y: expected one of"):
        plot(summary, tmp_path / "p.svg", y="joy")
    with pytest.raises(ValueError, match=r"expected a plot in \.png"):
        plot(summary, tmp_path / "p.txt")
    words = tmp_path / "words"
    words.mkdir()
    only = troubled(words, Troublesome(), parameters={"routing.packets": ["count", "spike"]})
    plot(summarise(only), tmp_path / "w.png")
    assert (tmp_path / "w.png").exists()


def test_too_many_lines_are_refused(tmp_path: Path) -> None:
    data = {NOISE: [0.0, 0.1], SPREAD: [0.001 * i for i in range(9)]}
    summary = summarise(troubled(tmp_path, Troublesome(), parameters=data))
    with pytest.raises(ValueError, match="at most 8 lines in a plot, got 9"):
        plot(summary, tmp_path / "p.png", NOISE)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "expected SPEC.toml to run a sweep, or --table DIR"),
        (["a.toml", "--table", "x"], "expected SPEC.toml to run a sweep, or --table DIR"),
        (["/nowhere.toml"], "/nowhere.toml: cannot be read"),
        (["--table", "/nowhere"], "/nowhere: no sweep.json"),
        (["a.toml", "--workers", "-1"], "expected --workers >= 0, got -1"),
        (["a.toml", "--workers", "2", "--dask", "x"], "got both; choose one"),
    ],
)
def test_one_line_for_what_is_wrong(arguments: list[str], part: str, capsys: Capture) -> None:
    assert main(["sweep", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert part in captured.err


def test_no_scheduler_at_the_address(
    spec_file: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("neurosim.cli.sweep._CONNECT_SECONDS", 0.2)
    arguments = [
        "sweep",
        str(spec_file),
        "--out",
        str(tmp_path / "o"),
        "--dask",
        "tcp://127.0.0.1:1",
    ]
    assert main(arguments) == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_interrupted(
    spec_file: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line says how far it came; the same command goes on."""
    from neurosim.sweep import workers

    real, calls = workers.attempt, []

    def attempt(*arguments: Any) -> Any:
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(workers, "attempt", attempt)
    arguments = ["sweep", str(spec_file), "--out", str(tmp_path / "out")]
    assert main(arguments) == 130
    assert "interrupted; 5 of 24 points are in" in capsys.readouterr().err
    monkeypatch.setattr(workers, "attempt", real)
    assert main(arguments) == 0
    assert "19 points finished, 5 were there" in " ".join(capsys.readouterr().out.split())


def test_latencies_where_packets_take_time(tiny_checkpoint: Path, tmp_path: Path) -> None:
    data = {
        "name": "mesh",
        "models": [str(tiny_checkpoint)],
        "chips": ["ideal"],
        "parameters": {"routing.transport": ["instant", "queued"]},
        "generate": {"prompts": ["The"], "tokens": 2},
    }
    instant, queued = run_sweep(data, tmp_path / "out").table.to_pylist()
    assert instant["token_latency_s"] is None
    assert instant["text"] == queued["text"]
    assert queued["token_latency_s"] > 0.0
    assert 0.0 < queued["packet_latency_s"] <= queued["packet_latency_p99_s"]
    assert 0.0 <= queued["congestion"] <= 1.0
    assert math.isfinite(queued["busiest_link"])
