"""What an operation is, exactly: one record per layer and mechanism.

Rules: energy-and-language-models.md 5.3.

Everything is a Python integer, nothing is sampled. The class of an input is declared by the model
and checked on the data; data never makes a site a spike site, an all-zero batch is no evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

INTEGERS = (
    "rows",
    "nonzero",
    "synaptic_operations",
    "effective",
    "dense",
    "bias_additions",
    "multiplies",
    "additions",
    "compares",
    "special_functions",
    "words_read",
)


@dataclass(frozen=True)
class InputClass:
    """What the values of an input may be: "binary" {0, 1}, "ternary" {-1, 0, 1}, "graded", "real".

    Graded: integers -levels..levels (0..levels if unsigned): every event counts `levels` times at
    most as unary spikes.
    """

    kind: str = "real"
    levels: int = 0
    signed: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("binary", "ternary", "graded", "real"):
            raise ValueError(
                f'expected class "binary", "ternary", "graded" or "real", got {self.kind!r}'
            )
        if (self.kind == "graded") != (self.levels > 0):
            raise ValueError(f"expected levels > 0 for graded inputs only, got {self}")

    @property
    def accumulates(self) -> bool:
        """Whether a product with it needs no multiplication."""
        return self.kind in ("binary", "ternary")

    def check(self, where: str, values: npt.NDArray[Any]) -> None:
        """ValueError if the data contradict the declaration."""
        if self.kind == "real" or values.size == 0:
            return
        low = {"binary": 0, "ternary": -1}.get(self.kind, -self.levels if self.signed else 0)
        high = self.levels if self.kind == "graded" else 1
        good = (values == np.rint(values)) & (values >= low) & (values <= high)
        if not good.all():
            raise ValueError(
                f"{where}: declared {self}, expected integers {low}..{high}, got "
                f"{values[~good].reshape(-1)[0]}; declare it real or fold its scale into weights"
            )

    def __str__(self) -> str:
        return f"graded({self.levels})" if self.kind == "graded" else self.kind


REAL = InputClass()


@dataclass(frozen=True)
class Operation:
    """One record. `mechanism`: "linear", "convolution", "scores", "mixing", "embedding", ....

    rows: input vectors; nonzero: non-zero inputs; synaptic_operations: non-zero inputs times
    fan-out (unary spikes for graded inputs: sum |n| times fan-out); effective: pairs of non-zero
    input and non-zero weight; dense: all pairs, padding left out. multiplies, additions, compares,
    special_functions: arithmetic as it is done (products of binary and ternary inputs add only).
    words_read: words looked up in tables.
    """

    layer: str
    mechanism: str
    input_class: InputClass = REAL
    rows: int = 0
    nonzero: int = 0
    synaptic_operations: int = 0
    effective: int = 0
    dense: int = 0
    bias_additions: int = 0
    multiplies: int = 0
    additions: int = 0
    compares: int = 0
    special_functions: int = 0
    words_read: int = 0
    weight_bits: int = 0
    activation_bits: int = 0

    def __post_init__(self) -> None:
        for name in INTEGERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(
                    f"{self.layer} {self.mechanism}: expected {name} to be a Python int >= 0, "
                    f"got {value!r}"
                )
        if self.effective > self.dense:
            raise ValueError(
                f"{self.layer} {self.mechanism}: {self.effective} effective operations exceed "
                f"the {self.dense} dense ones"
            )


@dataclass(frozen=True)
class OperationCounts:
    """The operations of one pass over `tokens` tokens."""

    operations: tuple[Operation, ...]
    tokens: int
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"expected at least one token, got {self.tokens}")

    def total(self, count: str, where: Callable[[Operation], bool] = lambda _: True) -> int:
        """One count over all operations, or those that `where` keeps."""
        if count not in INTEGERS:
            raise ValueError(f"expected a count out of {', '.join(INTEGERS)}, got {count!r}")
        return sum(getattr(item, count) for item in self.operations if where(item))

    @property
    def macs(self) -> int:
        """Effective multiply-accumulates: products whose input is neither binary nor ternary."""
        return self.total("effective", lambda item: not item.input_class.accumulates)

    @property
    def accumulates(self) -> int:
        """Effective accumulates: products of binary and ternary inputs."""
        return self.total("effective", lambda item: item.input_class.accumulates)

    def by_layer(self) -> dict[str, dict[str, int]]:
        """layer -> count -> int."""
        return self._grouped(lambda item: item.layer)

    def by_mechanism(self) -> dict[str, dict[str, int]]:
        """mechanism -> count -> int."""
        return self._grouped(lambda item: item.mechanism)

    def _grouped(self, key: Callable[[Operation], str]) -> dict[str, dict[str, int]]:
        groups: dict[str, dict[str, int]] = {}
        for item in self.operations:
            into = groups.setdefault(key(item), dict.fromkeys(INTEGERS, 0))
            for name in INTEGERS:
                into[name] += getattr(item, name)
        return groups

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "tokens": self.tokens,
            "operations": [
                {**asdict(item), "input_class": str(item.input_class)} for item in self.operations
            ],
            "totals": {name: self.total(name) for name in INTEGERS},
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        return (
            f"OperationCounts({len(self.operations)} records, {self.tokens} tokens, "
            f"{self.macs} MACs, {self.accumulates} accumulates)"
        )


def merged(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """Records of the same layer, mechanism, class and word lengths as one, in first order."""
    sums: dict[tuple[Any, ...], Operation] = {}
    names = [item.name for item in fields(Operation)]
    keys = [name for name in names if name not in INTEGERS]
    for item in operations:
        key = tuple(getattr(item, name) for name in keys)
        before = sums.get(key)
        if before is None:
            sums[key] = item
            continue
        values: Mapping[str, Any] = {
            name: getattr(before, name) + getattr(item, name) for name in INTEGERS
        }
        sums[key] = Operation(**{name: getattr(item, name) for name in keys}, **values)
    return tuple(sums.values())
