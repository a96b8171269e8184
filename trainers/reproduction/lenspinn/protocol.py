"""LensPINN (ML4PS 2024): networks that know the lens equation beside those that do not.

A row of the recipe is data and a model, "paper lenspinn_small". In paper mode models are trained on a stored set of the
paper's size, of which a fifth is for the test and a part of the rest for validation; then on as many steps of a stream
of such images; then on honest images, which vary in their lenses and have noise. Beside the paper's models there are
LensPINN without its preprocessing, without its physics (table 2: a CNN alone) and with the published rule of nearest
pixels; and data with and without noise, which the preprocessing amplifies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lensgen
from trainers.reproduction.budget import Level
from trainers.reproduction.cell import Cell
from trainers.reproduction.lenspinn.names import MODES, SEEDS, run_folder
from trainers.reproduction.lenspinn.report import report
from trainers.reproduction.protocol import Protocol, Report, store


class Row(NamedTuple):
    """A line of the recipe's `rows`."""

    data: str
    model: str


class LensPINNProtocol(Protocol):
    """Rows are data and models; the first ones are always done, with three seeds."""

    name = "lenspinn"
    paper = "LensPINN, ML4PS 2024"
    subject = "networks that know the lens equation"
    has_models = True

    def prepare(self, root: Path, cells: Sequence[Cell], progress: bool = True) -> None:
        """Simulates the stored sets of these runs that are not there yet."""
        for name in self.recipe["data"]:
            path, data = self._stored(name), self.data(name)
            if any(cell.options.get("data") == path for cell in cells):
                store(Path(path.format(root=root)), data["preset"], self.recipe["stored"], progress, data["set"])

    def cells(self, level: Level) -> list[Cell]:
        """Every run of a level, those first that must be done."""
        runs = {cell.name: cell for cell in self.always()}
        for seed in range(level.seeds):
            for row in self.table_rows(level.rows):
                runs.setdefault(run_folder(*row, seed), self._cell(row, seed))
        return list(runs.values())

    def report(self, root: Path, level: Level) -> Report:
        """Evaluates the runs that are done, and draws the figures."""
        return report(root, self, level)

    def table_rows(self, count: int | None = None) -> list[Row]:
        """The first `count` rows, or all, of those models that were asked for.

        Raises:
            KeyError: data or a model, in a row or under `only`, that the recipe does not have.
        """
        rows = [Row(*line.split()) for line in self.rows[:count]]
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

    def noiseless(self, name: str) -> bool:
        """Whether the images of an entry of `data` have no noise."""
        data = self.data(name)
        return lensgen.load_preset(data["preset"]).override(lensgen.parse_overrides(data["set"])).recipe.noiseless

    def always(self) -> Iterator[Cell]:
        """The first rows with three seeds."""
        # of models that are not among those always done the first row takes their place
        for row in self.table_rows(self.recipe["must"]) or self.table_rows()[:1]:
            for seed in SEEDS:
                yield self._cell(row, seed)

    @property
    def epoch(self) -> int:
        """Images of the stored set that are trained on."""
        held_out = sum(self.recipe["all"]["validation"][part] for part in ("fit", "score", "test"))
        return int(self.recipe["stored"]) - int(held_out)

    def _stored(self, data: str) -> str:
        """The path of a stored set, as cells write it."""
        return f"{{root}}/sets/{data}.h5"

    def _cell(self, row: Row, seed: int) -> Cell:
        recipe = self.recipe
        data, model = self.data(row.data), dict(recipe["models"][row.model])
        mode, trainer = data["mode"], model.pop("trainer")
        model.pop("title")
        source: Mapping[str, Any] = (
            {"data": self._stored(row.data), "images": self.epoch}
            if mode == "paper"
            else {"stream": True, "preset": data["preset"], "set": data["set"]}
        )
        steps = round(recipe["steps"] * recipe.get("share", {}).get(row.data, 1.0))
        options = {"seed": seed, **recipe["all"], **recipe["modes"][mode], **source, **model}
        # simulating costs little beside training: one kind stands for all data
        return Cell(run_folder(*row, seed), trainer, row.model, steps, options)
