"""The fused CPU engine against float64 torch: every profile, optic and preset within the gates of PHYSICS.md section 9.

Memory that a kernel writes, and its scratch, begins as NaN in every test here.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import lensgen
from lensgen import Observation, Scene, Simulator, load_preset, raytrace, render
from lensgen.draw import draw, draw_label
from lensgen.light import LIGHT_PROFILES, light_profile
from lensgen.mass import MASS_PROFILES, mass_profile
from lensgen.psf import GaussianPSF, PixelPSF
from lensgen.rng import RandomSource
from lensgen.scene import Component
from lensgen.substructure.population import Draws
from lensgen_kernels import cpu, tables
from tests.kernels import scenes
from tests.kernels.scenes import both, double, hand_made, off_peak, off_relative, seen, slotted
from tests.mass.cases import arrays

SYSTEMS = 96
# section 9, float32: relative errors of deflections, and of images in units of the peak
DEFLECTION = {"sis": 1e-5, "sie": 1e-5, "epl": 1e-5, "point": 1e-5, "vortex": 1e-5, "nfw": 1e-4, "tnfw": 1e-4}
IMAGE = {"point": 1e-4, "nfw": 1e-4, "tnfw": 1e-4}  # a whole lens of nfw: its deflection's own gate
PROFILES = {
    **{name: (name, {}) for name in MASS_PROFILES if name != "epl"},
    **{f"epl of {terms} terms": ("epl", {"terms": terms}) for terms in (4, 24, 48)},
}


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch) -> None:
    monkeypatch.setattr(cpu, "POISON", True)


def clear_of_a_rod(mass: tuple[Component, ...], observation: Observation) -> torch.Tensor:
    """`[B, H, W]`: pixels at least 0.1 arcsec from every rod's line, where its gate holds."""
    x, y = observation.rays()
    clear = torch.ones(1, dtype=torch.bool)
    for component in mass:
        p = {k: v.reshape(v.shape[0], -1, 1) for k, v in component.parameters.items()}
        across = torch.cos(p["angle"]) * (y - p["center_y"]) - torch.sin(p["angle"]) * (x - p["center_x"])
        clear = clear & (across.abs() > 0.1).all(1)
    return clear.unflatten(-1, (observation.height, observation.width))


# LLVM takes several seconds over each of these; halos have tests of their own below
LONG = ("nfw", "tnfw", "epl of 4 terms", "epl of 48 terms")


def cases(of: dict, slow: tuple[str, ...]) -> list:
    return [
        pytest.param(*values, id=name, marks=pytest.mark.slow if name in slow else ()) for name, values in of.items()
    ]


@pytest.mark.parametrize("name, statics", cases(PROFILES, LONG))
def test_every_mass_profile(name: str, statics, gate) -> None:
    """Alone and in slots, 0 to 3 of them; as deflections and as images, with lens light and scaled deflections."""
    profile = mass_profile(name)
    mass = scenes.alone_and_in_slots(profile, SYSTEMS, seed=1, **statics)
    observation = seen(33, 33)
    error = off_relative(mass, observation)
    if name == "vortex":
        error = torch.where(clear_of_a_rod(mass, observation), error, 0.0)
    long = statics.get("terms", 0) > 24  # of ellipticities up to 0.8
    allowed = 2e-5 if long else DEFLECTION.get(name, 1e-5)
    row = "epl c<=.8" if long else name
    gate(f"cpu: {row} (relative)", error.max(), allowed)
    scene = scenes.with_galaxies(mass, SYSTEMS)
    for size in ((1, 1), (33, 65), (64, 64)):
        gate(f"cpu: image, {row} (of peak)", off_peak(scene, seen(*size, 0.1)), IMAGE.get(name, 1e-5))


