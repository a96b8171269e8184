"""A table of models: rows of the recipe are data and a model, "paper resnet18".

In paper mode models are trained on a stored set of the paper's size, of which a fifth is for the test and a part of the
rest for validation; then on as many steps of a stream of such images; then on honest images, which vary in their lenses
and have noise.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import lensgen
from trainers.reproduction.budget import Level
from trainers.reproduction.cell import Cell
from trainers.reproduction.model_table.names import MODES, SEEDS, PaperRow, run_folder
from trainers.reproduction.model_table.report import Sections, Table, report
from trainers.reproduction.protocol import Protocol, Report, store


class Row(NamedTuple):
    """A line of the recipe's `rows`."""

    data: str
    model: str


class StoredSet(NamedTuple):
    """What is simulated before it is trained on; `changes` are of the preset, as of `--set`."""

    preset: str
    images: int
    changes: Sequence[str]


class ModelTableProtocol(Protocol):
    """Rows are data and models; the first ones are always done, with three seeds.

    Attributes:
        published: the paper's table, by the keys of the recipe's `models`.
        learning_rate: of the paper.
        about_figures: what is said after the tables.
    """

    has_models = True
    published: ClassVar[Mapping[str, PaperRow]]
    learning_rate: ClassVar[float]
    about_figures: ClassVar[str]

    @property
    @abstractmethod
    def about_modes(self) -> str:
        """What is said before the tables."""

    @abstractmethod
    def sections(self, root: Path, table: Table) -> Sections:
        """What the paper has besides its table."""

    def prepare(self, root: Path, cells: Sequence[Cell], progress: bool = True) -> None:
        """Simulates the stored sets of these runs that are not there yet."""
        for path, stored in self.stored_sets().items():
            if any(cell.options.get("data") == path for cell in cells):
                file = Path(path.format(root=root))
                store(file, stored.preset, stored.images, progress, stored.changes)

    def cells(self, level: Level) -> list[Cell]:
        """Every run of a level, those first that must be done."""
        runs = {cell.name: cell for cell in self.always()}
        for seed in range(level.seeds):
            for row in self.table_rows(level.rows):
                for cell in self.runs(row, seed):
                    runs.setdefault(cell.name, cell)
        return list(runs.values())

    def report(self, root: Path, level: Level) -> Report:
        """Evaluates the runs that are done, and draws the figures."""
        return report(root, self, level)

    def table_rows(self, count: int | None = None) -> list[Row]:
        """The first `count` rows, or all, of those models that were asked for."""
        return self.chosen(self.rows[:count])

    def chosen(self, lines: Sequence[str]) -> list[Row]:
        """Rows of those models that were asked for.

        Raises:
            KeyError: data or a model, in a row or under `only`, that the recipe does not have.
        """
        rows = [Row(*line.split()) for line in lines]
        chosen = self.recipe.get("only", self.recipe["models"])
        for model in (*chosen, *(row.model for row in rows)):
            if model not in self.recipe["models"]:
                raise KeyError(f"{model} in a row or under only; the models are {', '.join(self.recipe['models'])}")
        for row in rows:
            if self.data(row.data)["mode"] not in MODES:
                raise KeyError(f"the mode of {row.data}; it is one of {', '.join(MODES)}")
        return [row for row in rows if row.model in chosen]

    def data(self, name: str) -> dict[str, Any]:
        """`mode`, `preset` and the changes `set` of an entry of the recipe's `data`."""
        own = self.recipe["data"][name]
        like = self.data(own["like"]) if "like" in own else {"set": []}
        return {**like, **own, "set": [*like["set"], *own.get("set", ())]}

    def title(self, model: str) -> str:
        """Of a model, in tables."""
        return str(self.recipe["models"][model]["title"])

    def preset(self, name: str) -> lensgen.Preset:
        """Of an entry of `data`, with its changes."""
        return changed_preset(self.data(name))

    def noiseless(self, name: str) -> bool:
        """Whether the images of an entry of `data` have no noise."""
        return self.preset(name).recipe.noiseless

    def is_published(self, name: str) -> bool:
        """Whether the paper's figures may stand beside those of an entry of `data`."""
        return self.data(name)["mode"] == "paper"

    def always(self) -> Iterator[Cell]:
        """The first rows with three seeds."""
        # of models that are not among those always done the first row takes their place
        for row in self.table_rows(self.recipe["must"]) or self.table_rows()[:1]:
            for seed in SEEDS:
                yield from self.runs(row, seed)

    @property
    def epoch(self) -> int:
        """Images of the stored set that are trained on."""
        return int(self.recipe["stored"]) - held_out(self.recipe["all"])

    def stored_sets(self) -> dict[str, StoredSet]:
        """By their paths, as cells write them."""
        every = {name: self.data(name) for name in self.recipe["data"]}
        return {
            stored_path(name): StoredSet(data["preset"], self.recipe["stored"], data["set"])
            for name, data in every.items()
        }

    def runs(self, row: Row, seed: int) -> Iterator[Cell]:
        """The runs of a row with a seed; the last one is that of its figures."""
        recipe = self.recipe
        data, model = self.data(row.data), dict(recipe["models"][row.model])
        mode, trainer = data["mode"], model.pop("trainer")
        model.pop("title")
        source: Mapping[str, Any] = (
            {"data": stored_path(row.data), "images": self.epoch}
            if mode == "paper"
            else {"stream": True, "preset": data["preset"], "set": data["set"]}
        )
        steps = round(recipe["steps"] * recipe.get("share", {}).get(row.data, 1.0))
        options = {"seed": seed, **recipe["all"], **recipe["modes"][mode], **source, **model}
        # simulating costs little beside training: one kind stands for all data
        yield Cell(run_folder(*row, seed), trainer, row.model, steps, options)

    def beside(self, root: Path, row: Row, seeds: int) -> dict[str, Any]:
        """What a row of the table says besides, by the runs that are done of so many seeds."""
        return {}


def changed_preset(data: Mapping[str, Any]) -> lensgen.Preset:
    """The `preset` of an entry of a recipe with its changes `set`."""
    return lensgen.load_preset(data["preset"]).override(lensgen.parse_overrides(data["set"]))


def held_out(options: Mapping[str, Any]) -> int:
    """Images of a stored set that a run with these options does not train on."""
    return sum(int(options["validation"][part]) for part in ("fit", "score", "test"))


def stored_path(name: str) -> str:
    """Of a stored set, as cells write it."""
    return f"{{root}}/sets/{name}.h5"
