"""What is said of frozen features: by images that the probes were not fitted to, and of nothing there is nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trainers.encoder_evaluation import compare, probe_on_test

CLASSES, TEST = 3, 600


@pytest.fixture
def held_out():
    """Images that are their features, `fit` and `score`, and as such the features and labels of the test."""
    generator = torch.Generator().manual_seed(0)

    def images(count, told):
        label = torch.randint(0, CLASSES, (count,), generator=generator)
        image = torch.randn(count, 1, 2, 4, generator=generator)
        image[:, 0, 0, :CLASSES] += told * torch.eye(CLASSES)[label]
        return SimpleNamespace(image=image, label=label)

    def made(told):
        data = SimpleNamespace(fit=images(300, told), score=images(150, told), class_names=("no_sub", "cdm", "axion"))
        test = images(TEST, told)
        return data, test.image.flatten(1).numpy(), test.label.numpy()

    return made


def probed(data, found, label):
    return probe_on_test(lambda image: image.flatten(1), found, label, data, neighbours=9)


def test_features_that_know_nothing_are_at_chance(held_out):
    data, found, label = held_out(0.0)
    figures = compare(probed(data, found, label), probed(data, found, label), label, resamples=200)
    assert abs(figures["macro_auc"]["value"] - 0.5) < 0.06
    for name in ("linear_accuracy", "knn_accuracy"):
        assert abs(figures[name]["value"] - 1 / CLASSES) < 4 * (2 / 9 / TEST) ** 0.5


def test_features_that_know_the_class_are_better_than_others(held_out):
    data, found, label = held_out(3.0)
    nothing, hidden, _ = held_out(0.0)
    figures = compare(probed(data, found, label), probed(nothing, hidden, label), label, resamples=200)
    assert figures["macro_auc"]["value"] > 0.9 and figures["gain"]["macro_auc"]["low"] > 0.3
    assert figures["knn_accuracy"]["low"] > figures["untrained"]["knn_accuracy"]["high"]


def test_the_labels_of_the_test_decide_nothing_but_what_is_right(held_out):
    data, found, label = held_out(1.0)
    one, other = probed(data, found, label), probed(data, found, (label + 1) % CLASSES)
    np.testing.assert_array_equal(one.probability, other.probability)
    assert one.right.mean() > 0.5 > other.right.mean()
    # nor do its other images: each is judged by itself
    np.testing.assert_allclose(probed(data, found[:50], label[:50]).probability, one.probability[:50], atol=1e-6)


def test_nothing_is_gained_on_oneself(held_out):
    data, found, label = held_out(1.0)
    same = probed(data, found, label)
    gain = compare(same, same, label, resamples=50)["gain"]
    assert all(value == 0 for figure in gain.values() for value in figure.values())
