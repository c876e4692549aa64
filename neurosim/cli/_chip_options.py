"""Options that several subcommands share to describe a chip."""

from __future__ import annotations

import argparse


def add_set(parser: argparse.ArgumentParser) -> None:
    """--set KEY=VALUE, repeatable: `options.set` is a list for `neurosim.chip.parse_values`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a number of the chip, e.g. crossbar.read_noise=0.02 (SI units; repeatable)",
    )
