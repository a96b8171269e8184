"""Folders of the runs, and the figures of LensPINN's paper (ML4PS 2024)."""

from __future__ import annotations

from typing import NamedTuple

MODES = ("paper", "streamed", "honest")
SEEDS = (0, 1, 2)  # of the rows that are always done


class PaperRow(NamedTuple):
    """A row of the paper's table 1.

    Attributes:
        parameters: in millions.
        accuracy, f1: the paper calls the second micro-averaged.
        auc: of no_sub, cdm and axion.
    """

    parameters: float
    accuracy: float
    f1: float
    auc: tuple[float, float, float]


# Models with the preprocessing and without it, or with less of it.
PREPROCESSING = (
    ("lenspinn_small", "lenspinn_small_plain"),
    ("lenspinn_small_floor", "lenspinn_small_plain"),
    ("mobilenet_preprocessed", "mobilenet"),
    ("efficientnet_preprocessed", "efficientnet"),
)

_LENSPINN_SMALL = PaperRow(7.17, 0.956, 0.957, (1.00, 0.99, 0.99))
# By the keys of the recipe's `models`. The text's LensPINN learns theta_E, that of the public code cannot: the paper's
# figures stand beside both.
PAPER = {
    "resnet18": PaperRow(11.17, 0.818, 0.817, (0.97, 0.85, 0.95)),
    "vit": PaperRow(13.72, 0.863, 0.864, (0.99, 0.66, 0.96)),
    "cait": PaperRow(13.76, 0.878, 0.871, (0.99, 0.64, 0.96)),
    "vitsd": PaperRow(13.73, 0.867, 0.868, (1.00, 0.66, 0.97)),
    "lensformer": PaperRow(15.7, 0.957, 0.959, (1.00, 0.99, 0.99)),
    "lenspinn_small": _LENSPINN_SMALL,
    "lenspinn_small_hard": _LENSPINN_SMALL,
    "lenspinn_large": PaperRow(14.56, 0.996, 0.996, (1.00, 1.00, 1.00)),
}


def run_folder(data: str, model: str, seed: int) -> str:
    """Of a run, below that of the reproduction."""
    return f"{data}/{model}/seed{seed}"
