"""A JEPA from inside: nothing of the targets reaches the context, what is learned, and the running mean."""

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.nn import functional

from trainers.draws import Draws
from trainers.errors import ConfigError
from trainers.models.block_masks import BlockMaskConfig
from trainers.models.jepa import JEPA, NAMES, PredictorConfig, jepa_loss, take, tokens_of
from trainers.models.lens_encoder import LensEncoder
from trainers.models.patches import pad_to_patches, visible_pixels
from trainers.models.registry import build_model
from trainers.models.vit import ViTConfig

VIT = ViTConfig(patch_size=8, depth=2, width=32, heads=2)
ENCODERS = list(NAMES)


def built(encoder, shape=(1, 40, 40), vit=VIT, seed=0):
    torch.manual_seed(seed)
    return JEPA(NAMES[encoder], shape, vit, PredictorConfig(1, 16, 2), BlockMaskConfig())


def rings(images=3, shape=(1, 40, 40)):
    generator = torch.Generator().manual_seed(2)
    axis = torch.arange(shape[-1]) - (shape[-1] - 1) / 2
    radius = torch.hypot(axis[:, None], axis)
    ring = 4 * torch.exp(-((radius - shape[-1] / 4) ** 2) / 8)
    return ring + torch.randn(images, *shape, generator=generator)


def masks_of(model, images):
    return model.masks(Draws(0, 0, torch.arange(len(images))))


def hidden_pixels(model, masks, images):
    """Boolean `[B, 1, H, W]`: of the target blocks."""
    blocks = masks.hidden.any(1).flatten(1)
    return torch.stack(
        [
            visible_pixels(own.nonzero()[:, 0][None], image[None], model.patch_size)[0] > 0
            for own, image in zip(blocks, images, strict=True)
        ]
    )


# a plain ViT's patches must divide the image; the others are padded
@pytest.mark.parametrize(
    ("encoder", "size"), [("vit", 40), ("vitsd", 40), ("vitsd", 36), ("physics", 40), ("physics", 36)]
)
def test_changed_target_pixels_leave_context_features_as_they_are(encoder, size):
    shape = (1, size, size)
    model, images = built(encoder, shape).eval(), rings(shape=shape)
    masks = masks_of(model, images)
    hidden = hidden_pixels(model, masks, images)
    assert hidden.flatten(1).any(1).all() and not hidden.flatten(1).all(1).any()
    with torch.no_grad():
        before = model(images, masks.context, masks.targets)
        for other in (images + 50 * torch.rand_like(images), torch.full_like(images, torch.nan)):
            changed = torch.where(hidden, other, images)
            after = tokens_of(model.encoder, changed, masks.context)
            assert torch.equal(after, tokens_of(model.encoder, images, masks.context))
            assert torch.equal(model(changed, masks.context, masks.targets)["predicted"], before["predicted"])
        changed = torch.where(hidden, images + 1.0, images)
        assert not torch.equal(model(changed, masks.context, masks.targets)["target"], before["target"])
        # and it is no accident: they do see the context
        shown = visible_pixels(masks.context, images, model.patch_size) > 0
        seen = tokens_of(model.encoder, torch.where(shown, images + 1.0, images), masks.context)
        assert not torch.allclose(seen, tokens_of(model.encoder, images, masks.context))


def test_neither_lens_nor_source_of_the_context_knows_the_targets():
    model, images = built("physics").eval(), rings()
    masks = masks_of(model, images)
    changed = torch.where(hidden_pixels(model, masks, images), images * 7 + 3, images)
    with torch.no_grad():
        one, two = (model.encoder.explain(own, masks.context) for own in (images, changed))
        assert torch.equal(one.theta_E, two.theta_E) and torch.equal(one.k, two.k)
        assert torch.equal(one.source.image, two.source.image)
        # masked after the lens, as the paper's figure has it, it would
        late = [model.encoder.tokens(own) for own in (images, changed)]
        chosen = masks.context.unsqueeze(-1).expand(-1, -1, late[0].shape[-1])
        assert not torch.equal(late[0].gather(1, chosen), late[1].gather(1, chosen))


