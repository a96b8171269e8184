"""Every mass profile of the fused engines, against float64 torch within the gates of PHYSICS.md section 9."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lensgen import Observation
from lensgen.mass import MASS_PROFILES, mass_profile
from lensgen.scene import Component
from lensgen_kernels import tables
from tests.kernels import scenes
from tests.kernels.scenes import off_peak, off_relative, seen, slotted

SYSTEMS = 96
# section 9, float32: relative errors of deflections, and of images in units of the peak
DEFLECTION = {"sis": 1e-5, "sie": 1e-5, "epl": 1e-5, "point": 1e-5, "vortex": 1e-5, "nfw": 1e-4, "tnfw": 1e-4}
IMAGE = {"point": 1e-4, "nfw": 1e-4, "tnfw": 1e-4}  # a whole lens of nfw: its deflection's own gate
PROFILES = {
    **{name: (name, {}) for name in MASS_PROFILES if name != "epl"},
    **{f"epl of {terms} terms": ("epl", {"terms": terms}) for terms in (4, 24, 48)},
}


def clear_of_a_rod(mass: tuple[Component, ...], observation: Observation) -> torch.Tensor:
    """`[B, H, W]`: pixels at least 0.1 arcsec from every rod's line, where its gate holds."""
    x, y = observation.rays()
    clear = torch.ones(1, dtype=torch.bool)
    for component in mass:
        p = {k: v.reshape(v.shape[0], -1, 1) for k, v in component.parameters.items()}
        across = torch.cos(p["angle"]) * (y - p["center_y"]) - torch.sin(p["angle"]) * (x - p["center_x"])
        clear = clear & (across.abs() > 0.1).all(1)
    return clear.unflatten(-1, (observation.height, observation.width))


# compilers take several seconds over each of the others; halos have tests of their own below
LONG = ("nfw", "tnfw", "epl of 4 terms", "epl of 48 terms")
QUICK = {"cpu": [name for name in PROFILES if name not in LONG], "cuda": ["sie", "point", "vortex"]}


@pytest.mark.parametrize(
    "engine, name, statics",
    [
        pytest.param(engine, *values, id=f"{engine}-{name}", marks=() if name in quick else pytest.mark.slow)
        for engine, quick in QUICK.items()
        for name, values in PROFILES.items()
    ],
    indirect=["engine"],
)
def test_every_mass_profile(engine: str, name: str, statics, gate) -> None:
    """Alone and in slots, 0 to 3 of them; as deflections and as images, with lens light and scaled deflections."""
    profile = mass_profile(name)
    mass = scenes.alone_and_in_slots(profile, SYSTEMS, seed=1, **statics)
    observation = seen(33, 33)
    error = off_relative(mass, observation, engine)
    if name == "vortex":
        error = torch.where(clear_of_a_rod(mass, observation), error, 0.0)
    long = statics.get("terms", 0) > 24  # of ellipticities up to 0.8
    allowed = 2e-5 if long else DEFLECTION.get(name, 1e-5)
    row = "epl c<=.8" if long else name
    gate(f"{engine}: {row} (relative)", error.max(), allowed)
    scene = scenes.with_galaxies(mass, SYSTEMS)
    for size in ((1, 1), (33, 65), (64, 64)):
        gate(f"{engine}: image, {row} (of peak)", off_peak(scene, seen(*size, 0.1), engine), IMAGE.get(name, 1e-5))


def test_sie_across_the_switch_of_its_formula(engine: str, gate) -> None:
    """Round, hardly elliptical, and on both sides of |e| = 0.03."""
    size = torch.tensor([0.0, 1e-12, 1e-9, 1e-5, 0.0299, 0.02999999, 0.03, 0.0300001, 0.031, 0.5, 0.8, 0.3]).double()
    values = scenes.random_parameters(mass_profile("sie"), (len(size),), 3)
    values |= {"e1": (size * math.cos(2.0)).float().double(), "e2": (size * math.sin(2.0)).float().double()}
    one = scenes.lens(mass_profile("sie"), values)
    none = slotted(
        mass_profile("sie"), {k: v[:, None].repeat(1, 3) for k, v in values.items()}, torch.zeros(12, dtype=torch.int64)
    )
    gate(f"{engine}: sie (relative)", off_relative((one, none), seen(33, 33), engine).max(), 1e-5)


# --- tables of circular halos


def single_halos(name: str, **values) -> tuple[Component, ...]:
    """One slot a system."""
    profile = mass_profile(name)
    number = max(len(v) for v in values.values() if isinstance(v, torch.Tensor))
    filled = {
        k: torch.as_tensor(v, dtype=torch.float64).expand(number).float().double()[:, None] for k, v in values.items()
    }
    ordered = {p.name: filled[p.name] for p in profile.parameters}
    return (slotted(profile, ordered, torch.ones(number, dtype=torch.int64)),)


