"""How much of a protocol a budget allows: decided once, before the first run, from what a step of each kind costs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.errors import ConfigError
from trainers.reproduction.cell import Cell

# Of the budget that is left when the plan is made: runs slow down when the machine has other work to do.
_SAFETY = 0.85


@dataclass(frozen=True)
class Cost:
    """What a run of a kind takes [s]: `fixed` for data, validation, test and figures, and `step` for each step."""

    fixed: float
    step: float

    def of(self, steps: int) -> float:
        return self.fixed + steps * self.step


@dataclass(frozen=True)
class Level:
    """How much of a protocol is done.

    Attributes:
        scale: of the steps of every run.
        seeds: how many.
        rows: how many of the protocol's rows, in its order.
    """

    scale: float
    seeds: int
    rows: int


@dataclass(frozen=True)
class Plan:
    """What was decided before the first run, kept in `plan.json`.

    Attributes:
        budget: minutes asked for.
        estimate: minutes that the runs were expected to take.
        processes: runs at a time.
        costs: kind -> Cost.
    """

    paper: str
    budget: float
    level: Level
    estimate: float
    processes: int
    costs: dict[str, Cost]

    def write(self, path: Path) -> None:
        """Writes it whole or not at all."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Raises ConfigError for a file that is no plan."""
        try:
            saved: dict[str, Any] = json.loads(path.read_text())
            costs = {kind: Cost(**cost) for kind, cost in saved.pop("costs").items()}
            return cls(level=Level(**saved.pop("level")), costs=costs, **saved)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no plan of a reproduction ({error!r}); give another --out.") from error


def makespan(cells: Sequence[Cell], scale: float, costs: dict[str, Cost], processes: int) -> float:
    """Seconds that these runs take, so many at a time: all the work shared out evenly, or the longest chain."""
    seconds = {cell.name: costs[cell.kind].of(cell.steps_at(scale)) for cell in cells}
    chains = [seconds[cell.name] + (seconds.get(cell.after, 0.0) if cell.after else 0.0) for cell in cells]
    return max(sum(seconds.values()) / processes, max(chains, default=0.0))


def choose_level(
    cells_of: Callable[[Level], Sequence[Cell]],
    levels: Sequence[Level],
    costs: dict[str, Cost],
    processes: int,
    seconds: float,
) -> tuple[Level, float]:
    """The first of `levels` that fits into `seconds`, or the last one at the scale that does, and how long it takes.

    Steps are counted for all runs alike, so no row has more training than its protocol gives it beside the others. What
    must always be done is done however small the budget is: at 8 steps a run, if it comes to that.
    """
    for level in levels:
        estimate = makespan(cells_of(level), level.scale, costs, processes)
        if estimate <= _SAFETY * seconds:
            return level, estimate
    last = levels[-1]
    low, high = 0.0, last.scale
    for _ in range(40):
        middle = 0.5 * (low + high)
        fits = makespan(cells_of(last), middle, costs, processes) <= _SAFETY * seconds
        low, high = (middle, high) if fits else (low, middle)
    level = dataclasses.replace(last, scale=low)
    return level, makespan(cells_of(level), low, costs, processes)
