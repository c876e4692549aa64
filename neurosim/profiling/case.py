"""One row of a profile: candidates that compute the same result, and what that result takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from neurosim.profiling.timing import Run

Kind = Literal["ours", "dense", "int8", "other"]


@dataclass(frozen=True)
class Traffic:
    """What the accumulate-only form of an operation moves in one call.

    Attributes:
        moved: bytes read and written, each as often as the additions need it.
        reused: bytes of the data that is read again and again; they choose the memory level whose
            bandwidth is the limit.
    """

    moved: int
    reused: int


@dataclass(frozen=True)
class Candidate:
    """Something to time.

    Attributes:
        run: one call; what it returns is compared by `Case.check`.
        kind: "ours"; "dense", the same result by float32 products or dense state updates; "int8",
            the same by a dense int8 product; "other", another result that plays the same role
            (softmax attention), not compared.
        traffic: of ours.
        view: its result as an array to compare; None where it is another result of ours.
        algo: the algorithm that ours takes, where there are several.
    """

    run: Run
    kind: Kind
    traffic: Traffic | None = None
    view: Callable[[Any], Any] | None = np.asarray
    algo: str | None = None


@dataclass(frozen=True)
class Case:
    """An operation at one shape and density.

    Attributes:
        shape: letter -> size.
        density: share of nonzero spikes that was asked for; None where it does not matter.
        candidates: name -> candidate; ours first.
        synaptic_operations: additions that spikes cause in one call, counted from these inputs
            (averaged over them where several take turns); None where there are no synapses.
        tolerance: relative to the largest magnitude; 0 where results must be equal; None where
            candidates differ by design.
    """

    operation: str
    shape: Mapping[str, int]
    density: float | None
    candidates: Mapping[str, Candidate]
    synaptic_operations: float | None = None
    tolerance: float | None = 0.0

    def of(self, *kinds: Kind) -> dict[str, Candidate]:
        """Candidates of these kinds."""
        return {name: c for name, c in self.candidates.items() if c.kind in kinds}

    def check(self) -> None:
        """ValueError unless all candidates but "other" give the first one's result."""
        if self.tolerance is None:
            return
        compared = self.of("ours", "dense", "int8")
        (first, expected), *rest = (
            (name, np.asarray(candidate.view(candidate.run()), np.float64))
            for name, candidate in compared.items()
            if candidate.view is not None
        )
        limit = self.tolerance * np.abs(expected).max(initial=0)
        for name, result in rest:
            if result.shape != expected.shape or not (np.abs(result - expected) <= limit).all():
                raise ValueError(
                    f"{self.operation} {dict(self.shape)}: {name} differs from {first}"
                )


@dataclass(frozen=True)
class Request:
    """What to build: one shape and density of an operation.

    Attributes:
        shape: sizes in the order of the operation's letters.
        density: share of neurons that spike.
        backend: "auto" or a name of the operation's backends.
        threads: for the operations that take it.
        algos: for the operations that take them; each is a candidate.
        seed: of inputs and weights.
    """

    shape: tuple[int, ...]
    density: float
    backend: str = "auto"
    threads: int = 1
    algos: tuple[str, ...] = ("auto",)
    seed: int = 0


@dataclass(frozen=True)
class Operation:
    """Something that `neurosim profile` knows.

    Attributes:
        name: on the command line.
        text: what it computes, one line.
        letters: of the shape, in order.
        shape: default of the command line.
        build: the case of a request; ValueError for a shape that cannot be.
        covers: public functions of `neurosim.kernels` that are timed.
        by_density: whether density matters.
        bench: the shapes that `benchmarks.run` measures.
        algos: that can be forced.
        chooses: whether the backend can be chosen.
        small: a shape that the Metal emulator runs within seconds; None without Metal kernels.
    """

    name: str
    text: str
    letters: tuple[str, ...]
    shape: tuple[int, ...]
    build: Callable[[Request], Case]
    covers: tuple[str, ...]
    by_density: bool = True
    bench: tuple[tuple[int, ...], ...] = ()
    algos: tuple[str, ...] = ()
    chooses: bool = True
    small: tuple[int, ...] | None = None

    def named(self, shape: tuple[int, ...]) -> dict[str, int]:
        """letter -> size; ValueError if there are too many or too few, or one below 1."""
        if len(shape) != len(self.letters) or min(shape, default=0) < 1:
            raise ValueError(
                f"expected a shape {'x'.join(self.letters)} of positive sizes for {self.name}, got "
                f"{'x'.join(map(str, shape))}; for example --shape {'x'.join(map(str, self.shape))}"
            )
        return dict(zip(self.letters, shape, strict=True))
