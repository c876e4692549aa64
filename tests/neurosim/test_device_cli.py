"""`neurosim device`: JSON, plots, flags, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurosim.cli import main

Capture = pytest.CaptureFixture[str]


def test_frequencies_as_json(capsys: Capture) -> None:
    line = "device fi --preset demo --currents 2e-6,5e-6 --json"
    assert main(line.split()) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["frequencies_Hz"] == pytest.approx([8781.04076543647, 21264.407808382726])
    assert data["rheobase_A"] == pytest.approx(33e-9)
    assert data["preset"] == "demo" and "no real device" in data["flag"]


@pytest.mark.parametrize("action", ["iv", "fire", "train", "fi", "relax", "energy"])
@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_actions_write_figures(action: str, suffix: str, tmp_path: Path, capsys: Capture) -> None:
    plot, data = tmp_path / f"figure.{suffix}", tmp_path / "data.json"
    assert main(["device", action, "--plot", str(plot), "--json", str(data)]) == 0
    content = plot.read_bytes()
    assert content[:4] == b"\x89PNG" if suffix == "png" else b"</svg>" in content
    assert all(one["passed"] for one in json.loads(data.read_text())["experiments"])
    assert "pass" in capsys.readouterr().out


def test_the_placeholder_is_flagged(capsys: Capture, tmp_path: Path) -> None:
    plot = tmp_path / "iv.svg"
    assert main(["device", "iv", "--preset", "ag_v2c_w", "--plot", str(plot)]) == 0
    assert "PLACEHOLDER" in capsys.readouterr().out
    assert "PLACEHOLDER" in plot.read_text()
    assert main(["device", "presets"]) == 0
    assert "PLACEHOLDER" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fi --preset nothing", "expected a device name"),
        ("fi --currents one", "expected --currents"),
        ("fi --plot figure.pdf", ".svg or"),
        ("energy --current 1", "below lock-up"),
        ("iv --seed -1", "--seed >= 0"),
        ("calibrate missing.csv", "cannot be read"),
        ("calibrate missing.csv --out preset.txt", "expected --out"),
        ("presets missing.toml", "cannot be read"),
    ],
)
def test_bad_input_is_one_line(line: str, words: str, capsys: Capture) -> None:
    assert main(["device", *line.split()]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_without_action_help(capsys: Capture) -> None:
    assert main(["device"]) == 0
    assert "calibrate" in capsys.readouterr().out
