"""The report: its numbers agree with each other and with the counts, and refusals are refusals."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_cases import small_report

from neurosim.chip import load_chip
from neurosim.cli import main
from neurosim.energy.counts import combined
from neurosim.models.checkpoint import DEFAULT, load
from neurosim.pipeline import spiking
from neurosim.reporting.check import check_report
from neurosim.reporting.study import study
from neurosim.reporting.systems import System
from neurosim.reporting.tables import context_rows, mechanism_rows, write_csv
from neurosim.reporting.terminal import compared, terminal
from neurosim.reporting.twins import rounded
from neurosim.reporting.walk import walk


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return small_report()


def printed(renderable: Any, width: int = 100) -> str:
    from rich.console import Console

    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(renderable)
    return console.export_text()


def test_every_total_is_the_sum_of_its_parts(report: dict[str, Any]) -> None:
    for system in report["systems"]:
        parts = [
            value
            for mechanisms in system["main"]["by_layer_and_mechanism_J"].values()
            for value in mechanisms.values()
        ]
        assert math.fsum(parts) == pytest.approx(system["main"]["J_per_token"], rel=1e-12)
        rows = mechanism_rows(system)
        assert math.fsum(row["share"] for row in rows) == pytest.approx(1.0)
        point = next(p for p in system["curve"] if p["context"] == report["main_context"])
        assert point["decode_J_per_token"] == system["main"]["J_per_token"]


def test_ratios_have_everything_that_gives_them_a_meaning(report: dict[str, Any]) -> None:
    assert len(report["against"]) == len(report["systems"]) * len(report["baselines"])
    for row in report["against"]:
        assert row["context"] == report["main_context"] == 20 and row["batch"] == 1
        band = row["uncertainty"]["ratio"]
        assert band["p5"] < band["p50"] < band["p95"]
        assert row["sensitivity"]
    system = report["systems"][0]
    theirs = report["baselines"][0]["curve"][1]["decode_J_per_token"]
    assert report["against"][0]["ratio"] == pytest.approx(
        theirs / system["main"]["J_per_token"], rel=1e-12
    )


def test_contexts_beyond_the_trained_one_are_marked(report: dict[str, Any]) -> None:
    marks = [point["extrapolated"] for point in report["systems"][0]["curve"]]
    assert marks == [False, False, True]
    assert "8192*" in printed(terminal(report))


def test_baselines_are_ordered_as_physics_says(report: dict[str, Any]) -> None:
    by_key = {row["key"]: row for row in report["baselines"]}
    for i in range(3):
        full, narrow, sparse, both = (
            by_key[key]["curve"][i]["decode_J_per_token"]
            for key in ("ann_int8", "ann_narrow", "ann_sparse", "ann_narrow_sparse")
        )
        assert both < sparse < full and both < narrow < full
    assert by_key["ann_narrow"]["bits_per_byte"] > by_key["ann_int8"]["bits_per_byte"]
    assert all(0.0 < share < 0.5 for share in by_key["ann_sparse"]["hidden_density"])
    assert report["baselines_missing"][0]["why"].startswith("not printed")


def test_the_chip_the_kernels_and_the_formula_count_the_same() -> None:
    """64 tokens of the shipped model: engine, popcounts of packed spikes, |n| times fan-out."""
    from neurosim.kernels import pack
    from neurosim.models.text.corpus import sample_documents
    from neurosim.models.text.tokenizer import token_stream
    from neurosim.network import Crossbar, NeuronBank

    loaded = load(DEFAULT)
    folded = spiking(loaded)
    network = folded.lower()
    text = token_stream(sample_documents(), loaded.tokenizer, 0)[:64].astype(np.int64)
    walked = walk(network, load_chip("ideal"), text, (64,), 256, decoded=1)
    counted = combined(walked.each)
    assert counted.tokens == 64
    _, software = folded.forward(text)
    total = 0
    for node in network:
        if not isinstance(node, Crossbar):
            continue
        source = network.sources(node.name)[0]
        spikes = software[source]
        bank = network[source]
        assert isinstance(bank, NeuronBank)
        formula = int(np.abs(spikes.astype(np.int64)).sum()) * node.size
        levels = bank.levels
        packed = sum(
            pack((np.abs(spikes) >= level).astype(np.uint8)).count for level in range(1, levels + 1)
        )
        assert counted.of(node.name, "synaptic_operations") == formula == packed * node.size
        total += formula
    assert total > 0


def test_counts_of_single_tokens_add_up(report: dict[str, Any]) -> None:
    loaded = load(DEFAULT)
    network = spiking(loaded).lower()
    text = np.arange(5, 45)
    walked = walk(network, load_chip("ideal"), text, (8,), 256, decoded=2)
    assert [phase.tokens for phase in walked.each] == [1] * 9
    whole = walked.prefill(8)
    assert whole.tokens == 8
    total = sum(phase.total("synaptic_operations") for phase in walked.each[:8])
    assert whole.total("synaptic_operations") == total
    assert walked.decode(8).total("synaptic_operations") == sum(
        phase.total("synaptic_operations") for phase in walked.each[7:9]
    )
    assert walked.prefill(800).total("neuron_spikes") == 100 * whole.total("neuron_spikes")
    assert walked.extrapolated(800) and not walked.extrapolated(8)
    system = System("digital_45nm", load_chip("ideal"))
    per_token = system.price(walked, whole, "prefill").total
    assert per_token < system.price(walked, whole, "decode").total


def test_rounding_keeps_the_largest_and_the_zeros() -> None:
    import mlx.core as mx

    values = mx.array([[0.0, 1.0, -4.0, 7.0], [0.0, 0.0, 0.0, 0.0]])
    assert np.array(rounded(values, 4)).tolist() == values.tolist()
    coarse = np.array(rounded(values, 2))
    assert coarse[0].tolist() == [0.0, 0.0, -7.0, 7.0] and not coarse[1].any()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: r.pop("format"), "expected a report of"),
        (lambda r: r["boundary"].pop("counted"), "no boundary"),
        (lambda r: r.pop("boundary"), "no boundary"),
        (lambda r: r["quality"].pop("ideal_bits_per_byte"), "no quality number"),
        (lambda r: r.pop("quality"), "no quality number"),
        (lambda r: r["baselines"][0].update(bits_per_byte=None), "has an energy and no quality"),
        (lambda r: r["against"][0].pop("context"), "a ratio without context"),
        (lambda r: r["against"][0].pop("batch"), "a ratio without batch"),
        (lambda r: r["systems"][0].update(kind="measured"), "never share a column"),
        (lambda r: r["systems"][1].pop("kind"), "never share a column"),
        (lambda r: r["systems"][1].pop("boundary"), "no boundary of its own"),
        (lambda r: r["baselines"][2]["boundary"].pop("excludes"), "no boundary of its own"),
        (lambda r: r.update(measured={"kind": "modelled"}), "holds 'modelled' joules"),
    ],
)
def test_a_report_that_says_too_little_is_refused(spoil: Any, words: str) -> None:
    spoilt = small_report()
    check_report(spoilt)
    spoil(spoilt)
    with pytest.raises(ValueError, match=words):
        check_report(spoilt, "it")


def test_bad_requests_are_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="contexts of at least one token, got .0"):
        study(contexts=(0, 5))
    with pytest.raises(ValueError, match="expected a system out of chip, loihi1"):
        study(systems=("tpu",))
    with pytest.raises(ValueError, match="at least one seed"):
        study(seeds=())


def test_the_terminal_is_one_screen_with_the_answer(report: dict[str, Any]) -> None:
    text = printed(terminal(report))
    lines = text.splitlines()
    assert len(lines) < 82 and max(map(len, lines)) <= 100
    assert lines[0].startswith("counted: ")
    assert text.index("a decoded token") < text.index("J per decoded token by context")
    assert "PLACEHOLDER" in text
    weaker = sorted(report["quality"]["chip_bits_per_byte"].values())[0]
    assert f"against {weaker:.3f} bits per byte" in " ".join(text.split())


def test_csv_files_hold_every_number(report: dict[str, Any], tmp_path: Path) -> None:
    written = write_csv(report, tmp_path)
    assert {path.name for path in written} == {path.name for path in tmp_path.iterdir()}
    contexts = (tmp_path / "contexts.csv").read_text().splitlines()
    sides = len(report["systems"]) + len(report["baselines"])
    assert len(contexts) == 1 + sides * len(report["contexts"])
    assert len(context_rows(report)) == len(report["systems"]) + 2 * len(report["baselines"])


def test_saved_reports_are_shown_and_compared(
    report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text(json.dumps(report))
    other = small_report()
    for point in other["systems"][0]["curve"]:
        point["decode_J_per_token"] *= 2.0
    second.write_text(json.dumps(other))
    assert main(["report", str(first), "--html", str(tmp_path / "a.html")]) == 0
    assert "a decoded token" in capsys.readouterr().out
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
    assert main(["report", str(first), str(second)]) == 0
    out = capsys.readouterr().out
    assert "2x" in out and "they differ in: nothing but the energies" in out
    second.write_text("{")
    assert main(["report", str(first), str(second)]) == 2
    assert "cannot be read as a report" in capsys.readouterr().err
    del other["quality"]
    second.write_text(json.dumps(other))
    assert main(["report", str(second)]) == 2
    assert "no quality number" in capsys.readouterr().err


def test_reports_without_a_common_context_cannot_be_compared(report: dict[str, Any]) -> None:
    other = small_report()
    other["contexts"] = [3]
    with pytest.raises(ValueError, match="share no context"):
        compared(report, other, ("a", "b"))


def test_host_energy_without_a_sensor_is_refused_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("neurosim.energy.measured._POWERCAP", tmp_path)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("neurosim.energy.measured.RaplSensor.__init__.__defaults__", (tmp_path,))
    assert main(["report", "--measure"]) == 2
    assert "no readable RAPL counter" in capsys.readouterr().err


def test_a_batch_shares_fetches_and_static_power(report: dict[str, Any]) -> None:
    """Each system's energy per token falls with the batch and never below its dynamic share."""
    text = np.arange(5, 45)
    network = spiking(load(DEFAULT)).lower()
    chip = load_chip("ideal")
    walked = walk(network, chip, text, (8,), 256, decoded=2)
    counts = walked.decode(8)
    depth = walked.placement.depth
    for name in ("chip", "loihi1", "digital_45nm"):
        one, four, many = (
            System(name, chip).price(walked, counts, "decode", b) for b in (1, 4, 400)
        )
        assert four.total < one.total
        if name == "chip":  # every text needs attention states of its own, which leak
            assert many.total > four.total
        else:
            assert many.total < four.total
        if name != "digital_45nm":  # there the batch shares fetches too
            dynamic = one.total - one.of("static")
            assert four.total - four.of("static") == pytest.approx(dynamic, rel=1e-12)
        if name == "loihi1":
            assert one.of("static") >= four.of("static") > many.of("static")
            assert one.of("static") <= depth * many.of("static") * (1 + 1e-12)


