"""Whole images against lenstronomy's, of the same drawn systems: its own lens models, light models, PSF and units."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from astropy.cosmology import FlatLambdaCDM
from lenstronomy.Data.pixel_grid import PixelGrid
from lenstronomy.Data.psf import PSF
from lenstronomy.ImSim.image_model import ImageModel
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel

from lensgen import Component, Observation, Scene, Simulator, render
from lensgen.draw import draw
from lensgen.light import light_profile
from lensgen.mass import mass_profile
from lensgen.psf import GaussianPSF, PixelPSF
from tests.psf.kernels import moffat

FLOAT64 = torch.float64
pytestmark = [
    pytest.mark.filterwarnings("ignore:Cosmology is provided:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*axes.*should not be.*None:DeprecationWarning"),
]


def _lists(components, system: int) -> tuple[list[str], list[dict[str, float]]]:
    """lensgen components -> lenstronomy's list of models and their arguments, for one system."""
    models, arguments = [], []
    for component in components:
        slots = [None] if component.count is None else range(int(component.count[system]))
        for slot in slots:
            own = {k: float(v[system] if slot is None else v[system, slot]) for k, v in component.parameters.items()}
            if component.profile.name == "tnfw":
                own["r_trunc"] = own.pop("tau") * own["Rs"]
            if component.profile.name == "point":
                assert own.pop("softening") == 0.0
            models.append(component.profile.lenstronomy)
            arguments.append(own)
    return models, arguments


def _as_lenstronomy_has_it(psf, scale: float) -> PSF:
    if isinstance(psf, PixelPSF):
        return PSF("PIXEL", kernel_point_source=psf.kernel[0].numpy(), pixel_size=scale)
    if psf.fwhm == 0.0:
        return PSF("NONE")
    return PSF("GAUSSIAN", fwhm=psf.fwhm, pixel_size=scale, truncation=psf.truncation)


def lenstronomy_image(
    scene: Scene, observation: Observation, system: int = 0, planes: dict | None = None, kernel: PSF | None = None
):
    n, scale = (observation.height, observation.width), observation.pixel_scale
    grid = PixelGrid(
        nx=n[1], ny=n[0], transform_pix2angle=np.eye(2) * scale,
        ra_at_xy_0=-(n[1] - 1) / 2 * scale, dec_at_xy_0=-(n[0] - 1) / 2 * scale,
    )  # fmt: skip
    kernel = kernel or _as_lenstronomy_has_it(observation.psf, scale)
    models, lens = _lists(scene.mass, system)
    if planes:
        planes = {**planes, "lens_redshift_list": [0.5] * len(models), "multi_plane": True}
    source_models, source = _lists(scene.source, system)
    light_models, light = _lists(scene.lens_light, system)
    model = ImageModel(
        grid, kernel, LensModel(models, **(planes or {})), LightModel(source_models), LightModel(light_models),
        kwargs_numerics={
            "supersampling_factor": observation.supersampling,
            "supersampling_convolution": observation.psf_supersampled,
            "supersampling_kernel_size": None,  # all of the kernel on the fine grid, not its middle alone
        },
    )  # fmt: skip
    return model.image(lens, source, light)


def difference(scene: Scene, observation: Observation, dtype: torch.dtype, **options) -> float:
    """max |lensgen - lenstronomy| over the peak, of the scene's first system."""
    expected = lenstronomy_image(scene, observation, **options)
    got = render(scene.to(dtype=dtype), observation)[0].double().numpy()
    assert expected.max() > 0.0
    return float(np.abs(got - expected).max() / expected.max())


def systems(preset: str, label: int, number: int, seed: int = 1, **overrides):
    """`number` systems of one class as scenes of one, in float64 (of parameters that float32 can hold)."""
    simulator = Simulator(preset, seed=seed, device="cpu").override(overrides)
    index = torch.arange(300)
    index = index[simulator.labels(index) == label][:number]
    drawn = draw(simulator.preset, simulator.random, index, FLOAT64)
    scenes = [drawn.scene.select(torch.tensor([i])) for i in range(number)]
    return scenes, simulator.preset.bands[0].observation


@pytest.mark.parametrize("dtype, allowed", [(FLOAT64, 1e-8), (torch.float32, 1e-5)])
def test_model_i_without_substructure(dtype, allowed, gate) -> None:
    scenes, observation = systems("deeplense_i_legacy", 0, 2)
    for scene in scenes:
        gate(f"image: no_sub Model I ({dtype})", difference(scene, observation, dtype), allowed)


@pytest.mark.parametrize("truncation", [3.0, 5.0])
def test_other_truncations(truncation: float, gate) -> None:
    scenes, observation = systems("deeplense_i_legacy", 0, 1, **{"psf.truncation": truncation})
    gate("image: no_sub Model I, other truncations", difference(scenes[0], observation, FLOAT64), 1e-8)


