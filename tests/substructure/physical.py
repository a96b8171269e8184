"""Physical populations and hosts for tests, and what they should hold by NumPy and SciPy alone."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from astropy.cosmology import FlatLambdaCDM
from scipy.integrate import quad

from lensgen import Cosmology
from lensgen.priors import Fixed, TruncatedNormal
from lensgen.rng import RandomSource
from lensgen.substructure import population
from lensgen.substructure.population import Drawn, Draws, Host, Population

ASTROPY = FlatLambdaCDM(67.5, 0.309)
PREFIX = "substructure.cdm"
OPTIONS: dict[str, Any] = {
    "sigma_sub": Fixed(0.025), "log10_host_mass": Fixed(13.3), "mass_low": 1e7, "mass_high": 1e10, "aperture": 3.0,
    "log10_bound_fraction": TruncatedNormal(-1.0, 0.5, -3.0, 0.0), "slots": 500, "sheet": True,
}  # fmt: skip
OWN = {"cdm_physical": {}, "wdm": {"half_mode_mass": Fixed(1e8)}, "uldm": {"axion_mass": Fixed(2e-21)}}


def made(name: str, **changes: Any) -> Population:
    return population(name)(**OPTIONS | OWN[name] | changes)


def host(batch: int, z_lens: float | list[float] = 0.5, z_source: float = 1.0, theta_E: float = 1.2) -> Host:
    def of(value: float | list[float]) -> torch.Tensor:
        return torch.as_tensor(value, dtype=torch.float64).expand(batch).clone()

    return Host(of(theta_E), of(0.03), of(-0.05), of(z_lens), of(z_source), Cosmology(67.5, 0.309), 0.1)


def drawn(options: Population, batch: int, of_host: Host | None = None) -> Drawn:
    return options.draw(Draws(RandomSource(9), torch.arange(batch)), of_host or host(batch), PREFIX)


def uniforms(what: str, batch: int, slots: int) -> np.ndarray:
    """The random numbers that the draws took."""
    return RandomSource(9).uniforms(torch.arange(batch), f"{PREFIX}.{what}", slots).numpy()


def in_use(components: Drawn, slots: int) -> torch.Tensor:
    return torch.arange(slots) < components.components[0].count[:, None]


def masses(options: Population, batch: int) -> np.ndarray:
    """Infall masses `[B, N]` of the draws."""
    low, high = options.mass_low**-0.9, options.mass_high**-0.9
    return (low + (high - low) * uniforms("mass", batch, options.slots)) ** (-1.0 / 0.9)


def expected(options: Population, z_lens: float = 0.5, power: int = 0, left=lambda m: 1.0) -> float:
    """The integral of m^power d2N/dm dA left(m) over masses and the disc."""
    host_mass, sigma_sub = options.log10_host_mass.value, options.sigma_sub.value
    density = sigma_sub * 10 ** (0.55 * (host_mass - 13.0) + 0.37 * math.log10(z_lens + 0.5))
    radius = options.aperture / 60.0 * ASTROPY.kpc_proper_per_arcmin(z_lens).value

    def integrand(ln_m):
        m = math.exp(ln_m)
        return (m / 1e8) ** -0.9 * m**power * left(m)

    low, high = math.log(options.mass_low), math.log(options.mass_high)
    return math.pi * radius**2 * density * quad(integrand, low, high, epsrel=1e-11)[0]


def bound_fraction(options: Population) -> float:
    """The mean of a truncated normal's 10^x."""
    p = options.log10_bound_fraction

    def weight(x):
        return math.exp(-0.5 * ((x - p.mean) / p.sigma) ** 2)

    return quad(lambda x: 10**x * weight(x), p.low, p.high)[0] / quad(weight, p.low, p.high)[0]


def total_mass_of_tnfw(tau):
    """M_tot mu(c) / m200 (Baltz, Marshall & Oguri 2009)."""
    t2 = tau * tau
    return t2 / (t2 + 1) ** 2 * ((t2 - 1) * np.log(tau) + np.pi * tau - (t2 + 1))


def without_scatter(options: Population) -> Population:
    return dataclasses.replace(options, log10_bound_fraction=Fixed(-1.0))
