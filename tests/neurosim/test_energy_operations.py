"""Exact counts of products against loops over every pair, and what records refuse."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from neurosim.energy.operations import InputClass, Operation, OperationCounts, merged
from neurosim.energy.products import convolution, linear, pairs

BINARY, TERNARY = InputClass("binary"), InputClass("ternary")
GRADED, REAL = InputClass("graded", 4), InputClass()
CLASSES = (BINARY, TERNARY, GRADED, REAL)


def values(kind: InputClass, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Random inputs of a class, zeros among them."""
    rng = np.random.default_rng(seed)
    if kind is REAL:
        return rng.standard_normal(shape) * (rng.random(shape) < 0.7)
    low = {"binary": 0, "ternary": -1}.get(kind.kind, 0)
    high = kind.levels or 1
    return rng.integers(low, high + 1, shape).astype(np.float64)


def sparse(shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(-2, 3, shape).astype(np.float64)


@examples(60)
@given(
    st.sampled_from(CLASSES), st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.integers()
)
def test_linear_equals_the_loop_over_pairs(
    kind: InputClass, rows: int, fan_in: int, fan_out: int, seed: int
) -> None:
    seed = abs(seed) % 2**32
    x, w = values(kind, (rows, fan_in), seed), sparse((fan_out, fan_in), seed + 1)
    found = linear("layer", x, w, kind, bias=True)
    events = effective = touched = 0
    for row, i, o in product(range(rows), range(fan_in), range(fan_out)):
        touched += x[row, i] != 0
        events += abs(int(x[row, i])) if kind is GRADED else x[row, i] != 0
        effective += x[row, i] != 0 and w[o, i] != 0
    assert found.synaptic_operations == events
    assert found.effective == effective <= found.synaptic_operations
    assert found.dense == rows * fan_in * fan_out
    assert found.nonzero == int((x != 0).sum()) and found.rows == rows
    assert found.bias_additions == rows * fan_out
    done = found.dense if kind is REAL else touched
    assert found.additions == done
    assert found.multiplies == (0 if kind.accumulates else done)


def loops(
    x: np.ndarray, w: np.ndarray, stride: Any, pads: Any, dilation: Any, groups: int
) -> tuple[int, int, int]:
    """(effective, nonzero input pairs, dense) of a 2-D convolution, one pair at a time."""
    batch, height, width, _ = x.shape
    outputs, kernel_y, kernel_x, channels = w.shape
    rows = (height + sum(pads[0]) - dilation[0] * (kernel_y - 1) - 1) // stride[0] + 1
    columns = (width + sum(pads[1]) - dilation[1] * (kernel_x - 1) - 1) // stride[1] + 1
    effective = nonzero = dense = 0
    for b, r, c, o in product(range(batch), range(rows), range(columns), range(outputs)):
        group = o // (outputs // groups)
        for ky, kx, k in product(range(kernel_y), range(kernel_x), range(channels)):
            y = r * stride[0] + ky * dilation[0] - pads[0][0]
            z = c * stride[1] + kx * dilation[1] - pads[1][0]
            if not (0 <= y < height and 0 <= z < width):
                continue
            value = x[b, y, z, group * channels + k]
            dense += 1
            nonzero += value != 0
            effective += value != 0 and w[o, ky, kx, k] != 0
    return int(effective), int(nonzero), dense


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("stride", "pads", "dilation"),
    [
        ((1, 1), ((0, 0), (0, 0)), (1, 1)),
        ((2, 1), ((1, 1), (2, 0)), (1, 2)),
        ((3, 2), ((0, 2), (1, 1)), (2, 1)),
    ],
)
def test_convolution_equals_the_loop_over_pairs(
    groups: int, stride: Any, pads: Any, dilation: Any
) -> None:
    for kind in CLASSES:
        x, w = values(kind, (2, 6, 5, 4), 3), sparse((4, 3, 2, 4 // groups), 4)
        found = convolution("layer", x, w, kind, True, stride, pads, dilation, groups)
        effective, nonzero, dense = loops(x, w, stride, pads, dilation, groups)
        assert (found.effective, found.dense) == (effective, dense)
        assert found.bias_additions == found.rows * 4
        if kind is not GRADED:
            assert found.synaptic_operations == nonzero
        assert found.additions == (dense if kind is REAL else nonzero)


def test_convolution_refuses_settings_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="of 1 axes"):
        convolution("layer", np.ones((1, 4, 2)), np.ones((2, 3, 2)), stride=(1, 1))
    with pytest.raises(ValueError, match="expected an input of at least 5"):
        convolution("layer", np.ones((1, 4, 2)), np.ones((2, 5, 2)))


def test_attention_counts_causal_pairs_only() -> None:
    """T (T + 1) / 2 pairs a head of D products each, scores and mixing alike."""
    tokens, size = 5, 3
    q, k, v = (np.ones((2, tokens, size)) for _ in range(3))
    visible = np.tril(np.ones((tokens, tokens), np.bool_))
    scores = pairs("a", "scores", q, k.swapaxes(1, 2), mask=visible)
    mixing = pairs("a", "mixing", np.ones((2, tokens, tokens)), v, left_mask=visible)
    count = 2 * tokens * (tokens + 1) // 2 * size
    assert scores.dense == mixing.dense == scores.multiplies == mixing.multiplies == count
    with pytest.raises(ValueError, match="got both"):
        pairs("a", "scores", q, k.swapaxes(1, 2), mask=visible, left_mask=np.ones((5, 3)))


@pytest.mark.parametrize("masked", ["none", "outputs", "left"])
def test_pairs_equal_the_loop(masked: str) -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.random((4, 6)) < 0.5) * 1.0, (rng.random((6, 3)) < 0.4) * 1.0
    wanted = rng.random((4, 3)) < 0.6 if masked == "outputs" else None
    present = rng.random((4, 6)) < 0.6 if masked == "left" else None
    coincidences = from_left = from_right = dense = 0
    for m, k, n in product(range(4), range(6), range(3)):
        if wanted is not None and not wanted[m, n] or present is not None and not present[m, k]:
            continue
        dense += 1
        from_left += left[m, k] != 0
        from_right += right[k, n] != 0
        coincidences += left[m, k] != 0 and right[k, n] != 0
    masks = {"mask": wanted, "left_mask": present}
    both = pairs("a", "scores", left, right, BINARY, BINARY, **masks)
    assert both.additions == both.effective == coincidences and both.multiplies == 0
    one = pairs("a", "scores", left, right, BINARY, REAL, **masks)
    assert (one.additions, one.multiplies) == (from_left, 0)
    other = pairs("a", "scores", left, right, REAL, BINARY, **masks)
    assert (other.additions, other.multiplies) == (from_right, 0)
    real = pairs("a", "scores", left, right, **masks)
    assert real.additions == real.multiplies == real.dense == dense


