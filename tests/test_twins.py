"""Twins: what is named is drawn anew, all else keeps its bits; and streams of pairs and of one class."""

from __future__ import annotations

import pickle

import pytest
import torch

from lensgen import LensStream, Simulator
from lensgen.batch import Batch
from lensgen.draw import draw
from lensgen.errors import ParameterError, UnknownNameError
from lensgen.rng import RandomSource, name_hash
from lensgen.twins import ORIGINAL, PARTS
from tests.test_simulator import picked, same

TINY = {"grid.size": 6, "grid.supersampling": 1}
DISC = {
    "profile": "sersic", "R_sersic": {"uniform": {"low": 0.3, "high": 0.6}}, "n_sersic": 4.0, "q": "lens.q",
    "phi": "lens.phi", "magnitude": {"uniform": {"low": 21.0, "high": 22.0}},
}  # fmt: skip
BLUR = {"type": "gaussian", "truncation": 4, "edge": "zero", "sampling": "centre"}
EVERYTHING = {
    "lens_light": DISC,
    "deflectors": {"mass": {"profile": "convergence", "kappa": {"uniform": {"low": 0.0, "high": 0.1}}}},
    "psf": {"type": "one_of", "psfs": [BLUR | {"fwhm": 0.1 * k} for k in (1, 2, 3)], "supersampled": False},
}  # fmt: skip
INDEX = torch.arange(400)
ORDINARY = [part for part in PARTS if part != "lens"]


def simulator(**options) -> Simulator:
    given = {"seed": 4, "device": "cpu", "engine": "torch"}
    return Simulator("model_a", **(given | options)).override(TINY | EVERYTHING)


def parameters(made: Simulator) -> dict[str, torch.Tensor]:
    return made.systems(INDEX).params


