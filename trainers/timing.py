"""Clocks of the loop, the number of steps that a budget allows, and the Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, cast

import torch

from trainers import STARTED

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_started = STARTED


def seconds_since_start() -> float:
    """Wall time since the program began, imports included, or since `restart_clock` [s]."""
    return time.monotonic() - _started


def restart_clock() -> None:
    """Lets `seconds_since_start` begin anew: for a process that trains several models, one after the other."""
    global _started
    _started = time.monotonic()


def affordable_steps(step: Callable[[], None], budget: float, validation: float, validate_every: int) -> int:
    """How many steps fit into the `budget` [s] of the whole run, of which a part has gone by.

    The median is taken of steps after the first, which pay for compilation and for the workers' start, so that it does
    not matter what else the machine does for a moment.

    Args:
        step: takes one as a trial, and waits for the device.
        validation: time of one [s].
    """
    seconds = []
    for _ in range(20):
        begin = time.monotonic()
        step()
        seconds.append(time.monotonic() - begin)
    left = 0.9 * (budget - seconds_since_start()) - 2 * validation
    return max(1, int(left / (statistics.median(seconds[8:]) + validation / validate_every)))


class SimulationClock:
    """Sums the time spent in `with clock:` blocks.

    On a GPU the call that makes a batch returns before the batch is made, so the device's own clock is read instead.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def __enter__(self) -> SimulationClock:
        if self._device.type == "cuda":
            pair = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            pair[0].record()
            self._events.append(pair)
        else:
            self._begin = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        if self._device.type == "cuda":
            self._events[-1][1].record()
        else:
            self._seconds += time.monotonic() - self._begin

    def take(self) -> float:
        """The seconds since the last call; on a GPU to be called after the device was waited for."""
        if self._events:
            self._events[-1][1].synchronize()
        seconds = self._seconds + sum(begin.elapsed_time(end) for begin, end in self._events) / 1000
        self._seconds, self._events = 0.0, []
        return seconds


class Interrupt:
    """Within it the first Ctrl-C only sets `asked`, and so does every SIGTERM; a second Ctrl-C interrupts at once.

    A SIGTERM never does: whoever started the run may send one beside the terminal's SIGINT and mean the same.
    """

    def __init__(self) -> None:
        self.asked = False
        self._ctrl_c = 0

    def __enter__(self) -> Interrupt:
        self._former = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def asked_anywhere(self, fabric: Fabric) -> bool:
        """Whether any rank was interrupted, so that all stop at the same step."""
        if fabric.world_size == 1:
            return self.asked
        votes = fabric.all_reduce(torch.tensor(float(self.asked), device=fabric.device), reduce_op="sum")
        return bool(cast(torch.Tensor, votes) > 0)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._ctrl_c += number == signal.SIGINT
        if number == signal.SIGINT and self._ctrl_c > 1:
            raise KeyboardInterrupt