@pytest.mark.parametrize("kind", [BINARY, TERNARY, GRADED])
def test_data_that_contradict_the_declaration_are_refused(kind: InputClass) -> None:
    with pytest.raises(ValueError, match="declared .*expected integers"):
        linear("fc", np.array([[0.0, 0.5]]), np.ones((1, 2)), kind)
    with pytest.raises(ValueError, match="got 5"):
        linear("fc", np.array([[0.0, 5.0]]), np.ones((1, 2)), kind)


def test_silence_is_no_evidence_of_spikes() -> None:
    """An all-zero batch through a real site stays real: it multiplies densely."""
    found = linear("fc", np.zeros((3, 4)), np.ones((2, 4)))
    assert found.multiplies == found.dense == 24 and found.effective == 0


def test_bad_classes_and_records() -> None:
    with pytest.raises(ValueError, match='expected class "binary"'):
        InputClass("spiking")
    with pytest.raises(ValueError, match="levels > 0 for graded inputs only"):
        InputClass("graded")
    with pytest.raises(ValueError, match="Python int >= 0"):
        Operation("fc", "linear", rows=-1)
    with pytest.raises(ValueError, match="effective operations exceed"):
        Operation("fc", "linear", effective=2, dense=1)
    with pytest.raises(ValueError, match="at least one token"):
        OperationCounts((), 0)


def test_records_merge_by_layer_and_class_and_sum_to_the_totals() -> None:
    x, w = values(BINARY, (3, 4), 0), sparse((2, 4), 1)
    one, real = linear("fc", x, w, BINARY), linear("fc", x, w)
    counts = OperationCounts(merged([one, real, one]), 3)
    assert len(counts.operations) == 2
    assert counts.total("dense") == 3 * one.dense
    assert counts.accumulates == 2 * one.effective and counts.macs == real.effective
    for grouped in (counts.by_layer(), counts.by_mechanism()):
        assert sum(row["dense"] for row in grouped.values()) == counts.total("dense")
    assert counts.to_dict()["operations"][0]["input_class"] == "binary"
    with pytest.raises(ValueError, match="expected a count out of"):
        counts.total("joules")
