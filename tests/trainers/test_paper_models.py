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
from trainers.models.brightness import preprocess
from trainers.models.heads import build_with_head, take_encoder
from trainers.models.lensformer import Lensformer, PotentialCorrection
from trainers.models.lenspinn import EinsteinRadius, LensPINN
from trainers.models.locality import LocalityBlock
from trainers.models.patches import pad_to_patches, with_diagonal_shifts
from trainers.models.physics.inverse_lens import InverseLens
from trainers.models.physics.potential import PotentialLens
from trainers.models.physics.preprocess import lenspinn_preprocess
from trainers.models.registry import OWN, build_model
from trainers.models.stems import HalfPatchShifts
from trainers.models.vit import ViTConfig
from trainers.transform import InputTransform

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
        with draws.at(step, index), torch.no_grad():  # which sees to it that no other generator is asked
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


def test_lenspinn_explains_itself():
    torch.manual_seed(0)
    model, images = LensPINN((2, 64, 64), 3).eval(), rings(4, channels=2)
    found = model.explain(images)
    assert torch.equal(found.outputs, model(images))
    assert found.theta_E.shape == (4,) and ((found.theta_E > 0) & (found.theta_E < 32)).all()
    assert torch.allclose(found.theta_E, torch.tensor(16.0), atol=1.0)  # a quarter of the side to begin with
    torch.testing.assert_close(found.source.image, InverseLens("sis")(images, {"theta_E": found.theta_E}).image)
    assert torch.equal(found.preprocessed, preprocess(images, 0.02))
    with torch.no_grad():
        model.radius.radius.bias.fill_(1e4)
        assert (model.explain(images).theta_E == 32).all()  # the bound
        # a lens that does nothing: the source is the image, and their features have no difference
        settled(model, images).radius.radius.bias.fill_(-1e6)
        nothing = model.explain(images)
        assert (nothing.theta_E == 0).all() and torch.equal(nothing.source.image, images)
        model.head = nn.Identity()
        difference, features = model(images).split(1000, dim=1)
        assert (difference == 0).all() and features.std() > 0.01


def test_gradients_through_the_source_find_the_radius_of_a_ring():
    # the light of a ring comes together, in a source, where theta_E is the ring's radius
    torch.manual_seed(0)
    model, images = LensPINN((1, 64, 64), 0), rings(2, radius=19.0)
    axis = torch.arange(64) - 31.5
    distance = torch.hypot(axis[:, None], axis[None, :])
    flux = torch.sinh(images).clamp(min=5.0) - 5.0
    optimizer = torch.optim.Adam(model.radius.parameters(), lr=1e-3)
    radii = []
    for _ in range(20):
        optimizer.zero_grad()
        theta_E = model.radius(images)
        source = model.inverse(flux, {"theta_E": theta_E})
        (source.image * source.weight * distance**2).sum().div(flux.sum()).backward()
        optimizer.step()
        radii.append(float(theta_E.detach().mean()))
    assert abs(radii[0] - 16) < 0.5 and abs(radii[-1] - 19) < 0.5


def test_lenspinn_without_its_parts():
    images = rings(2)
    torch.manual_seed(0)
    plain = LensPINN((1, 64, 64), 3, preprocessing=False)
    assert count(plain) == 7_173_654 and torch.equal(plain.explain(images).preprocessed, images)
    for preprocessing in (True, False):
        alone = LensPINN((1, 64, 64), 3, physics=False, preprocessing=preprocessing)
        assert count(alone) == 1_592_936 + count(plain.head) - 64_000
        found = alone.explain(images)
        assert found.theta_E is None and found.source is None and found.outputs.shape == (2, 3)
        assert torch.equal(found.preprocessed, preprocess(images, 0.02) if preprocessing else images)
        assert without_gradient(alone, torch.randn(4, 1, 64, 64)) == (set(), set())
    assert LensPINN((1, 64, 64), 0, physics=False)(images).shape == (2, 1000)


def test_images_and_sources_share_their_statistics():
    torch.manual_seed(0)
    model, images = LensPINN((1, 64, 64), 3).train(), rings(4)
    norm = next(module for module in model.difference_cnn.modules() if isinstance(module, nn.BatchNorm2d))
    model(images)
    assert norm.num_batches_tracked == 1


def test_lensformer_explains_itself():
    torch.manual_seed(0)
    model, images = Lensformer((1, 64, 64), 3).eval(), rings(4)
    found = model.explain(images)
    assert torch.equal(found.outputs, model(images))
    assert found.k.shape == (4, 1, 64, 64) and torch.allclose(found.k, torch.ones(()), atol=0.01)
    assert torch.allclose(found.theta_E, torch.tensor(16.0), atol=0.1)
    torch.testing.assert_close(found.source.image, PotentialLens()(images, found.k, found.theta_E).image)
    plain = InverseLens("sis")(images, {"theta_E": 16.0}).image  # which it hardly corrects as yet
    assert (found.source.image - plain).abs().mean() < 0.1 * plain.abs().mean()
    assert torch.equal(found.preprocessed, preprocess(images, 0.02))


