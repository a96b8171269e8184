"""The runs' figures as rows of tables: of each model in each data, and of one model minus another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score

from trainers.logs import read_table
from trainers.reproduction.estimates import Estimate, mean_of_seeds
from trainers.reproduction.lenspinn.names import PAPER, run_folder
from trainers.reproduction.runs import Run, finished, gain, images

if TYPE_CHECKING:
    from trainers.reproduction.lenspinn.protocol import LensPINNProtocol

LENS = ("theta_E_correlation", "theta_E_rms_arcsec")


def collect(root: Path, protocol: LensPINNProtocol, seeds: int) -> list[dict[str, Any]]:
    """A row for each data and model; `seeds` 0 for one not reached.

    Returns:
        `data`, `mode`, `model`, `title`, `seeds`; of those reached `parameters`, `images` seen and different, `epochs`
        (shown images by those of the stored set), `seconds_per_epoch` (of as many images, in the model's fastest run of
        all, as other work on the machine slows some), means of the seeds
        `accuracy`, `macro_auc` and `auc` by class with intervals (None where a class is missing), `f1_micro`,
        `f1_macro` and `auc_micro`, what is known of theta_E, and `curves`; in paper mode without noise `paper`.
    """
    rows = [_row(root, protocol, data, model, seeds) for data, model in protocol.table_rows()]
    for row in rows:
        if row["seeds"]:
            fastest = max(
                other["images_per_second"] for other in rows if other["model"] == row["model"] and other["seeds"]
            )
            row["seconds_per_epoch"] = protocol.epoch / fastest
    return rows


def runs_of(root: Path, data: str, model: str, seeds: int) -> dict[int, Run]:
    """Those that are done, by seed."""
    found = {seed: finished(root, [run_folder(data, model, seed)]) for seed in range(seeds)}
    return {seed: runs[0] for seed, runs in found.items() if runs}


def _row(root: Path, protocol: LensPINNProtocol, data: str, model: str, seeds: int) -> dict[str, Any]:
    mode, runs = protocol.data(data)["mode"], runs_of(root, data, model, seeds)
    row: dict[str, Any] = {
        "data": data,
        "mode": mode,
        "model": model,
        "title": protocol.recipe["models"][model]["title"],
        "seeds": len(runs),
        # the published images have no noise
        "paper": PAPER[model]._asdict() if mode == "paper" and protocol.noiseless(data) and model in PAPER else {},
    }
    if not runs:
        return row
    every = list(runs.values())
    names = every[0].metrics["class_names"]
    curves = [_curves(root / run_folder(data, model, seed)) for seed in runs]
    counts = images(every)
    batch = counts["images_seen"] / every[0].summary["steps"]
    lens = {name: float(np.mean([run.metrics[name] for run in every])) for name in LENS if name in every[0].metrics}
    return {
        **row,
        "parameters": every[0].summary["parameters"],
        "images": counts,
        "images_per_second": max(run.summary["images_per_second"] for run in every),
        "epochs": counts["images_seen"] / protocol.epoch,
        **{figure: _mean([run.metrics[figure] for run in every]) for figure in ("accuracy", "macro_auc")},
        "auc": {name: _mean([run.metrics["auc"][name] for run in every]) for name in names},
        **{figure: float(np.mean([_micro(run)[figure] for run in every])) for figure in _micro(every[0])},
        **lens,
        "curves": _mean_curves(curves, batch, protocol.epoch),
    }


def _mean(parts: Sequence[Mapping[str, Any]]) -> Estimate | None:
    there = [part for part in parts if part["value"] is not None]
    return mean_of_seeds(there) if there else None


def _micro(run: Run) -> dict[str, float]:
    """What scikit-learn says of all classes' decisions together, and the mean of the classes' F1."""
    label, probability = run.predictions["label"], run.predictions["probability"]
    predicted = probability.argmax(axis=1)
    right = label[:, None] == np.arange(probability.shape[1])
    return {
        "f1_micro": float(f1_score(label, predicted, average="micro")),
        "f1_macro": float(f1_score(label, predicted, average="macro")),
        "auc_micro": float(roc_auc_score(right.ravel(), probability.ravel())),
    }


def _curves(folder: Path) -> dict[str, dict[int, float]]:
    """Micro F1, which is the accuracy, and cross entropy of validation images by step.

    The paper draws the loss in training; LensPINN's has parts here that the others' have not.
    """
    table = read_table(folder / "validation.csv")
    columns = {"f1": "accuracy", "loss": "loss"}
    return {name: {int(line["step"]): float(line[column]) for line in table} for name, column in columns.items()}


def _mean_curves(curves: Sequence[Mapping[str, Mapping[int, float]]], batch: float, epoch: int) -> dict[str, Any]:
    """`loss` and `f1`, each `epochs` and `mean`, `low`, `high` of the seeds."""
    found = {}
    for name in curves[0]:
        steps = sorted(set.intersection(*(set(curve[name]) for curve in curves)))
        values = np.array([[curve[name][step] for step in steps] for curve in curves])
        found[name] = {
            "epochs": [step * batch / epoch for step in steps],
            **{
                end: how(values, axis=0).tolist() for end, how in (("mean", np.mean), ("low", np.min), ("high", np.max))
            },
        }
    return found


def differences(root: Path, protocol: LensPINNProtocol, seeds: int) -> list[dict[str, Any]]:
    """Of the recipe's pairs `one`, `other` in each data, of seeds of which both are done.

    Returns:
        `data`, `one`, `other`, `seeds`, `epochs`, the accuracies `one_accuracy` and `other_accuracy` of these seeds,
        and the differences as `runs.gain` gives them.
    """
    found = []
    rows = protocol.table_rows()
    for data in dict.fromkeys(row.data for row in rows):
        for one, other in (pair.split() for pair in protocol.recipe["differences"]):
            ones, others = (runs_of(root, data, model, seeds) for model in (one, other))
            both = sorted(set(ones) & set(others))
            if both:
                pair = [ones[seed] for seed in both], [others[seed] for seed in both]
                accuracies = [mean_of_seeds([run.metrics["accuracy"] for run in runs]) for runs in pair]
                found.append(
                    {
                        "data": data,
                        "one": one,
                        "other": other,
                        "seeds": len(both),
                        "epochs": pair[0][0].summary["images_seen"] / protocol.epoch,
                        "one_accuracy": accuracies[0],
                        "other_accuracy": accuracies[1],
                        **gain(*pair),
                    }
                )
    return found
