"""The points of a sweep in their order, each with a hash that says what its result depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from neurosim.chip.description import ChipDescription
from neurosim.sweep.design import Variant, digest, swept_keys, unit_of, variants
from neurosim.sweep.language import LanguageModel
from neurosim.sweep.spec import SweepSpec


class Work(Protocol):
    """One thing to measure; `tokens`: how many steps it simulates."""

    @property
    def kind(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def tokens(self) -> int: ...


class Subject(Protocol):
    """What is measured: picklable, shipped to every worker once."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def works(self) -> Sequence[Work]: ...
    @property
    def work_digests(self) -> Sequence[str]: ...
    def measure(self, index: int, chip: ChipDescription, seed: int) -> dict[str, Any]:
        """Run work `index` on one drawn chip; column -> value."""
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """What a worker gets: which work of which subject, on which chip, drawn from which seed."""

    point: str
    subject: int
    work: int
    chip: ChipDescription
    seed: int
    tokens: int


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
    chips = variants(spec, where)
    try:
        subjects = subjects or [LanguageModel.load(name, spec) for name in spec.models]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    tasks: dict[str, Task] = {}
    axes: list[dict[str, Any]] = []
    for number, subject in enumerate(subjects):
        for index, work in enumerate(subject.works):
            for variant in chips:
                for seed in spec.seeds:
                    identity = [subject.work_digests[index], variant.digest, seed]
                    point = digest(identity)[:24]
                    tasks[point] = Task(point, number, index, variant.chip, seed, work.tokens)
                    axes.append(_axes(point, subject, work, variant, seed))
    keys = {key: unit_of(chips[0].chip, key) for key in swept_keys(spec)}
    flags = dict.fromkeys(flag for variant in chips for flag in variant.base.flags)
    return Plan(spec, tuple(subjects), tasks, tuple(axes), keys, tuple(flags))


def _axes(point: str, subject: Subject, work: Work, variant: Variant, seed: int) -> dict[str, Any]:
    return {
        "point": point,
        "model": subject.name,
        "chip": variant.base.name,
        "case": variant.setting.case,
        "varied": variant.setting.varied,
        "work": work.kind,
        "prompt": work.prompt,
        "seed": seed,
        **variant.columns,
    }
