"""Stored sets against the stream: every checkpoint of every run on the same frozen test images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

import lensgen
from trainers.checkpoint import checkpoints
from trainers.loading import load
from trainers.metrics import aucs_of_ranks
from trainers.reproduction.cell import read_result
from trainers.reproduction.mae.names import COMPARISON_SEEDS, SOURCES
from trainers.reproduction.paired import auc_difference, dense_ranks
from trainers.reproduction.protocol import Protocol


def compare(root: Path, protocol: Protocol, progress: bool = True) -> dict[str, Any]:
    """AUC and cross entropy against steps, for each source and seed, on the first test images of the benchmark.

    Returns:
        `sources`: source -> `steps`, `auc` and `loss` `[seed][checkpoint]`, `final_auc`, `final_loss`, `images_seen`,
        `images_distinct`; `stream_minus`: stored source -> difference of the mean final AUC as `auc_difference`
        gives it; `test`, the benchmark.
    """
    preset = protocol.recipe["modes"]["paper"]["preset"]
    test = lensgen.benchmark(preset, "test", protocol.recipe["all"]["validation"]["test"])
    images = torch.cat([batch.image for batch in test.batches()])
    labels = torch.cat([batch.label for batch in test.batches()]).cpu()
    runs = [(source, seed) for source in SOURCES for seed in COMPARISON_SEEDS]
    written = [checkpoints(root / f"comparison/seed{seed}/{source}") for source, seed in runs]
    # each run has kept its best one besides, wherever that was
    names = set.intersection(*({path.name for path in paths} for paths in written))
    sources: dict[str, Any] = {}
    ranks: dict[str, list[np.ndarray]] = {source: [] for source in SOURCES}
    paired = list(zip(runs, written, strict=True))
    for (source, seed), paths in tqdm(paired, desc="stored or streamed", unit="run", disable=not progress):
        steps, auc, loss = [], [], []
        for checkpoint in (path for path in paths if path.name in names):
            model, _ = load(checkpoint, images.device)
            probability = model.predict(images).float().cpu().clamp(min=1e-12)
            rank = dense_ranks(probability.numpy())
            steps.append(int(model.about["step"]))
            auc.append(float(np.mean(aucs_of_ranks(rank, labels.numpy()))))
            loss.append(float(functional.nll_loss(probability.log(), labels)))
        ranks[source].append(rank)
        summary, _ = read_result(root, f"comparison/seed{seed}/{source}")
        part = sources.setdefault(source, {"steps": steps, "auc": [], "loss": [], "final_auc": [], "final_loss": []})
        part["auc"].append(auc)
        part["loss"].append(loss)
        part["final_auc"].append(auc[-1])
        part["final_loss"].append(loss[-1])
        part["images_seen"], part["images_distinct"] = summary["images_seen"], summary["images_distinct"]
    return {
        "test": {"preset": preset, "images": len(labels), "fingerprint": test.fingerprint},
        "sources": sources,
        "stream_minus": {
            source: auc_difference(ranks["stream"], ranks[source], labels.numpy()) for source in SOURCES[:2]
        },
    }
