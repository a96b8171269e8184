"""Operations on 16 float32 numbers at a time, for loops that LLVM would not turn into vectors by itself."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
RADIAL_DEGREE = 6


def splat(builder, value):
    """One number in all lanes."""
    vector, i32 = ir.VectorType(value.type, LANES), ir.IntType(32)
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(i32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(i32, LANES), [0] * LANES))


def address_of_lanes(builder, pointer, index):
    """Where 16 numbers from `index` on lie; loads and stores must say align = 4."""
    address = builder.gep(pointer, [index], inbounds=True)
    return builder.bitcast(address, ir.VectorType(ir.FloatType(), LANES).as_pointer())


@intrinsic
def weighted_sum(typingctx, out, first, source, starts, weights, count):
    """out[first + j] = sum_m weights[m] source[starts[m] + j] for j < count, 16 at a time.

    Reads and writes go on to the next multiple of 16: the arrays must have room, and what is written there is void.
    Written by hand because LLVM would check in every row whether one of the inputs overlaps the output.
    """
    taps = len(starts)

    def codegen(context, builder, signature, args):
        out, first, source, starts, weights, count = args
        target = context.make_array(signature.args[0])(context, builder, out).data
        pointer = context.make_array(signature.args[2])(context, builder, source).data
        begins = [builder.extract_value(starts, m) for m in range(taps)]
        factors = [splat(builder, builder.extract_value(weights, m)) for m in range(taps)]
        intp = count.type
        steps = builder.sdiv(builder.add(count, ir.Constant(intp, LANES - 1)), ir.Constant(intp, LANES))
        with cgutils.for_range(builder, steps) as loop:
            at = builder.mul(loop.index, ir.Constant(intp, LANES))
            total = None
            for begin, factor in zip(begins, factors, strict=True):
                loaded = builder.load(address_of_lanes(builder, pointer, builder.add(begin, at)))
                loaded.align = 4
                term = builder.fmul(factor, loaded, flags=("contract",))
                total = term if total is None else builder.fadd(total, term, flags=("contract",))
            builder.store(total, address_of_lanes(builder, target, builder.add(first, at))).align = 4
        return context.get_dummy_value()

    return types.void(out, types.intp, source, types.UniTuple(types.intp, taps),
                      types.UniTuple(types.float32, taps), types.intp), codegen  # fmt: skip


@intrinsic
def add_radial(typingctx, ax, ay, px, py, base, count, center_x, center_y, table, start, inner):
    """Add to a chunk's deflections those of a circular lens from its table, 16 rays at a time (AVX-512 alone).

    The table holds, for each power of two that z = dx^2 + dy^2 may have, the coefficients of a polynomial in its
    mantissa; 16 of them fill one register a degree, and a permutation of that register by the exponents' last bits
    looks all 16 rays up at once. Rays with z < inner are left out; returns whether there were any, as int32.
    """
    degree = RADIAL_DEGREE
    i32, f32 = ir.IntType(32), ir.FloatType()
    whole, real, mask = ir.VectorType(i32, LANES), ir.VectorType(f32, LANES), ir.VectorType(ir.IntType(1), LANES)

    def codegen(context, builder, signature, args):
        ax, ay, px, py, base, count, center_x, center_y, table, start, inner = args
        module = builder.module

        def data(k, value):
            return context.make_array(signature.args[k])(context, builder, value).data

        pointers = {name: data(k, value) for name, k, value in
                    (("ax", 0, ax), ("ay", 1, ay), ("px", 2, px), ("py", 3, py), ("table", 8, table))}  # fmt: skip

        def load(name, index):
            loaded = builder.load(address_of_lanes(builder, pointers[name], index))
            loaded.align = 4
            return loaded

        def function(name, *operands):
            return module.globals.get(name) or ir.Function(module, ir.FunctionType(real, operands), name)

        fma = function("llvm.fma.v16f32", real, real, real)
        permute = function("llvm.x86.avx512.permvar.sf.512", real, whole)
        intp = count.type
        coefficients = [load("table", builder.add(start, ir.Constant(intp, LANES * k))) for k in range(degree + 1)]
        cx, cy, limit = (splat(builder, value) for value in (center_x, center_y, inner))
        zero = ir.Constant(real, [0.0] * LANES)
        seen = cgutils.alloca_once_value(builder, ir.Constant(mask, [0] * LANES))
        with cgutils.for_range(builder, builder.sdiv(builder.add(count, ir.Constant(intp, LANES - 1)),
                                                     ir.Constant(intp, LANES))) as loop:  # fmt: skip
            local = builder.mul(loop.index, ir.Constant(intp, LANES))
            ray = builder.add(base, local)
            dx, dy = builder.fsub(load("px", ray), cx), builder.fsub(load("py", ray), cy)
            z = builder.call(fma, [dx, dx, builder.fmul(dy, dy)])
            bits_ = builder.bitcast(z, whole)
            exponent = builder.lshr(bits_, ir.Constant(whole, [23] * LANES))
            mantissa = builder.bitcast(
                builder.or_(
                    builder.and_(bits_, ir.Constant(whole, [0x7FFFFF] * LANES)),
                    ir.Constant(whole, [0x3F800000] * LANES),
                ),
                real,
            )
            t = builder.fsub(mantissa, ir.Constant(real, [1.5] * LANES))
            value = builder.call(permute, [coefficients[degree], exponent])
            for c in reversed(coefficients[:degree]):
                value = builder.call(fma, [value, t, builder.call(permute, [c, exponent])])
            inside = builder.fcmp_ordered("<", z, limit)
            value = builder.select(inside, zero, value)
            builder.store(builder.or_(builder.load(seen), inside), seen)
            for name, d in (("ax", dx), ("ay", dy)):
                total = builder.call(fma, [value, d, load(name, local)])
                builder.store(total, address_of_lanes(builder, pointers[name], local)).align = 4
        any_ = builder.icmp_unsigned(
            "!=", builder.bitcast(builder.load(seen), ir.IntType(LANES)), ir.Constant(ir.IntType(LANES), 0)
        )
        return builder.zext(any_, i32)

    return types.int32(ax, ay, px, py, types.intp, types.intp, types.float32, types.float32, table, types.intp,
                       types.float32), codegen  # fmt: skip
