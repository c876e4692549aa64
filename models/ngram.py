"""Interpolated modified Kneser-Ney n-grams over token ids: the baseline a neural model must beat.

Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling", 1999;
document starts as in Heafield et al., "Scalable Modified Kneser-Ney", 2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Used where counts of counts cannot give discounts (no n-gram with one of the counts 1 to 4).
_FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)


@dataclass(frozen=True)
class _Order:
    """All n-grams of one order.

    Attributes:
        keys: (M,) sorted, id of the context among the n-grams one order down times the
            vocabulary size, plus the last token. An n-gram's id is its place in this list.
        discounted: (M,) (a(h w) - D(a(h w))) / sum_w a(h w).
        back_off: (contexts,) weight of the next lower order after each context; 1 for contexts
            never followed by anything.
        discounts: D1, D2, D3+.
    """

    keys: Ints
    discounted: Floats
    back_off: Floats
    discounts: tuple[float, float, float]


def _discounts(counts: Ints) -> tuple[float, float, float]:
    """D_i = i - (i + 1) Y n_{i+1} / n_i with Y = n_1 / (n_1 + 2 n_2); n_i n-grams have count i."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == i)) for i in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) == 0:
        return _FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2.0 * n2)
    found = (1.0 - 2.0 * y * n2 / n1, 2.0 - 3.0 * y * n3 / n2, 3.0 - 4.0 * y * n4 / n3)
    if any(not 0.0 <= d <= i for i, d in enumerate(found, start=1)):
        return _FALLBACK_DISCOUNTS
    return found


def _order(keys: Ints, counts: Ints, contexts: int, vocab_size: int) -> _Order:
    """Discounted probabilities and back-off weights from adjusted counts a(h w)."""
    discounts = _discounts(counts)
    discount = np.array([0.0, *discounts])[np.minimum(counts, 3)]
    context = keys // vocab_size
    total = np.bincount(context, weights=counts, minlength=contexts)
    removed = np.bincount(context, weights=discount, minlength=contexts)
    back_off = np.divide(removed, total, out=np.ones(contexts), where=total > 0)
    return _Order(keys, (counts - discount) / total[context], back_off, discounts)


def _find(keys: Ints, wanted: Ints) -> Ints:
    """Place of each wanted key in the sorted keys, -1 where it is not there or is negative."""
    if not len(keys):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: Ints = np.where((keys[place] == wanted) & (wanted >= 0), place, -1)
    return found


def _checked(tokens: ArrayLike, vocab_size: int) -> Ints:
    array = np.asarray(tokens)
    if array.ndim != 1 or not (np.issubdtype(array.dtype, np.integer) or array.size == 0):
        raise ValueError(
            f"expected token ids of shape (L,), got {array.dtype} of shape {array.shape}; "
            "pass one stream of integers"
        )
    if array.size and (array.min() < 0 or array.max() >= vocab_size):
        raise ValueError(
            f"expected token ids from 0 to {vocab_size - 1}, got {array.min()} to {array.max()}"
        )
    return array.astype(np.int64)


