"""Everything that the runs show, in the order of `table.md`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import lensgen
from trainers.reproduction.budget import Level
from trainers.reproduction.estimates import DIFFERENCES, INTERVALS
from trainers.reproduction.lenspinn.figures import draw_learning, draw_table
from trainers.reproduction.lenspinn.names import SEEDS
from trainers.reproduction.lenspinn.results import collect, differences, runs_of
from trainers.reproduction.lenspinn.tables import (
    differences_as_markdown,
    preprocessing_as_markdown,
    radii_as_markdown,
    table_as_markdown,
)
from trainers.reproduction.protocol import Report

if TYPE_CHECKING:
    from trainers.reproduction.lenspinn.protocol import LensPINNProtocol

_PREPROCESSING = ("lenspinn_small", "lenspinn_small_plain")


def report(root: Path, protocol: LensPINNProtocol, level: Level) -> Report:
    """Tables of each data, differences, preprocessing and noise, theta_E; draws `table.png` and `learning_*.png`."""
    seeds = max(level.seeds, len(SEEDS))
    rows = collect(root, protocol, seeds)
    gaps = differences(root, protocol, seeds)
    figures = []
    if any(row["seeds"] for row in rows):
        figures.append("table.png")
        draw_table(root / figures[-1], rows)
    every = list(dict.fromkeys(row["data"] for row in rows))
    for data in every:
        reached = [row for row in rows if row["data"] == data and row["seeds"]]
        if reached:
            figures.append(f"learning_{data}.png")
            runs = {row["model"]: list(runs_of(root, data, row["model"], seeds).values()) for row in reached}
            draw_learning(root / figures[-1], reached, runs)
    lines = []
    for data in every:
        lines += [f"## {data}: {_data(protocol, data)}", ""]
        lines += table_as_markdown([row for row in rows if row["data"] == data])
    titles = {name: model["title"] for name, model in protocol.recipe["models"].items()}
    lines += [
        "Where an image has one label micro F1 is the accuracy, whatever the classifier; the paper's two columns "
        "differ, so that one of them is something else. Seconds per epoch are of "
        f"{protocol.epoch:,} images{_device(protocol)}.",
        "",
        "## Differences on the same test images",
        "",
        DIFFERENCES,
        "",
        *differences_as_markdown(gaps, titles),
        "## The preprocessing, with noise and without",
        "",
        "It takes second derivatives of the logarithm of the brightness. The published sets have no noise.",
        "",
        *preprocessing_as_markdown(rows, gaps, _PREPROCESSING),
        "## Einstein radii",
        "",
        "No label tells them: LensPINN is to find them by the compactness of its source. It cannot with the published "
        "rule of nearest pixels, through which no gradient comes.",
        "",
        *radii_as_markdown(rows),
        *_not_measured(rows),
    ]
    introduction = f"Figures are of test images, by the checkpoint that was best in validation. {INTERVALS}"
    return Report({"rows": rows, "differences": gaps}, introduction, lines, figures)


def _data(protocol: LensPINNProtocol, name: str) -> str:
    data = protocol.data(name)
    preset = f"`{data['preset']}`"
    if len(data["set"]) > 1:
        preset += f" with {len(data['set'])} changes, see recipe.yaml"
    elif data["set"]:
        preset += f" with {data['set'][0]}"
    made = lensgen.load_preset(data["preset"]).override(lensgen.parse_overrides(data["set"]))
    noise = ", without noise" if made.recipe.noiseless else ""
    kind = f"{protocol.recipe['stored']:,} stored images" if data["mode"] == "paper" else "a stream"
    return f"{data['mode']} mode, {preset}{noise}, {kind}"


def _device(protocol: LensPINNProtocol) -> str:
    if torch.cuda.is_available():
        return ""
    processes = protocol.recipe["processes"]
    return f", on a CPU with {processes} runs at a time, each on its share of the cores"


def _not_measured(rows: list[dict[str, Any]]) -> list[str]:
    missing = list(dict.fromkeys(row["title"] for row in rows if row["mode"] == "paper" and not row["seeds"]))
    if torch.cuda.is_available() or not missing:
        return []
    return [f"Not measured, for want of a GPU or of time, in paper mode: {'; '.join(missing)}."]
