"""Compactness of sources: least at the true Einstein radius, a parabola from anywhere, and at ease with nothing."""

import pytest
import torch

import lensgen
from trainers.models.physics.compactness import compactness, seen

FLOAT64 = torch.float64


def images_of(preset, size, label="no_sub", **changes):
    """Images of a preset in units of their noise, and their theta_E in pixels."""
    own = lensgen.load_preset(preset).override({key.replace("__", "."): value for key, value in changes.items()})
    simulator = lensgen.Simulator(own, seed=4, device="cpu", label=label)
    batch = simulator.batch(0, size)
    (scale,) = simulator.input_scale
    return batch.image / scale, batch.params["lens.theta_E"] / batch.pixel_scale


def least(light):
    """Where compactness is least, `[B]`: it is a parabola."""
    at = [compactness(light, torch.full((len(light),), t, dtype=light.dtype)) for t in (0.0, 10.0, 20.0)]
    return 10.0 - 5.0 * (at[2] - at[0]) / (at[2] - 2 * at[1] + at[0])


def noise_free_ring(radius, side=65, width=2.0):
    axis = torch.arange(side, dtype=FLOAT64) - (side - 1) / 2
    distance = torch.hypot(axis[:, None], axis[None, :])
    return torch.exp(-(((distance - radius) / width) ** 2))[None, None]


VARIED = {"lens__theta_E": {"uniform": {"low": 0.8, "high": 2.0}}}


@pytest.mark.parametrize("recipe", ["gaussian", "none"])
def test_the_least_is_at_the_true_radius(gate, recipe):
    """Spheres from 0.8 to 2 arcsec, sources within 0.5 arcsec of the middle, with noise (SNR 25) or without."""
    images, theta_E = images_of("lenspinn", 64, noise__recipe=recipe, **VARIED)
    error = least(seen(images).double()) / theta_E - 1
    gate(f"physics: compactness finds theta_E, {recipe}: mean", error.mean().abs(), 0.002)
    gate(f"physics: compactness finds theta_E, {recipe}: rms", error.square().mean().sqrt(), 0.005)


def test_of_lenses_that_are_no_spheres_it_is_near(gate):
    """model_a: ellipses, shear, slopes, off the middle, substructure."""
    images, theta_E = images_of("model_a", 96, label=None)
    error = least(seen(images).double()) / theta_E - 1
    gate("physics: compactness of elliptical lenses: rms", error.square().mean().sqrt(), 0.03)


def test_any_function_of_the_brightness_has_its_least_there(gate):
    """Without noise: as it is, by its root, and where it is bright alone."""
    images, theta_E = images_of("lenspinn", 32, noise__recipe="none", **VARIED)
    for name, function in {"itself": lambda i: i, "root": torch.sqrt, "threshold": lambda i: (i > 3).double()}.items():
        light = function(images.double().clamp(min=0))
        error = least(light) / theta_E - 1
        gate(f"physics: compactness by {name}: rms", error.square().mean().sqrt(), 0.04)


def test_it_is_a_parabola_that_is_one_without_a_lens():
    images, _ = images_of("model_a", 8, label=None)
    light = seen(images).double()
    at = torch.stack([compactness(light, torch.full((8,), float(t), dtype=FLOAT64)) for t in range(32)])
    torch.testing.assert_close(at[0], torch.ones(8, dtype=FLOAT64))
    second = at[2:] - 2 * at[1:-1] + at[:-2]
    torch.testing.assert_close(second, second[:1].expand_as(second), rtol=1e-6, atol=1e-9)
    assert (second > 0).all() and (at > 0).all() and (at.amin(0) < 0.2).all()


def test_of_a_ring_it_is_the_width_and_the_squared_relative_error():
    ring = noise_free_ring(20.0)
    for radius in (20.0, 21.0, 15.0):
        found = float(compactness(ring, torch.tensor([radius], dtype=FLOAT64)))
        # of exp(-(s/2)^2) the variance is 2
        assert found == pytest.approx((2.0 + (20.0 - radius) ** 2) / (2.0 + 20.0**2), rel=0.02)


def test_gradients_are_right():
    light = torch.rand(3, 2, 7, 8, generator=torch.Generator().manual_seed(0), dtype=FLOAT64, requires_grad=True)
    theta_E = torch.tensor([0.4, 2.0, 5.0], dtype=FLOAT64, requires_grad=True)
    assert torch.autograd.gradcheck(compactness, (light, theta_E))


def test_where_there_is_no_light_it_is_nothing():
    light = torch.zeros(3, 1, 16, 16)
    light[1, 0, 3, 12] = 5.0  # a single pixel is as compact as can be with any lens
    light[2, 0, 2:14, 2:14] = 1.0
    theta_E = torch.full((3,), 4.0, requires_grad=True)
    found = compactness(light, theta_E)
    found.sum().backward()
    torch.testing.assert_close(found[:2], torch.zeros(2), rtol=0, atol=1e-6)
    assert found[2] > 0 and theta_E.grad.isfinite().all() and theta_E.grad[0] == 0


def test_the_sky_is_not_seen():
    sky = torch.randn(200, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    assert seen(sky).sum((1, 2, 3)).mean() < 3.0  # of thousands that arcs have
    arcs, _ = images_of("model_a", 32, label=None)
    assert seen(arcs).sum((1, 2, 3)).median() > 500.0
    assert not seen(torch.zeros(1, 1, 4, 4)).any()


def test_channels_add_up():
    images, _ = images_of("model_a", 4, label=None)
    light = seen(images)
    both = torch.cat((light, 0.5 * light), 1)
    theta_E = torch.full((4,), 11.0)
    torch.testing.assert_close(compactness(both, theta_E), compactness(light, theta_E))
