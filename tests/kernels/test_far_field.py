"""The far field: what interpolation loses, by itself and in the CPU engine against float64 torch.

Memory that a kernel writes, and its scratch, begins as NaN in every test here; so do the slots that are not in use.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lensgen import Component, Observation, Scene, cpu_engine, fused, render
from lensgen.errors import ParameterError
from lensgen.mass import mass_profile
from lensgen.psf import GaussianPSF
from lensgen_kernels import cpu, far_field, tables
from tests.kernels import scenes
from tests.kernels.scenes import both, double, hand_made, seen

OFF = 1e-6  # arcsec: what hundreds of subhalos may be off by together


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch) -> None:
    monkeypatch.setattr(cpu, "POISON", True)


@pytest.fixture
def never(monkeypatch):
    """Calling it switches the far field off for the rest of the test."""
    return lambda: monkeypatch.setattr(fused, "MANY", 10**9)


# --- interpolation by itself, in float64


def lagrange(x: np.ndarray) -> np.ndarray:
    """`far_field.WEIGHTS`, in float64."""
    return np.array([[far_field._lagrange(float(a), k) for k in range(far_field.NODES)] for a in x])


def interpolation_error(deflection, distance: float, angle: float, half: float) -> float:
    """The worst ray's, of a tile round the origin; `deflection(x, y)` is of a lens at the origin."""
    cx, cy = distance * math.cos(angle), distance * math.sin(angle)

    def at(places) -> tuple[np.ndarray, np.ndarray]:
        x, y = np.meshgrid(half * np.array(places) - cx, half * np.array(places) - cy)
        return deflection(x, y)

    weights = lagrange(np.array(far_field.RAYS))
    off = [weights @ node @ weights.T - ray for node, ray in zip(at(far_field.PLACES), at(far_field.RAYS), strict=True)]
    return float(np.hypot(*off).max())


def test_weights_are_those_of_cubics() -> None:
    assert np.abs(lagrange(np.array(far_field.RAYS)) - far_field.WEIGHTS).max() < 1e-7
    for power in range(far_field.NODES):
        found = far_field.WEIGHTS @ np.array(far_field.PLACES) ** power
        assert np.abs(found - np.array(far_field.RAYS) ** power).max() < 1e-6


@given(st.floats(1.6, 1e3), st.floats(0.0, 2.0 * math.pi), st.floats(1e-3, 10.0))
@example(1.6, math.pi / 4, 1.0)
@example(2.0, math.pi / 4, 0.175)
@example(2.0, 0.0, 0.175)
def test_the_bound_of_a_point_mass(distance: float, angle: float, half: float) -> None:
    off = interpolation_error(lambda x, y: (x / (x * x + y * y), y / (x * x + y * y)), half * distance, angle, half)
    rounding = 1e-14 / half
    assert off <= 1.0 / (4.0 * half * (distance - far_field.SPREAD) ** 5) + rounding


def shape(name: str, size: float, tau: float):
    """Deflection of a profile, and its deflection times the radius at infinity or R."""
    profile = mass_profile(name)
    values = {"Rs": size, "r_c": size, "alpha_Rs": 1.0, "theta_E": 1.0, "tau": tau, "center_x": 0.0, "center_y": 0.0}
    numbers = [torch.tensor(values[p.name], dtype=torch.float64) for p in profile.parameters]

    def deflection(x, y):
        return tuple(a.numpy() for a in profile.deflection(torch.as_tensor(x), torch.as_tensor(y), *numbers))

    return deflection


