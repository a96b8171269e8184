"""Steps of a long report, each a process of its own with a time limit: what fails or hangs does not stop the others.

The limits share one budget: a step may take its share of what is left when it begins, so what one does not use is there
for those after it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profiles.machine import ROOT

GRACE = 3.0  # s that a step has to end when it is told to
LEAST = 1.0  # s: with less a step does not begin
TAIL = 25  # lines of its output that are kept of a step that failed
DONE, FAILED, OUTLASTED, INTERRUPTED, SKIPPED, WAITING = (
    "done", "failed", "outlasted its time", "interrupted", "not installed", "not run",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """What is run.

    Args:
        name: of its files.
        title: for people.
        share: seconds that it should take; its part of the budget is by this.
        command: seconds that it has -> arguments of a Python interpreter, or a whole command.
        read: the folder that it wrote into -> its results, as JSON can hold them; what is missing it leaves out.
        missing: why it cannot be run here, or "".
        early: it starts with the first step and sets up meanwhile, and begins when its seconds arrive on its stdin.
        python: whether `command` gives arguments of Python.
    """

    name: str
    title: str
    share: float
    command: Callable[[float], Sequence[str]]
    read: Callable[[Path], dict[str, Any]]
    missing: str = ""
    early: bool = False
    python: bool = True


@dataclass
class Outcome:
    """What became of a step.

    Attributes:
        status: one of DONE, FAILED, ...
        why: in a few words, unless it is done.
        seconds, limit: that it took, and that it was given [s].
        tail: the end of its output, unless it is done.
        result: what it found, also of a step that did not end well.
    """

    name: str
    title: str
    status: str = WAITING
    why: str = ""
    seconds: float = 0.0
    limit: float = 0.0
    tail: str = ""
    command: str = ""
    result: dict[str, Any] = field(default_factory=dict)


class Running:
    """A step's process, and its output in a file of `folder`. A program that is not there is a step that failed."""

    def __init__(self, step: Step, seconds: float, folder: Path) -> None:
        self.step, self.folder = step, folder
        self.log = folder / f"{step.name}.log"
        given = list(map(str, step.command(seconds)))
        self.command = [sys.executable, *given] if step.python else given
        self._process: subprocess.Popen[bytes] | None = None
        self._why = ""
        with self.log.open("wb") as output:
            try:
                self._process = subprocess.Popen(
                    self.command, cwd=ROOT, stdin=subprocess.PIPE if step.early else subprocess.DEVNULL, stdout=output,
                    stderr=subprocess.STDOUT, start_new_session=True,  # so that it ends with all that it started
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                )  # fmt: skip
            except OSError as error:
                self._why = str(error)

    def go(self, seconds: float) -> None:
        """The line that an early step waits for."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it has failed already, which `wait` finds out
                self._process.stdin.write(f"{seconds:.1f}\n".encode())
                self._process.stdin.close()

    def wait(self, limit: float) -> tuple[str, str]:
        """Status and why, after at most `limit` seconds and GRACE."""
        if self._process is None:
            return FAILED, self._why
        try:
            code = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            self.stop()
            return OUTLASTED, f"stopped after {limit:.0f} s"
        except KeyboardInterrupt:
            self.stop()
            raise
        self.stop()  # what it left behind
        if code == 0:
            return DONE, ""
        return FAILED, f"exit status {code}" if code > 0 else f"ended by signal {-code}"

    def stop(self) -> None:
        """Ends it and everything that it started."""
        if self._process is None:
            return
        for number, grace in ((signal.SIGINT, GRACE), (signal.SIGKILL, GRACE)):
            running = self._process.poll() is None
            if not running:
                number = signal.SIGKILL
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            if running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(grace)
            if number == signal.SIGKILL:
                return

    def tail(self) -> str:
        """The end of its output; what a progress bar overwrote is left out."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join([line.rpartition("\r")[2][-300:] for line in lines if line.strip()][-TAIL:])


def first_limit(shares: Sequence[float], left: float) -> float:
    """Seconds for the first of several steps, of `left` seconds for all of them."""
    return max(0.0, left) * shares[0] / sum(shares)


def run_steps(
    steps: Sequence[Step],
    budget: float,
    folder: Path,
    say: Callable[[str], None],
    save: Callable[[list[Outcome]], None],
) -> bool:
    """Runs them in turns; whether it came to the end (False after Ctrl-C or SIGTERM).

    Args:
        budget: of all together [s].
        folder: for their files.
        say: told what begins.
        save: called with all outcomes before the first step and after each.
    """
    outcomes = [Outcome(s.name, s.title, SKIPPED if s.missing else WAITING, s.missing) for s in steps]
    begin = time.monotonic()
    early: dict[str, Running] = {}
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    number = -1
    try:
        save(outcomes)
        early = {s.name: Running(s, budget, folder) for s in steps if s.early and not s.missing}
        for number, (step, outcome) in enumerate(zip(steps, outcomes, strict=True)):
            if step.missing:
                continue
            spent = time.monotonic() - begin
            after = [s.share for s in steps[number:] if not s.missing]
            outcome.limit = first_limit(after, budget - spent)
            left = min(budget - spent, sum(after))
            say(f"[{number + 1}/{len(steps)}, {spent:.0f} s, about {left / 60:.1f} min left] {step.title}")
            if outcome.limit < LEAST:
                outcome.why = "no time was left"
                save(outcomes)
                continue
            running = early.pop(step.name, None) or Running(step, outcome.limit, folder)
            _finish(running, outcome)
            if outcome.status != DONE:
                say(f"    {outcome.status}: {outcome.why}")
            save(outcomes)
    except KeyboardInterrupt:
        if number >= 0 and outcomes[number].status == WAITING:
            outcomes[number].status, outcomes[number].why = INTERRUPTED, "Ctrl-C"
        save(outcomes)
        return False
    finally:
        signal.signal(signal.SIGTERM, former or signal.SIG_DFL)
        for running in early.values():
            running.stop()
    return True


def _finish(running: Running, outcome: Outcome) -> None:
    """Waits for a step and reads what it wrote."""
    started = time.monotonic()
    outcome.command = " ".join(running.command)
    running.go(outcome.limit)
    try:
        outcome.status, outcome.why = running.wait(outcome.limit)
    except KeyboardInterrupt:
        outcome.status, outcome.why = INTERRUPTED, "Ctrl-C"
        raise
    finally:
        outcome.seconds = time.monotonic() - started
        outcome.tail = "" if outcome.status == DONE else running.tail()
        try:
            outcome.result = running.step.read(running.folder)
        except Exception as error:  # half a file, of a step that was stopped; the report goes on
            outcome.why = "; ".join(w for w in (outcome.why, f"its results cannot be read: {error!r}") if w)
            outcome.status = FAILED if outcome.status == DONE else outcome.status
