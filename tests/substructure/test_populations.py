"""Populations: counts, masses, places and structure of what they draw."""

from __future__ import annotations

import dataclasses
import math

import astropy.constants as const
import numpy as np
import pytest
import scipy.stats
import torch
from astropy.cosmology import FlatLambdaCDM
from lenstronomy.Cosmo.lens_cosmo import LensCosmo

from lensgen import Cosmology, Scene, load_preset, raytrace
from lensgen.errors import ParameterError, UnknownNameError
from lensgen.priors import Fixed, LogUniform, Poisson, PowerLaw
from lensgen.rng import RandomSource
from lensgen.substructure import POPULATIONS, population
from lensgen.substructure.population import RADII, Drawn, Draws, Host, Population
from tests.substructure import physical

B = 400
FLOAT64 = torch.float64


def host(batch: int = B, rule: str = "angular", z_lens: float = 0.5, z_source: float = 1.0) -> Host:
    def of(value: float) -> torch.Tensor:
        return torch.full((batch,), value, dtype=FLOAT64)

    cosmology = Cosmology(distance_rule=rule)
    return Host(of(1.2), of(0.03), of(-0.05), of(z_lens), of(z_source), cosmology, 0.1)


def drawn(population: Population, batch: int = B, of_host: Host | None = None):
    draws = Draws(RandomSource(9), torch.arange(batch))
    return population.draw(draws, of_host or host(batch), "substructure.cdm")


EXAMPLES = {
    "no_sub": POPULATIONS["no_sub"](),
    "cdm_points_legacy": POPULATIONS["cdm_points_legacy"](),
    "cdm_points": POPULATIONS["cdm_points"](Poisson(6.0), PowerLaw(-1.9, 1e8, 1e10), PowerLaw(1.0, 0.05, 2.5), 0.2),
    "cdm_tnfw": POPULATIONS["cdm_tnfw"](
        Poisson(6.0), PowerLaw(-1.9, 1e7, 1e10), PowerLaw(1.0, 0.05, 2.5), 16.0, -0.06, 0.2, LogUniform(5.0, 20.0)
    ),
    "vortex_points": POPULATIONS["vortex_points"](Fixed(3e10), LogUniform(1e-24, 1e-22), 100, 0.0),
    "vortex_rod": POPULATIONS["vortex_rod"](Fixed(3e10), LogUniform(1e-24, 1e-22), 0.02),
    # a few heavy ones: tests sample their deflections
    **{name: physical.made(name, mass_low=1e9, slots=25) for name in physical.OWN},
}


