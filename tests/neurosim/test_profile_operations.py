"""Every profiled operation: candidates agree, counts are exact, nothing public is missing."""

from __future__ import annotations

import inspect
from importlib.util import find_spec

import numpy as np
import pytest

from neurosim import kernels
from neurosim.profiling.case import Case, Request, Traffic
from neurosim.profiling.operations import OPERATIONS
from neurosim.profiling.operations._inputs import bernoulli
from neurosim.profiling.operations.convolution import _patches, reached
from neurosim.profiling.operations.linear import union_of_fours, weight_traffic

SMALL = {
    "pack": (3, 130), "unpack": (3, 130), "events": (5, 130),
    "spike_linear": (72, 65, 33), "spike_linear_decode": (4, 65, 33),
    "spike_linear_counts": (2, 65, 33), "grad_weight": (70, 65, 33),
    "spike_linear_lif": (4, 6, 65, 70), "spike_taps": (9, 65), "spike_conv2d": (2, 4, 33, 17),
    "spike_attention": (2, 64, 16), "spike_attention_step": (3, 16),
    "spike_attention_decay": (20, 3, 16), "spike_attention_decay_step": (3, 16),
    "sdsa": (2, 1, 9, 64), "sdsa_products": (2, 1, 9, 64),
    "sdsa_causal": (2, 1, 9, 64),
    "lif_scan": (3, 2, 70), "lif_training": (3, 2, 70), "training_step": (3, 5, 70),
    "attention_training": (2, 33, 16), "sdsa_training": (2, 1, 9, 64),
    "conv2d_training": (2, 4, 5, 3),
    "spike_quantise": (3, 65), "event_counts": (3, 65), "count_linear": (2, 65, 33),
    "row_linear": (2, 65, 33), "cached_attention": (3, 17, 6, 2, 16),
}  # fmt: skip
NOT_TIMED = {"backends": "tells what can run, computes nothing"}


def build(name: str, density: float = 0.3, seed: int = 0) -> Case:
    """The case at a small shape."""
    operation = OPERATIONS[name]
    operation.named(SMALL[name])
    return operation.build(Request(SMALL[name], density, seed=seed))


def test_every_operation_has_a_small_shape_here() -> None:
    assert set(SMALL) == set(OPERATIONS)


def test_every_public_kernel_is_timed() -> None:
    """A new name in `neurosim.kernels` needs an operation, or a reason in NOT_TIMED."""
    covered = {name for operation in OPERATIONS.values() for name in operation.covers}
    assert covered <= set(kernels.__all__)
    functions = {name for name in kernels.__all__ if inspect.isfunction(getattr(kernels, name))}
    assert functions - covered == set(NOT_TIMED)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("density", [0.02, 0.5, 1.0])
def test_candidates_agree(name: str, density: float) -> None:
    case = build(name, density)
    case.check()
    assert case.of("ours") and case.of("dense")
    assert case.operation == name
    assert tuple(case.shape) == OPERATIONS[name].letters
    assert tuple(case.shape.values()) == SMALL[name]
    assert case.density == (density if OPERATIONS[name].by_density else None)
    assert next(iter(case.candidates.values())).kind == "ours"


@pytest.mark.parametrize("name", OPERATIONS)
def test_default_and_measured_shapes_are_possible(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation.bench
    for shape in (operation.shape, *operation.bench):
        operation.named(shape)


@pytest.mark.parametrize("name", OPERATIONS)
def test_traffic_is_positive_and_at_least_the_result(name: str) -> None:
    for candidate in build(name).of("ours").values():
        if candidate.traffic is not None:
            assert candidate.traffic.moved > 0
            assert candidate.traffic.reused > 0


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("name", ["spike_linear", "spike_linear_decode", "spike_linear_counts"])
def test_products_have_torch_and_its_int8_form(name: str) -> None:
    case = build(name)
    assert "torch" in case.of("dense")
    assert set(case.of("int8")) == {"torch int8", "torch int8 (O, I)"}


def test_synaptic_operations_of_a_product_are_spikes_times_fan_out() -> None:
    rows, channels, outputs = SMALL["spike_linear"]
    rng = np.random.default_rng(5)
    spikes = [bernoulli(rng, (rows, channels), 0.3) for _ in range(2)]
    case = build("spike_linear", 0.3, seed=5)
    assert case.synaptic_operations == sum(int(x.sum()) for x in spikes) / 2 * outputs


@pytest.mark.parametrize(
    ("algo", "bits", "weights", "reused"),
    [
        ("gather", 32, 64 * 12 * 10 * 4, 12 * 10 * 4),  # every row of every spike
        ("gather", 4, 64 * 12 * 10 // 2, 12 * 10 // 2),
        ("pattern", 8, 16 * 12 * 10, 12 * 10),  # once for every four rows
        ("lut", 32, 64 * 3 * 10 * 4, 32 * 1024),  # an entry for every four inputs
        ("lut", 8, 64 * 3 * 10 * 2, 32 * 1024),
    ],
)
def test_traffic_of_a_product_by_hand(algo: str, bits: int, weights: int, reused: int) -> None:
    found = weight_traffic(algo, [np.ones((64, 12), np.int8)] * 2, 10, bits)
    assert found == Traffic(weights + 64 * 12 // 8 + 64 * 10 * 4, reused)
    assert weight_traffic("dense", [np.ones((64, 12), np.int8)], 10, bits) is None


def test_traffic_follows_the_spikes() -> None:
    x = np.zeros((8, 12), np.int8)
    x[0, 3] = x[1, 3] = x[5, 7] = 1
    assert union_of_fours(x) == 2
    result = 8 * 12 // 8 + 8 * 10 * 4
    assert weight_traffic("gather", [x], 10, 8) == Traffic(3 * 10 + result, 12 * 10)
    assert weight_traffic("pattern", [x], 10, 8) == Traffic(2 * 10 + result, 12 * 10)


def test_algorithms_asked_for_are_candidates() -> None:
    request = Request((8, 65, 33), 0.3, algos=("auto", "gather", "lut", "pattern", "dense"))
    case = OPERATIONS["spike_linear"].build(request)
    case.check()
    assert [case.candidates[f"float32 {algo}"].algo for algo in ("lut", "gather")] == [
        "lut", "gather",
    ]  # fmt: skip
    assert len(case.of("ours")) == 3 * 5
    with pytest.raises(ValueError, match="expected rows in groups of 4 for algo pattern, got 7"):
        OPERATIONS["spike_linear"].build(Request((7, 65, 33), 0.3, algos=("pattern",)))


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (2, 1, 5, 3), (1, 2, 2, 4), (2, 5, 4, 3)])
def test_synaptic_operations_of_a_convolution(shape: tuple[int, ...]) -> None:
    x = bernoulli(np.random.default_rng(0), shape, 0.4)
    assert reached(x) == _patches(x).sum()  # a spike counts once for every patch that sees it


def test_synaptic_operations_of_attention_by_hand() -> None:
    case = build("spike_attention", 1.0)
    streams, tokens, channels = SMALL["spike_attention"]
    per_token = channels * channels + channels * channels  # all of v into every row; every row read
    assert case.synaptic_operations == tokens * streams * per_token


def test_synaptic_operations_of_masks_by_hand() -> None:
    assert build("sdsa", 1.0).synaptic_operations == np.prod(SMALL["sdsa"])


def test_sdsa_products_refuse_channels_that_heads_do_not_divide() -> None:
    with pytest.raises(ValueError, match="expected channels C that 8 heads divide, got 65"):
        OPERATIONS["sdsa_products"].build(Request((2, 1, 9, 65), 0.5))
