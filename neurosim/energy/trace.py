"""Count the operations of any `mlx.nn` model by running it once.

Two views are joined. Products (linear layers, convolutions, matrix products, fused attention) are
seen with their values as the model runs, so that zeros are counted exactly. Everything else is
read from the graph that MLX itself exports, module by module, so that no addition, norm or special
function is invisible. A product in the graph that was not seen with its values is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from neurosim.energy.counts import hash_operations
from neurosim.energy.graph import GraphCounts, graph_counts
from neurosim.energy.operations import REAL, InputClass, Operation, OperationCounts, merged
from neurosim.energy.products import convolution, linear, pairs
from neurosim.energy.watched import watched_functions

ROOT = "model"
_UNSEEN = {
    "eval": "cannot count a model that reads values as it runs (item(), numpy): its graph depends "
    "on them; move the reading out of the model",
    "export_function": "cannot see into a custom function of MLX (mx.custom_function, checkpoint); "
    "count the model with plain MLX operations in its place",
}


def count(
    model: Any,
    *inputs: Any,
    classes: Mapping[str, InputClass] | None = None,
    tokens: int | None = None,
    head: str = "lm_head",
    weight_bits: int = 32,
    activation_bits: int = 32,
) -> OperationCounts:
    """Exact operation counts of one forward pass.

    Args:
        model: an `mlx.nn.Module`, called as `model(*inputs)`; it is left as it was.
        inputs: what it is called with; arrays, or anything with arrays in it.
        classes: module path -> class of its input, e.g. {"layers.0.fc": InputClass("binary")}; for
            a matrix that is not called `weight` its own path, "blocks.0.query"; for products of
            activations "path.left" and "path.right", for fused attention "path.queries",
            "path.keys", "path.values". What is not named is real. `model.spike_classes`, if it has
            one, is used where `classes` is silent.
        tokens: what totals per token are divided by; default: rows of the first input array.
        head: path of the language-model head, listed apart as mechanism "head".
        weight_bits, activation_bits: what every record says about its word lengths.

    Returns:
        records by layer (module path) and mechanism.

    Raises:
        ValueError: data that contradict a class, a class for a module that was not called, or an
            operation that cannot be counted, by name.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected an mlx.nn.Module, got {type(model).__name__}")
    declared = {**getattr(model, "spike_classes", {}), **(classes or {})}
    mx.eval(model.parameters())
    seen = _Seen(model, declared, head, weight_bits, activation_bits)
    with _watched(model, seen):
        mx.eval(model(*inputs))
    unused = sorted(set(declared) - seen.used)
    if unused:
        raise ValueError(
            f"classes for {', '.join(unused)}: no such input was used; seen: "
            f"{', '.join(sorted(seen.sites))}"
        )
    arrays = [value for _, value in tree_flatten(list(inputs)) if isinstance(value, mx.array)]
    rows = int(np.prod(arrays[0].shape[:-1])) if arrays and arrays[0].ndim > 1 else 1
    if arrays and arrays[0].dtype in (mx.int32, mx.uint32, mx.int64):
        rows = int(arrays[0].size)
    return OperationCounts(merged(seen.operations), tokens or max(rows, 1))


@dataclass(frozen=True, eq=False)
class _Owned:
    """A matrix among the parameters; `path`: its module's, or its own where it is no `weight`."""

    module_path: str
    path: str
    module: nn.Module
    matrix: mx.array


