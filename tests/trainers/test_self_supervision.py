"""The methods: heads, teachers and losses, a battery over all that are registered."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from trainers.config import DataConfig
from trainers.draws import Draws
from trainers.errors import CheckpointError, ConfigError
from trainers.models.self_supervised import SelfSupervised, build, restore
from trainers.models.vit import ViTConfig
from trainers.self_supervision.config import MethodConfig
from trainers.self_supervision.method import OPTIONS
from trainers.self_supervision.registry import METHODS

VIT = ViTConfig(patch_size=4, depth=2, width=16, heads=2)
DRAWS = Draws(0, 1, torch.arange(6))


def options_of(method, **more):
    return MethodConfig(method=method, head_hidden=32, head_width=16, vit=VIT, data=DataConfig(stream=True), **more)


def model_of(method, name="vit", **more):
    config = options_of(method, **more)
    torch.manual_seed(0)
    return SelfSupervised(name, (1, 16, 16), VIT, method, config.heads, config.options)


def views(count=2, batch=6):
    generator = torch.Generator().manual_seed(3)
    base = torch.rand(batch, 1, 16, 16, generator=generator)
    return [base + 0.1 * torch.rand(batch, 1, 16, 16, generator=generator) for _ in range(count)]


def loss_of(model, outputs, draws=DRAWS):
    return model.method.loss(model.criterion, outputs, model.options, draws)


@pytest.mark.parametrize("name", ["vit", "cnn", "resnet18"])
@pytest.mark.parametrize("method", METHODS)
def test_every_trained_parameter_receives_a_gradient_and_no_teacher_does(method, name):
    model = model_of(method, name)
    outputs = model(views(2 + int(model.options.get("local_views", 0))))
    assert outputs["student"].shape[1:] == (6, 16)
    loss = loss_of(model, outputs)
    assert loss.shape == () and torch.isfinite(loss)
    loss.backward()
    for key, weight in model.named_parameters():
        assert weight.requires_grad is not key.startswith("teacher.") or key.endswith("weight_g"), key
        assert (weight.grad is not None) is weight.requires_grad, key
    assert ("teacher" in outputs) is (model.heads.teacher != "none")
    if "teacher" in outputs:
        assert outputs["teacher"].shape == (2, 6, 16) and not outputs["teacher"].requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_equal_views_are_better_than_those_of_other_images(method):
    model = model_of(method)
    student = torch.randn(2, 32, 16, generator=torch.Generator().manual_seed(0)) * 3
    student[1] = student[0]
    teacher = student.clone()
    alike = loss_of(model, {"student": student, "teacher": teacher})
    shuffled = torch.stack([student[0], student[0].roll(1, dims=0)])
    model = model_of(method)  # DINO's centre has moved
    assert alike < loss_of(model, {"student": shuffled, "teacher": shuffled.clone()})


@pytest.mark.parametrize("method", ["byol", "dino"])
def test_the_teacher_is_a_running_mean_and_begins_as_the_student(method):
    model = model_of(method)
    student = [*model.encoder.parameters(), *model.projector.parameters()]
    teacher = list(model.teacher.parameters())
    before = [weight.clone() for weight in teacher]
    model.move_teacher(0.3)
    # an untrained one is not moved by a bit, so that steps on trial leave no trace
    assert all(torch.equal(one, two) for one, two in zip(before, teacher, strict=True))
    with torch.no_grad():
        for weight in student:
            weight.add_(1.0)
    model.move_teacher(0.75)
    for old, new in zip(before, teacher, strict=True):
        torch.testing.assert_close(new, old + 0.25)
    model.move_teacher(1.0)
    for old, new in zip(before, teacher, strict=True):
        torch.testing.assert_close(new, old + 0.25)


def test_the_teacher_drops_nothing_and_takes_batch_statistics():
    dropping = dataclasses.replace(VIT, dropout=0.5, drop_path=0.5)
    config = options_of("byol")
    model = SelfSupervised("vit", (1, 16, 16), dropping, "byol", config.heads, config.options).train()
    one, two = (model(views())["teacher"] for _ in range(2))
    assert torch.equal(one, two)
    norm = next(layer for layer in model.teacher.modules() if isinstance(layer, torch.nn.BatchNorm1d))
    assert norm.training and int(norm.num_batches_tracked) == 4


def test_byol_without_predictor_and_ema_compares_projections_and_stops_one_gradient():
    model = model_of("byol", predictor=False, ema=False)
    assert model.teacher is None and model.predictor is None
    outputs = model(views())
    torch.testing.assert_close(outputs["student"].detach(), outputs["teacher"])
    one, two = outputs["student"]
    expected = -functional.cosine_similarity(one, two).mean()
    torch.testing.assert_close(loss_of(model, outputs), expected)


def test_the_centre_of_dino_is_saved_and_moves():
    model = model_of("dino")
    assert "criterion.center" in model.state_dict()
    outputs = model(views())
    loss_of(model, outputs)
    torch.testing.assert_close(model.criterion.center[0, 0], 0.1 * outputs["teacher"].mean(dim=(0, 1)))


def test_the_directions_of_lejepa_are_those_of_the_step():
    model = model_of("lejepa")
    outputs = {"student": torch.randn(2, 6, 16)}
    torch.manual_seed(1)
    one, state = loss_of(model, outputs), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(one, loss_of(model, outputs))
    assert not torch.equal(one, loss_of(model, outputs, Draws(0, 2, DRAWS.index)))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_says_how_its_model_is_built(method):
    config = options_of(method)
    about = {
        "name": "vit", "image_shape": [1, 16, 16], "vit": dataclasses.asdict(VIT), "method": method,
        "heads": dataclasses.asdict(config.heads), "options": config.options,
    }  # fmt: skip
    again = restore({"trainer": "ssl", "model": about})
    again.load_state_dict(model_of(method).state_dict())
    assert isinstance(build(about), SelfSupervised)
    with pytest.raises(CheckpointError, match=r"by trainers\.mae, not by trainers\.ssl"):
        restore({"trainer": "mae", "model": about})


@pytest.mark.parametrize("method", METHODS)
def test_options_that_a_method_has_not_are_refused_by_name(method):
    for name, (low, high) in OPTIONS.items():
        value = low if name == "local_views" else (low + high) / 2
        if name in METHODS[method].options:
            assert options_of(method, **{name: value}).options[name] == value
        else:
            with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} does nothing to --method {method}"):
                options_of(method, **{name: value})
    assert options_of(method).options == dict(METHODS[method].options)
    if METHODS[method].heads.predictor is False:
        with pytest.raises(ConfigError, match=f"--no-predictor does nothing to --method {method}"):
            options_of(method, predictor=False)
    if METHODS[method].heads.teacher != "momentum":
        with pytest.raises(ConfigError, match=f"--no-ema does nothing to --method {method}"):
            options_of(method, ema=False)
    elif "momentum" in METHODS[method].options:
        with pytest.raises(ConfigError, match="--momentum does nothing"):
            options_of(method, ema=False, momentum=0.5)


def test_values_out_of_range_and_other_norms_are_refused():
    with pytest.raises(ConfigError, match=r"temperature is 0\.0; allowed: 0\.001 to 10"):
        options_of("simclr", temperature=0.0)
    with pytest.raises(ConfigError, match="head_norm is layer; allowed with --method dino: batch, none"):
        options_of("dino", head_norm="layer")
    with pytest.raises(ConfigError, match="head_width is 1; allowed: 2 or more"):
        MethodConfig(head_width=1)
