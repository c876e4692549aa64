"""`neurosim train CONFIG.toml`: train, or go on where a run in the folder stopped."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

from rich.console import Console

from neurosim.chip.description import load_chip
from neurosim.chip.training_noise import training_noise
from neurosim.models.text.corpus import load_split
from neurosim.models.text.fetch import fetch
from neurosim.models.text.sources import source
from neurosim.models.text.tokenizer import Tokenizer, document_text, token_stream
from neurosim.models.training.loop import Trainer
from neurosim.models.training.run_folder import STATE
from neurosim.models.training.schedule import TrainingConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("config", type=Path, help="settings, see models/training/configs/")
    parser.add_argument("--out", type=Path, help="run folder (default runs/<config name>)")


def _tokenizer(config: TrainingConfig) -> Tokenizer:
    if config.tokenizer:
        return Tokenizer.load(config.tokenizer)
    documents = load_split("train", config.sources or None)
    return Tokenizer.train(
        (document_text(document) for document in documents), config.model.get("vocab_size", 2048)
    )


def _model_type(path: Path) -> str:
    """The family a recipe names at its top, if any; what is wrong in it is said when it is read."""
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8")).get("model_type", ""))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from error


def with_chip_noise(data: dict[str, Any]) -> dict[str, Any]:
    """`hardware.chip` (a chip's name or file) replaced by that chip's numbers; others override."""
    hardware = data.get("hardware")
    if not isinstance(hardware, dict) or "chip" not in hardware:
        return data
    own = {key: value for key, value in hardware.items() if key != "chip"}
    return data | {"hardware": training_noise(load_chip(hardware["chip"])) | own}


def main(options: argparse.Namespace) -> int:
    """Fetch the texts, build the streams, train."""
    folder: Path = options.out or Path("runs") / options.config.stem
    if _model_type(options.config) == "braingpt":
        from neurosim.cli import _train_braingpt

        return _train_braingpt.run(options.config, folder)
    config = TrainingConfig.load(options.config, with_chip_noise)
    for name in (*config.sources, *config.repeat):
        source(name)  # names an unknown one before anything is fetched
    sources = config.sources or None
    console = Console(stderr=True)
    with console.status("texts") as status:
        fetch(sources, progress=lambda name, stage: status.update(f"{name}: {stage}"))
        status.update("tokenizer")
        tokenizer = _tokenizer(config)
        status.update("token streams")
        documents = [
            document
            for document in load_split("train", sources)
            for _ in range(config.repeat.get(document.source, 1))
        ]
        train = token_stream(documents, tokenizer, config.seed)
        validation = token_stream(load_split("validation", ["vital"]), tokenizer, config.seed)
    resumed = (folder / STATE).is_file()
    trainer = Trainer(config, folder, train, validation, tokenizer)
    console.print(
        f"{'resuming at step ' + str(trainer.step) if resumed else 'starting'}: "
        f"{len(train):,} training tokens, results in {folder}"
    )
    trainer.run(console.print)
    return 0