class _Seen:
    """What was seen so far. `path`: modules under way; `graphs`: their children's graphs."""

    def __init__(
        self,
        model: nn.Module,
        classes: Mapping[str, InputClass],
        head: str,
        weight_bits: int,
        activation_bits: int,
    ) -> None:
        self.classes, self.head = classes, head
        self.bits = {"weight_bits": weight_bits, "activation_bits": activation_bits}
        self.operations: list[Operation] = []
        self.used: set[str] = set()
        self.sites: set[str] = set()
        self.path: list[str] = []
        self.modules: list[nn.Module] = []
        self.graphs: list[list[GraphCounts]] = []
        self.products: list[Counter[str]] = []
        self.exporting = False
        self._owners: dict[tuple[int, ...], list[_Owned]] = {}
        for path, module in model.named_modules():
            name = path or ROOT
            for key, value in module.items():
                if not isinstance(value, mx.array) or value.ndim != 2:
                    continue
                own = name if key == "weight" else f"{path}.{key}".lstrip(".")
                for matrix in (value, value.T):
                    owned = _Owned(name, own, module, matrix)
                    self._owners.setdefault(matrix.shape, []).append(owned)

    @property
    def where(self) -> str:
        """Path of the module under way."""
        return self.path[-1]

    def kind(self, site: str) -> InputClass:
        """The declared class of a site."""
        self.sites.add(site)
        if site in self.classes:
            self.used.add(site)
        return self.classes.get(site, REAL)

    def _owner(self, matrix: mx.array) -> tuple[str, nn.Module] | None:
        """Path and module of the parameter that this is, those of the module under way first."""
        candidates = self._owners.get(tuple(matrix.shape), [])
        for item in sorted(candidates, key=lambda item: item.module_path != self.where):
            if mx.array_equal(item.matrix, matrix).item():
                return item.path, item.module
        return None

    def product(self, left: mx.array, right: mx.array, bias: bool = False) -> None:
        """A matrix product: a layer if its right side is a parameter, else of activations."""
        self.products[-1]["product"] += 1
        a, b = _values(left), _values(right)
        owner = self._owner(right) if right.ndim == 2 else None
        if owner is None:
            if a.ndim < 2 or b.ndim < 2:
                raise ValueError(
                    f"{self.where}: expected matrices in a product of activations, got shapes "
                    f"{a.shape} and {b.shape}"
                )
            kinds = self.kind(f"{self.where}.left"), self.kind(f"{self.where}.right")
            self.operations.append(pairs(self.where, "product", a, b, *kinds))
            return
        name, module = owner
        head = name == self.head or isinstance(module, nn.Embedding)
        mechanism = "head" if head else "linear"
        self.operations.append(linear(name, a, b.T, self.kind(name), bias, mechanism, **self.bits))

    def quantized(self, inputs: mx.array, weight: mx.array, bits: int) -> None:
        """A product with a packed matrix, unpacked (I, O); its bias is an addition of the graph."""
        self.products[-1]["product"] += 1
        where, kind = self.where, self.kind(self.where)
        head = "head" if where == self.head else "linear"
        sizes = {**self.bits, "weight_bits": bits}
        found = linear(where, _values(inputs), _values(weight).T, kind, False, head, **sizes)
        self.operations.append(found)

    def convolve(self, inputs: mx.array, weight: mx.array, settings: dict[str, Any]) -> None:
        """A convolution with its settings, one entry a space axis."""
        self.products[-1]["convolution"] += 1
        kind, bias = self.kind(self.where), "bias" in self.modules[-1]
        self.operations.append(
            convolution(self.where, _values(inputs), _values(weight), kind, bias, **settings)
        )

    def attend(self, q: mx.array, k: mx.array, v: mx.array, mask: Any) -> None:
        """Fused attention: scores and softmax over visible pairs, and mixing of values."""
        where = self.where
        left, keys, values = _values(q), _values(k), _values(v)
        repeat = left.shape[1] // keys.shape[1]
        keys, values = (np.repeat(x, repeat, axis=1) for x in (keys, values))
        visible = _visible(mask, left.shape[-2], keys.shape[-2])
        kinds = [self.kind(f"{where}.{name}") for name in ("queries", "keys", "values")]
        scores = pairs(where, "scores", left, keys.swapaxes(-1, -2), kinds[0], kinds[1], visible)
        shape = (*left.shape[:-1], keys.shape[-2])
        mixing = pairs(where, "mixing", np.ones(shape), values, REAL, kinds[2], left_mask=visible)
        seen = int(np.broadcast_to(visible, shape).sum())
        rows = int(np.prod(left.shape[:-1]))
        self.operations += [scores, _softmax(where, rows, seen, scaled=True), mixing]

    def hashed(self, tokens: int, orders: list[int]) -> None:
        """Rows of n-gram tables found by hashing: integer additions, a shift as one of them."""
        amount = tokens * sum(sum(hash_operations(order).values()) for order in orders)
        if amount:
            self.operations.append(Operation(self.where, "embedding", additions=amount))

    def causal_softmax(self, scores: mx.array) -> None:
        """Softmax of square scores (..., L, L) over the keys that a query may see."""
        length = scores.shape[-1]
        texts = scores.size // length**2
        visible = texts * length * (length + 1) // 2
        self.operations.append(_softmax(self.where, texts * length, visible, scaled=False))


def _softmax(where: str, rows: int, visible: int, scaled: bool) -> Operation:
    """Softmax of `rows` rows over `visible` entries in all, with a scale on each or without."""
    return Operation(
        where,
        "softmax",
        rows=rows,
        multiplies=(1 + scaled) * visible,  # the product with the reciprocal, and the scale
        additions=2 * visible - rows,  # the maximum is subtracted; the sum
        compares=visible - rows,
        special_functions=visible + rows,  # exponentials and one reciprocal a row
    )


def _values(array: mx.array) -> np.ndarray:
    try:
        return np.array(array.astype(mx.float32))
    except ValueError as error:
        raise ValueError(
            "cannot see the values of a product inside mx.compile; count the model uncompiled "
            "(mx.disable_compile() before it is built)"
        ) from error


