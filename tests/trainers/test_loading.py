"""What becomes of a trained model: `trainers.load`, and encoders for timm."""

import json
import sys
from subprocess import run

import pytest
import timm
import torch

import lensgen
import trainers
from trainers import mae
from trainers.checkpoint import checkpoints, seal
from trainers.errors import CheckpointError
from trainers.models.encoders import load_encoder
from trainers.stored import read_stored
from trainers.transform import InputTransform


def test_importing_trainers_imports_no_torch():
    code = "import sys, trainers; assert 'torch' not in sys.modules; trainers.load; assert 'torch' in sys.modules"
    assert run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_load_gives_model_and_transform(train, stored):
    folder = train()
    model, transform = trainers.load(folder)
    batch = read_stored(stored).take(torch.arange(7), torch.device("cpu"))
    features = model.predict(batch)
    assert features.shape == (7, 16) and not features.requires_grad
    torch.testing.assert_close(model.predict(batch.image), features, rtol=0, atol=0)
    encoder = load_encoder(folder)
    assert encoder.transform == transform
    with torch.no_grad():
        expected = encoder.module.forward_features(transform(batch.image))[:, 1:].mean(dim=1)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"\[7, 1, 8, 8\].*takes \[B, 1, 16, 16\]"):
        model.predict(batch.image[..., :8, :8])


def test_any_checkpoint_can_be_loaded_and_strangers_are_refused(train):
    folder = train("--checkpoint-every=3", "--keep=5")
    first, last = checkpoints(folder)[0], checkpoints(folder)[-1]
    assert trainers.load(first).model.about["step"] < trainers.load(last).model.about["step"] == 6
    about = json.loads((last / "checkpoint.json").read_text())
    (last / "checkpoint.json").write_text(seal({**about, "trainer": "tarot"}))
    with pytest.raises(CheckpointError, match=r"by trainers\.tarot; known: mae, ssl, jepa, classify, "):
        trainers.load(last)


def test_the_encoder_is_timms_in_one_call(train, stored):
    folder = train()
    encoder = timm.create_model(f"local-dir:{folder / 'encoder'}", pretrained=True).eval()
    model, transform = trainers.load(folder)
    images = read_stored(stored).image[:5]
    with torch.no_grad():
        torch.testing.assert_close(encoder(transform(images)), model.predict(images), rtol=0, atol=1e-5)
    assert not any(name.startswith("head") for name in encoder.state_dict())


def test_the_model_card_says_what_it_was_trained_on(train, tmp_path):
    folder = train()
    card = json.loads((folder / "encoder" / "card.json").read_text())
    assert card["data"]["fingerprint"] and card["trainer"] == "mae" and card["figures"]["masked_mse"] > 0
    assert InputTransform.from_json(card["transform"]) == trainers.load(folder).transform
    words = (folder / "encoder" / "README.md").read_text()
    # the line of code on the card is the transform
    line = next(line for line in words.splitlines() if line.startswith("features = encoder("))
    image = torch.rand(2, 1, 16, 16)
    found = eval(line.removeprefix("features = encoder(").split(")  #")[0], {"torch": torch, "image": image})
    torch.testing.assert_close(found, trainers.load(folder).transform(image))


def test_transforms():
    image = torch.rand(3, 2, 8, 8) * 5 - 1
    asinh = InputTransform((0.5, 2.0))
    torch.testing.assert_close(asinh(image)[:, 1], torch.asinh(image[:, 1] / 2.0))
    scaled = InputTransform((1.0,), "minmax")(image)
    assert torch.equal(scaled.amin((2, 3)), torch.zeros(3, 2)) and torch.allclose(scaled.amax((2, 3)), torch.ones(3, 2))
    assert torch.isfinite(InputTransform((1.0,), "minmax")(torch.zeros(1, 1, 4, 4))).all()
    for transform in (asinh, InputTransform((0.3,)), InputTransform((1.0,), "minmax")):
        assert InputTransform.from_json(json.loads(json.dumps(transform.as_json()))) == transform
    with pytest.raises(CheckpointError, match="'sqrt'; known: asinh, minmax"):
        InputTransform.from_json({"name": "sqrt", "scale": [1.0]})


def test_a_streamed_model_takes_the_simulators_batches(tiny, tmp_path):
    out = tmp_path / "run"
    assert mae.main([*tiny, "--stream", "--set=grid.size=16", "--steps=2", "--vit.patch-size=4", f"--out={out}"]) == 0
    model, transform = trainers.load(out)
    simulator = lensgen.Simulator("model_a", seed=1).override({"grid.size": 16})
    assert transform.scale == pytest.approx(simulator.input_scale)
    assert model.predict(simulator.batch(0, 3)).shape == (3, 16)
    assert "`model_a`, grid.size = 16" in (out / "encoder" / "README.md").read_text()
