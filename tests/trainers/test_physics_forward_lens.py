"""Sources lensed again through a preset's telescope: against lensgen's own images, and as a loss of the lens."""

import pytest
import torch

import lensgen
from lensgen.errors import ParameterError, UnknownNameError
from trainers.models.physics.forward_lens import ForwardLens, chi_square
from trainers.models.physics.grid import pixel_positions
from trainers.models.physics.inverse_lens import InverseLens
from trainers.models.physics.source import Source

FLOAT64 = torch.float64
KERNEL = {"type": "gaussian", "fwhm": 0.0, "truncation": 4, "edge": "nearest", "sampling": "centre"}
NO_PSF = {**KERNEL, "supersampled": False}
EPL_SHEAR = ("epl", "shear")


def preset(name="lenspinn", **changes):
    return lensgen.load_preset(name).override({key.replace("__", "."): value for key, value in changes.items()})


def as_source(image, field=1.0):
    return Source(image, torch.ones_like(image[:, :1]), torch.full((len(image),), field, dtype=image.dtype))


def images(shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT64).to(dtype)


@pytest.mark.parametrize("size", [16, [9, 12]])
def test_without_lens_and_psf_the_image_is_the_source(size):
    lens = ForwardLens(preset(grid__size=size, psf=NO_PSF))
    image = images((3, *lens.preset.image_shape))
    torch.testing.assert_close(lens(as_source(image), {"theta_E": 0.0}), image, rtol=0, atol=2e-5)
    exact = lens(as_source(image.double()), {"theta_E": 0.0})
    torch.testing.assert_close(exact, image.double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("field", [1.0, 1.7, 4.0])
def test_a_source_on_an_enlarged_grid_is_where_it_is(field):
    """A linear source is exact however large its pixels are: seen through a lens it is linear in beta."""
    lens = ForwardLens(preset(grid__size=[16, 18], psf=NO_PSF))
    blank = torch.zeros(2, 1, 16, 18, dtype=FLOAT64)
    x, y = pixel_positions(blank)

    def brightness(x, y):
        return 40.0 + 1.3 * x - 0.7 * y

    source = brightness(field * x, field * y).expand(2, -1).view_as(blank)
    theta_E, beta = torch.tensor([2.0, 5.0], dtype=FLOAT64), [2.0, 5.0]
    seen = lens(as_source(source, field), {"theta_E": theta_E})
    for image, radius in zip(seen.flatten(1), beta, strict=True):
        shrink = 1.0 - radius / torch.hypot(x, y)
        torch.testing.assert_close(image, brightness(shrink * x, shrink * y), rtol=1e-10, atol=0)


def truth(name="lenspinn", size=8, **changes):
    """Images of a preset without substructure, with clean ones, sources and noise; and their lens in pixels."""
    simulator = lensgen.Simulator(
        preset(name, **changes), device="cpu", engine="torch", outputs=("clean", "source", "noise_map"), label="no_sub"
    )  # fmt: skip
    batch = simulator.batch(0, size)
    names = {"lens": simulator.preset.lens, "shear": simulator.preset.shear}
    parameters = {
        p.name: batch.params[f"{part}.{p.name}"] / (batch.pixel_scale if p.unit == "arcsec" else 1.0)
        for part, own in names.items()
        if own is not None
        for p in own.profile.parameters
        if f"{part}.{p.name}" in batch.params
    }
    return simulator.preset, batch, parameters


SMOOTH = {"source__R_sersic": 0.4, "source__n_sersic": 1.0}  # model_a's own sources begin at a pixel's size


@pytest.mark.parametrize(
    "name, profile, changes, allowed",
    [("lenspinn", "sis", {}, 0.08), ("model_a", EPL_SHEAR, SMOOTH, 0.08), ("lens_jepa_a", "sis", {}, 0.04)],
)
def test_the_true_source_behind_the_true_lens_is_the_clean_image(gate, name, profile, changes, allowed):
    """With the preset's PSF and rays; but for what is lost between the pixels of the source."""
    own, batch, parameters = truth(name, **changes)
    statics = {"terms": 24} if "epl" in profile else None
    image = ForwardLens(own, profile, statics)(as_source(batch.maps["source"]), parameters)
    clean = batch.maps["clean"]
    error = (image - clean).square().sum((1, 2, 3)) / clean.square().sum((1, 2, 3))
    gate(f"physics: true source behind true lens, {name}", error.sqrt().max(), allowed)


@pytest.mark.parametrize("supersampled", [False, True])
def test_the_psf_is_the_presets(supersampled):
    wide = NO_PSF | {"fwhm": 0.3, "supersampled": supersampled}
    sharp, blurred = (ForwardLens(preset(grid__size=24, grid__supersampling=1, psf=psf)) for psf in (NO_PSF, wide))
    source, lens = as_source(images((2, 1, 24, 24), 1)), {"theta_E": torch.tensor([3.0, 5.0])}
    observation = blurred.preset.bands[0].observation
    expected = observation.psf.convolve(sharp(source, lens)[:, 0], observation.pixel_scale)
    torch.testing.assert_close(blurred(source, lens)[:, 0], expected, rtol=1e-5, atol=1e-6)
    assert (blurred(source, lens) - sharp(source, lens)).abs().max() > 0.1


def misfit(own, batch, parameters, factor, of, profile="sis"):
    """Chi-square of a lens `factor` times as strong, of images (or clean ones) rebuilt from the clean ones, `[B]`."""
    statics = {"terms": 24} if "epl" in profile else None
    scaled = parameters | {"theta_E": factor * parameters["theta_E"]}
    source = InverseLens(profile, statics=statics)(batch.maps["clean"], scaled)
    return chi_square(ForwardLens(own, profile, statics)(source, scaled), of, batch.maps["noise_map"]), source


def test_the_true_lens_fits_a_source_that_pixels_resolve(gate):
    """R_sersic is 6 pixels: of chi-square 1, the noise's own, to 1.09; 5 % in theta_E three times as bad."""
    own, batch, parameters = truth(size=16, source__R_sersic=0.5)
    right = misfit(own, batch, parameters, 1.0, batch.image)[0]
    gate("physics: chi-square of the true lens - 1", (right.mean() - 1.0).abs(), 0.15)
    for factor in (0.95, 1.05):
        wrong = misfit(own, batch, parameters, factor, batch.image)[0]
        assert (wrong > 1.3 * right).all() and wrong.mean() > 2.5 * right.mean()


@pytest.mark.parametrize("name, profile, least", [("lenspinn", "sis", 8.0), ("model_a", EPL_SHEAR, 2.5)])
def test_the_true_lens_fits_best_nearby(gate, name, profile, least):
    """Noise-free images of presets as they are. Their sources are 2 to 3 pixels large, and what two interpolations lose
    of them is more than the noise; a lens 5 % off is worse by far."""
    own, batch, parameters = truth(name, 16)
    right, source = misfit(own, batch, parameters, 1.0, batch.maps["clean"], profile)
    gate(f"physics: chi-square from interpolation, {name}", right.mean(), 3.0)
    if name == "model_a":
        assert float(source.field.max()) > 1.2  # on enlarged grids too
    for factor in (0.95, 1.05):
        wrong = misfit(own, batch, parameters, factor, batch.maps["clean"], profile)[0]
        assert wrong.mean() > least * right.mean()


def test_no_lens_fits_better_still():
    """Without a lens the image is its own source: this loss alone must not choose theta_E."""
    own, batch, parameters = truth()
    right, none, halfway = (misfit(own, batch, parameters, f, batch.maps["clean"])[0].mean() for f in (1.0, 0.0, 0.8))
    assert none < 0.2 * right < right < 0.1 * halfway


@pytest.mark.parametrize("factor", [0.93, 0.97, 1.03, 1.07])
def test_as_a_loss_it_leads_to_the_true_lens(factor):
    """Through both layers, of noisy images, in every system."""
    own, batch, parameters = truth()
    theta_E = (factor * parameters["theta_E"]).requires_grad_()
    source = InverseLens()(batch.image, {"theta_E": theta_E})
    lens = ForwardLens(own)
    image = lens(source, {"theta_E": theta_E})
    chi_square(image, batch.image, lens.sigma(image.detach(), batch.params)).sum().backward()
    assert theta_E.grad is not None and (theta_E.grad.sign() == (1.0 if factor > 1.0 else -1.0)).all()


def test_gradients_equal_finite_differences():
    """Of the source's pixels, theta_E and the centre, in float64, through rays, lens and PSF."""
    lens = ForwardLens(preset(grid__size=[4, 5], grid__supersampling=2))
    image = images((2, 1, 4, 5), 2, FLOAT64).requires_grad_()
    theta_E = torch.tensor([1.31, 2.07], dtype=FLOAT64, requires_grad=True)
    center_x = torch.tensor([0.11, -0.23], dtype=FLOAT64, requires_grad=True)

    def seen(image, theta_E, center_x):
        return lens(as_source(image, 1.3), {"theta_E": theta_E, "center_x": center_x})

    assert torch.autograd.gradcheck(seen, (image, theta_E, center_x))


def test_a_system_does_not_depend_on_its_neighbours():
    lens, image = ForwardLens(preset(grid__size=20)), images((9, 1, 20, 20), 3)
    field, theta_E = torch.linspace(1.0, 2.0, 9), torch.linspace(0.0, 8.0, 9)
    together = lens(Source(image, image, field), {"theta_E": theta_E})
    for k in (0, 4, 8):
        part = slice(k, k + 1)
        assert torch.equal(
            lens(Source(image[part], image[part], field[part]), {"theta_E": theta_E[part]})[0], together[k]
        )


def test_each_band_has_its_own_psf_and_light():
    one, two = ({**KERNEL, "fwhm": fwhm} for fwhm in (0.5, 2.0))
    bands = {
        "grid__size": 24, "instrument": {"bands": ["lsst_g", "lsst_i"]},
        "psf": {"type": "by_band", "bands": {"lsst_g": one, "lsst_i": two}, "supersampled": False},
    }  # fmt: skip
    own = preset("lsst_i", source__colour={"lsst_i": 0.0}, lens_light=None, **bands)
    lens, source = ForwardLens(own), as_source(images((2, 2, 24, 24), 4))
    both = lens(source, {"theta_E": 4.0})
    for k, fwhm in enumerate((0.5, 2.0)):
        alone = ForwardLens(preset("lsst_i", grid__size=24, psf=NO_PSF | {"fwhm": fwhm}))
        torch.testing.assert_close(both[:, k : k + 1], alone(as_source(source.image[:, k : k + 1]), {"theta_E": 4.0}))


def test_one_of_several_psfs():
    kernels = [{"type": "moffat", "fwhm": f, "beta": 3.0, "size": 1.5, "sampling": "centre"} for f in (0.1, 0.4)]
    many = ForwardLens(preset(grid__size=24, psf={"type": "one_of", "psfs": kernels, "supersampled": False}))
    source, theta_E = as_source(images((2, 1, 24, 24), 5)), {"theta_E": 4.0}
    image = many(source, theta_E, torch.tensor([1, 0]))
    for k, number in enumerate((1, 0)):
        one = ForwardLens(preset(grid__size=24, psf=kernels[number] | {"supersampled": False}))
        torch.testing.assert_close(image[k], one(source, theta_E)[k])
    with pytest.raises(ParameterError, match="the PSF is one of 2 kernels: give psf_choice"):
        many(source, theta_E)


@pytest.mark.parametrize("name", ["model_a", "lenspinn", "deeplense_i_legacy", "hst"])
def test_sigma_is_the_simulators_noise_map(name):
    simulator = lensgen.Simulator(preset(name, grid__size=32), device="cpu", outputs=("clean", "noise_map"))
    batch = simulator.batch(0, 4)
    exposure = batch.params["noise.total_exposure"].view(-1, 1, 1, 1)
    noise_free = batch.maps["clean"] * (exposure if name == "deeplense_i_legacy" else 1.0)  # it counts electrons
    torch.testing.assert_close(ForwardLens(simulator.preset).sigma(noise_free, batch.params), batch.maps["noise_map"])


@pytest.mark.parametrize(
    "name, why", [("deeplense_ii_legacy", "have no noise"), ("deeplense_iv_legacy_macro", "are divided by their peak")]
)
def test_sigma_of_images_that_have_none_is_refused(name, why):
    with pytest.raises(ParameterError, match=f"images of preset {name} {why}: state a sigma of your own"):
        ForwardLens(name).sigma(torch.zeros(1, 1, 4, 4), {})


def test_what_is_wrong_is_named():
    lens = ForwardLens(preset(grid__size=16))
    with pytest.raises(
        ParameterError, match=r"a source \[2, 3, 16, 16\] .* preset lenspinn, whose images are \[B, 1, 16, 16\]"
    ):
        lens(as_source(torch.zeros(2, 3, 16, 16)), {"theta_E": 1.0})
    with pytest.raises(UnknownNameError, match="Did you mean 'theta_E'"):
        lens(as_source(torch.zeros(2, 1, 16, 16)), {"theta_e": 1.0})
    with pytest.raises(UnknownNameError, match=r"unknown preset 'lenspin'. Did you mean 'lenspinn'"):
        ForwardLens("lenspin")
    with pytest.raises(UnknownNameError, match=r"unknown parameter of the images 'noise.total_exposure'"):
        lens.sigma(torch.zeros(1, 1, 16, 16), {"lens.theta_E": torch.ones(1)})
    with pytest.raises(ParameterError, match="image 1 of the batch is not finite"):
        lens(as_source(torch.ones(2, 1, 16, 16)), {"theta_E": torch.tensor([1.0, float("nan")])})


def test_chi_square_is_the_mean_of_each_image():
    residual = torch.tensor([[[[3.0, 0.0]]], [[[1.0, 1.0]]]])
    assert chi_square(residual + 5.0, torch.full_like(residual, 5.0), 0.5).tolist() == [18.0, 4.0]
    assert chi_square(residual, torch.zeros_like(residual), torch.tensor([3.0, 1.0])).tolist() == [
        0.5,
        pytest.approx(5 / 9),
    ]


def test_narrow_types_are_widened():
    lens, image = ForwardLens(preset(grid__size=16)), images((1, 1, 16, 16)).bfloat16()
    wide = as_source(image.float())
    assert torch.equal(lens(as_source(image), {"theta_E": 3.0}), lens(wide, {"theta_E": 3.0}))
