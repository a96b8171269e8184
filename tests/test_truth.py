"""The truth beside the image: each map against its definition or lenstronomy, and how it is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lenstronomy.LensModel.lens_model import LensModel
from torch import Tensor

import lensgen
from lensgen import Batch, Cosmology, Noise, Observation, Simulator, render
from lensgen.draw import draw
from lensgen.errors import EngineError, ParameterError, UnknownNameError
from lensgen.light import light_profile
from lensgen.noise import noise_recipe
from lensgen.psf import GaussianPSF, OneOfPSF, PixelPSF
from lensgen.render import RENDERED, TRACED
from lensgen.simulator import OUTPUTS
from lensgen.truth import fine

FLOAT64 = torch.float64
MAPS = tuple(name for name in OUTPUTS if name not in ("image", "detectability"))  # that has tests of its own
LIGHT = {
    "profile": "sersic", "magnitude": 20.0, "R_sersic": 0.5, "n_sersic": 3.0, "q": 0.8, "phi": 0.5, "center_x": 0.02,
    "center_y": -0.03,
}  # fmt: skip


def simulator(preset: str = "model_a", outputs: tuple[str, ...] = MAPS, size: int = 16, **options) -> Simulator:
    dtype = options.pop("dtype", FLOAT64)
    hr_factor = options.pop("hr_factor", 2)
    made = Simulator(preset, seed=3, device="cpu", engine="torch", outputs=outputs, dtype=dtype, hr_factor=hr_factor)
    return made.override({"grid.size": size, "compensation": "none", **options})


def centres(height: int, width: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the centres of pixels, flat."""
    y, x = np.mgrid[:height, :width]
    return ((x - (width - 1) / 2) * scale).ravel(), ((y - (height - 1) / 2) * scale).ravel()


def lenstronomy_lens(batch: Batch, i: int) -> tuple[LensModel, list[dict[str, float]]]:
    """System i of params and catalogue alone, its substructure of points or of truncated halos."""
    lens = {k: float(batch.params[f"lens.{k}"][i]) for k in ("theta_E", "gamma", "e1", "e2", "center_x", "center_y")}
    shear = {k: float(batch.params[f"shear.{k}"][i]) for k in ("gamma1", "gamma2", "ra_0", "dec_0")}
    models, arguments = ["EPL", "SHEAR"], [lens, shear]
    table = batch.catalogue["cdm.subhalos"]
    for n in range(int(table["count"][i])):
        own = {k: float(v[i, n]) for k, v in table.items() if k != "count"}
        if "tau" in own:
            own["r_trunc"] = own.pop("tau") * own["Rs"]
        else:
            assert own.pop("softening") == 0.0
        models.append("TNFW" if "r_trunc" in own else "POINT_MASS")
        arguments.append(own)
    return LensModel(models), arguments


@pytest.mark.parametrize("preset, changes, tolerance", [
    ("model_a", {"substructure.cdm.softening": 0.0}, 1e-9),
    ("model_b", {"substructure.cdm.count": 6}, 1e-6),  # lenstronomy's own TNFW cancels to this
])  # fmt: skip
def test_lens_maps_are_lenstronomys_at_the_centres_of_the_pixels(preset, changes, tolerance, gate) -> None:
    outputs = ("deflection", "potential", "kappa", "magnification", "catalogue")
    changes = {**changes, "instrument.pixel_scale": 0.3}
    batch = simulator(preset, outputs, 15, **changes).batch(0, 2, label="cdm")
    x, y = centres(15, 15, batch.pixel_scale)
    for i in range(2):
        model, arguments = lenstronomy_lens(batch, i)
        assert len(arguments) > 5
        maps = {name: v[i].flatten(-2).numpy() for name, v in batch.maps.items() if not name.startswith("catalogue")}
        alpha = np.stack(model.alpha(x, y, arguments))
        gate(f"map: deflection, {preset}", np.abs(maps["deflection"] - alpha).max(), tolerance)
        gate(f"map: potential, {preset}", np.abs(maps["potential"] - model.potential(x, y, arguments)).max(), tolerance)
        kappa = np.abs(maps["kappa"] - model.kappa(x, y, arguments)) / (1 + maps["kappa"])
        gate(f"map: kappa, {preset}", kappa.max(), tolerance)
        # the inverse is what stays finite
        expected = 1 / model.magnification(x, y, arguments)
        inverse = np.abs(1 / maps["magnification"] - expected) / (1 + np.abs(expected))
        gate(f"map: 1 / magnification, {preset}", inverse.max(), 10 * tolerance)
        assert (maps["magnification"] < 0).any() and (maps["magnification"] > 0).any()