@pytest.mark.parametrize("dtype, allowed", [(FLOAT64, 1e-8), (torch.float32, 1e-4)])
def test_legacy_cdm(dtype, allowed, gate) -> None:
    scenes, observation = systems("deeplense_i_legacy", 1, 2)
    for scene in scenes:
        assert int(scene.mass[2].count[0]) == 25
        gate(f"image: legacy CDM, 25 points ({dtype})", difference(scene, observation, dtype), allowed)


@pytest.mark.parametrize("axion_mass", [1.1e-24, 1e-23, 9e-23])  # half-length 2.7", 0.3", 0.033"
@pytest.mark.parametrize("dtype, allowed", [(FLOAT64, 1e-8), (torch.float32, 1e-4)])
def test_vortex_of_100_points(axion_mass, dtype, allowed, gate) -> None:
    scenes, observation = systems("deeplense_i_legacy", 2, 1, **{"substructure.axion.axion_mass": axion_mass})
    gate(f"image: vortex of 100 points ({dtype})", difference(scenes[0], observation, dtype), allowed)


@pytest.mark.parametrize("axion_mass", [1e-23, 3e-23, 1e-22])  # half-length 0.3", 0.1", 0.03"
def test_rod_against_100_points(axion_mass, gate) -> None:
    changes = {"substructure.axion.axion_mass": axion_mass}
    scenes, observation = systems("deeplense_i_legacy", 2, 1, **changes)
    rod = {"population": "vortex_rod", "mass": 3e10, "axion_mass": axion_mass, "core": 0.0}
    rods, _ = systems("deeplense_i_legacy", 2, 1, **{"substructure.axion": rod})
    expected = lenstronomy_image(scenes[0], observation)
    off = np.abs(render(rods[0], observation)[0].numpy() - expected).max() / expected.max()
    gate("image: rod against 100 points, half-length <= 0.3", off, 1e-3)
    assert off > 0.0