def test_what_is_hidden_is_unknown_to_the_source_and_not_dark():
    encoder, images = built("physics").eval().encoder, torch.full((1, 1, 40, 40), 3.0)
    with torch.no_grad():
        shown = torch.arange(0, 25, 2)[None]
        source = encoder.explain(images, shown).source
        weight = visible_pixels(shown, images, 8)
        k, theta_E = encoder.estimate(torch.cat((images * weight, weight), 1))
        lit = encoder.inverse(torch.cat((images, weight), 1), k, theta_E)
        enough = (lit.image[:, 1:] > 0.3) & (lit.weight > 0.2)
        assert enough.any() and torch.allclose(source.image[enough], torch.tensor(3.0), atol=1e-5)
        none = lit.image[:, 1:] == 0
        assert none.any() and (source.image[none] == 0).all()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_parameter_receives_a_gradient(encoder):
    model, images = built(encoder).train(), rings(6)
    masks = masks_of(model, images)
    jepa_loss(model(images, masks.context, masks.targets)).mean().backward()
    trained = {name for name, own in model.named_parameters() if own.requires_grad}
    fixed = {name for name, _ in model.named_parameters()} - trained
    gradients = {name: model.get_parameter(name).grad for name in trained}
    assert {name for name, own in gradients.items() if own is None or not own.any()} == set()
    assert all(own.isfinite().all() for own in gradients.values())
    places = {"encoder.pos_embed"} if encoder == "vit" else set()  # sines and cosines
    assert fixed == {f"target.{name}" for name, _ in model.target.named_parameters()} | places | {
        "predictor.decoder.pos_embed"
    }


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 1, 40, 40), 1e4 * rings(2), -rings(2)], ids=["empty", "bright", "dark"]
)
def test_gradients_of_the_lens_are_finite_whatever_is_seen(images):
    model = built("physics")
    masks = masks_of(model, images)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(images, masks.context, masks.targets)
        (jepa_loss(outputs).mean() + outputs["theta_E"].mean()).backward()
    assert all(own.grad.isfinite().all() for own in model.parameters() if own.requires_grad)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_target_encoder_is_the_running_mean_by_hand(encoder):
    model, images = built(encoder), rings(4)
    masks = masks_of(model, images)
    optimizer = torch.optim.SGD([own for own in model.parameters() if own.requires_grad], lr=0.5)
    expected = [copy.deepcopy(own.data).double() for own in model.target.parameters()]
    assert all(
        torch.equal(own, other)
        for own, other in zip(model.encoder.parameters(), model.target.parameters(), strict=True)
    )
    for momentum in (0.9, 0.5, 0.99, 1.0):
        jepa_loss(model(images, masks.context, masks.targets)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        model.move_target(momentum)
        expected = [
            momentum * mean + (1 - momentum) * own.data.double()
            for mean, own in zip(expected, model.encoder.parameters(), strict=True)
        ]
    for mean, own in zip(expected, model.target.parameters(), strict=True):
        torch.testing.assert_close(own.data.double(), mean, rtol=1e-6, atol=1e-7)
    assert any(
        not torch.equal(own, mean)
        for own, mean in zip(model.encoder.parameters(), model.target.parameters(), strict=True)
    )
    before = [own.clone() for own in model.target.parameters()]
    model.move_target(1.0)
    assert all(torch.equal(own, other) for own, other in zip(before, model.target.parameters(), strict=True))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_each_block_is_predicted_by_itself_and_where_it_lies(encoder):
    model, images = built(encoder).eval(), rings()
    masks = masks_of(model, images)
    with torch.no_grad():
        model.predictor.decoder.mask_token.normal_()
        found = model(images, masks.context, masks.targets)
        turned = model(images, masks.context, masks.targets.flip(1).flip(2))
        torch.testing.assert_close(turned["predicted"].flip(1).flip(2), found["predicted"], rtol=0, atol=1e-5)
        torch.testing.assert_close(turned["target"].flip(1).flip(2), found["target"])
        alone = model(images[1:2], masks.context[1:2], masks.targets[1:2, 2:3])
        torch.testing.assert_close(alone["predicted"][0, 0], found["predicted"][1, 2], rtol=0, atol=1e-5)
    tokens = model.compared(images)
    for image in range(3):
        for block in range(4):
            assert torch.equal(found["target"][image, block], tokens[image, masks.targets[image, block]])
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(3, 25), rtol=0, atol=1e-5)


