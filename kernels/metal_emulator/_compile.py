"""Compiling translated kernels with g++, cached by content."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from neurosim.kernels.metal_emulator._errors import MetalError

_HERE = Path(__file__).parent
_SOURCES = ("*.hpp", "*.cpp")
_OPTIONS = ("-std=c++17", "-fPIC", "-fvisibility=hidden")
# The loads and stores of the source, each with a call before it; literals are floats as in Metal.
_KERNEL_OPTIONS = (
    "-O1", "-g1", "-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0",
    "-fsingle-precision-constant", "-fno-tree-loop-distribute-patterns", "-fno-tree-vectorize",
    "-fno-aggressive-loop-optimizations", "-fno-strict-aliasing", "-fwrapv",
    "-Werror=frame-larger-than=16384",
)  # fmt: skip
# Indices into arrays of known size, integer divisions (with -fwrapv, signed-integer-overflow means
# INT_MIN / -1 only) and, where nothing is counted, accesses to objects of known size: for these g++
# keeps private arrays in memory and loads again what their stores might change.
# The hooks never return (no-recover), so that values stay in registers across the checks.
_CHECKS = (
    "-fno-sanitize-recover=all",
    "-fsanitize=bounds-strict,integer-divide-by-zero,signed-integer-overflow",
)
_UNCOUNTED_CHECKS = "-fsanitize=object-size"
_LONGEST_MESSAGE = 3000
_building = threading.Lock()


class Library:
    """A compiled kernel, with state of its own: one launch at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = ctypes.CDLL(str(path)).emulator_run
        self.run.argtypes, self.run.restype = [ctypes.c_void_p], None

    def __repr__(self) -> str:
        return f"Library({self.path.name})"


def cache_directory() -> Path:
    """`$NEUROSIM_CACHE/metal`, or `~/.cache/neurosim/metal`."""
    chosen = os.environ.get("NEUROSIM_CACHE")
    base = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "neurosim"
    return base / "metal"


def unavailable() -> str | None:
    """None, or why kernels cannot be emulated on this machine."""
    if os.uname().sysname != "Linux":
        return f"expected Linux, this is {os.uname().sysname}; on a Mac run the kernel itself"
    if shutil.which("g++") is None:
        return "expected the compiler g++ (12 or later) on PATH; install it (apt install g++)"
    return None


def library(cpp: str, counted: bool) -> Library:
    """The shared library of a kernel, from the cache or compiled into it.

    Args:
        counted: leave out the checks that change how often memory is read.
    """
    reason = unavailable()
    if reason is not None:
        raise MetalError(f"the Metal emulator cannot run: {reason}")
    with _building:
        return _library(cpp, _checks(counted), cache_directory())


@functools.lru_cache(maxsize=512)
def _library(cpp: str, checks: tuple[str, ...], cache: Path) -> Library:
    path = cache / f"{_hash(repr(checks) + cpp)}.so"
    if not path.exists():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                _build(cpp, checks, Path(scratch), path)
        except OSError as error:
            raise MetalError(
                f"cannot write compiled kernels to {cache} ({error}); set NEUROSIM_CACHE"
            ) from error
    return Library(path)


def _build(cpp: str, checks: tuple[str, ...], scratch: Path, path: Path) -> None:
    (scratch / "kernel.cpp").write_text(cpp)
    kernel, runtime, linked = (scratch / name for name in ("kernel.o", "runtime.o", "kernel.so"))
    compiler = ("g++", *_OPTIONS, f"-I{_HERE}", "-c")
    _call(*compiler, *_KERNEL_OPTIONS, *checks, str(scratch / "kernel.cpp"), "-o", str(kernel))
    shared_runtime = path.parent / f"{_hash('runtime')}.o"
    if not shared_runtime.exists():
        _call(*compiler, "-O2", str(_HERE / "runtime.cpp"), "-o", str(runtime))
        os.replace(runtime, shared_runtime)
    # Not -fsanitize=thread here: the hooks it calls are in runtime.cpp.
    _call(
        "g++", "-shared", "-Wl,-z,defs", "-Wl,-Bsymbolic",
        str(kernel), str(shared_runtime), "-o", str(linked),
    )  # fmt: skip
    os.replace(linked, path)


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        message = done.stderr[:_LONGEST_MESSAGE].strip()
        raise MetalError(f"the kernel does not compile:\n{message}")


def line_at(path: Path, address: int) -> str | None:
    """The line of an instruction, as "source:3", if addr2line knows."""
    tool = shutil.which("addr2line")
    if tool is None:
        return None
    command = (tool, "-i", "-e", str(path), hex(address - 1))
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")
    for line in found:
        name, _, number = line.split(" ")[0].rpartition("/")[2].partition(":")
        if name in ("source", "header") and number.isdigit():
            return f"{name} line {number}"
    return None


def _hash(text: str) -> str:
    return hashlib.sha256((_fingerprint() + text).encode()).hexdigest()[:32]


@functools.cache
def _compiler() -> str:
    """What the compiler says of itself."""
    return subprocess.run(("g++", "-v"), capture_output=True, text=True, check=False).stderr.strip()


def _checks(counted: bool) -> tuple[str, ...]:
    """The options that check what a kernel does, as this compiler names them."""
    checks = [*_CHECKS] if counted else [*_CHECKS, _UNCOUNTED_CHECKS]
    if "clang version" in _compiler():  # its array-bounds is as strict
        checks = [option.replace("bounds-strict", "array-bounds") for option in checks]
    return tuple(checks)


@functools.cache
def _fingerprint() -> str:
    """Of everything else that a library depends on: our files, options and the compiler."""
    paths = sorted(path for pattern in _SOURCES for path in _HERE.glob(pattern))
    files = "".join(path.read_text() for path in paths)
    return repr((_compiler(), _OPTIONS, _KERNEL_OPTIONS, files))
