"""Whole scenes of the fused engines, against float64 torch within the gates of PHYSICS.md section 9."""

from __future__ import annotations

import pytest
import torch

import lensgen
from lensgen import Scene, Simulator, load_preset, raytrace, render
from lensgen.draw import draw, draw_label
from lensgen.mass import mass_profile
from lensgen.rng import RandomSource
from lensgen.scene import Component
from lensgen.substructure.population import Draws
from tests.kernels import scenes
from tests.kernels.scenes import both, double, hand_made, off_peak, seen, slotted

_QUICK = [
    "deeplense_ii_legacy",
    "euclid_nisp",
    "hst",
    "model_a_physical",
    "model_b",
]  # one of each kind of optics and lens
QUICK = {"cpu": [*_QUICK, "deeplense_i_legacy", "lenspinn", "model_a"], "cuda": _QUICK}


@pytest.mark.parametrize(
    "engine, preset",
    [
        pytest.param(engine, preset, marks=() if preset in quick else pytest.mark.slow)
        for engine, quick in QUICK.items()
        for preset in lensgen.presets()
    ],
    indirect=["engine"],
)
def test_every_preset(engine: str, preset: str, gate) -> None:
    """Each class, clean, in each band; of large images the middle, of crowded lenses few."""
    made = load_preset(preset).override({"grid.size": min(load_preset(preset).image_shape[1], 48)})
    crowded = preset in ("model_a_physical", "deeplense_iv_legacy_macro", "lens_jepa_a", "lens_jepa_b")
    index = torch.arange(12)
    labels = draw_label(made, Draws(RandomSource(8), index))
    if crowded:
        index = torch.stack([index[labels == k][0] for k in range(3)])
    systems = draw(made, RandomSource(8), index)
    assert len(systems.label.unique()) == 3
    for k, band in enumerate(made.bands):
        scene = systems.in_band(k)[0]
        image, expected = both(scene, band.observation, engine)
        error = (image - expected).abs().flatten(1).amax(1) / expected.flatten(1).amax(1)
        for label, name in enumerate(made.classes):
            points = any(c.profile.name in ("point", "vortex") for c in scene.mass if c.name.startswith(f"{name}."))
            gate(f"{engine}: {preset}, {name} (of peak)", error[systems.label == label].max(), 1e-4 if points else 1e-5)


def crowd(name: str, number: int) -> Scene:
    """EPL and shear with 0, `number` and some subhalos, which are as heavy together as the 300 of section 9."""
    profile, batch = mass_profile(name), 3
    values = scenes.random_parameters(profile, (batch, number), 5)
    small = {"alpha_Rs": 3e-4, "Rs": 0.05, "theta_E": 0.01, "softening": 0.02, "tau": 10.0}
    generator = torch.Generator().manual_seed(6)
    for key in set(values) & set(small):
        values[key] = small[key] * (0.5 + torch.rand(batch, number, generator=generator, dtype=torch.float64))
    macro = hand_made(batch, "epl", gamma=2.1, e1=0.1, e2=-0.05, theta_E=1.2)
    shear = Component.make("shear", mass_profile("shear"), {"gamma1": 0.03, "gamma2": -0.02}, batch)
    halos = Component("halos", profile, values, torch.tensor([0, number, number // 3]))
    return Scene((*macro.mass, shear, halos), macro.source)


@pytest.mark.parametrize("name, allowed", [("point", 1e-4), pytest.param("tnfw", 1e-5, marks=pytest.mark.slow)])
def test_a_thousand_subhalos_or_none(engine: str, name: str, allowed: float, gate) -> None:
    scene = crowd(name, 1000)
    for size in ((1, 1), (17, 33)) if name == "tnfw" else ((1, 1), (33, 65)):
        observation = seen(*size)
        # the torch engine would fill a whole chunk of systems with a thousand halos each
        beta = raytrace.source_position(double(scene), *observation.rays())
        expected = raytrace.surface_brightness(scene.source, *beta) * observation.pixel_scale**2
        image = render(scene.to(dtype=torch.float32), observation, engine=engine).flatten(1)
        error = (image - expected).abs().amax(1) / expected.amax(1)
        gate(f"{engine}: EPL+shear+1000 {name} (of peak)", error.max(), allowed)
    none = slotted(mass_profile(name), scene.mass[2].parameters, torch.zeros(3, dtype=torch.int64))
    without = Scene((*scene.mass[:2], none), scene.source).to(dtype=torch.float32)
    smooth = render(without, observation, engine=engine).flatten(1)
    assert torch.equal(image[0], smooth[0]) and not torch.equal(image[1], smooth[1])


@pytest.mark.slow
@pytest.mark.parametrize("name, allowed", [("point", 1e-4), ("tnfw", 1e-5)])
def test_a_thousand_subhalos_in_150_pixels(engine: str, name: str, allowed: float, gate) -> None:
    error = off_peak(crowd(name, 1000), seen(150, 150, 0.05), engine)
    gate(f"{engine}: EPL+shear+1000 {name} (of peak)", error, allowed)


@pytest.mark.parametrize(
    "engine, preset, allowed",
    [
        ("cpu", "model_a", 1e-4),
        *(pytest.param(e, p, a, marks=pytest.mark.slow)
          for e, p, a in (("cpu", "model_b", 1e-5), ("cuda", "model_a", 1e-4), ("cuda", "model_b", 1e-5))),
    ],
    indirect=["engine"],
)  # fmt: skip
def test_five_thousand_images(engine: str, preset: str, allowed: float, gate) -> None:
    """Of 16x16 pixels, each against float64 torch.

    Of so many, in pixels as wide as a source, a few lie at a caustic where any float32 is off by more than the gate:
    the worst may be as far off as twice the worst of float32 torch.
    """
    changes = {"grid.size": 16, "grid.supersampling": 1, "instrument.pixel_scale": 0.3}
    made = Simulator(preset, device="cpu").override(changes).preset
    systems = draw(made, RandomSource(2), torch.arange(5000))
    exact = render(double(systems.scene), made.bands[0].observation, engine="torch")
    whole = render(systems.scene, made.bands[0].observation, engine=engine)
    plain = render(systems.scene, made.bands[0].observation, engine="torch")

    def off(image: torch.Tensor) -> torch.Tensor:
        return (image - exact).abs().flatten(1).amax(1) / exact.flatten(1).amax(1)

    gate(f"{engine}: 5,000 of {preset}, 99.5 % of them (of peak)", off(whole).quantile(0.995), allowed)
    gate(f"{engine}: 5,000 of {preset} (of float32 torch's worst)", off(whole).max() / off(plain).max(), 2.0)
    assert torch.equal(
        render(systems.scene.select(torch.tensor([4321])), made.bands[0].observation, engine=engine)[0], whole[4321]
    )


def test_float64_parameters_are_those_of_float32() -> None:
    """What the gates above rest on: the reference renders the same systems."""
    scene = hand_made(2)
    again = double(scene)
    assert again.dtype == torch.float64
    assert torch.equal(again.mass[0].parameters["center_x"].float(), scene.mass[0].parameters["center_x"])
