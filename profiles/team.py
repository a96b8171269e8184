"""The other end of profiles.worker: starts a contender's processes and talks to them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from profiles.cases import Task
from profiles.contenders import device_of, entries, environment_of
from profiles.machine import ROOT, usable_cores
from profiles.worker import receive, send

PREPARE_LIMIT = 300.0  # s: a contender that compiles for longer is of no use to anybody


def prepare_limit(budget: float | None) -> float:
    """Seconds that a contender may take to set up within a measurement of `budget` seconds."""
    return PREPARE_LIMIT if budget is None else min(PREPARE_LIMIT, 0.5 * budget)


class Process:
    """One worker process.

    Args:
        name: the contender.
        cores: those that it is pinned to; None for all that this process may use.
    """

    def __init__(self, name: str, cores: list[int] | None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "profiles.worker"],
            cwd=ROOT, env=environment_of(name, None if cores is None else len(cores)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self.tell(name, cores)

    def tell(self, *message: Any) -> None:
        """Sends a request."""
        assert self._process.stdin is not None
        send(self._process.stdin, message)

    def answer(self, limit: float | None = None) -> Any:
        """The answer to the last request; RuntimeError if the process died, TimeoutError if it took too long."""
        assert self._process.stdout is not None
        timer = threading.Timer(limit or 0.0, self._process.kill) if limit else None
        if timer is not None:
            timer.start()
        try:
            return receive(self._process.stdout)
        except EOFError:
            if timer is not None and not timer.is_alive():
                raise TimeoutError(f"took more than {limit:.0f} s") from None
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip().splitlines()[-3:]
            raise RuntimeError("its process died: " + " | ".join(last)) from None
        finally:
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()


class Member:
    """A contender with the processes that it runs in: one, or one a core where it cannot use several itself.

    Args:
        name: from profiles.contenders.
        cores: "one" or "all".
        device: on "cuda" one process without limits, for those that render there; the others as "cores" says.
    """

    def __init__(self, name: str, cores: str, device: str) -> None:
        self.name, usable = name, usable_cores()
        if device_of(name, device) == "cuda":
            self.placement: list[list[int] | None] = [None]
        elif cores == "one":
            self.placement = [[usable[0]]]
        elif entries()[name].threads or len(usable) == 1:
            self.placement = [usable]
        else:
            self.placement = [[core] for core in usable]
        self._processes: list[Process] = []
        self._begun: Task | None = None  # what it prepares for

    def begin(self, task: Task) -> None:
        """Lets it prepare while something else is done; nothing, if it does so for this task already."""
        if self._begun == task:
            return
        self._begun = task
        if not self._processes:
            self._processes = [Process(self.name, cores) for cores in self.placement]
        for number, process in enumerate(self._processes):
            with contextlib.suppress(BrokenPipeError):  # `ready` finds out that it died
                process.tell("prepare", (task, number == 0))

    def ready(self, limit: float = PREPARE_LIMIT) -> dict[str, Any]:
        """Waits for what `begin` began, at most `limit` seconds from now; the answer of `prepare`."""
        assert self._begun is not None, "begin comes first"
        end, self._begun = time.monotonic() + limit, None
        try:
            answers = [process.answer(max(0.1, end - time.monotonic())) for process in self._processes]
        except TimeoutError:
            self.close()
            return {"refused": "took too long to set up"}
        except RuntimeError as error:
            self.close()
            return {"refused": str(error)}
        return next((a for a in answers if "refused" in a), answers[0])

    def prepare(self, task: Task, limit: float = PREPARE_LIMIT) -> dict[str, Any]:
        """As Worker.prepare; a contender that dies or takes too long is refused, and starts anew for the next task."""
        self.begin(task)
        return self.ready(limit)

    def choose(self) -> str:
        """Lets it try its variants again, now that nobody else is at work; what it chose."""
        for process in self._processes:
            process.tell("choose", ())
        chosen, *_ = [process.answer() for process in self._processes]
        return chosen if isinstance(chosen, str) else chosen["refused"]

    def measure(self, seconds: float) -> tuple[float, float]:
        """All processes at once: images a second of all together, times the seconds of the slowest."""
        for process in self._processes:
            process.tell("measure", (seconds,))
        answers = [process.answer() for process in self._processes]
        for answer in answers:
            if isinstance(answer, dict):
                raise RuntimeError(f"{self.name}: {answer['refused']}")
        longest = max(taken for _, taken in answers)
        return sum(items / taken for items, taken in answers) * longest, longest

    def close(self) -> None:
        """Ends its processes."""
        for process in self._processes:
            process.close()
        self._processes, self._begun = [], None
