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
from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from neurosim.energy.graph import GraphCounts, graph_counts
from neurosim.energy.operations import REAL, InputClass, Operation, OperationCounts, merged
from neurosim.energy.products import convolution, linear, pairs

ROOT = "model"


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
            products of activations "path.left" and "path.right", for fused attention
            "path.queries", "path.keys", "path.values". What is not named is real. `model.
            spike_classes`, if it has one, is used where `classes` is silent.
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
        self._owners: dict[tuple[int, ...], list[tuple[str, nn.Module, mx.array]]] = {}
        for path, module in model.named_modules():
            name = path or ROOT
            for value in module.values():
                if isinstance(value, mx.array) and value.ndim == 2:
                    self._owners.setdefault(value.shape, []).append((name, module, value))
                    self._owners.setdefault(value.shape[::-1], []).append((name, module, value.T))

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
        """The module whose parameter this is, the one under way first."""
        candidates = self._owners.get(tuple(matrix.shape), [])
        for name, module, value in sorted(candidates, key=lambda item: item[0] != self.where):
            if mx.array_equal(value, matrix).item():
                return name, module
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
        softmax = Operation(
            where,
            "softmax",
            rows=rows,
            multiplies=2 * seen,  # the scale, and the product with the reciprocal
            additions=2 * seen - rows,  # the maximum is subtracted; the sum
            compares=seen - rows,
            special_functions=seen + rows,  # exponentials and one reciprocal a row
        )
        self.operations += [scores, softmax, mixing]


def _values(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32))


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
        for owner, name, wrap in _FUNCTIONS:
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
        return [value for _, value in tree_flatten(result) if isinstance(value, mx.array)]

    seen.exporting = True
    try:
        return graph_counts(function, arrays)
    finally:
        seen.exporting = False


def _check_products(path: str, own: GraphCounts, watched: Counter[str]) -> None:
    for name in ("product", "convolution"):
        if own.products[name] != watched[name]:
            raise ValueError(
                f"{path}: its graph has {own.products[name]} of kind {name!r}, "
                f"{watched[name]} were seen with their values; use mx.matmul, @, nn.Linear or "
                "mx.conv_general instead of einsum, tensordot and the like"
            )


def _elementwise(path: str, own: GraphCounts) -> list[Operation]:
    amounts: dict[str, Any] = {name: value for name, value in own.amounts.items() if value}
    words = amounts.pop("words_read", 0)
    found = [Operation(path, "embedding", words_read=words)] if words else []
    if amounts:
        found.append(replace(Operation(path, "elementwise"), **amounts))
    return found


def _matmul(original: Any, seen: _Seen) -> Any:
    def call(a: mx.array, b: mx.array, **options: Any) -> Any:
        if seen.path and not seen.exporting:
            seen.product(a, b)
        return original(a, b, **options)

    return call


def _addmm(original: Any, seen: _Seen) -> Any:
    def call(c: mx.array, a: mx.array, b: mx.array, *rest: Any, **options: Any) -> Any:
        if seen.path and not seen.exporting:
            seen.product(a, b, bias=True)
        return original(c, a, b, *rest, **options)

    return call


def _attention(original: Any, seen: _Seen) -> Any:
    def call(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> Any:
        if seen.exporting:  # its arithmetic is counted apart: only what it depends on remains
            repeat = q.shape[1] // k.shape[1]
            parts = [q, *(mx.repeat(x, repeat, axis=1) for x in (k, v))]
            return mx.concatenate(parts, axis=2)[:, :, : q.shape[2], : v.shape[3]]
        if seen.path:
            seen.attend(q, k, v, options.get("mask"))
        return original(q, k, v, **options)

    return call


def _per_axis(value: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def _convolution(original: Any, seen: _Seen) -> Any:
    def call(
        inputs: mx.array,
        weight: mx.array,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        **options: Any,
    ) -> Any:
        axes = inputs.ndim - 2
        if seen.path and not seen.exporting:
            settings = {
                "stride": _per_axis(stride, axes),
                "padding": [(one, one) for one in _per_axis(padding, axes)],
                "dilation": _per_axis(dilation, axes),
                "groups": groups,
                **seen.bits,
            }
            seen.convolve(inputs, weight, settings)
        return original(inputs, weight, stride, padding, dilation, groups, **options)

    return call


_FUNCTIONS: tuple[tuple[Any, str, Callable[[Any, _Seen], Any]], ...] = (
    (mx, "matmul", _matmul),
    (mx.array, "__matmul__", _matmul),
    (mx, "addmm", _addmm),
    (mx.fast, "scaled_dot_product_attention", _attention),
    (mx, "conv1d", _convolution),
    (mx, "conv2d", _convolution),
    (mx, "conv3d", _convolution),
)
