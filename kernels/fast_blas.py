"""Point MLX's CPU backend on Linux at the OpenBLAS that scipy ships.

MLX's Linux wheels call netlib's reference BLAS (about 2 GFLOP/s); scipy's wheels bundle OpenBLAS.
`enable()` rewrites libmlx.so's jump slots for its BLAS and LAPACK calls to scipy's functions: no
download, no compiler, nothing on disk changes, other libraries keep their BLAS. It verifies the
result against numpy and puts the old pointers back if anything differs. Where it does not apply
(macOS, an MLX built with another BLAS, no bundled OpenBLAS) it stays off and `active()` says why.

The number of threads is OpenBLAS's: OPENBLAS_NUM_THREADS, or threadpoolctl.
`NEUROSIM_FAST_BLAS=0` in the environment switches it off.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.kernels import _gemv, _slots

SWITCH = "NEUROSIM_FAST_BLAS"
_PREFIX = "scipy_"  # scipy's bundle exports cblas_sgemm as scipy_cblas_sgemm
_SIZE = 64  # of the verified products


@dataclass
class _State:
    """What stands in libmlx.so now; one per process, because the slots are."""

    reason: str = "not enabled"
    description: str = ""
    library: _slots.Library | None = None
    saved: dict[str, int] = field(default_factory=dict)
    routes: list[Any] = field(default_factory=list)
    """C functions that were ever put into a slot: MLX's threads may still be inside one."""


_state = _State()


def enable() -> str:
    """Switch MLX to scipy's OpenBLAS if that is possible and proven; returns `active()`.

    May be called any number of times, before or after arrays were made. Never raises: a step that
    fails leaves MLX's own BLAS in place, and `active()` gives the reason.
    """
    if _state.saved:
        return active()
    try:
        _switch_on()
    except Exception as error:  # whatever it is, MLX's own BLAS is right: stay off, say why
        _state.reason = str(error)
    return active()


def active() -> str:
    """Which BLAS MLX calls, for benchmark headers, e.g. "OpenBLAS 0.3.31 from scipy (...)"."""
    return _state.description if _state.saved else f"MLX default: {_state.reason}"


def disable() -> None:
    """Put MLX's own pointers back."""
    if _state.library is not None and _state.saved:
        _slots.write(_state.library.slots, _state.saved)
        atexit.unregister(disable)
        _state.saved = {}
        _state.reason = "disabled"


def _switch_on() -> None:
    if os.environ.get(SWITCH, "1").strip().lower() in ("0", "off", "false", "no"):
        raise ValueError(f"switched off by {SWITCH}={os.environ[SWITCH]}")
    if sys.platform != "linux":
        raise ValueError(f"not needed on {sys.platform}")
    import mlx.core  # noqa: F401 - loads libmlx.so

    library = _slots.loaded("libmlx.so")
    if not any(name.startswith("libblas") for name in library.needed):
        raise ValueError("MLX is not linked to a reference libblas")
    bundle = _bundled_openblas()
    plain = _replacements(bundle, library.slots)
    if "cblas_sgemm" not in plain:
        raise ValueError("scipy's OpenBLAS or libmlx.so has no cblas_sgemm")
    version = _version(bundle)
    atexit.register(disable)  # before the compiled route is torn down with its module
    try:
        _install(library, _with_gemv_route(plain, bundle))
        _state.description = f"OpenBLAS {version} from scipy (slot rewrite, GEMV route)"
    except Exception as error:  # the route is a second gain, not a condition of the first
        _install(library, plain)
        _state.description = f"OpenBLAS {version} from scipy (slot rewrite; no GEMV route: {error})"


def _install(library: _slots.Library, pointers: Mapping[str, int]) -> None:
    """Write the pointers and verify; on a mismatch put the old ones back and raise."""
    saved = {
        symbol: old for symbol, old in _slots.read(library.slots).items() if symbol in pointers
    }
    _slots.write(library.slots, pointers)
    try:
        _verify()
    except BaseException:
        _slots.write(library.slots, saved)
        raise
    _state.library, _state.saved = library, saved


