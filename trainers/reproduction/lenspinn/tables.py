"""The rows in words: tables 1 and 2 in each data, differences, and what is known of theta_E."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainers.reproduction.estimates import Estimate, signed, words
from trainers.reproduction.lenspinn.names import PREPROCESSING
from trainers.reproduction.lenspinn.results import LENS

Row = Mapping[str, Any]


def table_as_markdown(rows: Sequence[Row]) -> list[str]:
    """The rows of one data, as the paper's table 1; beside them the paper's figures, where it has any."""
    reached = [row for row in rows if row["seeds"]]
    if not reached:
        return ["Not measured.", ""]
    names = list(reached[0]["auc"])
    paper = any(row["paper"] for row in rows)
    columns = ["model", "parameters [M]", "seeds", "images", "epochs", "accuracy = micro F1", "macro F1"]
    columns += ["macro AUC", *[f"AUC of {name}" for name in names], "micro AUC", "s per epoch"]
    columns += ["the paper: parameters, accuracy, F1; AUC none, CDM, axion"] if paper else []
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = _cells(row, names) if row["seeds"] else [row["title"], "", "not measured", *[""] * (7 + len(names))]
        cells += [_paper(row["paper"])] if paper else []
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _cells(row: Row, names: Sequence[str]) -> list[str]:
    seen, different = row["images"]["images_seen"], row["images"]["images_distinct"]
    return [
        row["title"],
        f"{row['parameters'] / 1e6:.2f}",
        str(row["seeds"]),
        f"{seen:,}" if seen == different else f"{seen:,} ({different:,} different)",
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
    none, cdm, axion = figures["auc"]
    return (
        f"{figures['parameters']:.2f}, {figures['accuracy']:.3f}, {figures['f1']:.3f}; {none:.2f}, {cdm:.2f}, "
        f"{axion:.2f}"
    )


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


def preprocessing_as_markdown(
    gaps: Sequence[Row], titles: Mapping[str, str], noiseless: Mapping[str, bool]
) -> list[str]:
    """What the preprocessing is worth with and without noise.

    Args:
        noiseless: of each data, whether its images have no noise.
    """
    lines = ["| data | noise | model | epochs | seeds | accuracy | without preprocessing | difference |"]
    lines.append("|" + "---|" * 8)
    for gap in gaps:
        if (gap["one"], gap["other"]) in PREPROCESSING:
            both = (words(gap[f"{name}_accuracy"], 3) for name in ("one", "other"))
            lines.append(
                f"| {gap['data']} | {'no' if noiseless[gap['data']] else 'yes'} | {titles[gap['one']]} "
                f"| {gap['epochs']:.1f} | {gap['seeds']} | {' | '.join(both)} "
                f"| {signed(gap['accuracy'])}, {gap['accuracy']['verdict']} |"
            )
    return [*lines, ""] if len(lines) > 2 else ["Not measured.", ""]


def radii_as_markdown(rows: Sequence[Row]) -> list[str]:
    """What the models know of theta_E, that no label told them."""
    lines = ["| data | model | seeds | correlation | rms error [arcsec] |", "|---|---|---|---|---|"]
    for row in rows:
        if row["seeds"] and any(name in row for name in LENS):
            correlation, rms = (f"{row[name]:.3f}" if name in row else "all alike" for name in LENS)
            lines.append(f"| {row['data']} | {row['title']} | {row['seeds']} | {correlation} | {rms} |")
    return [*lines, ""] if len(lines) > 2 else ["Not measured.", ""]
