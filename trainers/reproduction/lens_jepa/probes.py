"""Pretrained encoders beside untrained ones and beside one another, by linear probes, and what they know of lenses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainers.reproduction.estimates import signed, words
from trainers.reproduction.lens_jepa.names import pretraining_folders
from trainers.reproduction.model_table.results import difference, knowledge_of_the_lens
from trainers.reproduction.model_table.tables import as_line, images_as_text
from trainers.reproduction.probes import probe_figures, verdicts
from trainers.reproduction.runs import Run, finished

if TYPE_CHECKING:
    from trainers.reproduction.lens_jepa.protocol import LensJEPAProtocol

Row = Mapping[str, Any]
_K = ("k_correlation", "k_correlation_with_others")
_COLUMNS = (
    "encoder", "seeds", "images", "accuracy", "untrained", "difference", "macro AUC", "untrained", "difference",
    "RankMe", "untrained", "the encoder is",
)  # fmt: skip


def collect_probes(root: Path, protocol: LensJEPAProtocol, seeds: int) -> list[dict[str, Any]]:
    """A row for each data and pretrained model; `seeds` 0 for one not reached.

    Returns:
        `data`, `model`, `title`, `seeds`; of those reached what `probe_figures` says, of each seed
        `untrained_feature_rank` and `collapsed` (in words, "" for one that has not), what is known of theta_E and, by
        class, the means of the `_K`: the correlation of k with the true one, and with that of other lenses.
    """
    rows = []
    for place in protocol.pretraining_rows():
        runs = finished(root, pretraining_folders(*place, seeds))
        row = {"data": place.data, "model": place.model, "title": protocol.title(place.model), "seeds": len(runs)}
        rows.append({**row, **(_figures(runs) if runs else {})})
    return rows


def _figures(runs: Sequence[Run]) -> dict[str, Any]:
    metrics = [run.metrics for run in runs]
    return {
        **probe_figures(runs),
        "untrained_feature_rank": [part["untrained_feature_rank"] for part in metrics],
        "collapsed": [part["collapse"] if part["collapsed"] else "" for part in metrics],
        **knowledge_of_the_lens(runs),
        **{name: _mean_by_class([part[name] for part in metrics]) for name in _K if name in metrics[0]},
    }


def _mean_by_class(parts: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Means of the seeds; None for a class of which there is nothing to correlate."""
    found: dict[str, float | None] = {}
    for name in parts[0]:
        values = [value for part in parts if (value := part[name]) is not None]
        found[name] = float(np.mean(values)) if values else None
    return found


def probe_differences(root: Path, protocol: LensJEPAProtocol, seeds: int) -> list[dict[str, Any]]:
    """Of the recipe's `probe_differences` `one`, `other` in each data: what `results.difference` says of them."""
    found = []
    for data in dict.fromkeys(row.data for row in protocol.pretraining_rows()):
        for one, other in (pair.split() for pair in protocol.recipe["probe_differences"]):
            gap = difference(
                root,
                pretraining_folders(data, one, seeds),
                pretraining_folders(data, other, seeds),
                accuracy="linear_accuracy",
            )
            if gap:
                found.append({"data": data, "one": one, "other": other, **gap})
    return found


def probes_as_markdown(rows: Sequence[Row], presets: Mapping[str, str]) -> list[str]:
    """A table for each data.

    Args:
        presets: data -> on what is pretrained, in words.
    """
    lines: list[str] = []
    for data in dict.fromkeys(row["data"] for row in rows):
        there = [row for row in rows if row["data"] == data]
        lines += [f"### {data}: {presets[data]}", ""]
        if any(row["seeds"] for row in there):
            lines += [as_line(_COLUMNS), "|" + "---|" * len(_COLUMNS)]
            lines += [as_line(_cells(row)) for row in there]
            lines += ["", *verdicts(there, lambda row: row["title"])]
            fell = [(row["title"], said) for row in there if row["seeds"] for said in row["collapsed"] if said]
            lines += [*(f"- {title} collapsed: {said}" for title, said in fell), ""]
        else:
            lines += ["Not measured.", ""]
    return lines


def _cells(row: Row) -> list[str]:
    if not row["seeds"]:
        return [row["title"], "not measured", *[""] * (len(_COLUMNS) - 2)]
    gain, before = row["gain"], row["untrained"]
    count = sum(bool(said) for said in row["collapsed"])
    fell = f", {count} of {row['seeds']} collapsed" if count else ""
    return [
        row["title"],
        str(row["seeds"]),
        images_as_text(row["images"]),
        *[words(part["linear_accuracy"], 3) for part in (row, before)],
        signed(gain["accuracy"]),
        *[words(part["macro_auc"], 3) for part in (row, before)],
        signed(gain["macro_auc"]),
        *[", ".join(f"{rank:.1f}" for rank in row[name]) for name in ("feature_rank", "untrained_feature_rank")],
        f"{gain['macro_auc']['verdict']}{fell}",
    ]


def k_as_markdown(rows: Sequence[Row]) -> list[str]:
    """How k, that no label told them, goes with the true one, in each class."""
    there = [row for row in rows if row.get(_K[0])]
    if not there:
        return ["Not measured.", ""]
    names = list(there[0][_K[0]])
    lines = [as_line(["data", "encoder", "seeds", *names]), "|" + "---|" * (3 + len(names))]
    for row in there:
        own, others = ([_correlation(row[part][name]) for name in names] for part in _K)
        cells = [f"{one} ({other})" for one, other in zip(own, others, strict=True)]
        lines.append(as_line([row["data"], row["title"], str(row["seeds"]), *cells]))
    return [*lines, ""]


def _correlation(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"