def _bundled_openblas() -> ctypes.CDLL:
    """scipy's own OpenBLAS with 32-bit integers (LP64), without importing scipy."""
    spec = importlib.util.find_spec("scipy")
    if spec is None or spec.origin is None:
        raise ValueError("scipy is not installed")
    folder = Path(spec.origin).parent.parent / "scipy.libs"
    files = sorted(folder.glob("libscipy_openblas-*.so*"))
    if not files:
        raise ValueError(f"scipy bundles no OpenBLAS ({folder})")
    return ctypes.CDLL(str(files[0]))


def _version(bundle: ctypes.CDLL) -> str:
    """OpenBLAS's version; ValueError when the bundle is built with 64-bit integers."""
    configuration = bundle.scipy_openblas_get_config
    configuration.restype = ctypes.c_char_p
    text = configuration().decode()
    if "USE64BITINT" in text:
        raise ValueError("scipy's OpenBLAS uses 64-bit integers, MLX 32-bit ones")
    match = re.search(r"\d+(\.\d+)+", text)
    return match.group() if match else "of unknown version"


def _address(bundle: ctypes.CDLL, symbol: str) -> int | None:
    function = getattr(bundle, _PREFIX + symbol, None)
    return None if function is None else ctypes.cast(function, ctypes.c_void_p).value


def _replacements(bundle: ctypes.CDLL, slots: Mapping[str, int]) -> dict[str, int]:
    """New pointer of each slot that is a BLAS or LAPACK function the bundle has."""
    found = {}
    for symbol in slots:
        if symbol.startswith("cblas_") or re.fullmatch(r"[sdcz][a-z]+\d?_", symbol):
            address = _address(bundle, symbol)
            if address is not None:
                found[symbol] = address
    return found


def _with_gemv_route(plain: Mapping[str, int], bundle: ctypes.CDLL) -> dict[str, int]:
    """The same pointers, sgemm's replaced by the route of `_gemv`."""
    sgemv = _address(bundle, "cblas_sgemv")
    if sgemv is None:
        raise ValueError("no cblas_sgemv")
    function = _gemv.route(plain["cblas_sgemm"], sgemv)
    _state.routes.append(function)
    return {**plain, "cblas_sgemm": function.address}


def _verify() -> None:
    """Compare MLX's products and one LAPACK result with numpy; ValueError names what differs."""
    import mlx.core as mx

    rng = np.random.default_rng(0)
    with mx.stream(mx.cpu):
        for kind, tolerance in ((mx.float32, 1e-4), (mx.float64, 1e-10), (mx.complex64, 1e-4)):
            right = rng.standard_normal((_SIZE, _SIZE)).astype(np.float32)
            for rows in (_SIZE, 1):
                left = rng.standard_normal((rows, _SIZE)).astype(np.float32)
                a, b = mx.array(left).astype(kind), mx.array(right).astype(kind)
                where = f"of {rows} x {_SIZE} {kind}"
                product = left.astype(np.float64) @ right
                _compare(f"A B {where}", a @ b, product, tolerance)
                _compare(f"B^T A^T {where}", b.T @ a.T, product.T, tolerance)
                _compare(f"A B^T {where}", a @ b.T, left.astype(np.float64) @ right.T, tolerance)
        matrix = right + _SIZE * np.eye(_SIZE, dtype=np.float32)
        _compare("an inverse", mx.linalg.inv(mx.array(matrix)), np.linalg.inv(matrix), 1e-4)


def _compare(name: str, result: Any, expected: Any, tolerance: float) -> None:
    error = np.abs(np.array(result) - expected).max()
    if not error <= tolerance:  # also when it is NaN
        raise ValueError(f"{name} was wrong by {error:.3g} with scipy's OpenBLAS")
