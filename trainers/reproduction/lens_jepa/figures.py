"""A picture of the pretrained encoders beside the untrained ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def draw_probes(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Macro AUC of the linear probe, and RankMe of each seed, a line of panels for each data.

    Args:
        rows: of `collect_probes`, those that were reached.
    """
    every = list(dict.fromkeys(row["data"] for row in rows))
    figure = Figure(figsize=(9.5, 0.9 + 2.1 * len(every)), layout="constrained")
    for (auc, rank), data in zip(figure.subplots(len(every), 2, squeeze=False), every, strict=True):
        there = [row for row in rows if row["data"] == data]
        for place, row in enumerate(there):
            for part, ranks, colour, shift, label in (
                (row, row["feature_rank"], "C0", -0.12, "pretrained"),
                (row["untrained"], row["untrained_feature_rank"], "0.55", 0.12, "untrained"),
            ):
                estimate, label = part["macro_auc"], "" if place else label
                ends = [[estimate["value"] - estimate["low"]], [estimate["high"] - estimate["value"]]]
                auc.errorbar(estimate["value"], place + shift, xerr=ends, fmt="o", color=colour, capsize=3, label=label)
                rank.plot(ranks, [place + shift] * len(ranks), "o", color=colour, alpha=0.7, label=label)
        auc.axvline(0.5, color="0.6", linestyle="--", linewidth=0.8, label="chance")
        images = there[0]["images"]["images_seen"]
        auc.set(title=f"{data}: linear probe, {images:,} images", xlabel="macro AUC, 95 %")
        rank.set(title="rank of the features (RankMe)", xlabel="each seed")
        for axis, titled in ((auc, True), (rank, False)):
            axis.set_yticks(range(len(there)), [row["title"] if titled else "" for row in there])
            axis.set_ylim(len(there) - 0.5, -0.5)
            axis.grid(alpha=0.3)
            axis.legend(fontsize=7)
    figure.savefig(path, dpi=110)
