"""Where points run: in this process, in spawned processes, or on a Dask cluster.

Each runner yields (task, row) as points finish, in any order. A row is what was measured, or
status "failed" with the error; a worker that dies costs its point one more try in a new worker.
"""

from __future__ import annotations

import multiprocessing as mp
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from neurosim.sweep.plan import Subject, Task

Row = dict[str, Any]
Outcomes = Generator[tuple[Task, Row], None, None]
_TRIES = 2  # of a point whose worker dies
_NO_ANSWER = "no answer"
_LOST = (
    "lost the Dask scheduler; finished points are kept, give the same command again when it is back"
)
_DASK_ENDING = f"the Dask worker that ran it alone died {_TRIES} times (out of memory?)"
_AHEAD = 2  # tasks on a Dask cluster per thread, so that it never waits for us


def attempt(subjects: Sequence[Subject], task: Task) -> Row:
    """Measure a point; an error becomes a row, so that the others go on."""
    started = time.thread_time()
    try:
        row = subjects[task.subject].measure(task.work, task.given, task.seed)
        row |= {"status": "ok", "error": ""}
    except Exception as error:  # whatever a point does wrong must not end the sweep
        row = failure(f"{type(error).__name__}: {' '.join(str(error).split())}")
    return {"point": task.point, **row, "cpu_s": time.thread_time() - started}


def failure(error: str) -> Row:
    """The row of a point without a result."""
    return {"status": "failed", "error": error}


def in_process(subjects: Sequence[Subject], tasks: Sequence[Task]) -> Outcomes:
    """One after another, here."""
    for task in tasks:
        yield task, attempt(subjects, task)


def _serve(link: Connection) -> None:
    """A worker's life: ready, subjects in, then points in and rows out, until the link closes."""
    with suppress(EOFError, BrokenPipeError):
        link.send(None)
        subjects = link.recv()
        while True:
            link.send(attempt(subjects, link.recv()))


@dataclass(eq=False)
class _Worker:
    """A spawned process and the point that it has, or will have once it is ready."""

    process: Any
    link: Connection
    task: Task | None = None
    ready: bool = False

    @classmethod
    def start(cls, task: Task) -> _Worker:
        """Spawned, not forked: MLX hangs in a forked process."""
        context = mp.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there,), daemon=True)
        with _interrupt_held():
            process.start()
        there.close()
        return cls(process, here, task)

    def welcome(self, subjects: Sequence[Subject]) -> None:
        """It is ready: the subjects and its point. (As arguments of the process they could wait
        for ever in a pipe that a dead child never reads.)"""
        self.ready = True
        with suppress(BrokenPipeError):
            self.link.send(tuple(subjects))
            self.link.send(self.task)

    def give(self, task: Task) -> None:
        """Send a point; if the process is dead, that is noticed when the row is awaited."""
        self.task = task
        with suppress(BrokenPipeError):
            self.link.send(task)

    def take(self) -> Row | None:
        """Its row, or the None by which it says that it is ready; EOFError if it died."""
        try:
            row: Row | None = self.link.recv()
        except ConnectionResetError as error:
            raise EOFError from error
        return row

    def end(self) -> None:
        """Stop the process, whatever it does."""
        self.link.close()
        self.process.terminate()
        self.process.join()


