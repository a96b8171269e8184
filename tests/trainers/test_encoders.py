"""Every pretrained encoder is found in its checkpoint, with all that belongs to it."""

import json

import pytest
import timm
import torch

import trainers
from trainers import classify, ssl
from trainers.checkpoint import checkpoints, read_checkpoint, seal
from trainers.errors import CheckpointError, ConfigError
from trainers.mae import MAEConfig, MAETask
from trainers.models.encoders import load_encoder
from trainers.models.heads import build_with_head, take_encoder
from trainers.models.masked_autoencoder import MaskedAutoencoder
from trainers.models.vit import ViTConfig
from trainers.stored import read_stored
from trainers.transform import InputTransform

KINDS = ["vit", "cnn", "test_resnet", "resnet18"]


@pytest.mark.parametrize("name", KINDS)
def test_an_encoder_of_ssl_makes_the_features_that_it_was_left_with(name, pretend_ssl, tmp_path):
    left = pretend_ssl(tmp_path / "run", name)
    found = load_encoder(tmp_path / "run")
    images = torch.randn(5, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(found.module(images), left(images))
    assert not found.module.training and found.name == name and found.image_shape == (1, 16, 16)
    assert found.vit == ViTConfig(patch_size=4, depth=1, width=16, heads=2)
    assert found.transform == InputTransform((0.37,)) and found.about["trainer"] == "ssl"


@pytest.mark.parametrize("name", ["vit", "test_resnet"])
def test_a_run_of_ssl_and_its_encoder_make_the_same_features(name, tiny, stored, tmp_path):
    flags = [flag for flag in tiny if not flag.startswith("--decoder")]
    argv = [*flags, f"--data={stored}", f"--out={tmp_path / 'run'}", f"--model={name}", "--method=byol"]
    assert ssl.main([*argv, "--steps=3", "--validate-every=3"]) == 0
    model, transform = trainers.load(tmp_path / "run")
    found = load_encoder(tmp_path / "run")
    images = read_stored(stored).image[:5]
    with torch.no_grad():
        torch.testing.assert_close(found.module(found.transform(images)), model.predict(images), rtol=0, atol=1e-6)
    assert found.transform == transform and found.name == name


def test_an_encoder_of_mae_makes_the_features_that_were_probed(train, stored):
    folder = train("--steps=2")
    found = load_encoder(folder)
    checkpoint = read_checkpoint(folder)
    model = MaskedAutoencoder((1, 16, 16), found.vit, MAEConfig().decoder.__class__(1, 16, 2))
    model.load_state_dict(checkpoint.weights)
    images = found.transform(read_stored(stored).image[:5])
    with torch.no_grad():
        torch.testing.assert_close(found.module(images), model.eval().features(images))
    assert (found.name, found.image_shape, found.path) == ("vit", (1, 16, 16), checkpoint.path)


def test_the_encoder_is_that_of_the_best_checkpoint(train, monkeypatch):
    error, validate = iter([3.0, 1.0, 2.0]), MAETask.validate  # of steps 0, 3 and 6
    monkeypatch.setattr(MAETask, "validate", lambda self: validate(self) | {"masked_mse": next(error)})
    folder = train()
    chosen, best, last = (load_encoder(path).module.patch_embed.proj.weight for path in (folder, *checkpoints(folder)))
    assert torch.equal(chosen, best) and not torch.equal(chosen, last)


@pytest.mark.parametrize("method", ["finetune", "linear"])
@pytest.mark.parametrize("name", KINDS)
def test_a_model_with_a_head_takes_all_of_an_encoder(name, method, pretend_ssl, tmp_path):
    left = pretend_ssl(tmp_path / "run", name)
    found = load_encoder(tmp_path / "run")
    description = read_checkpoint(tmp_path / "run").about["model"] | {"method": method}
    model = build_with_head(description, 4)
    take_encoder(model, found.module)
    own = {key.removeprefix("encoder."): value for key, value in model.state_dict().items()}
    assert all(torch.equal(own[key], value) for key, value in left.state_dict().items())
    new = {key.rsplit(".")[-2] if "." in key else key for key in own.keys() - left.state_dict().keys()}
    assert new == ({"fc" if "resnet" in name else "head"} if method == "finetune" else {"head", "mean", "deviation"})
    assert model.eval()(torch.randn(2, 1, 16, 16)).shape == (2, 4)


def test_the_checkpoints_of_other_trainers_are_refused(pretend_ssl, tmp_path):
    pretend_ssl(tmp_path / "run", "cnn")
    path = checkpoints(tmp_path / "run")[0] / "checkpoint.json"
    about = json.loads(path.read_text())
    path.write_text(seal(about | {"trainer": "classify"}))
    with pytest.raises(CheckpointError, match=r"by trainers\.classify; give a run of trainers\.mae or trainers\.ssl"):
        load_encoder(tmp_path / "run")
    path.write_text(seal(about | {"model": about["model"] | {"image_shape": [2, 16, 16]}}))
    with pytest.raises(CheckpointError, match="is of another model"):
        load_encoder(tmp_path / "run")


@pytest.fixture
def tune(tiny, stored, tmp_path):
    """Runs trainers.classify on the stored set: `tune("--steps=4", out=...)` -> the run's folder."""
    flags = [flag for flag in tiny if not flag.startswith("--decoder")]

    def run(*more, out="tuned"):
        where = ["--data", str(stored), "--out", str(tmp_path / out), "--steps=2", "--validate-every=1"]
        assert classify.main([*flags, *where, *more]) == 0
        return tmp_path / out

    return run


@pytest.mark.parametrize("method", ["linear", "knn"])
@pytest.mark.parametrize("name", ["cnn", "test_resnet"])
def test_frozen_under_a_classifier_every_encoder_stays_as_it_is(name, method, pretend_ssl, tune, tmp_path):
    left = pretend_ssl(tmp_path / "ssl", name)
    folder = tune(f"--encoder={tmp_path / 'ssl'}", f"--method={method}", "--optimizer.lr=0.1")
    saved = read_checkpoint(folder)
    assert all(torch.equal(saved.weights[f"encoder.{key}"], value) for key, value in left.state_dict().items())
    assert saved.about["model"]["name"] == name and saved.about["transform"] == {"name": "asinh", "scale": [0.37]}


def test_a_fine_tuned_resnet_of_ssl_is_resumed_exported_and_decays_by_layer(pretend_ssl, tune, stored, tmp_path):
    left = pretend_ssl(tmp_path / "ssl", "test_resnet")
    flags = [f"--encoder={tmp_path / 'ssl'}", "--checkpoint-every=1", "--augment=simclr", "--keep=9"]
    flags += [f"--optimizer.{rate}" for rate in ("lr=1e-3", "warmup=0", "weight-decay=0", "layer-decay=0.1")]
    whole, part = tune(*flags, out="whole"), tune(*flags, out="part")
    (tmp_path / "ssl").rename(tmp_path / "gone")
    assert classify.main(["--resume", str(part / "checkpoints" / "step_000001")]) == 0
    one, two = (json.loads((folder / "metrics.json").read_text()) for folder in (whole, part))
    assert one.pop("checkpoint") != two.pop("checkpoint") and one == two
    weights = read_checkpoint(checkpoints(whole)[-1]).weights
    moved = {key: float((weights[key] - value.detach()).abs().max()) for key, value in left.named_parameters()}
    assert 0 < moved["conv1.0.weight"] < 0.1 * moved["layer4.0.conv1.weight"]
    encoder = timm.create_model(f"local-dir:{whole / 'encoder'}", pretrained=True).eval()
    model, transform = trainers.load(whole)
    images = transform(read_stored(stored).image[:5])
    with torch.no_grad():
        features = model.module.forward_head(model.module.forward_features(images), pre_logits=True)
        torch.testing.assert_close(encoder(images), features, rtol=0, atol=1e-5)


def test_an_encoder_for_other_images_is_refused(pretend_ssl, tune, tmp_path):
    pretend_ssl(tmp_path / "ssl", "cnn", (1, 32, 32))
    with pytest.raises(ConfigError, match=r"ssl was trained on images of \(1, 32, 32\), these are \(1, 16, 16\)"):
        tune(f"--encoder={tmp_path / 'ssl'}")
