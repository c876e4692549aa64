"""`neurosim data list|fetch`: the open texts, their licences, and getting them into the cache."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from neurosim.models.text import cache
from neurosim.models.text.corpus import SourceStatus, list_sources
from neurosim.models.text.fetch import fetch
from neurosim.models.text.sources import SOURCES, source

_STAGES = {
    "cached": "already in the cache",
    "download": "downloading",
    "check": "checking sha256",
    "clean": "cleaning",
    "done": "done",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommands `list` and `fetch`."""
    actions = parser.add_subparsers(dest="action", metavar="list|fetch", required=True)
    listing = actions.add_parser("list", help="show the texts, their licences and what is cached")
    fetching = actions.add_parser("fetch", help="download, check, clean and cache texts")
    names = ", ".join(s.name for s in SOURCES)
    fetching.add_argument("names", nargs="*", metavar="NAME", help=f"of {names}; none means all")
    fetching.add_argument("--force", action="store_true", help="fetch again what is cached")
    for action in (listing, fetching):
        action.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _described(status: SourceStatus) -> dict[str, Any]:
    """One source as a JSON object; sizes in bytes."""
    item = status.source
    return {
        "name": item.name,
        "title": item.title,
        "package": item.package,
        "version": item.version,
        "registry": item.registry,
        "licence": item.licence,
        "attribution": item.attribution,
        "raw_bytes": item.raw_bytes,
        "cached": status.cached,
        "documents": status.documents,
        "text_bytes": status.text_bytes,
        "path": str(status.path) if status.cached else None,
    }


def _table(statuses: list[SourceStatus]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("name", no_wrap=True)
    table.add_column("cached", no_wrap=True)
    table.add_column("documents", justify="right", no_wrap=True)
    table.add_column("text MB", justify="right", no_wrap=True)
    table.add_column("raw MB", justify="right", no_wrap=True)
    table.add_column("text, its licence, the package it comes from", ratio=1)
    for status in statuses:
        item = status.source
        table.add_row(
            item.name,
            "yes" if status.cached else "no",
            f"{status.documents:,}" if status.cached else "-",
            f"{status.text_bytes / 1e6:.1f}" if status.cached else "-",
            f"{item.raw_bytes / 1e6:.1f}",
            f"{item.title}; {item.licence}; {item.registry} {item.package} {item.version}",
        )
    return table


def _print_statuses(statuses: list[SourceStatus], as_json: bool, console: Console) -> None:
    if as_json:
        described = [_described(status) for status in statuses]
        print(json.dumps({"cache": str(cache.text_directory()), "sources": described}, indent=2))
    else:
        console.print(_table(statuses))
        console.print(f"cache: {cache.text_directory()}", highlight=False, soft_wrap=True)


def main(args: argparse.Namespace) -> int:
    """Carry out `list` or `fetch`; bad input and failed downloads raise ValueError."""
    console = Console()
    if args.action == "list":
        _print_statuses(list_sources(), args.json, console)
        return 0
    wanted = [source(name).name for name in args.names] or [s.name for s in SOURCES]
    messages = Console(stderr=True)
    with messages.status("starting") as spinner:

        def show(name: str, stage: str) -> None:
            if stage in ("cached", "done"):
                messages.print(f"{name}: {_STAGES[stage]}", highlight=False)
            else:
                spinner.update(f"{name}: {_STAGES[stage]}")

        paths = fetch(wanted, force=args.force, progress=show)
    if args.json:
        _print_statuses([s for s in list_sources() if s.source.name in paths], True, console)
    else:
        for name, path in paths.items():
            console.print(f"{name}: {path}", highlight=False, soft_wrap=True)
    return 0
