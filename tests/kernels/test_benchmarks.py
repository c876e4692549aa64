"""The benchmark harness: every kernel is in it, rows are complete, tables are the results'."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import goals, registry, run, table
from benchmarks.goals import DENSITIES, GOALS, Goal
from benchmarks.registry import GROUPS, KERNELS, cases, kernels
from neurosim.profiling import roofline, session
from neurosim.profiling.case import Candidate, Case
from neurosim.profiling.operations import OPERATIONS
from neurosim.profiling.roofline import Level, Roofline
from neurosim.profiling.timing import Effort

OWN = ("blas", "neuron", "chip")


def test_every_operation_is_measured_once() -> None:
    listed = [name for names in KERNELS.values() for name in names]
    assert sorted(listed) == sorted(OPERATIONS)
    assert set(GROUPS) == {*KERNELS, *OWN}


@pytest.mark.parametrize("group", OWN)
def test_first_case_of_the_other_groups(group: str) -> None:
    case = next(cases(group))
    for candidate in case.candidates.values():
        assert np.asarray(candidate.run()).size > 0
    case.check()


def test_kernels_come_at_every_shape_and_density(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[tuple[tuple[int, ...], float]] = []

    def build(job: session.Job) -> Case:
        built.append((job.request.shape, job.request.density))
        return Case("x", {}, None, {})

    monkeypatch.setattr(session.Job, "case", build)
    assert len(list(kernels(("spike_linear",)))) == len(built)
    bench = OPERATIONS["spike_linear"].bench
    assert built == [(shape, density) for shape in bench for density in session.DENSITIES]


def test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def made_up(group: str, threads: int) -> Iterator[Case]:
        assert (group, threads) == ("linear", 1)
        ours = Candidate(np.ones(9).sum, "ours")
        rival = Candidate(lambda: 9.0, "dense")
        yield Case("sum", {"N": 9}, 0.5, {"ours": ours, "numpy": rival})

    limits = Roofline((Level("L1", 1_000, 100e9),), 50e9)
    monkeypatch.setattr(roofline, "measure", lambda: limits)
    monkeypatch.setattr(registry, "cases", made_up)
    rows = run.measure(["linear"], 1, Effort(3, 0.0), announce=False)
    head, ours, rival = json.loads(json.dumps(rows))
    assert {"commit", "machine", "versions", "threads", "mlx_blas", "roofline"} <= set(head)
    assert (ours["operation"], ours["candidate"], ours["shape"]) == ("sum", "ours", {"N": 9})
    assert (ours["density"], ours["threads"], ours["group"]) == (0.5, 1, "linear")
    assert ours["mlx_blas"] == head["mlx_blas"] and rival["kind"] == "dense"
    times = ours["cpu_us"]
    assert 0 < times["p20"] <= times["median"] <= times["p80"]


def test_results_are_kept_to_five_digits() -> None:
    row = {"cpu_us": {"median": 1234.5678, "p20": 1e-9 / 3}, "density": 0.365, "calls": 1234567}
    assert run._rounded(row) == {
        "cpu_us": {"median": 1234.6, "p20": 3.3333e-10}, "density": 0.365, "calls": 1234567,
    }  # fmt: skip


def test_a_base_that_lacks_a_group_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def elsewhere(groups: list[str], *_: Any, **__: Any) -> list[dict[str, Any]]:
        if groups == ["new"]:
            raise RuntimeError("unknown group new; choose from linear")
        if groups == ["broken"]:
            raise RuntimeError("a traceback")
        return [{"header": True}, {"group": groups[0]}]

    monkeypatch.setattr(run, "_elsewhere", elsewhere)
    assert run.at_commit("HEAD", ["linear", "new"], 1)[1] == {"group": "linear"}
    assert "HEAD has no group new" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="a traceback"):
        run.at_commit("HEAD", ["broken"], 1)


def row(candidate: str, kind: str, median: float, density: float | None = 0.1) -> dict[str, Any]:
    """A made-up row of operation "op" at shape (2, 3)."""
    return {
        "operation": "op", "shape": {"A": 2, "B": 3}, "density": density, "candidate": candidate,
        "kind": kind, "cpu_us": {"median": median},
    }  # fmt: skip


def test_a_ratio_is_of_the_fastest_on_both_sides() -> None:
    goal = Goal("", "", "op", (2, 3), ("a", "b"), ("dense",), (1.0,))
    rows = [
        row("a", "ours", 4.0), row("b", "ours", 2.0), row("c", "ours", 1.0),
        row("numpy", "dense", 10.0), row("torch", "dense", 8.0), row("int8", "int8", 3.0),
        row("a", "ours", 1.0, 0.2),
    ]  # fmt: skip
    assert table.ratio(goal, rows, 0.1) == 4.0
    assert table.ratio(goal, rows, 0.2) is None
    by_name = Goal("", "", "op", (2, 3), ("a",), ("int8",), (1.0,))
    assert table.ratio(by_name, rows, 0.1) == 0.75
    elsewhere = Goal("", "", "op", (9, 9), ("a",), ("dense",), (1.0,))
    assert table.ratio(elsewhere, rows, 0.1) is None


def test_goals_met_are_counted_at_every_density() -> None:
    rows = [row("a", "ours", 1.0, p) for p in (0.05, 0.1)]
    rows += [row("numpy", "dense", 2.0, 0.05), row("numpy", "dense", 5.0, 0.1)]
    goal = Goal("", "", "op", (2, 3), ("a",), ("dense",), (3.0,))
    assert table.reached(rows, [goal]) == (1, 2)
    some = Goal("", "", "op", (2, 3), ("a",), ("dense",), (None, None, 3, 3, 3, 3))
    assert table.reached(rows, [some]) == (1, 1)
    assert table.by_density(rows, [goal])[2:] == ["|  |  |  | 2 (3) | **5** (3) |  |  |  |"]


@pytest.mark.parametrize(
    ("measured", "wanted", "text"),
    [
        (4.04, 3.0, "**4** (3)"),
        (1.349, 1.35, "1.3 (1.35)"),
        (57.2, None, "57"),
        (None, 3.0, ""),
        (9.96, 10.0, "10 (10)"),  # bold follows the number, not its rounding
    ],
)
def test_cells(measured: float | None, wanted: float | None, text: str) -> None:
    assert table.cell(measured, wanted) == text


def test_goals_name_what_exists() -> None:
    for goal in GOALS:
        assert goal.operation in OPERATIONS, goal
        operation = OPERATIONS[goal.operation]
        assert goal.shape in operation.bench, goal
        for ratios in (goal.ratios, goal.stretch):
            assert len(ratios) in (0, 1, len(DENSITIES))
        if not operation.by_density:
            assert len(goal.ratios) <= 1
    assert goals.DENSITIES == session.DENSITIES
    assert GOALS[0].at(0.05) == 3.8 and GOALS[0].stretch_at(0.5) == 2.0


def test_marks_must_be_there_once() -> None:
    text = f"a\n{table.BEGIN}\nold\n{table.END}\nb\n"
    assert table.replaced(text, "new", "x") == f"a\n{table.BEGIN}\nnew\n{table.END}\nb\n"
    for wrong in ("a", text + text, f"{table.END} {table.BEGIN}"):
        with pytest.raises(ValueError, match="expected one <!-- measured"):
            table.replaced(wrong, "new", "x")


def test_no_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("expected *-kernels.jsonl")):
        table.newest(tmp_path)


def test_the_pages_are_those_of_the_committed_results() -> None:
    """After new results, run `python -m benchmarks.table`."""
    for name, text in table.pages(*table.read(table.newest())).items():
        assert (table.ROOT / name).read_text() == text, name


def test_committed_results_hold_every_operation() -> None:
    head, rows = table.read(table.newest())
    later, more = table.read(table.RESULTS / "2026-11-22-counts.jsonl")  # a group of its own
    assert "torch" in later["versions"] and later["threads"] == 1 and not later["uncommitted"]
    rows = rows + [row for row in more if row["operation"] not in {r["operation"] for r in rows}]
    measured = {row["operation"] for row in rows}
    assert measured >= set(OPERATIONS), set(OPERATIONS) - measured
    assert "torch" in head["versions"] and head["threads"] == 1 and not head["uncommitted"]
    for name in OPERATIONS:
        ours = [r for r in rows if r["operation"] == name and r["kind"] == "ours"]
        shapes = {tuple(r["shape"].values()) for r in ours}
        assert shapes == set(OPERATIONS[name].bench), name
        assert all(math.isfinite(r["dense_ratio"]) for r in ours)