@pytest.mark.parametrize("size", [(64, 64), (150, 150), (9, 40), (4, 4)])
def test_the_correction_is_bounded_smooth_and_of_one_meaning(size):
    torch.manual_seed(0)
    correction = PotentialCorrection(5, size, 0.0)
    tokens = torch.randn(3, 5, 384)
    with torch.no_grad():
        k, theta_E = correction(tokens)
        assert k.shape == (3, 1, *size) and theta_E.shape == (3,)
        correction.map.bias.fill_(40.0)  # what all pixels have in common is the radius alone
        same, larger = correction(tokens)
        torch.testing.assert_close(same, k, rtol=0, atol=1e-6)
        assert (larger > theta_E).all() and (larger < min(size) / 2).all()
        correction.map.bias.normal_(std=300)  # noise of 7 after division
        rough, _ = correction(tokens)
    assert ((rough - 1).abs() <= 0.2).all() and rough.std() > 0.02
    if min(size) >= 64:
        assert rough.diff(dim=-1).square().mean() < 0.1 * rough.var()


@pytest.mark.parametrize("kind", [LensPINN, Lensformer])
def test_the_lens_is_found_in_full_precision(kind):
    torch.manual_seed(0)
    model, images = kind((1, 64, 64), 3), rings(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.explain(images)
        functional.cross_entropy(found.outputs.float(), torch.arange(4) % 3).backward()
    exact = model.explain(images)
    assert found.theta_E.dtype == torch.float32 and found.outputs.isfinite().all()
    torch.testing.assert_close(found.theta_E, exact.theta_E, rtol=0, atol=0.02)
    assert all(own.grad.isfinite().all() for own in model.parameters())
    if kind is Lensformer:
        slope = (found.k - exact.k).diff(dim=-1).abs().max()
        assert found.k.dtype == torch.float32 and slope < 1e-4  # times a potential of up to 720 pixels squared


def test_preprocessing_undoes_the_transform():
    flux = 0.3 * torch.sinh(rings(3)).clamp(min=0)
    flux[:, :, 0, 0] = 0.0
    expected = lenspinn_preprocess(flux / flux.amax((-2, -1), keepdim=True), 0.02)
    for scale in (0.3, 3.0):
        torch.testing.assert_close(preprocess(InputTransform((scale,))(flux), 0.02), expected, rtol=0, atol=1e-4)
    minmax = preprocess(InputTransform((0.3,), "minmax")(flux), 0.02)
    together = torch.corrcoef(torch.stack((minmax.flatten(), expected.flatten())))[0, 1]
    assert together > 0.9 and 0.7 < minmax.mean() / expected.mean() < 1.1
    assert torch.equal(preprocess(torch.full((1, 1, 8, 8), -1.0), 0.02), torch.zeros(1, 1, 8, 8))


def test_padding_and_shifts():
    images = torch.arange(1.0, 31.0).view(1, 1, 5, 6)
    whole = pad_to_patches(images, 4)
    assert whole.shape == (1, 1, 8, 8)
    assert torch.equal(whole[..., 1:6, 1:7], images) and whole.sum() == images.sum()
    assert pad_to_patches(whole, 4) is not None and torch.equal(pad_to_patches(whole, 4), whole)
    shifted = with_diagonal_shifts(whole, 4)
    assert torch.equal(shifted[:, :1], whole) and shifted.shape == (1, 5, 8, 8)
    seen = {tuple(shifted[0, number].nonzero().float().mean(0).tolist()) for number in range(1, 5)}
    assert len(seen) == 4
    assert torch.equal(shifted[0, 4, 2:, 2:], whole[0, 0, :-2, :-2]) and shifted[0, 4, :2].abs().sum() == 0
    assert torch.equal(shifted[0, 1, :-2, :-2], whole[0, 0, 2:, 2:]) and shifted[0, 1, -2:].abs().sum() == 0


def test_no_token_sees_itself():
    torch.manual_seed(0)
    block = LocalityBlock(0.0).eval()
    tokens = torch.randn(1, 5, 384)
    other = tokens.clone()
    other[0, 2] += 1.0
    with torch.no_grad():
        own, changed = (block.attention_norm(block(keys, query=tokens, value=tokens)) for keys in (tokens, other))
    change = (own - changed).abs().amax(-1)[0]
    assert change[2] == 0 and (change[[0, 1, 3, 4]] > 0).all()


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
