"""Blocks of dot products for Numba: rows of one matrix times rows of another, sums in registers.

`dot_tile` is one block of R x O dot products, all of whose partial sums stay in registers. The
sums of floats have 16 lanes, each of fused multiply-adds over every sixteenth element in turn, and
are added up by a tree over neighbouring lanes: the same bits whatever R and O and on every machine.
Sums of integers are exact modulo 2^32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from neurosim.kernels._features import has

LANES = 16
_I1, _I8, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
_FLOATS = {"float32": ir.FloatType(), "float64": ir.DoubleType()}
WORDS = ir.VectorType(_I32, LANES)
BYTES = ir.VectorType(_I8, 4 * LANES)


def constant(vector: Any, value: float | int) -> Any:
    """A vector of one value."""
    return ir.Constant(vector, [value] * vector.count)


def call(builder: Any, name: str, kind: Any, *arguments: Any) -> Any:
    """A call of one of LLVM's own functions."""
    signature = ir.FunctionType(kind, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


def _code(vector: Any) -> str:
    element = vector.element
    width = {_FLOATS["float32"]: "f32", _FLOATS["float64"]: "f64"}.get(element)
    return f"v{vector.count}{width or f'i{element.width}'}"


def place(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    """Address of an element of an array, as that of a vector."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def prefetch(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> None:
    """Bring the cache line of an element close; it may lie beyond the array."""
    pointer = place(context, builder, kind, array, index, ir.VectorType(_I8, 1))
    hints = (ir.Constant(_I32, hint) for hint in (0, 3, 1))  # read, keep, data
    call(builder, "llvm.prefetch.p0", ir.VoidType(), pointer, *hints)


def first_lanes(builder: Any, count: Any, lanes: int) -> Any:
    """Mask of the first `count` lanes."""
    vector = ir.VectorType(_I32, lanes)
    one = builder.insert_element(
        ir.Constant(vector, ir.Undefined), builder.trunc(count, _I32), ir.Constant(_I32, 0)
    )
    everywhere = builder.shuffle_vector(one, one, constant(vector, 0))
    return builder.icmp_signed("<", ir.Constant(vector, list(range(lanes))), everywhere)


def load(builder: Any, pointer: Any, vector: Any, mask: Any = None) -> Any:
    """A vector, or those of its lanes that are in the mask and 0; no others are read."""
    if mask is None:
        return builder.load(pointer, align=1)
    align, nothing = ir.Constant(_I32, 1), ir.Constant(vector, None)
    name = f"llvm.masked.load.{_code(vector)}.p0"
    return call(builder, name, vector, pointer, align, mask, nothing)


def dot_bytes(builder: Any, sums: Any, unsigned: Any, signed: Any) -> Any:
    """sums (16 int32) + products of bytes, four to a lane; operands are 16 words of four bytes."""
    if has("avx512vnni"):
        return call(builder, "llvm.x86.avx512.vpdpbusd.512", WORDS, sums, unsigned, signed)
    for byte in range(4):
        a = builder.and_(builder.lshr(unsigned, constant(WORDS, 8 * byte)), constant(WORDS, 255))
        high = builder.shl(signed, constant(WORDS, 24 - 8 * byte))
        b = builder.ashr(high, constant(WORDS, 24))
        sums = builder.add(sums, builder.mul(a, b))
    return sums


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c of floats, rounded once."""
    return call(builder, f"llvm.fma.{_code(c.type)}", c.type, a, b, c)


def added_up(builder: Any, sums: list[Any]) -> Any:
    """Vector whose lane i holds the sum over the lanes of vector i; at most 16 vectors."""
    add: Callable[..., Any] = (
        builder.add if isinstance(sums[0].type.element, ir.IntType) else builder.fadd
    )
    lanes = range(LANES)
    for step in (1, 2, 4, 8):
        pairs = [sums[i : i + 2] for i in range(0, len(sums), 2)]
        sums = []
        for pair in pairs:
            a, b = pair[0], pair[-1]
            here = [i + LANES if i & step else i for i in lanes]
            there = [(i ^ step) + LANES if i & step else i ^ step for i in lanes]
            sums.append(
                add(
                    builder.shuffle_vector(a, b, ir.Constant(WORDS, here)),
                    builder.shuffle_vector(a, b, ir.Constant(WORDS, there)),
                )
            )
    return sums[0]


def store_rows(
    context: Any, builder: Any, kind: Any, out: Any, total: Any, rows: int, outputs: int,
    first: Any, stride: Any,
) -> None:  # fmt: skip
    """Lane r * outputs + o of a vector to out[first + r stride + o]."""
    for row in range(rows):
        some = ir.VectorType(total.type.element, outputs)
        order = ir.Constant(
            ir.VectorType(_I32, outputs), [row * outputs + o for o in range(outputs)]
        )
        index = builder.add(first, builder.mul(stride, ir.Constant(_I64, row)))
        target = place(context, builder, kind, out, index, some)
        builder.store(builder.shuffle_vector(total, total, order), target, align=1)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def dot_tile(
    typing_context: Any, a: Any, a_first: Any, a_stride: Any, b: Any, b_first: Any, b_stride: Any,
    size: Any, out: Any, out_first: Any, out_stride: Any, rows: Any, outputs: Any,
) -> Any:  # fmt: skip
    """out[r, o] = sum_i a[r, i] b[o, i] over `size` elements; r < rows, o < outputs: literals.

    Flat arrays, with the index of a first element and a stride between rows. a float, b the same
    or int8, out the same; or a and b int8, where out int32 gets sum_i a (b + 128).
    """
    signature = types.void(
        a, types.intp, types.intp, b, types.intp, types.intp, types.intp, out, types.intp,
        types.intp, rows, outputs,
    )  # fmt: skip
    height, width = rows.literal_value, outputs.literal_value
    whole = a.dtype.name == "int8"
    lanes = 4 * LANES if whole else LANES
    vector = WORDS if whole else ir.VectorType(_FLOATS[a.dtype.name], LANES)
    a_vector = BYTES if whole else vector
    b_vector = a_vector if a.dtype == b.dtype else ir.VectorType(_I8, LANES)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left, l_first, l_stride, right, r_first, r_stride, count = arguments[:7]
        cells = [cgutils.alloca_once(builder, vector) for _ in range(height * width)]
        for cell in cells:
            builder.store(ir.Constant(vector, None), cell)

        def operand(kind: Any, array: Any, at: Any, form: Any, mask: Any, offset: bool) -> Any:
            value = load(builder, place(context, builder, kind, array, at, form), form, mask)
            if whole:
                flipped = builder.xor(value, constant(form, -128)) if offset else value
                return builder.bitcast(flipped, WORDS)
            return value if form == vector else builder.sitofp(value, vector)

        def fetch(at: Any) -> None:
            """The rows of the next block; with one row of a there is not enough else to do."""
            for o in range(width):
                row = builder.add(r_first, builder.mul(r_stride, ir.Constant(_I64, width + o)))
                prefetch(context, builder, signature.args[3], right, builder.add(row, at))

        def step(at: Any, mask: Any) -> None:
            def rows_of(index: int, array: Any, first: Any, stride: Any, form: Any, n: int) -> Any:
                starts = (builder.mul(stride, ir.Constant(_I64, i)) for i in range(n))
                return [
                    operand(
                        signature.args[index], array,
                        builder.add(builder.add(first, start), at), form, mask, index == 3,
                    )
                    for start in starts
                ]  # fmt: skip

            ours = rows_of(3, right, r_first, r_stride, b_vector, width)
            for r, x in enumerate(rows_of(0, left, l_first, l_stride, a_vector, height)):
                for o, w in enumerate(ours):
                    cell = cells[r * width + o]
                    held = builder.load(cell)
                    held = dot_bytes(builder, held, w, x) if whole else fused(builder, x, w, held)
                    builder.store(held, cell)

        wide = ir.Constant(_I64, lanes)
        steps = 1 if whole or a_vector == b_vector else 4  # that read a cache line of b
        line = ir.Constant(_I64, lanes * steps)
        with cgutils.for_range(builder, builder.sdiv(count, line)) as loop:
            at = builder.mul(loop.index, line)
            if height == 1:
                fetch(at)
            for i in range(steps):
                step(builder.add(at, ir.Constant(_I64, i * lanes)), None)
        rest = builder.srem(count, wide)
        if steps > 1:
            start = builder.sub(count, builder.srem(count, line))
            with cgutils.for_range(builder, builder.sdiv(builder.srem(count, line), wide)) as loop:
                step(builder.add(start, builder.mul(loop.index, wide)), None)
        with builder.if_then(builder.icmp_signed(">", rest, ir.Constant(_I64, 0)), likely=False):
            step(builder.sub(count, rest), first_lanes(builder, rest, lanes))
        total = added_up(builder, [builder.load(cell) for cell in cells])
        store_rows(
            context,
            builder,
            signature.args[7],
            arguments[7],
            total,
            height,
            width,
            *arguments[8:10],
        )
        return context.get_dummy_value()

    return signature, code
