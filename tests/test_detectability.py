"""Detectability: against finite differences and least squares by numpy, and the presets' populations by class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lensgen import Noise, Observation, Simulator
from lensgen.detectability import detectability, macro_jacobian
from lensgen.draw import Systems, draw
from lensgen.noise import noise_recipe
from lensgen.render import render
from lensgen.scene import Scene

SMALL = {"grid.size": 32, "grid.supersampling": 1, "instrument": {"name": "generic", "pixel_scale": 0.2}}


def drawn(preset: str, label: int, number: int, **changes) -> tuple[Systems, Observation, Noise]:
    simulator = Simulator(preset, seed=21, device="cpu", dtype=torch.float64).override(changes)
    index = torch.arange(number * 8 + 60)
    index = index[simulator.labels(index) == label][:number]
    systems = draw(simulator.preset, simulator.random, index, torch.float64)
    noise = Noise(
        simulator.preset.recipe, simulator.preset.bands[0].detector, systems.exposure[0], simulator.random, index
    )
    return systems, simulator.preset.bands[0].observation, noise


def shifted(scene: Scene, name: str, parameter: str, step: float) -> Scene:
    def changed(component):
        if component.name != name:
            return component
        return replace(
            component, parameters={**component.parameters, parameter: component.parameters[parameter] + step}
        )

    return replace(scene, mass=tuple(map(changed, scene.mass)), source=tuple(map(changed, scene.source)))


def ccd_sigma(clean: np.ndarray, noise: Noise) -> np.ndarray:
    t, detector = float(noise.exposure[0]), noise.detector
    return np.sqrt((clean + detector.sky) / t + detector.exposures * detector.read_noise**2 / t**2)


def deeplense_i_sigma(clean: np.ndarray, noise: Noise) -> np.ndarray:
    """Its images are counts: in e-/s their noise is sqrt(2 t m + (0.01 t)^2) / t."""
    t = float(noise.exposure[0])
    return np.sqrt(2 * clean / t + 0.01**2)


def by_finite_differences(systems: Systems, observation: Observation, noise: Noise, noise_of=ccd_sigma) -> float:
    """chi-square of the first system: central differences of the image, weights, and numpy's least squares."""
    clean = render(systems.scene, observation)[0].numpy().ravel()
    difference = clean - render(systems.smooth, observation)[0].numpy().ravel()
    columns = []
    for component in systems.smooth.components:
        for parameter in component.parameters:
            if component.name == "shear" and parameter in ("ra_0", "dec_0"):
                continue
            images = (render(shifted(systems.scene, component.name, parameter, s), observation) for s in (1e-5, -1e-5))
            plus, minus = (i[0].numpy().ravel() for i in images)
            columns.append((plus - minus) / 2e-5)
    sigma = noise_of(clean, noise)
    design = np.stack(columns, 1) / sigma[:, None]
    design /= np.linalg.norm(design, axis=0)
    left = difference / sigma
    left = left - design @ np.linalg.lstsq(design, left, rcond=1e-13)[0]
    return float(left @ left)


@pytest.mark.parametrize("preset", ["model_a", "model_b"])
@pytest.mark.parametrize("label", [1, 2])
def test_against_finite_differences_and_least_squares(preset: str, label: int) -> None:
    systems, observation, noise = drawn(preset, label, 1, **{"grid.size": 32, "grid.supersampling": 1})
    expected = by_finite_differences(systems, observation, noise)
    assert expected > 1e-3
    assert float(detectability(systems, [observation], [noise])) == pytest.approx(expected, rel=1e-4)


def test_in_counts() -> None:
    systems, observation, noise = drawn("deeplense_i_legacy", 1, 1, **{"grid.size": 40})
    expected = by_finite_differences(systems, observation, noise, deeplense_i_sigma)
    assert expected > 1.0
    assert float(detectability(systems, [observation], [noise])) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("preset", ["model_a", "deeplense_ii_legacy"])
def test_jacobian_against_finite_differences(preset: str, gate) -> None:
    systems, observation, _ = drawn(preset, 0, 2, **SMALL)
    jacobian, names = macro_jacobian(systems.scene, observation)
    assert jacobian.shape == (2, 32 * 32, len(names))
    assert ("shear", "ra_0") not in names and ("lens", "theta_E") in names and ("source", "amp") in names
    for column, (name, parameter) in enumerate(names):
        plus, minus = (
            render(shifted(systems.scene, name, parameter, s), observation).flatten(1) for s in (1e-6, -1e-6)
        )
        finite = (plus - minus) / 2e-6
        scale = float(finite.abs().max()) + 1e-9
        gate("macro Jacobian", (jacobian[..., column] - finite).abs().max() / scale, 1e-4)