def test_sie_across_the_switch_of_its_formula(gate) -> None:
    """Round, hardly elliptical, and on both sides of |e| = 0.03."""
    size = torch.tensor([0.0, 1e-12, 1e-9, 1e-5, 0.0299, 0.02999999, 0.03, 0.0300001, 0.031, 0.5, 0.8, 0.3]).double()
    values = scenes.random_parameters(mass_profile("sie"), (len(size),), 3)
    values |= {"e1": (size * math.cos(2.0)).float().double(), "e2": (size * math.sin(2.0)).float().double()}
    one = scenes.lens(mass_profile("sie"), values)
    none = slotted(
        mass_profile("sie"), {k: v[:, None].repeat(1, 3) for k, v in values.items()}, torch.zeros(12, dtype=torch.int64)
    )
    gate("cpu: sie (relative)", off_relative((one, none), seen(33, 33)).max(), 1e-5)


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


@pytest.mark.parametrize("engine", ["cpu", pytest.param("cpu_closed", marks=pytest.mark.slow)])
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


@pytest.mark.skipif(not tables.supported(), reason="tables need AVX-512")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["nfw", "tnfw"])
def test_tables_are_as_good_as_they_say(name: str, gate) -> None:
    """1e-5 of the closed form, beside what rounding does to both."""
    values = halos_everywhere(name, 1000, 3.0)
    values["Rs"] = values["Rs"].clamp(1e-3, 30.0)
    mass, observation = single_halos(name, **values), seen(64, 64, 0.1)
    table, closed = (scenes.deflections(mass, observation, e) for e in ("cpu", "cpu_closed"))
    error = torch.hypot(*(table - closed).unbind(1)) / scenes.sizes(mass, observation).clamp(min=1e-11)
    assert bool((error > 0.0).any())  # tables were used
    gate(f"tables: {name} against its closed form (relative)", error.max(), 3e-5)


def test_a_halo_without_mass_is_not_there() -> None:
    values = halos_everywhere("tnfw", 100, 2.0) | {"alpha_Rs": torch.zeros(100)}
    for engine in ("cpu", "cpu_closed"):
        assert float(scenes.deflections(single_halos("tnfw", **values), seen(33, 33), engine).abs().max()) < 1e-11


def test_the_farthest_pixel_at_a_power_of_two(gate) -> None:
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
        gate("cpu: tnfw from x = 1e-3 (relative)", off_relative(mass, observation).max(), 1e-4)


# --- optics


