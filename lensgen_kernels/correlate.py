"""Sums over the taps of a dense kernel, for a tile of output pixels that stays in registers."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lensgen_kernels.lanes import LANES, address_of_lanes, splat
from lensgen_kernels.tables import supported

# what fits the registers of AVX-512, or half of it those of others
TILE_ROWS, _VECTORS = (4, 4) if supported() else (2, 2)
TILE_WIDTH = _VECTORS * LANES


def _tile(vectors):
    """An intrinsic for tiles of TILE_ROWS rows and this many vectors of columns.

    tile[TILE_WIDTH a + j] = sum_l sum_t weights[first - lag a + taps l + t] lines[start + step l + t + j], over `count`
    lines and `taps` taps. The rows of a tile share what is loaded, each with a kernel that lies `lag` earlier.
    """

    @intrinsic
    def correlate(typingctx, tile, lines, start, step, count, weights, first, lag, taps):
        def codegen(context, builder, signature, args):
            tile, lines, start, step, count, weights, first, lag, taps = args

            def data(k, value):
                return context.make_array(signature.args[k])(context, builder, value).data

            target, source, factors, intp = data(0, tile), data(1, lines), data(5, weights), start.type
            zero = ir.Constant(ir.VectorType(ir.FloatType(), LANES), [0.0] * LANES)
            sums = [[cgutils.alloca_once(builder, zero.type) for _ in range(vectors)] for _ in range(TILE_ROWS)]
            places = [
                (total, address_of_lanes(builder, target, ir.Constant(intp, a * TILE_WIDTH + v * LANES)))
                for a, row in enumerate(sums)
                for v, total in enumerate(row)
            ]
            for _, place in places:
                builder.store(zero, place).align = 4
            with cgutils.for_range(builder, count) as line:
                begin = builder.add(start, builder.mul(step, line.index))
                weight = builder.add(first, builder.mul(taps, line.index))
                for total, _ in places:
                    builder.store(zero, total)
                with cgutils.for_range(builder, taps) as tap:
                    at = builder.add(begin, tap.index)
                    loaded = []
                    for v in range(vectors):
                        place = builder.add(at, ir.Constant(intp, v * LANES))
                        loaded.append(builder.load(address_of_lanes(builder, source, place)))
                        loaded[-1].align = 4
                    place = builder.add(weight, tap.index)
                    for row in sums:
                        factor = splat(builder, builder.load(builder.gep(factors, [place], inbounds=True)))
                        for total, value in zip(row, loaded, strict=True):
                            term = builder.fmul(factor, value, flags=("contract",))
                            builder.store(builder.fadd(builder.load(total), term, flags=("contract",)), total)
                        place = builder.sub(place, lag)
                for total, place in places:  # line by line: one sum of thousands of terms would lose two digits
                    before = builder.load(place)
                    before.align = 4
                    builder.store(builder.fadd(before, builder.load(total)), place).align = 4
            return context.get_dummy_value()

        array, whole = types.float32[::1], types.intp
        return types.void(array, array, whole, whole, whole, array, whole, whole, whole), codegen

    return correlate


CORRELATE = {vectors: _tile(vectors) for vectors in range(1, _VECTORS + 1)}  # by the number of vectors in a row
