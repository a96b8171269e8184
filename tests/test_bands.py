"""Images of several bands: each is what its instrument alone would show of the same system."""

from __future__ import annotations

import pytest
import torch

from lensgen import MoffatPSF, Simulator, load_preset
from lensgen.draw import draw
from lensgen.errors import LensgenError, ParameterError, PresetError, UnknownNameError
from lensgen.preset import preset_from_config

SIZE = 16
LIGHT = {
    "disc": {"profile": "sersic", "magnitude": 21.0, "R_sersic": 0.3, "n_sersic": 1.0, "colour": {"lsst_i": -0.7}},
    "bulge": {
        "profile": "sersic", "magnitude": 22.0, "R_sersic": 0.1, "n_sersic": 3.0,
        "center_x": "source.disc.center_x", "colour": {"lsst_i": {"uniform": {"low": -1.6, "high": -1.2}}},
    },
}  # fmt: skip
GALAXY = {
    "profile": "sersic", "magnitude": 19.0, "R_sersic": 0.8, "n_sersic": 4.0, "q": "lens.q", "phi": "lens.phi",
    "center_x": "lens.center_x", "center_y": "lens.center_y", "colour": {"lsst_i": -1.1},
}  # fmt: skip


def two_bands(**changes) -> Simulator:
    base = {
        "grid.size": SIZE, "instrument": {"bands": ["lsst_g", "lsst_i"]}, "noise.exposure_time": "instrument",
        "source": LIGHT, "lens_light": GALAXY, **changes,
    }  # fmt: skip
    return Simulator("model_a", device="cpu", outputs=("image", "clean", "detectability")).override(base)


def one_band(name: str, colours: dict[str, float]) -> Simulator:
    """The same preset seen by one instrument, magnitudes those of its band."""
    lights = {}
    for part, light in LIGHT.items():
        own = {k: v for k, v in light.items() if k != "colour"}
        lights[part] = own | {"magnitude": light["magnitude"] + colours[part]}
    galaxy = {k: v for k, v in GALAXY.items() if k != "colour"}
    return two_bands(instrument=name, source=lights, lens_light=galaxy | {"magnitude": 19.0 + colours["galaxy"]})


def test_shape_and_params() -> None:
    simulator = two_bands()
    batch = simulator.batch(0, 5)
    assert simulator.image_shape == (2, SIZE, SIZE) and batch.image.shape == (5, 2, SIZE, SIZE)
    assert simulator.preset.config["instrument"] == {"bands": ["lsst_g", "lsst_i"]}
    assert torch.equal(batch.params["source.bulge.center_x"], batch.params["source.disc.center_x"])
    colour = batch.params["source.bulge.colour.lsst_i"]
    assert float(colour.min()) >= -1.6 and float(colour.max()) <= -1.2 and len(colour.unique()) == 5
    assert len(simulator.input_scale) == 2
    for band in simulator.preset.bands:
        total = band.instrument.exposure_time * band.instrument.exposures
        assert batch.params[f"noise.total_exposure.{band.name}"].unique().tolist() == [pytest.approx(total)]


def test_each_channel_is_that_of_its_instrument_alone() -> None:
    colour = {"lsst_i": -1.3}
    bulge = LIGHT["bulge"] | {"colour": colour}
    both = two_bands(source=LIGHT | {"bulge": bulge}).batch(0, 8).maps["clean"]
    alone = {
        "lsst_g": one_band("lsst_g", {"disc": 0.0, "bulge": 0.0, "galaxy": 0.0}),
        "lsst_i": one_band("lsst_i", {"disc": -0.7, "bulge": -1.3, "galaxy": -1.1}),
    }
    for k, simulator in enumerate(alone.values()):
        own = simulator.batch(0, 8).maps["clean"][:, 0]
        assert float((both[:, k] - own).abs().max()) < 2e-6 * float(own.max())
    assert torch.equal(
        two_bands(source=LIGHT | {"bulge": bulge}).batch(0, 8).image[:, :1], alone["lsst_g"].batch(0, 8).image
    )


def test_noise_of_channels_is_independent() -> None:
    made = two_bands(**{"grid.size": 64}).batch(0, 6)
    noise = (made.image - made.maps["clean"]).flatten(2)
    noise = noise / noise.std(2, keepdim=True)
    correlation = (noise[:, 0] * noise[:, 1]).mean(1)
    assert float(correlation.abs().max()) < 4.5 / 64  # standard errors of 4,096 pixels