def _visible(mask: Any, queries: int, keys: int) -> np.ndarray:
    """(..., queries, keys): which pairs an attention mask leaves."""
    if mask is None:
        return np.ones((queries, keys), np.bool_)
    if isinstance(mask, str):
        return np.tril(np.ones((queries, keys), np.bool_), keys - queries)
    return np.array(mask) if mask.dtype == mx.bool_ else _values(mask) > -1e4


@contextmanager
def _watched(model: nn.Module, seen: _Seen) -> Iterator[None]:
    """Every module of the model, and MLX's product functions, report to `seen`."""
    paths = {id(module): name or ROOT for name, module in model.named_modules()}
    originals: list[tuple[Any, str, Any]] = []

    def swap(owner: Any, name: str, new: Any) -> None:
        originals.append((owner, name, getattr(owner, name)))
        setattr(owner, name, new)

    try:
        for kind in {type(module) for module in model.modules()}:
            swap(kind, "__call__", _module_call(kind.__call__, paths, seen))
        for owner, name, wrap in watched_functions():
            swap(owner, name, wrap(getattr(owner, name), seen))
        yield
    finally:
        for owner, name, original in reversed(originals):
            setattr(owner, name, original)


def _module_call(original: Callable[..., Any], paths: Mapping[int, str], seen: _Seen) -> Any:
    """A module's call that leaves behind what is in its graph and not in its children's."""

    def call(self: nn.Module, *arguments: Any, **options: Any) -> Any:
        path = paths.get(id(self))
        again = bool(seen.path) and seen.path[-1] == path  # a subclass calls its parent's
        if path is None or seen.exporting or again:
            return original(self, *arguments, **options)
        seen.path.append(path)
        seen.modules.append(self)
        first = len(seen.operations)
        seen.graphs.append([])
        seen.products.append(Counter())
        try:
            result = original(self, *arguments, **options)
            graph = _graph(original, self, arguments, options, path, seen)
            own = graph.without(seen.graphs[-1])
            own.amounts["additions"] -= sum(  # MLX adds the bias of a convolution apart
                item.bias_additions
                for item in seen.operations[first:]
                if item.mechanism == "convolution" and item.layer == path
            )
            _check_products(path, own, seen.products[-1])
            seen.operations += _elementwise(path, own)
        finally:
            seen.path.pop()
            seen.modules.pop()
            seen.graphs.pop()
            seen.products.pop()
        if seen.graphs:
            seen.graphs[-1].append(graph)
        return result

    return call


def _graph(
    original: Callable[..., Any],
    module: nn.Module,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    path: str,
    seen: _Seen,
) -> GraphCounts:
    """The graph of one call, with the arrays among its arguments as inputs."""
    flat = tree_flatten([list(arguments), options])
    odd = [
        value
        for _, value in flat
        if not isinstance(value, mx.array | str | int | float | bool | type(None))
        and not callable(value)
    ]
    if odd:
        raise ValueError(
            f"{path}: expected arrays and plain values as arguments, got a "
            f"{type(odd[0]).__name__}; tracing calls a module twice, so pass no cache"
        )
    arrays = [value for _, value in flat if isinstance(value, mx.array)]

    def function(*given: mx.array) -> list[mx.array]:
        rest = iter(given)
        filled = [(key, next(rest) if isinstance(v, mx.array) else v) for key, v in flat]
        tree = tree_unflatten(filled) if filled else [[], {}]
        result = original(module, *(tree[0] or ()), **(tree[1] if len(tree) > 1 else {}))
        leaves = [value for _, value in tree_flatten(result)]
        lost = [v for v in leaves if not isinstance(v, mx.array | int | float | bool | str | None)]
        if lost:
            raise ValueError(
                f"{path}: expected arrays, or lists and dictionaries of them, as its result, got a "
                f"{type(lost[0]).__name__}: what leads to it would not be counted"
            )
        return [value for value in leaves if isinstance(value, mx.array)]

    seen.exporting = True
    try:
        return graph_counts(function, arrays)
    except ValueError as error:
        reason = _UNSEEN.get(str(error).partition("]")[0].strip("["))
        if reason is None:
            raise
        raise ValueError(f"{path}: {reason}") from error
    finally:
        seen.exporting = False


def _check_products(path: str, own: GraphCounts, watched: Counter[str]) -> None:
    for name in ("product", "convolution"):
        if own.products[name] != watched[name]:
            raise ValueError(
                f"{path}: its graph has {own.products[name]} of kind {name!r}, "
                f"{watched[name]} were seen with their values; use mx.matmul, @, nn.Linear or "
                "mx.conv_general instead of einsum, tensordot, transposed convolutions and the like"
            )


def _elementwise(path: str, own: GraphCounts) -> list[Operation]:
    amounts: dict[str, Any] = {name: value for name, value in own.amounts.items() if value}
    words = amounts.pop("words_read", 0)
    found = [Operation(path, "embedding", words_read=words)] if words else []
    if amounts:
        found.append(replace(Operation(path, "elementwise"), **amounts))
    return found
