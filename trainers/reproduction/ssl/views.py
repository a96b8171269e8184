"""Views that only a simulator can make against views that are made from one image, at equal steps and batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainers.reproduction.estimates import mean_of_seeds, signed, verdict, words
from trainers.reproduction.paired import auc_difference, auc_estimate, dense_ranks
from trainers.reproduction.runs import Run, finished, gain, images
from trainers.reproduction.ssl.detectability import read_detectability
from trainers.reproduction.ssl.names import SEEDS, Data, comparison_folder
from trainers.reproduction.ssl.probes import projections

if TYPE_CHECKING:
    from trainers.reproduction.ssl.protocol import SSLProtocol

AUGMENT = "augment"  # what the other views of a recipe are held against
_NOTHING = "no_sub"
_BINS = 6


def compare_views(root: Path, protocol: SSLProtocol) -> list[dict[str, Any]]:
    """Linear probes after pretraining with each kind of views; three seeds, on the same test images.

    Returns:
        for each data: `views` -> `linear_accuracy`, `macro_auc`, means of the seeds, `each_seed`, `images`, `rendered`
        (images, of all lenses), `uses_labels` and `by_detectability` (AUC of the images with substructure in a bin
        against all images without); `untrained`; `differences`: of `views` and another kind, `than`, at `equal` lenses
        or images rendered, with verdicts, overall and in each bin.
    """
    return [_compare(root, protocol, data) for data in protocol.recipe["comparison"]["data"]]


def _compare(root: Path, protocol: SSLProtocol, data: str) -> dict[str, Any]:
    kinds = protocol.recipe["comparison"]["views"]
    names = {views: [cell.name for cell in protocol.comparison(data, views)] for views in kinds}
    runs = {views: finished(root, names[views]) for views in kinds}
    if not all(len(found) == len(SEEDS) for found in runs.values()):  # pairs are of the same seed
        return {"data": data, "views": {}}
    first = runs[AUGMENT][0]
    chi_square = read_detectability(root, data, first.predictions["index"])
    bins = _bins(chi_square, first)
    return {
        "data": data,
        "views": {
            views: {
                **_one_kind(found, kinds[views], chi_square, bins),
                "is_a_row": names[views][0] != comparison_folder(data, SEEDS[0], views),
            }
            for views, found in runs.items()
        },
        "untrained": {
            name: mean_of_seeds([run.metrics["untrained"][name] for run in runs[AUGMENT]])
            for name in ("linear_accuracy", "macro_auc")
        },
        "differences": [
            {
                "views": views, "than": than, "equal": equal,
                **gain(runs[views], runs[than]), "by_detectability": _gaps(runs[views], runs[than], bins),
            }
            for views, than, equal in _pairs(runs, kinds)
        ],
    }  # fmt: skip


def _pairs(runs: Mapping[str, Sequence[Run]], kinds: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Each kind of views against augmented ones: of as many lenses, and of as many images rendered."""
    rendered = {views: _rendered(found, kinds[views]) for views, found in runs.items()}
    lenses = {views: images(found)["images_seen"] for views, found in runs.items()}
    simulated = [views for views in kinds if kinds[views].get("views") == "simulate"]
    for views in kinds:
        if views != AUGMENT:
            yield views, AUGMENT, "lenses" if lenses[views] == lenses[AUGMENT] else "steps"
    for views in simulated:
        for than in kinds:
            if than not in simulated and rendered[than] == rendered[views]:
                yield views, than, "images rendered"


def _rendered(runs: Sequence[Run], options: Mapping[str, Any]) -> int:
    """Images that were simulated for a run: a twin is another one of the same lens."""
    return images(runs)["images_seen"] * (2 if options.get("views") == "simulate" else 1)


def _one_kind(
    runs: Sequence[Run], options: Mapping[str, Any], chi_square: np.ndarray, bins: Sequence[np.ndarray]
) -> dict[str, Any]:
    return {
        "seeds": len(runs),
        "images": images(runs),
        "rendered": _rendered(runs, options),
        "uses_labels": "lens" in options.get("change", ()),  # a twin with another lens is one of the same class
        "linear_accuracy": mean_of_seeds([run.metrics["linear_accuracy"] for run in runs]),
        "macro_auc": mean_of_seeds([run.metrics["macro_auc"] for run in runs]),
        "each_seed": [run.metrics["macro_auc"]["value"] for run in runs],
        "projections": projections(runs),
        "by_detectability": [
            {
                "detectability": float(np.median(chi_square[rows])),
                "images": len(rows),
                **auc_estimate([_ranks(run, rows) for run in runs], _there(runs[0], rows)),
            }
            for rows in bins
        ],
    }


def _bins(chi_square: np.ndarray, run: Run) -> list[np.ndarray]:
    """Rows of test images with substructure, as many in each bin, from the least to the most detectable.

    None where there is no noise, so that all is detectable, and where all images have substructure.
    """
    if _NOTHING not in run.metrics["class_names"]:
        return []
    substructure = np.flatnonzero(~_without(run))
    rows = substructure[(substructure < len(chi_square))]
    rows = rows[np.isfinite(chi_square[rows])]
    order = rows[np.argsort(chi_square[rows], kind="stable")]
    return [part for part in np.array_split(order, min(_BINS, len(order) // 10 or 1)) if part.size]


def _without(run: Run) -> np.ndarray:
    return run.predictions["label"] == run.metrics["class_names"].index(_NOTHING)


def _ranks(run: Run, rows: np.ndarray) -> np.ndarray:
    """Dense ranks `[N, 2]` of the probabilities of none and of some substructure: images without, then those `rows`."""
    nothing = run.predictions["probability"][:, run.metrics["class_names"].index(_NOTHING)]
    found = np.concatenate([nothing[_without(run)], nothing[rows]])
    return dense_ranks(np.stack([found, -found], axis=1))


def _there(run: Run, rows: np.ndarray) -> np.ndarray:
    """Whether these images `[N]` have substructure, 0 or 1."""
    return np.repeat([0, 1], [_without(run).sum(), len(rows)])


def _gaps(one: Sequence[Run], other: Sequence[Run], bins: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    gaps = []
    for rows in bins:
        ranks, others = ([_ranks(run, rows) for run in runs] for runs in (one, other))
        gap = auc_difference(ranks, others, _there(one[0], rows))
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
            f"| {views} | {kind['seeds']} | {lenses:,} | {kind['rendered']:,} "
            f"| {words(kind['linear_accuracy'], 3)} | {words(kind['macro_auc'], 3)} | {each} |"
        )
    untrained = part["untrained"]
    lines.append(
        f"| none: the untrained encoder | | | | {words(untrained['linear_accuracy'], 3)} "
        f"| {words(untrained['macro_auc'], 3)} | |"
    )
    for gap in part["differences"]:
        views, than, auc, accuracy = gap["views"], gap["than"], gap["macro_auc"], gap["accuracy"]
        winner = {"better": f"{views} wins", "worse": f"{than} wins", "undecided": "undecided: neither wins"}
        hint = " (its pairs are chosen by the label, which the others do not know)"
        lines += [
            "",
            f"{views} minus {than}, at equal {gap['equal']}: macro AUC {signed(auc)}, {winner[auc['verdict']]}; "
            f"accuracy {signed(accuracy)}, {winner[accuracy['verdict']]}"
            f"{hint if part['views'][views]['uses_labels'] else ''}.{_where(part, gap['by_detectability'])}",
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
    return (
        f" Of {len(gaps)} bins of detectability (chi-square) decided, in the AUC of substructure against none: "
        f"{'; '.join(decided) or 'none'} (one in twenty would be by chance)."
    )
