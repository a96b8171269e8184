"""Operations that numba's own types would widen or branch on: bits, 32-bit integers, selection.

Each takes and gives float32 and int32, or float64 and int64, and never mixes them.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_WHOLE = {types.float32: types.int32, types.float64: types.int64}
_REAL = {whole: real for real, whole in _WHOLE.items()}


def _unary(result, build):
    """An intrinsic of one operand: `result` maps its type, `build(builder, type, value)` writes it."""

    @intrinsic
    def operation(typingctx, x):
        to = result(x)

        def codegen(context, builder, signature, args):
            return build(builder, context.get_value_type(signature.return_type), args[0])

        return to(x), codegen

    return operation


def _binary(build):
    @intrinsic
    def operation(typingctx, x, y):
        def codegen(context, builder, signature, args):
            return build(builder, *args)

        return x(x, x), codegen

    return operation


def _llvm(name):
    def build(builder, kind, x):
        function = builder.module.declare_intrinsic(f"llvm.{name}", [kind])
        return builder.call(function, [x])

    return build


def _same(x):
    return x


bits = _unary(lambda x: _WHOLE[x], lambda b, kind, x: b.bitcast(x, kind))
from_bits = _unary(lambda x: _REAL[x], lambda b, kind, x: b.bitcast(x, kind))
to_real = _unary(lambda x: _REAL[x], lambda b, kind, x: b.sitofp(x, kind))
to_int = _unary(lambda x: _WHOLE[x], lambda b, kind, x: b.fptosi(x, kind))
floor = _unary(_same, _llvm("floor"))
root = _unary(_same, _llvm("sqrt"))
size = _unary(_same, _llvm("fabs"))

iadd = _binary(lambda b, x, y: b.add(x, y))
isub = _binary(lambda b, x, y: b.sub(x, y))
iand = _binary(lambda b, x, y: b.and_(x, y))
ior = _binary(lambda b, x, y: b.or_(x, y))
shl = _binary(lambda b, x, y: b.shl(x, y))
shr = _binary(lambda b, x, y: b.ashr(x, y))
# "unordered": where x is NaN the result is, as torch.clamp has it; y is a bound
larger = _binary(lambda b, x, y: b.select(b.fcmp_unordered(">", x, y), x, y))
smaller = _binary(lambda b, x, y: b.select(b.fcmp_unordered("<", x, y), x, y))


@intrinsic
def choose(typingctx, condition, x, y):
    """x where the condition holds, else y, without a branch."""

    def codegen(context, builder, signature, args):
        condition = args[0]
        if condition.type != ir.IntType(1):
            condition = builder.trunc(condition, ir.IntType(1))
        return builder.select(condition, args[1], args[2])

    return x(types.boolean, x, x), codegen


@intrinsic
def real32(typingctx, x):
    """A number of any float type as float32."""

    def codegen(context, builder, signature, args):
        return args[0] if signature.args[0] == types.float32 else builder.fptrunc(args[0], ir.FloatType())

    return types.float32(x), codegen


@intrinsic
def uniform_of_word(typingctx, word):
    """The upper 23 of the 32 bits of a uint64 as (n + 1/2) / 2**23, exact in float32."""

    def codegen(context, builder, signature, args):
        i32, f32 = ir.IntType(32), ir.FloatType()
        n = builder.lshr(builder.trunc(args[0], i32), ir.Constant(i32, 9))
        # the bits of 1 + n / 2**23; the subtraction is exact, and puts in the half
        value = builder.bitcast(builder.or_(n, ir.Constant(i32, 0x3F800000)), f32)
        return builder.fsub(value, ir.Constant(f32, 1.0 - 2.0**-24))

    return types.float32(word), codegen


@intrinsic
def flag(typingctx, condition):
    """1 where the condition holds, else 0, as int32."""

    def codegen(context, builder, signature, args):
        condition = args[0]
        if condition.type != ir.IntType(1):
            condition = builder.trunc(condition, ir.IntType(1))
        return builder.zext(condition, ir.IntType(32))

    return types.int32(types.boolean), codegen


def _address(context, builder, array_type, array, index):
    if array_type.ndim != 1 or array_type.layout != "C":
        raise TypeError(f"get and put are for contiguous arrays of one dimension, not {array_type}")
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index], inbounds=True)


@intrinsic
def get(typingctx, array, index):
    """array[index] for an index that is known to lie inside: numba's own may count from the end, and that keeps
    LLVM from loading several at once."""

    def codegen(context, builder, signature, args):
        loaded = builder.load(_address(context, builder, signature.args[0], args[0], args[1]))
        loaded.set_metadata("noalias", _stacks(builder.module))
        return loaded

    return array.dtype(array, types.intp), codegen


@intrinsic
def put(typingctx, array, index, value):
    """array[index] = value, likewise."""

    def codegen(context, builder, signature, args):
        stored = builder.store(args[2], _address(context, builder, signature.args[0], args[0], args[1]))
        stored.set_metadata("noalias", _stacks(builder.module))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), codegen


def _stacks(module):
    """The memory that `gather` alone reads and nothing writes: LLVM cannot tell, and would read pixel by pixel."""
    domain = module.add_metadata(["lensgen"])
    return module.add_metadata([module.add_metadata(["stacks", domain])])


@intrinsic
def gather(typingctx, array, which, row, column, height, width):
    """array[(which * height + row) * width + column] for a place that is known to lie inside.

    An image has fewer than 2**31 pixels, so that vector units count in 32 bits; all images together may have more.
    """

    def codegen(context, builder, signature, args):
        array, which, row, column, height, width = args
        data = context.make_array(signature.args[0])(context, builder, array).data
        i64 = height.type
        image = builder.mul(builder.sext(which, i64) if which.type != i64 else which, builder.mul(height, width))
        narrow = builder.trunc(width, row.type) if row.type != i64 else width
        pixel = builder.add(builder.mul(row, narrow, flags=["nsw"]), column, flags=["nsw"])
        start = builder.gep(data, [image], inbounds=True)
        loaded = builder.load(builder.gep(start, [pixel], inbounds=True))
        loaded.set_metadata("alias.scope", _stacks(builder.module))
        return loaded

    whole = (which, row, column)
    return array.dtype(array, *whole, types.intp, types.intp), codegen


def _attribute(name):
    @intrinsic
    def mark(typingctx):
        def codegen(context, builder, signature, args):
            builder.function.attributes.add(name)
            return context.get_dummy_value()

        return types.void(), codegen

    return mark


stay_a_call = _attribute("noinline")  # where dozens of copies would take LLVM a minute
be_copied = _attribute("alwaysinline")  # where a call would keep a loop from the vector units
