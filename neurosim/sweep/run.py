"""Running a sweep: what is not on disk yet, on the chosen workers, stored as it comes."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from neurosim.pipeline import versions
from neurosim.profiling.environment import commit
from neurosim.sweep.plan import Plan, Subject, Task, make_plan
from neurosim.sweep.spec import SweepSpec
from neurosim.sweep.store import load_results, open_store, read_about, write_about
from neurosim.sweep.workers import Outcomes, Row, in_process, in_processes, on_dask

Progress = Callable[["Tally"], None]
_LOG = logging.getLogger("neurosim.sweep")


@dataclass
class Tally:
    """How far a sweep is. `total`: points to run now; `skipped`: those that were on disk;
    `amount`: what finished points simulated, in `unit`."""

    total: int = 0
    skipped: int = 0
    finished: int = 0
    failed: int = 0
    amount: float = 0.0
    seconds: float = 0.0
    unit: str = "tokens"
    last_error: str = ""

    @property
    def speed(self) -> str:
        """For people."""
        return f"{self.per_second:.3g} {self.unit}/s"

    @property
    def done(self) -> int:
        """Points that have a row now, good or failed."""
        return self.finished + self.failed

    @property
    def per_second(self) -> float:
        """Tokens (or seconds) simulated in this run per second of wall time."""
        return self.amount / self.seconds if self.seconds > 0.0 else 0.0


@dataclass(frozen=True)
class SweepResult:
    """What a run of a sweep did, and where its results are."""

    folder: Path
    tally: Tally

    @property
    def table(self) -> pa.Table:
        """All finished points, those of earlier runs included; see `load_results`."""
        return load_results(self.folder)

    def __repr__(self) -> str:
        tally = self.tally
        return (
            f"SweepResult({self.folder}: {tally.finished} points finished, {tally.failed} failed, "
            f"{tally.skipped} found, {tally.speed})"
        )


def run_sweep(
    spec: SweepSpec | Mapping[str, Any] | str | Path,
    out: str | Path,
    workers: int = 1,
    client: Any = None,
    progress: Progress | None = None,
    subjects: Sequence[Subject] | None = None,
) -> SweepResult:
    """Run the points of a sweep that `out` does not hold yet.

    Args:
        spec: a specification, its dictionary, or the path of its TOML file. It is checked wholly
            before anything runs; ValueError names file, key and range.
        out: the folder of the results; the same call goes on where one was interrupted.
        workers: processes; 1 runs in this one.
        client: a `distributed.Client`: run on its cluster instead.
        progress: called with the tally after every point.
        subjects: measured instead of the models that the specification names.

    Returns:
        The tally and the folder; `.table` loads the results. A point that fails is a row with
        status "failed" and its error; the next run tries it again.
    """
    where = "sweep"
    if isinstance(spec, str | Path):
        where, spec = str(spec), SweepSpec.load(spec)
    elif not isinstance(spec, SweepSpec):
        spec = SweepSpec.from_dict(spec)
    return run_plan(make_plan(spec, where, subjects), out, workers, client, progress)


def run_plan(
    plan: Plan,
    out: str | Path,
    workers: int = 1,
    client: Any = None,
    progress: Progress | None = None,
) -> SweepResult:
    """`run_sweep` for a plan that is made already."""
    if workers < 1:
        raise ValueError(f"expected workers >= 1, got {workers}")
    if workers > 1 and client is not None:
        raise ValueError("expected workers or a Dask client, got both; choose one")
    folder = Path(out)
    started = time.monotonic()
    with open_store(folder, plan) as store:
        tasks = [task for point, task in plan.tasks.items() if point not in store.finished]
        tally = Tally(
            total=len(tasks),
            skipped=len(plan.tasks) - len(tasks),
            unit=plan.unit,
        )
        about = _about_run(workers, client)
        if store.finished:
            _warn_of_other_code(read_about(folder)["runs"], about["commit"], folder)
        write_about(folder, plan, about)
        if progress is not None:
            progress(tally)
        with closing(_outcomes(plan, tasks, workers, client)) as outcomes:
            try:
                for task, row in outcomes:
                    store.add(row)
                    _count(tally, task, row, time.monotonic() - started)
                    if progress is not None:
                        progress(tally)
            finally:
                store.flush()
    return SweepResult(folder, tally)


def _outcomes(plan: Plan, tasks: Sequence[Task], workers: int, client: Any) -> Outcomes:
    if client is not None:
        return on_dask(plan.subjects, tasks, client)
    if workers > 1:
        return in_processes(plan.subjects, tasks, workers)
    return in_process(plan.subjects, tasks)


def _count(tally: Tally, task: Task, row: Row, seconds: float) -> None:
    tally.seconds = seconds
    if row["status"] == "ok":
        tally.finished += 1
        tally.amount += task.amount
    else:
        tally.failed += 1
        tally.last_error = row["error"]


def _warn_of_other_code(runs: Sequence[Mapping[str, Any]], now: str, folder: Path) -> None:
    """Results of several commits in one folder need not belong together."""
    others = sorted({run["commit"][:12] for run in runs if run["commit"] != now})
    if others:
        _LOG.warning(
            "%s: finished points were computed at commit %s, the others now at %s; choose another "
            "--out if what they measure changed in between",
            folder,
            ", ".join(others),
            now[:12],
        )


def _about_run(workers: int, client: Any) -> dict[str, Any]:
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": versions(),
        "workers": workers if client is None else "dask",
    }
