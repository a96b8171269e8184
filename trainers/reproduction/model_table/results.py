"""The runs' figures as rows of tables: of each model in each data, and of one model minus another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score

from trainers.logs import read_table
from trainers.reproduction.estimates import Estimate, mean_of_seeds
from trainers.reproduction.model_table.names import run_folder, run_folders
from trainers.reproduction.runs import Run, finished, gain, images

if TYPE_CHECKING:
    from trainers.reproduction.model_table.protocol import ModelTableProtocol, Row

LENS = ("theta_E_correlation", "theta_E_rms_arcsec")


def collect(root: Path, protocol: ModelTableProtocol, seeds: int) -> list[dict[str, Any]]:
    """A row for each data and model; `seeds` 0 for one not reached.

    Returns:
        `data`, `mode`, `model`, `title`, `seeds`; of those reached `parameters`, `images` seen and different, `epochs`
        (shown images by those of the stored set), `seconds_per_epoch` (of as many images, in the model's fastest run of
        all, as other work on the machine slows some), means of the seeds
        `accuracy`, `macro_auc` and `auc` by class with intervals (None where a class is missing), `f1_micro`,
        `f1_macro` and `auc_micro`, what is known of theta_E, `curves`, and what is `beside`; `paper` where it may stand
        beside them.
    """
    rows = [_row(root, protocol, row, seeds) for row in protocol.table_rows()]
    for row in rows:
        if row["seeds"]:
            fastest = max(
                other["images_per_second"] for other in rows if other["model"] == row["model"] and other["seeds"]
            )
            row["seconds_per_epoch"] = protocol.epoch / fastest
    return rows


def runs_of(root: Path, names: Iterable[str]) -> dict[int, Run]:
    """Those that are done, by seed.

    Args:
        names: of the runs of seed 0, 1, ...
    """
    found = {seed: finished(root, [name]) for seed, name in enumerate(names)}
    return {seed: runs[0] for seed, runs in found.items() if runs}


def knowledge_of_the_lens(runs: Sequence[Run]) -> dict[str, float]:
    """Means of the seeds of those `LENS` that are known."""
    there = [name for name in LENS if runs[0].metrics.get(name) is not None]
    return {name: float(np.mean([run.metrics[name] for run in runs])) for name in there}


def _row(root: Path, protocol: ModelTableProtocol, place: Row, seeds: int) -> dict[str, Any]:
    data, model = place
    runs = runs_of(root, run_folders(*place, seeds))
    published = protocol.published.get(model) if protocol.is_published(data) else None
    row: dict[str, Any] = {
        "data": data,
        "mode": protocol.data(data)["mode"],
        "model": model,
        "title": protocol.title(model),
        "seeds": len(runs),
        "paper": {name: value for name, value in published._asdict().items() if value is not None} if published else {},
    }
    if not runs:
        return row
    every = list(runs.values())
    names = every[0].metrics["class_names"]
    curves = [_curves(root / run_folder(data, model, seed)) for seed in runs]
    counts = images(every)
    batch = counts["images_seen"] / every[0].summary["steps"]
    return {
        **row,
        "parameters": every[0].summary["parameters"],
        "images": counts,
        "images_per_second": max(run.summary["images_per_second"] for run in every),
        "epochs": counts["images_seen"] / protocol.epoch,
        **{figure: _mean([run.metrics[figure] for run in every]) for figure in ("accuracy", "macro_auc")},
        "auc": {name: _mean([run.metrics["auc"][name] for run in every]) for name in names},
        **{figure: float(np.mean([_micro(run)[figure] for run in every])) for figure in _micro(every[0])},
        **knowledge_of_the_lens(every),
        "curves": _mean_curves(curves, batch, protocol.epoch),
        **protocol.beside(root, place, seeds),
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

    The losses in training have other parts in networks that know the lens equation.
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


def differences(root: Path, protocol: ModelTableProtocol, seeds: int) -> list[dict[str, Any]]:
    """Of the recipe's pairs `one`, `other` in each data, of seeds of which both are done.

    Returns:
        `data`, `one`, `other`, `epochs`, and what `difference` says of them.
    """
    found = []
    rows = protocol.table_rows()
    for data in dict.fromkeys(row.data for row in rows):
        for one, other in (pair.split() for pair in protocol.recipe["differences"]):
            gap = difference(root, run_folders(data, one, seeds), run_folders(data, other, seeds))
            if gap:
                epochs = gap.pop("images_seen") / protocol.epoch
                found.append({"data": data, "one": one, "other": other, "epochs": epochs, **gap})
    return found


def difference(root: Path, one: Iterable[str], other: Iterable[str], accuracy: str = "accuracy") -> dict[str, Any]:
    """Some runs minus others, of seeds of which both are done; empty where there are none.

    Args:
        one, other: names of the runs of seed 0, 1, ...
        accuracy: its name in `metrics.json`.

    Returns:
        `seeds`, `images_seen` by a run, `one_accuracy`, `other_accuracy`, and the differences as `runs.gain` gives
        them.
    """
    runs = runs_of(root, one), runs_of(root, other)
    both = sorted(set(runs[0]) & set(runs[1]))
    if not both:
        return {}
    ones, others = ([side[seed] for seed in both] for side in runs)
    return {
        "seeds": len(both),
        "images_seen": ones[0].summary["images_seen"],
        "one_accuracy": mean_of_seeds([run.metrics[accuracy] for run in ones]),
        "other_accuracy": mean_of_seeds([run.metrics[accuracy] for run in others]),
        **gain(ones, others),
    }
