"""Linear probes of pretrained encoders beside those of the same encoders untrained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainers.reproduction.estimates import mean_of_seeds
from trainers.reproduction.runs import Run, gain, images

FIGURES = ("linear_accuracy", "macro_auc", "knn_accuracy")


def probe_figures(runs: Sequence[Run]) -> dict[str, Any]:
    """What pretraining runs of several seeds show.

    Returns:
        `images`; `linear_accuracy`, `macro_auc` (of the linear probe) and `knn_accuracy`, means of the seeds; the same
        under `untrained`; `gain`, as `runs.gain` gives it; `feature_rank` of each seed.
    """
    metrics = [run.metrics for run in runs]
    return {
        "images": images(runs),
        **{name: mean_of_seeds([part[name] for part in metrics]) for name in FIGURES},
        "untrained": {name: mean_of_seeds([part["untrained"][name] for part in metrics]) for name in FIGURES},
        "gain": gain(runs, runs, "probability", "untrained_probability"),
        "feature_rank": [part["feature_rank"] for part in metrics],
    }


def verdicts(rows: Sequence[Mapping[str, Any]], name: Callable[[Mapping[str, Any]], str]) -> list[str]:
    """In words, null results too: which encoders are better than untrained, by the AUC of the linear probe.

    Args:
        name: of the encoder of a row.
    """
    said = {
        "better": "better than the untrained one",
        "undecided": "not to be told from the untrained one by these runs",
        "worse": "worse than the untrained one",
    }
    lines = []
    for verdict, meaning in said.items():
        names = [name(row) for row in rows if row["seeds"] and row["gain"]["macro_auc"]["verdict"] == verdict]
        lines.append(f"- {meaning}: {', '.join(names) or 'none'}")
    return lines
