"""Compiled functions do not allocate: no call of Numba's allocator is in their optimised code."""

from __future__ import annotations

import gc
import importlib
import pkgutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import mlx.core as mx
import numba
import numpy as np
from numba.core.dispatcher import Dispatcher

from neurosim import kernels
from neurosim.kernels import (
    IntegerWeight,
    Neuron,
    PackedSpikes,
    PackedWeight,
    cached_attention,
    count_linear,
    event_counts,
    grad_weight,
    lif_backward,
    lif_scan,
    pack,
    row_linear,
    sdsa,
    spike_attention,
    spike_attention_step,
    spike_conv2d,
    spike_linear,
    spike_linear_lif,
    spike_quantise,
    spike_taps,
    trainable_attention,
    trainable_conv2d,
    trainable_linear_lif,
    trainable_stack,
)
from neurosim.kernels._scratch import KEPT, kept, on_stack
from neurosim.kernels.dense import causal_softmax, cross_entropy, distillation
from neurosim.kernels.neuron import batch_norm_spikes, fixed_norm_spikes, integer_spikes

ALLOCATORS = ("NRT_Allocate", "NRT_Reallocate", "NRT_MemInfo_alloc", "NRT_MemInfo_new")
RNG = np.random.default_rng(0)


def counts(*shape: int, levels: int = 4) -> np.ndarray:
    return RNG.integers(-levels, levels + 1, shape).astype(np.int8)


def binary(*shape: int) -> PackedSpikes:
    return pack(RNG.random(shape) < 0.3)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def packed() -> None:
    for levels in (1, 4):
        spikes = pack(counts(8, 70, levels=levels), levels, signed=True)
        assert spikes.unpack() is not None and spikes.events and spikes.transposed is not None
    pack(np.abs(floats(8, 70)) > 1).unpack(np.float32)
    assert binary(8, 70).patterns


def linear() -> None:
    for outputs in (40, 200):
        for weight in (floats(70, outputs), counts(70, outputs)):
            for rows in (1, 40):
                spike_linear(counts(rows, 70), weight)
    for bits in (32, 16, 8, 4):
        weight = PackedWeight.pack(counts(70, 200), bits)
        for algo in ("gather", "lut", "pattern", "dense", "auto"):
            spike_linear(binary(8, 70), weight, algo=algo)
        spike_linear(counts(8, 70), weight, algo="gather")
    grad_weight(binary(8, 70), floats(8, 20))
    far = PackedWeight.pack(floats(512, 1024))  # 2 MB: taken to come from memory
    spike_linear(binary(8, 512), far, algo="pattern")
    for channels in (4, 8000):  # indices of 9 x 8000 inputs need 32 bits
        image = pack(RNG.random((1, 4, 4, channels)) < 0.3)
        for algo in ("gather", "lut"):
            spike_conv2d(image, floats(3, 3, channels, 2), algo=algo)
    spike_taps(counts(9, 70), counts(4, 70))


def layers() -> None:
    x = floats(4, 3, 70)
    for neuron in (Neuron(), Neuron(levels=4), Neuron(levels=4, signed=True)):
        scan = lif_scan(x, neuron=neuron, save_membrane=True)
        lif_scan(x, neuron=neuron, output="packed")
        lif_backward(x, x, scan.membrane, neuron=neuron)
    spikes = pack(RNG.random((4, 3, 70)) < 0.3, time_axis=0)
    for weight in (floats(70, 20), counts(70, 20)):
        spike_linear_lif(spikes, weight, algo="gather")
        spike_linear_lif(spikes, weight, algo="lut")
    spike_linear_lif(spikes, counts(70, 20), 20.0, 0.5, integer=True)
    integer_spikes(RNG.integers(-9, 9, (3, 5)), np.full(5, 2), np.zeros(5, int), 4, True)


