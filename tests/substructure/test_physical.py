"""Cold, warm and ultra-light subhalos: counts, masses, structure, and the sheet that takes their mean away."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.integrate import quad

from lensgen import fmath
from lensgen.errors import ParameterError
from lensgen.mass import mass_profile
from lensgen.noise import poisson_quantile
from lensgen.priors import Fixed, TruncatedNormal, Uniform
from lensgen.substructure import halos
from lensgen.substructure.cdm_physical import mean_bound_fraction
from lensgen.substructure.population import RADII
from lensgen.substructure.uldm import core_radius
from tests.substructure import physical
from tests.substructure.physical import ASTROPY, drawn, host, made

FLOAT64 = torch.float64
NAMES = ("cdm_physical", "wdm", "uldm")


def suppression(name: str):
    """Lovell 2020 for half-mode mass 1e8; Schive et al. 2016 for 2e-21 eV."""
    if name == "wdm":
        return lambda m: (1.0 + (4.2 * 1e8 / m) ** 2.5) ** -0.2
    if name == "uldm":
        return lambda m: (1.0 + (m / (1.6e10 * 20.0 ** (-4.0 / 3.0))) ** -1.1) ** -2.2
    return lambda m: 1.0


@pytest.mark.parametrize(
    "host_mass, diameter, mass_low, counts",
    [
        (13.0, 6.0, 1e7, 248), (13.3, 6.0, 1e7, 363), (13.0, 6.0, 1e8, 31), (13.3, 6.0, 1e8, 45),
        (13.3, 7.5, 1e7, 566), (13.0, 10.0, 1e8, 86), (13.3, 10.0, 1e8, 125), (13.3, 6.0, 1e6, 2885),
    ],
)  # fmt: skip
def test_counts_of_the_specification(host_mass, diameter, mass_low, counts) -> None:
    """pyHalo's, at z = 0.5 in H0 = 67.5, Om0 = 0.309; they are rounded to a whole number."""
    batch = 300 if counts < 1000 else 20
    slots = int(counts + 7 * counts**0.5)
    options = made(
        "cdm_physical", log10_host_mass=Fixed(host_mass), aperture=0.5 * diameter, mass_low=mass_low, slots=slots
    )
    assert physical.expected(options) == pytest.approx(counts, rel=0.003, abs=0.5)
    count = drawn(options, batch).labels["count"]
    assert abs(float(count.mean()) - counts) < 0.5 + 4.0 * (counts / batch) ** 0.5
    assert 0.8 < float(count.var()) / counts < 1.2 if batch == 300 else True


def test_counts_follow_redshift_and_amplitude_of_each_system() -> None:
    z = [0.2, 0.5, 0.9] * 200
    options = made("cdm_physical", mass_low=1e8, slots=300, sigma_sub=Fixed(0.05))
    count = drawn(options, 600, host(600, z, 1.5)).labels["count"].view(200, 3)
    for k in range(3):
        mean = physical.expected(options, z[k])
        assert abs(float(count[:, k].mean()) - mean) < 4.0 * (mean / 200) ** 0.5
    assert drawn(dataclasses.replace(options, sigma_sub=Fixed(0.0)), 5).labels["count"].tolist() == [0.0] * 5


@pytest.mark.parametrize("mean", [0.3, 6.0, 23.9, 24.1, 60.0, 363.0])
def test_exact_poisson_quantile(mean) -> None:
    u = (torch.arange(20_000, dtype=FLOAT64) + 0.5) / 20_000
    with fmath.bitwise():
        ours = poisson_quantile(torch.full_like(u, mean), u)
        alone = torch.cat([poisson_quantile(torch.full_like(v, mean), v) for v in u[::4999].split(1)])
    assert torch.equal(ours[::4999], alone)
    wrong = ours.numpy() != scipy.stats.poisson(mean).ppf(u.numpy())
    assert wrong.mean() < (1e-9 if mean < 24.0 else 3e-4)


