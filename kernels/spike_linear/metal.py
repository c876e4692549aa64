"""Spike linear on a GPU: a SIMD-group sums the weight rows of one row's spikes.

A lane owns columns 32 apart, so that the 32 lanes read a weight row side by side. On a GPU, adding
a float where a bit is set costs what multiplying and adding it costs; what is saved here is reading
and adding rows at all. So 32 words are looked at in one ballot, zero words are never looked at
again, and the loop over the set bits of a word is the same in all lanes. Weights of 8 and 4 bits
are also read as such, and two outputs share one addition.

Sums are made in the documented order, so floats have the bits of the reference. Where a few rows
share one pass over the weights (decode), lanes add the row or zero, which keeps that order; only
integer sums are then split over the inputs and meet in atomics, because their order is free.

Tested in the emulator; never yet run on a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from neurosim.kernels._metal import Launch
from neurosim.kernels.packed import PackedSpikes
from neurosim.kernels.packed import metal as packed
from neurosim.kernels.packed._words import Words
from neurosim.kernels.spike_linear._metal_source import COLUMNS, HEADER, STORE, row_sums
from neurosim.kernels.spike_linear._types import Spikes, Weight
from neurosim.kernels.spike_linear._weight import PackedWeight

LANES = 32
SIMD_GROUPS = 4  # in a threadgroup; they share nothing
_MOST_COLUMNS = 4  # of a lane
_DECODE_ROWS = 8  # at most, in one pass over the weights
_SPLIT = 16  # words (512 inputs) of one SIMD-group, where integer sums are split

_COUNTS = """
    // One row of counts (I); A of the definition is `running`.
    int row = thread_position_in_grid.y;
    auto counts = spikes + row * inputs;
    S running[COLUMNS * FIELDS] = {}, sums[COLUMNS * FIELDS] = {};
    uint parts[COLUMNS * FIELDS] = {};
    uint present[4] = {};  // bit n of these 128 is set where some |count| is n + 1
    for (int i = lane; i < inputs; i += 32) {
        int n = abs(int(counts[i])) - 1;
        if (n >= 0) present[n / 32] |= 1u << (n % 32);
    }
    int top = 0;
    for (int part = 0; part < 4; ++part) {
        present[part] = simd_or(present[part]);
        if (present[part]) top = 32 * part + 32 - int(clz(present[part]));
    }
    for (int level = top; level > 0; --level) {
        bool found = present[(level - 1) / 32] >> ((level - 1) % 32) & 1;
        for (int side = 1; found && side >= -1; side -= 2) {
            int listed = 0;
            for (int first = 0; first < inputs; first += 32) {
                int i = min(first + lane, inputs - 1);
                uint bits = votes(first + lane < inputs && counts[i] == side * level);
                add_rows<FIELDS, COLUMNS>(
                    bits, first, weight, size, at, side < 0, running, parts, listed);
            }
            flush<FIELDS, COLUMNS>(parts, listed, side < 0, running);
        }
        for (int k = 0; k < COLUMNS * FIELDS; ++k) sums[k] += running[k];
    }
"""

_WORDS = """
    // One row of words (P, R, W).
    int row = thread_position_in_grid.y, rows = words_shape[1], total = words_shape[2];
    auto line = words + row * total;
