"""The paper's tables: macro AUC of the fine-tuned encoders beside the same networks from scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.reproduction.estimates import mean_of_seeds, signed, words
from trainers.reproduction.runs import gain, images
from trainers.reproduction.ssl.names import MODELS, MODES, PAPER, PRETRAINED, SUPERVISED, Data
from trainers.reproduction.ssl.results import beside_scratch, shown

if TYPE_CHECKING:
    from trainers.reproduction.ssl.protocol import SSLProtocol

_PART = "self-supervised | supervised | difference |"


def collect_classification(root: Path, protocol: SSLProtocol, seeds: int) -> list[dict[str, Any]]:
    """A row for each data, encoder and method; `seeds` 0 for one not reached.

    Returns:
        `self_supervised` and `supervised`, each with `macro_auc` and `accuracy`, means of the seeds of which both are
        done; `gain`, as `results.gain` gives it; `paper`: encoder -> the paper's columns, in paper mode alone.
    """
    return [
        _row(root, protocol, place, method, seeds)
        for place in protocol.places("classify")
        for method in protocol.methods
    ]


def _row(root: Path, protocol: SSLProtocol, place: tuple[str, str], method: str, seeds: int) -> dict[str, Any]:
    pretrained, scratch = beside_scratch(root, protocol, "classify", place, method, seeds)
    row: dict[str, Any] = {
        "data": place[0],
        "encoder": place[1],
        "method": method,
        "augmentation": protocol.augmentation("classify", method),
        "seeds": len(pretrained),
        "paper": _paper(place[0], method),
    }
    if not pretrained:
        return row
    columns = {
        begins: {figure: mean_of_seeds([run.metrics[figure] for run in runs]) for figure in ("macro_auc", "accuracy")}
        for begins, runs in ((PRETRAINED, pretrained), (SUPERVISED, scratch))
    }
    return {**row, "images": images(pretrained), **columns, "gain": gain(pretrained, scratch)}


def _paper(data: str, method: str) -> dict[str, dict[str, float]]:
    mode, model = Data.named(data)
    if mode != "paper":
        return {}
    column = list(MODELS.values()).index(model)
    return {
        encoder: {PRETRAINED: row.self_supervised[column]}
        | ({} if row.supervised is None else {SUPERVISED: row.supervised[column]})
        for encoder, row in PAPER.get(method, {}).items()
    }


def classification_as_markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for each mode, its models side by side; the paper's figures in paper mode alone."""
    lines: list[str] = []
    for mode in MODES:
        there = [row for row in rows if Data.named(row["data"]).mode == mode]
        if not there:
            continue
        paper = " the paper: self-supervised (supervised) |" if mode == "paper" else ""
        models = [model for model in MODELS.values() if any(Data.named(row["data"]).model == model for row in there)]
        heading = "| method | encoder | seeds | images |" + "".join(f" {model}: {_PART}{paper}" for model in models)
        lines += [f"### {mode.capitalize()} mode", ""]
        if any(row["seeds"] for row in there):
            there = shown(there, by=("encoder",))
            lines += [heading, "|" + "---|" * heading[1:].count("|")]
            keys = dict.fromkeys((row["method"], row["encoder"]) for row in there)
            lines += [_line(there, models, *key, bool(paper)) for key in keys]
        else:
            lines.append("Not reached.")
        lines.append("")
    return lines


def _line(rows: Sequence[Mapping[str, Any]], models: Sequence[str], method: str, encoder: str, paper: bool) -> str:
    found = {
        Data.named(row["data"]).model: row for row in rows if row["method"] == method and row["encoder"] == encoder
    }
    reached = [row for row in found.values() if row["seeds"]]
    counts = f"{min(row['seeds'] for row in reached)} | {reached[0]['images']['images_seen']:,}" if reached else "0 | -"
    cells = "".join(_columns(found.get(model), paper) for model in models)
    return f"| {method} | {encoder} | {counts} |{cells}"


def _columns(row: Mapping[str, Any] | None, paper: bool) -> str:
    if row is None or not row["seeds"]:
        measured = " not reached | | |"
    else:
        gap = row["gain"]["macro_auc"]
        measured = (
            f" {words(row[PRETRAINED]['macro_auc'], 3)} | {words(row[SUPERVISED]['macro_auc'], 3)} "
            f"| {signed(gap)}, {gap['verdict']} |"
        )
    return measured + (f" {_paper_words(row['paper'] if row else {})} |" if paper else "")


def _paper_words(figures: Mapping[str, Mapping[str, float]]) -> str:
    said = []
    for encoder, columns in figures.items():
        supervised = f" ({columns[SUPERVISED]:.3f})" if SUPERVISED in columns else ""
        said.append(f"{encoder} {columns[PRETRAINED]:.3f}{supervised}".strip())
    return "; ".join(said) or "-"