def test_a_batch_of_the_twin_by_hand() -> None:
    from neurosim.energy.accelerator import accelerator_prices
    from neurosim.energy.baseline import DenseTransformerSizes, dense_token_energy

    sizes, prices = DenseTransformerSizes(50, 16, 2, 2, 64), accelerator_prices()
    one, eight = (dense_token_energy(sizes, prices, 10, streams=n) for n in (1, 8))
    assert one.of("weights") == pytest.approx(8 * eight.of("weights"), rel=1e-12)
    assert one.of("compute") == eight.of("compute")
    assert one.of("key-value cache") == eight.of("key-value cache")
    sparse = dense_token_energy(sizes, prices, 10, hidden_density=(0.5, 0.25))
    saved = 16 * 64 * (0.5 + 0.75)
    each = prices.price("multiply").value + prices.price("accumulate").value
    assert one.of("compute") - sparse.of("compute") == pytest.approx(saved * each, rel=1e-9)
    with pytest.raises(ValueError, match="a density for each of 2 layers"):
        dense_token_energy(sizes, prices, 10, hidden_density=(0.5,))


def test_shared_fetches_leave_little_to_skip() -> None:
    """Of 64 tokens at density d one needs a row with probability 1 - (1 - d)^64, not d."""
    from neurosim.energy.accelerator import accelerator_prices
    from neurosim.energy.baseline import DenseTransformerSizes, dense_token_energy

    sizes, prices = DenseTransformerSizes(50, 16, 1, 2, 64), accelerator_prices()
    dense, sparse = (
        dense_token_energy(sizes, prices, 10, tokens_per_fetch=64.0, hidden_density=(d,))
        for d in (1.0, 0.1)
    )
    per_weight = prices.sram(65536).value * 8 / 64
    saved = 64 * 16 * 0.9**64 * per_weight
    assert dense.of("weights") - sparse.of("weights") == pytest.approx(saved, rel=1e-6)


