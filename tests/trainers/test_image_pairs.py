"""Pairs of a coarse and a fine image of one lens: by optics, by down-sampling, and what cannot be paired."""

import pytest
import torch

import lensgen
from trainers.config import DataConfig
from trainers.errors import ConfigError, DataError
from trainers.image_pairs import Pairs, downsample, upsample

TASKS = {"16to64": ((1, 16, 16), 64), "64to128": ((1, 64, 64), 128)}


@pytest.mark.parametrize("preset", ["model_a", pytest.param("hst", marks=pytest.mark.slow)])
def test_larger_pixels_see_the_same_lens_through_the_same_optics(preset):
    pairs = Pairs("16to64", "optics")
    changes = lensgen.parse_overrides(pairs.on(DataConfig(stream=True, preset=preset)).set)
    coarse = lensgen.Simulator(preset, device="cpu", outputs=("clean", "image_hr"), hr_factor=4).override(changes)
    batch = coarse.batch(0, 6)
    fine = lensgen.Simulator(preset, device="cpu", outputs=("clean",)).batch(0, 6)
    assert batch.pixel_scale == pytest.approx(4 * fine.pixel_scale)
    for name, values in fine.params.items():
        assert torch.equal(values, batch.params[name]), name
    low, high = pairs.of(batch)
    assert low.shape == (6, 1, 16, 16) and low is batch.image
    torch.testing.assert_close(high, fine.maps["clean"], rtol=1e-5, atol=1e-7)
    sums = pairs.flux_ratio * downsample(fine.maps["clean"], 4, "area")
    torch.testing.assert_close(batch.maps["clean"], sums, rtol=1e-4, atol=1e-5 * float(sums.max()))


def test_twice_the_pixels_leave_the_preset_as_it_is():
    config = DataConfig(stream=True, preset="model_a")
    pairs = Pairs("64to128", "optics")
    assert pairs.on(config) == config and pairs.outputs == ("image", "image_hr") and pairs.factor == 2
    batch = lensgen.Simulator("model_a", device="cpu", outputs=(*pairs.outputs, "clean"), hr_factor=2).batch(0, 2)
    low, high = pairs.of(batch)
    assert torch.equal(low, batch.image) and high.shape == (2, 1, 128, 128)
    sums = 4 * downsample(high, 2, "area")
    torch.testing.assert_close(batch.maps["clean"], sums, rtol=1e-3, atol=1e-4 * float(sums.max()))


def test_a_stream_to_be_downsampled_has_finer_pixels_on_the_same_field():
    changed = Pairs("64to128", "downsample").on(DataConfig(stream=True, preset="model_a"))
    fine = lensgen.Simulator("model_a", device="cpu").override(lensgen.parse_overrides(changed.set))
    assert fine.image_shape == (1, 128, 128) and fine.preset.bands[0].observation.pixel_scale == 0.05
    assert fine.preset.classes["cdm"].softening == 0.4  # pixels: as many arcsec as before
    assert Pairs("16to64", "downsample").on(DataConfig(stream=True)).set == ()


def test_downsampling_keeps_units_and_place():
    image = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(downsample(image, 4, "area")[0, 0, 1, 2], image[0, 0, 4:8, 8:12].mean())
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    for by in ("area", "bicubic"):
        back = upsample(downsample(ramp, 4, by), 64)
        # torch's bicubic does not quite keep a ramp; a shift by a pixel would be .016
        torch.testing.assert_close(back[..., 12:-12], ramp[..., 12:-12], rtol=0, atol=0.004)


@pytest.mark.parametrize("task", TASKS)
def test_strided_pixels_are_upsampled_from_where_they_were_taken(task):
    pairs = Pairs(task, "downsample", "nearest")
    side, factor = pairs.high_side, pairs.factor
    across = torch.linspace(0, 1, side).expand(1, 1, side, side)
    for ramp in (across, across.transpose(2, 3)):  # a shift of both axes, or of one alone, would be seen
        low = downsample(ramp, factor, "nearest")
        assert torch.equal(low, torch.nn.functional.interpolate(ramp, scale_factor=1 / factor, mode="nearest"))
        registered, plain = upsample(low, side, pairs.offset), upsample(low, side)
        inner = (..., slice(12, -12), slice(12, -12))
        torch.testing.assert_close(registered[inner], ramp[inner], rtol=0, atol=0.25 / side)
        shift = (ramp - plain)[inner].mean() * (side - 1)
        assert float(shift) == pytest.approx((factor - 1) / 2, abs=0.01)  # fine pixels
        torch.testing.assert_close(registered[..., ::factor, ::factor], low, rtol=0, atol=1e-5)
    assert Pairs(task, "optics", "nearest").offset == Pairs(task, "downsample", "area").offset == 0


def test_upsampling_from_elsewhere_is_torchs_in_the_limit():
    image = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(upsample(image, 64, 1e-9), upsample(image, 64), rtol=0, atol=2e-5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("low", ["optics", "downsample"])
def test_inputs_are_in_the_units_of_the_images_that_encoders_are_pretrained_on(task, low):
    pairs, config = Pairs(task, low), DataConfig(stream=True, preset="model_a")
    changes = lensgen.parse_overrides(pairs.on(config).set)
    simulator = lensgen.Simulator("model_a", device="cpu", outputs=pairs.outputs, hr_factor=pairs.factor)
    image, _ = pairs.of(simulator.override(changes).batch(0, 16))
    own = lensgen.Simulator("model_a", device="cpu").batch(0, 16).image
    # the finer pixels of 64to128 get noise of their own, so this is not exact
    assert pairs.input_ratio(config) == pytest.approx(float(image.mean() / own.mean()), rel=0.05)
    assert Pairs(task, "downsample").input_ratio(DataConfig(stream=True, preset="deeplense_ii_legacy")) == 1


def test_pairs_that_cannot_be_are_refused():
    optics = Pairs("16to64", "optics")
    with pytest.raises(ConfigError, match=r"observes each lens twice.*--low downsample"):
        optics.on(DataConfig(data="set.npz"))
    with pytest.raises(ConfigError, match=r"deeplense_ii_legacy are in another unit.*Fix: --low downsample"):
        optics.on(DataConfig(stream=True, preset="deeplense_ii_legacy"))
    with pytest.raises(ConfigError, match=r"lens_jepa_a has 150 x 150\. Fix: --set grid.size=64"):
        optics.on(DataConfig(stream=True, preset="lens_jepa_a"))
    with pytest.raises(ConfigError, match=r"Fix: --set psf.supersampled=true"):
        optics.on(DataConfig(stream=True, preset="model_a", set=("psf.supersampled=false",)))
    small = lensgen.Simulator("model_a", device="cpu").override({"grid.size": 32}).batch(0, 1)
    with pytest.raises(DataError, match="takes images of 64 x 64 pixels; these have 32 x 32"):
        Pairs("16to64", "downsample").of(small)


# the model
