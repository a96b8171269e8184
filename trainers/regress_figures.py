"""Pictures of a regressor: predicted against simulated, and whether its uncertainties are what they say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import erf
from scipy.stats import norm

from trainers.metrics import bootstrap_interval, root_mean_square, share
from trainers.targets import NEAR, Target

SHOWN = 1500  # images, so that points can be told apart
WITH_ERRORS = 60
BINS = 10


def draw_predicted(
    path: Path,
    truth: np.ndarray,
    predicted: np.ndarray,
    sigma: np.ndarray,
    figures: Mapping[str, Any],
    prior: float,
    target: Target,
) -> None:
    """Predicted against simulated values (figure 2 of the self-supervision paper), and the error along them.

    Args:
        truth, predicted, sigma: `[N]`, on the scale of `target`.
        figures: as `regression_figures` gives them.
        prior: the mean of the prior.
    """
    figure = Figure(figsize=(6.4, 8.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
    ends = np.array([truth.min(), truth.max()])
    some = slice(0, SHOWN)  # the order is random already
    above.plot(truth[some], predicted[some], ".", color="C0", alpha=0.35, markersize=4, label="a lens")
    few = slice(0, WITH_ERRORS)
    above.errorbar(truth[few], predicted[few], yerr=sigma[few], fmt=".", color="C0", markersize=5, elinewidth=0.8,
                   label=f"the first {min(WITH_ERRORS, len(truth))} with their 1 sigma")  # fmt: skip
    above.plot(ends, ends, color="k", linewidth=1, label="predicted = simulated")
    edges, rows = _bins(truth)
    centres = (edges[1:] + edges[:-1]) / 2
    quantiles = np.array([np.quantile(predicted[part], [0.5, 0.16, 0.84]) for part in rows]).T
    above.plot(centres, quantiles[0], color="C1", label="median and 68 % of the predictions")
    above.fill_between(centres, quantiles[1], quantiles[2], color="C1", alpha=0.25, linewidth=0)
    above.set(ylabel="predicted " + target.axis)
    above.set_title(_title(figures, target), fontsize=10)
    above.legend(loc="upper left", fontsize=8)
    above.grid(alpha=0.3)
    _draw_errors(below, truth, predicted - truth, prior, edges, rows, target)
    if target.near is not None:
        near = target.scaled(target.near)
        for axis in (above, below):
            axis.axvspan(max(ends[0], near - NEAR), min(ends[1], near + NEAR), color="0.5", alpha=0.15, linewidth=0)
    figure.savefig(path, dpi=110)


def draw_calibration(path: Path, z: np.ndarray, figures: Mapping[str, Any]) -> None:
    """Coverage of the central intervals against the coverage that they claim, and a histogram of z.

    Args:
        z: `[N]`, (predicted - truth) / sigma.
        figures: as `regression_figures` gives them.
    """
    figure = Figure(figsize=(10.5, 4.7), layout="constrained")
    coverage, histogram = figure.subplots(1, 2)
    claimed = np.linspace(0.02, 0.98, 49)
    level = erf(np.abs(z) / np.sqrt(2))  # of the central interval that just holds the truth
    found = [share(level < nominal) for nominal in claimed]
    value, low, high = ([entry[name] for entry in found] for name in ("accuracy", "low", "high"))
    coverage.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="perfectly calibrated")
    coverage.plot(claimed, value, color="C0", label="found, 95 % interval")
    coverage.fill_between(claimed, low, high, color="C0", alpha=0.25, linewidth=0)
    for nominal, name in ((0.6827, "coverage_68"), (0.95, "coverage_95")):
        coverage.plot(nominal, figures[name], "o", color="C1")
        coverage.annotate(f"{figures[name]:.3f}", (nominal, figures[name]), (0, -18), textcoords="offset points",
                          ha="center")  # fmt: skip
    coverage.set(xlabel="coverage claimed", ylabel="coverage found", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    coverage.legend(loc="upper left", fontsize=8)
    coverage.grid(alpha=0.3)
    edges = np.linspace(-4, 4, 41)
    histogram.hist(np.clip(z, -4, 4), bins=edges, density=True, color="C0", alpha=0.6, label="test images")
    histogram.plot(edges, norm.pdf(edges), color="k", linewidth=1, label="normal distribution")
    histogram.set(xlabel="z = (predicted - simulated) / sigma", ylabel="density")
    histogram.set_title(f"mean {figures['z_mean']:.3f}, deviation {figures['z_std']:.3f}; beyond 4 at the ends",
                        fontsize=10)  # fmt: skip
    histogram.legend(fontsize=8)
    histogram.grid(alpha=0.3)
    figure.suptitle(f"{len(z):,} test images")
    figure.savefig(path, dpi=110)


def _draw_errors(
    axis: Axes, truth: np.ndarray, error: np.ndarray, prior: float, edges: np.ndarray, rows: list, target: Target
) -> None:
    """RMSE in the bins of the truth, beside that of the mean of the prior."""
    centres, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    value = np.array([root_mean_square(error[part]) for part in rows])
    low, high = np.array([bootstrap_interval(root_mean_square, error[part], resamples=300) for part in rows]).T
    axis.errorbar(centres, value, xerr=half, yerr=np.maximum(0, [value - low, high - value]), fmt="o", color="C0",
                  markersize=4, capsize=2, label="RMSE, 95 % interval")  # fmt: skip
    axis.plot(centres, [root_mean_square(truth[part] - prior) for part in rows], color="0.4", linestyle="--",
              label="of the prior's mean")  # fmt: skip
    unit = f" [{target.error_unit}]" if target.error_unit else ""
    axis.set(xlabel="simulated " + target.axis, ylabel="RMSE" + unit)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def _bins(truth: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Edges `[K + 1]` of bins of as many images each, and the rows of each."""
    order = np.array_split(np.argsort(truth, kind="stable"), min(BINS, max(1, len(truth) // 10)))
    edges = [truth[order[0][0]], *(truth[part[-1]] for part in order)]
    return np.array(edges), order


def _title(figures: Mapping[str, Any], target: Target) -> str:
    unit = f" {target.error_unit}" if target.error_unit else ""
    found, prior = figures[f"rmse{target.suffix}"], figures[f"prior_rmse{target.suffix}"]
    lines = [f"{figures['images']:,} test images: RMSE {found['value']:.3f}{unit} (the prior's mean {prior:.3f})"]
    if target.near is not None and figures["images_near"]:
        near, by_prior = (figures[f"{name}{target.suffix}_near"] for name in ("rmse", "prior_rmse"))
        lines.append(f"shaded, near {target.near:g} {target.unit}: {near['value']:.3f}{unit} ({by_prior:.3f})")
    return "\n".join(lines)
