"""Text from models: one by one, in one go, stopped, sampled, for every kind of model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from braingpt_cases import write_model
from hypothesis import given
from hypothesis import strategies as st

from neurosim.models import LoadedBrainGPT, Sampler, generate, load, stream_generate
from neurosim.models.generation import _StopStrings, prompt_ids
from neurosim.models.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedBrainGPT:
    """A tiny BrainGPT with a tokenizer and a chat template."""
    folder = write_model(tmp_path_factory.mktemp("generation") / "tiny", 4, tokenizer=True)
    found = load(folder)
    assert isinstance(found, LoadedBrainGPT)
    return found


def greedy(loaded: LoadedBrainGPT, ids: list[int], count: int) -> list[int]:
    """The largest logit of a full run, again and again."""
    made: list[int] = []
    for _ in range(count):
        made.append(int(loaded.model(np.array(ids + made))[-1].argmax()))
    return made


def test_streaming_equals_full_runs(loaded: LoadedBrainGPT) -> None:
    model, tokenizer = loaded
    ids = tokenizer.encode("the cat sat on the")
    responses = list(stream_generate(model, tokenizer, ids, max_tokens=20))
    tokens = [response.token for response in responses]
    assert tokens == greedy(loaded, ids, len(tokens))
    kept = tokens[:-1] if responses[-1].finish_reason == "stop" else tokens
    assert "".join(response.text for response in responses) == tokenizer.decode(kept)
    assert generate(model, tokenizer, ids, max_tokens=20) == tokenizer.decode(kept)
    assert [r.generation_tokens for r in responses] == list(range(1, len(tokens) + 1))
    assert all(r.finish_reason is None for r in responses[:-1])
    assert responses[0].prompt_tokens == len(ids)
    assert all(r.log_probability <= 0 for r in responses)


def test_a_cache_goes_on(loaded: LoadedBrainGPT) -> None:
    model, tokenizer = loaded
    ids = tokenizer.encode("the dog sat on the log")
    cache = model.new_cache()
    first = [r.token for r in stream_generate(model, tokenizer, ids, 5, cache=cache)]
    if len(first) < 5:
        pytest.skip("the model stopped")
    assert cache.length == len(ids) + 4
    more = list(stream_generate(model, tokenizer, [first[-1], *ids], 5, cache=cache))
    assert [r.token for r in more] == greedy(loaded, [*ids, *first, *ids], len(more))


def test_max_tokens_and_stop_tokens(loaded: LoadedBrainGPT) -> None:
    model, tokenizer = loaded
    for prompt in ("the cat", "it's", "dog"):
        responses = list(stream_generate(model, tokenizer, prompt, max_tokens=7))
        stopped = responses[-1].token in tokenizer.stop_ids
        assert responses[-1].finish_reason == ("stop" if stopped else "length")
        assert stopped or len(responses) == 7
        assert not any(r.token in tokenizer.stop_ids for r in responses[:-1])


def test_stop_strings_end_the_text(loaded: LoadedBrainGPT) -> None:
    model, tokenizer = loaded
    text = generate(model, tokenizer, "the cat sat", max_tokens=30)
    stop = text[4:7]
    assert len(stop) == 3
    at = text.index(stop)
    responses = list(stream_generate(model, tokenizer, "the cat sat", 30, stop=[stop]))
    assert "".join(r.text for r in responses) == text[:at]
    assert responses[-1].finish_reason == "stop"


@given(
    st.text(alphabet="ab", max_size=30),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 30), max_size=8),
)
def test_stop_strings_in_any_pieces(text: str, stops: list[str], cuts: list[int]) -> None:
    """Shown text never holds a stop string, and all of it is shown up to the first one."""
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    watcher, shown, stopped = _StopStrings(stops), "", False
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        part, stopped = watcher.add(text[start:end])
        shown += part
        if stopped:
            break
    if not stopped:
        shown += watcher.rest()
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    assert stopped == bool(ends)
    if ends:
        assert text.startswith(shown)
        assert not any(stop in shown for stop in stops)
        assert any(text[len(shown) :].startswith(stop) for stop in stops)
    else:
        assert shown == text


def test_a_seed_is_a_text(loaded: LoadedBrainGPT) -> None:
    model, tokenizer = loaded
    sampler = Sampler(temperature=1.5, top_k=0, banned=None)

    def tokens(seed: int) -> list[int]:
        return [r.token for r in stream_generate(model, tokenizer, "the", 12, sampler, (), seed)]

    drawn = list(stream_generate(model, tokenizer, [5], 12, sampler, (), 3))
    before = np.array([5, *(r.token for r in drawn[:-1])])
    logits = loaded.model(before).astype(float)
    wanted = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    for row, r in zip(wanted, drawn, strict=True):
        assert r.log_probability == pytest.approx(row[r.token], rel=1e-4)
    assert tokens(3) == tokens(3)
    assert len({tuple(tokens(seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9])
def test_nucleus(top_p: float) -> None:
    """Only the fewest tokens that reach top_p are drawn, in the right proportion."""
    shares = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    sampler = Sampler(temperature=1.0, top_k=0, banned=None, top_p=top_p)
    generator = np.random.default_rng(0)
    drawn = np.bincount(
        [sampler.choose(np.log(shares), generator) for _ in range(4000)], minlength=5
    )
    kept = int((np.cumsum(shares) < top_p).sum()) + 1
    assert (drawn[kept:] == 0).all()
    np.testing.assert_allclose(drawn[:kept] / 4000, shares[:kept] / shares[:kept].sum(), atol=0.03)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(0, 45))
def test_the_best_of_equal_logits(values: list[int], top_k: int) -> None:
    """As many as asked for, in the order of a stable sort, ties included."""
    logits = np.array(values, float)
    count = min(top_k or len(values), len(values))
    expected = np.argsort(-logits, kind="stable")[:count]
    np.testing.assert_array_equal(Sampler(top_k=top_k)._best(logits), expected)


@pytest.mark.parametrize("wrong", [{"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}])
def test_impossible_sampling(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="top_p"):
        Sampler(**wrong)


def test_the_packages_own_models(tiny_checkpoint: Path) -> None:
    """A spiking transformer generates too, from the end-of-text token on, in its own integers."""
    model, tokenizer = load(tiny_checkpoint)
    assert isinstance(tokenizer, Tokenizer)
    assert prompt_ids(tokenizer, "the")[0] == tokenizer.end_of_text
    text = generate(model, tokenizer, "the history", max_tokens=6)
    assert text == generate(model, tokenizer, "the history", max_tokens=6)
    longer = model.config.context + 5
    assert len(list(stream_generate(model, tokenizer, [1] * longer, max_tokens=2))) <= 2


@pytest.mark.parametrize(
    ("prompt", "changes", "message"),
    [
        ("the", {"max_tokens": 0}, "max_tokens"),
        ([], {}, "empty"),
        ([320], {}, "0 to 319"),
        ("the", {"stop": [""]}, "stop strings"),
    ],
)
def test_bad_input(
    loaded: LoadedBrainGPT, prompt: str | Sequence[int], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        list(stream_generate(*loaded, prompt, **changes))


def test_what_is_no_model(loaded: LoadedBrainGPT) -> None:
    with pytest.raises(ValueError, match="language model"):
        generate(object(), loaded.tokenizer, "the")


def test_a_tokenizer_beyond_the_model(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "small", vocab_size=200, tokenizer=True)
    with pytest.raises(ValueError, match="vocabulary"):
        load(folder)


def test_the_first_token_takes_no_time_of_its_own(loaded: LoadedBrainGPT) -> None:
    """It comes with the prompt: with a second a pass, one token a second follows it."""
    times = iter([0.0, 1.0, 1.0, 2.0, 3.0, 4.0])
    responses = stream_generate(*loaded, "the cat", 3, clock=lambda: next(times))
    assert [r.generation_tps for r in responses] == [0.0, 1.0, 1.0]


def test_text_held_back_is_shown_at_the_end(loaded: LoadedBrainGPT) -> None:
    """The last letters may begin a stop string that never comes whole."""
    text = generate(*loaded, "the cat sat", max_tokens=9)
    stop = text[-2:] + "\x00"
    assert generate(*loaded, "the cat sat", max_tokens=9, stop=[stop]) == text


def test_stop_tokens_of_the_model(loaded: LoadedBrainGPT) -> None:
    """Those of its config end a text, whatever its tokenizer says."""
    first = next(stream_generate(*loaded, "the cat", 3))
    assert first.finish_reason is None
    config = replace(loaded.model.config, stop_ids=(first.token,))
    before, loaded.model.config = loaded.model.config, config
    try:
        (only,) = stream_generate(*loaded, "the cat", 3)
    finally:
        loaded.model.config = before
    assert (only.token, only.text, only.finish_reason) == (first.token, "", "stop")
