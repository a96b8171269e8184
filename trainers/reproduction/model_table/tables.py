"""The rows in words: a table of each data, differences, and what is known of theta_E."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainers.reproduction.estimates import Estimate, signed, words
from trainers.reproduction.model_table.results import LENS

Row = Mapping[str, Any]
_PAPER = {"parameters": "parameters", "accuracy": "accuracy", "f1": "F1"}


def table_as_markdown(rows: Sequence[Row]) -> list[str]:
    """The rows of one data, as the paper's table; beside them the paper's figures, where it has any."""
    reached = [row for row in rows if row["seeds"]]
    if not reached:
        return ["Not measured.", ""]
    names = list(reached[0]["auc"])
    columns = ["model", "parameters [M]", "seeds", "images", "epochs", "accuracy = micro F1", "macro F1"]
    columns += ["macro AUC", *[f"AUC of {name}" for name in names], "micro AUC", "s per epoch"]
    table = [_cells(row) if row["seeds"] else [row["title"], "", "not measured"] for row in rows]
    table = [cells + [""] * (len(columns) - len(cells)) for cells in table]
    if any("pretrained_on" in row for row in reached):
        columns.append("images of the pretraining")
        for cells, row in zip(table, rows, strict=True):
            cells.append(images_as_text(row["pretrained_on"]) if "pretrained_on" in row else "-")
    if paper := next((row["paper"] for row in rows if row["paper"]), None):
        given = ", ".join(words for name, words in _PAPER.items() if name in paper)
        columns.append(f"the paper: {given}; AUC none, CDM, axion")
        for cells, row in zip(table, rows, strict=True):
            cells.append(_paper(row["paper"]))
    return [as_line(columns), "|" + "---|" * len(columns), *map(as_line, table), ""]


def as_line(cells: Sequence[str]) -> str:
    """Of a table."""
    return "| " + " | ".join(cells) + " |"


def images_as_text(images: Mapping[str, int]) -> str:
    """How many were seen, and of how many different ones, as `runs.images` gives them."""
    seen, different = images["images_seen"], images["images_distinct"]
    return f"{seen:,}" if seen == different else f"{seen:,} ({different:,} different)"


def _cells(row: Row) -> list[str]:
    return [
        row["title"],
        f"{row['parameters'] / 1e6:.2f}",
        str(row["seeds"]),
        images_as_text(row["images"]),
        f"{row['epochs']:.1f}",
        words(row["accuracy"], 3),
        f"{row['f1_macro']:.3f}",
        *[_words(estimate) for estimate in (row["macro_auc"], *row["auc"].values())],
        f"{row['auc_micro']:.3f}",
        f"{row['seconds_per_epoch']:.0f}",
    ]


def _words(estimate: Estimate | None) -> str:
    return "-" if estimate is None else words(estimate, 3)


def _paper(figures: Mapping[str, Any]) -> str:
    if not figures:
        return "-"
    digits = {"parameters": ".2f", "accuracy": ".4g", "f1": ".3f"}
    given = ", ".join(f"{figures[name]:{digits[name]}}" for name in _PAPER if name in figures)
    return f"{given}; {', '.join(f'{auc:.2f}' for auc in figures['auc'])}"


def differences_as_markdown(gaps: Sequence[Row], titles: Mapping[str, str]) -> list[str]:
    """A line for each pair of models, a table for all data."""
    if not gaps:
        return ["Not measured.", ""]
    lines = ["| data | one minus other | seeds | accuracy | macro AUC |", "|---|---|---|---|---|"]
    for gap in gaps:
        cells = [f"{signed(gap[figure])}, {gap[figure]['verdict']}" for figure in ("accuracy", "macro_auc")]
        pair = f"{titles[gap['one']]} minus {titles[gap['other']]}"
        lines.append(f"| {gap['data']} | {pair} | {gap['seeds']} | {cells[0]} | {cells[1]} |")
    return [*lines, ""]


def radii_as_markdown(rows: Sequence[Row]) -> list[str]:
    """What the models know of theta_E, that no label told them."""
    lines = ["| data | model | seeds | correlation | rms error [arcsec] |", "|---|---|---|---|---|"]
    for row in rows:
        if row["seeds"] and any(name in row for name in LENS):
            correlation, rms = (f"{row[name]:.3f}" if name in row else "all alike" for name in LENS)
            lines.append(f"| {row['data']} | {row['title']} | {row['seeds']} | {correlation} | {rms} |")
    return [*lines, ""] if len(lines) > 2 else ["Not measured.", ""]