def test_every_population_has_an_example() -> None:
    assert set(EXAMPLES) == set(POPULATIONS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_shapes_and_capacity(name: str) -> None:
    made = drawn(EXAMPLES[name])
    assert all(m.shape == (B,) and m.dtype == FLOAT64 for m in made.enclosed)
    inner, ring, outer = made.enclosed
    # halos are sampled on circles: one just outside a circle may seem to lie inside, and the other way round
    assert bool((inner > -3e-3).all() and (ring > inner - 3e-3).all() and (outer > ring - 3e-3).all())
    assert all(v.shape == (B,) and v.dtype == FLOAT64 for v in made.labels.values())
    for component in made.components:
        component.profile.check(component.parameters)  # everything drawn is in range
        if component.count is not None:
            capacity = EXAMPLES[name].capacity
            assert all(v.shape == (B, capacity) for v in component.parameters.values())
            assert int(component.count.min()) >= 0 and int(component.count.max()) <= capacity


@pytest.mark.parametrize("name", EXAMPLES)
def test_slots_that_are_not_in_use_are_empty(name: str) -> None:
    label = torch.arange(B) % 2  # the population is class 1
    draws = Draws(RandomSource(9), torch.arange(B))
    placed = draws.within_class(label, 1, host(), EXAMPLES[name], "substructure.cdm")
    assert not any(mass[label == 0].any() for mass in placed.enclosed)
    for component in placed.components:
        capacity = next(iter(component.parameters.values())).shape[1]
        assert component.count is not None and not component.count[label == 0].any()
        empty = torch.arange(capacity) >= component.count[:, None]
        assert bool(empty.any())
        for parameter, values in component.parameters.items():
            assert set(values[empty].tolist()) == {0.0 if parameter in component.profile.strength else 1.0}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_system_does_not_depend_on_the_others(name: str) -> None:
    whole, alone = drawn(EXAMPLES[name], 20), drawn(EXAMPLES[name], 1)
    for a, b in zip(whole.components, alone.components, strict=True):
        assert all(torch.equal(a.parameters[k][:1], b.parameters[k]) for k in a.parameters)
    assert all(torch.equal(a[:1], b) for a, b in zip(whole.enclosed, alone.enclosed, strict=True))


def mean_outward_deflection(made: Drawn, of_host: Host, radius: float, points: int = 1500) -> torch.Tensor:
    """Of all components on a circle of that radius in theta_E, over theta_E, `[B]`."""
    turns = torch.arange(points, dtype=FLOAT64) * (2 * math.pi / points)
    cosine, sine = torch.cos(turns), torch.sin(turns)
    r = of_host.theta_E * radius
    x, y = (c[:, None] + r[:, None] * t for c, t in ((of_host.center_x, cosine), (of_host.center_y, sine)))
    ax, ay = raytrace.deflection(Scene(made.components, ()), x, y)
    return (ax * cosine + ay * sine).mean(1) / of_host.theta_E


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "no_sub"])
def test_enclosed_mass_is_that_of_the_components(name: str) -> None:
    """By Gauss, from deflections alone: each circle holds what the population says, on average and in most systems."""
    made, of_host = drawn(EXAMPLES[name], 80), host(80)
    for radius, enclosed in zip(RADII, made.enclosed, strict=True):
        expected = radius * mean_outward_deflection(made, of_host, radius)
        error = enclosed - expected
        # a bare point next to a circle needs more samples than the mean has
        assert float(error.abs().median()) < 2e-4, radius
        assert abs(float(error.mean())) < 0.02 * float(expected.mean()) + 5e-5, radius


