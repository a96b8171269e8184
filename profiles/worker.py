"""A contender's own process: builds it for a task, lets it run when asked. Started by profiles.team.

A process of its own gives each its environment (threads, backend), its cores, and its memory. While one is measured
the others wait for a message and use no processor time.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from typing import IO, Any

SETTLE_SECONDS = 0.1  # of work on a GPU before a run


def send(stream: IO[bytes], message: Any) -> None:
    """Writes one message."""
    data = pickle.dumps(message)
    stream.write(len(data).to_bytes(8, "little") + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Reads one message; EOFError when the other side is gone."""
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError
    return pickle.loads(stream.read(int.from_bytes(head, "little")))


def _pin(cores: list[int] | None) -> None:
    if cores is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


class Worker:
    """Answers requests about one contender at a time."""

    def __init__(self, name: str, cores: list[int] | None) -> None:
        import torch  # after the affinity, which sets how many threads it starts

        if cores is not None and len(cores) == 1:
            torch.set_num_threads(1)
        self.name = name
        self.contender: Any = None
        self.on_gpu = False

    def prepare(self, task: Any, checks: bool) -> dict[str, Any]:
        """Builds the contender, renders twice (which compiles), and returns what it made of the first systems."""
        from profiles.contenders import Refused, build, device_of

        self.contender = None  # frees the last task's memory first
        self._make_room()
        begin = time.perf_counter()
        try:
            contender = build(self.name, task)
            images = contender.check_images() if checks else None
            for _ in range(2):
                contender.render()
            contender.wait()
        except Refused as refusal:
            return {"refused": str(refusal)}
        self.contender, self.on_gpu = contender, device_of(self.name, task.device) == "cuda"
        self._make_room()
        warm_up = time.perf_counter() - begin
        return {
            "images": images, "warm_up": warm_up, "dtype": contender.dtype, "notes": contender.notes,
            "device": "cuda" if self.on_gpu else "cpu",
        }  # fmt: skip

    def measure(self, seconds: float) -> tuple[int, float]:
        """Images made, and the seconds that it took."""
        from profiles.timing import keep_going

        assert self.contender is not None, "prepare comes first"
        if self.on_gpu:  # its clocks fell, and its memory was given back, while others had their turns
            keep_going(self.contender.render, self.contender.wait, SETTLE_SECONDS)
        found = keep_going(self.contender.render, self.contender.wait, seconds)
        self._make_room()
        return found

    def choose(self) -> str:
        """Tries the contender's variants again, if it has any; its notes."""
        if hasattr(self.contender, "choose"):
            self.contender.choose()
            self._make_room()
        return self.contender.notes

    def _make_room(self) -> None:
        """Gives a GPU's memory that torch keeps to the other contenders' processes."""
        if self.on_gpu:
            import torch

            torch.cuda.empty_cache()

    def memory(self, task: Any) -> dict[str, Any]:
        """Memory before the first rendering and the peak after some."""
        from profiles.contenders import Refused, build
        from profiles.memory_of import forget_peak, usage

        try:
            contender = build(self.name, task)
            forget_peak(task.device)
            before = usage(task.device)
            for _ in range(3):
                contender.render()
            contender.wait()
        except Refused as refusal:
            return {"refused": str(refusal)}
        return {"before": before, "after": usage(task.device), "dtype": contender.dtype}


def main() -> None:
    """Serves requests until the other side hangs up."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the messages
    name, cores = receive(requests)
    _pin(cores)
    worker = Worker(name, cores)
    while True:
        try:
            method, arguments = receive(requests)
        except EOFError:
            return
        try:
            answer = getattr(worker, method)(*arguments)
        except Exception as error:  # whatever a peer raises is a row of the table, not the end of the run
            reason = " ".join(str(error).split())[:150]
            answer = {"refused": f"failed: {type(error).__name__}: {reason}"}
        send(answers, answer)


if __name__ == "__main__":
    main()
