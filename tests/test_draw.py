"""Drawn systems: classes, mass compensation, and numbers with the same bits in any company."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch

from lensgen import Preset, Scene, Simulator, load_preset, raytrace
from lensgen.draw import Systems, draw, draw_label
from lensgen.errors import ParameterError
from lensgen.rng import RandomSource
from lensgen.substructure.population import RADII, Draws
from tests.every_preset import EVERY_PRESET

FLOAT64 = torch.float64
TNFW = {
    "population": "cdm_tnfw",
    "count": {"poisson": {"mean": 25}},
    "mass": {"power_law": {"slope": -1.9, "low": 1e8, "high": 1e10}},
    "radius": {"power_law": {"slope": 1.0, "low": 0.05, "high": 2.5}},
    "concentration": 16.0,
    "concentration_slope": -0.06,
    "concentration_scatter": 0.2,
    "tau": 5.0,
}


def of_class(preset: Preset, label: int, number: int, seed: int = 0, dtype=FLOAT64) -> Systems:
    random = RandomSource(seed)
    index = torch.arange(number * 8 + 40)
    index = index[draw_label(preset, Draws(random, index)) == label][:number]
    assert len(index) == number
    return draw(preset, random, index, dtype)


def mean_convergence_in_ring(scene: Scene, systems: Systems, points: int = 512, times: float = 1.0) -> torch.Tensor:
    """`[B]`: mean convergence of everything inside the drawn Einstein radius, or a circle `times` as large, by Gauss:
    the mean outward deflection."""
    turns = torch.arange(points, dtype=FLOAT64) / points * 2 * math.pi
    theta_E, x0, y0 = (systems.params[f"lens.{k}"].double()[:, None] for k in ("theta_E", "center_x", "center_y"))
    radius = theta_E * times
    ax, ay = raytrace.deflection(scene, x0 + radius * torch.cos(turns), y0 + radius * torch.sin(turns))
    return ((ax * torch.cos(turns) + ay * torch.sin(turns)).mean(1) / radius[:, 0]).detach()


POPULATIONS = {"points": (1, {}), "rod": (2, {}), "tnfw": (1, {"substructure.cdm": TNFW}), "none": (0, {})}


def round_lenses(**changes) -> Preset:
    """model_a with round lenses: inside a circle, an elliptical one has not exactly 1 of mean convergence."""
    return load_preset("model_a").override({"lens.q": 1.0, "lens.phi": 0.0} | changes)


@pytest.mark.parametrize("label, changes", POPULATIONS.values(), ids=POPULATIONS)
def test_compensated_lenses_keep_their_mass(label, changes) -> None:
    """The mean convergence inside theta_E is 1 with substructure as without: the ring's radius does not tell."""
    number = 60
    systems = of_class(round_lenses(**changes), label, number)
    total = mean_convergence_in_ring(systems.scene, systems)
    own = 1.0 - mean_convergence_in_ring(systems.smooth, systems)
    assert float(own.abs().max()) < 1e-6  # theta_E as float32
    assert float(total.mean()) == pytest.approx(1.0, abs=2e-3)
    if label == 0:
        assert float((total - 1).abs().max()) < 1e-6
        return
    uncompensated = of_class(round_lenses(**changes, compensation="none"), label, number)
    share = mean_convergence_in_ring(uncompensated.scene, uncompensated) - 1.0
    # what compensation took away: 0.5 % at least, and some systems' share is far larger than the error above
    assert float(share.mean()) > 0.004 and float(share.mean()) > 3 * abs(float(total.mean()) - 1.0)
    torch.testing.assert_close(uncompensated.params["lens.theta_E"], systems.params["lens.theta_E"], rtol=0, atol=0)


@pytest.mark.parametrize("preset", ["model_a", "model_b"])
@pytest.mark.parametrize("label", [1, 2])
def test_the_presets_own_lenses_keep_their_mass(preset: str, label: int) -> None:
    """Elliptical, off the centre, of any slope: the mean inside the drawn circle is what the smooth lens has there."""
    systems = of_class(load_preset(preset), label, 80)
    change = mean_convergence_in_ring(systems.scene, systems) - mean_convergence_in_ring(systems.smooth, systems)
    uncompensated = of_class(load_preset(preset).override({"compensation": "none"}), label, 80)
    brought = mean_convergence_in_ring(uncompensated.scene, uncompensated) - mean_convergence_in_ring(
        uncompensated.smooth, uncompensated
    )
    assert abs(float(change.mean())) < 3e-3
    assert float(brought.mean()) > 3 * abs(float(change.mean()))