def _epl_with_halos(number: int) -> Scene:
    generator = torch.Generator().manual_seed(4)

    def u(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(1, number, generator=generator, dtype=FLOAT64)

    mass = 10 ** (1.5 * u(0, 1) + 7)  # Msun
    halos = Component.make(
        "cdm",
        mass_profile("tnfw"),
        {
            "Rs": 0.115 * (mass / 1e8) ** 0.4,
            "alpha_Rs": 4.5e-4 * (mass / 1e8) ** 0.64,
            "tau": u(0.5, 30.0),
            "center_x": u(-3.0, 3.0),
            "center_y": u(-3.0, 3.0),
        },
        1,
        torch.tensor([number]),
    )
    host = {"theta_E": 1.3, "gamma": 2.1, "e1": 0.12, "e2": -0.07, "center_x": 0.013, "center_y": -0.021}
    host = {k: torch.tensor([v], dtype=FLOAT64) for k, v in host.items()}
    shear = {k: torch.tensor([v], dtype=FLOAT64) for k, v in {"gamma1": 0.03, "gamma2": -0.04}.items()}
    source = {"amp": 20.0, "R_sersic": 0.25, "n_sersic": 1.0, "e1": -0.1, "e2": 0.1, "center_x": 0.1, "center_y": 0.05}
    return Scene(
        (
            Component.make("lens", mass_profile("epl"), host, 1, statics={"terms": 48}),
            Component.make("shear", mass_profile("shear"), shear, 1),
            halos,
        ),
        (
            Component.make(
                "source", light_profile("sersic"), {k: torch.tensor([v], dtype=FLOAT64) for k, v in source.items()}, 1
            ),
        ),
    )


@pytest.mark.parametrize("dtype, allowed", [(FLOAT64, 1e-9), (torch.float32, 1e-5)])
def test_epl_shear_and_300_tnfw(dtype, allowed, gate) -> None:
    observation = Observation(64, 64, 0.1, 1, GaussianPSF(0.087, truncation=4.0))
    gate(f"image: EPL + shear + 300 TNFW ({dtype})", difference(_epl_with_halos(300), observation, dtype), allowed)


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("dtype", [FLOAT64, torch.float32])
def test_model_ii_is_what_multi_plane_lensing_makes_of_it(label, dtype, gate) -> None:
    """lenstronomy traces through planes with z_source_convention; lensgen scales every deflection."""
    scenes, observation = systems("deeplense_ii_legacy", label, 1)
    planes = {"z_source": 1.0, "z_source_convention": 2.5, "cosmo": FlatLambdaCDM(70, 0.3)}
    allowed = {FLOAT64: 1e-8, torch.float32: 1e-5 if label == 0 else 1e-4}[dtype]
    # the scale is itself rounded to float32 in a drawn scene: 3e-8 of every deflection
    exact = dataclasses.replace(scenes[0], deflection_scale=torch.tensor([_exact_scale()], dtype=FLOAT64))
    off = difference(exact, observation, dtype, planes=planes)
    gate(f"image: Model II multi-plane ({dtype}, {'no_sub' if label == 0 else 'points'})", off, allowed)


def _exact_scale() -> float:
    from lensgen import Cosmology

    z = (torch.tensor([v], dtype=FLOAT64) for v in (0.5, 1.0, 2.5))
    return float(Cosmology().reduced_ratio(*z))


@pytest.mark.parametrize("supersampling", [2, 3])
@pytest.mark.parametrize("psf_supersampled", [False, True])
@pytest.mark.parametrize("size", [40, 57])
@pytest.mark.parametrize("dtype, allowed", [(FLOAT64, 1e-8), (torch.float32, 1e-5)])
def test_supersampling(supersampling, psf_supersampled, size, dtype, allowed, gate) -> None:
    changes = {"grid.supersampling": supersampling, "psf.supersampled": psf_supersampled, "grid.size": size}
    scenes, observation = systems("deeplense_i_legacy", 0, 1, **changes)
    gate(f"image: supersampling ({dtype})", difference(scenes[0], observation, dtype), allowed)


def test_supersampling_changes_the_image() -> None:
    """1 ray against 4x4 changes Model I by 1.8 % of the peak: what is compared above is not the same image."""
    scenes, coarse = systems("deeplense_i_legacy", 0, 1)
    fine = dataclasses.replace(coarse, supersampling=4)
    one, many = render(scenes[0], coarse), render(scenes[0], fine)
    assert 0.005 < float((one - many).abs().max() / many.max()) < 0.05


def _with_lens_light(size: int | list[int], fwhm: float) -> tuple[Scene, Observation]:
    scenes, observation = systems("deeplense_i_legacy", 0, 1, **{"grid.size": size})
    light = {"amp": 5.0, "R_sersic": 0.6, "n_sersic": 2.5, "e1": 0.1, "e2": -0.05, "center_x": 0.02, "center_y": -0.03}
    light = {k: torch.tensor([v], dtype=FLOAT64) for k, v in light.items()}
    scene = dataclasses.replace(
        scenes[0], lens_light=(Component.make("lens_light", light_profile("sersic"), light, 1),)
    )
    return scene, dataclasses.replace(observation, psf=GaussianPSF(fwhm))


@pytest.mark.parametrize("dtype, allowed", [(FLOAT64, 1e-8), (torch.float32, 1e-5)])
@pytest.mark.parametrize("size", [64, 33, 2])
def test_lens_light(size, dtype, allowed, gate) -> None:
    scene, observation = _with_lens_light(size, 0.087)
    gate(f"image: lens light ({dtype})", difference(scene, observation, dtype), allowed)


@pytest.mark.parametrize("height, width, side", [(33, 65, 65), (64, 20, 64), (1, 1, 3), (1, 63, 63), (2, 40, 40)])
def test_images_that_are_not_square(height, width, side, gate) -> None:
    """lenstronomy takes squares alone: without a PSF, the middle of one must be the image."""
    scene, observation = _with_lens_light(side, 0.0)
    row, column = (side - height) // 2, (side - width) // 2
    expected = lenstronomy_image(scene, observation)
    got = render(scene, dataclasses.replace(observation, height=height, width=width))[0].numpy()
    off = np.abs(got - expected[row : row + height, column : column + width]).max() / expected.max()
    gate("image: not square (float64)", off, 1e-8)


@pytest.mark.parametrize("size", [5, 21])
def test_pixel_kernel(size: int, gate) -> None:
    scenes, observation = systems("deeplense_i_legacy", 0, 1, **{"grid.size": 50})
    observation = dataclasses.replace(observation, psf=PixelPSF(moffat(size)))
    gate("image: PSF as a kernel (float64)", difference(scenes[0], observation, FLOAT64), 1e-8)


def test_model_a_systems_as_lenstronomy_sees_them(gate) -> None:
    """Varied lenses with softening off: EPL, shear and points, 2x2 rays, PSF on the fine grid."""
    scenes, observation = systems("model_a", 1, 3, **{"substructure.cdm.softening": 0.0})
    for scene in scenes:
        # the series of 64-bit length is drawn with a 64-bit scene
        gate("image: model_a, cdm (float64)", difference(scene, observation, FLOAT64), 1e-8)


def test_units_are_flux_per_pixel() -> None:
    """An unlensed source of a magnitude: the pixels add up to 10**(-0.4 (m - zero point)) e-/s, whatever their size."""
    for scale in (0.05, 0.1):
        n = round(12.0 / scale)
        source = {
            "amp": 1.0 / float(light_profile("sersic").total_flux(*torch.tensor([0.3, 1.0]).double())),
            "R_sersic": 0.3, "n_sersic": 1.0, "e1": 0.1, "e2": 0.05,
        }  # fmt: skip
        source = {k: torch.tensor([v], dtype=FLOAT64) for k, v in source.items()}
        scene = Scene((), (Component.make("source", light_profile("sersic"), source, 1),))
        image = render(scene, Observation(n, n, scale, 4, GaussianPSF(0.1)))
        assert float(image.sum()) == pytest.approx(1.0, rel=2e-4)
