"""The model: what it masks, what it learns from, and what it refuses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lensgen.errors import UnknownNameError
from trainers.config import OptimizerConfig
from trainers.draws import Draws
from trainers.errors import ConfigError
from trainers.models.masked_autoencoder import DecoderConfig, MaskedAutoencoder, masked_mse
from trainers.models.vit import ViTConfig, build_vit
from trainers.optimizer import build_optimizer


def tiny_model(side=16, channels=1, **vit):
    torch.manual_seed(0)
    return MaskedAutoencoder(
        (channels, side, side),
        ViTConfig(**{"patch_size": 4, "depth": 1, "width": 32, "heads": 2, **vit}),
        DecoderConfig(depth=1, width=32, heads=2),
    )


def mask(model, size, ratio, key=1):
    return model.random_mask(Draws(key, 1, torch.arange(size)), ratio)


def loss_of(model, images, key=1, ratio=0.75, norm_pix=False):
    keep, masked = mask(model, len(images), ratio, key)
    return masked_mse(model(images, keep, masked), model.targets(images, norm_pix), masked)


@pytest.mark.parametrize("norm_pix", [False, True])
def test_every_trained_parameter_receives_a_gradient(norm_pix):
    model = tiny_model(channels=2)
    loss_of(model, torch.randn(4, 2, 16, 16), norm_pix=norm_pix).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_one_batch_can_be_overfitted():
    model, images = tiny_model(), torch.rand(4, 1, 16, 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    first = loss_of(model, images).item()
    for _ in range(500):
        optimizer.zero_grad()
        loss = loss_of(model, images)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 * first


def test_64_images_can_be_learnt_exactly(make_blobs):
    """Each under one mask of its own: what is hidden of an image is then a thing that can be known."""
    images, steps = torch.from_numpy(make_blobs(64)["image"])[:, None], 1600
    torch.manual_seed(0)
    vit, decoder = ViTConfig(patch_size=8, depth=1, width=64, heads=4), DecoderConfig(depth=1, width=64, heads=4)
    model = MaskedAutoencoder((1, 16, 16), vit, decoder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, images)
        loss.backward()
        optimizer.step()
        schedule.step()
    assert loss.item() < 0.02**2  # below the noise of the pixels, which is no longer a surprise


@settings(max_examples=25, deadline=None)
@given(ratio=st.floats(0.5, 0.95), key=st.integers(0, 2**62 - 1), size=st.integers(1, 5))
def test_masks_split_the_tokens_and_spare_the_class_token(ratio, key, size):
    keep, masked = mask(tiny_model(side=32), size, ratio, key)
    both = torch.cat([keep, masked], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(65).expand(size, -1))
    assert (keep == 0).any(dim=1).all()
    assert abs(masked.shape[1] / 64 - ratio) <= 1 / 64


def test_masks_depend_on_the_key_alone():
    model = tiny_model()
    one = mask(model, 4, 0.75, 5)
    torch.rand(100)
    state = torch.get_rng_state()
    two = mask(model, 4, 0.75, 5)
    assert torch.equal(one[0], two[0]) and torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(one[0], mask(model, 4, 0.75, 6)[0])


def test_the_mask_of_an_image_does_not_depend_on_its_batch():
    model, index = tiny_model(side=32), torch.tensor([7, 3, 10**12])
    together = model.random_mask(Draws(5, 2, index), 0.75)
    alone = [model.random_mask(Draws(5, 2, one), 0.75) for one in index.split(1)]
    for k in (0, 1):
        assert torch.equal(together[k], torch.cat([masks[k] for masks in alone]))
    assert not torch.equal(together[0], model.random_mask(Draws(5, 3, index), 0.75)[0])  # another step


def test_a_quarter_of_64_patches_is_16():
    keep, masked = mask(tiny_model(side=32), 2, 0.75)
    assert (keep.shape, masked.shape) == ((2, 17), (2, 48))


def test_hidden_pixels_do_not_reach_the_prediction():
    model, images = tiny_model(), torch.rand(2, 1, 16, 16)
    keep, masked = mask(model, 2, 0.75, 1)
    painted = model.paste(images, torch.full((2, masked.shape[1], 16), 9.0), masked)
    assert not torch.equal(images, painted)
    torch.testing.assert_close(model(images, keep, masked), model(painted, keep, masked), rtol=0, atol=0)


@pytest.mark.parametrize("norm_pix", [False, True])
def test_pasting_true_targets_gives_the_image_back(norm_pix):
    model, images = tiny_model(channels=3), torch.rand(2, 3, 16, 16)
    _, masked = mask(model, 2, 0.75, 1)
    truth = model.targets(images, norm_pix).gather(1, (masked - 1)[..., None].expand(-1, -1, 48))
    torch.testing.assert_close(model.paste(images, truth, masked, norm_pix), images, rtol=0, atol=1e-5)


def test_no_visible_patch_is_refused():
    with pytest.raises(ConfigError, match="leaves none of 16 patches visible"):
        mask(tiny_model(), 2, 0.95, 0)


def test_patch_size_must_divide_and_the_message_names_those_that_do():
    with pytest.raises(ConfigError, match=r"patch_size is 7.*64 pixels.*sizes that do: 1, 2, 4, 8, 16, 32\."):
        build_vit(ViTConfig(patch_size=7), (1, 64, 64))
    with pytest.raises(ConfigError, match="patch_size is 16"):
        build_vit(ViTConfig(patch_size=16), (1, 16, 16))


def test_other_impossible_models_are_refused():
    with pytest.raises(ConfigError, match="square"):
        build_vit(ViTConfig(), (1, 64, 32))
    with pytest.raises(ConfigError, match=r"width is 100 with vit.heads 3.*Try vit.width 96"):
        build_vit(ViTConfig(width=100, heads=3), (1, 64, 64))
    with pytest.raises(ConfigError, match=r"decoder.width"):
        DecoderConfig(width=30, heads=4)
    with pytest.raises(UnknownNameError, match="Names like it: vit_small_patch16_224"):
        build_vit(ViTConfig(timm_name="vit_smal_patch16_224"), (1, 64, 64))


def test_a_timm_model_by_name():
    vit = build_vit(ViTConfig(timm_name="vit_tiny_patch16_224", patch_size=8), (1, 32, 32))
    assert vit.embed_dim == 192 and vit.patch_embed.num_patches == 16


def test_biases_norms_and_tokens_do_not_decay():
    model = tiny_model()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optimizer(model, OptimizerConfig(), fused=False).param_groups
    decayed = {names[id(p)] for group in groups if group["weight_decay"] > 0 for p in group["params"]}
    assert decayed and all(name.endswith("weight") and "norm" not in name for name in decayed)
    undecayed = {names[id(p)] for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    assert {"encoder.vit.cls_token", "decoder.mask_token"} <= undecayed
    assert decayed | undecayed == {names[id(p)] for p in model.parameters() if p.requires_grad}
