"""Checks of values that lie on a device: at once, or put off, so that nobody waits for the device.

`require` raises at once. Within `postponed()` it only notes what to look at; whoever opened that looks later, when the
device has come so far anyway.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import Tensor

from lensgen.errors import LensgenError, ParameterError

_current: ContextVar[Postponed | None] = ContextVar("checks", default=None)


class Postponed:
    """What is to be looked at of the images 0, 1, ... that are made meanwhile."""

    def __init__(self) -> None:
        self._images = 0  # of which all checks are noted
        self._noted: list[tuple[int, int, Callable[[int], str]]] = []  # first image, how many flags, what is wrong
        self._flags: list[Tensor] = []
        self._fetched: Tensor | None = None

    def note(self, bad: Tensor, explain: Callable[[int], str]) -> None:
        """`bad` `[K]` bool, of the next K images."""
        self._noted.append((self._images, len(bad), explain))
        self._flags.append(bad)

    def advance(self, images: int) -> None:
        """Checks that come are of the images after these."""
        self._images += images

    def bad(self, images: int) -> Tensor:
        """`[images]` bool: which of so many images some check is against."""
        found = torch.zeros(images, dtype=torch.bool, device=self._flags[0].device if self._flags else None)
        for (first, length, _), flags in zip(self._noted, self._flags, strict=True):
            found[first : first + length] |= flags
        return found

    def fetch(self) -> None:
        """Begin to copy the flags to the host, on the current stream."""
        if not self._flags:
            return
        flags = torch.cat(self._flags)
        self._flags.clear()
        if flags.is_cuda:  # into page-locked memory: a copy to any other would wait
            flags = torch.empty(len(flags), dtype=torch.bool, pin_memory=True).copy_(flags, non_blocking=True)
        self._fetched = flags

    def failure(self) -> tuple[int, str] | None:
        """The first image that failed, and what is wrong with it; None if all is well. Only once the flags have
        arrived."""
        if self._fetched is None:
            return None
        at = 0
        for first, length, explain in self._noted:
            bad = self._fetched[at : at + length].nonzero()
            if len(bad) > 0:
                return first + int(bad[0]), _explained(explain, int(bad[0]))
            at += length
        return None


def _explained(explain: Callable[[int], str], position: int) -> str:
    try:
        return explain(position)
    except LensgenError as error:  # it may find the reason by doing all again, slowly
        return str(error)


@contextlib.contextmanager
def postponed() -> Iterator[Postponed]:
    """Within it nothing is looked at."""
    checks = Postponed()
    token = _current.set(checks)
    try:
        yield checks
    finally:
        _current.reset(token)


def require(bad: Tensor, explain: Callable[[int], str]) -> None:
    """Raise ParameterError, now or later, if any image is bad.

    Args:
        bad: `[K]` bool, of the K images that are being made.
        explain: the position of the first bad one -> what is wrong with it, and the fix.
    """
    checks = _current.get()
    if checks is not None:
        checks.note(bad, explain)
    elif bool(bad.any()):
        raise ParameterError(explain(int(bad.nonzero()[0])))


def advance(images: int) -> None:
    """So many images are made; what comes is of the next ones."""
    if (checks := _current.get()) is not None:
        checks.advance(images)
