"""A process of a reproduction: one run after another, each of which ends with a checkpoint when it is asked to stop."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
import yaml

from trainers.checkpoint import checkpoints
from trainers.errors import TrainingError
from trainers.reproduction.cell import Cell
from trainers.timing import restart_clock, seconds_since_start

Main = Callable[[list[str]], int]
OUTPUT = "output.txt"  # in a cell's folder: what its trainer printed
SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 60.0  # seconds that a run has to write its checkpoint when the process that began it is gone
_INTERRUPTED = 130


class StoppedError(TrainingError):
    """A run was stopped by a signal; it can be gone on with."""


class _Stop:
    """What SIGINT and SIGTERM do, but where a trainer's own `timing.Interrupt` waits for the end of a step.

    They interrupt the run that is under way; one that comes before a run is begun stops that.
    """

    def __init__(self) -> None:
        self.running = self.asked = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        first, self.asked = not self.asked, True
        # a terminal's SIGINT and the SIGTERM of the process that began this one are one wish
        if self.running and (first or number == signal.SIGINT):
            raise KeyboardInterrupt


_stop = _Stop()


@contextmanager
def signals_held() -> Iterator[None]:
    """Within it signals wait; so they do in a process that is begun within it, until that calls `begin`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin(threads: int) -> None:
    """First thing in the process."""
    torch.set_num_threads(threads)
    for number in SIGNALS:
        signal.signal(number, _stop.ask)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_follow_parent, daemon=True, name="follow parent").start()


def _follow_parent() -> None:
    """Ends this process soon after its parent, however that ended: else it would train on beside its successor."""
    parent, main = multiprocessing.parent_process(), threading.main_thread().ident
    assert parent is not None and main is not None
    parent.join()
    signal.pthread_kill(main, signal.SIGTERM)
    until = time.monotonic() + GRACE
    while _stop.running and time.monotonic() < until:
        time.sleep(0.1)
    os._exit(1)


def run_cell(main: Main, cell: Cell, root: Path, scale: float) -> float:
    """Runs a trainer and keeps what it prints in the run's folder; returns seconds.

    Raises:
        StoppedError: by a signal.
        TrainingError: anything else went wrong.
        OSError: the run's folder cannot be written to.
    """
    restart_clock()
    _stop.running = True
    try:
        status = _INTERRUPTED if _stop.asked else _run(main, cell, root, scale)
    except KeyboardInterrupt:
        status = _INTERRUPTED
    finally:
        _stop.running = _stop.asked = False
    output = root / cell.name / OUTPUT
    if status == _INTERRUPTED:
        raise StoppedError(f"it was interrupted; see {output}")
    if status:
        raise TrainingError(f"it ended with status {status}; see {output}")
    return seconds_since_start()


def _run(main: Main, cell: Cell, root: Path, scale: float) -> int:
    folder = root / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / OUTPUT).open("a") as output, contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        # waits for one that outlives its parent; file systems without locks have to do without
        with contextlib.suppress(OSError):
            fcntl.flock(output, fcntl.LOCK_EX)
        if cell.is_done(root):
            return 0
        try:
            return main(_arguments(cell, root, scale))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            traceback.print_exc()
            raise TrainingError(f"{type(error).__name__}: {error} (all of it in {folder / OUTPUT})") from None


def _arguments(cell: Cell, root: Path, scale: float) -> list[str]:
    """The command line of a cell: its recipe, or to go on where it was stopped."""
    folder = root / cell.name
    if checkpoints(folder):
        return ["--resume", str(folder)]
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(cell.recipe(root, scale), sort_keys=False))
    return ["--config", str(recipe), "--out", str(folder)]
