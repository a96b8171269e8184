"""Everything that the runs show, in the order of `table.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainers.reproduction.budget import Level
from trainers.reproduction.estimates import DIFFERENCES, INTERVALS
from trainers.reproduction.model_table.figures import draw_learning, draw_table
from trainers.reproduction.model_table.names import EPOCHS, SEEDS, run_folders
from trainers.reproduction.model_table.results import collect, differences, runs_of
from trainers.reproduction.model_table.tables import differences_as_markdown, table_as_markdown
from trainers.reproduction.protocol import Report

if TYPE_CHECKING:
    from trainers.reproduction.model_table.protocol import ModelTableProtocol


@dataclass(frozen=True)
class Table:
    """What a paper's own sections can say something about.

    Attributes:
        seeds: how many at most.
        rows, gaps: as `results.collect` and `results.differences` give them.
    """

    seeds: int
    rows: Sequence[Mapping[str, Any]]
    gaps: Sequence[Mapping[str, Any]]

    @property
    def every_data(self) -> list[str]:
        """In the order of the rows."""
        return list(dict.fromkeys(row["data"] for row in self.rows))


@dataclass(frozen=True)
class Sections:
    """What a paper has besides its table: `lines` of `table.md`, `results` for `table.json`, files of `figures`."""

    lines: Sequence[str]
    results: Mapping[str, Any] = field(default_factory=dict)
    figures: Sequence[str] = ()


def report(root: Path, protocol: ModelTableProtocol, level: Level) -> Report:
    """Tables of each data, differences, the paper's own sections; draws `table.png` and `learning_*.png`."""
    seeds = max(level.seeds, len(SEEDS))
    table = Table(seeds, collect(root, protocol, seeds), differences(root, protocol, seeds))
    own = protocol.sections(root, table)
    titles = {model: protocol.title(model) for model in protocol.recipe["models"]}
    lines = [protocol.about_modes, ""]
    for data in table.every_data:
        lines += [f"## {data}: {_data(protocol, data)}", ""]
        lines += table_as_markdown([row for row in table.rows if row["data"] == data])
    lines += [
        f"{protocol.about_figures} Seconds per epoch are of {protocol.epoch:,} images{_device(protocol)}.",
        "",
        "## Differences on the same test images",
        "",
        DIFFERENCES,
        "",
        *differences_as_markdown(table.gaps, titles),
        *own.lines,
        *_not_measured(table.rows),
    ]
    epochs = max((row["epochs"] for row in table.rows if row["seeds"]), default=0.0)
    introduction = (
        f"Figures are of test images, by the checkpoint that was best in validation, after {epochs:.1f} of the paper's "
        f"{EPOCHS} epochs. {_learning_rates(protocol, table.rows)} {INTERVALS}"
    )
    results = {"rows": table.rows, "differences": table.gaps, **own.results}
    return Report(results, introduction, lines, [*_draw(root, table), *own.figures])


def _draw(root: Path, table: Table) -> list[str]:
    figures = []
    if any(row["seeds"] for row in table.rows):
        figures.append("table.png")
        draw_table(root / figures[-1], table.rows)
    for data in table.every_data:
        reached = [row for row in table.rows if row["data"] == data and row["seeds"]]
        if reached:
            figures.append(f"learning_{data}.png")
            runs = {
                row["model"]: list(runs_of(root, run_folders(data, row["model"], table.seeds)).values())
                for row in reached
            }
            draw_learning(root / figures[-1], reached, runs)
    return figures


def _data(protocol: ModelTableProtocol, name: str) -> str:
    data = protocol.data(name)
    noise = ", without noise" if protocol.noiseless(name) else ""
    kind = f"{protocol.recipe['stored']:,} stored images" if data["mode"] == "paper" else "a stream"
    return f"{data['mode']} mode, {preset_as_text(data)}{noise}, {kind}"


def preset_as_text(data: Mapping[str, Any]) -> str:
    """The `preset` of an entry of a recipe, and its changes `set`."""
    preset = f"`{data['preset']}`"
    if len(data["set"]) > 1:
        return f"{preset} with {len(data['set'])} changes, see recipe.yaml"
    return f"{preset} with {data['set'][0]}" if data["set"] else preset


def _learning_rates(protocol: ModelTableProtocol, rows: Sequence[Mapping[str, Any]]) -> str:
    """Those of paper mode that were reached; the most frequent one last."""
    reached = {(row["data"], row["model"]) for row in rows if row["seeds"] and row["mode"] == "paper"}
    rates: dict[str, set[str]] = {}
    for row in protocol.table_rows():
        if (row.data, row.model) in reached:
            *_, training = protocol.runs(row, 0)
            rates.setdefault(f"{float(training.options['optimizer']['lr']):g}", set()).add(protocol.title(row.model))
    if not rates:
        return ""
    *own, (usual, _) = sorted(rates.items(), key=lambda item: len(item[1]))
    said = "".join(f"{rate} for {' and '.join(sorted(titles))}, " for rate, titles in own)
    return (
        f"The learning rate in paper mode, {protocol.learning_rate:g} in the paper, is {said}{usual} for all"
        f"{' others' if own else ''}."
    )


def _device(protocol: ModelTableProtocol) -> str:
    timed = " in a model's fastest run"
    if torch.cuda.is_available():
        return timed
    processes = protocol.recipe["processes"]
    return f"{timed}, {processes} runs at a time on a CPU, each on its share of the cores"


def _not_measured(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was left out, by data."""
    missing: dict[str, list[str]] = {}
    for row in rows:
        if not row["seeds"]:
            missing.setdefault(row["data"], []).append(row["title"])
    if not missing or torch.cuda.is_available():
        return []
    return [
        "Not measured within this budget, nor on a GPU:",
        "",
        *(f"- {data}: {'; '.join(titles)}" for data, titles in missing.items()),
    ]
