"""Pictures of the results. matplotlib without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter


def _label(record: dict[str, Any]) -> str:
    words = [record["case"]]
    if not record["preset"]:
        words.append("noise" if record["noise"] else "noise-free")
    words.append(f"{record['cores']} core(s)")
    if not record["preset"]:
        words.append(f"{record['size']}^2 x {record['supersampling']}^2")
    return ", ".join([*words, f"batch {record['batch']}"])


def draw_throughput(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Median images a second with the extremes as whiskers, a panel for each task."""
    shown = [(r, [o for o in r["outcomes"] if not o["refused"]]) for r in records]
    shown = [(record, outcomes) for record, outcomes in shown if outcomes]
    names = sorted({o["contender"] for _, outcomes in shown for o in outcomes})
    colours = {name: plt.get_cmap("tab20")(i % 20) for i, name in enumerate(names)}
    columns = min(3, max(1, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    figure, axes = plt.subplots(rows, columns, figsize=(5.2 * columns, 2.6 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    for axis, (record, outcomes) in zip(axes.flat, shown, strict=False):
        speeds = [o["images_per_second"] for o in outcomes]
        middle = np.array([s["median"] for s in speeds])
        ends = np.array([[s["median"] - s["low"], s["high"] - s["median"]] for s in speeds]).T
        labels = [o["contender"] for o in outcomes]
        for row, name in enumerate(labels):  # points: a bar has no beginning on a logarithmic axis
            axis.errorbar(middle[row], row, xerr=ends[:, row : row + 1], fmt="o", color=colours[name], capsize=2)
        axis.set_yticks(range(len(labels)), labels)
        axis.set_xscale("log")
        axis.set_xlim(middle.min() / 2.0, 2.0 * middle.max())
        _few_ticks(axis.xaxis)
        axis.set_ylim(-0.6, len(labels) - 0.4)
        axis.grid(axis="x", which="both", alpha=0.3)
        axis.invert_yaxis()
        axis.set_title(_label(record), fontsize=8)
        axis.set_xlabel("images/s", fontsize=8)
        axis.tick_params(labelsize=7)
    _save(figure, path)


def draw_scaling(series: Sequence[dict[str, Any]], path: Path) -> None:
    """Time an image against what was varied, log-log, a panel for each quantity, with the fitted power laws."""
    axes_of = list(dict.fromkeys(s["axis"] for s in series))
    figure, axes = plt.subplots(1, len(axes_of), figsize=(4.6 * len(axes_of), 3.6), squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], axes_of, strict=True):
        for one in (s for s in series if s["axis"] == name):
            x, y = np.array(one["values"], float), 1e3 / np.array([p["median"] for p in one["images_per_second"]])
            (line,) = axis.loglog(x, y, "o-", markersize=4, label=f"{one['contender']}, {one['case']}")
            fit = one["fit"]
            if fit:
                used = np.array(fit["points"], float)
                axis.loglog(used, 1e3 * fit["factor"] * used ** fit["exponent"], ":", color=line.get_color())
        axis.set_xlabel(name)
        axis.set_ylabel("ms an image")
        _few_ticks(axis.yaxis)
        axis.legend(fontsize=6)
    _save(figure, path)


def draw_bars(
    labels: Sequence[str], values: Sequence[float], ends: np.ndarray, title: str, unit: str, path: Path
) -> None:
    """A few bars with whiskers `[2, N]`."""
    figure, axis = plt.subplots(figsize=(5.0, 0.5 * len(labels) + 1.2), layout="constrained")
    axis.barh(list(labels), list(values), xerr=ends, color="0.6", ecolor="0.2")
    axis.invert_yaxis()
    axis.set_xlabel(unit)
    axis.set_title(title, fontsize=9)
    _save(figure, path)


def draw_information(result: dict[str, Any], bins: Sequence[str], path: Path) -> None:
    """Accuracy in bins of detectability with its intervals, and how it grew with training."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained", sharey=True)
    shown = [record for record in result["bins"] if record["class"] == "all"]
    middle = np.array([record["accuracy"] for record in shown])
    ends = np.array([[r["accuracy"] - r["low"], r["high"] - r["accuracy"]] for r in shown]).T.clip(0.0)
    left.errorbar([record["bin"] for record in shown], middle, yerr=ends, fmt="o", color="0.2", capsize=3)
    left.set_xlabel("detectability")
    left.set_ylabel("accuracy")
    for number, name in enumerate(bins):
        for student in result["students"]:
            values = [np.nan if (v := epoch[name]) is None else v for epoch in student["accuracy"]]
            label = name if student is result["students"][0] else None
            right.plot(range(1, len(values) + 1), values, color=f"C{number}", label=label)
    right.set_xlabel("epochs of the judge")
    right.legend(fontsize=7)
    for axis in (left, right):
        axis.axhline(0.5, color="0.7", linewidth=0.8)
        axis.set_ylim(0.4, 1.0)
    _save(figure, path)


def _few_ticks(axis: Any) -> None:
    """1, 2, 5, 10, ... over a short logarithmic axis, 1, 10, 100, ... over a long one, without powers."""
    low, high = axis.get_view_interval()
    steps = (1.0, 2.0, 5.0) if high < 100.0 * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_formatter(NullFormatter())


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
