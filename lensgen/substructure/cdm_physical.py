"""Cold dark matter subhalos as theory has them: a projected mass function, stripped NFW halos, a sheet to balance them.

The subhalo mass function at infall, projected, is uniform over the field (Gilman et al. 2020, MNRAS 491, 6077, and
pyHalo): d2N/dm dA = S / m0 (m / m0)^-1.9, m0 = 1e8 Msun, S = sigma_sub F, with the host's mass and redshift in
log10 F = 0.55 log10(M_host / 1e13 Msun) + 0.37 log10(z_lens + 0.5). Most of these subhalos cannot be seen in an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from lensgen import exact, fmath
from lensgen.errors import ParameterError
from lensgen.mass import mass_profile
from lensgen.noise import poisson_quantile
from lensgen.parameters import Parameter
from lensgen.priors import Normal, PowerLaw, Prior
from lensgen.scene import Component
from lensgen.substructure import halos
from lensgen.substructure.population import RADII, Drawn, Draws, Host, Population, by_name, sum_slots

SLOPE = -1.9
_PIVOT = 1e8  # Msun
_LN10 = 2.302585092994046
_SCATTER = 0.2  # of ln c (pyHalo's "dex", which it applies to the natural logarithm)
_QUANTILES = 4096
_MOST_SLOTS = 20_000


@dataclass(frozen=True)
class Suppression:
    """By how much dark matter that is not cold has fewer and less concentrated halos.

    dN/dm is (1 + (a M/m)^b)^c of the cold one, the concentration (1 + z)^(0.026 z - 0.04) (1 + A (M/m)^B)^C of it.

    Args:
        mass: `[B]`, M in Msun.
        number: (a, b, c).
        concentration: (A, B, C).
    """

    mass: Tensor
    number: tuple[float, float, float]
    concentration: tuple[float, float, float]

    def of_number(self, ratio: Tensor) -> Tensor:
        """What remains of the halos for which M/m is `ratio`, any shape."""
        a, b, c = self.number
        return exact.exp(c * exact.log1p(exact.power(a * ratio, b)))

    def of_concentration(self, ratio: Tensor, host: Host) -> Tensor:
        """The factor on their concentration, `[B, N]`."""
        A, B, C = self.concentration
        at_z = exact.power(1.0 + host.z_lens, 0.026 * host.z_lens - 0.04)
        return at_z[:, None] * exact.exp(C * exact.log1p(A * exact.power(ratio, B)))


@dataclass(frozen=True)
class Subhalos:
    """Drawn halos, `[B, N]` each; those beyond `count` `[B]` are void.

    Args:
        mass: m200 at infall, Msun.
        exists: 1; or 0 where suppression has taken a halo out, which has no bound mass and alpha_Rs = 0.
        bound: what tides have left, Msun.
        x, y: arcsec.
        Rs, alpha_Rs, tau: of a truncated NFW halo that has all of the bound mass.
    """

    count: Tensor
    mass: Tensor
    exists: Tensor | None
    bound: Tensor
    x: Tensor
    y: Tensor
    Rs: Tensor
    alpha_Rs: Tensor
    tau: Tensor


@dataclass(frozen=True)
class Part:
    """Lenses that the subhalos are made of.

    Args:
        component: one a subhalo.
        mass: of each, Msun `[B, N]`.
        size: projected half-mass radius, arcsec.
    """

    component: Component
    mass: Tensor
    size: Tensor


@dataclass(frozen=True)
class CdmPhysical(Population):
    """Args:
    sigma_sub: subhalos per kpc^2 and unit of ln m, about, at 1e8 Msun, for a host of 1e13 Msun at z = 0.5.
    log10_host_mass: log10 of the host halo's mass in Msun.
    mass_low, mass_high: range of the mass at infall, Msun.
    aperture: radius of the disc about the lens that holds subhalos, arcsec.
    log10_bound_fraction: log10 of what tides have left of a subhalo's mass.
    slots: the most subhalos that a system may have; systems with more are refused.
    sheet: whether their mean convergence, worked out of the mass function, is taken away as a uniform sheet.
    """

    sigma_sub: Prior
    log10_host_mass: Prior
    mass_low: float
    mass_high: float
    aperture: float
    log10_bound_fraction: Prior
    slots: int
    sheet: bool
    name: ClassVar[str] = "cdm_physical"
    ranges = by_name(
        Parameter("sigma_sub", "kpc^-2", 0.0, 10.0, "amplitude of the projected subhalo mass function"),
        Parameter("log10_host_mass", "1", 10.0, 16.0, "log10 of the host halo's mass in Msun"),
        Parameter("mass_low", "Msun", 1e4, 1e12, "smallest mass at infall"),
        Parameter("mass_high", "Msun", 1e4, 1e12, "largest mass at infall"),
        Parameter("aperture", "arcsec", 0.1, 100.0, "radius of the disc that holds subhalos"),
        Parameter("log10_bound_fraction", "1", -4.0, 0.0, "log10 of the mass that is left over that at infall"),
        Parameter("slots", "1", 1, _MOST_SLOTS, "the most subhalos that a system may have"),
    )

    def __post_init__(self) -> None:
        if not self.mass_low < self.mass_high:
            raise ParameterError(
                f"{self.name}: mass_low = {self.mass_low:g} Msun must be below mass_high = {self.mass_high:g} Msun."
            )

    @property
    def capacity(self) -> int:
        return self.slots

    def suppression(self, draws: Draws, host: Host, prefix: str) -> tuple[Suppression | None, dict[str, Tensor]]:
        """How this dark matter differs from cold, and the labels of that."""
        return None, {}

    def parts(self, subhalos: Subhalos, labels: dict[str, Tensor], host: Host) -> tuple[Part, ...]:
        """The subhalos as lenses, given the labels of `suppression`."""
        return (truncated_nfw(subhalos, 1.0, subhalos.bound),)

    def _density(self, sigma_sub: Tensor, log10_host_mass: Tensor, host: Host) -> Tensor:
        """S, kpc^-2."""
        at_mass = exact.exp(0.55 * _LN10 * (log10_host_mass - 13.0))
        return sigma_sub * at_mass * exact.power(host.z_lens + 0.5, 0.37)

    def _moment(self, power: int, like: Tensor) -> Tensor:
        """The integral of (m/m0)^(power - 1.9) dm / m0 over the range of masses."""
        k = SLOPE + 1.0 + power
        low, high = (exact.power(like.new_tensor(m / _PIVOT), k) for m in (self.mass_low, self.mass_high))
        return (high - low) * (1.0 / k)

    def _kept_mass(self, suppression: Suppression, like: Tensor) -> Tensor:
        """What suppression leaves of the mass of all subhalos, `[B]`: Gauss-Legendre in ln m."""
        low, high = (exact.log(like.new_tensor(m)) for m in (self.mass_low, self.mass_high))
        kept, whole = torch.zeros_like(like), torch.zeros_like(like)
        for node, weight in exact.GAUSS_LEGENDRE:
            for place in (node, 1.0 - node):
                ln_m = low + (high - low) * place
                share = weight * exact.exp((SLOPE + 2.0) * (ln_m - low))
                left = suppression.of_number(suppression.mass * exact.exp(-ln_m))
                kept, whole = kept + share * left, whole + share
        return kept / whole

    def draw(self, draws: Draws, host: Host, prefix: str) -> Drawn:
        sigma_sub = draws.value(f"{prefix}.sigma_sub", self.sigma_sub)
        host_mass = draws.value(f"{prefix}.log10_host_mass", self.log10_host_mass)
        density = self._density(sigma_sub, host_mass, host)
        suppression, labels = self.suppression(draws, host, prefix)
        count = self._count(draws, density, host, prefix)
        subhalos = self._subhalos(draws, count, suppression, host, prefix)
        parts = self.parts(subhalos, labels, host)
        components = tuple(part.component for part in parts)

        kpc = halos.kpc_per_arcsec(host)
        kappa = density * self._moment(1, density) * _PIVOT * mean_bound_fraction(self.log10_bound_fraction)
        kappa = math.pi * host.einstein_area * (kappa * kpc * kpc)
        if suppression is not None:
            kappa = kappa * self._kept_mass(suppression, density)
        enclosed = tuple(sum((_enclosed(p, radius, host) for p in parts), torch.zeros_like(kappa)) for radius in RADII)
        if self.sheet:
            sheet = {"kappa": -kappa, "ra_0": host.center_x, "dec_0": host.center_y}
            components = (*components, Component("sheet", mass_profile("convergence"), sheet))
        labels = {
            "count": count.to(torch.float64) if subhalos.exists is None else sum_slots(subhalos.exists, count),
            "total_mass": sum_slots(subhalos.bound, count),
            "mass_fraction": enclosed[RADII.index(1.0)],
            "log10_host_mass": host_mass,
            "sigma_sub": sigma_sub,
            **labels,
        }
        if self.sheet:
            enclosed = tuple(e - kappa * (r * r) for e, r in zip(enclosed, RADII, strict=True))
        return Drawn(components, enclosed, labels)

    def _count(self, draws: Draws, density: Tensor, host: Host, prefix: str) -> Tensor:
        """Poisson counts before suppression, `[B]` int64; ParameterError for more than there are slots."""
        radius = self.aperture * halos.kpc_per_arcsec(host)
        mean = math.pi * radius * radius * density * self._moment(0, density)
        with fmath.bitwise():
            number = poisson_quantile(mean, draws.uniforms(f"{prefix}.count", 1)[:, 0])
        if not fmath.holds(number <= float(self.slots)):
            most, expected = int(number.max()), float(mean.max())
            raise ParameterError(
                f"{prefix}: {most} subhalos in a system ({expected:.0f} expected) are more than slots = {self.slots}. "
                f"Fix: slots: {_enough_slots(expected)}, or raise mass_low or lower the aperture."
            )
        return number.to(torch.int64)

    def _subhalos(
        self, draws: Draws, count: Tensor, suppression: Suppression | None, host: Host, prefix: str
    ) -> Subhalos:
        slots = self.slots
        mass = draws.values(f"{prefix}.mass", PowerLaw(SLOPE, self.mass_low, self.mass_high), slots)
        distance = self.aperture * exact.sqrt(draws.uniforms(f"{prefix}.radius", slots))
        sine, cosine = exact.sin_cos_turns(draws.uniforms(f"{prefix}.angle", slots))
        deviate = draws.values(f"{prefix}.concentration", Normal(0.0, 1.0), slots)
        c = halos.duffy_concentration(mass, host) * exact.exp(_SCATTER * deviate)
        exists = None
        if suppression is not None:
            ratio = suppression.mass[:, None] / mass
            c = c * suppression.of_concentration(ratio, host)
            drawn = draws.uniforms(f"{prefix}.suppression", slots) < suppression.of_number(ratio)
            exists = torch.where(drawn, 1.0, 0.0).to(torch.float64)
        c = c.clamp(min=halos.LEAST_CONCENTRATION)
        mu = halos.enclosed_nfw(c)
        Rs, alpha_Rs = halos.nfw_in_angles(mass, c, mu, host)
        bound = exact.exp(_LN10 * draws.values(f"{prefix}.bound_fraction", self.log10_bound_fraction, slots))
        tau, thinner = halos.truncated(bound, mu)
        if exists is not None:
            bound, thinner = bound * exists, thinner * exists
        x, y = host.center_x[:, None] + distance * cosine, host.center_y[:, None] + distance * sine
        return Subhalos(count, mass, exists, mass * bound, x, y, Rs, alpha_Rs * thinner, tau)


def truncated_nfw(subhalos: Subhalos, share: Tensor | float, mass: Tensor) -> Part:
    """The given share of the density of each subhalo's halo, which has `mass`."""
    parameters = {
        "Rs": subhalos.Rs,
        "alpha_Rs": subhalos.alpha_Rs * share,
        "tau": subhalos.tau,
        "center_x": subhalos.x,
        "center_y": subhalos.y,
    }
    component = Component("subhalos", mass_profile("tnfw"), parameters, subhalos.count)
    return Part(component, mass, halos.half_mass_radius(subhalos.Rs, subhalos.tau))