"""
_WORD = """mine < total ? members<PLANES, THERMOMETER>(
                    line + side * PLANES * rows * total + mine, rows * total, level) : 0"""

# Binary spikes of ROWS rows; a weight row is read once if any of them needs it.
_DECODE = """
    int width = words_shape[2], begin = int(thread_position_in_grid.y) * SLICE;
    int end = min(begin + SLICE, width);
    const int pairs = FIELDS / 2 + (FIELDS == 1);
    S sums[ROWS * FIELDS] = {};
    uint parts[ROWS * pairs] = {};
    int listed = 0, counts[ROWS] = {};
    for (int first = begin; first < end; first += 32) {
        int mine = first + lane;
        uint word[ROWS], any = 0;
        for (int r = 0; r < ROWS; ++r) {
            word[r] = mine < end ? words[r * width + mine] : 0;
            any |= word[r];
        }
        for (uint full = votes(any != 0); full; full &= full - 1) {
            ushort w = ushort(ctz(full));
            uint bits[ROWS], wanted = 0;
            for (int r = 0; r < ROWS; ++r) {
                bits[r] = simd_broadcast(word[r], w);
                wanted |= bits[r];
            }
            for (; wanted; wanted &= wanted - 1) {
                uint j = ctz(wanted);
                auto value = weight[(32 * (first + w) + int(j)) * size + at[0]];
                for (int r = 0; r < ROWS; ++r) {
                    bool fired = bits[r] >> j & 1;
                    if (FIELDS == 1) {
                        sums[r] += fired ? S(value) : S(0);
                    } else {
                        for (int k = 0; k < FIELDS / 2; ++k)
                            parts[r * pairs + k] += fired ? pair_of<FIELDS>(value, k) : 0;
                        counts[r] += fired;
                    }
                }
                if (FIELDS > 1 && ++listed == most_rows<FIELDS>()) {
                    for (int r = 0; r < ROWS; ++r) {
                        flush<FIELDS, 1>(parts + r * pairs, counts[r], false, sums + r * FIELDS);
                        counts[r] = 0;
                    }
                    listed = 0;
                }
            }
        }
    }
    for (int r = 0; r < ROWS; ++r) {
        flush<FIELDS, 1>(parts + r * pairs, counts[r], false, sums + r * FIELDS);
        for (int f = 0; f < FIELDS; ++f) {
            int column = output_of<FIELDS, APART>(element, f, size);
            if (element < elements && column < outputs) STORE
        }
    }
