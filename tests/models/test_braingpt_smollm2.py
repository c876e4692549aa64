"""The real SmolLM2-135M-Instruct, fetched by package (93 MB): slow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurosim.models import LoadedBrainGPT, Sampler, load, stream_generate
from neurosim.models.braingpt.convert import convert
from neurosim.models.braingpt.even import convert_even
from neurosim.models.braingpt.loading import LoadOptions
from neurosim.models.evaluation import logits_of, token_losses
from neurosim.models.held_out import held_out_tokens
from neurosim.models.text.weights import fetch_smollm2

pytestmark = pytest.mark.slow
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
WINDOW, TOKENS = 512, 4096


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """As it is and evened out, with float and with 8-bit weights."""
    source, out = fetch_smollm2(), tmp_path_factory.mktemp("smollm2")
    return {
        "float": convert(source, out / "float", weight_bits=32),
        "bits8": convert(source, out / "bits8"),
        "even": convert_even(source, out / "even", weight_bits=32),
        "even8": convert_even(source, out / "even8"),
    }


def opened(folder: Path, **options: object) -> LoadedBrainGPT:
    found = load(folder, LoadOptions(**options))
    assert isinstance(found, LoadedBrainGPT)
    return found


def answer(loaded: LoadedBrainGPT, count: int = 24) -> list[int]:
    ids = loaded.tokenizer.apply_chat_template(QUESTION)
    return [r.token for r in stream_generate(*loaded, ids, count)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("float", {"mode": "ann", "backend": "mlx"}),
        ("bits8", {"silu": "exact"}),
        ("bits8", {"silu": "table"}),
        ("even8", {"silu": "exact"}),
        ("even8", {"silu": "table"}),
        ("even8", {"silu": "staircase"}),
        ("even", {"silu": "exact"}),
        ("even8", {"silu": "exact", "attention": "spiking"}),
        ("even8", {"silu": "table", "attention": "spiking"}),
        ("bits8", {"silu": "exact", "attention": "spiking"}),
        ("even", {"silu": "exact", "backend": "mlx"}),
        ("bits8", {"mode": "reference", "silu": "exact"}),
    ],
    ids=str,
)
def test_paris(folders: dict[str, Path], name: str, options: dict[str, object]) -> None:
    loaded = opened(folders[name], **options)
    assert "Paris" in loaded.tokenizer.decode(answer(loaded))


def test_however_the_tokens_come(folders: dict[str, Path]) -> None:
    """Streaming from a cache, full runs, and a padded batch of four: the same tokens."""
    loaded = opened(folders["bits8"])
    model, tokenizer = loaded
    prompts = [
        tokenizer.apply_chat_template([{"role": "user", "content": text}])
        for text in ("Name a colour.", "What is 2 + 2?", "Hi", QUESTION[0]["content"])
    ]
    streamed = [[r.token for r in stream_generate(model, tokenizer, ids, 16)] for ids in prompts]
    for ids, made in zip(prompts, streamed, strict=True):
        full = model(np.array([*ids, *made[:-1]]))[len(ids) - 1 :]
        assert full.argmax(axis=-1).tolist() == made
    longest = max(map(len, prompts))
    batch, mask = np.zeros((4, longest), int), np.zeros((4, longest), int)
    for row, ids in enumerate(prompts):
        batch[row, longest - len(ids) :], mask[row, longest - len(ids) :] = ids, 1
    cache = model.new_cache()
    token = model(batch, cache, mask, last=True).argmax(axis=-1)
    made = [token]
    for _ in range(15):
        made.append(model(made[-1][:, None], cache, last=True).argmax(axis=-1))
    for row, expected in enumerate(streamed):
        assert [int(step[row]) for step in made[: len(expected)]] == expected


def test_losses(folders: dict[str, Path]) -> None:
    """On 4,096 held-out tokens; docs/braingpt.md has 20,480."""
    stream = held_out_tokens(opened(folders["bits8"]).tokenizer, TOKENS)

    def nats(name: str, **options: object) -> float:
        model = opened(folders[name], **options).model
        return float(token_losses(logits_of(model), stream, WINDOW).mean())

    ann = nats("float", mode="ann", backend="mlx")
    assert nats("even", mode="ann", backend="mlx") == pytest.approx(ann, abs=1e-3)
    assert nats("even8", silu="exact") - ann < 0.015
    assert nats("even8", silu="table") - ann < 0.02
    assert 0.03 < nats("bits8", silu="exact") - ann < 0.09  # without evening out


def test_sampling_goes_on_from_a_seed(folders: dict[str, Path]) -> None:
    loaded = opened(folders["bits8"])
    ids = loaded.tokenizer.encode("The history of the city")
    sampler = Sampler(0.8, 50, None, 0.95)

    def text(seed: int) -> list[int]:
        return [r.token for r in stream_generate(*loaded, ids, 12, sampler, seed=seed)]

    assert text(1) == text(1) != text(2)
