"""Batches that are simulated on a GPU while the one before them is in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from lensgen.checks import Postponed, postponed
from lensgen.errors import ParameterError

T = TypeVar("T")


class Lane(Protocol):
    """Where batches are made, beside those who use them. A mark is a point in the work of either."""

    def run(self, work: Callable[[], T]) -> T:
        """`work()`, whose work on the device goes into the lane."""

    def mark(self) -> Any:
        """Behind all that is in the lane so far."""

    def user(self) -> Any:
        """Who would use a batch that was handed out now; can be looked up in a set."""

    def hand_over(self, user: Any, mark: Any, tensors: Iterable[Tensor]) -> Any:
        """From here on the user may use the tensors, made before `mark`: its work waits for the mark, and their memory
        is not used anew before its work is done. Returns a mark in the user's work."""

    def reached(self, mark: Any) -> bool: ...

    def wait(self, mark: Any) -> None: ...


class CudaLane:
    """A CUDA stream of its own; users are the streams that are current when batches are handed out."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        # constants that are on the device already were made by the current stream
        self.stream.wait_stream(torch.cuda.current_stream(device))

    def run(self, work: Callable[[], T]) -> T:
        with torch.cuda.stream(self.stream):  # memory, too, comes from this stream's share
            return work()

    def mark(self) -> torch.cuda.Event:
        return self.stream.record_event()

    def user(self) -> torch.cuda.Stream:
        return torch.cuda.current_stream(self.device)

    def hand_over(self, user: torch.cuda.Stream, mark: torch.cuda.Event, tensors: Iterable[Tensor]) -> torch.cuda.Event:
        user.wait_event(mark)
        for tensor in tensors:
            tensor.record_stream(user)
        return user.record_event(torch.cuda.Event(blocking=True))  # a host that waits for it sleeps

    def reached(self, mark: torch.cuda.Event) -> bool:
        return mark.query()

    def wait(self, mark: torch.cuda.Event) -> None:
        mark.synchronize()


@dataclass
class _Unit(Generic[T]):
    """Batches that are made in one go.

    Args:
        first: the number of the first.
        batches: those that are not handed out yet.
        tensors: one of each piece of memory that they lie in.
        made: a mark behind them in the lane.
        checks: of them all.
        error: why there are none.
        users: whom they were handed over to.
    """

    first: int
    batches: deque[T] = field(default_factory=deque)
    tensors: Sequence[Tensor] = ()
    made: Any = None
    checks: Postponed = field(default_factory=Postponed)
    error: Exception | None = None
    users: set[Any] = field(default_factory=set)


class Ahead(Generic[T]):
    """Hands out batches in order, from any number on, and has the next ones made meanwhile.

    The checks of a unit are looked at once its user has come so far: at the latest when the unit `ahead` after it is
    handed out. Only then may the host have to wait. That keeps it from running away from the device, too: beside the
    batches that users keep, about 2 `ahead` units take up memory.

    Args:
        lane: where they are made.
        make: (number of the first, how many) -> as many batches, and one tensor of each piece of memory of theirs.
        ahead: units that are made beyond the one which is handed out.
        size: batches of a unit.
        end: how many batches there are in all; None for no end.
        place: (number of the unit's first batch, position among its images) -> what to call that image in an error.
    """

    def __init__(
        self,
        lane: Lane,
        make: Callable[[int, int], tuple[Sequence[T], Sequence[Tensor]]],
        ahead: int,
        size: int,
        end: int | None,
        place: Callable[[int, int], str],
    ) -> None:
        self._lane, self._make, self._place = lane, make, place
        self._ahead, self._size, self._end = ahead, size, end
        self._units: deque[_Unit[T]] = deque()
        self._in_use: deque[tuple[Any, int, Postponed]] = deque()  # mark where its use begins, first batch, checks
        self._next = self._begun = 0  # the batch that is expected to be taken; the first that is not begun

    def take(self, number: int) -> T:
        """Batch `number`; what was made ahead for another place is dropped.

        Raises:
            ParameterError: images of this batch, or of one that was handed out before, failed a check.
        """
        if number != self._next:
            self._units.clear()  # their memory goes back to the lane, which may still be writing there
            self._begun = number
        self._next = number + 1
        if not self._units:
            self._begin()
        unit = self._units[0]
        if unit.error is not None:
            self._next = -1  # whoever tries again begins anew
            raise unit.error
        user, begins, used = self._lane.user(), not unit.users, None
        if user not in unit.users:
            used = self._lane.hand_over(user, unit.made, unit.tensors)
            unit.users.add(user)
        batch = unit.batches.popleft()
        if not unit.batches:
            self._units.popleft()
        if begins:
            self._in_use.append((used, unit.first, unit.checks))
            while len(self._units) < self._ahead + bool(unit.batches) and self._begun != self._end:
                self._begin()
            self._look(self._ahead)
        return batch

    def finish(self) -> None:
        """Look at all checks that are left."""
        self._look(0)

    def _begin(self) -> None:
        first = self._begun
        count = self._size if self._end is None else min(self._size, self._end - first)
        self._begun = first + count

        def work() -> tuple[Sequence[T], Sequence[Tensor]]:
            made = self._make(first, count)
            checks.fetch()
            return made

        with postponed() as checks:
            try:
                batches, tensors = self._lane.run(work)
            except Exception as error:  # to be raised when its turn comes, however many are made ahead
                self._units.append(_Unit(first, error=error))
            else:
                self._units.append(_Unit(first, deque(batches), tensors, self._lane.mark(), checks))

    def _look(self, left: int) -> None:
        """Look at the checks of units that their users have come to; wait until no more than `left` remain."""
        while self._in_use:
            used, first, checks = self._in_use[0]
            if not self._lane.reached(used):
                if len(self._in_use) <= left:
                    return
                self._lane.wait(used)
            self._in_use.popleft()
            if (failure := checks.failure()) is not None:
                image, reason = failure
                raise ParameterError(f"{self._place(first, image)}: {reason}")
