"""Runs the cells of a reproduction, several at a time; what is done stays done, whatever happens to the rest."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from pathlib import Path
from types import FrameType

from tqdm import tqdm

from trainers.ahead import usable_cores
from trainers.errors import TrainingError
from trainers.reproduction.cell import Cell
from trainers.reproduction.worker import Main, StoppedError, begin, run_cell, signals_held


class Runner:
    """Runs cells in processes of their own, in order, each after the one that it begins with.

    Args:
        root: folder of the reproduction.
        mains: name of a trainer -> its `main`, importable by name.
        processes: runs at a time; the cores are shared out among them.

    Attributes:
        failed: name of a run -> why it failed, of the last call of `run`.
    """

    def __init__(self, root: Path, mains: Mapping[str, Main], processes: int) -> None:
        self.root, self.mains, self.processes = root, mains, processes
        self.failed: dict[str, str] = {}

    def run(
        self,
        cells: Sequence[Cell],
        scale: float,
        seconds: Mapping[str, float],
        title: str,
        must: Callable[[Cell], bool] = lambda cell: True,
        left: float = float("inf"),
    ) -> dict[str, float]:
        """Runs those that are not done yet, with a progress bar; returns how long each took [s].

        A run that fails takes only those with it that begin with it. One whose process is killed is gone on with once.

        Args:
            seconds: how long each is expected to take, by name.
            must: whether a run is begun however late it is, and is needed; others are left out if they would end after
                `left` [s], and may fail: `failed` names them.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM; the runs that were under way have written checkpoints.
            TrainingError: one that must be done failed; all that do not need it were finished.
        """
        start = time.monotonic()
        self.failed = {}
        waiting = [cell for cell in cells if not cell.is_done(self.root)]
        done, left_out, died = len(cells) - len(waiting), set[str](), set[str]()
        running: dict[Future[float], tuple[Cell, float, _Worker]] = {}
        took: dict[str, float] = {}
        bar = tqdm(
            total=round(sum(seconds[cell.name] for cell in waiting)), desc=title, unit="s", dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}% |{bar}| {postfix}, {remaining} left at this rate",
        )  # fmt: skip
        with bar, self._workers() as idle:
            while waiting or running:
                for cell in tuple(waiting):
                    to_come = {other.name for other in waiting} | {other.name for other, _, _ in running.values()}
                    late = time.monotonic() - start + seconds[cell.name] > left
                    if cell.after in left_out or (late and not must(cell)):
                        left_out.add(cell.name)
                    elif cell.after in self.failed:
                        self.failed[cell.name] = f"it begins with {cell.after}"
                    elif idle and cell.after not in to_come:
                        worker = idle.pop()
                        future = worker.run(self.mains[cell.trainer], cell, self.root, scale)
                        running[future] = (cell, time.monotonic(), worker)
                    else:
                        continue
                    waiting.remove(cell)
                if not running:
                    continue
                finished, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in finished:
                    cell, _, worker = running.pop(future)
                    idle.append(worker)
                    error = future.exception()
                    if error is None:
                        took[cell.name] = future.result()
                    elif isinstance(error, (BrokenProcessPool, StoppedError)):
                        # by another than the user, who would have interrupted this process too
                        if cell.name in died:
                            self.failed[cell.name] = "its process was killed twice; is the memory too small?"
                        else:
                            died.add(cell.name)
                            waiting.insert(0, cell)
                            tqdm.write(f"{cell.name}: its process was killed; the run goes on in another", sys.stderr)
                    else:
                        known = isinstance(error, TrainingError)
                        self.failed[cell.name] = str(error) if known else f"{type(error).__name__}: {error}"
                now = time.monotonic()
                part = sum(min(seconds[cell.name], now - since) for cell, since, _ in running.values())
                bar.n = round(sum(seconds[name] for name in took) + part)
                bar.set_postfix_str(f"{done + len(took)} of {len(cells)} runs done; " + " and ".join(
                    cell.name for cell, _, _ in running.values()))  # fmt: skip
        if any(cell.name in self.failed and must(cell) for cell in cells):
            lines = "\n".join(f"  {name}: {reason}" for name, reason in self.failed.items())
            raise TrainingError(f"{len(self.failed)} of {len(cells)} runs failed (the others are kept):\n{lines}")
        return took

    @contextmanager
    def _workers(self) -> Iterator[list[_Worker]]:
        """Processes that wait for work; leaving it by an exception stops what they do."""
        threads = max(1, usable_cores() // self.processes)
        workers = [_Worker(threads) for _ in range(self.processes)]
        before = os.environ.get("OMP_NUM_THREADS")
        # OpenMP reads it when a process starts
        os.environ["OMP_NUM_THREADS"] = str(threads)
        # Python begins this helper with the first process, and then lets go of the signals that are held meanwhile
        resource_tracker.ensure_running()
        try:
            with _SigtermInterrupts() as sigterm:
                try:
                    yield list(workers)
                except BaseException:
                    sigterm.ignored = True  # it is being done
                    _stop(workers)
                    raise
                finally:
                    for worker in workers:
                        worker.close()
        finally:
            if before is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = before


class _Worker:
    """A process that runs one cell after another; begun when there is work, and anew when it was killed.

    A pool of its own for each: a pool of several ends all of them when one is killed.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = self._new_pool()
        self.future: Future[float] | None = None

    def run(self, main: Main, cell: Cell, root: Path, scale: float) -> Future[float]:
        with signals_held():
            try:
                self.future = self._pool.submit(run_cell, main, cell, root, scale)
            except BrokenProcessPool:
                self.close()
                self._pool = self._new_pool()
                self.future = self._pool.submit(run_cell, main, cell, root, scale)
        return self.future

    def stop(self) -> None:
        """Asks the run to write a checkpoint and end."""
        for process in list((self._pool._processes or {}).values()):
            process.terminate()

    def kill(self) -> None:
        for process in list((self._pool._processes or {}).values()):
            process.kill()

    def close(self) -> None:
        """Waits for the end of the run, then of the process."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, get_context("spawn"), initializer=begin, initargs=(self._threads,))


def _stop(workers: Sequence[_Worker]) -> None:
    """Stops all runs and waits for their checkpoints; a Ctrl-C meanwhile ends them at once."""
    try:
        # Ctrl-C in a terminal reaches the runs by itself; what `kill` sends to this process alone does not
        for worker in workers:
            worker.stop()
        wait([worker.future for worker in workers if worker.future is not None])
    except KeyboardInterrupt:
        for worker in workers:
            worker.kill()


class _SigtermInterrupts:
    """Within it a SIGTERM is a Ctrl-C; other threads than the main one leave it as it is."""

    def __init__(self) -> None:
        self.ignored = False

    def __enter__(self) -> _SigtermInterrupts:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._former = signal.signal(signal.SIGTERM, self._interrupt)
        return self

    def __exit__(self, *error: object) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._former)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self.ignored:
            raise KeyboardInterrupt
