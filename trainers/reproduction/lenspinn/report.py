"""Everything that the runs show, in the order of `table.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

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

_MODES = (
    "In paper mode a figure is not one of dark matter alone: the lens never varies, substructure adds to its mass, "
    "so that the radius of the ring tells the class, subhalos follow m^-0.9, and the published images have no "
    "noise. In honest mode lenses vary, and substructure neither enlarges nor brightens them. Images are scaled to "
    "0..1 in paper and streamed mode, and by asinh of the noise in honest mode. 'Alone' is a CNN without physics, "
    "the paper's table 2; 'as published' a source of nearest pixels, through which theta_E learns nothing. "
    "LensPINN's other rows learn it by the compactness of a bilinear source."
)
_MICRO_F1 = (
    "Where an image has one label micro F1 is the accuracy, whatever the classifier; the paper's two columns "
    "differ, so that one of them is something else. The losses that are drawn are cross entropies of validation "
    "images: those in training, which the paper draws, have other parts in LensPINN."
)
_PREPROCESSING = (
    "It takes second derivatives of the logarithm of the brightness, of all that is brighter than a floor: 2 % of "
    "the peak, or 10 % for the row that says so. Scaling noisy images to 0..1 lifts their sky above the first; in "
    "honest mode all below twice the noise is dark too."
)
_RADII = (
    "No label tells them. Where substructure adds to the lens's mass, as in paper mode, what is learnt is the "
    "radius of both."
)


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
    titles = {name: model["title"] for name, model in protocol.recipe["models"].items()}
    lines = [_MODES, ""]
    for data in every:
        lines += [f"## {data}: {_data(protocol, data)}", ""]
        lines += table_as_markdown([row for row in rows if row["data"] == data])
    lines += [
        f"{_MICRO_F1} Seconds per epoch are of {protocol.epoch:,} images{_device(protocol)}.",
        "",
        "## Differences on the same test images",
        "",
        DIFFERENCES,
        "",
        *differences_as_markdown(gaps, titles),
        "## The preprocessing, with noise and without",
        "",
        _PREPROCESSING,
        "",
        *preprocessing_as_markdown(gaps, titles, {data: protocol.noiseless(data) for data in every}),
        "## Einstein radii",
        "",
        _RADII,
        "",
        *radii_as_markdown(rows),
        *_not_measured(rows),
    ]
    epochs = max((row["epochs"] for row in rows if row["seeds"]), default=0.0)
    introduction = (
        f"Figures are of test images, by the checkpoint that was best in validation, after {epochs:.1f} of the paper's "
        f"50 epochs. {_learning_rates(protocol, rows)} {INTERVALS}"
    )
    return Report({"rows": rows, "differences": gaps}, introduction, lines, figures)


def _data(protocol: LensPINNProtocol, name: str) -> str:
    data = protocol.data(name)
    preset = f"`{data['preset']}`"
    if len(data["set"]) > 1:
        preset += f" with {len(data['set'])} changes, see recipe.yaml"
    elif data["set"]:
        preset += f" with {data['set'][0]}"
    noise = ", without noise" if protocol.noiseless(name) else ""
    kind = f"{protocol.recipe['stored']:,} stored images" if data["mode"] == "paper" else "a stream"
    return f"{data['mode']} mode, {preset}{noise}, {kind}"


def _learning_rates(protocol: LensPINNProtocol, rows: Sequence[Mapping[str, Any]]) -> str:
    """Those of paper mode that were reached; the most frequent one last."""
    reached = {(row["data"], row["model"]): row["title"] for row in rows if row["seeds"] and row["mode"] == "paper"}
    rates: dict[str, set[str]] = {}
    for cell in protocol.cells(protocol.levels[0]):
        data, model, _ = cell.name.split("/")
        if (data, model) in reached:
            rates.setdefault(f"{float(cell.options['optimizer']['lr']):g}", set()).add(reached[data, model])
    if not rates:
        return ""
    *own, (usual, _) = sorted(rates.items(), key=lambda item: len(item[1]))
    said = "".join(f"{rate} for {' and '.join(sorted(titles))}, " for rate, titles in own)
    return f"The learning rate in paper mode, 0.0001 in the paper, is {said}{usual} for all{' others' if own else ''}."


def _device(protocol: LensPINNProtocol) -> str:
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
