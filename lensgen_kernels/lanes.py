"""Operations on 16 float32 numbers at a time, for loops that LLVM would not turn into vectors by itself."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lensgen_kernels.far_field import TILE

LANES = 16
RADIAL_DEGREE = 6
REAL, WHOLE = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(32), LANES)


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
def lowest_bit(typingctx, bits):
    """The number of the lowest bit of an int64 that is set; there must be one."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


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


class _RadialSum:
    """Writes the sum of a chunk's deflections and those of a circular lens from its table, 16 places at a time.

    The table holds, for each power of two that z = dx^2 + dy^2 may have, the coefficients of a polynomial in its
    mantissa; 16 of them fill one register a degree, and a permutation of that register by the exponents' last bits
    looks all 16 places up at once (AVX-512 alone). Places with z < inner are left out, and bit k of `left` is set where
    vector k of the chunk has any.

    Args:
        pointers: to ax, ay, px, py and the table.
        numbers: base of the chunk in px and py, center_x, center_y, start of the lens in the table, inner.
    """

    def __init__(self, builder, pointers, numbers):
        self.builder = builder
        self.ax, self.ay, self.px, self.py, table = pointers
        self.base, center_x, center_y, start, inner = numbers
        self.intp = start.type
        self.coefficients = [
            self._load(table, builder.add(start, ir.Constant(self.intp, LANES * k))) for k in range(RADIAL_DEGREE + 1)
        ]
        self.center_x, self.center_y, self.inner = (splat(builder, value) for value in (center_x, center_y, inner))
        self.left = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(64), 0))
        self.fma = self._function("llvm.fma.v16f32", REAL, REAL, REAL)
        self.permute = self._function("llvm.x86.avx512.permvar.sf.512", REAL, WHOLE)

    def _function(self, name, *operands):
        module = self.builder.module
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(REAL, operands), name)

    def _load(self, pointer, index):
        loaded = self.builder.load(address_of_lanes(self.builder, pointer, index))
        loaded.align = 4
        return loaded

    def add(self, local, may_be_inside=True):
        """The 16 places from `local` on in the chunk."""
        builder, fma, permute = self.builder, self.fma, self.permute
        place = builder.add(self.base, local)
        dx = builder.fsub(self._load(self.px, place), self.center_x)
        dy = builder.fsub(self._load(self.py, place), self.center_y)
        z = builder.call(fma, [dx, dx, builder.fmul(dy, dy)])
        bits_ = builder.bitcast(z, WHOLE)
        exponent = builder.lshr(bits_, ir.Constant(WHOLE, [23] * LANES))
        mantissa = builder.bitcast(
            builder.or_(
                builder.and_(bits_, ir.Constant(WHOLE, [0x7FFFFF] * LANES)),
                ir.Constant(WHOLE, [0x3F800000] * LANES),
            ),
            REAL,
        )
        t = builder.fsub(mantissa, ir.Constant(REAL, [1.5] * LANES))
        *lower, highest = self.coefficients
        value = builder.call(permute, [highest, exponent])
        for c in reversed(lower):
            value = builder.call(fma, [value, t, builder.call(permute, [c, exponent])])
        if may_be_inside:
            inside = builder.fcmp_ordered("<", z, self.inner)
            value = builder.select(inside, ir.Constant(REAL, [0.0] * LANES), value)
            lanes, i64 = ir.IntType(LANES), ir.IntType(64)
            any_ = builder.icmp_unsigned("!=", builder.bitcast(inside, lanes), ir.Constant(lanes, 0))
            vector = builder.udiv(local, ir.Constant(self.intp, LANES))
            bit = builder.shl(builder.zext(any_, i64), vector)
            builder.store(builder.or_(builder.load(self.left), bit), self.left)
        for pointer, d in ((self.ax, dx), (self.ay, dy)):
            total = builder.call(fma, [value, d, self._load(pointer, local)])
            builder.store(total, address_of_lanes(builder, pointer, local)).align = 4