def _enclosed(part: Part, radius: float, host: Host) -> Tensor:
    """`Drawn.enclosed` of one part of the subhalos for the circle of `radius` Einstein radii, `[B]`."""
    p, count = part.component.parameters, part.component.count
    assert count is not None
    dx, dy = p["center_x"] - host.center_x[:, None], p["center_y"] - host.center_y[:, None]
    inside = halos.fraction_inside((radius * host.theta_E)[:, None], dx * dx + dy * dy, part.size)
    return sum_slots(part.mass * inside, count) * host.einstein_area / (host.theta_E * host.theta_E)


@lru_cache(maxsize=64)
def mean_bound_fraction(log10_bound_fraction: Prior) -> float:
    """The mean of 10^x over the prior of x, by 4096 quantiles u = 3 t^2 - 2 t^3 in the arithmetic of the draws."""
    t = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) * (1.0 / _QUANTILES)
    fractions = exact.exp(_LN10 * log10_bound_fraction.sample(t * t * (3.0 - 2.0 * t)))
    return math.fsum((fractions * (6.0 * t * (1.0 - t))).tolist()) * (1.0 / _QUANTILES)


def _enough_slots(mean: float) -> int:
    """Slots that no Poisson count of that mean exceeds: uniforms reach 5.4 sigma."""
    return math.ceil(mean + 6.0 * math.sqrt(mean) + 10.0)


POPULATION = CdmPhysical
