"""Arithmetic of the graph that MLX exports: what each primitive costs by its shapes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

Shape = tuple[int, ...]
# Kinds of mlx's Reduce, in the order of its enumeration; 0 and 1 are logical.
_REDUCTIONS = ("compares", "compares", "additions", "multiplies", "compares", "compares")

_SPECIAL = (
    "Divide Remainder DivMod Power Sqrt Exp Expm1 Log Log1p Sigmoid Tanh Erf ErfInv Sin Cos Tan "
    "Sinh Cosh ArcSin ArcCos ArcTan ArcTan2 LogAddExp"
)
_COMPARE = (
    "Maximum Minimum Equal NotEqual Greater GreaterEqual Less LessEqual LogicalAnd LogicalOr "
    "LogicalNot Sign Abs Round Floor Ceil BitwiseBinary BitwiseInvert"
)
_MOVES = (
    "Arange AsStrided AsType Broadcast BroadcastAxes Concatenate Contiguous Copy Depends "
    "DynamicSlice ExpandDims Eye Flatten Full Load NumberOfElements Pad Reshape Select Slice "
    "SliceUpdate Split Squeeze StopGradient Transpose Unflatten View"
)
_EACH: dict[str, str] = {
    **dict.fromkeys(("Add", "Subtract", "Negative", "Scan"), "additions"),
    **dict.fromkeys(("Multiply", "Square"), "multiplies"),
    **dict.fromkeys(_SPECIAL.split(), "special_functions"),
    **dict.fromkeys(_COMPARE.split(), "compares"),
}
_FREE = frozenset(_MOVES.split())
PRODUCTS = {
    **dict.fromkeys(("Matmul", "AddMM", "QuantizedMatmul"), "product"),
    "Convolution": "convolution",
}


@dataclass
class GraphCounts:
    """Arithmetic and look-ups of a graph by count name, and how many products it holds."""

    amounts: Counter[str] = field(default_factory=Counter)
    products: Counter[str] = field(default_factory=Counter)

    def without(self, others: Sequence[GraphCounts]) -> GraphCounts:
        """This graph's own, with those of graphs inside it taken off."""
        own = GraphCounts(Counter(self.amounts), Counter(self.products))
        for other in others:
            own.amounts.subtract(other.amounts)
            own.products.subtract(other.products)
        return own


def count_primitive(
    name: str, inputs: Sequence[Shape], outputs: Sequence[Shape], arguments: Sequence[Any]
) -> dict[str, int]:
    """count name -> amount of one primitive; ValueError names one that is not known."""
    size = math.prod(outputs[0]) if outputs else 0
    if name in _FREE or name in PRODUCTS:
        return {}
    if name in ("Gather", "GatherAxis"):
        return {"words_read": size}
    if name == "Softmax":
        rows = size // outputs[0][-1]
        return {
            "compares": size - rows,
            "additions": 2 * size - rows,  # the maximum is subtracted; the sum
            "special_functions": size + rows,  # exponentials and one reciprocal a row
            "multiplies": size,
        }
    if name == "LogSumExp":
        elements = math.prod(inputs[0])
        return {
            "compares": elements - size,
            "additions": 2 * elements,
            "special_functions": elements + size,
        }
    if name == "Reduce":
        return {_REDUCTIONS[int(arguments[0])]: math.prod(inputs[0]) - size}
    if name == "ArgReduce":
        return {"compares": math.prod(inputs[0]) - size}
    if name in _EACH:
        return {_EACH[name]: size}
    if name.startswith("Random"):
        raise ValueError(
            f"the graph draws random numbers ({name}); call model.eval() so that dropout is off"
        )
    raise ValueError(
        f"cannot count the operation {name}; it is in no list of neurosim.energy.graph"
    )


def graph_counts(function: Callable[..., Any], arrays: Sequence[mx.array]) -> GraphCounts:
    """Counts of `function(*arrays)`, which returns arrays; what no input reaches is a constant."""
    found = GraphCounts()
    reached: set[str] = set()

    def visit(part: dict[str, Any]) -> None:
        if part["type"] == "inputs":
            reached.update(name for name, *_ in part["inputs"])
        if part["type"] != "primitive":
            return
        random = part["name"].startswith("Random")  # a model whose parameters are there draws none
        if not random and not any(name in reached for name, *_ in part["inputs"]):
            return
        reached.update(name for name, *_ in part["outputs"])
        inputs, outputs = ([item[1] for item in part[side]] for side in ("inputs", "outputs"))
        if part["name"] in PRODUCTS:
            found.products[PRODUCTS[part["name"]]] += 1
        found.amounts.update(count_primitive(part["name"], inputs, outputs, part["arguments"]))

    with mx.stream(mx.cpu):  # the CPU has no fused norms and rotations: all arithmetic is visible
        mx.export_function(visit, function, *arrays)
    return found
