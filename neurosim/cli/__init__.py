"""The command line `neurosim COMMAND`; a command's module is imported only when called."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from neurosim import __version__

__all__ = ["main"]

SUBCOMMANDS = {
    "run": "generate text on a simulated chip and report what a token costs",
    "convert": "a Qwen2, Llama, BrainGPT or GGUF model made into a BrainGPT folder",
    "chat": "talk with a converted model",
    "eval": "held-out bits per byte: the model, its ANN twin, a Kneser-Ney 5-gram",
    "report": "what a token costs on several systems, beside fair baselines; HTML, JSON, CSV",
    "simulate": "a spiking network in time: NIR files, CUBA, COBA, Brunel, your own",
    "train": "train a model from a TOML file; resumes where it stopped",
    "profile": "time the spike kernels beside the best dense forms",
    "data": "list and fetch the texts",
    "sweep": "sweeps and Monte Carlo over chips, seeds, parameters and prompts; resumes",
    "device": "experiments on a threshold-switching device, SPICE cross-check, calibration",
}


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="neurosim",
        description="Spiking transformers on simulated memristive neuron hardware.",
    )
    parser.add_argument("--version", action="version", version=f"neurosim {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in SUBCOMMANDS.items():
        sub = commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
        if name == chosen:
            import_module(f"neurosim.cli.{name}").add_arguments(sub)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (2 for bad input, 130 when interrupted)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((word for word in words if not word.startswith("-")), None)
    try:
        parser = _parser(chosen if chosen in SUBCOMMANDS else None)
        if not words:
            parser.print_help()
            return 0
        options = parser.parse_args(words)
        if options.command is None:
            parser.print_help()
            return 0
        return int(import_module(f"neurosim.cli.{options.command}").main(options))
    except (ValueError, OSError) as error:
        print(f"neurosim {chosen}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"neurosim {chosen}: interrupted", file=sys.stderr)
        return 130