def attention() -> None:
    q, k, v = (counts(9, 2, 24) for _ in range(3))
    spike_attention(q, k, v, [3, 0], 4)
    state = np.zeros((2, 24, 24), np.int32)
    spike_attention_step(state, q[0], k[0], v[0], np.array([3, 0]), 4)
    spike_attention_step(state, q[0], k[0], v[0], np.array([3, 0]), 4, backend="cpu")
    for columns in (64, 24):
        a, b, c = (binary(2, 9, columns) for _ in range(3))
        out = spike_attention(a, b, c)
        spike_attention(a, b, c, state=out.state)
        spike_attention(a, b, c, causal=False)
        for kind in (np.int16, np.int32):
            memory = np.zeros((2, columns, columns), kind)
            spike_attention_step(memory, *(binary(2, columns) for _ in range(3)))
            signed = (pack(counts(2, columns), 4, True) for _ in range(3))
            spike_attention_step(memory, *signed)
    for channels, tokens, threshold in ((16, 9, 0.5), (80, 9, 0.5)):
        maps = [binary(2, 10, tokens, channels) for _ in range(3)]
        for causal in (False, True):
            for decay in (0.5, 0.0):  # with memory, and without
                options = {"threshold": threshold, "decay": decay, "gain": 1.0, "scale": 1.0}
                sdsa(*maps, "1", causal=causal, **options)
                sdsa(*maps, "3", heads=2, causal=causal, **options)
    maps = [binary(1, 1, 1 << 15, 80) for _ in range(3)]  # sums that int16 does not hold
    sdsa(*maps, "1", threshold=float(1 << 15), decay=0.0, gain=1.0, causal=True)


def language() -> None:
    for kind in (np.float32, np.float16):
        spike_quantise(floats(3, 64).astype(kind), 8)
        spike_quantise(floats(3, 64).astype(kind), 8, scale="tensor")
        spike_quantise(floats(3, 64).astype(kind), 8, scale=np.full((3, 1), 0.1, kind))
    event_counts(counts(3, 64))
    for bits in (8, 4):
        weight = IntegerWeight.quantise(floats(40, 64), bits)
        count_linear(counts(3, 64), weight)
        row_linear(floats(3, 64), weight)
    row_linear(floats(3, 64), floats(40, 64))
    keys, values = floats(1, 1, 8, 16), floats(1, 1, 8, 16)
    cached_attention(floats(1, 2, 2, 16), keys, values, np.zeros(1, np.int64), 3)


def training() -> None:
    x, weight = (
        mx.array((RNG.random((4, 3, 70)) < 0.3).astype(np.float32)),
        mx.array(floats(70, 20)),
    )
    for neuron in (Neuron(surrogate="boxcar"), Neuron(levels=4)):
        mx.eval(mx.grad(lambda w: trainable_linear_lif(x, w, neuron=neuron)[0].sum())(weight))  # noqa: B023
        mx.eval(mx.grad(lambda w: trainable_stack(x, [w], neuron=neuron).sum())(weight))  # noqa: B023
    q = mx.array((RNG.random((2, 9, 24)) < 0.3).astype(np.float32))
    mx.eval(mx.grad(lambda q: trainable_attention(q, q, q).sum())(q))
    rows, ones = mx.array(floats(8, 20)), mx.ones(20)
    mx.eval(mx.grad(lambda r: batch_norm_spikes(r, ones, ones, 4, True)[0].sum())(rows))
    fixed_norm_spikes(rows, ones, ones, 4, False)
    images = mx.array((RNG.random((1, 5, 5, 4)) < 0.3).astype(np.float32))
    filters = mx.array(floats(3, 3, 4, 6))
    mx.eval(mx.grad(lambda x: trainable_conv2d(x, filters).sum())(images))
    logits, targets = mx.array(floats(8, 20)), mx.zeros(8, mx.int32)
    mx.eval(mx.grad(lambda x: causal_softmax(x).sum())(mx.array(floats(2, 8, 8))))
    mx.eval(mx.grad(lambda x: cross_entropy(x, targets).sum())(logits))
    mx.eval(mx.grad(lambda x: distillation(x, logits, targets, 0.5)[0].sum())(logits))


