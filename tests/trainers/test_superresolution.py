"""The model that sharpens images: what it starts at, what its parts do, and that it can learn."""

import pytest
import torch

from trainers.errors import ConfigError
from trainers.image_metrics import image_scores
from trainers.image_pairs import Pairs, downsample, upsample
from trainers.models.superresolution import FluxUnits, SuperDecoderConfig, SuperResolver, prime_factors
from trainers.models.vit import ViTConfig

VIT = ViTConfig(patch_size=8, depth=1, width=32, heads=2)
PLAIN = FluxUnits(1.0, 1.0)
TASKS = {"16to64": ((1, 16, 16), 64), "64to128": ((1, 64, 64), 128)}


def resolver(task="16to64", entry="upsample", kind="pixelshuffle", units=PLAIN, vit=VIT, encoder=None):
    torch.manual_seed(0)
    decoder = SuperDecoderConfig(kind, depth=1, width=16, heads=2)
    return SuperResolver(*TASKS[task], vit, entry, decoder, units, encoder)


@pytest.mark.parametrize("units", [FluxUnits(16.0, 0.3), FluxUnits(16.0, None)])
def test_an_untrained_model_is_bicubic_upsampling_exactly(units):
    low = torch.rand(3, 1, 16, 16)
    model = resolver(units=units)
    expected = torch.nn.functional.interpolate(low / 16, scale_factor=4, mode="bicubic", align_corners=False)
    assert torch.equal(model(torch.asinh(low), low), expected)


def test_a_model_of_strided_pixels_reads_and_corrects_the_registered_image():
    torch.manual_seed(0)
    offset = Pairs("16to64", "downsample", "nearest").offset
    model = SuperResolver(
        (1, 16, 16), 64, VIT, "upsample", SuperDecoderConfig(depth=1, width=16), PLAIN, offset=offset
    )  # fmt: skip
    low = torch.rand(2, 1, 16, 16)
    registered = upsample(low, 64, offset)
    assert torch.equal(model(low, low), registered)
    assert torch.equal(model.tokens(low), model.tokens(registered))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("entry", ["upsample", "resample"])
@pytest.mark.parametrize("kind", ["pixelshuffle", "transformer"])
def test_every_parameter_receives_a_gradient(task, entry, kind):
    model = resolver(task, entry, kind)
    # the last layer begins at zero and lets no gradient through to the others in the first step
    torch.nn.init.normal_(model.decoder.predict.weight)
    low = torch.rand(2, *TASKS[task][0])
    fine = model(low, low)
    assert fine.shape == (2, 1, TASKS[task][1], TASKS[task][1])
    (fine - torch.rand_like(fine)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_a_transformer_decoder_puts_each_token_where_its_patch_is():
    model = resolver(kind="transformer").decoder
    torch.nn.init.normal_(model.predict.weight)
    model.blocks = torch.nn.Identity()  # attention would carry a token's content elsewhere
    tokens = torch.zeros(1, 64, 32)
    before = model(tokens)
    tokens[0, 8 * 3 + 5] = 1 + torch.rand(32)
    changed = (model(tokens) != before)[0, 0]
    assert changed[24:32, 40:48].any() and int(changed.sum()) == int(changed[24:32, 40:48].sum())


def test_smaller_patches_make_the_tokens_of_the_image_with_its_pixels_repeated():
    upsampled, resampled = resolver(), resolver(entry="resample")
    assert resampled.encoder.patch_embed.proj.weight.shape == (32, 1, 2, 2)
    torch.testing.assert_close(resampled.encoder.pos_embed, upsampled.encoder.pos_embed)
    low = torch.rand(2, 1, 16, 16)
    repeated = low.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    torch.testing.assert_close(resampled.tokens(low), upsampled.tokens(repeated), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(resampled.tokens(low), upsampled.tokens(low), atol=1e-3)


def test_a_patch_size_that_cannot_be_divided_is_refused():
    with pytest.raises(ConfigError, match=r"patch_size 2 is no multiple of 4.*--entry upsample.* 4, 8, 16, 32"):
        resolver(entry="resample", vit=ViTConfig(patch_size=2, depth=1, width=32, heads=2))
    with pytest.raises(ConfigError, match=r"decoder.width is 30 with decoder.heads 4"):
        SuperDecoderConfig("transformer", width=30)
    assert [prime_factors(number) for number in (1, 2, 12, 35)] == [[], [2], [2, 2, 3], [5, 7]]


def test_paper_units_know_only_the_low_image():
    units, low = FluxUnits(4.0, None), 4 * (1 + torch.rand(2, 3, 8, 8))
    scaled = units.scaled(upsample(low / 4, 8), low)
    assert scaled.amin((-2, -1)).tolist() == [[0] * 3] * 2 and scaled.amax((-2, -1)).tolist() == [[1] * 3] * 2
    fixed = FluxUnits(4.0, 2.0)
    torch.testing.assert_close(fixed.scaled(low, low), low / 2)


@pytest.mark.parametrize(("kind", "width", "steps"), [("pixelshuffle", 32, 110), ("transformer", 64, 220)])
def test_64_images_can_be_learnt_exactly(kind, width, steps):
    torch.manual_seed(0)
    axis, place = torch.arange(32.0), 8 + 16 * torch.rand(64, 2, 1)
    spots = torch.exp(-((axis - place).square()) / 5)  # narrower than a large pixel
    high = (spots[:, :1].transpose(1, 2) * spots[:, 1:])[:, None]
    low = downsample(high, 4, "area")
    model = SuperResolver(
        (1, 8, 8), 32, ViTConfig(patch_size=8, depth=1, width=64, heads=4), "upsample",
        SuperDecoderConfig(kind, depth=1, width=width), PLAIN, encoder_side=32,
    )  # fmt: skip
    bicubic = float(image_scores(model.bicubic(low), high)["psnr"].mean())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(low, low) - high).square().mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        learnt = float(image_scores(model(low, low), high)["psnr"].mean())
    assert bicubic < 30 and learnt > 45, (bicubic, learnt)


# runs
