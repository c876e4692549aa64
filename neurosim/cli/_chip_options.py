"""Options that several subcommands share to describe a chip."""

from __future__ import annotations

import argparse


def add_chips(parser: argparse.ArgumentParser) -> None:
    """--chips N: `options.chips`."""
    parser.add_argument(
        "--chips",
        type=int,
        default=1,
        metavar="N",
        help="spread the network over N chips of the kind (default 1)",
    )


def add_set(parser: argparse.ArgumentParser) -> None:
    """--set KEY=VALUE, repeatable, and --trim: `options.set`, for `neurosim.chip.parse_values`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a number of the chip, e.g. crossbar.read_noise=0.02 (SI units; repeatable)",
    )
    parser.add_argument(
        "--trim",
        action="append_const",
        dest="set",
        const="trim.windows=256",
        help="calibrate every neuron of the chip before the run: short for --set trim.windows=256",
    )