CALLS = (packed, linear, layers, attention, language, training)


def compiled_functions() -> list[Any]:
    """All compiled functions of the package that there are, those made by functions too."""
    for found in pkgutil.walk_packages(kernels.__path__, "neurosim.kernels."):
        importlib.import_module(found.name)
    return [
        thing
        for thing in gc.get_objects()
        if issubclass(type(thing), Dispatcher)
        and thing.py_func.__module__.startswith("neurosim.kernels")
    ]


def named_in(function: Any) -> Iterator[Any]:
    """Compiled functions that a compiled function calls."""
    code, scope = function.py_func.__code__, function.py_func.__globals__
    values = [scope.get(name) for name in code.co_names]
    values += [cell.cell_contents for cell in function.py_func.__closure__ or ()]
    for value in values:
        inside = vars(value) if isinstance(value, ModuleType) else {}
        for each in (value, *(inside.get(name) for name in code.co_names)):
            if isinstance(each, Dispatcher):
                yield each


def name_of(function: Any) -> str:
    return f"{function.py_func.__module__}.{function.py_func.__qualname__}"


def allocators(function: Any) -> set[str]:
    """Allocating functions that its optimised code refers to.

    Not by `inspect_asm`, which is empty for code that came from Numba's cache.
    """
    return {
        used.name
        for overload in function.overloads.values()
        for used in overload.library._get_module_for_linking().functions
        if used.name.startswith(ALLOCATORS)
    }


def test_no_compiled_function_allocates() -> None:
    for call in CALLS:
        call()
    functions = compiled_functions()
    ran = [function for function in functions if function.overloads]
    assert len(ran) > 60
    assert {name_of(f): found for f in ran if (found := allocators(f))} == {}
    reached = list(ran)
    for function in reached:  # grows: code from the cache holds what it calls
        reached += [f for f in named_in(function) if all(f is not other for other in reached)]
    missing = {name_of(f) for f in functions} - {name_of(f) for f in reached}
    assert missing == set(), "add a call to CALLS that runs them"


def test_allocations_are_seen() -> None:
    """In code just compiled, and in code with a copy that the source does not show."""

    @numba.njit
    def allocates(x: Any) -> None:
        x[:] = np.zeros(3)

    @numba.njit
    def copies(x: Any, y: Any) -> None:
        x[:3] = y[1:4]

    allocates(np.ones(3)), copies(np.ones(3), np.ones(4, np.float32))
    assert allocators(allocates) and allocators(copies)


_four, _eight = on_stack(np.int32, 4), on_stack(np.float64, 8)


def test_arrays_on_the_stack() -> None:
    """Each has memory of its own, on a cache line, also where it is asked for in a loop."""

    @numba.njit
    def sums(out: Any) -> int:
        for i in range(1000):
            a, b, c = _four(), _four(), _eight()
            a[:], b[:], c[:] = i, 2 * i, 0.5 * i
            out[0], out[1], out[2] = a.sum(), b.sum(), c.sum()
        return int(a.ctypes.data % 64 + b.ctypes.data % 64 + a.size + c.size)

    out = np.empty(3)
    assert sums(out) == 12
    assert out.tolist() == [4 * 999, 8 * 999, 4 * 999]


def test_memory_is_kept_for_each_thread() -> None:
    first = kept(100)
    assert kept(100) is first is KEPT.memory
    larger = kept(first.size + 1)
    assert larger.size > first.size and kept(1) is larger
    huge = kept((1 << 20) + 1)
    assert huge.size > 1 << 20 and kept(1) is larger, "what is huge is not kept"
    with ThreadPoolExecutor(1) as pool:
        assert not np.shares_memory(pool.submit(kept, 1).result(), larger)