"""
_PLAIN_STORE = "out[r * outputs + column] = sums[r * FIELDS + f];"
_ATOMIC_STORE = """atomic_fetch_add_explicit(
                &out[r * outputs + column], sums[r * FIELDS + f], memory_order_relaxed);"""


def kernel(name: str, inputs: list[str], outputs: list[str], source: str, **options: Any) -> Any:
    """A kernel whose lanes own columns of the input `weight`."""
    return mx.fast.metal_kernel(
        name=name,
        input_names=[*inputs, "weight", "sizes"],
        output_names=outputs,
        header=options.pop("header", HEADER),
        source=COLUMNS + source,
        **options,
    )


_counts = kernel("spike_linear_counts", ["spikes"], ["out"], _COUNTS + STORE)
_words = kernel(
    "spike_linear_words", ["words"], ["out"], _WORDS + row_sums(_WORD, "32 * m") + STORE
)
_decode = kernel("spike_linear_decode", ["words"], ["out"], _DECODE.replace("STORE", _PLAIN_STORE))
_decode_split = kernel(
    "spike_linear_decode_split",
    ["words"],
    ["out"],
    _DECODE.replace("STORE", _ATOMIC_STORE),
    atomic_outputs=True,
)


@dataclass(frozen=True)
class Rows:
    """Weights as the kernels read them.

    Attributes:
        array: float32, float16, int8, or uint32 of 4 or 8 fields, (panels, inputs, size).
        fields: outputs of an element.
        apart: outputs between the fields of 16 bits.
        outputs: O.
    """

    array: npt.NDArray[Any]
    fields: int
    apart: int
    outputs: int

    @classmethod
    def of(cls, weight: Weight | PackedWeight) -> Rows:
        """Without a copy."""
        if not isinstance(weight, PackedWeight):
            return cls(weight[None], 1, 1, weight.shape[1])
        panels, outputs = weight.panels, weight.shape[1]
        if weight.bits == 32:
            return cls(panels, 1, 1, outputs)
        if weight.bits == 16:
            return cls(panels.view(np.float16), 1, 1, outputs)
        apart = 32 if weight.bits == 8 else weight.width // 4  # see PackedWeight
        return cls(panels.view(np.uint32), 32 // weight.bits, apart, outputs)

    @property
    def kind(self) -> mx.Dtype:
        """Of the sums."""
        return mx.float32 if "float" in str(self.array.dtype) else mx.int32

    @property
    def elements(self) -> int:
        """Of one input, over all panels."""
        return int(self.array.shape[0] * self.array.shape[2])

    def columns(self, most: int) -> int:
        """Elements of a lane."""
        return max(1, min(most if self.fields == 1 else 1, -(-self.elements // LANES)))

    def nothing(self, rows: int) -> npt.NDArray[Any]:
        """Sums of no rows at all."""
        return np.zeros((rows, self.outputs), np.float32 if self.kind == mx.float32 else np.int32)

    def launch(
        self,
        launch: Launch,
        kernel: Any,
        inputs: list[Any],
        outputs: list[tuple[tuple[int, ...], mx.Dtype]],
        height: int,
        columns: int,
        template: dict[str, int | bool],
        init_value: float | None = None,
        kinds: dict[str, mx.Dtype] | None = None,
    ) -> Any:
        """Start one SIMD-group for each of `height` rows and each block of columns."""
        template = {"FIELDS": self.fields, "APART": self.apart, "COLUMNS": columns, **template}
        return launch(
            kernel,
            inputs=[*inputs, self.array, np.array([self.outputs], np.int32)],
            output_shapes=[shape for shape, _ in outputs],
            output_dtypes=[kind for _, kind in outputs],
            grid=(LANES * -(-self.elements // (LANES * columns)), height, 1),
            threadgroup=(LANES * SIMD_GROUPS, 1, 1),
            template=[("S", self.kind), *(kinds or {}).items(), *template.items()],
            init_value=init_value,
        )


def supports(spikes: Spikes | PackedSpikes, weight: Weight | PackedWeight) -> str | None:
    """Why these arguments cannot run, or None."""
    read = half_words(spikes) if isinstance(spikes, PackedSpikes) else spikes.shape
    stored = weight.panels if isinstance(weight, PackedWeight) else weight
    return too_large(read, stored.shape, (*spikes.shape[:-1], weight.shape[1]))


def half_words(spikes: PackedSpikes) -> tuple[int, ...]:
    """Shape of the words as the kernels read them, (P, R, 2 W)."""
    planes, rows, width = spikes.words.shape
    return planes, rows, 2 * width


def too_large(*shapes: tuple[int, ...]) -> str | None:
    """Why arrays of these shapes, inputs and outputs, cannot be indexed, or None."""
    if max(math.prod(shape) for shape in shapes) >= 2**31:
        return "expected arrays of fewer than 2^31 elements, which the kernel indexes by int32"
    return None


def spike_linear(launch: Launch, spikes: Spikes, weight: Weight | PackedWeight) -> Any:
    """See the package."""
    rows, height = Rows.of(weight), spikes.shape[0]
    if not (spikes.size and rows.array.size):
        return rows.nothing(height)
    out = ((height, rows.outputs), rows.kind)
    columns = rows.columns(_MOST_COLUMNS)
    return rows.launch(launch, _counts, [spikes], [out], height, columns, {})[0]


def packed_linear(
    launch: Launch,
    words: Words,
    levels: int,
    signed: bool,
    code: str,
    weight: Weight | PackedWeight,
) -> Any:
    """Sums (R, O) of packed spikes, words (P, R, W), in the order of `spike_linear`."""
    return sums_of(launch, words.view(np.uint32), levels, signed, code, weight)


def words(launch: Launch, spikes: Any, levels: int, signed: bool, code: str) -> Any:
    """Half words (P, R, 2 W) of counts (R, I); counts beyond the levels are silent."""
    return packed.unchecked(launch, spikes, levels, signed, code)[0]


def sums_of(
    launch: Launch,
    halves: Any,
    levels: int,
    signed: bool,
    code: str,
    weight: Weight | PackedWeight,
) -> Any:
    """The same of half words (P, R, 2 W), low half first."""
    planes, height, _ = halves.shape
    rows = Rows.of(weight)
    if not (halves.size and rows.array.size):
        return rows.nothing(height)
    out = ((height, rows.outputs), rows.kind)
    if planes == 1 and height <= _DECODE_ROWS:
        template: dict[str, int | bool] = {"ROWS": height}
        if rows.kind == mx.float32:
            template["SLICE"] = 2**30
            return rows.launch(launch, _decode, [halves], [out], 1, 1, template)[0]
        template["SLICE"] = _SPLIT
        slices = -(-halves.shape[2] // _SPLIT)
        return rows.launch(launch, _decode_split, [halves], [out], slices, 1, template, 0)[0]
    template = planes_of(planes, levels, signed, code)
    columns = rows.columns(_MOST_COLUMNS)
    return rows.launch(launch, _words, [halves], [out], height, columns, template)[0]


def gradient(
    launch: Launch, words: Any, levels: int, signed: bool, code: str, inputs: int, given: Any
) -> Any:
    """Of the weights, (I, O), from that of the sums (R, O): rows are added in ascending order."""
    return sums_of(launch, packed.transpose(launch, words, inputs), levels, signed, code, given)


def planes_of(planes: int, levels: int, signed: bool, code: str) -> dict[str, int | bool]:
    """What kernels know of the planes of packed spikes."""
    sides = 1 + signed
    return {
        "PLANES": planes // sides,
        "SIDES": sides,
        "LEVELS": levels,
        "THERMOMETER": code == "thermometer",
    }
