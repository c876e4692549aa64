"""What people see: the terminal screen, the HTML fragment, the figures, numbers with prefixes."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from energy_cases import facts, phase, round_prices, tiny_network
from matplotlib.figure import Figure
from rich.console import Console

from neurosim.energy import DenseTransformerSizes, compare, energy_report
from neurosim.energy.plots import energy_by_mechanism, save, spike_raster
from neurosim.energy.table import terminal, to_html
from neurosim.energy.units import joules, percent, times, with_unit


def report_dict(baseline: bool = True, trained: int | None = None) -> dict[str, Any]:
    network, prices = tiny_network(), round_prices()
    phases = {"prefill": phase(network, 5), "decode": phase(network, 3)}
    flags = ("PLACEHOLDER: <class values>",)
    report = energy_report(network, prices, facts(network), phases, "assumed", flags)
    result: dict[str, Any] = {"energy": report.to_dict()}
    if baseline:
        sizes = DenseTransformerSizes(50, 16, 2, 2, 64)
        result["baseline"] = compare(
            network, report, prices, sizes, 6, trained_context=trained
        ).to_dict()
    loaded: dict[str, Any] = json.loads(json.dumps(result))
    return loaded


def printed(report: dict[str, Any]) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal(report))
    return console.export_text()


def test_terminal_is_one_screen_with_the_boundary_first() -> None:
    report = report_dict()
    text = printed(report)
    lines = text.splitlines()
    assert lines[0].startswith("counted: one chip")
    assert text.index("not counted") < text.index("decode ") < text.index("mechanism")
    assert len(lines) <= 60
    assert max(len(line.rstrip()) for line in lines) <= 100
    flat = " ".join(text.split())
    for words in (
        joules(report["energy"]["decode_J_per_token"]),
        joules(report["baseline"]["ann_twin_decode_J_per_token"]),
        times(report["baseline"]["ratio"]),
        "PLACEHOLDER: <class values>",
        "weakest evidence: assumed",
        "legacy line, not comparable",
        "8192",
        f"{percent(report['baseline']['static_share']['ann_twin'])} of the twin",
        f"{with_unit(report['baseline']['ann_twin_seconds_per_token'], 's')} each =",
        "with a decade each way for integrated energy",
        "(spike rates as in this run)",
        "bipolar word lines",
        "delay lines of the short convolutions",
    ):
        assert words in flat, words
    for name, value in report["energy"]["by_mechanism_J"].items():
        assert (f"{name} " in text) == (value > 0 or name == "control"), name


def test_context_curve_names_the_context_of_training() -> None:
    title = "(spike rates as in this run; the model was trained to 77)"
    assert title in printed(report_dict(trained=77))


def footer(figure: Figure) -> str:
    return " ".join(figure.texts[-1].get_text().split())


def test_figures_say_which_chip_and_how_well_it_is_known() -> None:
    energy = report_dict()["energy"]
    flag = "PLACEHOLDER: <class values>"
    assert footer(energy_by_mechanism(energy)) == f"weakest evidence: assumed; {flag}"
    text = footer(energy_by_mechanism(energy, f"chip my_chip; {flag}"))
    assert text == f"chip my_chip; {flag}; weakest evidence: assumed"
    note = f"chip my_chip; {'long ' * 60}; {flag}"
    spikes = {"a.read": np.ones((2, 5), np.int8)}
    assert footer(spike_raster(spikes, 0, note=note)) == " ".join(note.split())
    assert footer(spike_raster(spikes, 0)) == ""


def test_terminal_without_a_baseline() -> None:
    text = printed(report_dict(baseline=False))
    assert "ANN twin" not in text
    assert "legacy" not in text
    assert "static" in text


def test_html_is_well_formed_and_escaped() -> None:
    class Balanced(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag != "br":
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    html = to_html(report_dict())
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert "&lt;class values&gt;" in html
    assert "<script" not in html and "http" not in html
    assert html.index("counted:") < html.index("spiking chip")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 J"),
        (1.0, "1.00 J"),
        (4.234e-8, "42.3 nJ"),
        (9.999e-7, "1.00 \N{MICRO SIGN}J"),
        (1e-6, "1.00 \N{MICRO SIGN}J"),
        (123.4e-15, "123 fJ"),
        (5e-21, "0.005 aJ"),
        (2500.0, "2500 J"),
        (None, "not run"),
    ],
)
def test_joules(value: float | None, text: str) -> None:
    assert joules(value) == text


def test_other_numbers() -> None:
    assert with_unit(1.25e-3, "s") == "1.25 ms"
    assert percent(0.9841) == "98.4 %"
    assert percent(1e-5) == "< 0.1 %"
    assert percent(0.0) == "0.0 %"
    assert times(0.1538) == "0.154x"


def test_energy_figure_draws_every_joule(tmp_path: Path) -> None:
    energy = report_dict()["energy"]
    figure = energy_by_mechanism(energy)
    drawn: dict[str, float] = {}
    for axes in figure.axes:
        scale = {"m": 1e-3, "\N{MICRO SIGN}": 1e-6, "n": 1e-9, "p": 1e-12}[axes.get_xlabel()[0]]
        labels = [label.get_text() for label in axes.get_yticklabels()]
        for bars in axes.containers:
            for name, bar in zip(labels, bars, strict=True):
                drawn[name] = drawn.get(name, 0.0) + bar.get_width() * scale
    expected = {name: value for name, value in energy["by_mechanism_J"].items() if value > 0}
    assert drawn == pytest.approx(expected, rel=1e-9)
    written = save(figure, tmp_path / "new" / "energy")
    assert [path.suffix for path in written] == [".png", ".svg"]
    assert written[0].read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in written[1].read_text()


def test_raster_draws_every_spike(tmp_path: Path) -> None:
    spikes = {
        "blocks.0.read": np.array([[0, 0, 0, 0], [2, -1, 0, 4]], np.int8),
        "blocks.0.hidden": np.array([[0, 0], [0, 0]], np.int8),
        "head_read": np.array([[1, 1], [0, -3]], np.int8),
    }
    figure = spike_raster(spikes, -1)
    (axes,) = figure.axes
    strokes = [
        path.vertices
        for collection in axes.collections
        for path in collection.get_paths()
        if path.vertices[0, 0] == path.vertices[1, 0]
    ]
    assert len(strokes) == 4
    assert sorted(np.sign(s[1, 1] - s[0, 1]) for s in strokes) == [-1, -1, 1, 1]
    assert "token 1: 10 spikes of 8 channels" in axes.get_title(loc="left")
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["read (3/4)", "hidden (0/2)", "head read (1/2)"]
    save(figure, tmp_path / "raster")


def test_figures_of_silence_and_bad_tokens(tmp_path: Path) -> None:
    silent = {"a.read": np.zeros((2, 5), np.int8)}
    save(spike_raster(silent, 0, {"a.read": "block 0"}), tmp_path / "silent")
    with pytest.raises(ValueError, match="from -2 to 1, got 2"):
        spike_raster(silent, 2)
    with pytest.raises(ValueError, match="at least one site"):
        spike_raster({}, 0)
    with pytest.raises(ValueError, match="above zero"):
        energy_by_mechanism({"by_layer_and_mechanism_J": {}, "by_mechanism_J": {}})
