"""A profile written here and nowhere else renders in every engine: "fast the day it is written"."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lensgen import Component, Scene, fmath, render
from lensgen.light import LIGHT_PROFILES, light_profile
from lensgen.mass import MASS_PROFILES, mass_profile
from lensgen.parameters import CENTER, Parameter
from lensgen.profile import LightProfile, MassProfile
from lensgen_kernels import cpu, radial, tables
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import UNIFORM, VARYING
from tests.kernels import scenes
from tests.kernels.scenes import hand_made, off_peak, off_relative, seen, slotted


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch) -> None:
    monkeypatch.setattr(cpu, "POISON", True)


def of(name: str, deflection) -> MassProfile:
    """The formula of a circular lens with an Einstein radius and a core, registered by nothing but its name."""
    arcsec = [Parameter(n, "arcsec", 0.0, 10.0, "as it says") for n in ("theta_E", "core")]
    zero = lambda x, y, theta_E, core, center_x, center_y: 0.0 * x  # noqa: E731
    return MassProfile(
        name=name, lenstronomy="", parameters=(*arcsec, *CENTER), strength=("theta_E",),
        deflection=deflection, potential=zero, convergence=zero, smooth=name == "costly",
    )  # fmt: skip


def cored_isothermal(x, y, theta_E, core, center_x, center_y):
    dx, dy = x - center_x, y - center_y
    r2 = dx * dx + dy * dy
    mean = theta_E / (fmath.sqrt(r2 + core * core) + core)
    return mean * dx, mean * dy


def costly(x, y, theta_E, core, center_x, center_y):
    """Dozens of shells: smooth, and many operations a ray."""
    dx, dy = x - center_x, y - center_y
    r2 = dx * dx + dy * dy
    mean, scale = 0.0 * r2, core * core
    for _ in range(25):
        mean, scale = mean + 1.0 / (r2 + scale + 0.01), scale * 1.3
    mean = 0.02 * theta_E * mean
    return mean * dx, mean * dy


def with_a_kink(x, y, theta_E, core, center_x, center_y):
    """The same, with an edge at `core`: all of a shell's mass lies inside it."""
    dx, dy = x - center_x, y - center_y
    r2 = fmath.maximum(dx * dx + dy * dy, core * core)
    mean, scale = 0.0 * r2, 0.05
    for _ in range(25):
        mean, scale = mean + 1.0 / (r2 + scale + 0.01), scale * 1.3
    mean = 0.02 * theta_E * mean
    return mean * dx, mean * dy


NEW = {f.__name__: of(f.__name__, f) for f in (cored_isothermal, costly, with_a_kink)}


def has_table(profile: MassProfile) -> bool:
    graph = Graph()
    x, y = graph.input("x", VARYING), graph.input("y", VARYING)
    ax, ay = profile.deflection(x, y, *(graph.input(p.name, UNIFORM) for p in profile.parameters))
    found = radial.circular(ax, ay)
    return profile.smooth and found is not None and radial.costly(found)


@pytest.mark.parametrize("name", NEW)
def test_a_new_lens(engine: str, name: str, monkeypatch, gate) -> None:
    """Alone and in slots, against float64 torch, by the name under which it is found."""
    monkeypatch.setitem(MASS_PROFILES, name, NEW[name])
    mass = scenes.alone_and_in_slots(mass_profile(name), 48, seed=9)
    # a deflection of several arcsec, right to 1e-5 of it, moves the image by as much
    off = off_peak(scenes.with_galaxies(mass, 48), seen(33, 65, 0.1), engine)
    gate(f"{engine}: a new profile's image: {name} (of peak)", off, 1e-4)
    gate(f"{engine}: a new profile: {name} (relative)", off_relative(mass, seen(33, 33), engine).max(), 2e-5)
    assert has_table(NEW[name]) == (name == "costly")


def test_a_lens_with_an_edge_has_no_table(engine: str, gate) -> None:
    """It does not say that it is smooth: at 500 places of the edge, closed form and no interpolation across it."""
    edges = torch.linspace(0.05, 2.5, 500, dtype=torch.float64).float().double()
    values = {"theta_E": torch.ones(500, 1), "core": edges[:, None], "center_x": torch.full((500, 1), 0.013),
              "center_y": torch.full((500, 1), -0.021)}  # fmt: skip
    lens = (slotted(NEW["with_a_kink"], values, torch.ones(500, dtype=torch.int64)),)
    gate(f"{engine}: a new profile: an edge (relative)", off_relative(lens, seen(33, 33), engine).max(), 1e-5)


def test_a_table_that_is_far_off_is_not_used(engine: str, gate) -> None:
    """A lens that says it is smooth and is not: where interpolation fails the check, the closed form takes over."""
    if engine == "cpu" and not tables.supported():
        pytest.skip("tables of engine 'cpu' need AVX-512")
    wrong = replace(NEW["with_a_kink"], smooth=True)
    values = {"theta_E": torch.ones(1, 1), "core": torch.full((1, 1), 0.9), "center_x": torch.full((1, 1), 0.013),
              "center_y": torch.full((1, 1), -0.021)}  # fmt: skip
    lens = (slotted(wrong, values, torch.ones(1, dtype=torch.int64)),)
    off = off_relative(lens, seen(33, 33), engine).max()
    gate(f"{engine}: a new profile: an edge, table given up (relative)", off, 1e-5)


def test_what_cannot_be_translated_renders_in_torch(monkeypatch, capfd) -> None:
    """`auto` takes torch and says why; the engine that is named refuses, with file and line."""
    from lensgen import notice
    from lensgen.errors import EngineError

    def branching(x, y, theta_E, core, center_x, center_y):
        if float(theta_E.max()) > 5.0:
            return 0.0 * x, 0.0 * y
        return cored_isothermal(x, y, theta_E, core, center_x, center_y)

    monkeypatch.setattr(notice, "_said", set())
    lens = Component.make("lens", of("branching", branching), {"theta_E": 1.0, "core": 0.1}, 2)
    scene = Scene((lens,), hand_made(2).source).to(dtype=torch.float32)
    assert torch.equal(render(scene, seen(9, 9)), render(scene, seen(9, 9), engine="torch"))
    assert "not 'cpu': a formula cannot be translated" in capfd.readouterr().err
    with pytest.raises(
        EngineError, match=r"engine 'cpu' cannot do this: a formula cannot be translated: .*test_new_profile"
    ):
        render(scene, seen(9, 9), engine="cpu")


def gaussian(x, y, amp, sigma, center_x, center_y):
    dx, dy = x - center_x, y - center_y
    return amp * fmath.exp(-0.5 * (dx * dx + dy * dy) / (sigma * sigma))


def test_a_new_light(engine: str, monkeypatch, gate) -> None:
    made = LightProfile(
        name="gaussian", lenstronomy="GAUSSIAN", strength=("amp",), surface_brightness=gaussian,
        parameters=(Parameter("amp", "1", 0.0, 1e6, "peak"), Parameter("sigma", "arcsec", 0.01, 9.0, "width"), *CENTER),
        total_flux=lambda sigma: 6.283185307179586 * sigma * sigma,
    )  # fmt: skip
    monkeypatch.setitem(LIGHT_PROFILES, "gaussian", made)
    source = Component.make("source", light_profile("gaussian"), {"amp": 3.0, "sigma": 0.2, "center_x": 0.1}, 3)
    scene = Scene(hand_made(3).mass, (source,))
    gate(f"{engine}: a new profile's images (of peak)", off_peak(scene, seen(33, 65, 0.1), engine), 1e-5)
