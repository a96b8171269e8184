"""Systems drawn by a kernel: every bit of what torch draws, for presets, priors and populations of all kinds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from lensgen import Simulator, exact, notice
from lensgen.draw import Systems, draw
from lensgen.errors import ParameterError
from lensgen.fused_draw import CpuDrawer, drawer
from lensgen.mass import mass_profile
from lensgen.preset import Preset, load_preset
from lensgen.priors import PRIORS, Prior
from lensgen.rng import SPLITS, RandomSource
from lensgen.scene import Component, Scene
from lensgen.substructure import POPULATIONS
from lensgen.substructure.population import MASS, Drawn, Draws, Host, Population, by_name, nothing_enclosed
from tests.every_preset import EVERY_PRESET

FAR = torch.tensor([2**40, 2**40 + 1, 2**53 + 1, 2**62 + 12345, 2**63 - 2])
INDEX = torch.cat((torch.arange(0, 2995), FAR))


def tensors(scene: Scene) -> dict[str, torch.Tensor]:
    """What a scene is made of; values beyond the count are void, and left out."""
    found = {"scale": scene.deflection_scale} if scene.deflection_scale is not None else {}
    for component in scene.components:
        for key, value in component.parameters.items():
            name = f"{component.name}.{key}"
            if component.count is None:
                found[name] = value
                continue
            found[f"{component.name}.count"] = component.count
            found[name] = value
            assert value.shape[1] >= int(component.count.max())
    return found


def assert_same(ours: Systems, theirs: Systems) -> None:
    for a, b in ((ours.scene, theirs.scene), (ours.smooth, theirs.smooth)):
        assert [(c.name, c.profile.name, dict(c.statics)) for c in a.components] == [
            (c.name, c.profile.name, dict(c.statics)) for c in b.components
        ]
    pairs = {
        "scene": (tensors(ours.scene), tensors(theirs.scene)),
        "smooth": (tensors(ours.smooth), tensors(theirs.smooth)),
        "params": (ours.params, theirs.params),
        "rest": (
            {"label": ours.label, "exposure": ours.exposure[0]},
            {"label": theirs.label, "exposure": theirs.exposure[0]},
        ),
    }
    for what, (a, b) in pairs.items():
        assert list(a) == list(b), what
        for key, value in b.items():
            assert a[key].dtype == value.dtype, (what, key)
            assert torch.equal(a[key], value), (what, key)


def both(preset: Preset, index: torch.Tensor, dtype=torch.float32, seed: int = 0, split: str = "train") -> None:
    random = RandomSource(seed, split)
    assert_same(CpuDrawer(preset, dtype)(random, index), draw(preset, random, index, dtype))


@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_every_bit_of_every_preset(preset: str) -> None:
    made = load_preset(preset)
    both(made, INDEX)
    for seed in (1, 2**32 - 1, 2**32, 2**62 - 1):
        for split in SPLITS:
            both(made, FAR.flip(0), seed=seed, split=split)
    both(made, INDEX[-400:], torch.float64, seed=2**62 - 1, split="test")


def test_the_order_and_company_of_indices_do_not_matter() -> None:
    made, random = load_preset("model_a"), RandomSource(3)
    drawn = CpuDrawer(made, torch.float32)
    whole = drawn(random, INDEX[:500])
    for rows in (torch.arange(500).flip(0), torch.tensor([7]), torch.tensor([3, 3, 499])):
        some = drawn(random, INDEX[rows])
        for key, value in tensors(whole.scene).items():
            assert torch.equal(tensors(some.scene)[key], value[rows]), key
        assert all(torch.equal(some.params[k], v[rows]) for k, v in whole.params.items())


def test_same_bits_on_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    made, random = load_preset("model_a"), RandomSource(3)
    try:
        torch.set_num_threads(1)
        one = CpuDrawer(made, torch.float32)(random, INDEX[:1000])
        torch.set_num_threads(4)
        assert_same(CpuDrawer(made, torch.float32)(random, INDEX[:1000]), one)
    finally:
        torch.set_num_threads(before)


TNFW = {
    "population": "cdm_tnfw", "count": 20, "mass": {"power_law": {"slope": -1.0, "low": 1e7, "high": 1e10}},
    "radius": {"uniform": {"low": 0.05, "high": 2.5}}, "concentration": 16.0, "concentration_slope": 0.0,
    "concentration_scatter": 0.0, "tau": {"log_uniform": {"low": 5.0, "high": 20.0}},
}  # fmt: skip
PHYSICAL = {
    "sigma_sub": {"log_uniform": {"low": 0.005, "high": 0.03}}, "mass_low": 1e8, "mass_high": 1e10, "aperture": 3.0,
    "log10_host_mass": {"truncated_normal": {"mean": 13.3, "sigma": 0.2, "low": 12.9, "high": 13.7}}, "slots": 150,
    "log10_bound_fraction": {"truncated_normal": {"mean": -1.0, "sigma": 0.5, "low": -4.0, "high": 0.0}}, "sheet": True,
}  # fmt: skip
OVERRIDES = {
    "no compensation, no shear": {"compensation": "none", "shear": None},
    "every prior": {
        "lens.theta_E": {"normal": {"mean": 1.2, "sigma": 0.05}},
        "lens.gamma": {"truncated_normal": {"mean": 1.5, "sigma": 0.1, "low": 1.7, "high": 2.5}},
        "lens.q": {"power_law": {"slope": -1.0, "low": 0.7, "high": 1.0}},
        "lens.phi": 0.3,
        "source.R_sersic": {"log_uniform": {"low": 0.1, "high": 0.4}},
        "source.n_sersic": {"uniform": {"low": 0.5, "high": 4.0}},
        "source.phi": "direction",
        "noise.exposure_time": {"normal": {"mean": 900.0, "sigma": 50.0}},
        "substructure.cdm.count": {"poisson": {"mean": 3.0}},
        "substructure.cdm.mass": 1e9,
    },
    "sie": {"lens": {"profile": "sie", "theta_E": {"uniform": {"low": 1, "high": 2}}, "e1": 0.1, "e2": 0.05}},
    "sis and halos": {"lens": {"profile": "sis", "theta_E": 1.3}, "substructure.cdm": TNFW},
    "every population": {
        "substructure": {
            "none": {"population": "no_sub"},
            "legacy": {"population": "cdm_points_legacy"},
            "few": {"population": "cdm_points", "count": 1, "mass": 1e9, "radius": 1.0, "softening": 0.0},
            "halos": TNFW,
            "row": {"population": "vortex_points", "mass": 3e10, "points": 7, "softening": 0.1,
                    "axion_mass": {"log_uniform": {"low": 1e-24, "high": 1e-22}}},
            "rod": {"population": "vortex_rod", "mass": {"uniform": {"low": 1e9, "high": 3e10}}, "core": 0.0,
                    "axion_mass": 1e-23},
        },
    },
    "subhalos of theory": {
        "substructure": {
            "cold": {"population": "cdm_physical", **PHYSICAL, "sheet": False},
            "warm": {"population": "wdm", **PHYSICAL, "half_mode_mass": {"log_uniform": {"low": 1e6, "high": 1e10}}},
            "light": {"population": "uldm", **PHYSICAL, "axion_mass": {"log_uniform": {"low": 1e-22, "high": 1e-19}}},
        },
    },
    "one class alone": {"substructure": {"only": {"population": "no_sub"}}},
}  # fmt: skip


QUICK = ("every prior", "sie")  # LLVM takes ten seconds over some of the others


@pytest.mark.parametrize(
    "changes",
    [pytest.param(c, id=name, marks=() if name in QUICK else pytest.mark.slow) for name, c in OVERRIDES.items()],
)
def test_every_bit_of_changed_presets(changes) -> None:
    both(load_preset("model_a").override(changes), INDEX[-600:], seed=7)


def test_the_overrides_hold_every_prior_and_population() -> None:
    text = repr(OVERRIDES) + repr(dict(load_preset("model_a").config))
    assert all(f"'{name}'" in text for name in PRIORS if name != "fixed")
    assert all(f"'{name}'" in repr(OVERRIDES) for name in POPULATIONS)


CHECKS = {
    "too much substructure": {"substructure.axion.mass": 1e13},
    "too many halos": {"substructure.cdm": TNFW | {"mass": 1e11, "count": 60}},
}


@pytest.mark.parametrize(
    "changes",
    [pytest.param(c, id=name, marks=() if "halos" not in name else pytest.mark.slow) for name, c in CHECKS.items()],
)
def test_a_check_that_fails_says_what_torch_says(changes) -> None:
    made, random, index = load_preset("model_a").override(changes), RandomSource(0), torch.arange(60)
    messages = []
    for by in (CpuDrawer(made, torch.float32), lambda r, i: draw(made, r, i)):
        with pytest.raises(ParameterError, match=r"at most 0.9 can be taken from the host") as caught:
            by(random, index)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    smooth = index[draw_labels(made, random, index) == 0]
    # these have no substructure
    assert_same(CpuDrawer(made, torch.float32)(random, smooth), draw(made, random, smooth))


@pytest.mark.slow
def test_too_few_slots_are_refused_as_by_torch() -> None:
    too_few = {"population": "cdm_physical", **PHYSICAL, "slots": 20}
    made, random, index = load_preset("model_a").override({"substructure.cdm": too_few}), RandomSource(0), INDEX[:60]
    messages = []
    for by in (CpuDrawer(made, torch.float32), lambda r, i: draw(made, r, i)):
        with pytest.raises(ParameterError, match=r"substructure.cdm: \d+ subhalos .* more than slots = 20") as caught:
            by(random, index)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def draw_labels(made: Preset, random: RandomSource, index: torch.Tensor) -> torch.Tensor:
    return Simulator(made, seed=random.seed, device="cpu").labels(index)


@dataclass(frozen=True)
class OneBlob(Population):
    """A point mass on the ring, in every system."""

    mass: Prior
    name: ClassVar[str] = "one_blob"
    ranges = by_name(MASS)

    def draw(self, draws: Draws, host: Host, prefix: str) -> Drawn:
        mass = draws.value(f"{prefix}.mass", self.mass)
        parameters = {
            "theta_E": (mass * host.einstein_area) * 10.0,
            "softening": torch.full_like(mass, 0.01),
            "center_x": host.center_x + host.theta_E,
            "center_y": torch.where(mass > 5e9, host.center_y, -host.center_y),
        }
        return Drawn((Component("blob", mass_profile("point"), parameters),), nothing_enclosed(host), {"mass": mass})


@dataclass(frozen=True)
class Sorted(OneBlob):
    """What no kernel can do: it sorts the batch."""

    name: ClassVar[str] = "sorted"

    def draw(self, draws: Draws, host: Host, prefix: str) -> Drawn:
        drawn = super().draw(draws, host, prefix)
        torch.sort(drawn.labels["mass"])
        return drawn


def with_population(population: type[Population], monkeypatch) -> Preset:
    monkeypatch.setitem(POPULATIONS, population.name, population)
    mass = {"log_uniform": {"low": 1e9, "high": 1e10}}
    return load_preset("model_a").override({"substructure.axion": {"population": population.name, "mass": mass}})


def test_a_population_of_ones_own(monkeypatch) -> None:
    made = with_population(OneBlob, monkeypatch)
    both(made, INDEX[-500:])


def test_what_cannot_be_translated_is_drawn_by_torch_and_said(monkeypatch, capfd) -> None:
    monkeypatch.setattr(notice, "_said", set())
    made = with_population(Sorted, monkeypatch)
    assert drawer(made, torch.float32) is None and drawer(made, torch.float32) is None
    said = [line for line in capfd.readouterr().err.splitlines() if "drawn by torch" in line]
    assert len(said) == 1 and "sort" in said[0] and "test_cpu_draw.py" in said[0]
    simulator = Simulator(made, device="cpu", engine="cpu")
    assert_same(simulator._draw(INDEX[:50]), draw(made, simulator.random, INDEX[:50]))


def test_the_first_systems_are_drawn_by_torch_where_there_is_no_kernel_yet(monkeypatch, tmp_path) -> None:
    """Five seconds of compiling are for many images; the bits are the same before and after."""
    monkeypatch.setenv("LENSGEN_CACHE", str(tmp_path))
    monkeypatch.setattr("lensgen.fused_draw._WORTH_COMPILING", 40)
    # a preset whose kernel no other test has in memory
    place = {"uniform": {"low": -0.3517, "high": 0.35}}
    simulator = Simulator("deeplense_ii_legacy", device="cpu").override({"source.center_x": place})
    random, index = simulator.random, torch.arange(32)
    made = CpuDrawer(simulator.preset, torch.float32)
    first, second = made.draw(random, index), made.draw(random, index)
    assert not list(tmp_path.glob("systems_*.py"))
    third = made.draw(random, index)
    assert list(tmp_path.glob("systems_*.py"))
    for other in (second, third):
        assert all(torch.equal(first.params[name], other.params[name]) for name in first.params)


def test_more_calls_of_one_function_than_there_is_room_for() -> None:
    """They are made in several shares: a ring of 100 points in place of 16."""

    @dataclass(frozen=True)
    class Ring(Population):
        name: ClassVar[str] = "ring"

        def draw(self, draws: Draws, host: Host, prefix: str) -> Drawn:
            total = torch.zeros_like(host.theta_E)
            for k in range(100):
                total = total + exact.log(host.theta_E + (1.0 + k)) * 1e-6
            return Drawn((), nothing_enclosed(host), {"total": total})

    preset = load_preset("deeplense_ii_legacy")
    preset = replace(preset, classes={"no_sub": preset.classes["no_sub"], "ring": Ring()})
    random, index = RandomSource(3), torch.arange(64)
    fused, reference = CpuDrawer(preset, torch.float32)(random, index), draw(preset, random, index)
    assert reference.params["substructure.ring.total"].any()
    assert all(torch.equal(fused.params[name], reference.params[name]) for name in reference.params)