def test_every_side_has_its_prefill_and_its_own_boundary(report: dict[str, Any]) -> None:
    for row in [*report["systems"], *report["baselines"]]:
        for point in row["curve"]:
            whole = point["prefill_J_per_token"] * point["context"]
            assert point["prefill_J"] == pytest.approx(whole, rel=1e-12)
            if point["context"] > 1:  # sharing fetches and overlapping never cost more
                assert point["prefill_J_per_token"] <= point["decode_J_per_token"]
            assert point["time_to_first_token_s"] > 0.0
    counted = [row["boundary"]["counted"] for row in report["systems"]]
    assert len(set(counted)) == len(counted)
    assert "word lines" in counted[0] and not any("word lines" in text for text in counted[1:])


def test_break_even_falls_with_what_the_dense_side_may_skip(report: dict[str, Any]) -> None:
    for row in report["break_even"]:
        shared = row["break_even_rate_shared"]
        assert row["break_even_rate"] <= shared and row["break_even_rate_skipping"] < shared
        assert row["break_even_rate_compute_only"] == pytest.approx(3.0 / row["steps"])
    names = [row["name"] for row in report["verdicts"]]
    assert "against the best ANN, spatial dataflow" in names and len(names) == 8


REFUSED = re.compile(r"times (more|less) efficient|x more efficient|energy[- ]efficien", re.I)


