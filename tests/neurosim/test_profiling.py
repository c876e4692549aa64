"""Timing, ratios, break-even, roofline: formulas on made-up numbers, no time is asserted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neurosim.profiling import roofline, session, timing
from neurosim.profiling.analysis import Measured, break_even, break_evens
from neurosim.profiling.case import Candidate, Case, Operation, Request, Traffic
from neurosim.profiling.operations import OPERATIONS
from neurosim.profiling.roofline import Level, Roofline
from neurosim.profiling.timing import Effort, Spread, Times

LIMITS = Roofline((Level("L1", 1_000, 100e9), Level("L2", 100_000, 25e9)), 50e9)


def times(median: float, wall: float | None = None, by_wall: bool = False) -> Times:
    """Made-up times, seconds."""
    other = median if wall is None else wall
    return Times(
        Spread(median, 0.9 * median, 1.1 * median), Spread(other, other, other), 3, by_wall
    )


def case(density: float | None = 0.1, **kinds: str) -> Case:
    """A case whose candidates are called as given; `ours` moves 5,000 bytes."""
    candidates = {
        name: Candidate(
            lambda: 1,
            kind,  # type: ignore[arg-type]
            Traffic(5_000, 10_000) if kind == "ours" else None,
        )
        for name, kind in kinds.items()
    }
    return Case("sum", {"N": 4}, density, candidates, synaptic_operations=6e6)


def measured(density: float, ours: float, dense: float, int8: float) -> Measured:
    """One density with four candidates."""
    kinds = {"ours": "ours", "slow": "dense", "fast": "dense", "small": "int8"}
    return Measured(
        case(density, **kinds),
        {
            "ours": times(ours), "slow": times(2 * dense), "fast": times(dense),
            "small": times(int8),
        },
    )  # fmt: skip


def test_ratios_are_to_the_fastest_of_each_kind() -> None:
    one = measured(0.1, ours=2e-3, dense=6e-3, int8=1e-3)
    assert (one.best("dense"), one.best("int8"), one.best("other")) == ("fast", "small", None)
    assert one.ratio("ours", "dense") == pytest.approx(3)
    assert one.ratio("ours", "int8") == pytest.approx(0.5)
    assert one.ratio("ours", "other") is None
    assert one.ratio("ours", "dense", "int8") == pytest.approx(0.5)
    assert one.rate("ours") == pytest.approx(3e9)


def test_rows_say_what_was_measured() -> None:
    ours, slow, fast, small = measured(0.1, 2e-6, 6e-6, 1e-6).rows(LIMITS)
    assert [row["kind"] for row in (ours, slow, fast, small)] == ["ours", "dense", "dense", "int8"]
    assert ours["cpu_us"]["median"] == pytest.approx(2)
    assert ours["cpu_us"]["p20"] < ours["cpu_us"]["median"] < ours["cpu_us"]["p80"]
    assert (ours["dense_ratio"], ours["int8_ratio"]) == (pytest.approx(3), pytest.approx(0.5))
    assert (ours["bytes"], ours["reused_bytes"]) == (5_000, 10_000)
    assert ours["synaptic_operations"] == 6e6
    assert ours["roofline_fraction"] == pytest.approx(5_000 / 2e-6 / 50e9)
    assert "dense_ratio" not in fast and "bytes" not in fast


def test_wall_time_counts_where_a_gpu_works() -> None:
    assert times(1.0, wall=5.0).median == 1.0
    assert times(1.0, wall=5.0, by_wall=True).median == 5.0
    assert times(1.0, wall=5.0, by_wall=True).to_dict()["clock"] == "wall"


def test_bandwidth_is_interpolated_between_measured_sizes() -> None:
    assert LIMITS.bandwidth(1) == pytest.approx(100e9)
    assert LIMITS.bandwidth(1_000) == pytest.approx(100e9)
    assert LIMITS.bandwidth(10_000) == pytest.approx(50e9)  # half way in log-log: sqrt(100 x 25)
    assert LIMITS.bandwidth(10**9) == pytest.approx(25e9)
    assert LIMITS.fraction(Traffic(1_000, 100_000), 1e-7) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("ratios", "density", "state"),
    [
        ({0.1: 4.0, 0.4: 0.25}, 0.2, "faster below"),  # log-log: half way
        ({0.1: 8.0, 0.2: 2.0, 0.4: 0.5}, math.sqrt(0.08), "faster below"),
        ({0.4: 0.25, 0.1: 4.0}, 0.2, "faster below"),  # any order
        ({0.1: 0.5, 0.4: 2.0}, 0.2, "faster above"),
        ({0.1: 0.5, 0.2: 2.0, 0.8: 0.5}, 0.4, "faster below"),  # the last crossing
        ({0.1: 1.0, 0.4: 0.5}, 0.1, "faster below"),
        ({0.1: 3.0, 0.4: 1.0}, None, "always faster"),
        ({0.1: 0.9, 0.4: 0.3}, None, "never faster"),
        ({}, None, "not measured"),
    ],
)
def test_break_even(ratios: dict[float, float], density: float | None, state: str) -> None:
    found = break_even(ratios)
    assert found.state == state
    if density is None:
        assert found.density is None and str(found).startswith("none (")
    else:
        assert found.density == pytest.approx(density)


def test_break_even_of_each_kind_of_rival() -> None:
    rows = break_evens([measured(0.1, 1.0, 4.0, 0.5), measured(0.4, 4.0, 1.0, 0.5)])
    assert [(row["against"], row["state"]) for row in rows] == [
        ("dense", "faster below"), ("int8", "never faster"),
    ]  # fmt: skip
    assert rows[0]["density"] == pytest.approx(0.2)


def test_check_refuses_a_candidate_that_differs() -> None:
    def of(result: float, kind: str) -> Candidate:
        return Candidate(lambda: np.array([1e3, result]), kind)  # type: ignore[arg-type]

    def checked(tolerance: float | None, kind: str = "dense") -> None:
        candidates = {"a": of(1.0, "ours"), "b": of(1.1, kind)}
        Case("sum", {"N": 2}, None, candidates, tolerance=tolerance).check()

    with pytest.raises(ValueError, match=r"sum \{'N': 2\}: b differs from a"):
        checked(0.0)
    with pytest.raises(ValueError, match="b differs from a"):
        checked(1e-5)
    checked(1e-3)
    checked(None)
    checked(0.0, "other")


def test_interleaved_counts_calls_and_takes_turns() -> None:
    order: list[str] = []
    effort = Effort(samples=4, seconds=0.0)
    found = timing.interleaved(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, effort
    )
    assert order == ["a", "a", "b", "b"] + ["a", "b"] * 4
    assert {name: t.calls for name, t in found.items()} == {"a": 4, "b": 4}
    one = found["a"].to_dict()
    assert one["cpu_us"]["p20"] <= one["cpu_us"]["median"] <= one["cpu_us"]["p80"]


def test_a_slow_candidate_gets_fewer_samples() -> None:
    effort = Effort(samples=5, seconds=0.0, slow_seconds=-1.0, slow_samples=2)
    assert timing.interleaved({"a": lambda: None}, effort)["a"].calls == 2
    with pytest.raises(ValueError, match="at least one sample"):
        Effort(samples=0, seconds=1.0)


def test_roofline_is_measured_at_every_size() -> None:
    found = roofline.measure([("large", 2**20), ("small", 2**12)], seconds=1e-4)
    assert [level.size for level in found.levels] == [2**12, 2**20]
    assert all(level.bandwidth > 0 for level in found.levels) and found.products > 0
    assert found.to_dict()["sgemm_GMAC_per_s"] == found.products / 1e9


def test_the_kernel_of_the_roofline_adds_everything() -> None:
    out = np.empty(16, np.float32)
    x = np.arange(512, dtype=np.float32)
    roofline._read_and_add(x, 3, out)
    assert out.sum() == 3 * x.sum()


def test_sizes_follow_the_caches() -> None:
    caches = {"L1": 2**15, "L2": 2**21, "L3": 2**28}
    assert roofline.sizes_to_measure(caches) == [
        ("L1", 2**14), ("L2", 2**20), ("L3", 2**24), ("L3 far", 2**26), ("DRAM", 2**29),
    ]  # fmt: skip
    assert [name for name, _ in roofline.sizes_to_measure({})] == ["L1", "L2", "L3", "DRAM"]


def test_jobs_refuse_what_cannot_be() -> None:
    linear, scan = OPERATIONS["spike_linear"], OPERATIONS["lif_scan"]
    assert [str(job) for job in session.jobs([linear], [0.1, 0.2], (2, 3, 4))] == [
        "spike_linear 2x3x4 p=0.1", "spike_linear 2x3x4 p=0.2",
    ]  # fmt: skip
    assert len(session.jobs([scan], [0.1, 0.2])) == 1
    with pytest.raises(ValueError, match="expected one operation with a shape, got 2"):
        session.jobs([linear, scan], [0.1], (2, 3, 4))
    with pytest.raises(ValueError, match="expected densities above 0 and up to 1, got 1.5"):
        session.jobs([linear], [0.1, 1.5])
    with pytest.raises(ValueError, match="expected a shape RxIxO of positive sizes"):
        session.jobs([linear], [0.1], (2, 3))
    with pytest.raises(ValueError, match="expected a shape RxIxO of positive sizes"):
        session.jobs([linear], [0.1], (2, 0, 3))


def test_a_wrong_result_is_an_error_not_a_row() -> None:
    def build(request: Request) -> Case:
        wrong = {
            "ours": Candidate(lambda: 1, "ours"),
            "numpy": Candidate(lambda: 2, "dense"),
        }
        return Case("sum", {"N": request.shape[0]}, None, wrong)

    operation = Operation("sum", "a sum", ("N",), (3,), build, (), by_density=False)
    with pytest.raises(ValueError, match="numpy differs from ours"):
        list(session.measured(session.jobs([operation], [0.1]), Effort(1, 0.0)))
