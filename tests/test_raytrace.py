"""Ray tracing: derivatives against finite differences, magnification against the singular isothermal sphere."""

from __future__ import annotations

import pytest
import torch

from lensgen import Component, Scene, Simulator, raytrace
from lensgen.draw import draw
from lensgen.light import light_profile
from lensgen.mass import mass_profile
from tests.every_preset import EVERY_PRESET

FLOAT64 = torch.float64
STEP = 1e-5


def drawn_scene(preset: str, per_class: int = 1) -> Scene:
    """One system of each class."""
    simulator = Simulator(preset, seed=8, device="cpu")
    index = torch.arange(200)
    labels = simulator.labels(index)
    index = torch.cat([index[labels == k][:per_class] for k in range(3)])
    return draw(simulator.preset, simulator.random, index, FLOAT64).scene


def positions(number: int, seed: int = 0, half: float = 2.5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(half * (2 * torch.rand(number, generator=generator, dtype=FLOAT64) - 1) for _ in range(2))


def sis(theta_E: float = 1.3, **changes) -> Scene:
    """A sphere of isothermal mass, and nothing else."""
    lens = Component.make("lens", mass_profile("sis"), {"theta_E": torch.tensor([theta_E], dtype=FLOAT64)}, 1)
    return Scene((lens,), (), **changes)


def far_from_points(scene: Scene, x: torch.Tensor, y: torch.Tensor, distance: float) -> torch.Tensor:
    """`[B, P]`: which positions lie farther than `distance` from every mass, and from the rod, of each system."""
    far = torch.ones(len(scene), len(x), dtype=torch.bool)
    for component in scene.mass:
        p = component.parameters
        if component.count is None or "center_x" not in p:  # a sheet or a shear is smooth everywhere
            continue
        for slot in range(p["center_x"].shape[1]):
            dx, dy = x - p["center_x"][:, slot, None], y - p["center_y"][:, slot, None]
            if "half_length" in p:
                cosine, sine = torch.cos(p["angle"][:, slot, None]), torch.sin(p["angle"][:, slot, None])
                along, across = cosine * dx + sine * dy, cosine * dy - sine * dx
                dx, dy = (along.abs() - p["half_length"][:, slot, None]).clamp(min=0), across
            used = component.count[:, None] > slot
            far &= ~used | (dx**2 + dy**2 > distance**2)
    return far


@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_jacobian_against_finite_differences(preset: str, gate) -> None:
    scene = drawn_scene(preset)
    x, y = positions(300)
    J = raytrace.jacobian(scene, x, y)
    assert J.shape == (3, 300, 2, 2)
    columns = []
    for dx, dy in ((STEP, 0.0), (0.0, STEP)):
        plus, minus = (raytrace.source_position(scene, x + s * dx, y + s * dy) for s in (1, -1))
        columns.append(torch.stack([(p - m) / (2 * STEP) for p, m in zip(plus, minus, strict=True)], -1))
    expected = torch.stack(columns, -1)
    far = far_from_points(scene, x, y, 0.1)
    assert far.float().mean() > 0.2
    gate("jacobian against finite differences", (J - expected).abs()[far].max(), 1e-6)


@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_deflection_is_curl_free_and_its_divergence_is_kappa(preset: str, gate) -> None:
    scene = drawn_scene(preset)
    x, y = positions(300, seed=1)
    J = raytrace.jacobian(scene, x, y)
    kappa = 1 - 0.5 * (J[..., 0, 0] + J[..., 1, 1])
    far = far_from_points(scene, x, y, 0.02)
    gate("scene: kappa = div alpha / 2", (kappa - raytrace.convergence(scene, x, y)).abs()[far].max(), 1e-9)
    gate("scene: no curl", (J[..., 0, 1] - J[..., 1, 0]).abs()[far].max(), 1e-9)


@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_deflection_is_the_gradient_of_the_potential(preset: str, gate) -> None:
    scene = drawn_scene(preset)
    x, y = (t.expand(3, -1).clone().requires_grad_() for t in positions(200, seed=2))
    gradient = torch.autograd.grad(raytrace.potential(scene, x, y).sum(), (x, y))
    alpha = raytrace.deflection(scene, x.detach(), y.detach())
    far = far_from_points(scene, x.detach()[0], y.detach()[0], 0.02)
    worst = max(float((g - a).abs()[far].max()) for g, a in zip(gradient, alpha, strict=True))
    gate("scene: alpha = grad psi", worst, 1e-8)


def test_magnification_of_an_isothermal_sphere(gate) -> None:
    """mu = 1 / (1 - theta_E / r): positive parity outside the ring, negative inside."""
    x, y = positions(500, seed=3)
    mu = raytrace.magnification(sis(), x, y)[0]
    expected = 1 / (1 - 1.3 / torch.hypot(x, y))
    inside = torch.hypot(x, y) < 1.3
    assert inside.any() and (mu[inside] < 0).all() and (mu[~inside] > 1).all()
    gate("magnification of an isothermal sphere", (mu / expected - 1).abs().max(), 1e-12)


def test_images_of_an_isothermal_sphere() -> None:
    """A source at b has images at b + theta_E and b - theta_E."""
    for x in (0.4 + 1.3, 0.4 - 1.3):
        bx, by = raytrace.source_position(sis(), torch.tensor([x], dtype=FLOAT64), torch.zeros(1, dtype=FLOAT64))
        assert float(bx) == pytest.approx(0.4, abs=1e-14) and float(by) == pytest.approx(0.0, abs=1e-14)


def test_deflection_scale_multiplies_everything() -> None:
    x, y = positions(50)
    plain, scaled = sis(), sis(deflection_scale=torch.tensor([0.6], dtype=FLOAT64))
    for what in (raytrace.potential, raytrace.convergence, lambda *a: raytrace.deflection(*a)[0]):
        torch.testing.assert_close(what(scaled, x, y), 0.6 * what(plain, x, y), rtol=1e-14, atol=0)


def test_no_lens_leaves_the_light_where_it_is() -> None:
    source = Component.make("source", light_profile("sersic"), {"amp": 1.0, "R_sersic": 0.3, "n_sersic": 1.0}, 2)
    scene = Scene((), (source,))
    x, y = (t.float() for t in positions(20))
    bx, by = raytrace.source_position(scene, x, y)
    assert torch.equal(bx.expand(2, -1), x.expand(2, -1)) and torch.equal(by.expand(2, -1), y.expand(2, -1))
    assert float(raytrace.convergence(scene, x, y).abs().max()) == 0.0
    torch.testing.assert_close(raytrace.magnification(scene, x, y), torch.ones(2, 20))


def test_empty_slots_count_for_nothing() -> None:
    """However strong what stands in them."""
    x, y = positions(100)
    host = sis().mass[0]
    masses = {k: torch.tensor([v], dtype=FLOAT64) for k, v in {
        "theta_E": [0.2, 0.1, 0.9, 5.0], "center_x": [0.5, -1.0, 0.1, 0.2], "center_y": [0.3, 0.2, 0.1, 0.0],
    }.items()}  # fmt: skip
    four = Component.make("cdm", mass_profile("point"), masses, 1, torch.tensor([2]))
    two = Component.make("cdm", mass_profile("point"), {k: v[:, :2] for k, v in masses.items()}, 1, torch.tensor([2]))
    none = Component.make("cdm", mass_profile("point"), masses, 1, torch.tensor([0]))
    for what in (raytrace.potential, raytrace.convergence, lambda *a: torch.stack(raytrace.deflection(*a))):
        assert torch.equal(what(Scene((host, four), ()), x, y), what(Scene((host, two), ()), x, y))
        assert torch.equal(what(Scene((host, none), ()), x, y), what(Scene((host,), ()), x, y))


def test_empty_slots_beside_a_fuller_system() -> None:
    """A system of two masses next to one of four: what stands in its other slots must not bend its light."""
    x, y = positions(100, seed=4)
    values = {
        "theta_E": torch.full((2, 4), 0.3, dtype=FLOAT64),
        "center_x": torch.tensor([[0.5, -1.0, 0.1, 0.2]] * 2, dtype=FLOAT64),
        "center_y": torch.tensor([[0.3, 0.2, 0.1, 0.0]] * 2, dtype=FLOAT64),
    }
    pair = Scene((Component.make("cdm", mass_profile("point"), values, 2, torch.tensor([2, 4])),), ())
    alone = Scene(
        (
            Component.make(
                "cdm", mass_profile("point"), {k: v[:1, :2] for k, v in values.items()}, 1, torch.tensor([2])
            ),
        ),
        (),
    )
    for what in (raytrace.potential, raytrace.convergence, lambda *a: raytrace.deflection(*a)[0]):
        assert torch.equal(what(pair, x, y)[0], what(alone, x, y)[0])
    assert not torch.equal(raytrace.deflection(pair, x, y)[0][0], raytrace.deflection(pair, x, y)[0][1])
