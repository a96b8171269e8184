"""The primitives that formulas are written in.

A formula is straight-line code over these, + - * / and calls to its like. Called with torch tensors it is the
reference: any dtype, any device, differentiable. Under `bitwise()` the same formula runs on `lensgen.exact` instead,
and gives the same bits on every device: that is how a formula may also take part in drawing parameters.

Every `where` must clamp each branch's input to that branch's own domain: the gradient of the branch not taken is
multiplied by zero, and zero times infinity is NaN.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from lensgen import exact

_bitwise: ContextVar[bool] = ContextVar("bitwise", default=False)


@contextlib.contextmanager
def bitwise() -> Iterator[None]:
    """Within it, primitives are those of `lensgen.exact` (float64 tensors only)."""
    token = _bitwise.set(True)
    try:
        yield
    finally:
        _bitwise.reset(token)


def _primitive(usual: Callable[..., Tensor], same_bits: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def primitive(*args: Tensor) -> Tensor:
        return same_bits(*args) if _bitwise.get() else usual(*args)

    return primitive


sqrt = _primitive(torch.sqrt, exact.sqrt)
exp = _primitive(torch.exp, exact.exp)
log = _primitive(torch.log, exact.log)
log1p = _primitive(torch.log1p, exact.log1p)
sin = _primitive(torch.sin, exact.sin)
cos = _primitive(torch.cos, exact.cos)
atan = _primitive(torch.atan, exact.atan)
atan2 = _primitive(torch.atan2, exact.atan2)
absolute = torch.abs
floor = torch.floor
where = torch.where


def rarely(condition: Tensor, usual: Tensor, rare: Callable[[], Tensor]) -> Tensor:
    """`rare()` where the condition holds, else `usual`; `rare()` is not worked out where it holds nowhere."""
    if has_torch_function((condition, usual)):
        return handle_torch_function(rarely, (condition, usual), condition, usual, rare)
    return torch.where(condition, rare(), usual) if bool(condition.any()) else usual


def holds(condition: Tensor) -> bool:
    """Whether it holds everywhere. In a kernel it is taken to; a batch for which it does not is drawn again here."""
    if has_torch_function((condition,)):
        return handle_torch_function(holds, (condition,), condition)
    return bool(condition.all())


class Stack:
    """Images `[n, h, w]` that a formula reads.

    Args:
        images: in a dtype of their own; what is read is of the dtype of the place.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.shape = tuple(images.shape)

    def lookup(self, which: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The pixels at whole numbers, which are held inside the array; NaN counts as 0."""
        n, h, w = (_inside(v, size) for v, size in zip((which, row, column), self.shape, strict=True))
        return torch.take(self.images, (n * self.shape[1] + h) * self.shape[2] + w).to(row.dtype)


def _inside(index: Tensor, size: int) -> Tensor:
    return torch.where(index >= 0.0, index.clamp(max=size - 1.0), 0.0).to(torch.int64)


def asinh(x: Tensor) -> Tensor:
    """Inverse hyperbolic sine; torch's own takes ten times as long on a CPU."""
    a = absolute(x)
    value = log1p(a + a * a / (1.0 + sqrt(1.0 + a * a)))
    return where(x < 0.0, -value, value)


def maximum(x: Tensor, y: Tensor | float) -> Tensor:
    return torch.maximum(x, y) if isinstance(y, Tensor) else torch.clamp(x, min=y)


def minimum(x: Tensor, y: Tensor | float) -> Tensor:
    return torch.minimum(x, y) if isinstance(y, Tensor) else torch.clamp(x, max=y)
