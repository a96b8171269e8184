"""Pictures of a reproduction: the rows of the table beside the paper's, and stored sets against the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from trainers.reproduction.mae.names import MODES, PAPER_SUPERRES, SCRATCH, SOURCES

_COLOURS = {"paper": "C0", "honest": "C1"}
_SOURCES = {
    "stored_paper_size": ("C0", "stored, paper's size"),
    "stored_scaled": ("C3", "stored, repeated as papers do"),
    "stream": ("C2", "stream"),
}


def draw_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Macro AUC, accuracy, PSNR and SSIM of each row with intervals; bicubic and the paper's figures as lines."""
    names = sorted({row["row"] for row in rows}, key=lambda name: -1.0 if name == SCRATCH else float(name))
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = {
        "macro_auc": "macro AUC",
        "accuracy": "accuracy",
        "psnr": "PSNR [dB], range as in the table",
        "ssim": "SSIM",
    }
    for axis, (name, words) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        for shift, mode in zip((-0.08, 0.08), MODES, strict=True):
            there = [row for row in rows if row["mode"] == mode and name in row]
            if not there:
                continue
            x = [names.index(row["row"]) + shift for row in there]
            value, low, high = (np.array([row[name][end] for row in there]) for end in ("value", "low", "high"))
            error = np.clip([value - low, high - value], 0, None)
            axis.errorbar(x, value, error, fmt="o", capsize=3, color=_COLOURS[mode], label=f"{mode} mode")
            if name in there[0]["bicubic"]:
                axis.axhline(there[0]["bicubic"][name]["value"], color=_COLOURS[mode], linestyle=":", linewidth=1,
                             label=f"bicubic, {mode} mode")  # fmt: skip
            paper = [(names.index(row["row"]), row["paper"][name]) for row in there if name in row["paper"]]
            if paper:
                axis.plot(*zip(*paper, strict=True), "k*", markersize=9, label="arXiv 2512.06642")
        if name in ("macro_auc", "accuracy"):
            axis.axhline(0.5 if name == "macro_auc" else 1 / 3, color="0.6", linewidth=0.8, label="chance")
        else:
            axis.axhline(PAPER_SUPERRES[name], color="k", linewidth=0.8, linestyle="--", label="paper, about")
        axis.set_xticks(range(len(names)), ["scratch" if n == SCRATCH else f"{float(n):.0%}" for n in names])
        axis.set(xlabel="patches masked in pretraining", ylabel=words)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def draw_comparison(path: Path, comparison: Mapping[str, Any]) -> None:
    """AUC and cross entropy on the frozen test images against steps: a thin line a seed, a thick one their mean."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    for axis, (name, words) in zip(
        figure.subplots(1, 2), (("auc", "macro AUC on frozen test images"), ("loss", "cross entropy")), strict=True
    ):
        for source in SOURCES:
            part = comparison["sources"][source]
            colour, label = _SOURCES[source]
            curves = np.array(part[name])
            axis.plot(part["steps"], curves.T, color=colour, alpha=0.35, linewidth=0.8)
            times = part["images_seen"] / part["images_distinct"]
            counts = f"{part['images_distinct']:,} images, each {times:.1f} times" if times > 1 else "every image once"
            axis.plot(part["steps"], curves.mean(0), "o-", color=colour, linewidth=2, label=f"{label}: {counts}")
        axis.set(xlabel="step", ylabel=words)
        axis.grid(alpha=0.3)
    axis.axhline(np.log(3), color="0.5", linestyle="--", linewidth=0.8, label="chance")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
