"""Pictures of the reproduction: probes and AUCs of each method, the axion's mass, and the two kinds of views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainers.reproduction.ssl.names import PRETRAINED, SUPERVISED, Data
from trainers.reproduction.ssl.views import AUGMENT

_MARKERS = "osD^v"  # of encoders
_SHOWN = 800  # lenses, so that points can be told apart
_COLUMNS = {PRETRAINED: ("C0", "self-supervised"), SUPERVISED: ("C1", "from scratch")}


def draw_table(path: Path, probes: Sequence[Mapping[str, Any]], classes: Sequence[Mapping[str, Any]]) -> None:
    """Macro AUC of each method with intervals, a column for each data.

    Above linear probes, and the untrained encoder's; below fine-tuned encoders, the same from scratch, and the paper.
    """
    every = dict.fromkeys(row["data"] for row in [*probes, *classes] if row["seeds"])
    figure = Figure(figsize=(1.5 + 4.2 * len(every), 8), layout="constrained")
    axes = figure.subplots(2, len(every), squeeze=False)
    methods = list(dict.fromkeys(row["method"] for row in [*probes, *classes]))
    for column, data in enumerate(every):
        above, below = axes[:, column]
        _draw_pairs(
            above, [row for row in probes if row["data"] == data], methods,
            lambda row: {"trained": row["macro_auc"], "untrained": row["untrained"]["macro_auc"]},
            {"trained": ("C0", "self-supervised"), "untrained": ("0.5", "untrained")},
        )  # fmt: skip
        _draw_pairs(
            below, [row for row in classes if row["data"] == data], methods,
            lambda row: {name: row[name]["macro_auc"] for name in _COLUMNS}, _COLUMNS,
        )  # fmt: skip
        _draw_paper(below, [row for row in classes if row["data"] == data], methods)
        above.set_title(f"{Data.named(data)}\n\nlinear probe")
        below.set_title("fine-tuned")
        for axis in (above, below):
            if axis.has_data():
                axis.legend(fontsize=7)
    for axis in axes[:, 0]:
        axis.set_ylabel("macro AUC of test images")
    figure.savefig(path, dpi=110)


def _draw_pairs(
    axis: Axes,
    rows: Sequence[Mapping[str, Any]],
    methods: Sequence[str],
    estimates: Any,
    looks: Mapping[str, tuple[str, str]],
) -> None:
    axis.set_xticks(range(len(methods)), methods, rotation=60, ha="right")
    axis.set_xlim(-0.6, len(methods) - 0.4)
    reached = [row for row in rows if row["seeds"]]
    if not reached:
        axis.text(0.5, 0.5, "not reached", transform=axis.transAxes, ha="center", va="center", color="0.4")
        return
    encoders = list(dict.fromkeys(row["encoder"] for row in reached))
    for place, (name, (colour, words)) in enumerate(looks.items()):
        for number, encoder in enumerate(encoders):
            there = [row for row in reached if row["encoder"] == encoder]
            found = [estimates(row)[name] for row in there]
            value, low, high = (np.array([part[end] for part in found]) for end in ("value", "low", "high"))
            shift = 0.24 * (place - 0.5) + 0.08 * number
            axis.errorbar(
                [methods.index(row["method"]) + shift for row in there], value,
                np.clip([value - low, high - value], 0, None), fmt=_MARKERS[number % len(_MARKERS)], markersize=5,
                capsize=2, color=colour, label=f"{words}, {encoder}",
            )  # fmt: skip
    axis.axhline(0.5, color="0.6", linewidth=0.8, linestyle="--", label="chance")
    axis.grid(alpha=0.3)


def _draw_paper(axis: Axes, rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> None:
    for name, (colour, words) in _COLUMNS.items():
        points = {
            (methods.index(row["method"]), figures[name])
            for row in rows
            if row["seeds"]
            for figures in row["paper"].values()
            if name in figures
        }
        if points:
            axis.plot(*zip(*sorted(points), strict=True), "*", color=colour, markeredgecolor="k", markersize=9,
                      linestyle="none", label=f"the paper, {words}")  # fmt: skip


def draw_axion_mass(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Predicted against simulated mass (the paper's figure 2): a panel for each method and what it is beside."""
    reached = [row for row in rows if row["seeds"]]
    places = sorted({(row["data"], row["encoder"]) for row in reached}, key=lambda place: (place[1], place[0]))
    methods = list(dict.fromkeys(row["method"] for row in reached))
    figure = Figure(figsize=(1.0 + 2.0 * len(methods), 0.9 + 4.3 * len(places)), layout="constrained")
    axes = figure.subplots(2 * len(places), len(methods), squeeze=False, sharex=True, sharey=True)
    drawn = set()
    for row in reached:
        top, column = 2 * places.index((row["data"], row["encoder"])), methods.index(row["method"])
        for offset, (name, (colour, words)) in enumerate(_COLUMNS.items()):
            panel = (top, row["augmentation"] if name == SUPERVISED else row["method"], name)
            if panel in drawn:  # methods of one augmentation share what is from scratch
                continue
            drawn.add(panel)
            axis, part = axes[top + offset, column], row[name]
            axis.plot(part["truth"][:_SHOWN], part["predicted"][:_SHOWN], ".", color=colour, alpha=0.3, markersize=3)
            title = f"{row['method']}\n" if not offset else f"scratch, images as of {row['augmentation']}\n"
            axis.set_title(
                f"{title}RMSE {part['rmse_dex']['value']:.2f} ({part['prior_rmse_dex']:.2f}) dex", fontsize=8
            )
            if not column:
                axis.set_ylabel(f"{Data.named(row['data'])}\n{row['encoder']}, {words}\npredicted", fontsize=8)
    ends = [value for row in reached for value in row[PRETRAINED]["truth"]]
    for axis in axes.flat:
        if axis.has_data():
            axis.plot([min(ends), max(ends)], [min(ends), max(ends)], color="k", linewidth=0.8)
            axis.axvline(-23, color="0.6", linewidth=0.8, linestyle=":")
        else:
            axis.set_axis_off()
        axis.set_aspect("equal")
    figure.supxlabel("simulated log10(axion mass / eV); dotted: 1e-23 eV", fontsize=9)
    figure.suptitle("Predicted against simulated; in brackets the RMSE of predicting the mean", fontsize=10)
    figure.savefig(path, dpi=110)


