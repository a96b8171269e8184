"""Folders of the runs, and what a row of a paper's table has."""

from __future__ import annotations

from typing import NamedTuple

MODES = ("paper", "streamed", "honest")
SEEDS = (0, 1, 2)  # of the rows that are always done
EPOCHS = 50  # of both papers


class PaperRow(NamedTuple):
    """A row of a paper's table.

    Attributes:
        accuracy: on its test images.
        auc: of no_sub, cdm and axion.
        parameters: in millions; None where the paper does not say.
        f1: what the paper calls micro-averaged; None where it has none.
    """

    accuracy: float
    auc: tuple[float, float, float]
    parameters: float | None = None
    f1: float | None = None


def run_folder(data: str, model: str, seed: int) -> str:
    """Of a run, below that of the reproduction."""
    return f"{data}/{model}/seed{seed}"


def run_folders(data: str, model: str, seeds: int) -> list[str]:
    """Of the runs of seed 0, 1, ..."""
    return [run_folder(data, model, seed) for seed in range(seeds)]
