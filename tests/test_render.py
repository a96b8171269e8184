"""Rendering of hand-made scenes: gradients, values that are not finite, chunks, noise, and the choice of engine."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lensgen import Component, Noise, Observation, Scene, Simulator, render
from lensgen.draw import Systems, draw
from lensgen.errors import ParameterError, UnknownNameError
from lensgen.light import light_profile
from lensgen.mass import mass_profile
from lensgen.noise import Detector, noise_recipe
from lensgen.psf import GaussianPSF
from lensgen.rng import RandomSource
from lensgen.torch_engine import chunk_size
from tests.every_preset import EVERY_PRESET

FLOAT64 = torch.float64


def systems(preset: str, label: int, **changes) -> tuple[Systems, Observation]:
    simulator = Simulator(preset, seed=12, device="cpu").override(changes)
    index = torch.arange(100)
    index = index[simulator.labels(index) == label][:1]
    return draw(simulator.preset, simulator.random, index, FLOAT64), simulator.preset.bands[0].observation


def with_value(scene: Scene, name: str, parameter: str, value: torch.Tensor) -> Scene:
    def changed(component: Component) -> Component:
        if component.name != name:
            return component
        return replace(component, parameters={**component.parameters, parameter: value})

    groups = {group: tuple(map(changed, getattr(scene, group))) for group in ("mass", "source", "lens_light")}
    return replace(scene, **groups)


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_gradients_of_every_parameter(preset: str, label: int, gate) -> None:
    """Reverse-mode derivatives of a weighted sum of pixels, for all numbers of a scene, against finite differences."""
    drawn, observation = systems(preset, label, **{"grid.size": 12, "grid.supersampling": 1})
    # wide pixels: the 12 of them see the ring
    observation = replace(observation, pixel_scale=0.35)
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(1, 12, 12, generator=generator, dtype=FLOAT64)
    compared = 0
    for component in drawn.scene.components:
        if component.count is not None and int(component.count[0]) == 0:
            continue
        for parameter in component.parameters:
            value = component.parameters[parameter].clone().requires_grad_()

            def loss(v, name=component.name, parameter=parameter):
                return (render(with_value(drawn.scene, name, parameter, v), observation) * weight).sum()

            (gradient,) = torch.autograd.grad(loss(value), value)
            assert bool(torch.isfinite(gradient).all()), (component.name, parameter)
            # along one random direction of all the slots at once
            direction = torch.rand(value.shape, generator=generator, dtype=FLOAT64) - 0.5
            direction = direction * (value.detach().abs() if parameter in ("Rs", "tau", "core") else 1.0)
            if component.count is not None:
                slots = torch.arange(value.shape[1]) < component.count[:, None]
                direction = torch.where(slots, direction, 0.0)
            step = 1e-6
            with torch.no_grad():
                plus, minus = (loss(value + sign * step * direction) for sign in (1, -1))
            finite = float((plus - minus) / (2 * step))
            exact = float((gradient * direction).sum())
            gate("gradients through render (relative)", abs(exact - finite) / (abs(finite) + 1e-3), 2e-4)
            compared += abs(finite) > 1e-6
    assert compared >= 10


def test_gradients_reach_every_image_of_a_batch_alone() -> None:
    drawn, observation = systems("model_a", 0, **{"grid.size": 8, "grid.supersampling": 1})
    scene = drawn.scene.select(torch.tensor([0, 0, 0]))
    theta_E = scene.mass[0].parameters["theta_E"].clone().requires_grad_()
    image = render(with_value(scene, "lens", "theta_E", theta_E), observation)
    (gradient,) = torch.autograd.grad(image[1].sum(), theta_E)
    assert float(gradient[1].abs()) > 0 and gradient[[0, 2]].tolist() == [0.0, 0.0]


def hand_made(batch: int = 1, **lens) -> Scene:
    return Scene(
        (Component.make("lens", mass_profile("sis"), {"theta_E": 1.0} | lens, batch),),
        (
            Component.make(
                "source",
                light_profile("sersic"),
                {"amp": 5.0, "R_sersic": 0.3, "n_sersic": 1.0, "center_x": 0.1},
                batch,
            ),
        ),
    )


SEEN = Observation(20, 20, 0.15, 1, GaussianPSF(0.2))


NAN, INF = float("nan"), float("inf")


# a source at infinity is missing: it is dark, which is what it should be
@pytest.mark.parametrize(
    "name, parameter, value",
    [
        ("lens", "theta_E", NAN), ("lens", "theta_E", INF), ("source", "amp", NAN), ("source", "amp", INF),
        ("source", "center_x", NAN),
    ],
)  # fmt: skip
def test_values_that_are_not_finite_never_leave(name, parameter, value) -> None:
    scene = hand_made(3)
    bad = torch.tensor([1.0, value, 1.0])
    with pytest.raises(ParameterError, match=r"image 1 of the batch is not finite"):
        render(with_value(scene, name, parameter, bad), SEEN)


def test_light_is_finite_where_a_ray_meets_every_centre() -> None:
    """Odd size: the middle pixel lies on the lens, on the source and on a mass without a core."""
    for profile in ("sis", "sie", "point"):
        lens = Component.make("lens", mass_profile(profile), {"theta_E": 1.0}, 1)
        source = Component.make("source", light_profile("sersic"), {"amp": 5.0, "R_sersic": 0.3, "n_sersic": 4.0}, 1)
        image = render(Scene((lens,), (source,)), Observation(9, 9, 0.2, 1, GaussianPSF(0.0)))
        assert bool(torch.isfinite(image).all())
        # symmetric under a turn by a quarter: nothing else breaks the symmetry
        torch.testing.assert_close(image, image.rot90(1, (1, 2)), rtol=2e-5, atol=1e-6)


def test_orientation_of_the_grid() -> None:
    """x grows with the column and y with the row."""
    source = {"amp": 5.0, "R_sersic": 0.1, "n_sersic": 1.0, "center_x": 1.0, "center_y": -0.5}
    scene = Scene((), (Component.make("source", light_profile("sersic"), source, 1),))
    image = render(scene, Observation(21, 41, 0.1, 1, GaussianPSF(0.0)))[0]
    row, column = divmod(int(image.argmax()), 41)
    assert (row, column) == (10 - 5, 20 + 10)


def test_chunks_are_one_shape_and_cut_the_batch() -> None:
    """900 images of 8x8: two boundaries, the last chunk padded; image by image it must be the same."""
    size = chunk_size(64, torch.device("cpu"))
    batch = 2 * size + 3
    theta_E = torch.linspace(0.5, 1.5, batch)
    scene = hand_made(batch, theta_E=theta_E)
    observation = Observation(8, 8, 0.3, 1, GaussianPSF(0.2))
    whole = render(scene, observation)
    for i in (0, 1, size - 1, size, 2 * size - 1, 2 * size, batch - 1):
        assert torch.equal(render(scene.select(torch.tensor([i])), observation)[0], whole[i])


@pytest.mark.parametrize("recipe", ["ccd", "lenstronomy", "deeplense_i"])
def test_noise_belongs_to_the_index(recipe: str) -> None:
    index = torch.tensor([5, 900, 2**40, 7])
    exposure = torch.tensor([1000.0, 1500.0, 2000.0, 2500.0])
    scene = hand_made(4, theta_E=torch.tensor([0.8, 0.9, 1.0, 1.1]))

    def noise(rows: torch.Tensor) -> Noise:
        return Noise(noise_recipe(recipe), Detector(1, 4.0, 0.5), exposure[rows], RandomSource(3), index[rows])

    rows = torch.arange(4)
    whole = render(scene, SEEN, noise(rows))
    for order in ([3, 1, 0, 2], [2], [1, 1]):
        rows = torch.tensor(order)
        assert torch.equal(render(scene.select(rows), SEEN, noise(rows)), whole[rows])
    clean = render(scene, SEEN)
    assert not torch.equal(whole, clean)
    residual = (whole - clean * (exposure[:, None, None] if recipe == "deeplense_i" else 1.0)).flatten(1)
    correlation = torch.corrcoef(residual) - torch.eye(4)
    assert float(correlation.abs().max()) < 5 / 20  # 400 pixels


def test_mean_of_noisy_images_is_the_clean_one() -> None:
    """The whole path of noise in the engine: 2,000 images of one scene, 0.1 to 1e4 counts."""
    scene = hand_made(1).select(torch.zeros(2000, dtype=torch.int64))
    scene = with_value(scene, "source", "amp", torch.full((2000,), 400.0))
    observation = Observation(12, 12, 0.5, 1, GaussianPSF(0.3))
    detector = Detector(1, 3.0, 0.02)
    noise = Noise(noise_recipe("ccd"), detector, torch.full((2000,), 300.0), RandomSource(1), torch.arange(2000))
    clean = render(scene.select(torch.tensor([0])), observation)[0].double()
    noisy = render(scene, observation, noise).double()
    assert float(clean.min()) * 300 < 1.0 and float(clean.max()) * 300 > 5_000
    variance = (clean + 0.02) / 300 + 9.0 / 300**2
    fourth = (clean + 0.02) / 300**3
    assert float(((noisy.mean(0) - clean).abs() / (variance / 2000).sqrt()).max()) < 4.0
    assert float(((noisy.var(0) - variance).abs() / ((2 * variance**2 + fourth) / 2000).sqrt()).max()) < 4.0


def test_unknown_engine() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown engine 'torhc'. Did you mean 'torch'"):
        render(hand_made(), SEEN, engine="torhc")
    assert torch.equal(render(hand_made(), SEEN, engine="torch"), render(hand_made(), SEEN, engine="auto"))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"height": 0}, r"height = 0 is outside \[1, 4096\]"),
        ({"width": 5000}, r"width = 5000 is outside"),
        ({"width": 3.0}, r"width = 3.0 .*whole number"),
        ({"supersampling": 0}, r"supersampling = 0 is outside \[1, 64\]"),
        ({"supersampling": True}, r"supersampling = True .*whole number"),
        ({"pixel_scale": 0.0}, r"pixel_scale = 0.0 is outside \[0.0001, 100\] arcsec"),
        ({"pixel_scale": float("nan")}, r"pixel_scale = nan"),
        ({"pixel_scale": "0.1"}, r"pixel_scale = '0.1'"),
    ],
)
def test_wrong_observations(changes, message) -> None:
    with pytest.raises(ParameterError, match=message):
        replace(SEEN, **changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"recipe": "ccd"}, r"recipe = 'ccd': take one by name"),
        ({"exposure": 1000.0}, r"must be tensors of shape \[B\]"),
        ({"exposure": torch.tensor([-5.0])}, r"every exposure of a Noise must be above 0 s"),
        ({"exposure": torch.tensor([float("nan")])}, r"every exposure of a Noise must be above 0 s"),
        ({"index": torch.tensor([1.0])}, r"index in int64"),
        ({"exposure": torch.ones(3), "index": torch.arange(3)}, r"the noise is for 3 images, the scene holds 1"),
    ],
)
def test_wrong_noise(changes, message) -> None:
    options = {"exposure": torch.ones(1), "index": torch.arange(1), "recipe": noise_recipe("ccd")} | changes
    with pytest.raises(ParameterError, match=message):
        render(hand_made(), SEEN, Noise(detector=Detector(1, 1.0, 0.1), random=RandomSource(0), **options))