def changed(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


OF_PART = {
    "source": lambda name: name.startswith("source."),
    "lens_light": lambda name: name in ("lens_light.R_sersic", "lens_light.magnitude", "lens_light.amp"),
    "substructure": lambda name: name.startswith("substructure."),
    "noise": lambda name: False,
    "psf": lambda name: name == "psf.choice",
    "exposure": lambda name: name == "noise.total_exposure",
    "lens": lambda name: True,
}


@pytest.mark.parametrize("part", PARTS)
def test_what_is_named_is_drawn_anew_and_nothing_else(part: str) -> None:
    original = parameters(simulator())
    varies = {name for name, value in original.items() if len(value[value != 0.0].unique()) > 1}
    assert {"deflectors.mass.kappa", "psf.choice", "redshift.source", "shear.gamma_ext"} < varies
    for number in (1, 7):
        twin = parameters(simulator().twin(part, number=number))
        assert changed(original, twin) == set(filter(OF_PART[part], varies))


@pytest.mark.parametrize("part", PARTS)
def test_images_of_a_twin(part: str) -> None:
    one, other = (made.with_outputs("image", "clean").batch(0, 12) for made in (simulator(), simulator().twin(part)))
    assert torch.equal(one.label, other.label) and torch.equal(one.index, other.index)
    shown = [b.maps["clean"] if part == "substructure" else b.image for b in (one, other)]  # counts may be the same
    differs = (shown[0] != shown[1]).flatten(1).any(1)
    expected = one.label != 0 if part == "substructure" else torch.ones(12, dtype=torch.bool)
    if part == "psf":
        expected = one.params["psf.choice"] != other.params["psf.choice"]
    assert torch.equal(differs, expected) and expected.any()
    assert torch.equal(one.maps["clean"], other.maps["clean"]) == (part in ("noise", "exposure"))


def test_no_twin_changes_the_class() -> None:
    for number in (1, 2, 2**31):
        assert torch.equal(simulator().twin(*PARTS, number=number).labels(INDEX), simulator().labels(INDEX))


def test_several_parts_at_once_are_these_parts() -> None:
    both, original = parameters(simulator().twin("source", "exposure")), parameters(simulator())
    alone = {part: parameters(simulator().twin(part)) for part in ("source", "exposure")}
    for name, value in both.items():
        part = next((p for p in alone if OF_PART[p](name)), None)
        assert torch.equal(value, original[name] if part is None else alone[part][name])


def test_draws_of_a_twin_are_independent_of_the_original_s() -> None:
    """The ranks of 400 values: a correlation of 0.2 is four standard deviations."""
    one, other, third = (
        parameters(s) for s in (simulator(), simulator().twin("lens"), simulator().twin("lens", number=2))
    )
    for name in ("lens.theta_E", "source.R_sersic", "noise.total_exposure", "redshift.lens", "lens_light.magnitude"):
        ranks = torch.stack([p[name].argsort().argsort().double() for p in (one, other, third)])
        assert float((torch.corrcoef(ranks) - torch.eye(3)).abs().max()) < 0.2, name


def residuals(batch: Batch) -> torch.Tensor:
    """The noise of an image, per unit of its standard deviation."""
    return ((batch.image - batch.maps["clean"]) / batch.maps["noise_map"]).flatten().double()


def correlation(one: Simulator, other: Simulator) -> float:
    maps = ("image", "clean", "noise_map")
    pair = torch.stack([residuals(s.with_outputs(*maps).batch(0, 200)) for s in (one, other)])
    return float(torch.corrcoef(pair)[0, 1])


def test_noise_is_drawn_anew_where_it_is_named() -> None:
    """Of 200 x 36 pixels: 0.05 is four standard deviations."""
    original = simulator()
    assert abs(correlation(original, original.twin("noise"))) < 0.05
    assert abs(correlation(original.twin("noise"), original.twin("noise", number=2))) < 0.05
    assert correlation(original, original.twin("source")) > 0.95  # all but the shot noise's steps
    assert abs(correlation(original, original.twin("source", "noise"))) < 0.05


def test_noise_of_each_band_is_drawn_anew() -> None:
    made = Simulator("euclid_nisp", device="cpu", engine="torch").override(TINY)
    one, other = (s.with_outputs("image", "clean").batch(0, 3) for s in (made, made.twin("noise")))
    assert torch.equal(one.maps["clean"], other.maps["clean"])
    assert (one.image != other.image).flatten(2).any(2).all()


def test_twins_of_twins() -> None:
    made = simulator()
    twice = made.twin("source").twin("source", "noise")
    assert dict(twice.random.twin.numbers) == {"source": 2, "noise": 1}
    assert same(twice.batch(0, 5), made.twin("noise").twin("source", number=2).batch(0, 5))
    assert len({s.random for s in (made, made.twin("source"), twice, made.twin("lens").twin("source"))}) == 4
    assert made.twin("lens", "source").random == made.twin("lens").random  # a part is a part of the lens
    assert made.random.twin == ORIGINAL


@pytest.mark.parametrize("engine", ["torch", "cpu"])
def test_same_bits_however_batched(engine: str) -> None:
    made = Simulator("model_a", 4, "cpu", engine).override(TINY).twin("source", "noise", "substructure", number=3)
    whole = made.batch(0, 13)
    assert same(Batch.cat([made.batch(0, 5), made.batch(5, 8)]), whole)
    order = torch.tensor([12, 0, 7, 7])
    assert same(made.batch(indices=order), picked(whole, order))
    assert same(pickle.loads(pickle.dumps(made)).batch(0, 13), whole)


def test_a_twin_stays_one_with_other_outputs_and_fields_and_dtype() -> None:
    twin = simulator().twin("source")
    expected = twin.batch(0, 4)
    assert torch.equal(twin.with_outputs("clean").batch(0, 4).image, expected.image)
    assert same(twin.override(TINY).batch(0, 4), expected)
    assert not changed(simulator(dtype=torch.float64).twin("source").batch(0, 4).params, expected.params)
    assert "twin={'source': 1}" in repr(twin) and "twin" not in repr(simulator())


def test_input_scale_is_that_of_the_preset() -> None:
    """The noise-free ones look at images for it."""
    made = Simulator("deeplense_ii_legacy", device="cpu", engine="torch").override(TINY)
    for other in (made.twin("lens"), Simulator(made.preset, 3, "cpu", "torch", label="no_sub")):
        assert other.input_scale == made.input_scale


WRONG = {
    "part": (("sourse",), 1, UnknownNameError, r"unknown part of an image 'sourse'. Did you mean 'source'\?"),
    "list": ((["source"],), 1, UnknownNameError, r"unknown part of an image"),
    "the class": (("class",), 1, UnknownNameError, r"Known: exposure, lens, lens_light, noise, psf, source, substr"),
    "nothing": ((), 1, ParameterError, r"a twin of what\? Fix: name the parts"),
    "the original": (("source",), 0, ParameterError, r"number = 0 is outside \[1, 2147483648\]"),
    "negative": (("source",), -1, ParameterError, r"number = -1 is outside"),
    "float": (("source",), 1.0, ParameterError, r"number = 1.0 is no whole number"),
    "bool": (("source",), True, ParameterError, r"number = True is no whole number"),
    "large": (("source",), 2**31 + 1, ParameterError, r"number = 2147483649 is outside"),
}


@pytest.mark.parametrize("parts, number, error, message", WRONG.values(), ids=WRONG)
def test_wrong_twins(parts, number, error, message) -> None:
    with pytest.raises(error, match=message):
        simulator().twin(*parts, number=number)
    with pytest.raises(error, match=message):
        LensStream("model_a", device="cpu").twin(*parts, number=number)


def test_names_of_no_twin_are_as_they_were() -> None:
    """And those of twins are pinned: whoever changes them changes every pair."""
    assert RandomSource(3).hash_of("lens.theta_E") == name_hash("lens.theta_E")
    twin = RandomSource(3, twin=ORIGINAL.twin("source", "noise").twin("source"))
    for name, called in {
        "source.disc.R_sersic": "source.disc.R_sersic, twin 2",
        "noise.1.shot": "noise.1.shot, twin 1",
        "noise.exposure_time": "noise.exposure_time",
        "lens_light.q": "lens_light.q",
        "class": "class",
    }.items():
        assert twin.hash_of(name) == name_hash(called)
    names = {p for p in parameters(simulator())} | {
        "noise.shot",
        "noise.read",
        "noise.1.shot",
        "substructure.cdm.angle",
    }
    every = [ORIGINAL.twin("lens", number=n).called(name) for n in range(1, 50) for name in names] + list(names)
    assert len({name_hash(name) for name in every}) == len(set(every))


def test_another_telescope_sees_the_same_lens() -> None:
    made = simulator()
    other = made.override({"instrument": "euclid_vis_2022"})
    one, two = made.systems(INDEX), other.systems(INDEX)
    # the zero point sets amplitudes, the number of exposures their time
    assert changed(one.params, two.params) == {"source.amp", "lens_light.amp", "noise.total_exposure"}
    assert torch.equal(one.label, two.label)
    for a, b in zip(one.scene.mass, two.scene.mass, strict=True):
        for name in a.parameters:
            if name != "softening":  # in pixels
                assert torch.equal(a.parameters[name], b.parameters[name]), (a.name, name)
    bands = made.preset.bands[0], other.preset.bands[0]
    assert bands[0].observation.pixel_scale != bands[1].observation.pixel_scale
    assert not torch.equal(made.batch(0, 3).image, other.batch(0, 3).image)
    assert correlation(made, other) > 0.5  # why `override` says that views want their own noise
    assert abs(correlation(made, other.twin("noise"))) < 0.05


def test_the_same_lens_as_by_draw() -> None:
    """`systems` and `draw` with the numbers of a twin are one."""
    twin = simulator().twin("substructure")
    by_hand = draw(twin.preset, RandomSource(4, twin=ORIGINAL.twin("substructure")), INDEX)
    assert not changed(by_hand.params, parameters(twin))
