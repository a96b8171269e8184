"""An encoder that taught itself, judged on the frozen test images beside the same encoder untrained.

A linear probe is logistic regression on frozen, standardised features; its penalty is chosen on the validation images
`score`, then it is fitted to all validation images. So is the vote of the nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from tqdm import tqdm

from trainers.classify_evaluation import METRICS, PREDICTIONS
from trainers.collapse import spreads
from trainers.data import Batch, Data
from trainers.detectability import detectability
from trainers.logs import write_json
from trainers.metrics import aucs_of_ranks, bootstrap_interval, estimate, with_mean
from trainers.probes import effective_rank, in_chunks

INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
FIGURES = ("linear_accuracy", "knn_accuracy", "macro_auc")

Features = Callable[[Tensor], Tensor]  # raw images [B, C, H, W] -> features [B, F], of a network in evaluation mode


def evaluate(
    trained: Features,
    untrained: Features,
    data: Data,
    neighbours: int,
    folder: Path,
    about: Mapping[str, Any],
    detectable: int = 0,
) -> dict[str, Any]:
    """Writes `metrics.json` and `predictions.npz` into `folder`; returns the metrics.

    Args:
        trained, untrained: the encoder after and before its training.
        neighbours: that vote in kNN.
        about: what the metrics say beside the figures.
        detectable: of how many images, the first ones, to simulate how detectable their substructure is.
    """
    columns: dict[str, Callable[[Batch], Tensor]] = {
        "index": lambda batch: batch.index,
        "label": lambda batch: batch.label,
        "trained": lambda batch: trained(batch.image),
        "untrained": lambda batch: untrained(batch.image),
    }
    found = read_test(data, columns)
    metrics = {
        **about,
        "data": data.identity,
        "class_names": list(data.class_names),
        "images": len(found["index"]),
        "feature_rank": effective_rank(found["trained"]),
        "untrained_feature_rank": effective_rank(found["untrained"]),
    }
    predictions = {name: found[name] for name in ("index", "label")}
    if len(data.fit.label.unique()) > 1:
        probed = [
            probe_on_test(features, found[name], found["label"], data, neighbours)
            for name, features in (("trained", trained), ("untrained", untrained))
        ]
        metrics |= compare(probed[0], probed[1], found["label"])
        predictions |= {"probability": probed[0].probability, "untrained_probability": probed[1].probability}
    if detectable:
        predictions["detectability"] = detectability(data.truth, torch.from_numpy(found["index"][:detectable]))
    np.savez(folder / PREDICTIONS, **predictions)  # type: ignore[arg-type]  # its own options are none of the names
    write_json(folder / METRICS, metrics)
    return metrics


def as_text(metrics: Mapping[str, Any]) -> str:
    """The figures for people."""
    lines = [""]
    if "gain" in metrics:
        heading = f"on {metrics['images']:,} test images, frozen features"
        lines.append(f"{heading:<42s} {'untrained':>12s}{'trained':>12s}   95 % interval")
        for name in FIGURES:
            after, before = metrics[name], metrics["untrained"][name]
            if after["value"] is not None:
                interval = f"{after['low']:.4f} to {after['high']:.4f}"
                lines.append(f"  {name:<40s} {before['value']:>12.4f}{after['value']:>12.4f}   {interval}")
        gain = metrics["gain"]["linear_accuracy"]
        lines.append(f"  gain of the linear probe {gain['value']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})")
    yet = "" if spreads(metrics["last"]) else ", but the projections of different images have not spread: train longer"
    lines.append(f"collapsed        {metrics['collapse'] or 'no' + yet}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Probed:
    """What was read off frozen features of the test images.

    Attributes:
        probability: of the linear probe, `[N, K]`.
        right: whether the linear probe and the vote of the nearest were, `[N, 2]`.
    """

    probability: np.ndarray
    right: np.ndarray


def read_test(data: Data, columns: Mapping[str, Callable[[Batch], Tensor]]) -> dict[str, np.ndarray]:
    """`columns` of all test images, which are read once and without gradients: name -> `[N, ...]`."""
    parts: dict[str, list[Tensor]] = {name: [] for name in columns}
    with torch.no_grad(), tqdm(total=data.test_size, unit="image", desc="testing", dynamic_ncols=True) as bar:
        for batch in data.test():
            for name, column in columns.items():
                value = column(batch)
                parts[name].append((value.float() if value.is_floating_point() else value).cpu())
            bar.update(len(batch.index))
    return {name: torch.cat(values).numpy() for name, values in parts.items()}


def probe_on_test(features: Features, found: np.ndarray, label: np.ndarray, data: Data, neighbours: int) -> Probed:
    """Fits the probes of frozen features and has them judge the test images.

    Args:
        found, label: of the test images, features `[N, F]` and `[N]`.
    """
    fit, score = in_chunks(features, data.fit.image), in_chunks(features, data.score.image)
    fit_label, score_label = data.fit.label.cpu().numpy(), data.score.label.cpu().numpy()
    every, every_label = np.concatenate([fit, score]), np.concatenate([fit_label, score_label])
    losses = []
    for strength in INVERSE_PENALTIES:
        tried = _logistic(strength).fit(fit, fit_label)
        rows = np.isin(score_label, tried.classes_)
        losses.append(log_loss(score_label[rows], tried.predict_proba(score[rows]), labels=tried.classes_))
    linear = _logistic(INVERSE_PENALTIES[int(np.argmin(losses))]).fit(every, every_label)
    probability = np.zeros((len(found), len(data.class_names)), dtype=np.float32)
    probability[:, linear.classes_] = linear.predict_proba(found)
    nearest = make_pipeline(StandardScaler(), KNeighborsClassifier(neighbours, metric="cosine"))
    votes = nearest.fit(every, every_label).predict(found)
    return Probed(probability, np.stack([probability.argmax(axis=1) == label, votes == label], axis=1))


def _logistic(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))


def compare(trained: Probed, untrained: Probed, label: np.ndarray, resamples: int = 1000) -> dict[str, Any]:
    """`linear_accuracy`, `knn_accuracy` and `macro_auc` (of the linear probe) of both, and the paired `gain`.

    Each is `{"value", "low", "high"}`, with the 95 % interval of a bootstrap over the test images, in which both
    encoders are judged on the same ones; null where it is not defined.
    """
    arrays = []
    for probed in (trained, untrained):
        ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in probed.probability.T], axis=1)
        arrays += [ranks, probed.right]

    def figures(*arrays: np.ndarray) -> np.ndarray:
        ranks, right, ranks_before, right_before, truth = arrays
        after = [*right.mean(axis=0), with_mean(aucs_of_ranks(ranks, truth))[-1]]
        before = [*right_before.mean(axis=0), with_mean(aucs_of_ranks(ranks_before, truth))[-1]]
        return np.array([after, before, np.subtract(after, before)])

    values = figures(*arrays, label)
    intervals = bootstrap_interval(figures, *arrays, label, resamples=resamples)
    tables = [
        {name: estimate(value, *ends) for name, value, ends in zip(FIGURES, row, bounds, strict=True)}
        for row, bounds in zip(values, intervals, strict=True)
    ]
    return {**tables[0], "untrained": tables[1], "gain": tables[2]}
