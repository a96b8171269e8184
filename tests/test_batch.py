"""A batch: its tensors move and join together."""

from __future__ import annotations

import pytest
import torch

from lensgen import Batch, Simulator
from lensgen.noise import noise_recipe

TENSORS = ("image", "label", "index")


@pytest.fixture(scope="module")
def batch() -> Batch:
    simulator = Simulator("model_a", seed=1, device="cpu", outputs=("image", "clean"))
    return simulator.override({"grid.size": 6}).batch(0, 10)


def test_what_it_holds(batch: Batch) -> None:
    assert len(batch) == 10 and batch.index.tolist() == list(range(10))
    assert batch.image.shape == batch.maps["clean"].shape == (10, 1, 6, 6)
    assert batch.label.dtype == batch.index.dtype == torch.int64
    assert batch.class_names == ("no_sub", "cdm", "axion") and batch.pixel_scale == 0.1


def test_parts_join_to_the_whole(batch: Batch) -> None:
    parts = [batch.map(lambda t, a=a, b=b: t[a:b]) for a, b in ((0, 3), (3, 4), (4, 10))]
    whole = Batch.cat(parts)
    assert all(torch.equal(getattr(whole, name), getattr(batch, name)) for name in TENSORS)
    assert all(torch.equal(whole.params[k], batch.params[k]) for k in batch.params)
    assert torch.equal(whole.maps["clean"], batch.maps["clean"])


def test_map_reaches_every_tensor(batch: Batch) -> None:
    first = batch.map(lambda t: t[:1])
    tensors = [getattr(first, name) for name in TENSORS] + list(first.params.values()) + list(first.maps.values())
    assert all(len(t) == 1 for t in tensors) and len(tensors) == 3 + len(batch.params) + 1


def test_to_another_device(batch: Batch) -> None:
    moved = batch.to("meta")
    tensors = [getattr(moved, name) for name in TENSORS] + list(moved.params.values()) + list(moved.maps.values())
    assert {t.device.type for t in tensors} == {"meta"}


@pytest.mark.parametrize("preset", ["model_a", "model_b", "deeplense_i_legacy"])
def test_input_scale_is_the_noise_of_an_empty_pixel(preset: str) -> None:
    simulator = Simulator(preset, device="cpu")
    made = simulator.preset
    median = (
        float(made.bands[0].exposure_time.sample(torch.tensor([0.5], dtype=torch.float64)))
        * made.bands[0].detector.exposures
    )
    variance = noise_recipe(made.recipe.name).variance(
        torch.zeros(1, 1), torch.full((1, 1), median), made.bands[0].detector
    )
    assert simulator.input_scale == pytest.approx((float(variance) ** 0.5,), rel=1e-5)


def test_input_scale_of_noise_free_images() -> None:
    simulator = Simulator("deeplense_ii_legacy", seed=5, device="cpu", split="test").override({"grid.size": 24})
    peak = Simulator(simulator.preset, device="cpu").batch(0, 64).image.flatten(1).amax(1).median()
    assert simulator.input_scale == pytest.approx((0.01 * float(peak),))  # one scale for every seed and split