@given(
    st.sampled_from(["tnfw", "nfw", "soliton"]),
    st.floats(-6.0, 4.0),
    st.floats(-1.0, 3.0),
    st.floats(-6.0, 3.0),
    st.floats(0.0, 2.0 * math.pi),
    st.floats(1.0, 10.0),
    st.floats(0.01, 1.0),
)
def test_what_the_criterion_promises(name, log2_size, log2_tau, log10_mass, angle, beyond, half) -> None:
    """Profiles of all sizes and masses, at the near radius and farther: EPSILON, up to the edge of a soliton's 4 %.

    R is the least that it can be, the far side of the tile; farther rays only enlarge the near radius.
    """
    halo = shape(name, half * 2.0**log2_size, 2.0**log2_tau)
    distance = 2.0 * half
    for _ in range(50):  # near radius and mass at its far side belong together
        reach = beyond * distance + half
        m = 10.0**log10_mass * half * float(np.hypot(*halo(np.array([reach]), np.array([0.0])))[0]) * reach
        distance = max(distance, float(far_field.near_radius(np.array(m), half)))
    off = 10.0**log10_mass * half * interpolation_error(halo, beyond * distance, angle, half)
    assert off <= 1.05 * far_field.EPSILON + 1e-14 * 10.0**log10_mass


def test_near_radius() -> None:
    m = np.array([0.0, 1e-9, 1e-4, 1.0, -1.0])
    near = far_field.near_radius(m, 0.175)
    assert near[0] == near[1] == far_field.NEAREST * 0.175 and near[3] == near[4] > near[2] > near[0]
    assert far_field.tiles(33, 65) == (5, 9) and far_field.tiles(1, 1) == (1, 1) and far_field.tiles(64, 8) == (8, 1)


# --- the engine


