"""Measuring a list of operations, one case after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from neurosim.kernels._metal import gpu_unavailable
from neurosim.profiling.analysis import Measured
from neurosim.profiling.case import Case, Operation, Request
from neurosim.profiling.timing import Effort, interleaved

DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.365, 0.5)
_ANY_DENSITY = 0.2  # of operations whose time does not depend on it
Show = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """One case to come."""

    operation: Operation
    request: Request

    def __str__(self) -> str:
        shape = "x".join(map(str, self.request.shape))
        density = f" p={self.request.density:g}" if self.operation.by_density else ""
        return f"{self.operation.name} {shape}{density}"

    def case(self) -> Case:
        """Inputs drawn, candidates made."""
        self.operation.named(self.request.shape)
        return self.operation.build(self.request)


def jobs(
    operations: Sequence[Operation],
    densities: Sequence[float],
    shape: tuple[int, ...] | None = None,
    backend: str = "auto",
    threads: int = 1,
    algos: tuple[str, ...] = ("auto",),
) -> list[Job]:
    """Every operation at every density; at its default shape if none is given."""
    if shape is not None and len(operations) != 1:
        raise ValueError(
            f"expected one operation with a shape, got {len(operations)}: their shapes differ"
        )
    fixed = [operation.name for operation in operations if not operation.chooses]
    if fixed and backend not in ("auto", "cpu"):
        raise ValueError(f"expected operations with a choice of backend, got {', '.join(fixed)}")
    for density in densities:
        if not 0 < density <= 1:
            raise ValueError(f"expected densities above 0 and up to 1, got {density:g}")
    found = []
    for operation in operations:
        wanted = operation.shape if shape is None else shape
        operation.named(wanted)
        impossible = sorted(set(algos) - {"auto", *operation.algos})
        if impossible:
            raise ValueError(
                f"expected algo {', '.join(('auto', *operation.algos))} of {operation.name}, got "
                f"{', '.join(impossible)}"
            )
        for density in densities if operation.by_density else (_ANY_DENSITY,):
            found.append(Job(operation, Request(wanted, density, backend, threads, algos)))
    return found


def by_wall_clock(threads: int) -> bool:
    """Whether wall time counts: CPU time adds up threads, and does not see a GPU."""
    return threads > 1 or gpu_unavailable() is None


def with_metal(case: Case, job: Job, backend: str = "metal") -> Case:
    """The case with our candidates on the GPU beside ours; arrays are handed over in every call."""
    if job.operation.small is None:
        return case
    request = replace(job.request, backend=backend, algos=("auto",))
    on_gpu = {f"{name}, Metal": c for name, c in job.operation.build(request).of("ours").items()}
    return replace(case, candidates={**case.candidates, **on_gpu})


def measured(wanted: Sequence[Job], effort: Effort, show: Show | None = None) -> Iterator[Measured]:
    """Build, check and time each case; a result that differs is an error, not a row."""
    for index, job in enumerate(wanted):
        if show is not None:
            show(str(job), index, len(wanted))
        case = job.case()
        if job.request.backend == "auto" and gpu_unavailable() is None:
            case = with_metal(case, job)
        case.check()
        runs = {name: candidate.run for name, candidate in case.candidates.items()}
        by_wall = by_wall_clock(job.request.threads)
        yield Measured(case, interleaved(runs, effort, by_wall))
    if show is not None:
        show("done", len(wanted), len(wanted))