def test_more_substructure_than_lens_is_refused() -> None:
    heavy = load_preset("model_a").override({"substructure.axion.mass": 1e13})
    with pytest.raises(ParameterError, match=r"at most 0.9 can be taken from the host. Fix: lower the masses"):
        of_class(heavy, 2, 10)


@pytest.mark.parametrize("times", [RADII[0], RADII[-1]])
def test_compensation_of_each_system_by_points_is_exact(times: float) -> None:
    """Bare points have all their mass at a point: a circle holds it, or not. So the circles of every single system hold
    what they would hold without substructure."""
    systems = of_class(round_lenses(**{"substructure.cdm.softening": 0.0}), 1, 40)
    points = systems.scene.mass[2].parameters
    centre = (systems.params["lens.center_x"][:, None], systems.params["lens.center_y"][:, None])
    r = torch.hypot(points["center_x"] - centre[0], points["center_y"] - centre[1])
    # a point almost on the circle needs more samples than the mean has
    clear = ((r / (times * systems.params["lens.theta_E"][:, None]) - 1).abs() > 0.02).all(1)
    assert int(clear.sum()) > 10
    total, smooth = (mean_convergence_in_ring(s, systems, 4096, times) for s in (systems.scene, systems.smooth))
    assert float((total / smooth - 1)[clear].abs().max()) < 2e-6


@pytest.mark.parametrize("profile", ["sis", "sie"])
def test_a_lens_without_a_slope_gives_up_the_mass_inside_its_ring(profile: str) -> None:
    lens = {"profile": profile, "theta_E": 1.2} | ({"e1": 0.0, "e2": 0.0} if profile == "sie" else {})
    systems = of_class(load_preset("model_a").override({"lens": lens}), 2, 30)
    assert float((mean_convergence_in_ring(systems.scene, systems) - 1).abs().max()) < 2e-3  # the rod has a core


def test_smooth_is_the_same_lens_without_substructure() -> None:
    systems = of_class(load_preset("model_a"), 1, 5)
    assert [c.name for c in systems.smooth.mass] == ["lens", "shear"]
    assert torch.equal(systems.smooth.mass[0].parameters["theta_E"].float(), systems.params["lens.theta_E"])
    assert bool((systems.scene.mass[0].parameters["theta_E"] < systems.smooth.mass[0].parameters["theta_E"]).all())
    for key in ("e1", "e2", "center_x"):
        assert torch.equal(systems.scene.mass[0].parameters[key], systems.smooth.mass[0].parameters[key])


@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_classes_are_equally_likely(preset: str) -> None:
    index = torch.arange(30_000)
    label = draw_label(load_preset(preset), Draws(RandomSource(1), index))
    counts = torch.bincount(label, minlength=3)
    assert len(counts) == 3 and scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("preset", EVERY_PRESET)
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64])
def test_scenes_have_the_same_bits_in_any_company(preset: str, dtype) -> None:
    made, random = load_preset(preset), RandomSource(3)
    whole = draw(made, random, torch.arange(20), dtype)
    order = torch.tensor([17, 3, 3, 0])
    some = draw(made, random, order, dtype)
    pairs = list(zip(whole.scene.components, some.scene.components, strict=True))
    for a, b in pairs:
        assert a.name == b.name
        for key, value in a.parameters.items():
            if a.count is None:
                assert torch.equal(value[order], b.parameters[key]), (a.name, key)
                continue
            assert torch.equal(a.count[order], b.count)
            used = torch.arange(value.shape[1]) < b.count[:, None]
            assert torch.equal(value[order][used], b.parameters[key][used]), (a.name, key)
    assert all(torch.equal(a[order], b) for a, b in zip(whole.exposure, some.exposure, strict=True))


@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_a_float64_scene_holds_the_same_numbers(preset: str) -> None:
    """A float64 render is of the same system: its parameters are those of float32, to the bit."""
    single, double = (draw(load_preset(preset), RandomSource(3), torch.arange(20), d) for d in (torch.float32, FLOAT64))
    for a, b in zip(single.scene.components, double.scene.components, strict=True):
        for key, value in a.parameters.items():
            assert value.dtype == torch.float32 and b.parameters[key].dtype == FLOAT64
            assert torch.equal(value.double(), b.parameters[key])