def pixel_psf(size: int) -> PixelPSF:
    kernel = torch.rand(size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    return PixelPSF(kernel / kernel.sum())


PSFS = {
    "none": GaussianPSF(0.0),
    "nearest": GaussianPSF(0.3),
    "zero": GaussianPSF(0.3, edge="zero"),
    "pixel": GaussianPSF(0.25, 3.0, "nearest", "pixel"),
    "wide": GaussianPSF(2.0, 6.0),
    "wide, zero": GaussianPSF(2.0, 6.0, "zero"),
    "1x1": pixel_psf(1),
    "3x3": pixel_psf(3),
    "21x21": pixel_psf(21),
    "65x65": pixel_psf(65),
}
QUICK = {
    ("none", 5, False), ("nearest", 1, False), ("nearest", 2, True), ("zero", 1, False), ("pixel", 3, True),
    ("wide, zero", 2, True), ("21x21", 2, False), ("3x3", 3, True), ("65x65", 2, True),
}  # fmt: skip
OPTICS = [
    pytest.param(name, s, fine, marks=() if (name, s, fine) in QUICK else pytest.mark.slow)
    for name in PSFS
    for s in (1, 2, 3, 5)
    for fine in ((False, True) if s > 1 else (False,))
]


@pytest.mark.parametrize("name, supersampling, supersampled", OPTICS)
def test_optics(name: str, supersampling: int, supersampled: bool, gate) -> None:
    """A galaxy alone, its light cut by the edge in the smaller grids: no lens, no source behind it."""
    light = hand_made(3).source
    sizes = [(1, 1), (33, 65), (64, 64), (7, 150)] + ([(150, 150)] if supersampling == 1 else [])
    for height, width in sizes:
        observation = Observation(height, width, 0.1, supersampling, PSFS[name], supersampled)
        gate("cpu: optics (of peak)", off_peak(Scene((), light), observation), 1e-5)
    beside = Observation(33, 65, 0.1, supersampling, PSFS[name], supersampled)
    assert torch.equal(  # the same program for lens light is another, with the same numbers
        render(Scene((), light), beside, engine="cpu"), render(Scene((), light), beside, engine="cpu_closed")
    )


def test_scenes_without_a_source_or_a_lens(gate) -> None:
    full = hand_made(3)
    galaxy = light_profile("sersic")
    count = torch.tensor([2, 0, 1])
    values = {"amp": 5.0, "R_sersic": 0.2, "n_sersic": 2.0, "center_x": torch.linspace(-1, 1, 6).view(3, 2).float()}
    clumps = Component.make("clumps", galaxy, values, 3, count)
    for scene in (
        Scene(full.mass, (), full.source),
        Scene((), full.source, (replace(full.source[0], name="galaxy"),)),
        Scene((), (clumps,), (replace(clumps, name="more"),)),
        Scene(full.mass, (clumps, *full.source), (replace(clumps, name="more"),)),
    ):
        gate("cpu: optics (of peak)", off_peak(scene, seen(33, 65)), 1e-5)
    empty = render(Scene((), (clumps,)), seen(9, 9), engine="cpu")
    assert float(empty[1].abs().max()) == 0.0 and float(empty[0].max()) > 0.0


@pytest.mark.parametrize("name", LIGHT_PROFILES)
def test_every_light_profile(name: str, gate) -> None:
    """Sersic's gate: 5e-5 where it shines with more than a millionth of its brightest pixel; of a cutout, which falls
    to 0 at its edge, 1e-5 of the brightest."""
    profile, number = light_profile(name), 200
    values = scenes.random_parameters(profile, (number,), 7) | {"amp": torch.ones(number, dtype=torch.float64)}
    if "n_sersic" in values:
        values["n_sersic"] = values["n_sersic"].clamp(0.5, 5.0)
    source = Component("source", profile, values, arrays=arrays(profile))
    image, expected = both(Scene((), (source,)), seen(33, 65))
    peak = expected.flatten(1).amax(1)[:, None, None]
    assert (peak > 0.0).double().mean() > 0.5
    if profile.arrays:
        assert torch.equal(image[expected == 0.0], torch.zeros(int((expected == 0.0).sum())))
        gate(f"cpu: {name} (of peak)", ((image - expected).abs() / peak.clamp(min=1e-30)).max(), 1e-5)
        return
    bright = expected > 1e-6 * peak
    gate(f"cpu: {name} (relative)", ((image - expected).abs() / expected)[bright].max(), 5e-5)


# --- whole scenes


@pytest.mark.parametrize("preset", lensgen.presets())
def test_every_preset(preset: str, gate) -> None:
    """Each class, clean, in each band; of large images the middle, of crowded lenses few."""
    made = load_preset(preset).override({"grid.size": min(load_preset(preset).image_shape[1], 48)})
    crowded = preset in ("model_a_physical", "deeplense_iv_legacy_macro", "lens_jepa_a", "lens_jepa_b")
    index = torch.arange(12)
    labels = draw_label(made, Draws(RandomSource(8), index))
    if crowded:
        index = torch.stack([index[labels == k][0] for k in range(3)])
    systems = draw(made, RandomSource(8), index)
    assert len(systems.label.unique()) == 3
    for k, band in enumerate(made.bands):
        scene = systems.in_band(k)[0]
        image, expected = both(scene, band.observation)
        error = (image - expected).abs().flatten(1).amax(1) / expected.flatten(1).amax(1)
        for label, name in enumerate(made.classes):
            points = any(c.profile.name in ("point", "vortex") for c in scene.mass if c.name.startswith(f"{name}."))
            gate(f"cpu: {preset}, {name} (of peak)", error[systems.label == label].max(), 1e-4 if points else 1e-5)


def crowd(name: str, number: int) -> Scene:
    """EPL and shear with 0, `number` and some subhalos, which are as heavy together as the 300 of section 9."""
    profile, batch = mass_profile(name), 3
    values = scenes.random_parameters(profile, (batch, number), 5)
    small = {"alpha_Rs": 3e-4, "Rs": 0.05, "theta_E": 0.01, "softening": 0.02, "tau": 10.0}
    generator = torch.Generator().manual_seed(6)
    for key in set(values) & set(small):
        values[key] = small[key] * (0.5 + torch.rand(batch, number, generator=generator, dtype=torch.float64))
    macro = hand_made(batch, "epl", gamma=2.1, e1=0.1, e2=-0.05, theta_E=1.2)
    shear = Component.make("shear", mass_profile("shear"), {"gamma1": 0.03, "gamma2": -0.02}, batch)
    halos = Component("halos", profile, values, torch.tensor([0, number, number // 3]))
    return Scene((*macro.mass, shear, halos), macro.source)


@pytest.mark.parametrize("name, allowed", [("point", 1e-4), pytest.param("tnfw", 1e-5, marks=pytest.mark.slow)])
def test_a_thousand_subhalos_or_none(name: str, allowed: float, gate) -> None:
    scene = crowd(name, 1000)
    for size in ((1, 1), (17, 33)) if name == "tnfw" else ((1, 1), (33, 65)):
        observation = seen(*size)
        # the torch engine would fill a whole chunk of systems with a thousand halos each
        beta = raytrace.source_position(double(scene), *observation.rays())
        expected = raytrace.surface_brightness(scene.source, *beta) * observation.pixel_scale**2
        image = render(scene.to(dtype=torch.float32), observation, engine="cpu").flatten(1)
        error = (image - expected).abs().amax(1) / expected.amax(1)
        gate(f"cpu: EPL+shear+1000 {name} (of peak)", error.max(), allowed)
    none = slotted(mass_profile(name), scene.mass[2].parameters, torch.zeros(3, dtype=torch.int64))
    without = Scene((*scene.mass[:2], none), scene.source).to(dtype=torch.float32)
    smooth = render(without, observation, engine="cpu").flatten(1)
    assert torch.equal(image[0], smooth[0]) and not torch.equal(image[1], smooth[1])


@pytest.mark.slow
@pytest.mark.parametrize("name, allowed", [("point", 1e-4), ("tnfw", 1e-5)])
def test_a_thousand_subhalos_in_150_pixels(name: str, allowed: float, gate) -> None:
    gate(f"cpu: EPL+shear+1000 {name} (of peak)", off_peak(crowd(name, 1000), seen(150, 150, 0.05)), allowed)


@pytest.mark.parametrize("preset, allowed", [("model_a", 1e-4), pytest.param("model_b", 1e-5, marks=pytest.mark.slow)])
def test_five_thousand_images(preset: str, allowed: float, gate) -> None:
    """Of 16x16 pixels, each against float64 torch.

    Of so many, in pixels as wide as a source, a few lie at a caustic where any float32 is off by more than the gate:
    the worst may be as far off as twice the worst of float32 torch.
    """
    changes = {"grid.size": 16, "grid.supersampling": 1, "instrument.pixel_scale": 0.3}
    made = Simulator(preset, device="cpu").override(changes).preset
    systems = draw(made, RandomSource(2), torch.arange(5000))
    exact = render(double(systems.scene), made.bands[0].observation, engine="torch")
    whole = render(systems.scene, made.bands[0].observation, engine="cpu")
    plain = render(systems.scene, made.bands[0].observation, engine="torch")

    def off(image: torch.Tensor) -> torch.Tensor:
        return (image - exact).abs().flatten(1).amax(1) / exact.flatten(1).amax(1)

    gate(f"cpu: 5,000 of {preset}, 99.5 % of them (of peak)", off(whole).quantile(0.995), allowed)
    gate(f"cpu: 5,000 of {preset} (of float32 torch's worst)", off(whole).max() / off(plain).max(), 2.0)
    assert torch.equal(
        render(systems.scene.select(torch.tensor([4321])), made.bands[0].observation, engine="cpu")[0], whole[4321]
    )


def test_float64_parameters_are_those_of_float32() -> None:
    """What the gates above rest on: the reference renders the same systems."""
    scene = hand_made(2)
    again = double(scene)
    assert again.dtype == torch.float64
    assert torch.equal(again.mass[0].parameters["center_x"].float(), scene.mass[0].parameters["center_x"])
