"""Figures of a classifier: equal to torchmetrics, sklearn, scipy and to what can be said in closed form."""

import time

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassCalibrationError

from trainers.metrics import (
    CALIBRATION_BINS,
    accuracy_by_detectability,
    aucs_of_ranks,
    bootstrap_interval,
    class_aucs,
    classification_figures,
    reliability_curve,
    share,
    with_mean,
)

NAMES = ("no_sub", "cdm", "axion")


def noisy(count, strength=1.0, seed=0, decimals=None):
    """Labels, and probabilities that know something of them; rounded they have ties."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 3, (count,), generator=generator)
    logits = torch.randn(count, 3, generator=generator) + strength * torch.nn.functional.one_hot(label, 3)
    probabilities = logits.softmax(dim=1)
    return (probabilities if decimals is None else probabilities.round(decimals=decimals)), label


def ranks_of(probabilities):
    return np.stack([np.unique(column, return_inverse=True)[1] for column in probabilities.numpy().T], axis=1)


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("count", [17, 400])
def test_auc_of_ranks_is_that_of_torchmetrics_and_sklearn_ties_included(count, decimals):
    probabilities, label = noisy(count, decimals=decimals)
    ours = aucs_of_ranks(ranks_of(probabilities), label.numpy())
    np.testing.assert_allclose(ours, MulticlassAUROC(3, average=None)(probabilities, label), atol=1e-6)
    sklearn = [roc_auc_score(label == number, probabilities[:, number]) for number in range(3)]
    np.testing.assert_allclose(ours, sklearn, atol=1e-12)


def test_figures_are_those_of_torchmetrics():
    probabilities, label = noisy(500)
    figures = classification_figures(probabilities, label, NAMES, resamples=20)
    macro = MulticlassAUROC(3, average="macro")(probabilities, label)
    assert figures["macro_auc"]["value"] == pytest.approx(float(macro), abs=1e-6)
    micro = MulticlassAccuracy(3, average="micro")(probabilities, label)
    assert figures["accuracy"]["value"] == pytest.approx(float(micro)) == np.trace(figures["confusion"]) / 500
    error = MulticlassCalibrationError(3, CALIBRATION_BINS)(probabilities, label)
    bins = figures["reliability"]
    by_hand = sum(entry["images"] * abs(entry["accuracy"] - entry["confidence"]) for entry in bins) / 500
    assert figures["calibration_error"] == pytest.approx(float(error)) == pytest.approx(by_hand)
    assert np.sum(figures["confusion"], axis=1).tolist() == torch.bincount(label).tolist()
    for estimate in (figures["macro_auc"], figures["accuracy"], *figures["auc"].values()):
        assert estimate["low"] < estimate["value"] < estimate["high"]


def test_micro_accuracy_is_not_the_mean_of_classes():
    label = torch.tensor([0] * 8 + [1, 2])
    figures = classification_figures(torch.tensor([[0.8, 0.1, 0.1]]).expand(10, 3), label, NAMES, resamples=10)
    assert figures["accuracy"]["value"] == pytest.approx(0.8)
    assert figures["macro_auc"]["value"] == 0.5 and figures["confusion"] == [[8, 0, 0], [1, 0, 0], [1, 0, 0]]


def test_a_missing_class_leaves_a_gap_and_breaks_nothing():
    probabilities, label = noisy(40)
    label = label.clamp(max=1)
    auc = class_aucs(probabilities, label)
    assert np.isnan(auc).tolist() == [False, False, True] and with_mean(auc)[-1] == auc[:2].mean()
    figures = classification_figures(probabilities, label, NAMES, resamples=50)
    assert figures["auc"]["axion"] == {"value": None, "low": None, "high": None}
    assert figures["macro_auc"]["low"] < figures["macro_auc"]["high"]
    assert np.isnan(with_mean(class_aucs(probabilities, torch.zeros(40, dtype=torch.long)))).all()


def test_resamples_without_a_class_are_left_out():
    probabilities, label = noisy(6)
    label = torch.tensor([0, 0, 0, 1, 1, 2])  # many a resample has no 2
    figures = classification_figures(probabilities, label, NAMES, resamples=200)
    assert all(0 <= estimate["low"] <= estimate["high"] <= 1 for estimate in figures["auc"].values())


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(1).normal(3, 2, 4000)
    low, high = bootstrap_interval(np.mean, values, resamples=2000)
    expected = values.mean() + 1.96 * values.std() / np.sqrt(4000) * np.array([-1, 1])
    np.testing.assert_allclose([low, high], expected, atol=0.005)
    narrow = bootstrap_interval(np.mean, values, resamples=2000, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_the_bootstrap_keeps_rows_together_and_depends_on_its_seed_alone():
    values = np.arange(50.0)
    statistic = lambda one, two: np.array([(one == two).mean(), one.mean()])  # noqa: E731
    interval = bootstrap_interval(statistic, values, values, resamples=100)
    assert interval.shape == (2, 2) and interval[0].tolist() == [1, 1] and interval[1, 0] < 24.5 < interval[1, 1]
    np.random.default_rng(5).normal()
    np.testing.assert_array_equal(interval, bootstrap_interval(statistic, values, values, resamples=100))
    assert not np.array_equal(interval, bootstrap_interval(statistic, values, values, resamples=100, seed=1))


def test_intervals_hold_as_often_as_they_say():
    # 200 data sets of a classifier whose accuracy is 0.8: the 95 % interval of the bootstrap holds it in about 190
    rng = np.random.default_rng(2)
    held = [bootstrap_interval(np.mean, rng.random(200) < 0.8, resamples=200, seed=n) for n in range(200)]
    assert 178 <= sum(low <= 0.8 <= high for low, high in held) <= 199


def test_fifteen_thousand_images_take_seconds():
    probabilities, label = noisy(15_000)
    begin = time.process_time()
    classification_figures(probabilities, label, NAMES)
    assert time.process_time() - begin < 8  # 1 s on a quiet core


def test_bins_of_the_reliability_curve_have_a_closed_upper_end():
    probabilities = np.array([[1.0, 0.0], [0.6, 0.4], [0.2, 0.8]])
    curve = reliability_curve(probabilities, np.array([0, 1, 1]))
    assert [(entry["confidence"], entry["accuracy"], entry["images"]) for entry in curve] == [
        (0.6, 0, 1), (0.8, 1, 1), (1.0, 1, 1)
    ]  # fmt: skip


@pytest.mark.parametrize(("right", "images"), [(0, 5), (5, 5), (3, 7), (90, 100)])
def test_intervals_of_shares_are_wilsons(right, images):
    entry = share(np.arange(images) < right)
    interval = binomtest(right, images).proportion_ci(0.95, method="wilson")
    assert entry["accuracy"] == right / images and entry["images"] == images
    assert (entry["low"], entry["high"]) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_bins_of_detectability_share_the_images_from_faint_to_bright():
    detectability = np.random.default_rng(0).permutation(100).astype(float)
    bins = accuracy_by_detectability(detectability >= 50, detectability, bins=4)
    assert [entry["images"] for entry in bins] == [25] * 4
    assert [entry["accuracy"] for entry in bins] == [0, 0, 1, 1]
    assert [entry["low_detectability"] for entry in bins] == [0, 25, 50, 75]
    assert len(accuracy_by_detectability(np.ones(15, bool), np.arange(15.0))) == 1
    assert accuracy_by_detectability(np.ones(0, bool), np.zeros(0)) == []