def _data(context, builder, signature, args, k):
    return context.make_array(signature.args[k])(context, builder, args[k]).data


@intrinsic
def add_radial(typingctx, ax, ay, px, py, base, count, center_x, center_y, table, start, inner):
    """Add to a chunk's deflections those of a circular lens from its table; in which vectors rays were left out."""

    def codegen(context, builder, signature, args):
        base, count, center_x, center_y, _, start, inner = args[4:]
        pointers = [_data(context, builder, signature, args, k) for k in (0, 1, 2, 3, 8)]
        sum_ = _RadialSum(builder, pointers, (base, center_x, center_y, start, inner))
        intp = count.type
        steps = builder.sdiv(builder.add(count, ir.Constant(intp, LANES - 1)), ir.Constant(intp, LANES))
        with cgutils.for_range(builder, steps) as loop:
            sum_.add(builder.mul(loop.index, ir.Constant(intp, LANES)))
        return builder.load(sum_.left)

    return types.int64(ax, ay, px, py, types.intp, types.intp, types.float32, types.float32, table, types.intp,
                       types.float32), codegen  # fmt: skip


@intrinsic
def add_radial_to_tiles(typingctx, ax, ay, px, py, base, center_x, center_y, table, start, inner,
                        tile_x, tile_y, tile, count, near):  # fmt: skip
    """The same for a chunk of up to 16 tiles, the first of number `tile`: the rays of tiles whose centre is closer than
    the root of `near`, the nodes of others.

    A chunk is 16 tiles of 64 rays, and then 16 nodes of each. No node of a far tile may have z < inner.
    """

    def codegen(context, builder, signature, args):
        base, center_x, center_y, _, start, inner, _, _, tile, count, near = args[4:]
        pointers = [_data(context, builder, signature, args, k) for k in (0, 1, 2, 3, 7)]
        sum_ = _RadialSum(builder, pointers, (base, center_x, center_y, start, inner))
        intp, lanes = count.type, ir.IntType(LANES)
        dx, dy = (
            builder.fsub(sum_._load(_data(context, builder, signature, args, k), tile), center)
            for k, center in ((10, sum_.center_x), (11, sum_.center_y))
        )
        z = builder.call(sum_.fma, [dx, dx, builder.fmul(dy, dy)])
        far = builder.bitcast(builder.fcmp_ordered(">=", z, splat(builder, near)), lanes)
        there = builder.sub(builder.shl(ir.Constant(intp, 1), count), ir.Constant(intp, 1))
        there = builder.trunc(there, lanes)

        def each(tiles, rays, vectors, first):
            """Adds to the `rays` numbers from first + rays k on for each bit k."""
            left = cgutils.alloca_once_value(builder, tiles)
            loop, body, end = (builder.append_basic_block(name) for name in ("tiles", "tile", "done"))
            builder.branch(loop)
            builder.position_at_end(loop)
            builder.cbranch(builder.icmp_unsigned("!=", builder.load(left), ir.Constant(lanes, 0)), body, end)
            builder.position_at_end(body)
            now = builder.load(left)
            builder.store(builder.and_(now, builder.sub(now, ir.Constant(lanes, 1))), left)
            which = builder.zext(builder.cttz(now, ir.Constant(ir.IntType(1), 1)), intp)
            begin = builder.add(builder.mul(which, ir.Constant(intp, rays)), ir.Constant(intp, first))
            for k in range(vectors):
                sum_.add(builder.add(begin, ir.Constant(intp, k * LANES)), may_be_inside=first == 0)
            builder.branch(loop)
            builder.position_at_end(end)

        rays = TILE * TILE
        each(builder.and_(there, builder.not_(far)), rays, rays // LANES, 0)
        each(builder.and_(there, far), LANES, 1, LANES * rays)
        return builder.load(sum_.left)

    return types.int64(ax, ay, px, py, types.intp, types.float32, types.float32, table, types.intp, types.float32,
                       tile_x, tile_y, types.intp, types.intp, types.float32), codegen  # fmt: skip
