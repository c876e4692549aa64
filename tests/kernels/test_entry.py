"""Arrays read as objects by compiled code."""

from __future__ import annotations

import gc
import sys
import threading
from typing import Any

import numpy as np
import pytest
from numba import types

from neurosim.kernels import _aligned, _entry
from neurosim.kernels._entry import (
    ARRAY,
    available,
    axes_of,
    elements_of,
    entry,
    is_contiguous,
    is_plain,
    size_of,
)
from neurosim.kernels._jit import compiled
from neurosim.kernels.packed import PackedSpikes, pack
from neurosim.kernels.spike_attention import _decaying_step, _step_binary, spike_attention_step


@compiled
def _seen(array: Any, axis: int) -> tuple[int, int, int, bool, bool]:
    place, plain = elements_of(array), is_plain(array)
    return place, axes_of(array), size_of(array, axis), plain, is_contiguous(array)


def test_arrays_are_read_as_they_are() -> None:
    assert available()
    seen = entry(_seen, ARRAY, types.intp)
    whole = np.zeros((3, 5, 7), np.int16)
    frozen = whole[1:]
    frozen.flags.writeable = False
    odd = np.zeros(20, np.int8)[1:9].view(np.int16)
    for array in (whole, frozen, whole[:, 1:], whole.T, whole[::-1], odd, np.zeros((0, 4))):
        flags = array.flags
        contiguous = flags.c_contiguous and flags.aligned
        for axis in range(array.ndim):
            found = seen(array, axis)
            expected = array.ctypes.data, array.ndim, array.shape[axis], flags.carray, contiguous
            assert found == expected


@pytest.mark.parametrize(
    ("word", "others"),
    [
        ("_DATA", (3, 4, 5, 6, 7, 8)),
        ("_AXES", (2, 4, 5, 6, 7, 8)),
        ("_SIZES", (5,)),  # the others are no addresses of sizes, and looked at last
        ("_FLAGS", (5, 6, 7)),
    ],
)
def test_another_layout_is_noticed(
    word: str, others: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in debug builds, or without the interpreter lock: fields lie further on."""
    for other in others:
        monkeypatch.setattr(_entry, word, other)
        assert not available()


def _binary(rng: np.random.Generator, streams: int = 4) -> list[PackedSpikes]:
    return [pack(rng.random((streams, 64)) < 0.3) for _ in range(3)]


def test_another_numba_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that keeps its compiled code elsewhere is used the long way."""
    monkeypatch.setattr(_entry.compiler.CompileResult, "_fields", ("signature",))
    assert not available()


def test_without_that_layout_all_goes_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    token, counts = _binary(rng), [rng.integers(-2, 3, (2, 9)).astype(np.int8) for _ in range(3)]
    wanted, found = [], []
    for results, quick in ((wanted, True), (found, False)):
        if not quick:
            for module in (_step_binary, _decaying_step, _aligned):
                monkeypatch.setattr(module, "available", lambda: False)
            _forget()
        memory, decaying = np.zeros((4, 64, 64), np.int16), np.zeros((2, 9, 9), np.int32)
        results += [
            spike_attention_step(memory, *token),
            spike_attention_step(decaying, *counts, np.array([1, 2]), 6),
            memory.copy(),
            decaying,
        ]
        assert (_step_binary.quick_step(memory, *token) is not None) == quick
        assert _aligned.aligned((3, 7), np.int32).ctypes.data % 64 == 0
    _forget()
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(one, other)


def _forget() -> None:
    for kept in (_step_binary._quick, _decaying_step._quick, _aligned._place):
        kept.cache_clear()


def test_words_that_are_not_as_their_shape_says() -> None:
    """Nothing is read or written beyond arrays, whatever a PackedSpikes was made of."""
    rng = np.random.default_rng(0)
    q, k, v = _binary(rng)
    state = np.zeros((4, 64, 64), np.int16)
    for words in (
        q.words[:, :3].copy(),
        q.words.reshape(4),
        q.words.reshape(1, 1, 4),
        np.repeat(q.words, 2, 1)[:, ::2],
    ):
        wrong = PackedSpikes.trusted(words, q.shape)
        for token in ([wrong, k, v], [k, wrong, v], [k, v, wrong], [wrong] * 3):
            assert _step_binary.quick_step(state, *token) is None
    assert not state.any()
    with pytest.raises(ValueError, match="words as a numpy array, got list"):
        PackedSpikes([[[1]]], (1, 64))  # type: ignore[arg-type]


def test_streams_in_threads() -> None:
    """Each with a state of its own, of one and the same token."""
    rng = np.random.default_rng(0)
    tokens = [_binary(rng, 32) for _ in range(30)]
    counts = [rng.integers(-1, 2, (4, 24)).astype(np.int8) for _ in range(3)]
    shifts = np.arange(4)
    results: list[list[Any]] = []

    def work() -> None:
        memory, decaying = np.zeros((32, 64, 64), np.int16), np.zeros((4, 24, 24), np.int32)
        sums = [spike_attention_step(memory, *token) for token in tokens]
        sums += [spike_attention_step(decaying, *counts, shifts, 6) for _ in tokens]
        results.append([*sums, memory, decaying])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    work()
    assert len(results) == 4
    for part in zip(*results, strict=True):
        for other in part[:3]:
            np.testing.assert_array_equal(other, part[3])


def test_no_reference_is_kept_or_lost() -> None:
    rng = np.random.default_rng(0)
    token = _binary(rng)
    memory = np.zeros((4, 64, 64), np.int16)
    arrays = [memory, *(x.words for x in token)]
    gc.collect()
    before = [sys.getrefcount(x) for x in arrays]
    for _ in range(20):
        spike_attention_step(memory, *token)
    assert [sys.getrefcount(x) for x in arrays] == before