@pytest.mark.parametrize("preset", ["model_a", "model_b", "deeplense_i_legacy"])
def test_zero_without_substructure(preset: str) -> None:
    systems, observation, noise = drawn(preset, 0, 3, **{"grid.size": 24, "grid.supersampling": 1})
    assert detectability(systems, [observation], [noise]).tolist() == [0.0, 0.0, 0.0]


def test_falls_as_the_noise_s_variance() -> None:
    """Read noise alone: ten times as much of it, a hundredth of chi-square."""
    systems, observation, noise = drawn("model_a", 1, 3, **SMALL)
    quiet = replace(noise.detector, read_noise=1e4, sky=0.0)  # so much that the light's own noise is nothing
    loud = replace(quiet, read_noise=1e5)
    a, b = (detectability(systems, [observation], [replace(noise, detector=d)]) for d in (quiet, loud))
    torch.testing.assert_close(a / b, torch.full_like(a, 100.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "name, parameter", [("lens", "theta_E"), ("lens", "gamma"), ("shear", "gamma1"), ("source", "R_sersic")]
)
def test_what_another_lens_could_have_made_is_not_detected(name: str, parameter: str) -> None:
    """A small change of a macro parameter is large in chi-square, and nothing after the refit."""
    systems, observation, noise = drawn("model_a", 0, 2, **SMALL)
    changed = replace(systems, smooth=shifted(systems.smooth, name, parameter, 1e-4))
    left = detectability(changed, [observation], [noise])
    clean, other = (render(s, observation).flatten(1) for s in (changed.scene, changed.smooth))
    sigma2 = noise.recipe.variance(clean, noise.exposure[:, None], noise.detector)
    before = ((clean - other) ** 2 / sigma2).sum(1)
    assert bool((before > 0).all()) and bool((left < 1e-3 * before).all())


def test_where_there_is_no_noise() -> None:
    systems, observation, noise = drawn("deeplense_ii_legacy", 1, 2, **{"grid.size": 16})
    assert detectability(systems, [observation], [noise]).tolist() == [float("inf")] * 2
    smooth, observation, noise = drawn("deeplense_ii_legacy", 0, 2, **{"grid.size": 16})
    assert detectability(smooth, [observation], [noise]).tolist() == [0.0, 0.0]
    assert noise_recipe("deeplense_ii").noiseless


def test_as_an_output_it_has_the_same_bits_in_any_batch() -> None:
    simulator = Simulator("model_a", seed=3, device="cpu", outputs=("detectability",)).override(SMALL)
    whole = simulator.batch(0, 8)
    assert whole.maps["detectability"].shape == (8,) and whole.maps["detectability"].dtype == torch.float32
    order = torch.tensor([6, 1, 1, 4])
    assert torch.equal(simulator.batch(indices=order).maps["detectability"], whole.maps["detectability"][order])
    dark = whole.label > 0
    assert bool((whole.maps["detectability"][dark] > 0).all())
    assert whole.maps["detectability"][~dark].tolist() == [0.0] * int((~dark).sum())


def chi_squares(preset: str, label: int, number: int, **changes) -> torch.Tensor:
    systems, observation, noise = drawn(preset, label, number, **changes)
    return detectability(systems, [observation], [noise])


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["model_a", "model_b"])
@pytest.mark.parametrize("label, name", [(1, "cdm"), (2, "axion")])
def test_the_presets_classes_can_be_seen(preset: str, label: int, name: str) -> None:
    values = chi_squares(preset, label, 60)
    quartiles = torch.quantile(values, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    print(f"{preset} {name}: quartiles {quartiles}")
    assert 25.0 < quartiles[1] < 400.0


POINTS = {"count": 25, "radius": {"uniform": {"low": 0.25, "high": 2.0}}, "softening": 0.0, "population": "cdm_points"}


@pytest.mark.slow
@pytest.mark.parametrize("slope, low, high", [(-1.9, 0.0, 0.1), (-0.9, 400.0, 1e5)])
def test_physical_subhalos_cannot_be_seen_and_published_ones_can(slope: float, low: float, high: float) -> None:
    """25 points on 1e6 .. 1e10 Msun: by m^-1.9 nothing, by the published m^-0.9 a thousand."""
    cdm = POINTS | {"mass": {"power_law": {"slope": slope, "low": 1e6, "high": 1e10}}}
    median = float(chi_squares("model_a", 1, 24, **{"substructure.cdm": cdm}).median())
    print(f"25 points, slope {slope}: median {median}")
    assert low < median < high
