"""What the times mean: ratios to dense baselines, break-even density, share of the roofline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurosim.profiling.case import Case, Kind
from neurosim.profiling.roofline import Roofline
from neurosim.profiling.timing import Times

_SAME_RESULT: tuple[Kind, ...] = ("dense", "int8")


@dataclass(frozen=True)
class BreakEven:
    """The density at which ours costs what the best dense form costs.

    Attributes:
        density: None where no such density was met.
        state: "faster below" or "faster above" that density; "always faster", "never faster" where
            there is none; "not measured" without a density or a dense form.
    """

    density: float | None
    state: str

    def __str__(self) -> str:
        if self.density is None:
            return f"none ({self.state})"
        above = " (faster above)" if self.state == "faster above" else ""
        return f"{self.density:.2g}{above}"


def break_even(ratios: Mapping[float, float]) -> BreakEven:
    """From density -> (best dense time / our time), at least 1 where ours is not slower.

    The last crossing going up in density counts; there the logarithm of the ratio is taken as a
    straight line over the logarithm of the density.
    """
    points = sorted(ratios.items())
    if not points:
        return BreakEven(None, "not measured")
    for (low, left), (high, right) in reversed(list(zip(points, points[1:], strict=False))):
        if (left >= 1) != (right >= 1):
            share = math.log(left) / (math.log(left) - math.log(right))
            density = math.exp(math.log(low) + share * math.log(high / low))
            return BreakEven(density, "faster below" if left >= 1 else "faster above")
    return BreakEven(None, "always faster" if points[0][1] >= 1 else "never faster")


@dataclass(frozen=True)
class Measured:
    """A case and its times, name -> seconds per call."""

    case: Case
    times: Mapping[str, Times]

    def best(self, *kinds: Kind) -> str | None:
        """The fastest candidate of these kinds by median CPU time."""
        names = [name for name in self.case.of(*kinds) if name in self.times]
        return min(names, key=lambda name: self.times[name].median) if names else None

    def ratio(self, name: str, *kinds: Kind) -> float | None:
        """Time of the fastest candidate of these kinds over the time of `name`."""
        rival = self.best(*kinds)
        return None if rival is None else self.times[rival].median / self.times[name].median

    def rate(self, name: str) -> float | None:
        """Synaptic operations per second."""
        done = self.case.synaptic_operations
        return None if done is None else done / self.times[name].median

    def rows(self, roofline: Roofline | None) -> list[dict[str, Any]]:
        """One JSON row per candidate."""
        rows = []
        for name, times in self.times.items():
            candidate = self.case.candidates[name]
            row = {
                "operation": self.case.operation,
                "candidate": name,
                "kind": candidate.kind,
                "shape": dict(self.case.shape),
                "density": self.case.density,
                **times.to_dict(),
            }
            if candidate.kind == "ours":
                row |= {
                    "algo": candidate.algo,
                    "dense_ratio": self.ratio(name, "dense"),
                    "int8_ratio": self.ratio(name, "int8"),
                    "other_ratio": self.ratio(name, "other"),
                    "synaptic_operations": self.case.synaptic_operations,
                    "synaptic_operations_per_s": self.rate(name),
                }
                traffic = candidate.traffic
                if traffic is not None:
                    fraction = (
                        None if roofline is None else roofline.fraction(traffic, times.median)
                    )
                    row |= {"bytes": traffic.moved, "reused_bytes": traffic.reused,
                            "roofline_fraction": fraction}  # fmt: skip
            rows.append(row)
        return rows


def break_evens(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Break-even density of each of our candidates, per operation and shape, against each kind."""
    ratios: dict[tuple[Any, ...], dict[float, float]] = {}
    for one in measured:
        if one.case.density is None:
            continue
        for name in one.case.of("ours"):
            for kind in _SAME_RESULT:
                ratio = one.ratio(name, kind)
                if ratio is not None:
                    key = (one.case.operation, tuple(one.case.shape.items()), name, kind)
                    ratios.setdefault(key, {})[one.case.density] = ratio
    found = []
    for (operation, shape, name, kind), values in ratios.items():
        result = break_even(values)
        found.append(
            {
                "operation": operation,
                "shape": dict(shape),
                "candidate": name,
                "against": kind,
                "density": result.density,
                "state": result.state,
            }
        )
    return found
