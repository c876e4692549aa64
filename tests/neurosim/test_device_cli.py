"""`neurosim device`: JSON, plots, flags, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurosim.cli import main
from neurosim.devices import load_device
from neurosim.devices.form import FORM_FOLDER

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
        ("fi --points 0", "--points >= 2"),
        ("fire --voltages 0,2", "--voltages > 0"),
        ("spice --steps 0", "--steps >= 20000"),
        ("calibrate form.toml iv.csv", "one form FILE.toml alone"),
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


def test_a_filled_form_becomes_a_preset(tmp_path: Path, capsys: Capture) -> None:
    form, out = tmp_path / "form.toml", tmp_path / "mine.toml"
    text = (FORM_FOLDER / "ag_v2c_w.toml").read_text()
    for key, value in (("threshold_mean", 0.41), ("hold_mean", 0.1), ("on_resistance", 900.0)):
        text = text.replace(f'{key} = {{ value = "not stated"', f"{key} = {{ value = {value}")
    form.write_text(text)
    line = ["device", "calibrate", str(form), "--out", str(out)]
    assert main(line) == 0
    assert "stays a placeholder: off_resistance" in capsys.readouterr().out
    assert load_device(out).status == "placeholder"
    form.write_text(
        text.replace('on_off_ratio = { value = "not stated"', "on_off_ratio = { value = 1e6")
    )
    assert main(line) == 0
    device = load_device(out)
    assert device.status == "calibrated" and device["threshold_voltage"] == 0.41
    assert device["off_resistance"] == 9e8
