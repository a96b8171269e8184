"""A regressor judged on images that it was not trained on: figures, pictures, a page on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from trainers.frozen import FrozenImages
from trainers.logs import write_json
from trainers.metrics import bootstrap_interval, root_mean_square
from trainers.models.regressor import Scaling, predict
from trainers.regress_figures import draw_calibration, draw_predicted
from trainers.targets import NEAR, Target
from trainers.transform import InputTransform

METRICS = "metrics.json"
PREDICTIONS = "predictions.npz"  # index, truth, predicted and sigma of each image: to compare regressors pair by pair
NOMINAL = {"coverage_68": 1.0, "coverage_95": 1.959964}  # |z| below which so many are of a Gaussian


def regression_figures(
    truth: np.ndarray, predicted: np.ndarray, sigma: np.ndarray, prior: float, target: Target, resamples: int = 1000
) -> dict[str, Any]:
    """Everything that is said of a regressor on some images, as JSON can hold it.

    Args:
        truth, predicted, sigma: `[N]`, on the scale of `target`.
        prior: what is predicted by who looks at no image: the mean of the prior.

    Returns:
        `images`, their number; `rmse`, with `"value", "low", "high"`, a 95 % bootstrap interval; `prior_rmse`, of
        `prior`; the same as `rmse_near` and `prior_rmse_near` of those images whose truth is near `target.near`, and
        `images_near` (null and 0 where there are none); in decades all these end in `_dex`. `r2`; `z_mean` and `z_std`
        of (predicted - truth) / sigma; `coverage_68` and `coverage_95`, the shares of images with |z| below 1 and 1.96.
    """
    error, z = predicted - truth, (predicted - truth) / sigma
    figures: dict[str, Any] = {"images": len(truth)}
    parts = {"": np.full(len(truth), True)}
    if target.near is not None:
        parts["_near"] = np.abs(truth - target.scaled(target.near)) < NEAR
        figures["images_near"] = int(parts["_near"].sum())
    for part, rows in parts.items():
        figures[f"rmse{target.suffix}{part}"] = _rmse(error[rows], resamples)
        figures[f"prior_rmse{target.suffix}{part}"] = root_mean_square(prior - truth[rows]) if rows.any() else None
    spread = float(np.square(truth - truth.mean()).mean())
    return figures | {
        "r2": 1 - float(np.square(error).mean()) / spread if spread else None,
        "z_mean": float(z.mean()),
        "z_std": float(z.std()),
        **{name: float((np.abs(z) < reach).mean()) for name, reach in NOMINAL.items()},
    }


def evaluate(
    model: nn.Module,
    transform: InputTransform,
    scaling: Scaling,
    target: Target,
    images: FrozenImages,
    folder: Path,
    about: Mapping[str, Any],
) -> list[Path]:
    """Writes metrics, predictions and figures into `folder`, prints the table; returns the figures' files.

    Args:
        model: on the device of the images.
        about: what `metrics.json` says beside the figures: the checkpoint, for instance.
    """
    model.eval()
    index, value, estimate = [], [], []
    with tqdm(total=images.size, unit="image", desc="testing", dynamic_ncols=True) as bar:
        for batch in images.batches(256):
            index.append(batch.index.cpu())
            value.append(target.of(batch.params).cpu())
            estimate.append(predict(model, transform, batch.image, scaling)[:, 0].cpu())
            bar.update(len(batch.index))
    truth = torch.cat(value).numpy()
    predicted, sigma = torch.cat(estimate).numpy().T
    figures = regression_figures(truth, predicted, sigma, scaling.mean[0], target)
    metrics = {
        **about,
        "data": images.identity,
        "target": {"name": target.name, "parameter": target.parameter, "unit": target.unit, "log10": target.log10,
                   "class": target.label, "mean": scaling.mean[0], "deviation": scaling.deviation[0]},
        **figures,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "predicted.png", folder / "calibration.png"]
    draw_predicted(files[0], truth, predicted, sigma, figures, scaling.mean[0], target)
    draw_calibration(files[1], (predicted - truth) / sigma, figures)
    np.savez(folder / PREDICTIONS, index=torch.cat(index).numpy(), truth=truth, predicted=predicted, sigma=sigma)
    write_json(folder / METRICS, metrics)
    print(as_text(figures, target))
    return files


def as_text(figures: Mapping[str, Any], target: Target) -> str:
    """The figures for people."""
    unit = f" [{target.error_unit}]" if target.error_unit else ""
    heading = f"{target.axis} on {figures['images']:,} test images"
    lines = ["", f"{heading:<46s}{'95 % interval':<20s} the prior's mean"]
    rows = [("RMSE" + unit, "")]
    if target.near is not None:
        rows.append((f"RMSE{unit} near {target.near:g} {target.unit}", "_near"))
    for name, part in rows:
        found, prior = (figures[f"{figure}{target.suffix}{part}"] for figure in ("rmse", "prior_rmse"))
        if found["value"] is None:
            lines.append(f"  {name:<32s}   no such image")
        else:
            interval = f"{found['low']:.4f} to {found['high']:.4f}"
            lines.append(f"  {name:<32s} {found['value']:>8.4f}   {interval:<20s} {prior:.4f}")
    for name, value in (
        ("R2", figures["r2"]),
        ("mean of z", figures["z_mean"]),
        ("deviation of z (1)", figures["z_std"]),
        ("coverage of 68 %", figures["coverage_68"]),
        ("coverage of 95 %", figures["coverage_95"]),
    ):
        lines.append(f"  {name:<32s} {value:>8.4f}" if value is not None else f"  {name:<32s}   not defined")
    return "\n".join(lines)


def _rmse(error: np.ndarray, resamples: int) -> dict[str, float | None]:
    if not error.size:
        return {"value": None, "low": None, "high": None}
    low, high = bootstrap_interval(root_mean_square, error, resamples=resamples)
    return {"value": root_mean_square(error), "low": float(low), "high": float(high)}
