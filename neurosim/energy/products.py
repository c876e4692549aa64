"""Exact operation counts of linear layers, convolutions and attention from their arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.energy.operations import REAL, InputClass, Operation

Array = npt.NDArray[Any]


def _events(values: Array, kind: InputClass) -> Array:
    """Spikes of each input: |n| for graded classes, else 1 where it is not zero."""
    spikes: Array = np.abs(values) if kind.kind == "graded" else values != 0
    return spikes.astype(np.int64)


def _arithmetic(pairs: int, kind: InputClass) -> dict[str, int]:
    """Multiplications and additions of products as they are done: no zero is skipped if real."""
    return {"additions": pairs, "multiplies": 0 if kind.accumulates else pairs}


def linear(
    layer: str,
    inputs: Array,
    weight: Array,
    kind: InputClass = REAL,
    bias: bool = False,
    mechanism: str = "linear",
    weight_bits: int = 32,
    activation_bits: int = 32,
) -> Operation:
    """`inputs` (..., I) through `weight` (O, I): synaptic operations are non-zero inputs times O.

    Spikes are skipped where they are silent, so their additions are the synaptic operations; real
    inputs multiply densely, graded ones once per non-zero input.
    """
    fan_out, fan_in = weight.shape
    rows = inputs.reshape(-1, fan_in)
    kind.check(f"{layer} ({mechanism})", rows)
    nonzero_columns = (rows != 0).sum(axis=0, dtype=np.int64)
    weights = (weight != 0).sum(axis=0, dtype=np.int64)
    nonzero = int(nonzero_columns.sum())
    dense = rows.shape[0] * fan_in * fan_out
    done = dense if kind.kind == "real" else nonzero * fan_out
    return Operation(
        layer,
        mechanism,
        kind,
        rows=rows.shape[0],
        nonzero=nonzero,
        synaptic_operations=int(_events(rows, kind).sum()) * fan_out,
        effective=int(nonzero_columns @ weights),
        dense=dense,
        bias_additions=rows.shape[0] * fan_out if bias else 0,
        **_arithmetic(done, kind),
        weight_bits=weight_bits,
        activation_bits=activation_bits,
    )


def _taps(size: int, kernel: int, stride: int, pad: tuple[int, int], dilation: int) -> list[slice]:
    """For each kernel position, the unpadded inputs it meets, as a slice; empty if none."""
    outputs = (size + sum(pad) - dilation * (kernel - 1) - 1) // stride + 1
    if outputs < 1:
        raise ValueError(
            f"expected an input of at least {dilation * (kernel - 1) + 1} with its padding, got "
            f"{size + sum(pad)}"
        )
    slices = []
    for position in range(kernel):
        first = position * dilation - pad[0]
        begin = -(-max(-first, 0) // stride)
        end = min(outputs, (size - 1 - first) // stride + 1)
        count = max(end - begin, 0)
        start = first + begin * stride
        slices.append(slice(start, start + (count - 1) * stride + 1, stride) if count else slice(0))
    return slices


def convolution(
    layer: str,
    inputs: Array,
    weight: Array,
    kind: InputClass = REAL,
    bias: bool = False,
    stride: Sequence[int] = (1,),
    padding: Sequence[tuple[int, int]] = ((0, 0),),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
    weight_bits: int = 32,
    activation_bits: int = 32,
) -> Operation:
    """`inputs` (B, *space, C) by `weight` (O, *kernel, C / groups), 1 to 3 space axes.

    Padding is no operand: pairs of an output and a padded input are counted nowhere.
    """
    kind.check(f"{layer} (convolution)", inputs)
    if not len(stride) == len(padding) == len(dilation) == inputs.ndim - 2:
        raise ValueError(
            f"{layer}: expected stride, padding and dilation of {inputs.ndim - 2} axes, got "
            f"{stride}, {padding}, {dilation}"
        )
    space, kernel = inputs.shape[1:-1], weight.shape[1:-1]
    outputs_per_group, inputs_per_group = weight.shape[0] // groups, weight.shape[-1]
    axes = [
        _taps(size, taps, step, pad, spread)
        for size, taps, step, pad, spread in zip(
            space, kernel, stride, padding, dilation, strict=True
        )
    ]
    mask, events = inputs != 0, _events(inputs, kind)
    weights = (weight != 0).reshape(groups, outputs_per_group, *kernel, inputs_per_group)
    used = weights.sum(axis=1, dtype=np.int64)  # (groups, *kernel, inputs per group)
    nonzero_pairs = operations = effective = dense = 0
    for position in np.ndindex(*kernel):
        window = (slice(None), *(axis[i] for axis, i in zip(axes, position, strict=True)))
        met = mask[window].reshape(-1, mask.shape[-1]).sum(axis=0, dtype=np.int64)
        dense += mask[window].size * outputs_per_group
        nonzero_pairs += int(met.sum()) * outputs_per_group
        operations += int(events[window].sum()) * outputs_per_group
        effective += int((met.reshape(groups, -1) * used[(slice(None), *position)]).sum())
    pixels = inputs.shape[0]
    for size, taps, step, pad, spread in zip(space, kernel, stride, padding, dilation, strict=True):
        pixels *= (size + sum(pad) - spread * (taps - 1) - 1) // step + 1
    return Operation(
        layer,
        "convolution",
        kind,
        rows=pixels,
        nonzero=int(mask.sum()),
        synaptic_operations=operations,
        effective=effective,
        dense=dense,
        bias_additions=pixels * weight.shape[0] if bias else 0,
        **_arithmetic(dense if kind.kind == "real" else nonzero_pairs, kind),
        weight_bits=weight_bits,
        activation_bits=activation_bits,
    )


def pairs(
    layer: str,
    mechanism: str,
    left: Array,
    right: Array,
    left_kind: InputClass = REAL,
    right_kind: InputClass = REAL,
    mask: Array | None = None,
    left_mask: Array | None = None,
) -> Operation:
    """A product of two activations, `left` (..., M, K) by `right` (..., K, N), as in attention.

    `mask` (..., M, N), true where an output is needed (causal scores), `left_mask` (..., M, K),
    true where a left operand exists (causal mixing): the other pairs are not counted. Binary or
    ternary on one side: accumulates; on both: coincidences, counted as additions of an
    AND-popcount and listed in `effective`.
    """
    left_kind.check(f"{layer} ({mechanism}, left)", left)
    right_kind.check(f"{layer} ({mechanism}, right)", right)
    rows, inner, columns = left.shape[-2], left.shape[-1], right.shape[-1]
    lead = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    a = np.broadcast_to(left != 0, (*lead, rows, inner)).reshape(-1, rows, inner)
    b = np.broadcast_to(right != 0, (*lead, inner, columns)).reshape(-1, inner, columns)
    wanted = np.ones((len(a), rows, columns), np.bool_)
    present = np.ones((len(a), rows, inner), np.bool_)
    if mask is not None:
        wanted = np.broadcast_to(mask, (*lead, rows, columns)).reshape(-1, rows, columns)
    if left_mask is not None:
        present = np.broadcast_to(left_mask, (*lead, rows, inner)).reshape(-1, rows, inner)
    if mask is not None and left_mask is not None:
        raise ValueError("expected a mask of the outputs or of the left operands, got both")
    a = a & present
    both = np.matmul(a.astype(np.float64), b.astype(np.float64))  # exact below 2^53
    effective = int(np.where(wanted, both, 0.0).sum())
    per_row = wanted.sum(axis=2, dtype=np.int64)
    per_column = wanted.sum(axis=1, dtype=np.int64)
    from_left = int((a.sum(axis=2, dtype=np.int64) * per_row).sum())
    if left_mask is None:
        from_right = int((b.sum(axis=1, dtype=np.int64) * per_column).sum())
        dense = int(wanted.sum()) * inner
    else:
        meets = present.sum(axis=1, dtype=np.int64)
        from_right = int((b.sum(axis=2, dtype=np.int64) * meets).sum())
        dense = int(present.sum()) * columns
    kind = left_kind if left_kind.accumulates or not right_kind.accumulates else right_kind
    skipping = from_left if kind is left_kind else from_right
    if left_kind.accumulates and right_kind.accumulates:
        skipping = effective
    done = skipping if kind.accumulates else dense
    return Operation(
        layer,
        mechanism,
        kind,
        rows=len(a) * rows,
        nonzero=int(a.sum() if kind is left_kind else b.sum()),
        synaptic_operations=skipping,
        effective=effective,
        dense=dense,
        **_arithmetic(done, kind),
    )