def halos_everywhere(name: str, number: int, spread: float) -> dict[str, torch.Tensor]:
    """Of all sizes and truncations, ends included; the first ones centred on a pixel."""
    generator = torch.Generator().manual_seed(4)

    def between(low: float, high: float) -> torch.Tensor:
        drawn = torch.rand(number, generator=generator, dtype=torch.float64)
        values = low * torch.exp(math.log(high / low) * drawn)
        values[-2], values[-1] = low, high
        return values

    values = {"Rs": between(1e-6, 1e4), "alpha_Rs": between(1e-3, 10.0)}
    if name == "tnfw":
        values["tau"] = between(1e-2, 1e3).flip(0)
    for axis in ("center_x", "center_y"):
        values[axis] = spread * (2.0 * torch.rand(number, generator=generator, dtype=torch.float64) - 1.0)
        values[axis][: number // 10] = 0.125 * (torch.arange(number // 10) % 7 - 3)
    return values


@pytest.mark.parametrize(
    "engine",
    ["cpu", *(pytest.param(e, marks=pytest.mark.slow) for e in ("cpu_closed", "cuda", "cuda_closed"))],
    indirect=True,
)
@pytest.mark.parametrize("name", [pytest.param("nfw", marks=pytest.mark.slow), "tnfw"])
def test_halos_of_every_size_and_place(name: str, engine: str, gate) -> None:
    """In the grid, far outside, centred on pixels; section 9 holds from x = 1e-3 on."""
    for spread in (2.0, 50.0, 1e4):
        values = halos_everywhere(name, 600, spread)
        mass = single_halos(name, **values)
        for observation in (seen(33, 33), seen(1, 1), seen(2, 3, 0.1)):
            error = off_relative(mass, observation, engine)
            r = scenes.distance(values["center_x"].float(), values["center_y"].float(), observation)
            inside = r > 1e-3 * values["Rs"][:, None, None]
            gate(f"{engine}: {name} from x = 1e-3 (relative)", error[inside].max(), 1e-4)
            # where x is held at its floor the profile has an edge; one that is weak enough may go unseen
            gate(f"{engine}: {name} at the floor of x (relative)", error.max(), 6.5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nfw", "tnfw"])
def test_tables_are_as_good_as_they_say(engine: str, name: str, gate) -> None:
    """1e-5 of the closed form, beside what rounding does to both."""
    if engine == "cpu" and not tables.supported():
        pytest.skip("tables of engine 'cpu' need AVX-512")
    values = halos_everywhere(name, 1000, 3.0)
    values["Rs"] = values["Rs"].clamp(1e-3, 30.0)
    mass, observation = single_halos(name, **values), seen(64, 64, 0.1)
    table, closed = (scenes.deflections(mass, observation, e) for e in (engine, f"{engine}_closed"))
    error = torch.hypot(*(table - closed).unbind(1)) / scenes.sizes(mass, observation).clamp(min=1e-11)
    assert bool((error > 0.0).any())  # tables were used
    gate(f"{engine}: table of {name} against its closed form (relative)", error.max(), 3e-5)


def test_a_halo_without_mass_is_not_there(engine: str) -> None:
    values = halos_everywhere("tnfw", 100, 2.0) | {"alpha_Rs": torch.zeros(100)}
    for kind in (engine, f"{engine}_closed"):
        assert float(scenes.deflections(single_halos("tnfw", **values), seen(33, 33), kind).abs().max()) < 1e-11


def test_the_farthest_pixel_at_a_power_of_two(engine: str, gate) -> None:
    """Where rounding decides in which power of two the square of the greatest distance lies."""
    single, observation = np.float32, seen(33, 33)
    edge, found, generator = single(2.0), [], np.random.default_rng(0)
    while len(found) < 300:
        cx = single(generator.uniform(-1.5, 0.0))
        dx = float(single(edge - cx))
        power = float(generator.choice([4.0, 8.0, 16.0]))
        if power <= dx * dx:
            continue
        cy = single(2.0 - math.sqrt(power - dx * dx))
        for near in (cy, np.nextafter(cy, single(-9.0)), np.nextafter(cy, single(9.0))):
            dy = float(single(edge - near))
            one, other = (single(a * a + float(single(b * b))) for a, b in ((dx, dy), (dy, dx)))
            apart = single(single(dx * dx) + single(dy * dy))
            if -2.0 <= near <= 0.0 and len({bool(v >= power) for v in (one, other, apart)}) == 2:
                found.append((float(cx), float(near)))
    x, y = torch.tensor(found, dtype=torch.float64).T
    for sign_x, sign_y in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
        mass = single_halos("tnfw", Rs=0.3, alpha_Rs=1.0, tau=5.0, center_x=sign_x * x, center_y=sign_y * y)
        gate(f"{engine}: tnfw from x = 1e-3 (relative)", off_relative(mass, observation, engine).max(), 1e-4)
