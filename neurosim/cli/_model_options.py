"""Options of the subcommands that run a BrainGPT, Qwen2 or Llama folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from neurosim.models.braingpt.config import ATTENTIONS, MODES, SILUS
from neurosim.models.braingpt.loading import BACKENDS, LoadOptions
from neurosim.models.checkpoint import LoadedModel
from neurosim.models.loading import LoadedBrainGPT, is_braingpt, load
from neurosim.models.sampling import Sampler


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """How a BrainGPT computes."""
    group = parser.add_argument_group("how a BrainGPT, Qwen2 or Llama folder computes")
    group.add_argument(
        "--mode",
        choices=(*MODES, "ann"),
        default="causal",
        help="causal: a scale a token; reference: a scale a tensor, as published; ann: no spikes "
        "(default %(default)s)",
    )
    group.add_argument(
        "--silu",
        choices=SILUS,
        help="default: table; with --mode reference staircase, with ann exact",
    )
    group.add_argument(
        "--attention",
        choices=ATTENTIONS,
        default="float",
        help="spiking: scores and values as spike counts too, slower (default %(default)s)",
    )
    group.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="cpu: compiled; numpy: every option; mlx: float32, GPU (default %(default)s)",
    )
    group.add_argument("--bits", type=int, help="of the spike counts, 2 to 8 (default: as stored)")
    group.add_argument(
        "--weight-bits", type=int, choices=(4, 8, 32), help="of the weights (default: as stored)"
    )
    group.add_argument("--staircase", type=Path, help="file with the pulses for --silu staircase")
    group.add_argument("--threads", type=int, help="default: 1, all from 10^9 parameters on")


def refuse_model_options(options: argparse.Namespace) -> None:
    """Options that only a BrainGPT heeds are an error with another model."""
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    for name, usual in vars(parser.parse_args([])).items():
        if getattr(options, name) != usual:
            raise ValueError(
                f"--{name.replace('_', '-')} is for BrainGPT, Qwen2 and Llama folders, got "
                f"{options.model}; leave it out"
            )


def add_sampling(parser: argparse.ArgumentParser, temperature: float, top_k: int) -> None:
    """How the next token is chosen."""
    parser.add_argument(
        "--temperature",
        type=float,
        default=temperature,
        help="0: greedy (default %(default)s)",
    )
    parser.add_argument(
        "--top-k", type=int, default=top_k, help="0: all tokens (default %(default)s)"
    )
    parser.add_argument("--top-p", type=float, default=1.0, help="nucleus (default %(default)s)")


def sampler(options: argparse.Namespace) -> Sampler:
    """The sampler of these options; nothing is banned."""
    return Sampler(options.temperature, options.top_k, None, options.top_p)


def load_options(options: argparse.Namespace) -> LoadOptions:
    """The options of `add_model_options` as one value."""
    return LoadOptions(
        mode=options.mode,
        silu=options.silu,
        attention=options.attention,
        backend=options.backend,
        bits=options.bits,
        weight_bits=options.weight_bits,
        staircase=options.staircase,
        threads=options.threads,
    )


def load_with_progress(options: argparse.Namespace) -> LoadedModel | LoadedBrainGPT:
    """`--model` with its progress on stderr."""
    if not is_braingpt(options.model):
        return load(options.model)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    errors = Console(stderr=True)
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("reading layers", total=None)
        return load(
            options.model,
            load_options(options),
            lambda done, total: bar.update(task, completed=done, total=total),
        )
