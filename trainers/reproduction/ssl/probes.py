"""Linear probes of each method's encoder beside those of the untrained encoder, and what is said of collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.collapse import LEAST_DEVIATION
from trainers.reproduction.estimates import signed, words
from trainers.reproduction.probes import FIGURES, probe_figures, verdicts
from trainers.reproduction.runs import Run, finished, gain
from trainers.reproduction.ssl.names import SEEDS, Data, control_folder, pretraining_folder
from trainers.reproduction.ssl.results import shown

if TYPE_CHECKING:
    from trainers.reproduction.ssl.protocol import SSLProtocol

HEADING = (
    "| method | encoder | seeds | images | accuracy | untrained | difference | macro AUC | untrained | difference "
    "| kNN (untrained) | RankMe | the encoder is |"
)


def collect_probes(root: Path, protocol: SSLProtocol, seeds: int) -> list[dict[str, Any]]:
    """A row for each data, encoder and method; `seeds` 0 for one not reached.

    Returns:
        What `probe_figures` says; of each seed `alignment`, `uniformity` and `projections`.
    """
    return [
        _row(root, place, method, max(seeds, len(SEEDS)))
        for place in protocol.places("ssl")
        for method in protocol.methods
    ]


def _row(root: Path, place: tuple[str, str], method: str, seeds: int) -> dict[str, Any]:
    runs = finished(root, (pretraining_folder(*place, seed, method) for seed in range(seeds)))
    row: dict[str, Any] = {"data": place[0], "encoder": place[1], "method": method, "seeds": len(runs)}
    if not runs:
        return row
    metrics = [run.metrics for run in runs]
    return {
        **row,
        **probe_figures(runs),
        "alignment": [part["alignment"] for part in metrics],
        "uniformity": [part["uniformity"] for part in metrics],
        "projections": projections(runs),
    }


def projections(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Of each run how its projections lie at its end, and in words whether they have `collapsed`, "" if not."""
    return [
        {
            **{name: run.metrics["last"][f"projection_{name}"] for name in ("deviation", "rank")},
            "collapsed": run.metrics["collapse"] if run.metrics["collapsed"] else "",
        }
        for run in runs
    ]


def collect_control(root: Path) -> dict[str, Any]:
    """The run that must collapse: whether it was reported, and in which words."""
    runs = finished(root, [control_folder(0)])
    if not runs:
        return {}
    metrics = runs[0].metrics
    names = (*FIGURES, "collapsed", "collapse", "last")
    return {**{name: metrics[name] for name in names}, "gain": gain(runs, runs, "probability", "untrained_probability")}


def probes_as_markdown(rows: Sequence[Mapping[str, Any]], presets: Mapping[str, str]) -> list[str]:
    """A table for each data.

    Args:
        presets: data -> its preset, in words.
    """
    lines: list[str] = []
    for data in dict.fromkeys(row["data"] for row in rows):
        there = [row for row in rows if row["data"] == data]
        heading = f"### {Data.named(data)}: {presets[data]}"
        if not any(row["seeds"] for row in there):
            lines += [heading, "", "Not reached.", ""]
            continue
        lines += [heading, "", HEADING, "|" + "---|" * HEADING[1:].count("|")]
        lines += [_line(row) for row in shown(there)]
        lines += ["", *verdicts(there, lambda row: f"{row['method']} ({row['encoder']})"), ""]
    return lines


def _line(row: Mapping[str, Any]) -> str:
    start = f"| {row['method']} | {row['encoder']} "
    if not row["seeds"]:
        return start + "| not reached |" + " |" * 10
    untrained, gains = row["untrained"], row["gain"]
    ranks = ", ".join(f"{rank:.1f}" for rank in row["feature_rank"])
    fell = any(run["collapsed"] for run in row["projections"])
    return start + (
        f"| {row['seeds']} | {row['images']['images_seen']:,} "
        f"| {words(row['linear_accuracy'], 3)} | {untrained['linear_accuracy']['value']:.3f} "
        f"| {signed(gains['accuracy'])} | {words(row['macro_auc'], 3)} | {untrained['macro_auc']['value']:.3f} "
        f"| {signed(gains['macro_auc'])} "
        f"| {row['knn_accuracy']['value']:.3f} ({untrained['knn_accuracy']['value']:.3f}) | {ranks} "
        f"| {gains['macro_auc']['verdict']}{', collapsed' if fell else ''} |"
    )


def collapse_as_markdown(
    rows: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Mapping[str, Any]],
    control: Mapping[str, Any],
    name: str,
) -> list[str]:
    """How the projections of each run lie at its end, which collapsed, and whether the control did.

    Args:
        name: of the control.
    """
    ends = [
        (f"{row['method']}, {row['encoder']}, {Data.named(row['data'])}", row["projections"])
        for row in rows
        if row["seeds"]
    ]
    ends += [
        (f"comparison: {views}, {Data.named(part['data'])}", kind["projections"])
        for part in comparisons
        for views, kind in part["views"].items()
        if not kind["is_a_row"]
    ]
    every = [(run, projection) for run, runs in ends for projection in runs]
    fell = [f"- {run}: {projection['collapsed']}" for run, projection in every if projection["collapsed"]]
    lines = [
        f"Of {len(every)} pretrained encoders {len(fell) or 'none'} collapsed{':' if fell else '.'}", "", *fell,
        "Projections of different images at the end: deviation from their mean (1: they point everywhere; below "
        f"{LEAST_DEVIATION}: they have not spread, or fell, which is a collapse), and how many directions they use:",
        "", "| run | deviation of each seed | rank |", "|---|---|---|",
    ]  # fmt: skip
    for run, runs in ends:
        deviation = ", ".join(f"{part['deviation']:.2f}" for part in runs)
        rank = ", ".join(f"{part['rank']:.1f}" for part in runs)
        lines.append(f"| {run} | {deviation} | {rank} |")
    narrow = [run for run, runs in ends if any(part["deviation"] < LEAST_DEVIATION for part in runs)]
    if narrow:
        lines += ["", f"Fallen, or not spread yet: {'; '.join(narrow)}."]
    lines.append("")
    if not control:
        return [*lines, f"The control, {name}: not reached."]
    ending = (
        f"is reported as collapsed, as it must be: {control['collapse']}"
        if control["collapsed"]
        else "is NOT reported as collapsed, though it should be: what is said above of the others means little"
    )
    at_its_end = f"RankMe of its features at the end {control['last']['feature_rank']:.1f}"
    gap = control["gain"]["macro_auc"]
    at_its_best = (
        f"of the linear probe at its best, one seed, accuracy {words(control['linear_accuracy'], 3)} and macro AUC "
        f"{words(control['macro_auc'], 3)}, {signed(gap)} above the untrained encoder's"
    )
    return [
        *lines,
        f"The control, {name}, {ending} ({at_its_end}; {at_its_best}).",
        "",
        "Where others gain no more than the control, that does not show that they did what they are for.",
    ]
