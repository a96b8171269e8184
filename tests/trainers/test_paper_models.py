"""The models of the papers: their sizes, that all of each learns, and that they are what they say."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

import trainers
from trainers import classify, classify_evaluation
from trainers.checkpoint import checkpoints, load_weights, read_checkpoint, write_checkpoint
from trainers.dropout import KeyedDraws
from trainers.errors import ConfigError
from trainers.models.heads import build_with_head, take_encoder
from trainers.models.lensformer import Lensformer
from trainers.models.lenspinn import EinsteinRadius, LensPINN
from trainers.models.locality import LocalityBlock
from trainers.models.registry import OWN, build_model
from trainers.models.shifted_vit import HalfPatchShifts
from trainers.models.vit import ViTConfig

VIT = ViTConfig(patch_size=8, depth=2, width=32, heads=2)
COUNTS = {
    "lenspinn_small": 7_173_654,
    "lenspinn_large": 14_563_726,
    "lensformer": 15_786_693,
    "vitsd": 13_731_877,
    "vit_paper": 13_725_731,
    "cait": 13_767_219,
    "cvt": 13_776_771,
    "resnet18": 11_171_779,
}
PAPERS = [name for name in COUNTS if name != "resnet18"]
STEMS = ["vit_conv", "vit_spt"]


def count(model):
    return sum(own.numel() for own in model.parameters())


def built(name, shape=(1, 64, 64), outputs=3, vit=VIT):
    torch.manual_seed(0)
    return build_model(name, shape, outputs, vit)


def rings(images=4, side=64, radius=14.0, channels=1):
    """Transformed images `[B, C, H, W]` of rings, each with a bright side, in units of noise that they have."""
    axis = torch.arange(side) - (side - 1) / 2
    distance = torch.hypot(axis[:, None], axis[None, :])
    phase = torch.atan2(axis[:, None], axis[None, :]) - torch.arange(images).view(-1, 1, 1, 1)
    noise = torch.randn(images, channels, side, side, generator=torch.Generator().manual_seed(3))
    return torch.asinh(50 * torch.exp(-((distance - radius) ** 2) / 8) * (1.2 + phase.cos()) + noise)


def small_rings(name, images=2):
    """`rings`; for CvT, which takes any size and is slow for its tokens of four pixels, of 32 pixels a side."""
    return rings(images, 32, 7.0) if name == "cvt" else rings(images)


def settled(model, images):
    """The model in evaluation, with batch norms that know these images; newly built they know nothing of any."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
    with torch.no_grad():
        model.train()(images)
    return model.eval()


def gradients(model, images):
    """The largest gradient of each parameter, None where there is none."""
    model.zero_grad()
    functional.cross_entropy(model(images), torch.arange(len(images)) % 3).backward()
    return {name: None if own.grad is None else float(own.grad.abs().max()) for name, own in model.named_parameters()}


def without_gradient(model, images):
    """Which parameters have no gradient, and which have none beyond rounding, here that of float64.

    In training batch norms take away what biases before them add, whose gradients are then rounding alone; what counts
    is seen in evaluation.
    """
    training = gradients(model.train(), images)
    evaluation = gradients(settled(model.double(), images.double()), images[:2].double())
    none = {name for name, size in training.items() if size is None}
    assert none == {name for name, size in evaluation.items() if size is None}
    largest = max(size for size in evaluation.values() if size is not None)
    return none, {
        name for name in training.keys() - none if not training[name] > 0 or not evaluation[name] > 1e-12 * largest
    }


@pytest.mark.parametrize(("name", "parameters"), COUNTS.items())
def test_parameters_are_as_many_as_in_the_papers(name, parameters):
    assert count(built(name)) == parameters


def test_cvt_is_the_papers_with_either_head():
    two = built("cvt", outputs=2)
    assert count(two) == 13_776_578  # results/cvt.json of Lensformer's public code, for two classes
    assert count(two.stages) + count(nn.Linear(256, 2)) == 13_726_978  # TRAINERS.md, also for two