def test_kappa_sub_is_what_substructure_adds() -> None:
    made = simulator("model_a", ("kappa", "kappa_sub"))
    for label in ("cdm", "axion"):
        with_, without = made.batch(0, 4, label=label), made.batch(0, 4, label="no_sub")
        added = with_.maps["kappa"] - without.maps["kappa"]
        assert float(added.max()) > 1e-3
        torch.testing.assert_close(with_.maps["kappa_sub"], added, rtol=0, atol=1e-12)
        assert not without.maps["kappa_sub"].any()


def test_deflection_scale_is_included() -> None:
    """Model II states its lens for a source at z = 2.5, behind the true one at z = 1."""
    outputs = ("kappa", "deflection", "potential")
    scaled, plain = (
        simulator("deeplense_ii_legacy", outputs, **{"redshift.convention": z}).batch(0, 3, label="no_sub")
        for z in (2.5, None)
    )
    ratio = float(Cosmology().reduced_ratio(*(torch.tensor([z], dtype=FLOAT64) for z in (0.5, 1.0, 2.5))))
    assert ratio < 0.7
    for name in outputs:
        torch.testing.assert_close(scaled.maps[name], ratio * plain.maps[name], rtol=1e-6, atol=0)


def test_source_and_lens_light_are_unlensed_and_sharp() -> None:
    made = simulator("model_a", ("source", "lens_light", "clean"), **{"lens_light": LIGHT, "grid.supersampling": 1})
    batch = made.batch(0, 3)
    x, y = (torch.from_numpy(v) for v in centres(16, 16, batch.pixel_scale))
    profile = light_profile("sersic")
    for name in ("source", "lens_light"):
        values = [batch.params[f"{name}.{p.name}"].double().unsqueeze(1) for p in profile.parameters]
        expected = profile.surface_brightness(x, y, *values) * batch.pixel_scale**2
        torch.testing.assert_close(batch.maps[name].flatten(1), expected, rtol=1e-12, atol=0)
    assert not simulator("model_a", ("lens_light",)).batch(0, 2).maps["lens_light"].any()


def sums_of_blocks(image: Tensor, factor: int) -> Tensor:
    return torch.nn.functional.avg_pool2d(image, factor) * factor**2


@pytest.mark.parametrize("rays, factor, allowed", [(2, 1, 1e-12), (2, 2, 1e-12), (6, 3, 1e-12), (2, 3, 0.1)])
def test_block_sums_of_the_fine_image_are_the_image(rays: int, factor: int, allowed: float, gate) -> None:
    """Exactly where fine pixels share the rays of the image, as with 2 in model_a; else as well as 2 rays sample it."""
    made = simulator("model_a", ("clean", "image_hr"), 24, hr_factor=factor, **{"grid.supersampling": rays})
    batch = made.batch(0, 4)
    clean, fine_image = batch.maps["clean"], batch.maps["image_hr"]
    assert fine_image.shape == (4, 1, 24 * factor, 24 * factor)
    off = (sums_of_blocks(fine_image, factor) - clean).abs().amax() / clean.amax()
    gate(f"image_hr: block sums, {rays} rays, factor {factor}", off, allowed)
    assert rays % factor == 0 or off > 1e-6