@pytest.mark.parametrize("preset", EVERY_PRESET)
def test_only_the_own_class_has_substructure(preset: str) -> None:
    systems = draw(load_preset(preset), RandomSource(3), torch.arange(60))
    names = list(load_preset(preset).classes)
    for component in systems.scene.components:
        if component.count is None:
            continue
        own = systems.label == names.index(component.name.split(".")[0])
        assert bool((component.count[~own] == 0).all())
        for strength in component.profile.strength:
            assert float(component.parameters[strength][~own].abs().max()) == 0.0


@pytest.mark.parametrize("preset", ["model_a", "model_b"])
def test_drawn_values_follow_their_priors(preset: str) -> None:
    """Every scalar that a preset draws, against its own prior's quantiles and against the others."""
    made = load_preset(preset)
    systems = draw(made, RandomSource(5), torch.arange(3000))
    values = {}
    for part, priors in (("lens", made.lens), ("shear", made.shear), ("source", made.source[0])):
        for field, prior in priors.priors.items():
            if prior.uniforms == 0:
                continue
            values[f"{part}.{field}"] = drawn = systems.params[f"{part}.{field}"].double()
            expected = prior.sample((torch.arange(3000, dtype=FLOAT64) + 0.5) / 3000)
            assert scipy.stats.ks_2samp(drawn.numpy(), expected.numpy()).pvalue > 1e-3, field
    correlation = torch.corrcoef(torch.stack(list(values.values()))) - torch.eye(len(values), dtype=FLOAT64)
    assert len(values) >= 12 and float(correlation.abs().max()) < 5 / math.sqrt(3000)


def test_magnitude_is_the_flux() -> None:
    """The source's amplitude gives it the drawn magnitude: total flux = 10**(-0.4 (m - zero point))."""
    from scipy.special import gamma

    made = load_preset("model_b")
    p = {k: v.double().numpy() for k, v in draw(made, RandomSource(2), torch.arange(50)).params.items()}
    n, b = p["source.n_sersic"], 1.9992 * p["source.n_sersic"] - 0.3271
    flux = 2 * math.pi * n * p["source.R_sersic"] ** 2 * math.e**b * b ** (-2 * n) * gamma(2 * n) * p["source.amp"]
    expected = 10 ** (-0.4 * (p["source.magnitude"] - made.bands[0].instrument.zero_point))
    assert flux == pytest.approx(expected, rel=1e-5)


def test_published_sets_vary_nothing_but_the_source_s_place() -> None:
    systems = draw(load_preset("deeplense_i_legacy"), RandomSource(2), torch.arange(50))
    varied = {k for k, v in systems.params.items() if not k.startswith("substructure") and len(v.unique()) > 1}
    assert varied == {"source.center_x", "source.center_y", "noise.total_exposure"}
    assert float(systems.params["lens.theta_E"][0]) == pytest.approx(1.281491, rel=1e-6)
    assert systems.scene.deflection_scale is None
    scale = draw(load_preset("deeplense_ii_legacy"), RandomSource(2), torch.arange(4)).scene.deflection_scale
    assert scale.tolist() == pytest.approx([0.6337] * 4, abs=5e-5)


@pytest.mark.parametrize("preset", ["model_a", "model_b", "deeplense_ii_legacy"])
def test_the_share_of_the_mass_is_a_label(preset: str) -> None:
    """Of points, in the mean: their mass in theirs over the critical mass inside the Einstein radius."""
    params = Simulator(preset, device="cpu").override({"grid.size": 4}).batch(0, 400).params
    label = Simulator(preset, device="cpu").labels(torch.arange(400))
    for number, name in ((1, "cdm"), (2, "axion")):
        share = params[f"substructure.{name}.mass_fraction"]
        assert share[label != number].abs().max() == 0.0 and 1e-3 < float(share[label == number].mean()) < 0.1
    if preset == "deeplense_ii_legacy":  # (0.221961 / 1.281491)^2, of rods that end inside
        whole = params["substructure.axion.half_length"][label == 2] < 1.2
        assert params["substructure.axion.mass_fraction"][label == 2][whole].tolist() == pytest.approx(
            [(0.221961 / 1.281491) ** 2] * int(whole.sum()), rel=1e-4
        )