def test_gradients_that_never_come_are_those_of_the_public_code():
    radius = EinsteinRadius((1, 64, 64), 0.0)
    assert count(radius) == 3_855_363  # "3.86 of 7.17 M parameters" (TRAINERS.md)
    block = LocalityBlock(0.0)
    assert count(block.query) + count(block.value) + block.temperature.numel() == 295_681


@pytest.mark.parametrize("name", [*OWN, "resnet18"])
def test_every_parameter_receives_a_gradient(name):
    model = built(name)
    if name == "resnet18":  # timm begins some layers at 0, and what is before them has no gradient yet
        with torch.no_grad():
            for own in model.parameters():
                own.add_(0.1 * torch.randn_like(own))
    side = 32 if name == "cvt" else 64  # it takes any size
    assert without_gradient(model, torch.randn(4, 1, side, side)) == (set(), set())


@pytest.mark.parametrize(("kind", "silent"), [(LensPINN, "radius."), (Lensformer, "correction.")])
def test_the_papers_hard_source_teaches_the_lens_nothing(kind, silent):
    torch.manual_seed(0)
    model = kind((1, 64, 64), 3, hard=True)
    none, zero = without_gradient(model, torch.randn(4, 1, 64, 64))
    assert none == {name for name, _ in model.named_parameters() if name.startswith(silent)} and not zero


@pytest.mark.parametrize("name", [*PAPERS, *STEMS])
def test_features_are_what_the_head_sees(name):
    whole, features = built(name).eval(), built(name, outputs=0).eval()
    own = features.state_dict()
    assert {key: value.shape for key, value in whole.state_dict().items() if key in own} == {
        key: value.shape for key, value in own.items()
    }
    assert own.keys() < whole.state_dict().keys()
    take_encoder(whole, features)
    images = small_rings(name)
    head = next(module for key, module in whole.named_modules() if key.split(".")[-1] in ("head", "mlp_head"))
    seen = []
    head.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        whole(images)
        found = features(images)
        expected = (
            head[:-1](seen[0]) if isinstance(head, nn.Sequential) and isinstance(head[0], nn.LayerNorm) else seen[0]
        )
    assert found.shape == (2, found.shape[1]) and found.shape[1] > 3
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", [*PAPERS, *STEMS])
def test_the_seed_alone_decides(name):
    images = small_rings(name)
    one, two = (built(name).eval()(images) for _ in range(2))
    torch.manual_seed(1)
    other = build_model(name, (1, 64, 64), 3, VIT).eval()(images)
    assert torch.equal(one, two) and not torch.allclose(one, other)


@pytest.mark.parametrize("name", [*PAPERS, *STEMS])
def test_in_evaluation_an_image_does_not_see_its_neighbours(name):
    model = built(name, vit=dataclasses.replace(VIT, dropout=0.5))
    images = small_rings(name, 4)
    with torch.no_grad():
        together = settled(model, images)(images)
        alone = torch.cat([model(image[None]) for image in images])
        changed = images.clone()
        changed[1:] = 3 * images[1:].flip(-1)
        assert torch.allclose(model(changed)[0], together[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)
    assert not torch.allclose(together[0], together[1], rtol=0, atol=1e-4)


SIZES = [(name, shape) for name in (*PAPERS, *STEMS) for shape in ((3, 150, 150), (2, 40, 72), (1, 16, 16))]
SIZES[SIZES.index(("cvt", (3, 150, 150)))] = pytest.param("cvt", (3, 150, 150), marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "shape"), [*SIZES, ("cvt", (3, 50, 50))])
def test_images_of_other_sizes_and_channels(name, shape):
    model = built(name, shape)
    images = torch.asinh(20 * torch.rand(2, *shape))
    found = model(images)
    assert found.shape == (2, 3) and found.isfinite().all()
    # to the last row and column: nothing is cut off
    images = images[:1]
    corner = images.clone()
    corner[:, -1, -1, -1] += 3.0
    model.eval()
    with torch.no_grad():
        assert not torch.equal(model(corner), model(images))


