"""Vector loads and stores are unchecked: what lies beside arrays is neither used nor changed.

Inputs lie between guards of a value that would show in the result (nan, -128, all bits), results
and scratch in memory whose surroundings are compared afterwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from neurosim.kernels import (
    Neuron,
    PackedWeight,
    _aligned,
    grad_weight,
    lif_backward,
    lif_scan,
    pack,
    spike_attention,
    spike_attention_step,
    spike_linear,
    spike_linear_lif,
)
from neurosim.kernels.lif_scan import _types as lif_types
from neurosim.kernels.packed import _transpose, cpu, reference
from neurosim.kernels.packed import _words as packed_words
from neurosim.kernels.spike_linear import _run, _weight
from neurosim.kernels.spike_linear_lif import cpu as fused

SPARE = 64  # elements on either side; a whole number of cache lines
COLUMNS = [1, 63, 64, 65, 123, 130]
POISON: dict[str, Any] = {"int8": -128, "float32": np.nan, "uint64": 2**64 - 1, "int32": 2**30}
POISON |= {"int16": 2**14, "uint16": 2**16 - 1}


class Guards:
    """Arrays between guards."""

    def __init__(self) -> None:
        self._all: list[tuple[npt.NDArray[Any], int]] = []

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """In the place of `aligned`: not initialised (all poison)."""
        kind, size = np.dtype(dtype), int(np.prod(shape))
        around = _aligned.aligned((size + 2 * SPARE,), kind)
        around[:] = POISON[kind.name]
        self._all.append((around, size))
        return around[SPARE : SPARE + size].reshape(shape)

    def of(self, values: Any, kind: str) -> npt.NDArray[Any]:
        inside = self.array(np.shape(values), kind)
        inside[...] = values
        return inside

    def check(self) -> None:
        for around, size in self._all:
            for part in (around[:SPARE], around[SPARE + size :]):
                np.testing.assert_array_equal(part, POISON[around.dtype.name])


@pytest.fixture
def guards(monkeypatch: pytest.MonkeyPatch) -> Guards:
    """Results of the packed, linear and neuron kernels lie between guards too."""
    found = Guards()
    for module in (_run, _weight, fused, lif_types):
        monkeypatch.setattr(module, "aligned", found.array)
    for module in (packed_words, _transpose, cpu):
        monkeypatch.setattr(module, "new_words", lambda shape: found.array(shape, np.uint64))
    return found


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("rows", [1, 5, 64, 67])
def test_packing(guards: Guards, columns: int, rows: int) -> None:
    rng = np.random.default_rng(columns)
    for levels, signed, code in ((1, False, "bits"), (3, True, "bits"), (2, True, "thermometer")):
        x = rng.integers(-levels * signed, levels + 1, (rows, columns))
        wanted, _ = reference.pack(x.astype(np.int8), levels, signed, code)
        for kind in ("int8", "float32"):
            spikes = pack(guards.of(x, kind), levels, signed, code)
            np.testing.assert_array_equal(spikes.words, wanted)
        inside = guards.of(wanted, "uint64")
        for number in (np.int8, np.float32):
            np.testing.assert_array_equal(
                cpu.unpack(inside, levels, signed, code, columns, number), x
            )
        np.testing.assert_array_equal(
            cpu.transpose(inside, columns), reference.transpose(wanted, columns)
        )
        flat = inside.reshape(-1, inside.shape[2])
        for found, right in zip(
            cpu.events(flat, columns), reference.events(flat, columns), strict=True
        ):
            np.testing.assert_array_equal(found, right)
    guards.check()


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("bits", [32, 16, 8, 4])
def test_linear(guards: Guards, columns: int, bits: int) -> None:
    rng = np.random.default_rng(columns)
    counts = rng.integers(0, 2, (8, 70)).astype(np.int8)
    values = rng.integers(-8, 8, (70, columns))
    wanted = counts @ values
    weight = PackedWeight.pack(guards.of(values, "float32" if bits > 8 else "int8"), bits)
    for algo in ("gather", "lut", "pattern", "dense"):
        for threads in (1, 3):
            found = spike_linear(pack(guards.of(counts, "int8")), weight, algo, "cpu", threads)
            np.testing.assert_array_equal(found, wanted)
    if bits in (32, 8):
        plain = guards.of(values, "float32" if bits == 32 else "int8")
        np.testing.assert_array_equal(spike_linear(guards.of(counts, "int8"), plain), wanted)
        spikes = pack(counts[:, None], time_axis=0)
        for algo in ("gather", "lut"):
            fired = spike_linear_lif(spikes, weight, 3.0, algo=algo, save_membrane=True)
            sums = wanted[:, None].astype(np.float32)
            np.testing.assert_array_equal(
                fired.spikes.unpack(),  # type: ignore[union-attr]
                lif_scan(sums, 3.0).spikes,
            )
    guards.check()


@pytest.mark.parametrize("algo", ["gather", "lut", "dense"])
@pytest.mark.parametrize("columns", COLUMNS)
def test_gradient_of_weights(guards: Guards, columns: int, algo: str) -> None:
    rng = np.random.default_rng(columns)
    counts, gradient = rng.integers(-1, 2, (67, 70)), rng.integers(-9, 9, (67, columns))
    found = grad_weight(guards.of(counts, "int8"), guards.of(gradient, "float32"), algo)
    np.testing.assert_array_equal(found, counts.T @ gradient)
    guards.check()


@pytest.mark.parametrize("neuron", [Neuron("hard"), Neuron(levels=3, signed=True)], ids=repr)
@pytest.mark.parametrize("columns", COLUMNS)
def test_neurons(guards: Guards, columns: int, neuron: Neuron) -> None:
    rng = np.random.default_rng(columns)
    x, state = rng.normal(0, 2, (3, 2, columns)), rng.normal(size=(2, columns))
    threshold, decay = rng.random(columns) + 0.3, rng.random(columns)
    given = [guards.of(part, "float32") for part in (x, threshold, decay, state)]
    inside, edge, leak, start = given
    rest = (edge, leak, 1.5, neuron, start)
    right = lif_scan(inside, *rest, save_membrane=True, backend="reference")
    for threads in (1, 2):
        for output in ("int8", "packed"):
            found = lif_scan(inside, *rest, output, True, "cpu", threads=threads)
            counts: Any = found.spikes if output == "int8" else found.spikes.unpack()  # type: ignore[union-attr]
            np.testing.assert_array_equal(counts, right.spikes)
            np.testing.assert_array_equal(found.state, right.state)
            np.testing.assert_array_equal(found.membrane, right.membrane)
    assert right.membrane is not None
    arguments = (guards.of(x, "float32"), inside, guards.of(right.membrane, "float32"), *rest)
    slopes, wanted = (
        lif_backward(*arguments, state_gradient=start, backend=backend)
        for backend in ("cpu", "reference")
    )
    for part, whole in zip(slopes, wanted, strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-4, atol=1e-4)
    guards.check()


@pytest.mark.parametrize("channels", [1, 7, 63, 64, 65])
def test_attention(guards: Guards, channels: int) -> None:
    rng = np.random.default_rng(channels)
    q, k, v = rng.integers(-2, 3, (3, 2, 4, channels)).astype(np.int8)
    inside: Any = [guards.of(x, "int8") for x in (q, k, v)]
    right = spike_attention(q, k, v, backend="reference")
    np.testing.assert_array_equal(spike_attention(*inside).out, right.out)
    for kind in ("int16", "int32"):
        state = guards.of(np.zeros((2, channels, channels)), kind)
        for token in range(4):
            now: Any = [guards.of(x[:, token], "int8") for x in (q, k, v)]
            out = spike_attention_step(state, *now)
            np.testing.assert_array_equal(out, right.out[:, token])
        np.testing.assert_array_equal(state, right.state)
    decayed = spike_attention(q, k, v, [1, 0, 2, 3], 4, backend="reference")  # (L, H, D)
    start = guards.of(np.zeros((4, channels, channels)), "int32")
    one, two, three = inside
    found = spike_attention(one, two, three, [1, 0, 2, 3], 4, start)
    np.testing.assert_array_equal(found.out, decayed.out)
    for token in range(2):
        one, two, three = (guards.of(x[token], "int8") for x in (q, k, v))
        out = spike_attention_step(start, one, two, three, [1, 0, 2, 3], 4)
        np.testing.assert_array_equal(out, decayed.out[token])
    np.testing.assert_array_equal(start, decayed.state)
    guards.check()
