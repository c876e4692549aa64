"""Fixtures shared by all tests, and how hypothesis searches.

By default the examples of a test are fixed, so that a commit's result is the same everywhere;
`pytest --hypothesis-profile=search` draws new ones, ten thousand for every property.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from model_folders import add_tokenizer, random_weights, small_config, write_folder
from tiny_models import spiking_model

from neurosim.models import checkpoint
from neurosim.models.text.corpus import sample_documents
from neurosim.models.text.tokenizer import Tokenizer, document_text

settings.register_profile("default", derandomize=True, deadline=None)
settings.register_profile(
    "search",
    max_examples=10_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("default")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A tokenizer of about 400 tokens, trained on the text that ships with the package."""
    return Tokenizer.train([document_text(d) for d in sample_documents()], 400)


@pytest.fixture(scope="session")
def tiny_checkpoint(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with an untrained spiking model; never write into it, copy it."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-spikes"
    model = spiking_model(3, vocab_size=tokenizer.vocab_size)
    checkpoint.save(folder, model, tokenizer, {"seed": 3})
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small Qwen2 folder with a tokenizer, to convert."""
    config = small_config()
    folder = write_folder(tmp_path / "source", config, random_weights(config))
    add_tokenizer(folder)
    return folder