def test_rays_of_a_fine_pixel() -> None:
    psf = GaussianPSF(0.2)
    for supersampling, factor, rays in ((4, 2, 2), (4, 3, 2), (1, 8, 1), (6, 3, 2)):
        made = fine(Observation(5, 7, 0.1, supersampling, psf), factor)
        assert (made.height, made.width, made.supersampling) == (5 * factor, 7 * factor, rays)
        assert made.pixel_scale == pytest.approx(0.1 / factor) and made.psf == psf


@pytest.mark.parametrize("supersampled, scale", [(False, 0.1), (True, 0.05)])
def test_a_kernel_of_pixels_is_as_wide_on_fine_pixels(supersampled: bool, scale: float) -> None:
    kernel = GaussianPSF(0.25).kernels(scale)[0]
    observation = Observation(24, 24, 0.1, 2, OneOfPSF((PixelPSF(kernel), GaussianPSF(0.3, edge="zero"))), supersampled)
    psf = fine(observation, 4).psf
    assert psf.psfs[0].pixel_scale == scale
    made = simulator("model_a", (), 24)
    scene = draw(made.preset, made.random, torch.arange(2), FLOAT64).scene
    choice = torch.tensor([0, 1])
    coarse, small = (render(scene, o, engine="torch", psf_choice=choice) for o in (observation, fine(observation, 4)))
    off = (sums_of_blocks(small, 4) - coarse).flatten(1).abs().amax(1) / coarse.flatten(1).amax(1)
    assert float(off.max()) < 0.08
    wrong = replace(fine(observation, 4), psf=observation.psf)  # a kernel of a fraction of its width
    small = sums_of_blocks(render(scene, wrong, engine="torch", psf_choice=choice), 4)
    assert float((small - coarse)[0].abs().max() / coarse[0].max()) > 0.1


@pytest.mark.parametrize("recipe", ["ccd", "lenstronomy"])
def test_noise_map_is_the_standard_deviation_of_the_noise(recipe: str) -> None:
    changes = {"noise.recipe": recipe, "instrument.pixel_scale": 0.4, "source.magnitude": 19.0}
    made = simulator("model_a", ("clean", "noise_map"), 6, **changes)
    batch, number = made[5], 3000
    drawn = draw(made.preset, made.random, torch.full((number,), 5), FLOAT64)
    band = made.preset.bands[0]
    noise = Noise(noise_recipe(recipe), band.detector, drawn.exposure[0], made.random, torch.arange(number))
    images = render(drawn.scene, band.observation, noise, "torch")
    sigma = batch.maps["noise_map"][0, 0]
    assert float(sigma.max() / sigma.min()) > 1.2  # bright and faint pixels
    deviation = (images.std(0) - sigma) / (sigma / (2 * number) ** 0.5)
    assert float(deviation.abs().max()) < 4.0
    mean = (images.mean(0) - batch.maps["clean"][0, 0]) / (sigma / number**0.5)
    assert float(mean.abs().max()) < 4.0


def test_noise_map_of_images_without_noise() -> None:
    assert not simulator("deeplense_ii_legacy", ("noise_map",)).batch(0, 2).maps["noise_map"].any()


def small(preset: str) -> dict[str, object]:
    """Changes under which a preset is quick, whatever it holds: tiny grid, and few subhalos."""
    changes: dict[str, object] = {"grid.size": 8, "grid.supersampling": 1}
    for name, population in Simulator(preset, device="cpu").preset.classes.items():
        if hasattr(population, "aperture"):
            changes[f"substructure.{name}.aperture"] = 0.3
        elif getattr(population, "count", None) is not None and population.capacity > 100:
            changes[f"substructure.{name}.count"] = 10
    return changes


