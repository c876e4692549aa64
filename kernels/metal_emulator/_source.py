"""The Metal source that MLX generates for a kernel, and its translation to C++."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from neurosim.kernels.metal_emulator._errors import MetalError

# Metal's position attributes -> fields of `Position` in runtime.hpp.
_ATTRIBUTES = {
    "dispatch_quadgroups_per_threadgroup": "(FULL + 3) / 4",
    "dispatch_simdgroups_per_threadgroup": "(FULL + 31) / 32",
    "dispatch_threads_per_threadgroup": "p->full_group_size",
    "grid_origin": "emulator::Uint3{0, 0, 0}",
    "grid_size": "p->grid",
    "quadgroup_index_in_threadgroup": "p->index / 4",
    "quadgroups_per_threadgroup": "(p->threads + 3) / 4",
    "simdgroup_index_in_threadgroup": "p->index / 32",
    "simdgroups_per_threadgroup": "(p->threads + 31) / 32",
    "thread_execution_width": "emulator::kSimdWidth",
    "thread_index_in_quadgroup": "p->index % 4",
    "thread_index_in_simdgroup": "p->index % 32",
    "thread_index_in_threadgroup": "p->index",
    "thread_position_in_grid": "p->in_grid",
    "thread_position_in_threadgroup": "p->in_group",
    "threadgroup_position_in_grid": "p->group",
    "threadgroups_per_grid": "p->groups",
    "threads_per_grid": "p->grid",
    "threads_per_simdgroup": "emulator::kSimdWidth",
    "threads_per_threadgroup": "p->group_size",
}
_FULL = "p->full_group_size.x * p->full_group_size.y * p->full_group_size.z"
_SIGNATURE = re.compile(r"\[\[kernel\]\] void (\w+)\(\n(.*?)\) \{\n", re.DOTALL)
_ATTRIBUTE = re.compile(r"\s*\[\[\s*\w+(?:\(\w*\))?\s*\]\]")
_TYPE = r"(?:(?:un)?signed\s+)?[\w:]+(?:\s*<[^;(){}]*?>)?"
_EXTENTS = r"(?:\[[^\];]*\]\s*)*"
_DECLARATOR = rf"\w+\s*{_EXTENTS}"
_SHARED = re.compile(
    rf"(?:alignas\([^)]*\)\s*)?\bthreadgroup\s+({_TYPE})\s+"
    rf"({_DECLARATOR}(?:,\s*{_DECLARATOR})*);"
)


@dataclass(frozen=True)
class Generated:
    """What MLX would hand to the Metal compiler, and how it would bind the arguments."""

    name: str
    source: str
    shape_flags: tuple[tuple[bool, bool, bool], ...]  # per input: shape, strides, ndim are passed
    row_contiguous: bool  # inputs are copied into row-major order first


def generate(
    kernel: Any,
    inputs: Sequence[mx.array],
    output_shapes: Sequence[Sequence[int]],
    output_dtypes: Sequence[mx.Dtype],
    grid: tuple[int, int, int],
    threadgroup: tuple[int, int, int],
    template: Sequence[tuple[str, bool | int | mx.Dtype]] | None,
) -> Generated:
    """Ask MLX for the source, through the record that `mx.export_function` makes of a call."""
    records: list[dict[str, Any]] = []

    def launch(*arrays: mx.array) -> Any:
        more = {} if template is None else {"template": list(template)}
        return kernel(
            inputs=list(arrays), output_shapes=list(output_shapes), grid=grid,
            output_dtypes=list(output_dtypes), threadgroup=threadgroup, **more,
        )  # fmt: skip

    def keep(record: dict[str, Any]) -> None:
        if record.get("name") == "CustomKernel":
            records.append(record)

    try:
        mx.export_function(keep, launch, *inputs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise MetalError(f"MLX refuses the call: {error}") from error
    if len(records) != 1:
        raise MetalError(
            f"expected an mx.fast.metal_kernel, got a function that calls {len(records)} of them"
        )
    name, source, *_, flags, row_contiguous = records[0]["arguments"][:10]
    if not source.isascii():
        bad = next(c for c in source if not c.isascii())
        raise MetalError(f"expected ASCII source, as MLX passes it, got {bad!r}; replace it")
    return Generated(name, source, tuple(tuple(f) for f in flags), row_contiguous)


@dataclass(frozen=True)
class Translated:
    """C++ for the compiler, and the names of the buffers in the order they are bound."""

    cpp: str
    buffers: tuple[str, ...]


def translate(source: str) -> Translated:
    """Metal to C++: address spaces, attributes, threadgroup memory, and a way to call it."""
    signature = _SIGNATURE.search(source)
    if signature is None:
        raise MetalError("no [[kernel]] function in the source MLX generated; this MLX is too new")
    name, declared = signature.groups()
    buffers, arguments = _arguments(declared)
    instance = re.search(rf"decltype\({name}(<.*?>)\)", source)
    before, body = source[: signature.start()], source[signature.end() :]
    body = re.sub(r"template \[\[host_name\(.*?;\n", "", body, flags=re.DOTALL)
    template = re.search(r"template <[^>]*>\n\Z", before)
    head = before[: template.start()] if template else before
    head = re.sub(r"^[ \t]*#\s*include\s*<(metal\w*|simd/.*)>.*$", "", head, flags=re.MULTILINE)
    return Translated(
        '#include "msl.hpp"\n#line 1 "header"\n'
        + _clean(head)
        + (f"\n{template.group()}" if template else "\n")
        + f"inline void {name}({_clean(declared)}) {{\n"
        + '#line 1 "source"\n'
        + _clean(body)
        + '\n#line 1 "launch"\nextern "C" void emulator_thread(void** b, '
        + "const emulator::Position* p) {\n"
        + f"  {name}{instance.group(1) if instance else ''}({', '.join(arguments)});\n}}\n",
        tuple(buffers),
    )


def _arguments(declared: str) -> tuple[list[str], list[str]]:
    """Buffer names, and the C++ expression for every parameter."""
    buffers: list[str] = []
    arguments = []
    for parameter in re.split(r",\n", declared):
        text = _ATTRIBUTE.sub("", parameter).strip()
        name = re.split(r"[\s*&]+", text)[-1]
        if name in _ATTRIBUTES and "[[buffer" not in parameter:
            arguments.append(_ATTRIBUTES[name].replace("FULL", _FULL))
            continue
        kind = _clean(text[: len(text) - len(name)]).strip()
        bound = f"b[{len(buffers)}]"
        if kind.endswith("&"):
            arguments.append(f"*({kind[:-1]}*){bound}")
        else:
            arguments.append(f"({kind}){bound}")
        buffers.append(name)
    return buffers, arguments


def _clean(metal: str) -> str:
    """C++ with the same line numbers."""
    text = re.sub(r"\bconst\s+constant\b|\bconstant\s+const\b", "constant", metal)
    text = _SHARED.sub(_shared, text)
    text = re.sub(r"\bthreadgroup\b", "", text)  # pointers and references
    return _ATTRIBUTE.sub("", text)


def _shared(match: re.Match[str]) -> str:
    """`threadgroup T a[N], b;` -> references into the threadgroup's memory."""
    kind, declarators = match.groups()
    return " ".join(
        f"auto& {name} = emulator_shared<{kind} {extents.strip()}>(__COUNTER__, __LINE__);"
        for name, extents in re.findall(rf"(\w+)\s*({_EXTENTS})", declarators)
    )
