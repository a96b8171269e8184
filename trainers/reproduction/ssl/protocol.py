"""Self-supervised learning for lenses (NeurIPS ML4PS 2023): contrastive, BYOL, SimSiam, DINO, and the axion's mass.

A row of the recipe is a task, data and an encoder, "ssl paper_b vit", and stands for all methods. `ssl` pretrains, and
sets the linear probe of the encoder beside that of the untrained one; `classify` and `regress` fine-tune it, and train
the same network from scratch under the method's own augmentation. In paper mode images are of the published recipes, in
stored sets of the paper's size; in honest mode they are streams of varied lenses. Beside them a control that must
collapse, and views that are simulated against views that are made from one image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trainers.reproduction.budget import Level
from trainers.reproduction.cell import Cell
from trainers.reproduction.protocol import Protocol, Report
from trainers.reproduction.ssl.detectability import simulate_detectability
from trainers.reproduction.ssl.names import (
    PRETRAINING,
    SEEDS,
    comparison_folder,
    control_folder,
    pretraining_folder,
    scratch_folder,
    task_folder,
)
from trainers.reproduction.ssl.report import report

TASKS = ("ssl", "classify", "regress")
_STREAMED = {"stream": True, "data": None, "images": None}


class Row(NamedTuple):
    """A line of the recipe's `rows`."""

    task: str
    data: str
    encoder: str


class SSLProtocol(Protocol):
    """Rows are tasks, data and encoders, each with all methods; beside them the control and the two kinds of views."""

    name = "ssl"
    paper = "NeurIPS ML4PS 2023"
    subject = "self-supervised learning for lenses"

    def prepare(self, root: Path, cells: Sequence[Cell], progress: bool = True) -> None:
        """Simulates the stored sets of these runs, and detectability, if they are not there yet."""
        super().prepare(root, cells, progress)
        comparison = self.recipe["comparison"]
        for name in comparison["data"]:
            data = self.recipe["data"][name]
            preset = data["preset"], data.get("set", ())
            simulate_detectability(root, name, *preset, comparison["detectability"], progress)

    def rehearsal(self, level: Level, known: Container[str] = ()) -> list[Cell]:
        """One short run of each kind that is not `known`, on a stream: it costs the same, and no set is stored yet."""
        return [
            dataclasses.replace(cell, options={**cell.options, **_STREAMED}) for cell in super().rehearsal(level, known)
        ]

    def cells(self, level: Level) -> list[Cell]:
        """Every run of a level, those first that must be done."""
        runs = {cell.name: cell for cell in self.always()}
        for seed in range(level.seeds):
            for row in self._rows(level.rows):
                for cell in self._row(row, seed):
                    runs.setdefault(cell.name, cell)
        return list(runs.values())

    def report(self, root: Path, level: Level) -> Report:
        """Evaluates the runs that are done, and draws the figures."""
        return report(root, self, level)

    @property
    def methods(self) -> list[str]:
        """Their names, in the order of the recipe."""
        return list(self.recipe["methods"])

    def augmentation(self, task: str, method: str) -> str:
        """Under which "classify" or "regress" sees its images: the method's own, or what the recipe has instead."""
        replaced: Mapping[str, str] = self.recipe["augment"][task]
        return replaced.get(method, method)

    def places(self, task: str) -> list[tuple[str, str]]:
        """Data and encoder of the rows with this task, in their order."""
        return [(row.data, row.encoder) for row in self._rows(len(self.rows)) if row.task == task]

    def _rows(self, count: int) -> list[Row]:
        rows = [Row(*line.split()) for line in self.rows[:count]]
        for row in rows:
            if row.task not in TASKS:
                raise KeyError(f"{row.task} in a row; the tasks are {', '.join(TASKS)}")
        return rows

    def always(self) -> Iterator[Cell]:
        """The first rows with three seeds, the control, the comparison."""
        for row in self._rows(self.recipe["must"]):
            for seed in SEEDS:
                yield from self._row(row, seed)
        yield self._control()
        yield from self._comparison()

    def _row(self, row: Row, seed: int) -> Iterator[Cell]:
        for method in self.methods:
            yield self._pretraining(row, seed, method)
            if row.task != "ssl":
                yield from self._task(row, seed, method)

    def _pretraining(self, row: Row, seed: int, method: str) -> Cell:
        # Simulating costs little beside training, so that one kind stands for all data; a run that takes longer after
        # all, and need not be done, is left out when its time comes.
        return self._cell(
            pretraining_folder(row.data, row.encoder, seed, method), "ssl", f"ssl {method} {row.encoder}", row.data,
            # another stream than that of fine-tuning: no image is seen in both
            PRETRAINING + seed, {**self._encoder(row.encoder), **self._method(method)},
        )  # fmt: skip

    def _task(self, row: Row, seed: int, method: str) -> Iterator[Cell]:
        """From scratch and from the encoder: with equal steps, images and augmentation."""
        data, encoder = row.data, row.encoder
        kind, augmentation = f"{row.task} {encoder}", self.augmentation(row.task, method)
        options = {"augment": augmentation}
        scratch = scratch_folder(data, encoder, seed, augmentation, row.task)
        yield self._cell(scratch, row.task, kind, data, seed, {**self._encoder(encoder), **options})
        yield self._cell(
            task_folder(data, encoder, seed, method, row.task), row.task, kind, data, seed, options,
            after=pretraining_folder(data, encoder, seed, method),
        )  # fmt: skip

    def _control(self) -> Cell:
        first, options = self._rows(1)[0], dict(self.recipe["control"])
        more = {**self._encoder(first.encoder), **self._method(options["method"]), **options}
        kind = f"ssl {options['method']} {first.encoder}"
        return self._cell(control_folder(0), "ssl", kind, first.data, PRETRAINING, more)

    def comparison(self, data: str, views: str) -> list[Cell]:
        """The runs of three seeds with one kind of views; a row's own, where they have its options."""
        recipe = self.recipe["comparison"]
        if self.recipe["data"][data].get("data"):
            raise ValueError(f"comparison.data {data} is a stored set, whose images cannot be simulated anew")
        kind = f"{views} {data}"
        runs = []
        for seed in SEEDS:
            usual = self._pretraining(Row("ssl", data, recipe["encoder"]), seed, recipe["method"])
            options = {**usual.options, **recipe["views"][views]}
            name = comparison_folder(data, seed, views)
            own = options != usual.options
            runs.append(dataclasses.replace(usual, name=name, kind=kind, options=options) if own else usual)
        return runs

    def _comparison(self) -> Iterator[Cell]:
        recipe = self.recipe["comparison"]
        for data in recipe["data"]:
            for runs in zip(*(self.comparison(data, views) for views in recipe["views"]), strict=True):
                yield from runs

    def _encoder(self, name: str) -> Mapping[str, Any]:
        return self.recipe["encoders"][name]

    def _method(self, name: str) -> dict[str, Any]:
        return {"method": name, **self.recipe["methods"][name]}

    def _cell(
        self,
        name: str,
        trainer: str,
        kind: str,
        data: str,
        seed: int,
        more: Mapping[str, Any],
        after: str | None = None,
    ) -> Cell:
        recipe = self.recipe
        own = recipe[trainer]
        mode = data.partition("_")[0]
        # what comes later is the more particular
        options = {"seed": seed, **recipe["all"], **recipe["data"][data], **own.get("all", {}), **own.get(mode, {})}
        return Cell(name, trainer, kind, recipe["steps"][trainer], {**options, **more}, after)
