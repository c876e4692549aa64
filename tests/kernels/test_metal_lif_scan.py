"""Spiking neurons in Metal: the emulator against the definition; the forward pass bit for bit.

On a Mac the same bodies run on the GPU too.
"""

from __future__ import annotations

from functools import partial

import mlx.core as mx
import numpy as np
import pytest
from lif_cases import EVERY, NEURONS, assert_close, inputs

from neurosim.kernels._metal import Launch, MetalBackend, gpu_unavailable, on_gpu
from neurosim.kernels.lif_scan import (
    BACKENDS,
    Neuron,
    lif_backward,
    lif_scan,
    metal,
    reference,
    trainable_lif,
)
from neurosim.kernels.metal_emulator import emulate, unavailable

NO_GPU = gpu_unavailable()
EMULATED = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
LAUNCHERS = pytest.mark.parametrize(
    "launch",
    [
        *(
            pytest.param(partial(emulate, order=order), id=order, marks=EMULATED)
            for order in ("forward", "reverse", "shuffled")
        ),
        pytest.param(
            on_gpu, id="gpu", marks=pytest.mark.skipif(NO_GPU is not None, reason=str(NO_GPU))
        ),
    ],
)
KINDS = pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
ALL = pytest.mark.parametrize("neuron", EVERY.values(), ids=EVERY)
ORDER = ("decay", "gain", "threshold")


@LAUNCHERS
@KINDS
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 63), (2, 3, 64), (4, 2, 65)], ids=str)
def test_scan(shape: tuple[int, int, int], neuron: Neuron, launch: Launch) -> None:
    x, parts = inputs(shape, shape[2])
    scales = [parts[name] for name in ORDER]
    for state in (parts["state"], None):
        for pack, save, keep, tokens in (
            (False, True, True, False),
            (True, False, True, False),
            (True, False, False, True),
        ):
            arguments = (x, *scales, neuron, state, pack, save, keep, tokens)
            spikes, last, membrane = metal.scan(launch, *arguments)
            wanted = reference.scan(*arguments)
            spikes = np.asarray(spikes).view(np.uint64) if pack else np.asarray(spikes)
            np.testing.assert_array_equal(spikes, wanted[0])
            for ours, theirs in ((last, wanted[1]), (membrane, wanted[2])):
                assert (ours is None) == (theirs is None)
                if theirs is not None:
                    np.testing.assert_array_equal(np.asarray(ours), theirs)


@EMULATED
def test_ties_fire() -> None:
    x = (np.arange(-8, 9, dtype=np.float32) / 4)[None, None]
    for neuron in NEURONS.values():
        for threshold in (0.5, 1.0):
            found = lif_scan(x, threshold, neuron=neuron, backend="metal-emulated")
            wanted = lif_scan(x, threshold, neuron=neuron, backend="reference")
            np.testing.assert_array_equal(found.spikes, wanted.spikes)


@LAUNCHERS
@ALL
def test_gradients(neuron: Neuron, launch: Launch) -> None:
    x, parts = inputs((4, 35, 7), 1)
    scales = [parts[name] for name in ORDER]
    membrane = lif_scan(x, neuron=neuron, save_membrane=True, **parts).membrane
    weight = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    for learn, state, end in ((True, parts["state"], weight[0]), (False, None, None)):
        arguments = (weight, end, x, membrane, state, *scales, neuron, learn)
        found = metal.backward(launch, *arguments)
        for name, ours, theirs in zip(
            ("x", "state", *ORDER), found, reference.backward(*arguments), strict=True
        ):
            assert np.asarray(ours).shape == theirs.shape
            if theirs.any():
                assert_close(name, np.asarray(ours), theirs, 2e-6)
            else:
                assert not np.asarray(ours).any()


@EMULATED
@KINDS
@pytest.mark.parametrize("shape", [(0, 3, 70), (4, 0, 70), (4, 3, 0), (3, 2, 2, 40)], ids=str)
def test_the_backend(shape: tuple[int, ...], neuron: Neuron) -> None:
    """As any other, empty shapes too."""
    x, parts = inputs(shape)
    for output in ("int8", "packed"):
        arguments = {"neuron": neuron, "output": output, "save_membrane": True, **parts}
        found = lif_scan(x, backend="metal-emulated", **arguments)
        wanted = lif_scan(x, backend="reference", **arguments)
        for ours, theirs in zip(found, wanted, strict=True):
            if output == "packed" and ours is found.spikes:
                ours, theirs = ours.words, theirs.words
            np.testing.assert_array_equal(ours, theirs)
    gradients = lif_backward(x, x, found.membrane, neuron=neuron, backend="metal-emulated", **parts)
    wanted = lif_backward(x, x, found.membrane, neuron=neuron, backend="reference", **parts)
    for ours, theirs in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@EMULATED
@KINDS
def test_training(neuron: Neuron) -> None:
    """Value and gradients through `trainable_lif` equal those of the CPU."""
    x, parts = inputs((4, 3, 20), 5)
    names = ("threshold", "decay", "gain")
    arguments = [mx.array(part) for part in (x, *(parts[name] for name in names))]
    weight = mx.array(np.random.default_rng(4).standard_normal(x.shape).astype(np.float32))

    def loss(backend: str):  # type: ignore[no-untyped-def]
        def of(x, threshold, decay, gain):  # type: ignore[no-untyped-def]
            spikes, last = trainable_lif(x, threshold, decay, gain, neuron, backend=backend)
            return (spikes * weight).sum() + (last * weight[0]).sum()

        return mx.value_and_grad(of, argnums=(0, 1, 2, 3))

    value, found = loss("metal-emulated")(*arguments)
    expected, wanted = loss("cpu")(*arguments)
    assert value.item() == expected.item()
    for name, ours, theirs in zip(("x", *names), found, wanted, strict=True):
        assert_close(name, np.asarray(ours), np.asarray(theirs), 1e-5)


@EMULATED
def test_a_gpu_as_default_device_trains_on_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice is made at each call; here the GPU is the emulator, and counts its kernels."""
    started = []

    def launch(kernel, **arguments):  # type: ignore[no-untyped-def]
        started.append(arguments["output_shapes"][0])
        return emulate(kernel, **arguments)

    monkeypatch.setitem(BACKENDS, "metal", MetalBackend(metal, launch, lambda: None))
    x = mx.array(inputs((4, 3, 20))[0])
    gradient = mx.grad(lambda x: (trainable_lif(x)[0] * x).sum())
    wanted = gradient(x)
    mx.eval(wanted)
    assert not started
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu, 0))
    found = gradient(x)
    assert started == [(4, 3, 20)] * 2
    assert_close("x", np.asarray(found), np.asarray(wanted), 1e-6)
    np.testing.assert_array_equal(np.asarray(lif_scan(x).spikes), lif_scan(np.asarray(x)).spikes)
    assert len(started) == 3  # MLX arrays on the GPU, numpy arrays on the CPU
