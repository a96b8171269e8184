"""The other end of profiles.worker: starts a contender's processes and talks to them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from typing import Any

from profiles.cases import Task
from profiles.contenders import entries, environment_of
from profiles.machine import ROOT, usable_cores
from profiles.worker import receive, send

PREPARE_LIMIT = 300.0  # s: a contender that compiles for longer is of no use to anybody


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
        device: on "cuda" one process without limits.
    """

    def __init__(self, name: str, cores: str, device: str) -> None:
        self.name, usable = name, usable_cores()
        if device == "cuda":
            self.placement: list[list[int] | None] = [None]
        elif cores == "one":
            self.placement = [[usable[0]]]
        elif entries()[name].threads or len(usable) == 1:
            self.placement = [usable]
        else:
            self.placement = [[core] for core in usable]
        self._processes: list[Process] = []

    def prepare(self, task: Task, limit: float = PREPARE_LIMIT) -> dict[str, Any]:
        """As Worker.prepare; a contender that dies or takes too long is refused, and starts anew for the next task."""
        try:
            if not self._processes:
                self._processes = [Process(self.name, cores) for cores in self.placement]
            for number, process in enumerate(self._processes):
                process.tell("prepare", (task, number == 0))
            answers = [process.answer(limit) for process in self._processes]
        except (RuntimeError, TimeoutError, BrokenPipeError) as error:
            self.close()
            return {"refused": str(error)}
        return next((a for a in answers if "refused" in a), answers[0])

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
        self._processes = []
