"""Fits of smooth lenses, and that substructure which counts is told by them."""

from __future__ import annotations

import json

import pytest
import torch

from lensgen import Simulator
from lensgen.detectability import detectability
from lensgen.draw import draw
from lensgen.errors import LensgenError
from lensgen.observation import Noise
from profiles import information
from profiles.smooth_fit import SmoothModel
from profiles.student import make_pairs

FEW = torch.arange(6)


@pytest.fixture(scope="module")
def simulator():
    return Simulator("model_a", device="cpu")


@pytest.fixture(scope="module")
def model(simulator):
    return SmoothModel.of(simulator.preset, simulator.random)


def test_a_vector_holds_the_whole_smooth_system(simulator, model):
    smooth = simulator.with_outputs("smooth").batch(indices=FEW).maps["smooth"].flatten(1)
    vector = model.vector(draw(simulator.preset, simulator.random, FEW).smooth)
    assert torch.allclose(model.image(vector), smooth, rtol=1e-4, atol=1e-5 * float(smooth.max()))


def test_partners_differ_by_substructure_and_noise(simulator):
    pairs = make_pairs(simulator.preset, simulator.random, FEW)
    made = simulator.with_outputs("image", "clean", "smooth").batch(indices=FEW)
    assert torch.equal(pairs.image[:, 0], made.image.flatten(1))
    noise = [pairs.image[:, k] - made.maps[name].flatten(1) for k, name in enumerate(("clean", "smooth"))]
    for a, b in zip(*noise, strict=True):
        assert 0.8 < float(a.std() / b.std()) < 1.25
        assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 0.1  # 4,096 pixels: 6 standard deviations


def test_a_fit_leaves_only_noise_of_a_smooth_lens(simulator, model):
    pairs = make_pairs(simulator.preset, simulator.random, FEW)
    truth = model.vector(pairs.systems.smooth)
    left = model.left(pairs.image[:, 1], pairs.exposure, truth + 0.1, steps=6)
    assert ((left.square().mean(1) - 1.0).abs() < 0.12).all()  # 5 standard deviations of chi-square
    before = model.left(pairs.image[:, 1], pairs.exposure, truth + 0.1, steps=0)
    assert (before.square().mean(1) > 1.12).any()


def test_the_screen_is_about_the_detectability(simulator, model):
    index = information.with_substructure(simulator, 0, 5)
    systems, band = draw(simulator.preset, simulator.random, index), simulator.preset.bands[0]
    noise = Noise(simulator.preset.recipe, band.detector, systems.exposure[0], simulator.random, index)
    exact = detectability(systems, [band.observation], [noise])
    ratio = model.screen(systems) / exact
    assert 0.5 < float(ratio.median()) < 2.0


def test_an_interval_holds_the_mean_and_shrinks():
    right = torch.tensor([0.0, 0.5, 1.0, 1.0] * 25)
    low, high = information.interval(right)
    assert low < float(right.mean()) < high
    assert high - low == pytest.approx(2 * 1.96 * float(right.std()) / 10.0, rel=0.1)


def test_the_script_runs(tmp_path, capsys):
    out = tmp_path / "result"
    information.main(["--quick", "--out", str(out)])
    assert out.with_suffix(".png").stat().st_size > 1000
    assert capsys.readouterr().out.strip() == out.with_suffix(".md").read_text().strip()
    result = json.loads(out.with_suffix(".json").read_text())["result"]
    (student,) = result["students"]
    assert len(student["loss"]) == len(student["accuracy"]) == 2
    assert len(student["right"]) == len(result["systems"]["detectability"]) >= 3
    assert set(student["right"]) <= {0.0, 0.5, 1.0}
    for record in result["bins"]:
        assert record["low"] <= record["accuracy"] <= record["high"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lessons.pairs", "0"], "--lessons.pairs"),
        (["--test", "0"], "--test"),
        (["--preset", "model_z"], "unknown preset"),
        (["--preset", "deeplense_ii_legacy"], "one band with noise"),
    ],
)
def test_bad_options_are_explained(flags, message, capsys):
    with pytest.raises((LensgenError, SystemExit)) as caught:
        information.main(["--quick", *flags])
    assert message in str(caught.value) + capsys.readouterr().err


@pytest.mark.slow
def test_substructure_that_counts_is_told_and_the_rest_is_not(tmp_path):
    """A fraction of the protocol: 40 systems a bin, one seed, a third of the lessons."""
    out = tmp_path / "result"
    lessons = ["--lessons.guesses", "15000", "--lessons.pairs", "1200", "--lessons.epochs", "5"]
    information.main(["--seeds", "0", "--screened", "4000", "--test", "40", "--out", str(out), *lessons])
    bins = json.loads(out.with_suffix(".json").read_text())["result"]["bins"]
    found = {record["bin"]: record for record in bins if record["class"] == "all"}
    assert found["above 100"]["low"] > 0.7 and found["above 100"]["accuracy"] > 0.8
    assert found["below 1"]["low"] <= 0.5 or found["below 1"]["accuracy"] < 0.55
    assert found["below 1"]["systems"] >= 20