@pytest.mark.parametrize("name", NAMES)
def test_masses_places_and_concentrations(name) -> None:
    options = physical.without_scatter(made(name))
    of_host = host(200)
    result = drawn(options, 200, of_host)
    use = physical.in_use(result, options.slots).numpy()
    m = physical.masses(options, 200)
    p = {k: v.numpy() for k, v in result.components[0].parameters.items()}
    exists = (p["alpha_Rs"] > 0) & use
    if name == "uldm":  # some are all core
        exists = (result.components[1].parameters["theta_E"].numpy() > 0) & use
    left = suppression(name)
    assert result.labels["count"].tolist() == exists.sum(1).tolist()

    # the law of those that are left: each mass weighs m^-1.9 times suppression
    ln_m = np.linspace(math.log(1e7), math.log(1e10), 4001)
    weight = np.exp(-0.9 * ln_m) * np.array([left(v) for v in np.exp(ln_m)])
    cdf = np.concatenate([[0.0], np.cumsum(0.5 * (weight[1:] + weight[:-1]))])
    assert scipy.stats.kstest(np.log(m[exists]), lambda v: np.interp(v, ln_m, cdf / cdf[-1])).pvalue > 1e-3
    r2 = (p["center_x"] - 0.03) ** 2 + (p["center_y"] + 0.05) ** 2
    assert scipy.stats.kstest(r2[exists] / 9.0, "uniform").pvalue > 1e-3
    angle = np.arctan2(p["center_y"] + 0.05, p["center_x"] - 0.03)[exists]
    assert scipy.stats.kstest(angle, scipy.stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-3

    # Rs is r200 / c: Duffy et al. 2008, less concentrated below the scale of suppression
    r200 = (3 * m / (800 * math.pi * ASTROPY.critical_density(0.5).to_value("Msun/kpc3"))) ** (1 / 3)
    c = r200 / (p["Rs"] / 60.0 * ASTROPY.kpc_proper_per_arcmin(0.5).value)
    median = 5.71 * (m * 0.675 / 2e12) ** -0.084 * 1.5**-0.47
    if name == "wdm":
        median = median * 1.5 ** (0.026 * 0.5 - 0.04) * (1 + 60 * 1e8 / m) ** -0.17
    if name == "uldm":
        median = median * 1.5 ** (0.026 * 0.5 - 0.04) * (1 + 21.42 * (1.6e10 * 20 ** (-4 / 3) / m) ** 1.62) ** -0.42
    free = exists & (c > 1.2001)
    assert float(c.min()) > 1.199 and (name == "uldm") == (free.sum() < 0.99 * exists.sum())
    if name == "uldm":  # where the median is far above the least there is
        free = free & (median > 4.0)
        assert free.sum() > 500
    assert scipy.stats.kstest(np.log(c / median)[free] / 0.2, "norm").pvalue > 1e-3


@pytest.mark.parametrize("fraction", [-3.0, -2.0, -1.0, -0.3, 0.0])
def test_truncation_leaves_the_bound_mass(fraction) -> None:
    options = made("cdm_physical", log10_bound_fraction=Fixed(fraction))
    of_host = host(20)
    result = drawn(options, 20, of_host)
    use = physical.in_use(result, options.slots).numpy()
    p = {k: v.numpy() for k, v in result.components[0].parameters.items()}
    # M_tot = 4 pi rho0 Rs^3 y(tau) Sigma_cr D_l^2, alpha_Rs = 4 (1 - ln 2) rho0 Rs^2
    area = float(of_host.einstein_area[0])
    total = p["alpha_Rs"] * p["Rs"] / (1 - math.log(2)) * physical.total_mass_of_tnfw(p["tau"]) / area
    bound = 10**fraction * physical.masses(options, 20)
    np.testing.assert_allclose(total[use], bound[use], rtol=1e-4)
    assert result.labels["total_mass"].numpy() == pytest.approx((bound * use).sum(1), rel=1e-9)


def test_truncation_over_all_fractions_and_concentrations(gate) -> None:
    c = torch.logspace(math.log10(1.2), 2.0, 60, dtype=FLOAT64)[:, None]
    bound = torch.logspace(-4.0, 0.0, 200, dtype=FLOAT64)[None, :]
    mu = halos.enclosed_nfw(c)
    tau, thinner = halos.truncated(bound, mu)
    found = torch.from_numpy(physical.total_mass_of_tnfw(tau.numpy())) * thinner / mu
    gate("bound mass of a truncated halo", (found / bound - 1.0).abs().max(), 1e-4)
    assert float(tau.min()) >= 0.01 and float(tau.max()) <= 300.0
    assert bool((thinner[(bound * mu) > 4e-4] == 1.0).all())
    # the radius that holds half of the mass, by the deflection there
    tnfw = mass_profile("tnfw")
    one, zero = torch.ones_like(tau), torch.zeros_like(tau)
    size = halos.half_mass_radius(one, tau)
    half, _ = tnfw.deflection(size, zero, one, one, tau, zero, zero)
    whole = torch.from_numpy(physical.total_mass_of_tnfw(tau.numpy())) / (1.0 - math.log(2.0))
    gate("half-mass radius of a truncated halo", (half * size / whole - 0.5).abs().max(), 0.006)


def test_mean_bound_fraction(gate) -> None:
    for p in (TruncatedNormal(-1.0, 0.5, -3.0, 0.0), TruncatedNormal(-1.5, 0.3, -4.0, 0.0)):
        expected = physical.bound_fraction(made("cdm_physical", log10_bound_fraction=p))
        gate("mean bound fraction", abs(mean_bound_fraction(p) / expected - 1.0), 1e-5)
    assert mean_bound_fraction(Uniform(-2.0, 0.0)) == pytest.approx(0.99 / (2.0 * math.log(10.0)), rel=1e-6)
    assert mean_bound_fraction(Fixed(-1.0)) == pytest.approx(0.1, rel=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_sheet_is_the_mean_of_the_mass_function(name, gate) -> None:
    options = made(name)
    z = [0.3, 0.5, 0.8]
    of_host = host(3, z, 1.5)
    sheet = drawn(dataclasses.replace(options, slots=700), 3, of_host).components[-1]
    assert (sheet.name, sheet.profile.name, sheet.count) == ("sheet", "convergence", None)
    for k in range(3):
        mass = physical.expected(options, z[k], 1, suppression(name)) * physical.bound_fraction(options)
        kappa = mass * float(of_host.einstein_area[k]) / options.aperture**2
        gate("sheet against quadrature", abs(-float(sheet.parameters["kappa"][k]) / kappa - 1.0), 1e-4)
    assert all(c.name != "sheet" for c in drawn(dataclasses.replace(options, sheet=False), 3).components)


@pytest.mark.parametrize("name", NAMES)
def test_halos_and_sheet_cancel_on_average(name, gate) -> None:
    """On circles well inside the aperture, by deflections alone: eight points a circle, whose quadrature error has no
    mean over halos of random direction. Halos end at the aperture, and their outskirts are missing from without: for
    halos of 5e8 Msun, 0.9 % at 0.8 of the aperture, less for lighter ones and further in."""
    # 3e5 halos of one mass, that the mean be known to 0.3 %; that of the mass function is tested above and below
    options = made(name, mass_low=1e8, mass_high=1.02e8, log10_bound_fraction=Fixed(-1.0), slots=2300)
    options = dataclasses.replace(options, sigma_sub=Fixed(30.0 if name == "cdm_physical" else 60.0))
    if name == "uldm":
        options = dataclasses.replace(options, axion_mass=Fixed(1e-20))
    batch = 300
    result = drawn(options, batch, host(batch, theta_E=1.0))
    kappa = -float(result.components[-1].parameters["kappa"][0])
    turns = torch.arange(8, dtype=FLOAT64) * (2.0 * math.pi / 8)
    for radius in (1.6, 2.4):
        inside = 0.0
        for component in result.components[:-1]:
            use = physical.in_use(result, options.slots) & (component.parameters[component.profile.strength[0]] > 0.0)
            values = [component.parameters[p.name][use] for p in component.profile.parameters]
            for t in turns:
                x, y = 0.03 + radius * torch.cos(t), -0.05 + radius * torch.sin(t)
                ax, ay = component.profile.deflection(x, y, *values)
                inside += float((ax * torch.cos(t) + ay * torch.sin(t)).sum()) / (8 * batch * radius)
        gate(f"{name}: mean convergence of halos over the sheet's", abs(inside / kappa - 1.0), 0.01)
    # and as the population itself says
    for radius, enclosed in zip(RADII, result.enclosed, strict=True):
        gate(f"{name}: net mass over the sheet's", abs(float(enclosed.mean())) / (kappa * radius**2), 0.015)


@pytest.mark.parametrize("name", NAMES)
def test_mean_mass_of_the_whole_mass_function(name) -> None:
    """What is drawn, all that is left out included, against the integral that the sheet is made of."""
    options = made(name, mass_high=1e9)
    mass = drawn(options, 500).labels["total_mass"]
    expected = physical.expected(options, 0.5, 1, suppression(name)) * physical.bound_fraction(options)
    assert abs(float(mass.mean()) - expected) < 4.0 * float(mass.std()) / 500**0.5
    assert float(mass.std()) / 500**0.5 < 0.04 * expected


def test_solitons_take_their_mass_from_the_halo() -> None:
    m22 = 5.0
    options = made("uldm", axion_mass=Fixed(m22 * 1e-22), mass_low=3e8, slots=300, sigma_sub=Fixed(0.25))
    of_host = host(100)
    result = drawn(options, 100, of_host)
    halo, core = (c.parameters for c in result.components[:2])
    area, use = float(of_host.einstein_area[0]), physical.in_use(result, 300) & (core["theta_E"] > 0.0)
    assert use.sum(1).tolist() == result.labels["count"].tolist()
    y = torch.from_numpy(physical.total_mass_of_tnfw(halo["tau"].numpy()))
    outside = halo["alpha_Rs"] * halo["Rs"] / (1 - math.log(2)) * y / area
    inside = core["theta_E"] ** 2 / area
    mass = torch.from_numpy(physical.masses(options, 100))
    left = options.log10_bound_fraction.sample(torch.from_numpy(physical.uniforms("bound_fraction", 100, 300)))
    bound = mass * 10**left
    torch.testing.assert_close((outside + inside)[use], bound[use], rtol=1e-4, atol=0.0)

    # all that exist have a core, of Schive's size and mass unless that is more than is left
    kpc = ASTROPY.kpc_proper_per_arcmin(0.5).value / 60.0
    Om = 0.309 * 1.5**3 / (0.309 * 1.5**3 + 0.691)

    def zeta(Om):
        return (18 * math.pi**2 + 82 * (Om - 1) - 39 * (Om - 1) ** 2) / Om

    r_c = 1.6 / m22 * 1.5**-0.5 * (zeta(Om) / zeta(0.309)) ** (-1 / 6) * (mass / 1e9) ** (-1 / 3)
    ours = core_radius(mass, torch.full((100,), m22, dtype=FLOAT64), of_host)
    torch.testing.assert_close(ours, r_c, rtol=1e-6, atol=0.0)
    volume = 4 * math.pi * quad(lambda x: x * x * (1 + 0.091 * x * x) ** -8, 0, np.inf)[0]
    whole = volume * 1.9e7 / m22**2 / r_c
    free, rest = use & (whole < 0.999 * bound), use & (whole > 1.001 * bound)
    assert int(free.sum()) > 50 and int(rest.sum()) > 50
    torch.testing.assert_close(inside[free], whole[free], rtol=1e-5, atol=0.0)
    torch.testing.assert_close((core["r_c"] * kpc)[free], r_c[free], rtol=1e-5, atol=0.0)
    torch.testing.assert_close((core["r_c"] * kpc * inside)[rest], (r_c * whole)[rest], rtol=1e-5, atol=0.0)
    assert float(outside[rest].abs().max()) == 0.0


@pytest.mark.parametrize(
    "name, limit", [("wdm", {"half_mode_mass": Fixed(1.0)}), ("uldm", {"axion_mass": Fixed(1e-18)})]
)
def test_suppression_far_below_the_masses_is_cold(name, limit) -> None:
    options = {"mass_low": 1e9, "sigma_sub": Fixed(0.5)}
    cold, other = drawn(made("cdm_physical", **options), 20), drawn(made(name, **options, **limit), 20)
    assert torch.equal(cold.labels["count"], other.labels["count"])
    ratio = other.components[0].parameters["Rs"] / cold.components[0].parameters["Rs"]
    # what remains of it is Bose's factor of redshift
    assert float((ratio * 1.5 ** (0.026 * 0.5 - 0.04) - 1.0).abs().max()) < 2e-4
    torch.testing.assert_close(other.labels["total_mass"], cold.labels["total_mass"], rtol=1e-9, atol=0.0)


def test_labels() -> None:
    result = drawn(made("wdm", half_mode_mass=Uniform(1e7, 1e9), sigma_sub=Uniform(0.01, 0.03)), 50)
    labels = result.labels
    assert set(labels) == {"count", "total_mass", "mass_fraction", "log10_host_mass", "sigma_sub", "half_mode_mass"}
    kappa = result.components[-1].parameters["kappa"]
    torch.testing.assert_close(labels["mass_fraction"] + kappa, result.enclosed[1], rtol=1e-12, atol=1e-18)
    assert 1e7 < float(labels["half_mode_mass"].min()) < float(labels["half_mode_mass"].max()) < 1e9
    assert float(labels["sigma_sub"].min()) < 0.013 and float(labels["sigma_sub"].max()) > 0.027


def test_more_subhalos_than_slots_are_refused_by_name() -> None:
    with pytest.raises(
        ParameterError, match=r"substructure.cdm: \d+ subhalos .* more than slots = 300. Fix: slots: 4\d\d"
    ):
        drawn(made("cdm_physical", slots=300), 20)


def test_masses_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"mass_low = 1e\+10 Msun must be below mass_high = 1e\+10"):
        made("cdm_physical", mass_low=1e10)


def test_a_sheet_is_there_or_not() -> None:
    on, off = (drawn(made("cdm_physical", sheet=s), 3) for s in (True, False))
    assert [c.name for c in on.components] == ["subhalos", "sheet"] and [c.name for c in off.components] == ["subhalos"]
