"""Collapse is noticed, and is not seen where there is none."""

import numpy as np
import pytest

from trainers.collapse import collapse, spread, spreads
from trainers.probes import alignment, uniformity


def normal(count=300, width=16, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width))


def one_hot(classes, width=128, count=300):
    return np.eye(width)[np.random.default_rng(0).integers(0, classes, count)]


@pytest.mark.parametrize("found", [normal(), 100 * normal(), one_hot(5), one_hot(128), normal() + 1])
def test_projections_that_tell_images_apart_have_not_collapsed(found):
    assert collapse(spread(found), [1.0]) == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (np.ones((300, 16)), "mean cosine is 1.0000"),
        (np.zeros((300, 16)), "become nearly the same"),
        (normal() * 0.02 + 1, "become nearly the same"),
        (one_hot(1), "become nearly the same"),
        (normal()[:, :1] * np.ones(16) + 1e-3 * normal(seed=1), "along a line"),
    ],
)
def test_collapse_is_said(found, words):
    assert words in collapse(spread(found), [0.1, 1.0])


def test_what_was_never_apart_has_not_collapsed():
    alike = spread(normal() * 0.02 + 1)
    deviation = alike["projection_deviation"]
    assert not spreads(alike) and collapse(alike, [deviation]) == "" and collapse(alike, []) == ""
    assert collapse(alike, [deviation, 3 * deviation])


def test_the_spread_of_directions_everywhere_is_one():
    figures = spread(normal(2000))
    assert figures["projection_deviation"] == pytest.approx(1, abs=0.01)
    assert figures["projection_rank"] == pytest.approx(16, rel=0.05)


def test_alignment_and_uniformity():
    one, two = normal(), normal(seed=1)
    assert alignment(one, 7 * one) == pytest.approx(0, abs=1e-12)
    assert alignment(one, -one) == pytest.approx(4)
    assert alignment(one, two) == pytest.approx(2, abs=0.1)
    assert uniformity(np.ones((50, 4))) == pytest.approx(0, abs=1e-9)
    # two opposite points: of n (n - 1) / 2 pairs n^2 / 4 are at distance 2
    points = np.repeat([[1.0, 0.0], [-1.0, 0.0]], 50, axis=0)
    assert uniformity(points) == pytest.approx(np.log((2450 + 2500 * np.exp(-8)) / 4950))
    assert -4 < uniformity(one) < -2.5
