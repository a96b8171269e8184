"""A JEPA judged: its predictions beside constant ones, and what it knows of lenses beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.data import Batch, Data
from trainers.einstein_radius import Radii, test_radii, true_radii
from trainers.models.block_masks import Masks
from trainers.models.jepa import JEPA, jepa_loss, take
from trainers.models.lens_encoder import LensEncoder
from trainers.seeing import k_correlations, some_of_each_class

COMPARED = 8  # test lenses of each class whose k is compared with the true one; hundreds of halos take a second each
_AT_A_TIME = 125


def prediction_figures(jepa: JEPA, data: Data, masks: Masks) -> dict[str, float]:
    """Of the `score` images under `masks` of them.

    Returns:
        `prediction_loss`; `constant_loss`, of predicting the mean token of each place, by the `fit` images; and, of an
        encoder that knows the lens equation, where the truth is known, `context_theta_E_correlation` and
        `context_theta_E_rms_arcsec` of what it finds by the context.
    """
    score, transform = data.score, data.transform
    parts, radii = [], []
    with torch.no_grad():
        fit = data.fit.image.split(_AT_A_TIME)
        mean = torch.stack([jepa.compared(transform(part)).sum(0) for part in fit]).sum(0) / len(data.fit.image)
        for rows in torch.arange(len(score.image), device=score.image.device).split(_AT_A_TIME):
            outputs = jepa(transform(score.image[rows]), masks.context[rows], masks.targets[rows])
            constant = take(mean.expand(len(rows), -1, -1), masks.targets[rows])
            parts.append(torch.stack((jepa_loss(outputs), jepa_loss({**outputs, "predicted": constant})), 1))
            radii += [outputs["theta_E"]] if "theta_E" in outputs else []
    found = dict(zip(("prediction_loss", "constant_loss"), torch.cat(parts).mean(0).tolist(), strict=True))
    known = _known(torch.cat(radii), score, data) if radii else {}
    return found | {f"context_{name}": value for name, value in known.items()}


def radius_figures(encoder: LensEncoder, data: Data) -> dict[str, float]:
    """`theta_E_correlation` and `theta_E_rms_arcsec` of the whole `score` images, where the truth is known."""
    return _known(learned_radii(encoder, data, data.score.image), data.score, data)


def _known(learned: Tensor, batch: Batch, data: Data) -> dict[str, float]:
    radii = Radii.of(learned, true_radii(batch.params, data), batch.index, data.pixel_scale)
    return {} if radii is None else radii.figures()


def learned_radii(encoder: LensEncoder, data: Data, images: Tensor) -> Tensor:
    """Of raw images `[N, C, H, W]`, in pixels, `[N]`, without gradients."""
    with torch.no_grad():
        return torch.cat([encoder.einstein_radius(data.transform(part)) for part in images.split(2 * _AT_A_TIME)])


def lens_figures(encoder: LensEncoder, data: Data, folder: Path) -> dict[str, Any]:
    """What is known of theta_E and k of test images, where the truth is; writes `theta_E.npz`.

    Returns:
        `theta_E_correlation`, `theta_E_rms_arcsec` and `theta_E_deviation_arcsec` (of the true ones: the rms error of
        whoever knows their mean alone); by class `k_correlation` and `k_correlation_with_others`, see
        `KCorrelations`.
    """
    found: dict[str, Any] = {}
    radii = test_radii(lambda images: learned_radii(encoder, data, images), data)
    if radii is not None:
        np.savez(folder / "theta_E.npz", index=radii.index, learned=radii.learned, true=radii.true)
        found |= {**radii.figures(), "theta_E_deviation_arcsec": float(radii.true.std())}
    lenses = some_of_each_class(data, COMPARED)
    with torch.no_grad():
        k = k_correlations(encoder.explain(data.transform(lenses.image)), data, lenses)
    return found | ({} if k is None else {"k_correlation": k.own, "k_correlation_with_others": k.others})


def as_text(metrics: Mapping[str, Any]) -> str:
    """How good the prediction is, and what is known of theta_E and k, for people."""
    own, constant = (metrics["last"][f"{name}_loss"] for name in ("prediction", "constant"))
    words = "better" if own < constant else "no better yet: train longer"
    lines = [f"prediction       loss {own:.4f}, of the mean token of each place {constant:.4f}: {words}"]
    if "theta_E_rms_arcsec" in metrics:
        correlation = metrics.get("theta_E_correlation")
        words = "all alike" if correlation is None else f"correlation {correlation:.3f}"
        mean = f"{metrics['theta_E_deviation_arcsec']:.3f} by their mean alone"
        lines.append(f"theta_E          {words}, rms error {metrics['theta_E_rms_arcsec']:.3f} arcsec, {mean}")
    if "k_correlation" in metrics:
        others = metrics["k_correlation_with_others"]
        words = "; ".join(
            f"{name} {value:+.2f} ({others[name]:+.2f} with other lenses' k)"
            for name, value in metrics["k_correlation"].items()
            if value is not None
        )
        lines.append(f"k                correlation with the true one: {words or 'the true one is 1 in all'}")
    return "".join(f"\n{line}" for line in lines)
