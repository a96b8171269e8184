"""What classifies: models by name, their views of an image, and that they can learn."""

import numpy as np
import pytest
import torch

from lensgen.errors import UnknownNameError
from trainers.draws import Draws
from trainers.errors import ConfigError
from trainers.models.classifier import build_classifier, predict
from trainers.models.registry import build_model
from trainers.models.vit import ViTConfig
from trainers.transform import InputTransform
from trainers.views import augmented, d4


def fit(model, images, label, steps):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), label).backward()
        optimizer.step()


@pytest.mark.parametrize("name", ["vit", "cnn"])
def test_sixty_four_images_are_fitted_exactly(name, make_blobs):
    torch.manual_seed(0)
    arrays = make_blobs(64)
    noise = 0.5 * torch.randn(64, 1, 16, 16)
    images = torch.asinh(torch.from_numpy(arrays["image"])[:, None] + noise)
    label = torch.from_numpy(np.random.default_rng(3).permutation(arrays["label"]))  # to be learnt by heart
    model = build_model(name, (1, 16, 16), 3, ViTConfig(patch_size=4, depth=2, width=32, heads=2))
    fit(model, images, label, 300 if name == "vit" else 100)
    model.eval()
    assert torch.equal(model(images).argmax(dim=1), label)


def test_the_eight_symmetries_are_the_group_of_the_square():
    image = torch.arange(16.0).view(1, 1, 4, 4).expand(8, -1, -1, -1)
    seen = {tuple(one.flatten().tolist()) for one in d4(image, torch.arange(8))}
    turned = [torch.rot90(image[0, 0], times) for times in range(4)]
    assert seen == {tuple(one.flatten().tolist()) for turn in turned for one in (turn, turn.flip(0))}
    assert torch.equal(d4(image, torch.zeros(8, dtype=torch.long)), image)


def test_augmentation_is_keyed_by_image_and_step():
    index = torch.arange(100, 164)
    images = torch.rand(64, 1, 6, 6)
    draws = Draws(3, 5, index)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    transform = InputTransform((0.5,))
    one = augmented(images, transform, "d4", draws)
    two = augmented(images[order], transform, "d4", Draws(3, 5, index[order]))
    assert torch.equal(one[order], two)
    assert not torch.equal(one, augmented(images, transform, "d4", Draws(3, 6, index)))
    assert torch.equal(transform(images), augmented(images, transform, "none", draws))
    # all eight are drawn, about equally often
    number = (Draws(0, 0, torch.arange(4000)).uniforms("d4", 1)[:, 0] * 8).long()
    count = torch.bincount(number, minlength=8)
    assert count.min() > 400 and count.max() < 600


def test_the_average_over_symmetries_does_not_know_them():
    torch.manual_seed(0)
    model = build_model("vit", (1, 8, 8), 3, ViTConfig(patch_size=4, depth=1, width=16, heads=2)).eval()
    images = torch.rand(5, 1, 8, 8)
    transform = InputTransform((0.1,))
    for number in range(8):
        turned = d4(images, torch.full((5,), number))
        found = predict(model, transform, turned, average_d4=True)
        torch.testing.assert_close(found, predict(model, transform, images, average_d4=True))
    assert not torch.allclose(found, predict(model, transform, images))


@pytest.mark.parametrize("method", ["finetune", "linear"])
@pytest.mark.parametrize("name", ["vit", "cnn", "test_resnet"])
def test_every_trained_parameter_receives_a_gradient(name, method):
    torch.manual_seed(0)
    vit = ViTConfig(patch_size=8, depth=2, width=16, heads=2)
    description = {"name": name, "image_shape": [2, 32, 32], "classes": 3, "vit": vars(vit), "method": method}
    model = build_classifier(description).train()
    with torch.no_grad():  # timm begins some layers at 0, and what is before them has no gradient yet
        for own in model.parameters():
            own.add_(0.1 * torch.randn_like(own))
    torch.nn.functional.cross_entropy(model(torch.randn(8, 2, 32, 32)), torch.arange(8) % 3).backward()
    trained = {name: own for name, own in model.named_parameters() if own.requires_grad}
    assert all(own.grad is not None and own.grad.abs().max() > 0 for own in trained.values())
    assert method == "finetune" or set(trained) == {"head.weight", "head.bias"}


def test_timm_models_at_their_published_size_and_unknown_names():
    count = sum(own.numel() for own in build_model("resnet18", (1, 64, 64), 3, ViTConfig()).parameters())
    assert count == 11_171_779  # TRAINERS.md
    vit = build_model("vit_tiny_patch16_224", (1, 32, 32), 3, ViTConfig(drop_path=0.1))
    assert vit(torch.zeros(2, 1, 32, 32)).shape == (2, 3)
    with pytest.raises(UnknownNameError, match=r"unknown model 'resnt18'\. Did you mean 'resnet18'"):
        build_model("resnt18", (1, 64, 64), 3, ViTConfig())
    with pytest.raises(ConfigError, match="patches of 16 pixels, which do not cut 50 x 50"):
        build_model("vit_tiny_patch16_224", (1, 50, 50), 3, ViTConfig())
    with pytest.raises(ConfigError, match="dropout does nothing to model resnet18"):
        build_model("resnet18", (1, 64, 64), 3, ViTConfig(dropout=0.1))
    with pytest.raises(ConfigError, match="--pretrained: model vit has no weights"):
        build_model("vit", (1, 64, 64), 3, ViTConfig(), pretrained=True)
