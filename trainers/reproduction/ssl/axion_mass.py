"""The axion's mass by regression: encoders, the same networks from scratch, and the mean of all as the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainers.reproduction.estimates import mean_of_seeds, signed, verdict, words
from trainers.reproduction.paired import rmse_difference
from trainers.reproduction.runs import Run, images, require_same_images
from trainers.reproduction.ssl.names import AXION_MASS_NEAR, PRETRAINED, SUPERVISED, Data
from trainers.reproduction.ssl.results import beside_scratch, shown

if TYPE_CHECKING:
    from trainers.reproduction.ssl.protocol import SSLProtocol

_NUMBERS = ("r2", "z_std", "coverage_68", "coverage_95")
_HEADING = (
    f"| data | method | encoder | begins with | seeds | images | RMSE [dex] | of the mean of all "
    f"| near {AXION_MASS_NEAR} | of the mean of all | R2 | deviation of z | in 68 % | in 95 % |"
)
_COLUMNS = {PRETRAINED: "self-supervised", SUPERVISED: "supervised"}


def collect_axion_mass(root: Path, protocol: SSLProtocol, seeds: int) -> list[dict[str, Any]]:
    """A row for each data, encoder and method; `seeds` 0 for one not reached.

    Returns:
        `self_supervised` and `supervised`, each with `rmse_dex`, `rmse_dex_near`, the same with `prior_` before (of
        predicting the mean), `r2`, `z_std`, `coverage_68`, `coverage_95`, means of the seeds of which both are done,
        `against_prior` in words, and of the first seed `truth` and `predicted` [log10 eV]; `gain`: RMSE of the
        encoders minus that from scratch, and a verdict.
    """
    return [
        _row(root, protocol, place, method, seeds)
        for place in protocol.places("regress")
        for method in protocol.methods
    ]


def _row(root: Path, protocol: SSLProtocol, place: tuple[str, str], method: str, seeds: int) -> dict[str, Any]:
    pretrained, scratch = beside_scratch(root, protocol, "regress", place, method, seeds)
    row: dict[str, Any] = {
        "data": place[0],
        "encoder": place[1],
        "method": method,
        "augmentation": protocol.augmentation("regress", method),
        "seeds": len(pretrained),
    }
    if not pretrained:
        return row
    require_same_images([*pretrained, *scratch])
    gap = rmse_difference([_squares(run) for run in pretrained], [_squares(run) for run in scratch])
    return {
        **row,
        "images": images(pretrained),
        PRETRAINED: _column(pretrained),
        SUPERVISED: _column(scratch),
        "gain": {**gap, "verdict": verdict(gap, "worse", "better")},
    }


def _column(runs: Sequence[Run]) -> dict[str, Any]:
    metrics = [run.metrics for run in runs]
    rmse = mean_of_seeds([part["rmse_dex"] for part in metrics])
    near = [part["rmse_dex_near"] for part in metrics if part["rmse_dex_near"]["value"] is not None]
    prior = float(np.mean([part["prior_rmse_dex"] for part in metrics]))
    above = {end: rmse[end] - prior for end in ("value", "low", "high")}
    return {
        "rmse_dex": rmse,
        "rmse_dex_near": mean_of_seeds(near) if near else None,
        "prior_rmse_dex": prior,
        "prior_rmse_dex_near": _mean([part["prior_rmse_dex_near"] for part in metrics if near]),
        "against_prior": verdict(above, "worse", "better"),
        **{name: float(np.mean([part[name] for part in metrics])) for name in _NUMBERS},
        "truth": runs[0].predictions["truth"].tolist(),
        "predicted": runs[0].predictions["predicted"].tolist(),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def _squares(run: Run) -> np.ndarray:
    return (run.predictions["predicted"] - run.predictions["truth"]).astype(np.float64) ** 2


def axion_mass_as_markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One table, and below it in words what is better than what."""
    reached = [row for row in rows if row["seeds"]]
    if not reached:
        return ["Not reached.", ""]
    lines = [_HEADING, "|" + "---|" * _HEADING[1:].count("|")]
    for row in shown(rows):
        start = f"| {Data.named(row['data'])} | {row['method']} | {row['encoder']} |"
        if not row["seeds"]:
            lines.append(f"{start} | not reached |" + " |" * 9)
            continue
        for begins, name in _COLUMNS.items():
            column = row[begins]
            near = "no such image | -"
            if column["rmse_dex_near"]:
                near = f"{words(column['rmse_dex_near'], 3)} | {column['prior_rmse_dex_near']:.3f}"
            lines.append(
                f"{start} {name} | {row['seeds']} | {row['images']['images_seen']:,} | {words(column['rmse_dex'], 3)} "
                f"| {column['prior_rmse_dex']:.3f} | {near} | {column['r2']:.2f} "
                f"| {column['z_std']:.2f} | {column['coverage_68']:.2f} | {column['coverage_95']:.2f} |"
            )
    return [*lines, "", *[_conclusion(row) for row in reached], ""]


def _conclusion(row: Mapping[str, Any]) -> str:
    against = {"better": "better than", "worse": "worse than", "undecided": "not to be told from"}
    return (
        f"- {Data.named(row['data'])}, {row['method']} ({row['encoder']}): RMSE minus that from scratch "
        f"{signed(row['gain'])} dex, {row['gain']['verdict']}; {against[row[PRETRAINED]['against_prior']]} predicting "
        f"the mean ({against[row[SUPERVISED]['against_prior']]} it from scratch)"
    )