@pytest.mark.parametrize("name", [*PAPERS, *STEMS])
def test_dropout_is_keyed_by_image(name):
    model = built(name, vit=dataclasses.replace(VIT, dropout=0.3)).train()
    draws = KeyedDraws(model, 0, torch.device("cpu"))
    images, index = small_rings(name), torch.arange(2)
    found = []
    for step in (0, 0, 1):
        with draws.at(step, index, 9), torch.no_grad():  # which sees to it that no other generator is asked
            found.append(model(images))
    assert torch.equal(found[0], found[1]) and not torch.allclose(found[0], found[2])


@pytest.mark.parametrize("name", [*PAPERS, *STEMS])
def test_checkpoints_hold_them_whole(name, tmp_path):
    model = built(name)
    model.train()(small_rings(name))
    write_checkpoint(tmp_path, 1, model, torch.optim.SGD(model.parameters()), {"trainer": "classify"}, keep=1)
    torch.manual_seed(9)
    other = build_model(name, (1, 64, 64), 3, VIT)
    load_weights(other, read_checkpoint(tmp_path))
    with torch.no_grad():
        assert torch.equal(other.eval()(small_rings(name)), model.eval()(small_rings(name)))


def test_a_run_is_gone_on_with_and_loaded(tiny, stored, tmp_path, monkeypatch):
    monkeypatch.setattr(classify_evaluation, "draw_test", lambda *_: None)  # it takes longer than the run
    flags = [flag for flag in tiny if not flag.startswith("--decoder")]
    flags += ["--model=lenspinn_small", "--vit.dropout=0.1", "--steps=2", "--validate-every=2", "--checkpoint-every=1"]
    folder = tmp_path / "run"
    assert classify.main([*flags, f"--data={stored}", f"--out={folder}"]) == 0
    whole = read_checkpoint(folder)
    assert classify.main(["--resume", str(checkpoints(folder)[0])]) == 0
    part = read_checkpoint(folder)
    assert whole.about["step"] == part.about["step"] == 2
    assert all(torch.equal(whole.weights[name], part.weights[name]) for name in whole.weights)
    model = trainers.load(folder).model
    assert isinstance(model.module, LensPINN)
    assert model.predict(torch.rand(2, 1, 16, 16)).shape == (2, 3)


def test_a_patch_of_vit_spt_shows_half_a_patch_around_it():
    torch.manual_seed(0)
    tokens = HalfPatchShifts(dim=8, patch_size=4, channels=1)
    images = torch.randn(1, 1, 12, 12)
    with torch.no_grad():
        before = tokens(images)
        for away, seen in ((2, True), (3, False)):  # pixels from the border of the patch in the middle
            changed = images.clone()
            changed[..., 4 - away, 4 - away] += 1.0
            assert (not torch.equal(tokens(changed)[0, 4], before[0, 4])) == seen


def test_options_that_cannot_be():
    with pytest.raises(ConfigError, match=r"vit\.patch_size is 5; --model vit_conv takes 2, 4, 8, 16 or 32"):
        built("vit_conv", vit=dataclasses.replace(VIT, patch_size=5))
    for name in STEMS:
        with pytest.raises(
            ConfigError, match=f"vit_tiny_patch16_224 is of --model vit; leave it out for --model {name}"
        ):
            built(name, vit=ViTConfig(timm_name="vit_tiny_patch16_224"))
        with pytest.raises(ConfigError, match=r"vit\.width is 30 with vit\.heads 4"):
            built(name, vit=ViTConfig(width=30, heads=4))
    with pytest.raises(ConfigError, match="--pretrained: model lenspinn_small has no weights in timm"):
        build_model("lenspinn_small", (1, 64, 64), 3, VIT, pretrained=True)


def test_a_timm_hybrid_with_patches_of_8_is_a_name_away():
    model = built("vit_tiny_r_s16_p8_224")
    assert model(rings(2)).shape == (2, 3)


def test_heads_are_put_on_features_of_all(tmp_path):
    for name in ("lenspinn_small", "cvt", "vit_spt"):
        model = {"name": name, "image_shape": [1, 32, 32], "vit": dataclasses.asdict(VIT), "method": "linear"}
        assert build_with_head(model, 5).eval()(rings(2, side=32, radius=7.0)).shape == (2, 5)
