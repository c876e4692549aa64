"""Spiking neurons over time: every backend against the definition, bit for bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lif_cases import NEURONS, SIZES, inputs
from properties import examples

from neurosim.kernels.lif_scan import (
    LifWorkspace,
    Neuron,
    Scan,
    lif_backward,
    lif_scan,
)
from neurosim.kernels.packed import PackedSpikes, pack
from neurosim.kernels.spike_linear_lif import spike_linear_lif

GOLDEN = Path(__file__).parents[1] / "data" / "lif_pairs.safetensors"
FAST = ("cpu", "reference")
KINDS = pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)


def _equal_backends(x: np.ndarray, neuron: Neuron, **parts: np.ndarray) -> np.ndarray:
    """Spikes, after every backend and output agreed on them bit for bit."""
    wanted = lif_scan(x, neuron=neuron, save_membrane=True, backend="reference", **parts)
    for backend in FAST:
        found = lif_scan(x, neuron=neuron, save_membrane=True, backend=backend, **parts)
        assert found.spikes.dtype == np.int8
        assert found.spikes.shape == x.shape
        for name, ours, theirs in zip(found._fields, found, wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{name} on {backend}")
        packed = lif_scan(x, neuron=neuron, output="packed", backend=backend, **parts)
        assert packed.membrane is None
        np.testing.assert_array_equal(packed.state, wanted.state)
        _check_packed(packed, wanted.spikes, neuron)
        tokens = lif_scan(
            x, neuron=neuron, output="packed", backend=backend, token_major=True,
            keep_state=False, **parts,
        )  # fmt: skip
        assert tokens.state is None
        assert tokens.spikes.time_axis == x.ndim - 2
        np.testing.assert_array_equal(tokens.spikes.words, packed.spikes.token_major.words)
    return wanted.spikes


def _check_packed(scan: Scan, spikes: np.ndarray, neuron: Neuron) -> None:
    assert isinstance(scan.spikes, PackedSpikes)
    assert (scan.spikes.shape, scan.spikes.time_axis) == (spikes.shape, 0)
    again = PackedSpikes(
        scan.spikes.words.copy(), spikes.shape, neuron.levels or 1, neuron.signed
    )  # checks
    np.testing.assert_array_equal(again.unpack(), spikes)


@KINDS
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4, 2, 3)], ids=str)
def test_awkward_sizes(shape: tuple[int, ...], size: int, neuron: Neuron) -> None:
    x, parts = inputs((*shape, size), size)
    spikes = _equal_backends(x, neuron, **parts)
    if spikes.size > 100:
        assert 0.1 < (spikes > 0).mean() < 0.9
        assert spikes.max() == (neuron.levels or 1)
        assert (spikes < 0).any() == neuron.signed


@KINDS
@pytest.mark.parametrize("shape", [(0, 3, 70), (4, 0, 70), (4, 3, 0)], ids=str)
def test_empty(shape: tuple[int, ...], neuron: Neuron) -> None:
    x, parts = inputs(shape)
    assert _equal_backends(x, neuron, **parts).shape == shape
    if not shape[0]:
        np.testing.assert_array_equal(lif_scan(x, neuron=neuron, **parts).state, parts["state"])
    gradients = lif_backward(x, x, x, neuron=neuron, **parts)
    assert gradients.x.shape == shape
    assert not gradients.decay.any()


@KINDS
def test_silent_and_saturated(neuron: Neuron) -> None:
    top = neuron.levels or 1
    for value, wanted in ((0, 0), (-1e6, -top if neuron.signed else 0), (1e6, top)):
        x = np.full((3, 2, 65), value, np.float32)
        assert (_equal_backends(x, neuron) == wanted).all()


@KINDS
def test_strides_and_untouched_state(neuron: Neuron) -> None:
    x, parts = inputs((6, 4, 130))
    kept = parts["state"].copy()
    spikes = lif_scan(x[::-1, :, ::2], neuron=neuron).spikes
    np.testing.assert_array_equal(spikes, lif_scan(x[::-1, :, ::2].copy(), neuron=neuron).spikes)
    _equal_backends(x, neuron, **parts)
    np.testing.assert_array_equal(parts["state"], kept)


@examples(50)
@given(
    seed=st.integers(0, 2**32), kind=st.sampled_from(list(NEURONS)),
    steps=st.integers(0, 6), rows=st.integers(0, 4), size=st.integers(0, 140),
)  # fmt: skip
def test_any_shape(seed: int, kind: str, steps: int, rows: int, size: int) -> None:
    x, parts = inputs((steps, rows, size), seed)
    _equal_backends(x, NEURONS[kind], **parts)


def test_ties_fire() -> None:
    """A membrane exactly on the threshold fires; integers round half up, or to even."""
    x = np.array([[0.5, 1.0, 0.25, 2.0]], np.float32)
    for backend in FAST:
        for reset in ("soft", "hard"):
            out = lif_scan(x, 0.5, neuron=Neuron(reset), backend=backend)
            assert out.spikes.tolist() == [[1, 1, 0, 1]]
            left = {"hard": [0.0, 0.0, 0.25, 0.0], "soft": [0.0, 0.5, 0.25, 1.5]}[reset]
            assert out.state.tolist() == left
        out = lif_scan(x - 0.5, 0.5, neuron=Neuron(levels=2), backend=backend)
        assert out.spikes.tolist() == [[0, 1, 0, 2]]
        out = lif_scan(x, 0.5, neuron=Neuron(levels=9), backend=backend)
        assert out.spikes.tolist() == [[1, 2, 1, 4]]
        halves = np.arange(-5, 6, dtype=np.float32)[None] / 2
        for neuron, wanted in (
            (Neuron(levels=9), [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3]),
            (Neuron(levels=9, rounding="half_even"), [0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 2]),
            (Neuron(levels=9, signed=True), [-3, -2, -2, -1, -1, 0, 1, 1, 2, 2, 3]),
            (
                Neuron(levels=9, signed=True, rounding="half_even"),
                [-2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2],
            ),
        ):
            for threshold in (1.0, 0.5):
                out = lif_scan(halves * threshold, threshold, neuron=neuron, backend=backend)
                assert out.spikes.tolist() == [wanted]


@KINDS
def test_pieces_equal_the_whole(neuron: Neuron) -> None:
    """The state carries everything."""
    x, parts = inputs((9, 2, 65))
    whole = lif_scan(x, neuron=neuron, **parts)
    first = lif_scan(x[:4], neuron=neuron, **parts)
    second = lif_scan(x[4:], neuron=neuron, **{**parts, "state": first.state})
    np.testing.assert_array_equal(np.concatenate([first.spikes, second.spikes]), whole.spikes)
    np.testing.assert_array_equal(second.state, whole.state)


@pytest.mark.parametrize("neuron", [Neuron(), Neuron(levels=3), Neuron(levels=2, signed=True)])
def test_integrate_and_fire_keeps_all_charge(neuron: Neuron) -> None:
    """Soft reset, no leak, whole inputs: charge in = spikes x threshold + what is left, exactly."""
    x = np.random.default_rng(0).integers(-3, 6, (512, 2, 123)).astype(np.float32)
    for backend in FAST:
        out = lif_scan(x, 4, 1, 1, neuron, backend=backend)
        np.testing.assert_array_equal(out.spikes.sum(0) * 4 + out.state, x.sum(0))


@KINDS
def test_a_workspace_gives_the_same_and_is_written_again(neuron: Neuron) -> None:
    workspace = LifWorkspace()
    x, parts = inputs((4, 3, 70))
    arguments = {"neuron": neuron, "save_membrane": True, "workspace": workspace, **parts}
    for output in ("int8", "packed"):
        for scale in (1, 2):
            fresh = lif_scan(x * scale, neuron=neuron, save_membrane=True, output=output, **parts)
            kept = lif_scan(x * scale, output=output, **arguments)
            for ours, theirs in zip(kept, fresh, strict=True):
                ours, theirs = (
                    part.unpack() if isinstance(part, PackedSpikes) else part
                    for part in (ours, theirs)
                )
                np.testing.assert_array_equal(ours, theirs)
        again = lif_scan(x, output=output, **arguments)
        assert np.shares_memory(again.state, kept.state)
        if output == "packed":
            assert np.shares_memory(again.spikes.words, kept.spikes.words)
    onward = lif_scan(x, **{**arguments, "state": again.state})  # in place
    wanted = lif_scan(
        x, neuron=neuron, **{**parts, "state": lif_scan(x, neuron=neuron, **parts).state}
    )
    np.testing.assert_array_equal(onward.spikes, wanted.spikes)
    assert "bytes" in repr(workspace)


@KINDS
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_give_the_same_bits(threads: int, neuron: Neuron) -> None:
    for shape in ((4, 7, 70), (2, 1, 64), (3, 0, 5)):
        x, parts = inputs(shape)
        for output in ("int8", "packed"):
            arguments = {"neuron": neuron, "output": output, "save_membrane": True, **parts}
            one, many = lif_scan(x, **arguments), lif_scan(x, threads=threads, **arguments)
            for ours, theirs in zip(many, one, strict=True):
                ours, theirs = (
                    part.words if isinstance(part, PackedSpikes) else part
                    for part in (ours, theirs)
                )
                np.testing.assert_array_equal(ours, theirs)


def test_callers_in_several_threads_do_not_meet() -> None:
    """No scratch is shared: eight callers at a time get what each gets alone."""
    cases = [inputs((4, 5, 60 + 7 * i), i) for i in range(8)]

    def run(case: tuple[np.ndarray, dict[str, np.ndarray]]) -> list[np.ndarray]:
        x, parts = case
        scan = lif_scan(x, output="packed", save_membrane=True, **parts)
        gradients = lif_backward(x, x, scan.membrane, **parts)
        lists = scan.spikes.events, scan.spikes.token_major.transposed.events
        again = pack(scan.spikes.unpack(np.float32)).words
        return [*lists[0], *lists[1], again, scan.state, *gradients]

    alone = [run(case) for case in cases]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            for ours, theirs in zip(pool.map(run, cases), alone, strict=True):
                for a, b in zip(ours, theirs, strict=True):
                    np.testing.assert_array_equal(a, b)


@KINDS
def test_mlx_arrays_come_back_as_such(neuron: Neuron) -> None:
    x, parts = inputs((4, 3, 70))
    wanted = lif_scan(x, neuron=neuron, save_membrane=True, **parts)
    mlx = {name: mx.array(part) for name, part in parts.items()}
    found = lif_scan(mx.array(x), neuron=neuron, save_membrane=True, backend="cpu", **mlx)
    for ours, theirs in zip(found, wanted, strict=True):
        assert isinstance(ours, mx.array)
        np.testing.assert_array_equal(np.asarray(ours), theirs)
    gradient = lif_backward(mx.array(x), mx.array(x), found.membrane, neuron=neuron, backend="cpu")
    assert all(isinstance(part, mx.array) for part in gradient)
    wanted = lif_backward(x, x, wanted.membrane, neuron=neuron)
    np.testing.assert_array_equal(np.asarray(gradient.x), wanted.x)


CASES = {
    "spikegpt": (0.5, 0.5, "hard"),
    "soft": (0.5, 0.5, "soft"),
    "nodecay": (0.5, 1.0, "hard"),
    "tau4": (0.75, 0.25, "hard"),
}


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("case", CASES)
def test_golden_pairs(case: str, backend: str) -> None:
    """SpikeGPT's neuron as its authors run it: spikes exact, membranes and gradients to float32."""
    golden = {name: np.asarray(part) for name, part in mx.load(str(GOLDEN)).items()}
    decay, gain, reset = CASES[case]
    neuron = Neuron(reset, surrogate="atan", sharpness=2.0, detach_reset=False)
    x, wanted = golden["x"], {n: golden[f"{case}.{n}"] for n in ("spikes", "v", "grad_x")}
    out = lif_scan(x, 1.0, decay, gain, neuron, save_membrane=True, backend=backend)
    assert out.membrane is not None
    np.testing.assert_array_equal(out.spikes, wanted["spikes"])
    after = out.membrane * (1 - out.spikes) if reset == "hard" else out.membrane - out.spikes
    np.testing.assert_allclose(after, wanted["v"], atol=1e-6)
    found = lif_backward(golden["gy"], x, out.membrane, 1.0, decay, gain, neuron, backend=backend)
    np.testing.assert_allclose(found.x, wanted["grad_x"], rtol=1e-4, atol=1e-6)


