"""What `trainers.reproduce` asks of a paper: which runs there are, which of them must be done, and what they show."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

import lensgen
from trainers.logs import write_json
from trainers.reproduction.budget import Level, Plan
from trainers.reproduction.cell import Cell

_REHEARSAL_STEPS = 24


@dataclass(frozen=True)
class Report:
    """What the runs that are done show.

    Attributes:
        results: for `table.json`.
        introduction: a sentence or two after the command line in `table.md`.
        lines: of `table.md` below that.
        figures: files in the folder of the reproduction.
    """

    results: Mapping[str, Any]
    introduction: str
    lines: Sequence[str]
    figures: Sequence[str]


@dataclass(frozen=True)
class Protocol(ABC):
    """A paper's runs; the recipe `reproduce_NAME_*` fixes them.

    Attributes:
        recipe: `levels`, `rows`, `processes`, steps at scale 1, and the options of each trainer.
        name: on the command line.
        paper: where it can be found.
        subject: what it is about.
        has_models: whether the recipe has `models`, among which `--models` chooses by the key `only`.
    """

    recipe: Mapping[str, Any]
    name: ClassVar[str]
    paper: ClassVar[str]
    subject: ClassVar[str]
    has_models: ClassVar[bool] = False

    @property
    def levels(self) -> list[Level]:
        """How much of it is done, the most first."""
        return [Level(**level) for level in self.recipe["levels"]]

    @property
    def rows(self) -> list[str]:
        """All rows, in the order in which a budget reaches them."""
        return [str(row) for row in self.recipe["rows"]]

    def prepare(self, root: Path, cells: Sequence[Cell], progress: bool = True) -> None:
        """Simulates the stored sets of these runs that are not there yet."""
        for cell in cells:
            if cell.options.get("data"):
                path = Path(cell.options["data"].format(root=root))
                store(path, cell.options["preset"], self.recipe["stored"], progress)

    @abstractmethod
    def cells(self, level: Level) -> list[Cell]:
        """Every run of a level, those first that must be done; each after the one that it begins with."""

    @abstractmethod
    def always(self) -> Iterator[Cell]:
        """The runs that are done however late it is; of them the names count."""

    def must(self, cell: Cell) -> bool:
        """Whether a run is one of `always`."""
        return cell.name in self._always

    @cached_property
    def _always(self) -> frozenset[str]:
        return frozenset(cell.name for cell in self.always())

    @abstractmethod
    def report(self, root: Path, level: Level) -> Report:
        """Evaluates the runs in `root` that are done, and draws the figures there."""

    def rehearsal(self, level: Level, known: Container[str] = ()) -> list[Cell]:
        """One short run of each kind that a level has and that is not `known`, to be timed."""
        first: dict[str, Cell] = {}
        for cell in self.cells(level):
            if cell.kind not in known:
                first.setdefault(cell.kind, cell)
        # short runs begin with nothing: that costs the same
        return [
            Cell(f"rehearsal/{number}", cell.trainer, kind, _REHEARSAL_STEPS, cell.options)
            for number, (kind, cell) in enumerate(first.items())
        ]

    def write_results(self, root: Path, plan: Plan, failed: Mapping[str, str]) -> None:
        """`table.json`, `table.md` and figures of what is done, into `root`, and the table on the terminal.

        Args:
            failed: runs that ended with an error, by name; only such as need not be done.
        """
        report = self.report(root, plan.level)
        results = {
            "paper": self.paper,
            "budget_minutes": plan.budget,
            "scale": plan.level.scale,
            "seeds": plan.level.seeds,
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "runs_at_a_time": plan.processes,
            "failed": dict(failed),
            **report.results,
        }
        write_json(root / "table.json", results)
        chosen = " ".join(["", "--models", *self.recipe["only"]]) if "only" in self.recipe else ""
        text = "\n".join(
            [
                f"# {self.paper}: {self.subject}",
                "",
                f"`python -m trainers.reproduce {self.name} --budget {plan.budget:g}{chosen}` at "
                f"{plan.level.scale:.2g} of the protocol's steps. {report.introduction}",
                "",
                *[f"Failed: {name}: {reason}\n" for name, reason in failed.items()],
                *report.lines,
                "",
            ]
        )
        (root / "table.md").write_text(text)
        print(f"\n{text}\n{root}/table.md, table.json, {', '.join(report.figures)}")


def store(path: Path, preset: str, images: int, progress: bool, changes: Sequence[str] = ()) -> None:
    """Simulates a stored set of a preset's training images, with changes as of `--set`, if it is not there yet."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        overrides = lensgen.parse_overrides(changes)
        lensgen.benchmark(preset, "train", images, overrides=overrides).save(path, progress)
