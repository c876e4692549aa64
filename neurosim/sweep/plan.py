"""The points of a sweep in their order, each with a hash that says what its result depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from neurosim.sweep.design import Variant, digest, variants
from neurosim.sweep.language import LanguageModel
from neurosim.sweep.spec import SweepSpec


class Work(Protocol):
    """One thing to measure; `amount`: how much it simulates, in its subject's unit."""

    @property
    def kind(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def amount(self) -> float: ...


class Subject(Protocol):
    """What is measured: picklable, shipped to every worker once. `unit`: of amounts."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def works(self) -> Sequence[Work]: ...
    @property
    def work_digests(self) -> Sequence[str]: ...
    def measure(self, index: int, given: Any, seed: int) -> dict[str, Any]:
        """Run work `index` on a chip (or with parameters) and a seed; column -> value."""
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """What a worker gets: which work of which subject, on which chip, drawn from which seed.

    `given`: the chip, or a network's parameters.
    """

    point: str
    subject: int
    work: int
    given: Any
    seed: int
    amount: float


@dataclass(frozen=True, eq=False)
class Plan:
    """A specification made ready: subjects, and for every point its axes and its task.

    `axes`: one row a point (column -> value), in the order of the specification; `keys`: the chip
    keys among the columns, with their units.
    """

    spec: SweepSpec
    subjects: tuple[Subject, ...]
    tasks: Mapping[str, Task]
    axes: tuple[Mapping[str, Any], ...]
    keys: Mapping[str, str]
    flags: tuple[str, ...]

    @property
    def unit(self) -> str:
        """What amounts are counted in: "tokens" or "simulated seconds"."""
        return self.subjects[0].unit

    @property
    def points(self) -> tuple[str, ...]:
        """Hash of every point, in order; equal settings have equal hashes."""
        return tuple(row["point"] for row in self.axes)

    def __repr__(self) -> str:
        return f"Plan({self.spec.name}: {len(self.axes)} points)"


def make_plan(
    spec: SweepSpec, where: str = "sweep", subjects: Sequence[Subject] | None = None
) -> Plan:
    """Load what the specification names, and check all of it before anything runs.

    `subjects`: used instead of the models that the specification names.
    """
    if spec.network is None:
        chosen = variants(spec, where)
        try:
            subjects = subjects or [*LanguageModel.load_all(spec)]
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    else:
        from neurosim.sweep.populations import NetworkModel  # its engines are not needed otherwise

        network = NetworkModel.load(spec, where)
        subjects, chosen = subjects or [network], network.variants(spec, where)
    tasks: dict[str, Task] = {}
    axes: list[dict[str, Any]] = []
    for number, subject in enumerate(subjects):
        for index, work in enumerate(subject.works):
            for variant in chosen:
                for seed in spec.seeds:
                    identity = [subject.work_digests[index], variant.digest, seed]
                    point = digest(identity)[:24]
                    tasks[point] = Task(point, number, index, variant.given, seed, work.amount)
                    axes.append(_axes(point, subject, work, variant, seed))
    keys = dict(chosen[0].units)
    flags = dict.fromkeys(flag for variant in chosen for flag in variant.flags)
    return Plan(spec, tuple(subjects), tasks, tuple(axes), keys, tuple(flags))


def _axes(point: str, subject: Subject, work: Work, variant: Variant, seed: int) -> dict[str, Any]:
    return {
        "point": point,
        "model": subject.name,
        "chip": variant.name,
        "case": variant.setting.case,
        "varied": variant.setting.varied,
        "work": work.kind,
        "prompt": work.prompt,
        "seed": seed,
        **variant.columns,
    }