X = np.zeros((3, 2, 4), np.float32)


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (X.astype(np.float64), {}, "float32 x .* got float64"),
        (X[0, 0], {}, "add a time axis"),
        (X, {"threshold": 0}, "positive thresholds, got 0"),
        (X, {"decay": np.ones(3)}, r"decay, one number or one per neuron \(4,\), got shape \(3,\)"),
        (X, {"gain": np.nan}, "finite gain"),
        (X, {"state": X}, r"state of shape \(2, 4\)"),
        (X, {"output": "bits"}, "int8 or packed, got 'bits'"),
        (X, {"backend": "gpu"}, "got 'gpu'"),
        (X, {"token_major": True}, "output packed for token_major"),
        (X, {"threads": 0}, "at least 1 thread, got 0"),
        (X, {"threads": 2, "backend": "reference"}, "1 thread on backend 'reference', got 2"),
    ],
)
def test_refusals(x: np.ndarray, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lif_scan(x, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reset": "none"}, "soft or hard, got 'none'"),
        ({"reset": "hard", "levels": 4}, "soft reset for integer spikes"),
        ({"levels": 128}, "1 to 127 levels"),
        ({"surrogate": "sine"}, "got 'sine'"),
        ({"rounding": "down"}, "half_up, half_even; got 'down'"),
        ({"signed": True}, "ternary is levels=1"),
        ({"sharpness": 0.0}, "positive sharpness"),
    ],
)
def test_impossible_neurons(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Neuron(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("neuron", [NEURONS["signed"], NEURONS["even"]], ids=["signed", "even"])
def test_the_fused_layer_refuses_neurons_it_lacks(neuron: Neuron) -> None:
    with pytest.raises(ValueError, match="use spike_linear and lif_scan"):
        spike_linear_lif(pack(np.ones((2, 1, 3), np.int8)), np.ones((3, 4), np.int8), neuron=neuron)
