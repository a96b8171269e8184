"""Dropout that depends on the image, and not on the process or on what was drawn before."""

import pytest
import torch
from timm.layers import DropPath
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from trainers.draws import Draws
from trainers.dropout import Current, KeyedDraws, KeyedDropout, key_dropout
from trainers.errors import ConfigError

CPU = torch.device("cpu")


def keyed(layer, index, values, step=3, seed=0):
    current = Current()
    model = nn.Sequential(layer)
    key_dropout(model, current)
    current.set(Draws(seed, step, torch.as_tensor(index)))
    return model(values)


@pytest.mark.parametrize(
    ("layer", "masks"),
    [(nn.Dropout(0.3), (64, 50, 40)), (nn.Dropout1d(0.3), (64, 50, 1)), (DropPath(0.3), (64, 1, 1))],
)
def test_rate_scale_and_shape_of_the_masks(layer, masks):
    values = keyed(layer, range(64), torch.ones(64, 50, 40))
    kept = values != 0
    assert torch.allclose(values[kept], torch.tensor(1 / 0.7))
    pattern = kept[:, : masks[1], : masks[2]]
    assert torch.equal(kept, pattern.expand_as(kept))
    deviation = (0.3 * 0.7 / pattern.numel()) ** 0.5
    assert abs(float(pattern.float().mean()) - 0.7) < 5 * deviation


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), DropPath(0.5)])
def test_masks_follow_the_image_and_not_its_place(layer):
    values = torch.rand(8, 100) + 1
    index = torch.tensor([5, 9, 2, 100, 7, 3, 10**12, 0])
    whole = keyed(layer, index, values)
    halves = torch.cat([keyed(layer, index[:4], values[:4]), keyed(layer, index[4:], values[4:])])
    back = keyed(layer, index.flip(0), values.flip(0)).flip(0)
    assert torch.equal(whole, halves) and torch.equal(whole, back)
    for other in (keyed(layer, index, values, step=4), keyed(layer, index, values, seed=1)):
        assert not torch.equal(whole, other)


def test_eval_mode_and_rate_zero_change_nothing_and_rate_one_drops_all():
    values = torch.rand(4, 6)
    assert torch.equal(keyed(nn.Dropout(0.0), range(4), values), values)
    assert keyed(nn.Dropout(1.0), range(4), values).abs().sum() == 0
    model = nn.Sequential(nn.Dropout(0.5), DropPath(0.5))
    key_dropout(model, Current())
    assert all(isinstance(layer, KeyedDropout) for layer in model)
    assert model.eval()(values) is values


def test_dropped_values_are_zero_even_where_they_are_not_finite():
    values = torch.full((64, 10), torch.inf)
    dropped = keyed(nn.Dropout(0.5), range(64), values)
    assert set(dropped.unique().tolist()) == {0.0, torch.inf}


def test_layers_and_calls_draw_for_themselves():
    current, shared = Current(), nn.Dropout(0.5)
    model = nn.ModuleDict({"one": shared, "two": nn.Dropout(0.5), "again": shared})
    key_dropout(model, current)
    assert model["one"] is model["again"]
    current.set(Draws(0, 0, torch.arange(4)))
    values = torch.ones(4, 50)
    first, second, again = model["one"](values), model["two"](values), model["again"](values)
    assert not torch.equal(first, second) and not torch.equal(first, again)
    current.set(Draws(0, 0, torch.arange(4)))
    assert torch.equal(model["one"](values), first)


def vit(**options):
    torch.manual_seed(0)
    return VisionTransformer(
        img_size=8, patch_size=4, in_chans=1, num_classes=0, embed_dim=16, depth=2, num_heads=2, **options
    )


def test_a_vit_keeps_its_weights_and_its_names():
    model, plain = vit(proj_drop_rate=0.1, drop_path_rate=0.2, pos_drop_rate=0.1), vit()
    key_dropout(model, Current())
    assert list(model.state_dict()) == list(plain.state_dict())
    model.load_state_dict(plain.state_dict())
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(model.eval()(images), plain.eval()(images))
    assert not any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())


def test_compiled_and_not_give_the_same():
    draws, images = KeyedDraws(model := vit(proj_drop_rate=0.1, drop_path_rate=0.2), 0, CPU), torch.rand(4, 1, 8, 8)
    compiled = torch.compile(model, backend="aot_eager")
    with draws.at(0, torch.arange(4), 2):
        expected = model(images)
    for step, same in ((0, True), (1, False)):
        with draws.at(step, torch.arange(4), 2):
            assert torch.allclose(compiled(images), expected, atol=1e-6) is same


def test_what_cannot_be_keyed_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"blocks\.0\.attn\.attn_drop is 0\.1 in fused attention"):
        key_dropout(vit(attn_drop_rate=0.1), Current())
    with pytest.raises(ConfigError, match=r"^0 \(MultiheadAttention\) drops with rate 0\.2"):
        key_dropout(nn.Sequential(nn.MultiheadAttention(8, 2, dropout=0.2)), Current())
    with pytest.raises(ConfigError, match=r"0 \(AlphaDropout\)"):
        key_dropout(nn.Sequential(nn.AlphaDropout(0.2)), Current())
    with pytest.raises(ConfigError, match="dropout in 0 gets 12 rows for 4 images"):
        keyed(nn.Dropout(0.1), range(4), torch.ones(12, 2))


def test_draws_of_the_global_generator_are_refused():
    class Hidden(nn.Module):
        def forward(self, values):
            return nn.functional.dropout(values, 0.5, self.training)

    draws = KeyedDraws(model := Hidden(), 0, CPU)
    with (
        pytest.raises(ConfigError, match="draws from torch's global random generator"),
        draws.at(0, torch.arange(4), 1),
    ):
        model(torch.ones(4, 2))
