"""What packed, linear and neuron kernels refuse, and what they keep apart from their callers."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from neurosim.kernels import (
    LifWorkspace,
    Neuron,
    PackedSpikes,
    PackedWeight,
    grad_weight,
    lif_backward,
    lif_scan,
    pack,
    sdsa,
    spike_linear,
    spike_linear_lif,
    trainable_lif,
    unpack,
)
from neurosim.kernels.grad_weight import metal as gradient_metal
from neurosim.kernels.spike_linear import metal as linear_metal

COUNTS = np.array([[0, 1, 1], [1, 0, 1]], np.int8)
WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2)
GRADIENT = np.ones((2, 2), np.float32)
X = np.ones((2, 3, 5), np.float32)
BFLOAT = mx.array(WEIGHT).astype(mx.bfloat16)

TIMED = pack(np.ones((4, 2, 3), np.int8), time_axis=0)
MAP = pack(np.ones((2, 1, 3, 8), np.int8))


def scan(**options: Any) -> Callable[[], Any]:
    return lambda: lif_scan(X, **options)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "levels, a float": (lambda: pack(COUNTS, 2.0), "1 to 127 levels"),  # type: ignore[arg-type]
    "levels, text": (lambda: pack(COUNTS, "2"), "1 to 127 levels"),  # type: ignore[arg-type]
    "time axis": (lambda: pack(COUNTS, time_axis=0.0), "time axis"),  # type: ignore[arg-type]
    "unsigned": (lambda: pack(-COUNTS, 1, True).unpack(np.uint8), "expected a signed number"),
    "complex": (lambda: pack(COUNTS).unpack(np.complex64), "expected a number type"),
    "bfloat16": (lambda: spike_linear(COUNTS, BFLOAT), "int8 or float32 weights.*astype"),
    "float16": (lambda: spike_linear(COUNTS, WEIGHT.astype(np.float16)), "int8 or float32.*astype"),
    "swapped bytes": (lambda: spike_linear(COUNTS, WEIGHT.astype(">f4")), "got >f4"),
    "MLX spikes": (lambda: spike_linear(mx.ones((2, 3)), WEIGHT), "expected int8 spike counts"),
    "threads, a float": (lambda: spike_linear(COUNTS, WEIGHT, threads=1.5), "at least 1 thread"),  # type: ignore[arg-type]
    "no threads": (lambda: grad_weight(COUNTS, GRADIENT, threads=0), "at least 1 thread"),
    "bfloat16 gradient": (
        lambda: grad_weight(COUNTS, mx.array(GRADIENT).astype(mx.bfloat16)),
        "expected a float32 gradient",
    ),
    "float32 overflow": (lambda: PackedWeight.pack(np.array([[1e300]])), "float32's range"),
    "scale overflow": (lambda: PackedWeight.quantise(np.array([[1e300]])), "float32's range"),
    "threshold lost": (scan(threshold=1e-60), "positive thresholds, got 0 in float32"),
    "thresholds lost": (scan(threshold=np.full(5, 1e-60)), "positive thresholds, got 0 in float32"),
    "threshold infinite": (scan(threshold=1e60), "expected a finite"),
    "decay infinite": (scan(decay=-1e60), "expected a finite"),
    "gain infinite": (scan(gain=np.float64(2e38) * 2), "expected a finite"),
    "nan": (scan(threshold=float("nan")), "expected a finite"),
    "neuron levels": (lambda: Neuron(levels=2.5), "1 to 127 levels"),  # type: ignore[arg-type]
    "scan threads": (scan(threads=2.0), "at least 1 thread"),
    "threads elsewhere": (scan(threads=2, backend="reference"), "1 thread on backend"),
    "a list": (lambda: lif_scan([[1.0]]), "numpy or MLX array, got list"),  # type: ignore[arg-type]
    "a list of states": (scan(state=[[0.0]]), "numpy or MLX array, got list"),
    "gradient, a list": (lambda: lif_backward([1.0], X, X), "gradient as a numpy or MLX"),  # type: ignore[arg-type]
    "unpack an array": (
        lambda: unpack(COUNTS),
        "spikes as PackedSpikes, got ndarray; make them with pack",
    ),  # type: ignore[arg-type]
    "no dtype": (lambda: pack(COUNTS).unpack("foo"), "expected a number type.*got 'foo'"),
    "no out_dtype": (lambda: spike_linear(COUNTS, WEIGHT, out_dtype="foo"), "number type.*'foo'"),
    "workspace": (scan(workspace=3), "workspace as LifWorkspace, got 3"),
    "workspace, backward": (
        lambda: lif_backward(X, X, X, workspace=3),  # type: ignore[arg-type]
        "workspace as LifWorkspace, got 3",
    ),
    "threshold, text": (scan(threshold="a"), r"finite threshold, .* \(5,\), got 'a'"),
    "gain, an object": (scan(gain=object()), "expected a finite gain, .* got <object"),
    "gain, complex": (scan(gain=1j), "expected a finite gain, .* got 1j"),
    "decay, ragged": (scan(decay=[1, [2]]), r"expected a finite decay, .* got \[1, \[2\]\]"),
    "gains, texts": (scan(gain=["a"] * 5), r"expected a finite gain, .* got shape \(5,\) of <U1"),
    "layer's threshold": (
        lambda: spike_linear_lif(TIMED, WEIGHT, threshold="a"),
        "expected a finite threshold, .* got 'a'",
    ),
    "map's threshold": (
        lambda: sdsa(MAP, MAP, MAP, "1", threshold="a", decay=0.0),
        "expected a finite threshold, .* got 'a'",
    ),
    "map's decay": (
        lambda: sdsa(MAP, MAP, MAP, "1", decay="a"),
        "expected a finite decay, .* got 'a'",
    ),
    "trained gain": (
        lambda: trainable_lif(mx.array(X), gain=None),  # type: ignore[arg-type]
        "expected a finite gain, .* got None",
    ),
    "neuron, lif_scan": (scan(neuron="soft"), "neuron as Neuron, got 'soft'"),
    "neuron, lif_backward": (
        lambda: lif_backward(X, X, X, neuron="soft"),  # type: ignore[arg-type]
        "neuron as Neuron, got 'soft'",
    ),
    "neuron, trainable_lif": (
        lambda: trainable_lif(mx.array(X), neuron="soft"),  # type: ignore[arg-type]
        "neuron as Neuron, got 'soft'",
    ),
    "neuron, sdsa": (
        lambda: sdsa(MAP, MAP, MAP, "1", neuron=None),  # type: ignore[arg-type]
        "neuron as Neuron, got None",
    ),
    "neuron, spike_linear_lif": (
        lambda: spike_linear_lif(TIMED, WEIGHT, neuron=3),  # type: ignore[arg-type]
        "neuron as Neuron, got 3",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_numpy_integers_are_numbers_for_every_backend() -> None:
    """Numba and MLX take them for other types than int."""
    three = np.int64(3)
    for code in ("thermometer", "bits"):
        for backend in ("cpu", "reference", "metal-emulated"):
            spikes = pack(3 * COUNTS, three, np.True_, code, backend)  # type: ignore[arg-type]
            np.testing.assert_array_equal(spikes.unpack(), 3 * COUNTS)
            assert type(spikes.levels) is int
    assert type(Neuron(levels=three).levels) is int  # type: ignore[arg-type]


def test_bfloat16_is_taken_where_any_number_is() -> None:
    x = mx.array(X)
    thresholds = mx.full((5,), 0.75, mx.bfloat16)
    wanted = lif_scan(X, 0.75).spikes
    np.testing.assert_array_equal(np.asarray(lif_scan(x, thresholds).spikes), wanted)
    np.testing.assert_array_equal(PackedWeight.pack(BFLOAT).unpack(), WEIGHT)
    assert PackedWeight.quantise(BFLOAT).shape == (3, 2)


def test_a_scale_is_kept_apart_from_its_array() -> None:
    scale = np.ones(2, np.float32)
    weight = PackedWeight.pack(WEIGHT, 8, scale=scale)
    scale[:] = 0
    wanted = COUNTS.astype(np.float32) @ WEIGHT
    np.testing.assert_array_equal(spike_linear(COUNTS, weight, out_dtype="float32"), wanted)


def test_a_workspace_keeps_memory_of_one_shape_and_type() -> None:
    workspace = LifWorkspace()
    first = workspace.array("counts", (2, 4), np.int8)
    assert workspace.array("counts", (2, 4), np.int8) is first
    for shape, kind in (((2, 4), np.float32), ((4, 2), np.float32), ((4, 2), np.int8)):
        other = workspace.array("counts", shape, kind)
        assert other.shape == shape and other.dtype == kind
    assert not np.shares_memory(other, first)


@pytest.mark.parametrize("backend", ["cpu", "reference", "metal-emulated"])
def test_no_steps_leave_the_state_in_memory_of_their_own(backend: str) -> None:
    nothing, state = np.zeros((0, 3, 5), np.float32), np.ones((3, 5), np.float32)
    last = lif_scan(nothing, state=state, backend=backend).state
    assert last is not None
    np.testing.assert_array_equal(last, state)
    assert not np.shares_memory(last, state)
    found = lif_backward(
        nothing, nothing, nothing, state=state, state_gradient=state, backend=backend
    )
    np.testing.assert_array_equal(found.state, state)
    assert not np.shares_memory(found.state, state)


def test_metal_counts_the_elements_of_the_result_too() -> None:
    """int32 indexes: 50,000 x 1,000 spikes and 1,000 x 50,000 weights fit, their product not."""
    spikes = np.broadcast_to(np.int8(0), (50_000, 1_000))
    weight = np.broadcast_to(np.float32(0), (1_000, 50_000))
    assert "2^31" in str(linear_metal.supports(spikes, weight))
    assert linear_metal.supports(spikes, weight[:, :40_000]) is None
    silent = PackedSpikes.trusted(np.zeros((1, 1000, 782), np.uint64), (1_000, 50_000))
    assert "2^31" in str(gradient_metal.supports(silent, weight))
    assert gradient_metal.supports(silent, weight[:, :40_000]) is None


def _in_threads() -> None:
    spike_linear(np.ones((64, 70), np.int8), np.ones((70, 80), np.float32), threads=2)
    lif_scan(np.ones((2, 8, 70), np.float32), threads=2)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_threads_start_anew_after_a_fork() -> None:
    """The pools of the parent are known to the child, but not their threads: it waited for ever."""
    _in_threads()
    child = multiprocessing.get_context("fork").Process(target=_in_threads)
    child.start()
    child.join(60)
    try:
        assert child.exitcode == 0
    finally:
        child.kill()
