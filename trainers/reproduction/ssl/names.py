"""Folders of the runs, and the paper's figures, of self-supervised learning for lenses (NeurIPS ML4PS 2023)."""

from __future__ import annotations

import re
from typing import NamedTuple

SEEDS = (0, 1, 2)  # of the linear probes that are always done, and of the comparison of views
PRETRAINING = 1000  # added to the seed
PRETRAINED, SUPERVISED = "self_supervised", "supervised"
MODES = ("paper", "honest")
MODELS = {"a": "Model A", "b": "Model B", "narrow": "narrow population"}  # the paper's two, and the recipe's own
AXION_MASS_NEAR = "1e-23 eV"  # where the paper's regression is worst


class Data(NamedTuple):
    """What a run is trained on: `paper_a`, `paper_b`, `honest_a`, `honest_b` or `honest_narrow` in a recipe."""

    mode: str
    model: str

    @classmethod
    def named(cls, name: str) -> Data:
        """Raises KeyError for a name that is none."""
        mode, _, model = name.partition("_")
        if mode not in MODES or model not in MODELS or (mode, model) == ("paper", "narrow"):
            raise KeyError(f"{name}: data is paper_a, paper_b, honest_a, honest_b or honest_narrow")
        return cls(mode, MODELS[model])

    def __str__(self) -> str:
        return f"{self.mode} mode, {self.model}"


class PaperRow(NamedTuple):
    """Macro AUC of Model A and Model B; None where the paper has no figure of its own."""

    self_supervised: tuple[float, float]
    supervised: tuple[float, float] | None


# Of each method by encoder; the table names none for the last three. Its supervised column has the augmentation and the
# schedule of the method beside it, so that it differs from row to row.
PAPER: dict[str, dict[str, PaperRow]] = {
    "rotation": {
        "ResNet50": PaperRow((0.993, 0.997), (0.960, 0.967)),
        "ViT": PaperRow((0.990, 0.987), (0.977, 0.983)),
    },
    "noise": {"ResNet50": PaperRow((0.993, 0.997), None), "ViT": PaperRow((0.993, 0.990), None)},
    "byol": {"": PaperRow((0.993, 0.960), (0.990, 0.963))},
    "simsiam": {"": PaperRow((0.995, 0.996), (0.983, 0.984))},
    "dino": {"": PaperRow((0.997, 0.998), (0.996, 0.998))},
}


def pretraining_folder(data: str, encoder: str, seed: int, method: str) -> str:
    """Of a pretraining run, below that of the reproduction."""
    return f"{data}/{encoder}/seed{seed}/{method}/ssl"


def task_folder(data: str, encoder: str, seed: int, method: str, task: str) -> str:
    """Of the run of `task` ("classify" or "regress") that begins with a method's encoder."""
    return f"{data}/{encoder}/seed{seed}/{method}/{task}"


def scratch_folder(data: str, encoder: str, seed: int, augmentation: str, task: str) -> str:
    """Of the same from scratch; methods of one augmentation share it."""
    return f"{data}/{encoder}/seed{seed}/scratch/{task}_{augmentation}"


def comparison_folder(data: str, seed: int, views: str) -> str:
    """Of a run with a kind of views, whose name may be several words."""
    return f"comparison/{data}/seed{seed}/{re.sub(r'[^a-z]+', '_', views).strip('_')}"


def control_folder(seed: int) -> str:
    return f"control/seed{seed}"