@pytest.mark.parametrize("preset", lensgen.presets())
def test_every_preset_gives_every_map(preset: str) -> None:
    made = Simulator(preset, device="cpu", engine="torch", outputs=MAPS).override(small(preset))
    batch = made.batch(0, 5)
    B, C = 5, made.image_shape[0]
    shapes = {
        "clean": (B, C, 8, 8), "smooth": (B, C, 8, 8), "image_hr": (B, C, 16, 16), "source": (B, C, 8, 8),
        "lens_light": (B, C, 8, 8), "noise_map": (B, C, 8, 8), "deflection": (B, 2, 8, 8), "potential": (B, 8, 8),
        "kappa": (B, 8, 8), "kappa_sub": (B, 8, 8), "magnification": (B, 8, 8), "subhalo_mask": (B, 8, 8),
    }  # fmt: skip
    assert {k: tuple(v.shape) for k, v in batch.maps.items() if k in shapes} == shapes
    assert len(batch.catalogue) > 0 and len(batch.bands) == C
    for name, values in batch.maps.items():
        assert bool(torch.isfinite(values).all()), name
        whole = {"subhalo_mask": torch.bool}.get(name, torch.int64 if name.endswith(".count") else torch.float32)
        assert values.dtype == whole, name


def test_maps_in_float64_and_rounded() -> None:
    """Lens maps in float32 are those of float64 arithmetic, rounded."""
    double, single = (simulator("model_a", dtype=dtype).batch(0, 4) for dtype in (FLOAT64, torch.float32))
    for name, values in double.maps.items():
        if values.is_floating_point():
            assert values.dtype == FLOAT64 and single.maps[name].dtype == torch.float32
    for name in ("deflection", "potential", "kappa", "kappa_sub"):
        torch.testing.assert_close(single.maps[name].double(), double.maps[name], rtol=2e-7, atol=1e-7)
    inverse = (1 / batch.maps["magnification"].double() for batch in (single, double))
    torch.testing.assert_close(*inverse, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("preset, outputs", [
    ("model_a", MAPS), ("model_b", ("kappa", "kappa_sub", "magnification", "subhalo_mask")),
])  # fmt: skip
def test_maps_have_the_same_bits_however_batched(preset: str, outputs: tuple[str, ...]) -> None:
    """50 numbers a row are padded, and 9 systems are no whole number of chunks."""
    made = Simulator(preset, seed=3, device="cpu", outputs=outputs).override({"grid.size": [18, 25]})
    whole = made.batch(0, 9)
    parts = Batch.cat([made.batch(0, 2), made.batch(2, 1), made.batch(3, 6)])
    order = torch.tensor([7, 0, 4])
    picked = made.batch(indices=order)
    for name, values in whole.maps.items():
        assert torch.equal(parts.maps[name], values), name
        assert torch.equal(picked.maps[name], values[order]), name


def test_a_batch_with_all_maps_moves_and_joins() -> None:
    batch = simulator("model_a", size=6).batch(0, 6)
    parts = [batch.map(lambda t, a=a, b=b: t[a:b]) for a, b in ((0, 1), (1, 4), (4, 6))]
    assert all(len(v) == 3 for v in parts[1].maps.values())
    joined = Batch.cat(parts)
    assert list(joined.maps) == list(batch.maps) and joined.bands == batch.bands == ("generic",)
    assert all(torch.equal(joined.maps[k], batch.maps[k]) for k in batch.maps)
    assert {t.device.type for t in batch.to("meta").maps.values()} == {"meta"}


def test_several_bands_and_kernels() -> None:
    """Images have a channel a band, each seen through the PSF that it was drawn for; the lens is the same in all."""
    bands = {
        "instrument": {"bands": ["lsst_g", "lsst_r"], "pixel_scale": 0.2}, "noise.exposure_time": 1000.0,
        "source.colour": {"lsst_r": -0.5}, "psf": {"type": "one_of", "supersampled": False, "psfs": [
            {"type": "moffat", "fwhm": fwhm, "beta": 3.0, "size": 2.2, "sampling": "centre"} for fwhm in (0.5, 1.0)
        ]},
    }  # fmt: skip
    made = simulator("model_a", ("clean", "smooth", "image_hr", "source", "noise_map", "kappa"), 12, **bands)
    batch = made.batch(0, 8)
    assert batch.bands == ("lsst_g", "lsst_r") and batch.maps["kappa"].shape == (8, 12, 12)
    assert batch.params["psf.choice"].unique().numel() == 2
    assert batch.maps["image_hr"].shape == (8, 2, 24, 24) and batch.maps["noise_map"].shape == (8, 2, 12, 12)
    ratio = batch.maps["source"][:, 1] / batch.maps["source"][:, 0]
    assert float(ratio.std() / ratio.mean()) < 1e-6 and float(ratio.mean()) > 1.0
    drawn = draw(made.preset, made.random, batch.index, FLOAT64)
    for k, band in enumerate(made.preset.bands):
        expected = render(drawn.in_band(k)[0], band.observation, None, "torch", drawn.psf_choice[k])
        assert torch.equal(batch.maps["clean"][:, k], expected)


def test_engines_refuse_what_they_do_not_give() -> None:
    assert set(RENDERED + TRACED) == set(OUTPUTS) and len(RENDERED + TRACED) == len(OUTPUTS)
    for output in TRACED:
        message = rf"engine 'cpu' cannot do this: .*but not '{output}'. Fix: engine='auto', or 'torch'"
        with pytest.raises(EngineError, match=message):
            Simulator("model_a", device="cpu", engine="cpu", outputs=("image", output))
    fused = Simulator("model_a", device="cpu", engine="cpu", outputs=("clean",)).override({"grid.size": 8})
    with pytest.raises(EngineError, match="but not 'kappa'"):
        fused.with_outputs("kappa")
    # no engine was named: torch traces the lens beside an image of the fused engine
    auto = Simulator("model_a", device="cpu", outputs=("clean", "kappa")).override({"grid.size": 8}).batch(0, 2)
    assert torch.equal(auto.maps["clean"], fused.batch(0, 2).maps["clean"])
    torch.testing.assert_close(
        auto.maps["kappa"], fused._like(engine="torch").with_outputs("kappa").batch(0, 2).maps["kappa"], rtol=0, atol=0
    )


WRONG = {
    "0": ({"hr_factor": 0}, r"hr_factor = 0 is outside \[1, 8\]"),
    "9": ({"hr_factor": 9}, r"hr_factor = 9 is outside"),
    "2.5": ({"hr_factor": 2.5}, r"hr_factor = 2.5 .*whole number"),
}


@pytest.mark.parametrize("options, message", WRONG.values(), ids=WRONG)
def test_wrong_factors(options, message) -> None:
    with pytest.raises(ParameterError, match=message):
        Simulator("model_a", device="cpu", **options)


def test_a_fine_image_that_is_too_large_is_refused_before_it_is_made() -> None:
    large = Simulator("model_a", device="cpu", hr_factor=8).override({"grid.size": 1000})
    with pytest.raises(ParameterError, match=r"hr_factor = 8 makes 8000 pixels on a side, more than 4096"):
        large.with_outputs("image_hr")
    with pytest.raises(UnknownNameError, match="Did you mean 'magnification'"):
        large.with_outputs("magnificaton")


def test_hr_factor_stays_with_the_simulator() -> None:
    made = Simulator("model_a", device="cpu", hr_factor=3).override({"grid.size": 4}).with_outputs("image_hr")
    assert made.hr_factor == 3 and made[0].maps["image_hr"].shape == (1, 1, 12, 12)


def test_maps_do_not_change_the_image() -> None:
    plain = simulator("model_a", ("image",)).batch(0, 3)
    assert torch.equal(plain.image, simulator("model_a").batch(0, 3).image) and not plain.maps
    assert not replace(plain, maps={}).catalogue