@contextmanager
def _interrupt_held() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal and is the parent's to handle: a process started
    in here never sees it, the parent sees it afterwards."""
    resource_tracker.ensure_running()  # or it would be started in here and let SIGINT through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class WorkerError(RuntimeError):
    """A process could not start."""

    def __str__(self) -> str:
        return (
            "a worker process ended before it was ready (its own message stands above); a script "
            'that calls run_sweep with workers must do so under `if __name__ == "__main__":`'
        )


def in_processes(subjects: Sequence[Subject], tasks: Sequence[Task], workers: int) -> Outcomes:
    """On `workers` spawned processes that keep the subjects."""
    waiting = list(reversed(tasks))
    deaths: dict[str, int] = {}
    crew: list[_Worker] = []
    try:
        for _ in range(min(workers, len(tasks))):
            crew.append(_Worker.start(waiting.pop()))
        while any(worker.task for worker in crew):
            busy = {id(worker.link): worker for worker in crew if worker.task}
            for link in wait([worker.link for worker in busy.values()]):
                worker = busy[id(link)]
                task = worker.task
                assert task is not None
                try:
                    row = worker.take()
                except EOFError:
                    ending = _ended(worker)
                    deaths[task.point] = deaths.get(task.point, 0) + 1
                    if deaths[task.point] < _TRIES:
                        waiting.append(task)
                    else:
                        yield task, {"point": task.point, **failure(f"{ending}, {_TRIES} times")}
                    crew.remove(worker)
                    if waiting:
                        crew.append(_Worker.start(waiting.pop()))
                    continue
                if row is None:
                    worker.welcome(subjects)
                    continue
                worker.task = None
                if waiting:
                    worker.give(waiting.pop())
                yield task, row
    finally:
        for worker in crew:
            worker.end()


def _ended(worker: _Worker) -> str:
    """How a process died at work, in words; one that never got ready is an error."""
    worker.process.join()
    if not worker.ready:
        raise WorkerError
    worker.end()
    code = worker.process.exitcode
    if code is not None and code < 0:
        return f"the worker was ended by {signal.Signals(-code).name} (out of memory?)"
    return f"the worker ended with exit status {code}"


def on_dask(subjects: Sequence[Subject], tasks: Sequence[Task], client: Any) -> Outcomes:
    """On the workers of a `distributed.Client`.

    The subjects are the result of a task, not scattered: they come back if all workers that hold
    them die. Dask blames a dead worker on every point that waited there, so each of them is run
    again at the end, alone; then the one that kills its worker is known.
    """
    distributed: Any = import_module("distributed")  # untyped
    shared = _share(subjects, client)

    def submit(task: Task) -> Any:
        future = client.submit(attempt, shared, task, pure=False)
        running[future.key] = future, task
        return future

    running: dict[str, tuple[Any, Task]] = {}
    suspects: list[Task] = []
    rest = iter(tasks)
    threads = max(sum(client.nthreads().values()), 1)
    finished = distributed.as_completed([submit(task) for task in islice(rest, _AHEAD * threads)])
    try:
        for future in finished:
            _, task = running.pop(future.key)
            row = _dask_row(future, task, client)
            following = next(rest, None)
            if following is not None:
                finished.add(submit(following))
            if row["status"] == _NO_ANSWER:
                suspects.append(task)
            else:
                yield task, row
        for task in suspects:
            row = {"point": task.point, **failure(_DASK_ENDING)}
            for _ in range(_TRIES):
                answer = _dask_row(submit(task), task, client)
                if answer["status"] != _NO_ANSWER:
                    row = answer
                    break
            yield task, row
    except OSError as error:
        raise ConnectionError(f"{_LOST} ({error})") from error
    finally:
        with suppress(OSError):
            client.cancel([future for future, _ in running.values()])


def _share(subjects: Sequence[Subject], client: Any) -> Any:
    """The subjects on the cluster: a finished future."""
    quiet = {"distributed.admin.large-graph-warning-threshold": 2**40}
    with import_module("dask").config.set(quiet):
        shared = client.submit(tuple, tuple(subjects), pure=False)
    error = shared.exception()
    if error is not None:
        raise ValueError(
            f"the Dask workers cannot load what is swept ({type(error).__name__}: {error}); "
            "install the same neurosim on them as here"
        )
    return shared


def _dask_row(future: Any, task: Task, client: Any) -> Row:
    """The row of a future; status `_NO_ANSWER` if the cluster lost it."""
    try:
        row: Row = future.result()
    except Exception as error:  # a point's own errors are rows: this is the cluster's
        if client.status != "running":
            raise ConnectionError(str(error)) from error
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return {"point": task.point, "status": _NO_ANSWER, "error": text}
    return row
