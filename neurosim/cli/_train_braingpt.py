"""`neurosim train` for recipes with `model_type = "braingpt"`: convert, calibrate, fine-tune."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from neurosim.models.braingpt.training import FineTuner, Recipe
from neurosim.models.text.chat_tokenizer import ChatTokenizer
from neurosim.models.text.fetch import fetch
from neurosim.models.text.sources import source
from neurosim.models.text.tokenizer import split_stream
from neurosim.models.training.run_folder import STATE


def run(config: Path, folder: Path) -> int:
    """Fetch the texts, build the streams, run the recipe's stages."""
    recipe = Recipe.load(config)
    for name in recipe.sources:
        source(name)  # names an unknown one before anything is fetched
    console = Console(stderr=True)
    with console.status("texts") as status:
        tokenizer = ChatTokenizer.load(recipe.convert.source)
        fetch(recipe.sources, progress=lambda name, stage: status.update(f"{name}: {stage}"))
        status.update("token streams")
        train = split_stream("train", tokenizer, recipe.seed, recipe.sources)
        validation = split_stream("validation", tokenizer, recipe.seed, ["vital"])
    resumed = (folder / STATE).is_file()
    tuner = FineTuner(recipe, folder, train, validation, console.print)
    console.print(
        f"{'resuming at step ' + str(tuner.step) if resumed else 'starting'}: "
        f"{len(train):,} training tokens, results in {folder}"
    )
    tuner.run()
    return 0
