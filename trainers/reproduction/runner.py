"""Runs the cells of a reproduction, several at a time; what is done stays done, whatever happens to the rest."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import torch
import yaml
from tqdm import tqdm

from trainers.ahead import usable_cores
from trainers.checkpoint import checkpoints
from trainers.errors import TrainingError
from trainers.reproduction.cell import Cell

OUTPUT = "output.txt"  # in a cell's folder: what its trainer printed
Main = Callable[[list[str]], int]


class Runner:
    """Runs cells in processes of their own, in order, each after the one that it begins with.

    Args:
        root: folder of the reproduction.
        mains: name of a trainer -> its `main`, importable by name.
        processes: runs at a time; the cores are shared out among them.
    """

    def __init__(self, root: Path, mains: Mapping[str, Main], processes: int) -> None:
        self.root, self.mains, self.processes = root, mains, processes

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

        Args:
            seconds: how long each is expected to take, by name.
            must: whether a run is begun however late it is; others are left out if they would end after `left` [s].

        Raises:
            KeyboardInterrupt: Ctrl-C; the runs that were under way have written checkpoints.
            TrainingError: a run failed; those that do not need it were finished.
        """
        begin = time.monotonic()
        waiting = [cell for cell in cells if not cell.is_done(self.root)]
        done = {cell.name for cell in cells} - {cell.name for cell in waiting}
        running: dict[Future[float], tuple[Cell, float]] = {}
        took: dict[str, float] = {}
        failed: dict[str, str] = {}
        bar = tqdm(
            total=round(sum(seconds[cell.name] for cell in waiting)), desc=title, unit="s", dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}% |{bar}| {postfix}, {remaining} left at this rate",
        )  # fmt: skip
        with bar, self._pool() as pool:
            while waiting or running:
                for cell in [c for c in waiting if c.after is None or c.after in done | failed.keys()]:
                    late = time.monotonic() - begin + seconds[cell.name] > left
                    if late and not must(cell):
                        waiting = [c for c in waiting if cell.name not in (c.name, c.after)]
                    elif cell.after in failed:
                        failed[cell.name] = f"it begins with {cell.after}"
                        waiting.remove(cell)
                    elif len(running) < self.processes:
                        argv = self._arguments(cell, scale)
                        future = pool.submit(run_cell, self.mains[cell.trainer], argv, self.root / cell.name)
                        running[future] = (cell, time.monotonic())
                        waiting.remove(cell)
                if not running:
                    continue
                finished, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in finished:
                    cell, _ = running.pop(future)
                    try:
                        took[cell.name] = future.result()
                        done.add(cell.name)
                    except (TrainingError, BrokenProcessPool) as error:
                        failed[cell.name] = str(error)
                now = time.monotonic()
                part = sum(min(seconds[cell.name], now - begin) for cell, begin in running.values())
                bar.n = round(sum(seconds[name] for name in took) + part)
                bar.set_postfix_str(f"{len(done)} of {len(cells)} runs done; " + " and ".join(
                    cell.name for cell, _ in running.values()))  # fmt: skip
        if failed:
            lines = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
            raise TrainingError(f"{len(failed)} of {len(cells)} runs failed (the others are kept):\n{lines}")
        return took

    @contextmanager
    def _pool(self) -> Iterator[ProcessPoolExecutor]:
        threads = max(1, usable_cores() // self.processes)
        # OpenMP reads it when a process starts
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(threads)
        pool = ProcessPoolExecutor(self.processes, get_context("spawn"), initializer=_begin, initargs=(threads,))
        try:
            yield pool
        except KeyboardInterrupt:
            # Ctrl-C in a terminal reaches the runs by itself; what `kill` sends to this process alone does not
            for process in list(pool._processes.values()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)  # type: ignore[arg-type]
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            if before is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = before

    def _arguments(self, cell: Cell, scale: float) -> list[str]:
        """The command line of a cell: its recipe, or to go on where it was stopped."""
        folder = self.root / cell.name
        if checkpoints(folder):
            return ["--resume", str(folder)]
        folder.mkdir(parents=True, exist_ok=True)
        recipe = folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(cell.recipe(self.root, scale), sort_keys=False))
        return ["--config", str(recipe), "--out", str(folder)]


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)


def run_cell(main: Main, argv: list[str], folder: Path) -> float:
    """In a process of its own: runs a trainer and keeps what it prints in the run's folder; returns seconds."""
    begin = time.monotonic()
    with (folder / OUTPUT).open("a") as output, contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            status = main(argv)
        except KeyboardInterrupt:
            status = 130
        except BaseException as error:
            traceback.print_exc()
            raise TrainingError(f"{type(error).__name__}: {error} (all of it in {folder / OUTPUT})") from None
    if status:
        raise TrainingError(f"it ended with status {status}; see {folder / OUTPUT}")
    return time.monotonic() - begin
