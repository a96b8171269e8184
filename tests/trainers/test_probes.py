"""Probes find what is in the features and nothing that is not."""

import numpy as np
import pytest
import torch

from trainers.probes import effective_rank, probe
from trainers.stored import StoredBatch


def batch(count, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(count, 1, 4, 4, generator=generator)
    label = (image[:, 0, 0, 0] > 0).long() + (image[:, 0, 0, 0] > 1).long()
    params = {"linear": image[:, 0, 1, 1] * 3 + 1, "absent": torch.randn(count, generator=generator)}
    return StoredBatch(image, label, params, torch.arange(count))


def figures(features, label=None):
    fit, score = batch(400, 0), batch(300, 1)
    if label is not None:
        fit, score = (StoredBatch(b.image, torch.full_like(b.label, label), b.params, b.index) for b in (fit, score))
    return probe(features, fit, score, ("linear", "absent"), neighbours=5)


def test_what_is_in_the_features_is_found():
    found = figures(lambda image: image[:, 0, 0:2, 0:2].flatten(1))
    assert found["r2/linear"] > 0.99 and found["r2/absent"] < 0.05
    assert found["knn_accuracy"] > 0.75 and found["linear_accuracy"] > 0.6
    assert 3.5 < found["feature_rank"] <= 4


def test_what_is_not_in_the_features_is_not_found():
    found = figures(lambda image: image[:, 0, 3])
    assert found["r2/linear"] < 0.05 and found["knn_accuracy"] < 0.6


def test_one_class_has_no_accuracy():
    assert set(figures(lambda image: image.flatten(1), label=0)) == {"r2/linear", "r2/absent", "feature_rank"}


@pytest.mark.parametrize("rank", [1, 3])
def test_effective_rank_counts_equal_directions(rank):
    features = np.zeros((12, 6))
    for column in range(rank):
        features[column, column] = 2.0
    assert effective_rank(features) == pytest.approx(rank, rel=1e-6)
