"""Spike-driven attention as Metal kernels, in the emulator and on a GPU where there is one."""

from __future__ import annotations

import functools

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.kernels._metal import Launch, on_gpu
from neurosim.kernels.lif_scan import Neuron
from neurosim.kernels.metal_emulator import emulate, unavailable
from neurosim.kernels.packed import pack
from neurosim.kernels.sdsa import metal, reference, sdsa

NO_EMULATOR = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
LAUNCHERS = pytest.mark.parametrize(
    "launch",
    [
        pytest.param(functools.partial(emulate, order=order), id=order, marks=NO_EMULATOR)
        for order in ("forward", "reverse", "shuffled")
    ]
    + [
        pytest.param(
            on_gpu, id="gpu", marks=pytest.mark.skipif(not mx.metal.is_available(), reason="no GPU")
        )
    ],
)


def _words(seed: int, groups: int, tokens: int, size: int, density: float) -> np.ndarray:
    bits = np.random.default_rng(seed).random((groups, tokens, size)) < density
    return pack(bits).words.reshape(groups, tokens, -(-size // 64))


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("two", [False, True], ids=["k", "k AND v"])
@pytest.mark.parametrize(
    ("tokens", "size"), [(1, 1), (31, 64), (33, 65), (257, 5), (0, 7), (3, 0)], ids=str
)
@LAUNCHERS
def test_sums_and_gates(launch: Launch, tokens: int, size: int, two: bool, causal: bool) -> None:
    """Slices of tokens that are empty, partly filled, and more than one round of 32."""
    q, k, v = (_words(seed, 2, tokens, size, 0.4) for seed in range(3))
    third = v if two else None
    sums = reference.column_sums(k, third, size, causal)
    np.testing.assert_array_equal(metal.column_sums(launch, k, third, size, causal), sums)
    for edge in {0, 1, int(np.median(sums)) if sums.size else 2, int(sums.max(initial=0)) + 1}:
        np.testing.assert_array_equal(
            metal.gated(launch, q, k, third, size, edge, causal),
            reference.gated(q, k, third, size, edge, causal),
        )


@pytest.mark.parametrize("density", [0.0, 1.0], ids=["silent", "firing"])
@LAUNCHERS
def test_silent_and_firing(launch: Launch, density: float) -> None:
    x = _words(0, 1, 40, 70, density)
    for causal in (False, True):
        out = metal.gated(launch, x, x, x, 70, 40, causal)
        np.testing.assert_array_equal(out, reference.gated(x, x, x, 70, 40, causal))
        assert out.any() == bool(density)


@NO_EMULATOR
@examples(25)
@given(
    seed=st.integers(0, 2**32 - 1),
    variant=st.sampled_from(["1", "2", "3", "4", "integer"]),
    steps=st.integers(1, 2),
    tokens=st.integers(0, 6),
    heads=st.integers(1, 2),
    size=st.sampled_from([0, 1, 31, 65]),
    decay=st.sampled_from([0.0, 0.5]),
    causal=st.booleans(),
)
def test_public_function(
    seed: int, variant: str, steps: int, tokens: int, heads: int, size: int, decay: float,
    causal: bool,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    levels = 3 if variant == "integer" else 1
    shape = steps, 1, tokens, heads * size
    q, k, v = (pack(rng.integers(0, levels + 1, shape), levels) for _ in range(3))
    neuron = Neuron(levels=levels) if variant == "integer" else Neuron("hard")
    threshold = 0.5 + np.arange(heads * size) if variant == "4" else 1.3
    wanted, found = (
        sdsa(
            q, k, None if variant == "2" else v, variant, heads, 0.4, threshold, decay, 0.5,
            neuron, backend, causal,
        )
        for backend in ("reference", "metal-emulated")
    )  # fmt: skip
    assert (found.shape, found.levels) == (wanted.shape, wanted.levels)
    np.testing.assert_array_equal(found.words, wanted.words)


def test_refusals() -> None:
    x = pack(np.ones((1, 1, 2, 600), np.int8))
    with pytest.raises(ValueError, match="600 rows exceeds|no Metal device"):
        sdsa(x, x, x, "3", backend="metal")
    if not mx.metal.is_available():
        with pytest.raises(ValueError, match="no Metal device here"):
            sdsa(x, x, x, "1", backend="metal")
