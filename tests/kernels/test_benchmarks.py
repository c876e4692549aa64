"""The benchmark harness: cases run, candidates agree, rows say what they must."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("mlx.core")

from benchmarks import run
from benchmarks.registry import EXACT, GROUPS, Case


@pytest.mark.parametrize("group", GROUPS)
def test_first_case_of_each_group(group: str) -> None:
    case = next(GROUPS[group]())
    for candidate in case.candidates.values():
        assert np.asarray(candidate()).size > 0
    if case.operation in EXACT:
        case.check()


def test_check_names_the_candidate_that_differs() -> None:
    right = np.ones(3)
    case = Case("sum", {"N": 3}, None, {"a": lambda: right, "b": lambda: right + 1e-3})
    with pytest.raises(ValueError, match=r"sum \{'N': 3\}: b differs from a"):
        case.check()
    Case("sum", {"N": 3}, None, {"a": lambda: right, "b": lambda: right + 1e-7}).check()


def test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in run.THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(run, "SAMPLES", 5)
    monkeypatch.setattr(run, "SAMPLE_SECONDS", 1e-4)
    monkeypatch.setitem(
        GROUPS, "linear", lambda: iter([Case("sum", {"N": 9}, 0.5, {"numpy": np.ones(9).sum})])
    )
    head, row = json.loads(json.dumps(run.measure(["linear"], announce=False)))
    assert {"commit", "machine", "versions", "threads", "mlx_blas"} <= set(head)
    assert (row["operation"], row["candidate"], row["shape"]) == ("sum", "numpy", {"N": 9})
    assert (row["density"], row["threads"], row["mlx_blas"]) == (0.5, 1, head["mlx_blas"])
    times = row["cpu_us"]
    assert 0 < times["p20"] <= times["median"] <= times["p80"]