def test_detectability_adds_up_over_bands() -> None:
    """Two bands show at least what each shows alone, and no more than their sum: the lens is refitted jointly."""
    index = torch.arange(6)
    changes = {"source": {"disc": LIGHT["disc"]}, "lens_light": None, "grid.size": 24}
    joint = two_bands(**changes).batch(indices=index, label="axion").maps["detectability"]
    disc = {k: v for k, v in LIGHT["disc"].items() if k != "colour"}
    single = [
        two_bands(**changes | {"instrument": name, "source": {"disc": disc | {"magnitude": magnitude}}})
        .batch(indices=index, label="axion").maps["detectability"]
        for name, magnitude in (("lsst_g", 21.0), ("lsst_i", 20.3))
    ]  # fmt: skip
    assert bool((joint > torch.maximum(*single)).all())
    assert bool((joint >= (single[0] + single[1]) * 0.999).all())  # refitting together takes less away than apart


def test_engines_agree() -> None:
    fused, reference = (
        Simulator(two_bands().preset, device="cpu", engine=e, outputs=("clean",)) for e in ("cpu", "torch")
    )
    a, b = (s.batch(0, 8).maps["clean"] for s in (fused, reference))
    assert float((a - b).abs().max()) < 1e-5 * float(b.max())


def test_classes_can_be_chosen() -> None:
    simulator = two_bands()
    own, cdm = simulator.batch(0, 12), simulator.batch(0, 12, label="cdm")
    assert cdm.label.tolist() == [1] * 12
    same = own.label == 1
    assert bool(same.any()) and torch.equal(own.image[same], cdm.image[same])
    assert torch.equal(own.params["source.disc.center_x"], cdm.params["source.disc.center_x"])
    with pytest.raises(UnknownNameError, match=r"unknown class of model_a 'axon'. Did you mean 'axion'"):
        simulator.batch(0, 1, label="axon")


def test_a_class_with_a_lens_of_its_own() -> None:
    macro = {"no_sub": {"lens": {"profile": "sie", "sigma_v": {"normal": {"mean": 260.0, "sigma": 20.0}}},
                        "shear": {"profile": "shear", "gamma1": 0.0, "gamma2": 0.0}}}  # fmt: skip
    preset = load_preset("deeplense_ii_legacy").override({"grid.size": 4})
    config = dict(preset.config) | {"macro": macro}
    batch = Simulator(preset_from_config("mine", config), device="cpu").batch(0, 60)
    smooth = batch.label == 0
    theta_E = batch.params["lens.theta_E"]
    assert theta_E[~smooth].unique().tolist() == [pytest.approx(1.281491)] and len(theta_E[smooth].unique()) > 10
    sigma_v = batch.params["lens.sigma_v"][smooth].double()
    assert float((theta_E[smooth] / sigma_v**2).std() / (theta_E[smooth] / sigma_v**2).mean()) < 1e-6
    at_260 = float((theta_E[smooth] / sigma_v**2).mean()) * 260.0**2
    assert at_260 == pytest.approx(1.32, abs=0.01)  # read at z_c = 2.5, as the published code does
    assert batch.params["shear.gamma1"][smooth].abs().max() == 0.0
    assert batch.params["shear.gamma1"][~smooth].unique().tolist() == [pytest.approx(0.05)]
    with pytest.raises(PresetError, match=r"macro: a class with a lens of its own gives itself away"):
        preset_from_config(
            "mine", config | {"mode": "honest", "redshift": {"lens": 0.5, "source": 1.0, "convention": None}}
        )


def test_a_psf_for_each_band() -> None:
    one, two = ({"type": "moffat", "fwhm": w, "beta": 3.0, "size": 3.0, "sampling": "centre"} for w in (0.7, 0.9))
    psf = {"type": "by_band", "bands": {"lsst_g": one, "lsst_i": two}, "supersampled": False}
    bands = two_bands(psf=psf).preset.bands
    assert [band.observation.psf for band in bands] == [MoffatPSF(0.7, 3.0, 3.0), MoffatPSF(0.9, 3.0, 3.0)]
    with pytest.raises(PresetError, match=r"psf.bands.lsst_i is missing"):
        two_bands(psf=psf | {"bands": {"lsst_g": one}})
    with pytest.raises(UnknownNameError, match=r"unknown psf.bands.lsst_i.type 'mofat'. Did you mean 'moffat'"):
        two_bands(psf=psf | {"bands": {"lsst_g": one, "lsst_i": two | {"type": "mofat"}}})


