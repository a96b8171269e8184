"""Views that only a simulator can make against views that are made from one image, at equal steps and batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainers.reproduction.estimates import mean_of_seeds, signed, verdict, words
from trainers.reproduction.paired import mean_difference, mean_estimate
from trainers.reproduction.ssl.detectability import read_detectability
from trainers.reproduction.ssl.names import SEEDS, Data
from trainers.reproduction.ssl.results import Run, finished, gain, images, right

if TYPE_CHECKING:
    from trainers.reproduction.ssl.protocol import SSLProtocol

AUGMENT = "augment"  # what the other views of a recipe are held against
_NOTHING = "no_sub"
_BINS = 6


def compare_views(root: Path, protocol: SSLProtocol) -> list[dict[str, Any]]:
    """Linear probes after pretraining with each kind of views; three seeds, on the same test images.

    Returns:
        for each data: `views` -> `linear_accuracy`, `macro_auc`, means of the seeds, `each_seed`, `images` and
        `by_detectability` (accuracy in bins of the images with substructure); `untrained`; `minus_augment`: views ->
        difference from augmented views, with a verdict, and that of the accuracy in each bin.
    """
    return [_compare(root, protocol, data) for data in protocol.recipe["comparison"]["data"]]


def _compare(root: Path, protocol: SSLProtocol, data: str) -> dict[str, Any]:
    kinds = protocol.recipe["comparison"]["views"]
    runs = {views: finished(root, (cell.name for cell in protocol.comparison(data, views))) for views in kinds}
    if not all(len(found) == len(SEEDS) for found in runs.values()):  # pairs are of the same seed
        return {"data": data, "views": {}}
    first = runs[AUGMENT][0]
    chi_square = read_detectability(root, data, first.predictions["index"])
    bins = _bins(chi_square, first)
    return {
        "data": data,
        "views": {
            # a twin is another image of the same lens
            views: {
                **_one_kind(found, chi_square, bins),
                "rendered_a_lens": 1 + (kinds[views].get("views") == "simulate"),
            }
            for views, found in runs.items()
        },
        "untrained": {
            name: mean_of_seeds([run.metrics["untrained"][name] for run in runs[AUGMENT]])
            for name in ("linear_accuracy", "macro_auc")
        },
        "minus_augment": {
            views: {**gain(found, runs[AUGMENT]), "by_detectability": _gaps(found, runs[AUGMENT], bins)}
            for views, found in runs.items()
            if views != AUGMENT
        },
    }


def _one_kind(runs: Sequence[Run], chi_square: np.ndarray, bins: Sequence[np.ndarray]) -> dict[str, Any]:
    return {
        "seeds": len(runs),
        "images": images(runs),
        "linear_accuracy": mean_of_seeds([run.metrics["linear_accuracy"] for run in runs]),
        "macro_auc": mean_of_seeds([run.metrics["macro_auc"] for run in runs]),
        "each_seed": [run.metrics["macro_auc"]["value"] for run in runs],
        "by_detectability": [
            {
                "detectability": float(np.median(chi_square[rows])),
                "images": len(rows),
                **mean_estimate([right(run)[rows] for run in runs]),
            }
            for rows in bins
        ],
    }


def _bins(chi_square: np.ndarray, run: Run) -> list[np.ndarray]:
    """Rows of test images with substructure, as many in each bin, from the least to the most detectable.

    None where there is no noise, so that all is detectable.
    """
    classes = run.metrics["class_names"]
    nothing = classes.index(_NOTHING) if _NOTHING in classes else -1
    rows = np.flatnonzero((run.predictions["label"][: len(chi_square)] != nothing) & np.isfinite(chi_square))
    order = rows[np.argsort(chi_square[rows], kind="stable")]
    return [part for part in np.array_split(order, min(_BINS, len(order) // 10 or 1)) if part.size]


def _gaps(one: Sequence[Run], other: Sequence[Run], bins: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    gaps = []
    for rows in bins:
        gap = mean_difference([right(run)[rows] for run in one], [right(run)[rows] for run in other])
        gaps.append({**gap, "verdict": verdict(gap, "better", "worse")})
    return gaps


def views_as_markdown(comparisons: Sequence[Mapping[str, Any]], presets: Mapping[str, str]) -> list[str]:
    """A table for each data, the verdict and what it owes to detectability."""
    lines: list[str] = []
    for part in comparisons:
        lines += [f"### {Data.named(part['data'])}: {presets[part['data']]}, a stream", ""]
        lines += _table(part) if part["views"] else ["Not reached."]
        lines.append("")
    return lines


def _table(part: Mapping[str, Any]) -> list[str]:
    lines = [
        "| views | seeds | lenses | images rendered | accuracy of the linear probe | macro AUC | each seed |",
        "|---|---|---|---|---|---|---|",
    ]
    for views, kind in part["views"].items():
        each = ", ".join(f"{value:.3f}" for value in kind["each_seed"])
        lenses = kind["images"]["images_seen"]
        lines.append(
            f"| {views} | {kind['seeds']} | {lenses:,} | {kind['rendered_a_lens'] * lenses:,} "
            f"| {words(kind['linear_accuracy'], 3)} | {words(kind['macro_auc'], 3)} | {each} |"
        )
    untrained = part["untrained"]
    lines.append(
        f"| none: the untrained encoder | | | | {words(untrained['linear_accuracy'], 3)} "
        f"| {words(untrained['macro_auc'], 3)} | |"
    )
    for views, gap in part["minus_augment"].items():
        auc, accuracy = gap["macro_auc"], gap["accuracy"]
        winner = {"better": f"{views} wins", "worse": f"{AUGMENT} wins", "undecided": "undecided: neither wins"}
        lines += [
            "",
            f"{views} minus {AUGMENT}: macro AUC {signed(auc)}, {winner[auc['verdict']]}; accuracy {signed(accuracy)}, "
            f"{winner[accuracy['verdict']]}.{_where(part, gap['by_detectability'])}",
        ]
    return lines


def _where(part: Mapping[str, Any], gaps: Sequence[Mapping[str, Any]]) -> str:
    """Which bins of detectability are decided."""
    if not gaps:
        return ""
    bins = part["views"][AUGMENT]["by_detectability"]
    decided = [
        f"{signed(gap)} about {bin['detectability']:.3g}"
        for gap, bin in zip(gaps, bins, strict=True)
        if gap["verdict"] != "undecided"
    ]
    return f" Of {len(gaps)} bins of detectability (chi-square) decided: {'; '.join(decided) or 'none'}."