def test_the_loss_is_smooth_l1_of_each_image():
    predicted, target = torch.randn(2, 5, 4, 3, 8) * 2
    expected = torch.stack([functional.smooth_l1_loss(*own) for own in zip(predicted, target, strict=True)])
    torch.testing.assert_close(jepa_loss({"predicted": predicted, "target": target}), expected)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_features_are_the_mean_of_all_tokens(encoder):
    model, images = built(encoder).eval(), rings()
    every = torch.arange(25).expand(3, -1)
    with torch.no_grad():
        tokens = tokens_of(model.target, images)
        torch.testing.assert_close(model.features(images), tokens.mean(1))
        torch.testing.assert_close(tokens_of(model.target, images, every), tokens)  # all shown, one by one
        network = build_model(NAMES[encoder], (1, 40, 40), 0, VIT).eval()
        network.load_state_dict(model.target.state_dict())
        assert torch.equal(network(images), model.features(images))


def test_the_target_encoder_drops_nothing():
    vit = ViTConfig(patch_size=8, depth=2, width=32, heads=2, dropout=0.5)
    model, images = built("physics", vit=vit).train(), rings()
    assert torch.equal(model.features(images), model.features(images))
    assert not torch.equal(model.encoder(images), model.encoder(images))


def test_a_patch_is_visible_where_padding_puts_it():
    images = torch.zeros(2, 1, 36, 30)
    patches = torch.tensor([[0, 7], [3, 19]])
    visible = visible_pixels(patches, images, 8)
    padded = torch.zeros(2, 5, 4)
    padded.flatten(1).scatter_(1, patches, 1.0)
    assert pad_to_patches(images, 8).shape[-2:] == (40, 32)
    for image in range(2):
        for row in range(36):
            for column in range(30):
                assert visible[image, 0, row, column] == padded[image, (row + 2) // 8, (column + 1) // 8]


def test_take_gathers_tokens():
    tokens, places = torch.randn(2, 6, 3), torch.randint(6, (2, 4, 5))
    found = take(tokens, places)
    assert all(
        torch.equal(found[b, m, place], tokens[b, places[b, m, place]])
        for b in range(2)
        for m in range(4)
        for place in range(5)
    )


def test_a_jepa_explains_by_its_target_encoder():
    model, images = built("physics").eval(), rings()
    with torch.no_grad():
        assert torch.equal(model.explain(images).theta_E, model.target.einstein_radius(images))
    with pytest.raises(ConfigError, match="only the encoder of --encoder physics rebuilds sources"):
        built("vit").explain(images)


def test_the_lens_encoder_explains_a_batch_of_any_size_and_channels():
    for shape in ((1, 40, 40), (3, 37, 50)):
        torch.manual_seed(0)
        encoder, images = LensEncoder(shape, 3, VIT).eval(), torch.randn(2, *shape)
        found = encoder(images, explained=True)
        assert found.outputs.shape == (2, 3) and found.k.shape == (2, 1, *shape[1:])
        assert found.source.image.shape == images.shape and found.preprocessed is None
        assert torch.equal(found.outputs, encoder(images))
        torch.testing.assert_close(encoder.einstein_radius(images), found.theta_E)
        assert ((found.theta_E > 0) & (found.theta_E < min(shape[1:]) / 2)).all()
        assert ((found.k - 1).abs() < 0.2).all() and found.k.std() > 0


@pytest.mark.parametrize("encoder", ["vit", pytest.param("physics", marks=pytest.mark.slow)])
def test_steps_compile_once(encoder):
    """Whatever the masks, their lengths are the same."""
    torch._dynamo.reset()
    model, images, counter = built(encoder), rings(), CompileCounter()
    model.compile(backend=counter)
    counts = []
    for step in range(3):
        masks = model.masks(Draws(0, step, torch.arange(len(images))))
        jepa_loss(model(images, masks.context, masks.targets)).mean().backward()
        counts.append(counter.frame_count)
    assert counts[0] > 0 and counts == counts[:1] * 3


@pytest.mark.parametrize(("encoder", "patch", "grid"), [("vit", 15, 10), ("vitsd", 16, 10), ("physics", 32, 5)])
def test_the_papers_images_are_padded_or_cut_into_patches_of_15(encoder, patch, grid):
    vit = ViTConfig(patch_size=patch, depth=1, width=16, heads=2)
    model, images = built(encoder, (1, 150, 150), vit), torch.randn(2, 1, 150, 150)
    masks = masks_of(model, images)
    assert model.grid == grid and model.features(images).shape == (2, 16)
    assert model(images, masks.context, masks.targets)["predicted"].isfinite().all()