def test_peak_normalisation() -> None:
    preset = load_preset("model_a")
    made = preset_from_config(
        "mine", dict(preset.config) | {"normalise": "peak", "grid": {"size": 8, "supersampling": 1}}
    )
    image = Simulator(made, device="cpu").batch(0, 5).image
    assert image.flatten(1).amax(1).tolist() == [1.0] * 5


def test_drawn_by_a_kernel_or_by_torch() -> None:
    from lensgen.fused_draw import CpuDrawer

    preset = two_bands().preset
    index = torch.arange(40)
    random = two_bands().random
    kernel, reference = CpuDrawer(preset, torch.float32)(random, index), draw(preset, random, index)
    for name, value in reference.params.items():
        assert torch.equal(kernel.params[name], value), name
    for a, b in zip(kernel.amp, reference.amp, strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in b)
    assert all(torch.equal(a, b) for a, b in zip(kernel.exposure, reference.exposure, strict=True))


WRONG = {
    "both": ({"instrument": {"name": "lsst_g", "bands": ["lsst_i"]}}, PresetError, r"either its name or its bands"),
    "twice": ({"instrument": {"bands": ["lsst_g", "lsst_g"]}}, PresetError, r"must be a list of different instruments"),
    "none": ({"instrument": {"bands": []}}, PresetError, r"must be a list of different instruments"),
    "pixels": (
        {"instrument": {"bands": ["lsst_g", "euclid_vis_2022"]}}, PresetError, r"pixels of \[0.101, 0.2\] arcsec"
    ),
    "no colour": ({"instrument": {"bands": ["lsst_g", "lsst_r"]}}, LensgenError, r"source.disc.colour"),
    "colour of no band": ({"instrument": "lsst_g"}, UnknownNameError, r"unknown field of source.disc.colour 'lsst_i'"),
    "reference": (
        {"lens_light": GALAXY | {"q": "lens.qq"}}, UnknownNameError, r"field that lens_light.q refers to 'lens.qq'. Did"
    ),
    "later": (
        {"source": {"bulge": LIGHT["bulge"], "disc": LIGHT["disc"]}}, UnknownNameError, r"refers to 'source.disc.cent"
    ),
    "range": (
        {"lens_light": GALAXY | {"n_sersic": "lens.theta_E"}} | {"lens.theta_E": 12.0}, ParameterError,
        r"lens_light.n_sersic = 'lens.theta_E' can take values from 12 to 12",
    ),
    "no source": ({"source": None}, PresetError, r"source = None: a lens needs something behind it"),
    "amp and colour": (
        {"source": {"profile": "sersic", "amp": 1.0, "R_sersic": 0.2, "n_sersic": 1.0, "colour": {"lsst_i": 0.0}}},
        PresetError, r"source.colour needs source.magnitude",
    ),
    "deflectors": ({"deflectors": {"m4": {"profile": "multipol"}}}, UnknownNameError, r"Did you mean 'multipole'"),
    "m": (
        {"deflectors": {"m4": {"profile": "multipole", "m": 4.5, "theta_E": 1.0, "a_m": 0.01, "phi_m": 0.0}}},
        ParameterError, r"deflectors.m4.m = 4.5 is no whole number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("changes, error, message", WRONG.values(), ids=WRONG)
def test_bad_input(changes, error, message) -> None:
    with pytest.raises(error, match=message):
        two_bands(**changes)


def test_multipoles_of_the_lens() -> None:
    multipole = {"profile": "multipole", "m": 4, "theta_E": "lens.theta_E", "a_m": 0.03, "phi_m": "lens.phi",
                 "center_x": "lens.center_x", "center_y": "lens.center_y"}  # fmt: skip
    plain, boxy = two_bands(), two_bands(deflectors={"m4": multipole})
    a, b = plain.batch(0, 4), boxy.batch(0, 4)
    assert torch.equal(b.params["deflectors.m4.theta_E"], b.params["lens.theta_E"])
    assert float((a.maps["clean"] - b.maps["clean"]).abs().max()) > 1e-3 * float(a.maps["clean"].max())
