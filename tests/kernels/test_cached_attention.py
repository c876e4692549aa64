"""Attention over a cache against double precision, and decoding against a full run, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels import cached_attention

KINDS = pytest.mark.parametrize("kind", [np.float32, np.float64])
SHAPES = pytest.mark.parametrize(  # B, L, A, G, D, offset
    "shape",
    [
        (1, 1, 1, 1, 1, 0), (2, 5, 9, 3, 64, 3), (1, 7, 4, 2, 16, 0), (3, 3, 7, 1, 33, 30),
        (1, 40, 6, 2, 63, 0), (2, 4, 2, 2, 130, 100), (1, 2, 8, 1, 128, 1000), (1, 1, 3, 3, 15, 63),
    ],
    ids=str,
)  # fmt: skip


def _inputs(shape: tuple[int, ...], kind: type, spread: float = 1.0, seed: int = 0):
    batch, length, heads, groups, size, offset = shape
    rng = np.random.default_rng(seed)
    q = spread * rng.standard_normal((batch, length, heads, size))
    keys, values = rng.standard_normal((2, batch, groups, offset + length, size))
    first = rng.integers(0, offset + length + 1, batch)
    return q.astype(kind), keys.astype(kind), values.astype(kind), first, offset


def _check(arguments, threads: int = 1) -> np.ndarray:
    found = cached_attention(*arguments, threads)
    expected = cached_attention(*arguments, backend="reference")
    assert found.dtype == expected.dtype
    spread = np.abs(arguments[0]).max() * np.sqrt(arguments[0].shape[-1])
    limit = np.finfo(found.dtype).eps * (20 + 8 * spread) * np.abs(arguments[2]).max()
    assert np.abs(found - expected).max() <= limit
    return found


@KINDS
@SHAPES
def test_against_double_precision(shape: tuple[int, ...], kind: type) -> None:
    for spread in (0.0, 1.0, 30.0):
        _check(_inputs(shape, kind, spread))


@KINDS
@SHAPES
def test_decoding_is_a_full_run(shape: tuple[int, ...], kind: type) -> None:
    """Token by token from a longer cache that holds NaN wherever nothing may be seen."""
    q, keys, values, first, offset = _inputs(shape, kind)
    whole = cached_attention(q, keys, values, first, offset)
    for threads in (2, 3):
        np.testing.assert_array_equal(
            cached_attention(q, keys, values, first, offset, threads), whole
        )
    batch, groups, slots, size = keys.shape
    caches = np.full((2, batch, groups, slots + 7, size + 3), np.nan, kind)[..., :size]
    caches[0, :, :, :slots], caches[1, :, :, :slots] = keys, values
    for b in range(batch):
        caches[:, b, :, : min(first[b], offset)] = np.nan
    for row in range(shape[1]):
        filled = caches.copy() if row % 2 else caches[:, :, :, : slots + row]
        filled = np.array(filled) if row % 2 else filled
        hidden = filled.copy()
        hidden[:, :, :, offset + row + 1 :] = np.nan
        one = cached_attention(q[:, row : row + 1], *hidden, first, offset + row)
        np.testing.assert_array_equal(one, whole[:, row : row + 1])
    for b in range(batch):
        one = cached_attention(
            q[b : b + 1], caches[0, b : b + 1], caches[1, b : b + 1], first[b : b + 1], offset
        )
        np.testing.assert_array_equal(one, whole[b : b + 1])


@KINDS
def test_padding_is_only_an_offset(kind: type) -> None:
    """The same sequence further back in the cache, behind padding."""
    q, keys, values, _, _ = _inputs((1, 6, 4, 2, 24, 0), kind)
    whole = cached_attention(q, keys, values, [0], 0)
    for pad in (1, 3, 16):
        more = [np.concatenate([x[:, :, :1].repeat(pad, 2), x], 2) for x in (keys, values)]
        padded = np.concatenate([q[:, :1].repeat(pad, 1), q], 1)
        found = cached_attention(padded, *more, [pad], 0)
        np.testing.assert_array_equal(found[:, pad:], whole)
        for head in range(4):
            for row in range(pad):  # a pad sees itself
                np.testing.assert_array_equal(found[0, row, head], more[1][0, head // 2, row])


def test_exponential() -> None:
    """Weights of two keys are those of a logistic function."""
    for kind, limit in ((np.float32, 1e-6), (np.float64, 2e-15)):
        x = np.concatenate([-np.logspace(-6, 1.9, 4000), [-60.0, 0.0]]).astype(kind)
        q = np.tile(np.array([[1.0]], kind), (len(x), 1))[:, None, :, None].reshape(-1, 1, 1, 1)
        keys = np.stack([x, np.zeros_like(x)], 1)[:, None, :, None]
        values = np.tile(np.array([1.0, 0.0], kind), (len(x), 1))[:, None, :, None]
        found = cached_attention(q, keys, values, np.zeros(len(x), int), 1)[:, 0, 0, 0]
        exact = np.exp(x.astype(np.longdouble))
        exact /= 1 + exact
        assert (np.abs(found - exact) <= limit * exact).all()


@pytest.mark.parametrize("shape", [(0, 3, 4, 2, 8, 1), (2, 0, 4, 2, 8, 1), (2, 3, 0, 2, 8, 1)])
def test_empty(shape: tuple[int, ...]) -> None:
    q, keys, values, first, offset = _inputs(shape, np.float32)
    for backend in ("cpu", "reference"):
        found = cached_attention(q, keys, values, first, offset, backend=backend)
        assert found.shape == q.shape


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(
        st.integers(1, 2), st.integers(1, 6), st.integers(1, 9), st.integers(1, 3),
        st.integers(1, 70), st.integers(0, 40),
    ),
    kind=st.sampled_from([np.float32, np.float64]),
)  # fmt: skip
def test_any_size(seed, shape, kind) -> None:
    batch, length, each, groups, size, offset = shape
    shape = (batch, length, min(each, 5) * groups, groups, size, offset)
    arguments = _inputs(shape, kind, seed=seed)
    for x in arguments[:3]:
        x.flags.writeable = False
    found = _check(arguments, threads=1 + seed % 3)
    q, keys, values, first, _ = arguments
    last = cached_attention(q[:, -1:], keys, values, first, offset + length - 1)
    np.testing.assert_array_equal(last, found[:, -1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": np.ones((1, 2, 4, 8))}, "expected one type"),
        ({"q": np.ones((1, 2, 4))}, "of 4 axes"),
        ({"q": np.ones((1, 2, 4, 8), np.float16)}, "q a float32 or float64"),
        ({"q": np.ones((1, 2, 3, 8), np.float32)}, "A a multiple of G"),
        ({"values": np.ones((1, 2, 4, 8), np.float32)}, "expected q"),
        ({"first": [0, 0]}, r"first of shape \(1,\)"),
        ({"first": [-1]}, "whole numbers >= 0"),
        ({"first": [0.5]}, "whole numbers >= 0"),
        ({"offset": 4}, "within the cache of 5"),
        ({"offset": -1}, "within the cache of 5"),
        ({"threads": 0}, "at least 1 thread"),
        ({"backend": "metal"}, "got 'metal'"),
    ],
)
def test_refusals(changes: dict[str, object], message: str) -> None:
    cache = np.ones((1, 2, 5, 8), np.float32)
    given = {"q": np.ones((1, 2, 4, 8), np.float32), "keys": cache, "values": cache}
    with pytest.raises(ValueError, match=message):
        cached_attention(**given | {"first": [0], "offset": 3} | changes)  # type: ignore[arg-type]
