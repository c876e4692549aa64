"""Kneser-Ney n-grams against a slow dictionary version, their normalisation and document starts."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from neurosim.models.ngram import KneserNey

END = 0


def documents(seed: int, vocab_size: int, count: int = 60) -> np.ndarray:
    """A stream of short documents over a skewed vocabulary, some of them empty."""
    rng = np.random.default_rng(seed)
    pieces = []
    for _ in range(count):
        tokens = np.minimum(rng.geometric(0.25, rng.integers(0, 14)), vocab_size - 1)
        pieces.append(np.concatenate([tokens, [END]]))
    return np.concatenate(pieces)


class SlowKneserNey:
    """The equations of Chen and Goodman (1999) on dictionaries of tuples, one look-up at a time."""

    def __init__(self, stream: list[int], vocab_size: int, order: int) -> None:
        self.vocab_size, self.order = vocab_size, order
        raw: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order + 1)]
        for history, token in self.histories(stream):
            for length in range(1, order + 1):
                if len(history) >= length - 1:
                    raw[length][(*history[len(history) - length + 1 :], token)] += 1
        self.counts: list[dict[tuple[int, ...], int]] = [{}]
        for length in range(1, order + 1):
            if length == order:
                self.counts.append(dict(raw[length]))
                continue
            left = defaultdict(set)
            for gram in raw[length + 1]:
                left[gram[1:]].add(gram[0])
            self.counts.append(
                {
                    gram: count if length > 1 and gram[0] == END else len(left[gram])
                    for gram, count in raw[length].items()
                }
            )
        self.discounts = [self.discount(counts) for counts in self.counts]

    def histories(self, stream: list[int]) -> list[tuple[tuple[int, ...], int]]:
        history, pairs = (END,), []
        for token in stream:
            pairs.append((history, token))
            history = (END,) if token == END else (*history, token)
        return pairs

    @staticmethod
    def discount(counts: dict[tuple[int, ...], int]) -> tuple[float, float, float]:
        n = Counter(counts.values())
        if any(n[i] == 0 for i in (1, 2, 3, 4)):
            return (0.5, 1.0, 1.5)
        y = n[1] / (n[1] + 2 * n[2])
        found = tuple(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))
        return found if all(0 <= d <= i for i, d in enumerate(found, start=1)) else (0.5, 1.0, 1.5)

    def probability(self, history: tuple[int, ...], token: int) -> float:
        history = history[max(0, len(history) - self.order + 1) :]
        length = len(history) + 1
        if length == 1:
            lower = 1 / self.vocab_size
        else:
            lower = self.probability(history[1:], token) if length > 1 else 0.0
        followers = {g: c for g, c in self.counts[length].items() if g[:-1] == history}
        total = sum(followers.values())
        if total == 0:
            return lower
        d = self.discounts[length]
        removed = sum(d[min(c, 3) - 1] for c in followers.values())
        count = followers.get((*history, token), 0)
        kept = count - d[min(count, 3) - 1] if count else 0.0
        return kept / total + removed / total * lower


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize(("seed", "vocab_size"), [(0, 9), (1, 23)])
def test_equals_the_dictionary_version(order: int, seed: int, vocab_size: int) -> None:
    train, held_out = documents(seed, vocab_size), documents(seed + 100, vocab_size, 12)
    slow = SlowKneserNey(train.tolist(), vocab_size, order)
    expected = [np.log(slow.probability(h, w)) for h, w in slow.histories(held_out.tolist())]
    fast = KneserNey.fit(train, vocab_size, order)
    np.testing.assert_allclose(fast.log_probabilities(held_out), expected, rtol=1e-12)


def test_discounts_come_from_counts_of_counts() -> None:
    """At least one order of this stream has all four counts, so that the formula itself is used."""
    slow = SlowKneserNey(documents(1, 23).tolist(), 23, 3)
    assert any(d != (0.5, 1.0, 1.5) for d in slow.discounts[1:])


@pytest.mark.parametrize("order", [1, 2, 4, 6])
def test_sums_to_one_and_agrees_with_log_probabilities(order: int) -> None:
    vocab_size = 31
    model = KneserNey.fit(documents(2, vocab_size, 200), vocab_size, order)
    seen = documents(2, vocab_size, 5)
    unseen = np.random.default_rng(3).integers(0, vocab_size, 80)
    for stream in (seen, unseen):
        log_probabilities = model.log_probabilities(stream)
        for place in range(len(stream)):
            p = model.distribution(stream[:place])
            assert p.shape == (vocab_size,)
            assert p.min() > 0
            assert p.sum() == pytest.approx(1.0, abs=1e-12)
            assert np.log(p[stream[place]]) == pytest.approx(log_probabilities[place], abs=1e-12)


def test_contexts_do_not_reach_over_a_document_end() -> None:
    model = KneserNey.fit(documents(4, 12, 300), 12, 5)
    tail = [3, 1, 2, 2, END]
    alone = model.log_probabilities(tail)
    for before in ([END], [5, 4, 3, END], [1, 1, 1, 1, 1, END]):
        np.testing.assert_array_equal(model.log_probabilities(before + tail)[len(before) :], alone)


def test_a_document_start_is_learnt_from_starts() -> None:
    """Token 1 begins every document, nothing else does: raw counts say so, neighbours do not."""
    rng = np.random.default_rng(5)
    stream = np.concatenate([[1, *rng.integers(2, 40, 20), END] for _ in range(300)])
    model = KneserNey.fit(stream, 40, 5)
    assert model.distribution([])[1] > 0.99
    assert model.distribution([1, 7, 9])[1] < 0.01


def test_remembers_a_periodic_stream_and_falls_back_to_uniform() -> None:
    cycle = np.array([1, 2, 3, 4] * 500 + [END])
    model = KneserNey.fit(cycle, 50, 5)
    assert model.log_probabilities(cycle)[4:-1].min() > np.log(0.99)
    never_seen = model.distribution([40, 41, 42])
    assert never_seen[10] == never_seen[11] > 0


def test_order_beyond_63_bits_of_packed_tokens() -> None:
    """Eight tokens of a vocabulary of 2048 need 88 bits; n-gram ids keep this exact."""
    stream = documents(6, 2048)
    slow = SlowKneserNey(stream.tolist(), 2048, 8)
    expected = [np.log(slow.probability(h, w)) for h, w in slow.histories(stream.tolist()[:60])]
    fast = KneserNey.fit(stream, 2048, 8)
    np.testing.assert_allclose(fast.log_probabilities(stream[:60]), expected, rtol=1e-12)


def test_one_token_and_empty_streams() -> None:
    model = KneserNey.fit([END], 5, 3)
    assert model.log_probabilities([]).shape == (0,)
    assert model.distribution([]).sum() == pytest.approx(1.0)
    assert repr(model).startswith("KneserNey(order=3, vocab_size=5, ngrams=5+1+0)")
    assert model.log_probabilities([2, 2, END]).shape == (3,)
    unfinished = KneserNey.fit([1], 5, 3)  # no trigram at all, and a bigram nothing follows
    for context in ([], [1], [1, 2]):
        assert unfinished.distribution(context).sum() == pytest.approx(1.0)
    assert np.all(unfinished.log_probabilities([1, 2, END]) < 0)


@pytest.mark.parametrize(
    ("tokens", "vocab_size", "order", "message"),
    [
        ([], 5, 3, "at least one training token"),
        ([1, 5], 5, 3, "from 0 to 4, got 1 to 5"),
        ([-1, 2], 5, 3, "from 0 to 4"),
        ([[1, 2]], 5, 3, r"shape \(L,\)"),
        ([1.5, 2.0], 5, 3, "stream of integers"),
        ([1, 2], 5, 0, "order >= 1"),
        ([1, 2], 0, 3, "vocab_size >= 1"),
    ],
)
def test_bad_input(tokens: list[int], vocab_size: int, order: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KneserNey.fit(tokens, vocab_size, order)
