"""A NIR file or graph without nesting, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from neurosim.io.nir.package import nir_package

SILENT = ("LI", "I", "CubaLI")  # no spikes: their voltage is their output
NEURONS = ("LIF", "IF", "CubaLIF", "Threshold", *SILENT)
LINEAR = (
    "Affine", "Linear", "Scale", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d", "Flatten", "Delay",
)  # fmt: skip


@dataclass(frozen=True)
class FlatGraph:
    """Nodes by name ("outer.inner" of nested graphs) and edges between them."""

    nodes: Mapping[str, Any]
    edges: tuple[tuple[str, str], ...]
    metadata: Mapping[str, Any]

    def kind(self, name: str) -> str:
        """The node's NIR type."""
        return type(self.nodes[name]).__name__

    def sources(self, name: str) -> list[str]:
        """What feeds it, in edge order."""
        return [source for source, target in self.edges if target == name]


def load(source: Any) -> FlatGraph:
    """Read a .nir file, or take a nir.NIRGraph; nested graphs are opened."""
    nir = nir_package()
    graph = _read_file(nir, Path(source)) if isinstance(source, str | Path) else source
    if not isinstance(graph, nir.NIRGraph):
        raise ValueError(
            f"expected a .nir file or a nir.NIRGraph, got {type(graph).__name__}; wrap a single "
            "node with nir.NIRGraph.from_list"
        )
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    ends: dict[str, tuple[list[str], list[str]]] = {}

    def open_graph(inside: Any, prefix: str) -> None:
        for name, node in inside.nodes.items():
            full = prefix + name
            if isinstance(node, nir.NIRGraph):
                ends[full] = (
                    [f"{full}.{key}" for key, n in node.nodes.items() if isinstance(n, nir.Input)],
                    [f"{full}.{key}" for key, n in node.nodes.items() if isinstance(n, nir.Output)],
                )
                open_graph(node, full + ".")
            elif type(node).__name__ not in (*NEURONS, *LINEAR, "Input", "Output"):
                raise ValueError(
                    f"node {full}: NIR type {type(node).__name__} is not carried; replace it"
                )
            else:
                nodes[full] = node
        for edge in inside.edges:
            for name in edge:
                if name not in inside.nodes:
                    raise ValueError(f"edge {edge[0]} -> {edge[1]}: no node called {prefix}{name}")
            edges.append((_port(prefix + edge[0], ends, 1), _port(prefix + edge[1], ends, 0)))

    open_graph(graph, "")
    twice = [edge for edge in dict.fromkeys(edges) if edges.count(edge) > 1]
    if twice:
        raise ValueError(f"edge {twice[0][0]} -> {twice[0][1]} is there twice; keep one")
    return FlatGraph(nodes, tuple(edges), dict(getattr(graph, "metadata", None) or {}))


def _port(name: str, ends: Mapping[str, tuple[list[str], list[str]]], side: int) -> str:
    """The inner Input (side 0) or Output (side 1) an edge of a nested graph goes to."""
    if name not in ends:
        return name
    inner = ends[name][side]
    if len(inner) != 1:
        kind = ("Input", "Output")[side]
        raise ValueError(
            f"nested graph {name}: expected one {kind} node, got {len(inner)}: NIR does not say "
            "which one an edge means"
        )
    return inner[0]


def _read_file(nir: Any, path: Path) -> Any:
    """A file's graph; ValueError for damage and for nodes that this nir package does not know."""
    h5py = import_module("h5py")  # comes with nir; without types
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected a .nir file (HDF5)")
    try:
        with h5py.File(path, "r") as file:
            _check_types(path, nir, file["node"], "")
        return nir.read(path, type_check=False)
    except (OSError, LookupError, TypeError, AssertionError, UnicodeError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{path}: cannot be read as NIR ({reason}); is it whole? fetch or export it again"
        ) from error


def _check_types(path: Path, nir: Any, group: Any, prefix: str) -> None:
    """Names the first node of a type unknown to nir."""
    for name, node in group["nodes"].items():
        kind = node["type"][()].decode()
        if not hasattr(nir.ir, kind):
            known = ", ".join(sorted((*NEURONS, *LINEAR, "Input", "Output", "NIRGraph")))
            raise ValueError(
                f"{path}: node {prefix}{name}: type {kind!r} is unknown to nir {nir.version}; "
                f"known: {known}"
            )
        if kind == "NIRGraph":
            _check_types(path, nir, node, f"{prefix}{name}.")
