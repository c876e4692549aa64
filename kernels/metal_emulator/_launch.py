"""Running a compiled kernel on buffers, and what happened."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.kernels.metal_emulator._compile import Library, line_at
from neurosim.kernels.metal_emulator._errors import MetalError

ORDERS = ("forward", "reverse", "shuffled")
OPERATIONS = (
    "load", "store", "threadgroup_load", "threadgroup_store", "atomic", "threadgroup_barrier",
    "simdgroup_barrier", "ballot", "reduce", "prefix_sum", "shuffle", "broadcast", "popcount",
    "count_zeros", "math",
)  # fmt: skip
_NONE = 2**32 - 1
_MOST_BUFFERS = 31
_running = threading.Lock()  # libraries keep their state in static memory
_KINDS = (
    "none", "barrier", "simd", "bounds", "read only", "threadgroup memory", "race", "address",
    "memory", "undefined",
)  # fmt: skip


@dataclass(frozen=True)
class BufferTraffic:
    """Bytes that a launch moved to and from one buffer."""

    name: str
    size: int
    read: int  # by all threads, repeats included: what would leave memory without any cache
    written: int
    unique_read: int  # different bytes: what leaves memory with a perfect cache
    unique_written: int


@dataclass(frozen=True)
class Trace:
    """What a launch did.

    Attributes:
        buffers: traffic of every buffer, shapes and strides that MLX passes included.
        threads, threadgroups: how many ran.
        threadgroup_memory: bytes of it, the most in any threadgroup.
        threadgroup_read, threadgroup_written: bytes, all threadgroups.
        barriers: threadgroup barriers passed, once per threadgroup.
        operations: executions by all threads; arithmetic on registers is not among them.
    """

    buffers: tuple[BufferTraffic, ...]
    threads: int
    threadgroups: int
    threadgroup_memory: int
    threadgroup_read: int
    threadgroup_written: int
    barriers: int
    operations: dict[str, int]

    def per_thread(self) -> dict[str, float]:
        """Executions of each operation by the average thread."""
        return {name: count / self.threads for name, count in self.operations.items()}

    @property
    def read(self) -> int:
        """Bytes read from buffers, repeats included."""
        return sum(buffer.read for buffer in self.buffers)

    @property
    def written(self) -> int:
        """Bytes written to buffers, repeats included."""
        return sum(buffer.written for buffer in self.buffers)


@dataclass(frozen=True)
class Bound:
    """One buffer of a launch: bytes, and where among them element 0 lies."""

    name: str
    data: npt.NDArray[np.uint8]
    itemsize: int
    origin: int = 0
    writable: bool = False


class _Fault(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("kind", "buffer", "writes", "line", "other_line")),
        ("returned", ctypes.c_int32),
        *((name, ctypes.c_int64) for name in ("offset", "bytes", "address")),
        ("thread", ctypes.c_uint32 * 3),
        ("other", ctypes.c_uint32 * 3),
        ("text", ctypes.c_char * 160),
    )


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("origin", ctypes.c_uint64),
        ("writable", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        *((name, ctypes.c_uint64) for name in ("read", "written", "unique_read")),
        ("unique_written", ctypes.c_uint64),
    )


class _Launch(ctypes.Structure):
    _fields_ = (
        ("buffers", ctypes.POINTER(_Buffer)),
        *((name, ctypes.c_uint32) for name in ("count", "order", "check_races", "reserved")),
        ("seed", ctypes.c_uint64),
        ("grid", ctypes.c_uint32 * 3),
        ("group", ctypes.c_uint32 * 3),
        ("operations", ctypes.c_uint64 * len(OPERATIONS)),
        *((name, ctypes.c_uint64) for name in ("threads", "groups", "barriers")),
        *((f"threadgroup_{name}", ctypes.c_uint64) for name in ("bytes", "read", "written")),
        ("fault", _Fault),
    )


def launch(
    compiled: Library,
    bound: Sequence[Bound],
    grid: tuple[int, int, int],
    threadgroup: tuple[int, int, int],
    order: str,
    seed: int,
    check_races: bool,
) -> Trace:
    """Run all threads; fills the writable buffers."""
    if len(bound) > _MOST_BUFFERS:
        raise MetalError(
            f"expected at most {_MOST_BUFFERS} buffers, Metal's limit, got {len(bound)}: inputs, "
            "outputs and the shapes and strides that the source names; pass fewer"
        )
    buffers = (_Buffer * max(len(bound), 1))()
    for buffer, given in zip(buffers, bound, strict=False):
        buffer.data, buffer.bytes = given.data.ctypes.data, given.data.nbytes
        buffer.origin, buffer.writable = given.origin, given.writable
    job = _Launch(
        buffers=buffers, count=len(bound), order=ORDERS.index(order), check_races=check_races,
        seed=seed, grid=grid, group=threadgroup,
    )  # fmt: skip
    with _running:
        compiled.run(ctypes.byref(job))
    if job.fault.kind:
        raise MetalError(_message(job.fault, bound, compiled))
    return Trace(
        tuple(
            BufferTraffic(g.name, b.bytes, b.read, b.written, b.unique_read, b.unique_written)
            for b, g in zip(buffers, bound, strict=False)
        ),
        job.threads, job.groups, job.threadgroup_bytes, job.threadgroup_read,
        job.threadgroup_written, job.barriers, dict(zip(OPERATIONS, job.operations, strict=True)),
    )  # fmt: skip


def _message(fault: _Fault, bound: Sequence[Bound], compiled: Library) -> str:
    kind, thread = _KINDS[fault.kind], tuple(fault.thread)
    here = f"thread {thread} at source line {fault.line}"
    there = f"thread {tuple(fault.other)} at line {fault.other_line}"
    if kind == "memory":
        return "not enough address space for the kernel's buffers"
    if kind == "threadgroup memory":
        return (
            f"expected at most 32768 bytes of threadgroup memory, got {fault.bytes} with the "
            f"declaration at source line {fault.line}; use smaller tiles"
        )
    if kind == "barrier" and fault.returned:
        return (
            f"divergent threadgroup_barrier: {here} waits for {fault.returned} threads that "
            "returned; every thread of the threadgroup must reach it"
        )
    if kind == "barrier":
        return f"divergent threadgroup_barrier: {here}, {there}; all must reach the same one"
    if kind == "simd":
        return (
            f"divergent {fault.text.decode()}: {here} waits for its SIMD-group, but {there} "
            "reached something else; all lanes must reach the same one"
        )
    line = line_at(compiled.path, fault.address)
    where = f"thread {thread}" + (f", {line}" if line else "")
    if kind == "undefined":
        return f"{fault.text.decode()} ({where})"
    what = f"{'write' if fault.writes else 'read'} of {fault.bytes} bytes"
    if kind == "address":
        return f"{what} at an address outside every buffer ({where})"
    place = _place(fault, bound)
    if kind == "bounds":
        return f"out-of-bounds {what} at {place} ({where})"
    if kind == "read only":
        return f"{what} to the input {place} ({where}); inputs are constant"
    other = tuple(fault.other)
    if fault.returned:
        others, missing = "threads of another threadgroup", "only atomics may share it"
    else:
        others = "other threads" if other[0] == _NONE else f"thread {other}"
        missing = "a barrier with the mem_flags of that memory is missing between them"
    return f"data race: {what} at {place} ({where}), which {others} also touched; {missing}"


def _place(fault: _Fault, bound: Sequence[Bound]) -> str:
    if fault.buffer < 0:
        return f"threadgroup memory, byte {fault.offset} of its array"
    buffer = bound[fault.buffer]
    element = (fault.offset - buffer.origin) // buffer.itemsize
    elements = buffer.data.nbytes // buffer.itemsize
    return f"{buffer.name}[{element}], a buffer of {elements} elements"
