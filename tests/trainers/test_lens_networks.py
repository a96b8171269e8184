"""LensPINN and Lensformer from inside: what they explain, their lens, their preprocessing, their tokens."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.trainers.test_paper_models import count, rings, settled, without_gradient
from trainers.models.brightness import preprocess
from trainers.models.lensformer import Lensformer, PotentialCorrection
from trainers.models.lenspinn import LensPINN
from trainers.models.locality import LocalityBlock
from trainers.models.patches import pad_to_patches, with_diagonal_shifts
from trainers.models.physics import InverseLens, PotentialLens, lenspinn_preprocess
from trainers.transform import InputTransform


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