class KneserNey:
    """p(w | h) = (a(h w) - D) / sum_w a(h w) + back_off(h) p(w | h without its first token).

    a is the count for the highest order and for n-grams that start a document, else the number of
    different tokens seen to the left; the lowest order is interpolated with the uniform
    distribution, so every token has a probability above 0. Contexts never reach over
    `end_of_text`: the first token of a document is predicted from `end_of_text` alone.
    """

    def __init__(
        self,
        vocab_size: int,
        end_of_text: int,
        unigrams: Floats,
        orders: Sequence[_Order],
    ) -> None:
        self._vocab_size = vocab_size
        self._end_of_text = end_of_text
        self._unigrams = unigrams
        self._orders = tuple(orders)

    @classmethod
    def fit(
        cls, tokens: ArrayLike, vocab_size: int, order: int = 5, end_of_text: int = 0
    ) -> KneserNey:
        """Count a training stream.

        Args:
            tokens: ids of documents one after another, each ended by `end_of_text`, (L,).
            vocab_size: number of different ids.
            order: length of the longest n-gram.
            end_of_text: id of the separator.
        """
        if order < 1 or vocab_size < 1 or not 0 <= end_of_text < vocab_size:
            raise ValueError(
                f"expected order >= 1, vocab_size >= 1 and end_of_text below it, got order "
                f"{order}, vocab_size {vocab_size}, end_of_text {end_of_text}"
            )
        stream = np.concatenate([[end_of_text], _checked(tokens, vocab_size)])
        if len(stream) < 2:
            raise ValueError("expected at least one training token, got none")
        depth = _depth(stream, end_of_text)
        keys = np.arange(vocab_size)
        counts = np.bincount(stream[1:], minlength=vocab_size)
        ids = stream  # of the n-gram of the current length that ends at each place
        contexts = 1
        orders: list[_Order] = []
        for length in range(1, order):
            places = np.flatnonzero(depth >= length)
            longer_keys, first, inverse, longer_counts = np.unique(
                ids[places - 1] * vocab_size + stream[places],
                return_index=True,
                return_inverse=True,
                return_counts=True,
            )
            # Adjusted count: different left neighbours; at a document start the count itself.
            at_start = np.zeros(len(keys), dtype=bool)
            if length > 1:
                at_start[ids[depth == length - 1]] = True
            left = np.bincount(ids[places[first]], minlength=len(keys))
            counts = np.where(at_start, counts, left)
            orders.append(_order(keys, counts, contexts, vocab_size))
            contexts = len(keys)
            keys, counts = longer_keys, longer_counts
            ids = np.full(len(stream), -1)
            ids[places] = inverse
        orders.append(_order(keys, counts, contexts, vocab_size))
        unigrams = orders[0].discounted + orders[0].back_off[0] / vocab_size
        return cls(vocab_size, end_of_text, unigrams, orders[1:])

    @property
    def order(self) -> int:
        """Length of the longest n-gram."""
        return len(self._orders) + 1

    @property
    def ngrams(self) -> tuple[int, ...]:
        """Number of different n-grams of each order, from 1 up."""
        return (self._vocab_size, *(len(o.keys) for o in self._orders))

    def log_probabilities(self, tokens: ArrayLike) -> Floats:
        """Natural logarithm of the probability of each token given those before it.

        Args:
            tokens: a stream as for `fit`; its first token starts a document, (L,).

        Returns:
            (L,), nats, all below 0.
        """
        stream = np.concatenate([[self._end_of_text], _checked(tokens, self._vocab_size)])
        probability = self._unigrams[stream]
        ids = stream
        for order in self._orders:  # nothing was counted after an n-gram that ends a document
            context = np.concatenate([[-1], ids[:-1]])
            known = np.flatnonzero(context >= 0)
            ids = np.full(len(stream), -1)
            ids[known] = _find(order.keys, context[known] * self._vocab_size + stream[known])
            probability[known] *= order.back_off[context[known]]
            seen = np.flatnonzero(ids >= 0)
            probability[seen] += order.discounted[ids[seen]]
        logarithm: Floats = np.log(probability[1:])
        return logarithm

    def distribution(self, context: ArrayLike) -> Floats:
        """Probability of every token after a stream that begins a document, (vocab_size,)."""
        stream = np.concatenate([[self._end_of_text], _checked(context, self._vocab_size)])
        last = int(np.flatnonzero(stream == self._end_of_text)[-1])
        history = stream[max(last, len(stream) - self.order + 1) :]
        probability = self._unigrams.copy()
        ids = history
        for order in self._orders:
            if not len(ids) or ids[-1] < 0:
                break
            begin = ids[-1] * self._vocab_size
            part = slice(*np.searchsorted(order.keys, [begin, begin + self._vocab_size]))
            probability *= order.back_off[ids[-1]]
            probability[order.keys[part] - begin] += order.discounted[part]
            following = history[len(history) - len(ids) + 1 :]
            longer = np.where(ids[:-1] >= 0, ids[:-1] * self._vocab_size + following, -1)
            ids = _find(order.keys, longer)
        return probability

    def __repr__(self) -> str:
        return (
            f"KneserNey(order={self.order}, vocab_size={self._vocab_size}, "
            f"ngrams={'+'.join(map(str, self.ngrams))})"
        )


def _depth(stream: Ints, end_of_text: int) -> Ints:
    """Tokens before each place back to and with the last `end_of_text`; 0 at the first place."""
    places = np.arange(len(stream))
    last = np.maximum.accumulate(np.where(stream == end_of_text, places, 0))
    depth: Ints = places - np.concatenate([[0], last[:-1]])
    return depth