def draw_views(path: Path, comparisons: Sequence[Mapping[str, Any]]) -> None:
    """Above AUC of the linear probe against detectability, with intervals; below the difference from augment."""
    reached = [part for part in comparisons if part["views"]]
    figure = Figure(figsize=(1.0 + 5.5 * len(reached), 7.2), layout="constrained")
    axes = figure.subplots(2, len(reached), squeeze=False, height_ratios=(1.6, 1))
    for (above, below), part in zip(axes.T, reached, strict=True):
        if not next(iter(part["views"].values()))["by_detectability"]:
            _draw_bars(above, part)
            below.set_axis_off()
            continue
        for number, (views, kind) in enumerate(part["views"].items()):
            label = f"{views}: AUC {kind['macro_auc']['value']:.3f}, accuracy {kind['linear_accuracy']['value']:.3f}"
            bins = kind["by_detectability"]
            where = _apart([bin["detectability"] for bin in bins], number)
            _draw_curve(above, where, bins, f"C{number}", label)
            if views != AUGMENT:
                [gap] = [gap for gap in part["differences"] if (gap["views"], gap["than"]) == (views, AUGMENT)]
                _draw_curve(below, where, gap["by_detectability"], f"C{number}", f"{views} minus {AUGMENT}")
        above.axhline(0.5, color="0.6", linestyle="--", linewidth=0.8, label="chance")
        below.axhline(0, color="0.6", linestyle="--", linewidth=0.8)
        images = sum(bin["images"] for bin in next(iter(part["views"].values()))["by_detectability"])
        above.set_title(f"{Data.named(part['data'])}, {images} test images with substructure", fontsize=10)
        above.set_ylabel("AUC of substructure against none, linear probe")
        below.set(xlabel="detectability of the substructure (chi-square), median of a bin", ylabel="difference")
        for axis in (above, below):
            axis.grid(alpha=0.3)
            low, high = axis.get_ylim()
            axis.set_ylim(low, high + 0.35 * (high - low))  # room for the legend
            axis.legend(fontsize=8, loc="upper left")
    figure.savefig(path, dpi=110)


def _draw_bars(axis: Axes, part: Mapping[str, Any]) -> None:
    """Without noise all substructure is detectable: the accuracy alone."""
    kinds = {"untrained": part["untrained"], **part["views"]}
    for number, (views, kind) in enumerate(kinds.items()):
        estimate = kind["linear_accuracy"]
        error = [[max(0.0, estimate["value"] - estimate["low"])], [max(0.0, estimate["high"] - estimate["value"])]]
        colour = "0.5" if views == "untrained" else f"C{number - 1}"
        axis.errorbar([number], [estimate["value"]], error, fmt="o", color=colour, capsize=3)
    axis.set_xticks(range(len(kinds)), list(kinds))
    axis.set_xlim(-0.6, len(kinds) - 0.4)
    axis.set_title(f"{Data.named(part['data'])}: no noise, all is detectable", fontsize=10)
    axis.set_ylabel("accuracy of the linear probe")
    axis.grid(alpha=0.3)


def _draw_curve(axis: Axes, where: np.ndarray, bins: Sequence[Mapping[str, float]], colour: str, label: str) -> None:
    value, low, high = (np.array([bin[end] for bin in bins]) for end in ("value", "low", "high"))
    error = np.clip([value - low, high - value], 0, None)
    axis.errorbar(where, value, error, fmt="o-", color=colour, capsize=3, markersize=4, linewidth=1, label=label)
    if len(where) and (where > 0).all():
        axis.set_xscale("log")


def _apart(detectability: Sequence[float], number: int) -> np.ndarray:
    """Medians of bins, a little to the side for each kind of views, so that intervals can be told apart."""
    return np.array(detectability) * 1.06**number
