"""Metal kernels as a backend: on the GPU, or in the emulator."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Protocol

import mlx.core as mx

from neurosim.kernels import metal_emulator


class Launch(Protocol):
    """How a kernel of `mx.fast.metal_kernel` is started; arguments as MLX names them."""

    def __call__(
        self,
        kernel: object,
        *,
        inputs: Sequence[Any],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[mx.Dtype],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        template: Sequence[tuple[str, bool | int | mx.Dtype]] | None = None,
        init_value: float | None = None,
    ) -> Sequence[Any]:
        """The outputs, MLX or numpy arrays."""


def on_gpu(
    kernel: Any,
    *,
    inputs: Sequence[Any],
    output_shapes: Sequence[Sequence[int]],
    output_dtypes: Sequence[mx.Dtype],
    grid: tuple[int, int, int],
    threadgroup: tuple[int, int, int],
    template: Sequence[tuple[str, bool | int | mx.Dtype]] | None = None,
    init_value: float | None = None,
) -> list[mx.array]:
    """Start a kernel on the GPU."""
    outputs: list[mx.array] = kernel(
        inputs=[x if isinstance(x, mx.array) else mx.array(x) for x in inputs],
        output_shapes=output_shapes,
        output_dtypes=output_dtypes,
        grid=grid,
        threadgroup=threadgroup,
        template=template,
        init_value=init_value,
    )
    return outputs


def gpu_unavailable() -> str | None:
    """Why no Metal kernel can run on this machine, or None."""
    if mx.metal.is_available():
        return None
    return "MLX has no Metal device here (it needs macOS on Apple silicon); use metal-emulated"


class MetalBackend:
    """The functions of a metal.py, each with `launch` bound as its first argument.

    The module may have `supports(*arguments) -> str | None` for limits of its own.
    """

    def __init__(
        self, module: ModuleType, launch: Launch, unavailable: Callable[[], str | None]
    ) -> None:
        self._module, self._launch = module, launch
        self.unavailable = unavailable

    def supports(self, *arguments: Any) -> str | None:
        """Why these arguments cannot run, or None."""
        reason = self.unavailable()
        own = getattr(self._module, "supports", None)
        if reason is None and own is not None:
            reason = own(*arguments)
        return reason

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return functools.partial(getattr(self._module, name), self._launch)


def metal_backends(module: ModuleType) -> dict[str, MetalBackend]:
    """The two Metal entries of an operation's table of backends."""
    emulated = functools.partial(metal_emulator.emulate, order="shuffled")
    return {
        "metal": MetalBackend(module, on_gpu, gpu_unavailable),
        "metal-emulated": MetalBackend(module, emulated, metal_emulator.unavailable),
    }