def test_words_to_refuse_are_nowhere(report: dict[str, Any]) -> None:
    """Spec 8.12: no 'x times more efficient'; 'neuromorphic' only of real chips' prices."""
    from neurosim.reporting.page import page

    docs = (Path(__file__).parents[2] / "docs" / "energy.md").read_text()
    shown = {"page": page(report), "terminal": printed(terminal(report))}
    for name, text in {**shown, "docs": docs, "json": json.dumps(report)}.items():
        assert not REFUSED.search(text), name
        assert "operations (J" not in text and "SynOps energy" not in text, name
    for name, text in shown.items():  # a simulated run is a simulated chip
        assert "neuromorphic" not in text.lower(), name
    assert REFUSED.search("3 times more efficient") and REFUSED.search("energy-efficient")


def test_the_example_in_the_docs_is_the_page_of_its_numbers() -> None:
    """If this fails: neurosim report docs/report/ag_v2c_w.json --html docs/report/ag_v2c_w.html."""
    from neurosim.reporting.page import page

    folder = Path(__file__).parents[2] / "docs" / "report"
    saved = json.loads((folder / "ag_v2c_w.json").read_text())
    check_report(saved)
    assert saved["model"]["sha256"] == load(DEFAULT).sha256
    assert (folder / "ag_v2c_w.html").read_text() == page(saved)
    assert (folder / "ag_v2c_w.png").stat().st_size > 10_000
