"""Distances against astropy, and the numbers of the published sets."""

from __future__ import annotations

import astropy.constants as const
import astropy.units as units
import pytest
import torch
from astropy.cosmology import FlatLambdaCDM, z_at_value

from lensgen.cosmology import ARCSEC, Cosmology
from lensgen.errors import ParameterError, UnknownNameError

REFERENCE = FlatLambdaCDM(H0=70, Om0=0.3)
Z_LENS = torch.tensor([0.05, 0.2, 0.5, 0.5, 1.0, 2.0, 5.9], dtype=torch.float64)
Z_SOURCE = torch.tensor([0.1, 0.21, 1.0, 2.5, 1.5, 6.0, 6.0], dtype=torch.float64)


def z(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


@pytest.mark.parametrize("H0, Om0", [(70.0, 0.3), (67.5, 0.309), (20.0, 1.0), (150.0, 0.01)])
def test_distances_against_astropy(H0: float, Om0: float) -> None:
    reference = FlatLambdaCDM(H0=H0, Om0=Om0)
    got = Cosmology(H0, Om0).distances(Z_LENS, Z_SOURCE)
    expected = (
        reference.angular_diameter_distance(Z_LENS.numpy()),
        reference.angular_diameter_distance(Z_SOURCE.numpy()),
        (reference.comoving_distance(Z_SOURCE.numpy()) - reference.comoving_distance(Z_LENS.numpy()))
        / (1 + Z_SOURCE.numpy()),
    )
    for mine, theirs in zip(got, expected, strict=True):
        # D_ls between close redshifts is a difference of two distances
        torch.testing.assert_close(mine, torch.tensor(theirs.to_value("Mpc")), rtol=1e-8, atol=1e-6)


def test_numbers_at_half_and_one() -> None:
    D_l, D_s, D_ls = (float(d) for d in Cosmology().distances(z(0.5), z(1.0)))
    assert (D_l, D_s, D_ls) == pytest.approx((1259.08, 1651.91, 707.60), abs=0.006)
    assert 1e3 * D_l / ARCSEC == pytest.approx(6.1042, abs=1e-4)
    assert float(Cosmology().critical_density(z(0.5), z(1.0))) == pytest.approx(1.1489e11, rel=1e-4)


def test_critical_density_against_astropy() -> None:
    D_l, D_s, D_ls = (
        REFERENCE.angular_diameter_distance(0.4),
        REFERENCE.angular_diameter_distance(1.7),
        (REFERENCE.comoving_distance(1.7) - REFERENCE.comoving_distance(0.4)) / 2.7,
    )
    density = const.c**2 * D_s / (4 * torch.pi * const.G * D_l * D_ls) * (D_l / units.rad) ** 2
    got = float(Cosmology().critical_density(z(0.4), z(1.7)))
    # G Msun is known to 1e-9, G alone (astropy's route) to 2e-5
    assert got == pytest.approx(density.to_value(units.Msun / units.arcsec**2), rel=3e-5)


def test_matter_critical_density_against_astropy() -> None:
    got = float(Cosmology().matter_critical_density(z(0.5)))
    assert got == pytest.approx(REFERENCE.critical_density(0.5).to_value(units.Msun / units.Mpc**3), rel=3e-5)


@pytest.mark.parametrize(
    "rule, mass, radius",
    [
        ("deeplense", 1e12, 1.281491), ("angular", 1e12, 1.664519),
        ("deeplense", 3e10, 0.221961), ("angular", 3e10, 0.288303),
        ("deeplense", 1e6, 0.001281491), ("angular", 1e6, 0.001664519),
    ],
)  # fmt: skip
def test_einstein_radius_of_a_mass(rule: str, mass: float, radius: float, gate) -> None:
    area = Cosmology(distance_rule=rule).einstein_area(z(0.5), z(1.0))
    gate("theta_E(M) (relative)", abs(float((mass * area).sqrt()) / radius - 1), 1e-5)


def test_deeplense_rule_against_its_own_formula() -> None:
    """206265 sqrt(4 G M / c^2 (DS - DL) / (DL DS)) with luminosity distances, by astropy."""
    DL, DS = REFERENCE.luminosity_distance(0.3), REFERENCE.luminosity_distance(1.4)
    square = 4 * const.G * const.M_sun / const.c**2 * (DS - DL) / (DL * DS)
    got = float(Cosmology(distance_rule="deeplense").einstein_area(z(0.3), z(1.4)))
    assert got == pytest.approx(206265.0**2 * square.to_value(units.dimensionless_unscaled), rel=3e-5)


@pytest.mark.parametrize("H0, Om0, ratio", [(70.0, 0.3, 0.6337), (67.5, 0.309, 0.63343)])
def test_reduced_ratio(H0: float, Om0: float, ratio: float) -> None:
    got = float(Cosmology(H0, Om0).reduced_ratio(z(0.5), z(1.0), z(2.5)))
    assert got == pytest.approx(ratio, abs=6e-5)
    assert float(Cosmology(H0, Om0).reduced_ratio(z(0.5), z(1.0), z(1.0))) == 1.0


def test_a_distance_is_the_one_that_astropy_inverts() -> None:
    """The redshift at which astropy has our distance is the one we asked for: the two do not just share a formula."""
    mpc = float(Cosmology().comoving_distance(z(1.3))) * units.Mpc
    assert float(z_at_value(REFERENCE.comoving_distance, mpc)) == pytest.approx(1.3, rel=1e-7)


@pytest.mark.parametrize("z_source", [0.3, 0.5, float("nan")])
def test_source_must_lie_behind_the_lens(z_source: float) -> None:
    z_s = torch.tensor([1.0, z_source], dtype=torch.float64)
    with pytest.raises(ParameterError, match=r"z_source = .* is not behind z_lens = 0.5: .*Fix"):
        Cosmology().distances(z(0.5), z_s)


def test_bits_do_not_depend_on_the_batch() -> None:
    lens = torch.linspace(0.1, 0.9, 301, dtype=torch.float64)
    source = torch.linspace(1.0, 3.0, 301, dtype=torch.float64)
    whole = Cosmology().einstein_area(lens, source)
    single = torch.cat([Cosmology().einstein_area(lens[i : i + 1], source[i : i + 1]) for i in range(301)])
    assert torch.equal(whole, single)


@pytest.mark.parametrize("field, value", [("H0", 10.0), ("H0", float("nan")), ("Om0", 1.01), ("Om0", -0.3)])
def test_out_of_range(field: str, value: float) -> None:
    with pytest.raises(ParameterError, match=f"cosmology.{field} = .* is outside"):
        Cosmology(**{field: value})


@pytest.mark.parametrize("value", ["70", None, True])
def test_not_a_number(value) -> None:
    with pytest.raises(ParameterError, match=r"cosmology.H0"):
        Cosmology(H0=value)


def test_unknown_distance_rule() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown cosmology.distance_rule 'angle'. Did you mean 'angular'"):
        Cosmology(distance_rule="angle")