def test_legacy_points_are_always_25_of_the_published_law() -> None:
    made = drawn(EXAMPLES["cdm_points_legacy"], of_host=host(rule="deeplense"))
    (component,) = made.components
    assert component.count.tolist() == [25] * B and made.labels["count"].tolist() == [25.0] * B
    p = component.parameters
    assert float(p["softening"].max()) == 0.0
    # theta_E = 1.281491" sqrt(M / 1e12), so the masses themselves come back
    mass = 1e12 * (p["theta_E"] / 1.281491) ** 2
    k = 0.1  # dN/dm ~ m^-0.9: the distribution function goes as m^0.1

    def cdf(m):
        return (m**k - 1e6**k) / (1e10**k - 1e6**k)

    assert float(mass.min()) > 0.99e6 and float(mass.max()) < 1.01e10
    assert scipy.stats.kstest(mass.flatten().numpy(), cdf).pvalue > 1e-3
    torch.testing.assert_close(mass.sum(1), made.labels["total_mass"], rtol=2e-6, atol=0)
    assert float(made.labels["total_mass"].mean()) == pytest.approx(25 * 1.51e9, rel=0.05)
    x, y = p["center_x"] - 0.03, p["center_y"] + 0.05
    r, angle = torch.hypot(x, y).flatten(), torch.atan2(y, x).flatten()
    assert scipy.stats.kstest(r.numpy(), scipy.stats.uniform(0.25, 1.75).cdf).pvalue > 1e-3
    assert scipy.stats.kstest(angle.numpy(), scipy.stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-3


def test_counts_masses_and_places_of_points() -> None:
    made = drawn(EXAMPLES["cdm_points"], 2000)
    (component,) = made.components
    p = component.parameters
    observed = torch.bincount(component.count, minlength=25)[:25].numpy()
    expected = 2000 * scipy.stats.poisson(6.0).pmf(np.arange(25))
    assert (
        scipy.stats.chisquare(observed[1:13], expected[1:13] * observed[1:13].sum() / expected[1:13].sum()).pvalue
        > 1e-3
    )
    used = torch.arange(p["theta_E"].shape[1]) < component.count[:, None]
    mass = (p["theta_E"][used] / 1.664519) ** 2 * 1e12

    def cdf(m):
        return (m**-0.9 - 1e8**-0.9) / (1e10**-0.9 - 1e8**-0.9)

    assert scipy.stats.kstest(mass.numpy(), cdf).pvalue > 1e-3
    r = torch.hypot(p["center_x"] - 0.03, p["center_y"] + 0.05)[used].numpy()
    assert scipy.stats.kstest(r**2, scipy.stats.uniform(0.05**2, 2.5**2 - 0.05**2).cdf).pvalue > 1e-3
    torch.testing.assert_close(p["softening"], torch.full_like(p["softening"], 0.02))  # 0.2 pixels of 0.1"
    inside = (p["theta_E"] ** 2 * used * (torch.hypot(p["center_x"] - 0.03, p["center_y"] + 0.05) < 1.2)).sum(1)
    torch.testing.assert_close(made.enclosed[1], inside / 1.2**2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("z_lens, z_source", [(0.5, 1.0), (0.3, 1.7)])
def test_structure_of_halos_against_lenstronomy(z_lens: float, z_source: float) -> None:
    """Rs and alpha_Rs of every halo, from its mass and concentration, by lenstronomy over astropy."""
    made = dataclasses.replace(EXAMPLES["cdm_tnfw"], count=Fixed(8.0), concentration_scatter=0.0)
    (component,) = drawn(made, 5, host(5, z_lens=z_lens, z_source=z_source)).components
    mass = made.mass.sample(RandomSource(9).uniforms(torch.arange(5), "substructure.cdm.mass", 8)).numpy()
    lens = LensCosmo(z_lens, z_source, FlatLambdaCDM(70, 0.3))
    speed, gravity = const.c.to_value("km/s"), (const.G * const.M_sun).to_value("Mpc km2/s2")
    sigma_crit = speed**2 / (4 * math.pi * gravity) * lens.ds / (lens.dd * lens.dds)  # Msun / Mpc^2
    for m, Rs, alpha_Rs in zip(
        mass.flatten(), *(component.parameters[k].flatten().tolist() for k in ("Rs", "alpha_Rs")), strict=True
    ):
        c = 16.0 * (m / 1e8) ** -0.06
        rho_crit = FlatLambdaCDM(70, 0.3).critical_density(z_lens).to_value("Msun/Mpc3")
        rs = (3 * m / (800 * math.pi * rho_crit)) ** (1 / 3) / c  # Mpc
        rho_s = m / (4 * math.pi * rs**3 * (math.log(1 + c) - c / (1 + c)))
        assert Rs == pytest.approx(rs / lens.dd * 206264.80625, rel=3e-5)
        expected = 4 * rho_s * rs**2 * (1 - math.log(2)) / (sigma_crit * lens.dd) * 206264.80625
        assert alpha_Rs == pytest.approx(expected, rel=1e-4)
        Rs_l, alpha_l = lens.nfw_physical2angle(m, c)  # its G Msun is 3e-4 too large
        assert (Rs, alpha_Rs) == (pytest.approx(Rs_l, rel=1e-3), pytest.approx(alpha_l, rel=1e-3))


def test_concentration_scatters_as_a_normal_in_its_logarithm() -> None:
    narrow = dataclasses.replace(EXAMPLES["cdm_tnfw"], count=Fixed(20.0), concentration_scatter=0.0)
    wide = dataclasses.replace(narrow, concentration_scatter=0.2)
    a, b = (drawn(p).components[0].parameters["Rs"] for p in (narrow, wide))
    # same masses: the ratio of scale radii is that of concentrations
    assert scipy.stats.kstest((a / b).log().flatten().numpy() / 0.2, "norm").pvalue > 1e-3


def test_truncation_follows_its_prior() -> None:
    tau = drawn(EXAMPLES["cdm_tnfw"]).components[0].parameters["tau"].flatten().numpy()
    assert scipy.stats.kstest(tau, scipy.stats.loguniform(5.0, 20.0).cdf).pvalue > 1e-3


def test_vortex_points_are_evenly_spaced_with_both_ends() -> None:
    made = drawn(EXAMPLES["vortex_points"], of_host=host(rule="deeplense"))
    (component,) = made.components
    assert component.count.tolist() == [100] * B
    p = component.parameters
    x, y = p["center_x"] - 0.03, p["center_y"] + 0.05
    half = made.labels["half_length"]
    torch.testing.assert_close(half, 0.03 * 1e-22 / made.labels["axion_mass"], rtol=1e-14, atol=0)
    ends = torch.hypot(x[:, [0, -1]], y[:, [0, -1]])
    torch.testing.assert_close(ends, half[:, None].expand(-1, 2), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(torch.hypot(x.diff(dim=1), y.diff(dim=1)), (2 * half / 99)[:, None].expand(-1, 99))
    assert float(p["theta_E"][0, 0]) == pytest.approx(0.221961 / 10, rel=1e-5)  # a hundredth of 3e10 Msun
    assert scipy.stats.kstest(np.log10(half.numpy()), scipy.stats.uniform(np.log10(0.03), 2).cdf).pvalue > 1e-3
    assert scipy.stats.kstest(made.labels["angle"].numpy(), scipy.stats.uniform(0, 2 * math.pi).cdf).pvalue > 1e-3


def test_rod_holds_what_the_points_hold() -> None:
    rod, points = (drawn(EXAMPLES[k]) for k in ("vortex_rod", "vortex_points"))
    for key in ("mass", "axion_mass", "half_length", "angle"):
        assert torch.equal(rod.labels[key], points.labels[key])
    p = rod.components[0].parameters
    assert rod.components[0].count is None and float(p["core"][0]) == 0.02
    torch.testing.assert_close(p["theta_E"] ** 2, 100 * points.components[0].parameters["theta_E"][:, 0] ** 2)
    for a, b in zip(rod.enclosed, points.enclosed, strict=True):
        assert float((a - b).abs().max()) < 0.03 * float(a.max())


def test_one_point_vortex() -> None:
    made = POPULATIONS["vortex_points"](Fixed(3e10), Fixed(1e-23), 1, 0.0)
    assert bool(torch.isfinite(drawn(made).components[0].parameters["center_x"]).all())


@pytest.mark.parametrize("count", [Fixed(0.0), Poisson(0.01)])
def test_empty_populations(count) -> None:
    made = drawn(dataclasses.replace(EXAMPLES["cdm_tnfw"], count=count))
    assert all(bool(torch.isfinite(mass).all()) for mass in made.enclosed)
    empty = made.labels["count"] == 0
    assert int(empty.sum()) > 300 and all(float(mass[empty].abs().max()) == 0.0 for mass in made.enclosed)


@pytest.mark.parametrize("count", [Fixed(2.5), Fixed(-1.0), Fixed(1e6), PowerLaw(-1.0, 1.0, 5.0)])
def test_counts_are_whole(count) -> None:
    with pytest.raises(ParameterError, match=r"a count is a whole number within \[0, 100000\]"):
        _ = dataclasses.replace(EXAMPLES["cdm_points"], count=count).capacity


def test_unknown_population() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown population 'vortex'. Did you mean 'vortex_rod'|Did you mean"):
        population("vortex")


@pytest.mark.parametrize("preset", ["model_a", "model_b"])
def test_options_of_the_presets_are_within_their_ranges(preset: str) -> None:
    for made in load_preset(preset).classes.values():
        assert set(made.ranges) == {f for f in vars(made)}