def halos(number: int, systems: int, seed: int = 0, width: float = 1.8) -> Component:
    """TNFW subhalos of 1e7 to 3e8 Msun; `number` of them, none, some, ..., and NaN in the slots that are not in use."""
    generator = torch.Generator().manual_seed(seed)

    def between(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(systems, number, generator=generator, dtype=torch.float64)

    mass = 10.0 ** between(7.0, 8.5) / 1e8
    values = {"Rs": 0.115 * mass**0.4, "alpha_Rs": 4.5e-4 * mass**0.64, "tau": between(1.5, 20.0)}
    values |= {"center_x": between(-width, width), "center_y": between(-width, width)}
    count = torch.tensor([number, 0, number // 3])[torch.arange(systems) % 3]
    return filled("tnfw", values, count)


def filled(name: str, values: dict[str, torch.Tensor], count: torch.Tensor) -> Component:
    """Values `[B, n]` in a component that has room for more, and enough for a far field."""
    profile = mass_profile(name)
    parameters = {}
    for p in profile.parameters:
        given_ = values[p.name].float().double()
        room = torch.nn.functional.pad(given_, (0, max(far_field.MANY - given_.shape[1], 3)), value=torch.nan)
        parameters[p.name] = torch.where(torch.arange(room.shape[1]) < count[:, None], room, torch.nan)
    return Component("slots", profile, parameters, count)


def usable(mass: Component) -> Component:
    """For the torch engine, which works all slots out."""
    return replace(mass, parameters={k: v.nan_to_num(0.1) for k, v in mass.parameters.items()})


def expected(mass: Component, observation: Observation) -> torch.Tensor:
    """Deflections `[B, 2, H, W]` in float64, slot by slot."""
    x, y = observation.rays()
    total = torch.zeros(len(mass.count), 2, len(x), dtype=torch.float64)
    for b, count in enumerate(mass.count.tolist()):
        values = [mass.parameters[p.name][b, :count, None] for p in mass.profile.parameters]
        if count:
            total[b] = torch.stack([a.sum(0) for a in mass.profile.deflection(x, y, *values)])
    return total.unflatten(2, (observation.height, observation.width))


def off(mass: Component, observation: Observation) -> float:
    """The worst error of the engine's deflections, arcsec."""
    found = scenes.deflections((mass,), observation, "cpu")
    return float(torch.hypot(*(found - expected(mass, observation)).unbind(1)).max())


def test_who_has_a_far_field() -> None:
    """By the room for slots alone, and not in the closed form."""
    scene, observation = scenes.with_galaxies((halos(3, 2),), 2), seen(9, 9)
    less = halos(3, 2)
    less = replace(less, parameters={k: v[:, : far_field.MANY - 1] for k, v in less.parameters.items()})
    for mass, tabulated, many in (((halos(3, 2),), True, True), ((halos(3, 2),), False, False), ((less,), True, False)):
        program = cpu_engine._program(replace(scene, mass=mass), observation, None, tabulated)
        assert [t.many for t in program.mass] == [many]
        assert ("interpolate(ax" in cpu.prepare(program)) == many


@pytest.mark.parametrize("height, width", [(64, 64), (33, 65), (1, 1), (1, 40), (40, 1), (8, 16), (7, 9)])
def test_deflections_of_200_halos_or_none(height: int, width: int, gate) -> None:
    mass, observation = halos(200, 3, seed=height), seen(height, width, 3.2 / 64)
    gate("far field: 200 TNFW (arcsec)", off(mass, observation), OFF)


@pytest.mark.slow
def test_deflections_of_800_halos(gate) -> None:
    for scale in (0.02, 0.05, 0.1):
        mass, observation = halos(800, 3, width=32.0 * scale), seen(64, 64, scale)
        gate(f"far field: 800 TNFW, pixels of {scale:g} (arcsec)", off(mass, observation), OFF)


def one_halo(x: torch.Tensor, y: torch.Tensor, **values: float) -> Component:
    """One slot a system, of the room of many."""
    given_ = {"Rs": 0.1, "alpha_Rs": 1e-3, "tau": 5.0} | values
    numbers = {k: torch.full((len(x), 1), v) for k, v in given_.items()}
    numbers |= {"center_x": x[:, None], "center_y": y[:, None]}
    return filled("tnfw", numbers, torch.ones(len(x), dtype=torch.int64))


def test_halos_on_borders_and_corners_of_tiles(gate) -> None:
    """And on rays, nodes and tiles' centres; beside the image, and far from it. One ulp off is another tile's side."""
    scale, observation = 0.125, seen(33, 65)
    first_x, first_y = -32 * scale, -16 * scale
    rays = torch.tensor([-0.5, 0.0, 3.5, 3.5 * (1.0 + far_field.PLACES[0]), 7.0, 7.5, 8.0, 15.5, 31.5, 64.0, 64.5])
    rays = torch.cat([rays.double(), torch.tensor([-1.0, -5.0, -40.0, 70.0, 200.0, 1e4, 1e6]).double()])
    pairs = [torch.stack([rays, rays.roll(k)]) for k in (0, 1, 5, 11)]
    x, y = first_x + scale * torch.cat(pairs, 1)[0], first_y + scale * torch.cat(pairs, 1)[1]
    allowed = 1.05 * far_field.EPSILON + 2e-8  # and rounding
    for alpha in (1e-6, 1e-3):
        gate("far field: one TNFW (arcsec)", off(one_halo(x, y, alpha_Rs=alpha), observation), allowed)


def test_the_near_radius_covers_everything_or_nothing(never, gate) -> None:
    """Everything: the same bits as without a far field. Nothing: tiny, or far outside."""
    observation = seen(32, 32)  # of whole tiles: no ray beyond the image, so that tables begin at the same distance
    x = torch.linspace(-2.0, 2.0, 9)
    heavy, light, outside = one_halo(x, 0.3 * x, alpha_Rs=5.0), one_halo(x, x, alpha_Rs=1e-9), one_halo(x + 1e3, x)
    with_far = scenes.deflections((heavy,), observation, "cpu")
    gate("far field: of hardly any mass (arcsec)", off(light, observation), 1e-10)
    gate("far field: 1000 arcsec outside (arcsec)", off(outside, observation), 1e-11)
    never()
    assert torch.equal(with_far, scenes.deflections((heavy,), observation, "cpu"))


def test_what_is_not_a_number_is_seen() -> None:
    mass = one_halo(torch.zeros(2), torch.tensor([0.0, math.nan]))
    with pytest.raises(ParameterError, match="image 1 of the batch is not finite"):
        render(scenes.with_galaxies((mass,), 2).to(dtype=torch.float32), seen(33, 65), engine="cpu")


def test_same_bits_however_batched_and_on_any_number_of_threads() -> None:
    systems = 40
    scene = scenes.with_galaxies((halos(150, systems),), systems).to(dtype=torch.float32)
    before, every = torch.get_num_threads(), torch.arange(systems)

    def rendered(rows: torch.Tensor) -> torch.Tensor:
        return render(scene.select(rows), seen(33, 65), engine="cpu")

    try:
        torch.set_num_threads(1)
        whole = rendered(every)
        assert len({row.numpy().tobytes() for row in whole}) > systems // 2
        torch.set_num_threads(2)
        assert torch.equal(rendered(every), whole)
        assert torch.equal(rendered(every.flip(0)), whole.flip(0))
        assert torch.equal(torch.cat([rendered(rows) for rows in every.split(7)]), whole)
    finally:
        torch.set_num_threads(before)


def solitons(number: int, systems: int) -> Component:
    """Cheap: worked out in closed form, with a far field."""
    like = halos(number, systems, seed=3)
    values = {k: like.parameters[k] for k in ("center_x", "center_y")}
    values |= {"theta_E": 30.0 * like.parameters["alpha_Rs"], "r_c": 0.5 * like.parameters["Rs"]}
    return replace(filled("soliton", values, like.count), name="cores")


def test_without_tables(gate) -> None:
    """What every lens takes where the CPU has no AVX-512."""
    for size in ((33, 65), (1, 1), (16, 130)):
        gate("far field: 150 solitons (arcsec)", off(solitons(150, 3), seen(*size, 0.05)), OFF)


def test_among_others(gate) -> None:
    """Beside slots that are few, lenses without slots and light in slots; 2x2 rays, and a PSF on them."""
    systems = 3
    points = mass_profile("point")
    values = {"theta_E": torch.full((systems, 5), 0.02), "softening": torch.full((systems, 5), 0.01)}
    values = {k: v for k, v in values.items() if k in {p.name for p in points.parameters}}
    values |= {"center_x": torch.linspace(-1.0, 1.0, 15).view(3, 5), "center_y": torch.full((systems, 5), 0.31)}
    few = Component("few", points, values, torch.tensor([2, 0, 5]))
    plain = hand_made(systems)
    scene = Scene(
        (*plain.mass, few, usable(solitons(150, systems))), plain.source, (replace(plain.source[0], name="galaxy"),)
    )
    image, reference = both(scene, Observation(33, 21, 0.1, 2, GaussianPSF(0.2), True))
    peak = reference.flatten(1).amax(1)
    gate("far field: among others (of peak)", ((image - reference).abs().flatten(1).amax(1) / peak).max(), 1e-5)


AVX512 = pytest.mark.skipif(not tables.supported(), reason="tables need AVX-512")


@pytest.mark.slow
@pytest.mark.parametrize("tabulated", [pytest.param(True, marks=AVX512), False])
def test_images_of_500_halos(tabulated: bool, monkeypatch, gate) -> None:
    """Before a compact source, which shows errors of deflections best."""
    if not tabulated:
        monkeypatch.setattr(tables, "supported", lambda: False)
    plain = hand_made(3, "sie", e1=0.1, e2=-0.05)
    source = replace(plain.source[0], parameters=plain.source[0].parameters | {"R_sersic": torch.full((3,), 0.1)})
    scene, observation = Scene((*plain.mass, usable(halos(500, 3))), (source,)), seen(64, 64, 0.05)
    image = render(scene.to(dtype=torch.float32), observation, engine="cpu")
    reference = render(double(scene), observation, engine="torch")
    peak = reference.flatten(1).amax(1)
    off_peak = ((image - reference).abs().flatten(1).amax(1) / peak).max()
    gate(f"far field: images of 500 TNFW{'' if tabulated else ', closed'} (of peak)", off_peak, 1e-5)
