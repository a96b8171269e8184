"""Lens-JEPA (ML4PS 2025): encoders that predict features, one of which knows the lens equation.

A model with `pretrain` is pretrained on the `pretrain` of its data, and then fine-tuned; beside it stands the same
network from scratch. Besides, pretrained encoders are compared without being fine-tuned, by linear probes (`probes`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainers.reproduction.cell import Cell
from trainers.reproduction.lens_jepa.names import PAPER, PRETRAINING, pretraining_folder, pretraining_folders
from trainers.reproduction.lens_jepa.report import ABOUT_FIGURES, about_modes, sections
from trainers.reproduction.model_table.names import SEEDS
from trainers.reproduction.model_table.protocol import ModelTableProtocol, Row, StoredSet, held_out, stored_path
from trainers.reproduction.model_table.report import Sections, Table
from trainers.reproduction.runs import finished, images


class LensJEPAProtocol(ModelTableProtocol):
    """A table of models, some of them pretrained; probes of pretrained encoders are always done, with three seeds."""

    name = "lens-jepa"
    paper = "Lens-JEPA, ML4PS 2025"
    subject = "a JEPA whose encoder knows the lens equation"
    published = PAPER
    learning_rate = 1e-5
    about_figures = ABOUT_FIGURES

    @property
    def about_modes(self) -> str:
        """The faults that are kept, those that are not, and how pixels differ from the paper's."""
        return about_modes(self)

    def sections(self, root: Path, table: Table) -> Sections:
        """Pretrained encoders compared, and what they know of the lens."""
        return sections(root, self, table)

    def always(self) -> Iterator[Cell]:
        """The pretraining that is probed, then the first rows, with three seeds."""
        for row in self._probed():
            for seed in SEEDS:
                yield self._pretraining(row, seed)
        yield from super().always()

    def runs(self, row: Row, seed: int) -> Iterator[Cell]:
        """The pretraining of a row's model, if it has any, and its training."""
        [training] = super().runs(row, seed)
        options = {name: value for name, value in training.options.items() if name != "pretrain"}
        if options == training.options:
            yield training
        else:
            before = self._pretraining(row, seed)
            yield before
            yield dataclasses.replace(training, options=options, after=before.name)

    def beside(self, root: Path, row: Row, seeds: int) -> dict[str, Any]:
        """`pretrained_on`: how many images its pretraining has seen."""
        before = finished(root, pretraining_folders(*row, seeds)) if self._encoder(row.model) else []
        return {"pretrained_on": images(before)} if before else {}

    def stored_sets(self) -> dict[str, StoredSet]:
        """Those to train on, and those to pretrain on."""
        every = {name: self.pretraining_data(name) for name in self.recipe["data"]}
        more = held_out(self.recipe["pretrain"]["all"])
        return super().stored_sets() | {
            _pretraining_path(name): StoredSet(data["preset"], data["images"] + more, data["set"])
            for name, data in every.items()
            if "images" in data
        }

    def pretraining_data(self, name: str) -> dict[str, Any]:
        """What models are pretrained on for an entry of `data`: `preset`, `set` and, of a stored set, `images`."""
        return {"set": [], **self.data(name)["pretrain"]}

    def pretraining_rows(self) -> list[Row]:
        """Data and models whose pretrained encoders are probed, by themselves or because they are fine-tuned too."""
        rows = [row for row in self.table_rows() if self._encoder(row.model)]
        return list(dict.fromkeys([*self._probed(), *rows]))

    def _probed(self) -> list[Row]:
        rows = self.chosen(self.recipe["probes"])
        for row in rows:
            if not self._encoder(row.model):
                raise KeyError(f"pretrain of {row.model}, which is one of the probes")
        return rows

    def _encoder(self, model: str) -> Mapping[str, Any]:
        """What is pretrained of a model; empty for none."""
        pretrained: Mapping[str, Any] = self.recipe["models"][model].get("pretrain", {})
        return pretrained

    def _pretraining(self, row: Row, seed: int) -> Cell:
        recipe, model, data = self.recipe["pretrain"], self.recipe["models"][row.model], self.pretraining_data(row.data)
        source: Mapping[str, Any] = (
            {"data": _pretraining_path(row.data), "images": data["images"]}
            if "images" in data
            else {"stream": True, "preset": data["preset"], "set": data["set"]}
        )
        options = {
            "seed": PRETRAINING + seed,  # of a stream other images than those of fine-tuning
            **recipe["all"],
            **source,
            "vit": model["vit"],
            **model["pretrain"],
        }
        name = pretraining_folder(*row, seed)
        return Cell(name, "jepa", f"{row.model} pretrain", recipe["steps"], options)


def _pretraining_path(name: str) -> str:
    return stored_path(f"{name}_pretrain")
