"""NIR's linear nodes: matrices against the sums that define them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("nir", reason="the extra nir is not installed")
import nir

from neurosim.io.nir import read_nir
from neurosim.populations import CrossbarSynapses


def dense(projection):
    """(sources, targets)."""
    synapses = projection.synapses
    if isinstance(synapses, CrossbarSynapses):
        return synapses.weight
    full = np.zeros((synapses.source_count, synapses.target_count))
    pre = np.repeat(np.arange(synapses.source_count), np.diff(synapses.offsets))
    np.add.at(full, (pre, synapses.targets), synapses.weight)
    return full


def unit(*shape):
    """LIF neurons that a weight w moves by w."""
    one = np.ones(shape)
    return nir.LIF(one, one, 0 * one, 1e9 * one, 0 * one)


def chain(*nodes):
    """One projection from the input to the neurons at the end of linear nodes."""
    network = read_nir(nir.NIRGraph.from_list(*nodes, type_check=False)).network
    (projection,) = network.projections
    return dense(projection), network


def convolved(x, weight, stride, padding, dilation, groups):
    """The definition, tap by tap."""
    out_channels, fan_in, *kernel = weight.shape
    before, after = padding
    x = np.pad(x, ((0, 0), (before[0], after[0]), (before[1], after[1])))
    size = [(x.shape[1 + a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a in (0, 1)]
    y = np.zeros((out_channels, *size))
    for o in range(out_channels):
        first = o // (out_channels // groups) * fan_in
        for i, r, c, p, q in np.ndindex(fan_in, *size, *kernel):
            row, column = r * stride[0] + p * dilation[0], c * stride[1] + q * dilation[1]
            y[o, r, c] += weight[o, i, p, q] * x[first + i, row, column]
    return y


@pytest.mark.parametrize(
    "stride, padding, dilation, groups",
    [
        ((1, 1), (0, 0), (1, 1), 1),
        ((2, 1), (1, 2), (1, 1), 1),
        ((1, 2), (2, 0), (2, 1), 2),
        ((1, 1), "same", (1, 2), 1),
        ((1, 1), "valid", (1, 1), 4),
    ],
    ids=str,
)
def test_conv2d(stride, padding, dilation, groups):
    rng = np.random.default_rng(0)
    weight = rng.integers(-4, 5, (4, 4 // groups, 3, 2)).astype(float)
    node = nir.Conv2d((7, 6), weight, stride, padding, dilation, groups, np.zeros(4))
    zeros = {"same": ((dilation[0], dilation[1] // 2),) * 2, "valid": ((0, 0), (0, 0))}
    if padding == "same":  # 2 taps: the odd zero comes after
        zeros["same"] = ((dilation[0], dilation[1] // 2), (dilation[0], (dilation[1] + 1) // 2))
    around = zeros[padding] if isinstance(padding, str) else (padding, padding)
    x = rng.integers(0, 3, (4, 7, 6)).astype(float)
    wanted = convolved(x, weight, stride, around, dilation, groups)
    matrix, network = chain(nir.Input([4, 7, 6]), node, unit(*wanted.shape))
    assert network.populations[1].size == wanted.size
    np.testing.assert_array_equal(x.ravel() @ matrix, wanted.ravel())


def test_conv1d():
    rng = np.random.default_rng(1)
    weight = rng.integers(-4, 5, (2, 3, 3)).astype(float)
    x = rng.integers(0, 3, (3, 9)).astype(float)
    node = nir.Conv1d(9, weight, 2, 1, 1, 1, np.zeros(2))
    wanted = convolved(
        x[:, None], weight[:, :, None], (1, 2), ((0, 1), (0, 1)), (1, 1), 1
    )  # fmt: skip
    matrix, _ = chain(nir.Input([3, 9]), node, unit(2, 5))
    np.testing.assert_array_equal(x.ravel() @ matrix, wanted.ravel())


@pytest.mark.parametrize("kind", ["AvgPool2d", "SumPool2d"])
def test_pooling_counts_the_padding(kind):
    x = np.arange(2 * 5 * 4, dtype=float).reshape(2, 5, 4)
    node = getattr(nir, kind)(np.array([2, 2]), np.array([2, 2]), np.array([1, 0]))
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))[:, :6]
    wanted = padded.reshape(2, 3, 2, 2, 2).sum((2, 4)) / (4 if kind == "AvgPool2d" else 1)
    graph = nir.NIRGraph(
        {"in": nir.Input([2, 5, 4]), "pool": node, "lif": unit(2, 3, 2),
         "out": nir.Output([2, 3, 2])},
        [("in", "pool"), ("pool", "lif"), ("lif", "out")],
        type_check=False,
    )  # fmt: skip
    network = read_nir(graph).network
    np.testing.assert_allclose(x.ravel() @ dense(network.projections[0]), wanted.ravel())


def test_a_chain_becomes_one_projection():
    rng = np.random.default_rng(2)
    kernel, weight = rng.normal(size=(3, 2, 3, 3)), rng.normal(size=(5, 12))
    scale, bias = rng.normal(size=5), rng.normal(size=3)
    nodes = (
        nir.Input([2, 6, 6]),
        nir.Conv2d((6, 6), kernel, 1, 0, 1, 1, bias),
        nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        nir.Flatten(None, 0),
        nir.Linear(weight),
        nir.Scale(scale),
        unit(5),
    )
    matrix, network = chain(*nodes)
    x = rng.normal(size=(2, 6, 6))
    none = ((0, 0), (0, 0))
    wide = convolved(x, kernel, (1, 1), none, (1, 1), 1)
    summed = wide.reshape(3, 2, 2, 2, 2).sum((2, 4)).ravel()
    np.testing.assert_allclose(x.ravel() @ matrix, weight @ summed * scale)
    constant = np.repeat(4.0 * bias, 4)  # four pixels of the bias in each pool
    rest = network.populations[1].parameter("resting_voltage")
    np.testing.assert_allclose(rest, weight @ constant * scale)


def test_flatten_keeps_the_leading_axes():
    one = np.ones((3, 8))
    lif = nir.LIF(one, one, 0 * one, one, 0 * one)
    matrix, _ = chain(nir.Input([3, 2, 4]), nir.Flatten(np.array([3, 2, 4]), 1, 2), lif)
    np.testing.assert_array_equal(matrix, np.eye(24))


def test_delays_of_elements_and_of_two_paths():
    """Input -> lif directly (weight 2) and through delays of 1, 2 and 3 ms (weight 1)."""
    delays = np.array([1e-3, 2e-3, 3e-3])
    graph = nir.NIRGraph(
        {
            "in": nir.Input([3]),
            "twice": nir.Scale(np.full(3, 2.0)),
            "late": nir.Delay(delays),
            "mix": nir.Linear(np.array([[1.0, 1.0, 0.0]] * 3)),
            "lif": unit(3),
            "out": nir.Output([3]),
        },
        [("in", "twice"), ("twice", "lif"), ("in", "late"), ("late", "mix"), ("mix", "lif"),
         ("lif", "out")],
    )  # fmt: skip
    (projection,) = read_nir(graph, hop_delay=0.0).network.projections
    synapses = projection.synapses
    pre = np.repeat(np.arange(3), np.diff(synapses.offsets))
    found = sorted(zip(pre, synapses.targets, synapses.weight, synapses.delay, strict=True))
    direct = [(i, i, 2.0, 0.0) for i in range(3)]
    late = [(s, t, 1.0, delays[s]) for s in (0, 1) for t in range(3)]
    assert found == sorted(direct + late)


def test_paths_that_cancel_leave_nothing():
    graph = nir.NIRGraph(
        {
            "in": nir.Input([2]),
            "plus": nir.Scale(np.ones(2)),
            "minus": nir.Scale(-np.ones(2)),
            "lif": unit(2),
            "out": nir.Output([2]),
        },
        [("in", "plus"), ("in", "minus"), ("plus", "lif"), ("minus", "lif"), ("lif", "out")],
    )
    imported = read_nir(graph)
    assert imported.network.projections == ()
    assert "in -> lif: all weights are 0; left out" in imported.notes
