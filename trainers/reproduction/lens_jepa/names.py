"""Folders of the pretraining runs, and the figures of Lens-JEPA's paper (ML4PS 2025)."""

from __future__ import annotations

from trainers.reproduction.model_table.names import PaperRow, run_folder

PRETRAINING = 1000  # added to the seed

# Table 1, by the keys of the recipe's `models`; the paper names CvT among its baselines, without a row.
PAPER = {
    "resnet18": PaperRow(0.8207, (0.97, 0.88, 0.94)),
    "vit": PaperRow(0.8931, (0.99, 0.94, 0.96)),
    "cait": PaperRow(0.8065, (0.95, 0.85, 0.94)),
    "vitsd": PaperRow(0.8838, (0.99, 0.93, 0.96)),
    "lensformer": PaperRow(0.8969, (0.98, 0.92, 0.94)),
    "ijepa": PaperRow(0.9017, (0.98, 0.95, 0.96)),
    "lens_jepa": PaperRow(0.9120, (1.00, 0.96, 0.97)),
}


def pretraining_folder(data: str, model: str, seed: int) -> str:
    """Of a pretraining run, in that of the run that begins with it."""
    return f"{run_folder(data, model, seed)}/pretrain"


def pretraining_folders(data: str, model: str, seeds: int) -> list[str]:
    """Of those of seed 0, 1, ..."""
    return [pretraining_folder(data, model, seed) for seed in range(seeds)]
