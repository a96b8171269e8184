"""arXiv 2512.06642: masked autoencoders of lenses, fine-tuned to tell dark matter and to sharpen images.

Rows are ways to begin: from scratch, or pretrained at a mask ratio. Each is fine-tuned on both tasks in both modes:
`paper`, the published recipe of the images in a stored set of the paper's size, and `honest`, a stream of varied lenses
with noise and nothing but dark matter to tell the classes. Beside them, at equal steps, a classifier that is trained
from scratch on the stored set, on a smaller one that it sees as often as papers see theirs, and on the stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.reproduction.budget import Level
from trainers.reproduction.cell import Cell
from trainers.reproduction.mae.names import COMPARISON_SEEDS, MODES, MUST, PRETRAINING, SCRATCH, SOURCES, row_folder
from trainers.reproduction.mae.report import report
from trainers.reproduction.protocol import Protocol, Report


class MAEProtocol(Protocol):
    """Rows are ways to begin, in both modes and of both tasks; beside them stored sets against the stream."""

    name = "mae"
    paper = "arXiv 2512.06642"
    subject = "masked autoencoders of lenses"

    def cells(self, level: Level) -> list[Cell]:
        """Every run of a level, those first that must be done."""
        runs = [*self._table(0, self.rows[:MUST]), *self._comparison(level.scale)]
        runs += self._table(0, self.rows[MUST : level.rows])
        for seed in range(1, level.seeds):
            runs += self._table(seed, self.rows[: level.rows])
        return runs

    def always(self) -> Iterator[Cell]:
        """The first seed of the first rows, and the comparison."""
        yield from self._table(0, self.rows[:MUST])
        yield from self._comparison(1.0)

    def report(self, root: Path, level: Level) -> Report:
        """Evaluates the runs that are done, and draws the figures."""
        return report(root, self, level)

    def _table(self, seed: int, rows: Sequence[str]) -> Iterator[Cell]:
        for row in rows:
            for mode in MODES:
                yield from self._row(mode, seed, row)

    def _row(self, mode: str, seed: int, row: str) -> Iterator[Cell]:
        folder = f"{mode}/seed{seed}/{row_folder(row)}"
        pretrained = None
        if row != SCRATCH:
            pretrained = f"{folder}/pretrain"
            ratio = float(row)
            # a ratio that is not among the first rows hides more than the lowest of them: it costs no more
            kind = f"mae {mode} {row if row in self.rows[:MUST] else self.rows[1]}"
            # another stream than that of fine-tuning: no image is seen in both
            yield self._cell(pretrained, "mae", kind, mode, PRETRAINING + seed, {"mask_ratio": ratio})
        for task in ("classify", "superres"):
            yield self._cell(f"{folder}/{task}", task, f"{task} {mode}", mode, seed, {}, pretrained)

    def _comparison(self, scale: float) -> Iterator[Cell]:
        recipe = self.recipe["comparison"]
        batch = recipe["batch_size"]
        scaled = max(batch, round(self.recipe["steps"]["comparison"] * scale * batch / self.recipe["repeats"]))
        more: dict[str, dict[str, Any]] = {
            "stored_paper_size": {},
            "stored_scaled": {"images": min(scaled, self.recipe["modes"]["paper"]["images"])},
            "stream": {"stream": True, "data": None, "images": None},
        }
        for seed in COMPARISON_SEEDS:
            for source in SOURCES:
                options = {**recipe, **more[source]}
                yield self._cell(
                    f"comparison/seed{seed}/{source}", "classify", f"comparison {source}", "paper", seed, options,
                    steps="comparison",
                )  # fmt: skip

    def _cell(
        self,
        name: str,
        trainer: str,
        kind: str,
        mode: str,
        seed: int,
        more: Mapping[str, Any],
        after: str | None = None,
        steps: str | None = None,
    ) -> Cell:
        recipe = self.recipe
        # what comes later is the more particular
        options = {"seed": seed, **recipe["all"], **recipe["modes"][mode]}
        if steps is None:
            options |= {**recipe[trainer].get("all", {}), **recipe[trainer].get(mode, {})}
        return Cell(name, trainer, kind, recipe["steps"][steps or trainer], {**options, **more}, after)
