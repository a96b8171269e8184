"""Super-resolution: its pairs, what it starts from, that it learns, and what a run leaves behind."""

import json

import numpy as np
import pytest
import torch

import trainers
from trainers import mae, superres
from trainers.checkpoint import read_checkpoint
from trainers.errors import CheckpointError, ConfigError
from trainers.image_pairs import upsample
from trainers.logs import read_table
from trainers.models.encoders import load_encoder
from trainers.models.superresolution import FluxUnits, SuperDecoderConfig, SuperResolver
from trainers.models.vit import ViTConfig
from trainers.transform import InputTransform

VIT = ViTConfig(patch_size=8, depth=1, width=32, heads=2)
PLAIN = FluxUnits(1.0, 1.0)
TASKS = {"16to64": ((1, 16, 16), 64), "64to128": ((1, 64, 64), 128)}


def resolver(task="16to64", entry="upsample", kind="pixelshuffle", units=PLAIN, vit=VIT, encoder=None):
    torch.manual_seed(0)
    decoder = SuperDecoderConfig(kind, depth=1, width=16, heads=2)
    return SuperResolver(*TASKS[task], vit, entry, decoder, units, encoder)


@pytest.fixture(scope="session")
def large_blobs(tmp_path_factory, make_blobs):
    """Paths of stored sets of 64 x 64 and of 128 x 128 pixels."""
    paths = {}
    for side in (64, 128):
        paths[side] = tmp_path_factory.mktemp("large") / f"blobs{side}.npz"
        np.savez(paths[side], **make_blobs(140, side))
    return paths


FLAGS = ["--vit.patch-size=16", "--steps=2", "--validate-every=2", "--low=downsample"]


@pytest.fixture
def enlarge(large_blobs, tiny, tmp_path, monkeypatch):
    """Runs the trainer: `enlarge("--task=16to64", out=...)` -> the run's folder."""

    def run(*flags, out="run", side=64, draws=False):
        folder = tmp_path / out
        if not draws:  # pictures take longer than all else
            monkeypatch.setattr(superres, "draw_enlargements", lambda *arguments: None)
            monkeypatch.setattr(superres, "draw_training", lambda *arguments: None)
        data = ["--data", str(large_blobs[side])] if side else []
        assert superres.main([*tiny, *data, "--out", str(folder), *FLAGS, *flags]) == 0
        return folder

    return run


@pytest.fixture(scope="session")
def pretrained(large_blobs, tiny, tmp_path_factory):
    """The run of an MAE on images of 64 x 64 pixels."""
    folder = tmp_path_factory.mktemp("mae") / "run"
    flags = ["--data", str(large_blobs[64]), "--out", str(folder), "--vit.patch-size=16", "--steps=1"]
    assert mae.main([*tiny, *flags]) == 0
    return folder


@pytest.fixture(scope="session")
def pretrained_on_stream(tiny, tmp_path_factory):
    """The run of an MAE on the preset model_a."""
    folder = tmp_path_factory.mktemp("mae") / "stream"
    flags = ["--stream", "--preset=model_a", "--out", str(folder), "--vit.patch-size=16", "--steps=1"]
    assert mae.main([*tiny, *flags]) == 0
    return folder


# pairs


def test_a_run_leaves_its_scores_beside_bicubic_and_starts_at_them(enlarge, capsys):
    folder = enlarge(draws=True)
    first = {name: float(value) for name, value in read_table(folder / "validation.csv")[0].items()}
    assert first["psnr"] == pytest.approx(first["bicubic_psnr"], abs=1e-5)
    assert first["ssim"] == pytest.approx(first["bicubic_ssim"], abs=1e-6)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["images"] == 20 and metrics["units"]["data_range"] == pytest.approx(2, rel=0.6)
    for convention in ("data_range", "own_range"):
        assert set(metrics[convention]) == {"prediction", "bicubic", "all_zero"}
        for row in metrics[convention].values():
            assert all(row[name]["low"] <= row[name]["value"] <= row[name]["high"] for name in ("psnr", "ssim"))
    for name in ("enlargements.png", "training.png", "summary.json"):
        assert (folder / name).is_file()
    said = capsys.readouterr().out
    assert "bicubic" in said and "all-zero" in said and "20 test images" in said


def test_a_run_on_strided_pixels_says_what_bicubic_is_where_nobody_registers_it(enlarge, capsys):
    folder = enlarge("--downsample=nearest", "--optimizer.lr=1e-12")
    metrics = json.loads((folder / "metrics.json").read_text())
    for convention in ("data_range", "own_range"):
        rows = {name: row["psnr"]["value"] for name, row in metrics[convention].items()}
        assert set(rows) == {"prediction", "bicubic", "bicubic_unregistered", "all_zero"}
        assert rows["prediction"] == pytest.approx(rows["bicubic"], abs=1e-4)
        assert rows["bicubic_unregistered"] < rows["bicubic"] - 3
    assert "bicubic-unregistered" in capsys.readouterr().out
    model, _ = trainers.load(folder)
    low = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(model.predict(low), upsample(low, 64, -0.375), rtol=0, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("transform", ["asinh", "minmax"])
def test_inputs_are_the_same_in_training_evaluation_and_after_loading(enlarge, monkeypatch, task, transform):
    seen = []
    forward = SuperResolver.forward

    def watched(self, inputs, low):
        seen.append((inputs.detach().clone(), low.clone()))
        return forward(self, inputs, low)

    monkeypatch.setattr(SuperResolver, "forward", watched)
    side = TASKS[task][1]
    folder = enlarge(f"--task={task}", f"--input-transform={transform}", side=side)
    model, saved = trainers.load(folder)
    assert saved.name == transform
    for inputs, low in seen:
        assert torch.equal(inputs, saved(low)) and inputs.shape[1:] == TASKS[task][0]
    validation = seen[0][1]
    about = read_checkpoint(folder).about
    assert FluxUnits(**about["model"]["units"]).data_range is None or transform == "asinh"
    predicted = model.predict(validation)
    assert predicted.shape == (12, 1, side, side)
    assert torch.equal(seen[-1][0], saved(validation))


@pytest.mark.parametrize("entry", ["upsample", "resample"])
def test_a_pretrained_and_a_new_model_are_the_same_but_for_their_weights(enlarge, pretrained, entry):
    new = enlarge(f"--entry={entry}", out="new")
    old = enlarge(f"--entry={entry}", f"--encoder={pretrained}", "--vit.depth=3", "--optimizer.lr=1e-12", out="old")
    one, two = (read_checkpoint(folder).weights for folder in (new, old))
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in two.items()}
    encoder = load_encoder(pretrained)
    for name, value in encoder.module.state_dict().items():
        if entry == "upsample" or "patch_embed.proj.weight" not in name:
            torch.testing.assert_close(two[f"encoder.{name}"], value, rtol=1e-4, atol=1e-6)
    assert InputTransform.from_json(read_checkpoint(old).about["transform"]) == encoder.transform


@pytest.mark.parametrize("task", TASKS)
def test_by_optics_too_a_pretrained_and_a_new_model_have_the_same_inputs(enlarge, pretrained_on_stream, task):
    flags = ["--stream", "--preset=model_a", "--low=optics", f"--task={task}", "--batch-size=4", "--validation.test=4"]
    new = enlarge(*flags, out="new", side=None)
    old = enlarge(*flags, f"--encoder={pretrained_on_stream}", "--optimizer.lr=1e-12", out="old", side=None)
    one, two = (read_checkpoint(folder) for folder in (new, old))
    shapes = ({name: value.shape for name, value in checkpoint.weights.items()} for checkpoint in (one, two))
    assert next(shapes) == next(shapes)
    encoder = load_encoder(pretrained_on_stream)
    torch.testing.assert_close(
        two.weights["encoder.patch_embed.proj.weight"],
        encoder.module.patch_embed.proj.weight.detach(),
        rtol=1e-4,
        atol=1e-6,
    )
    # 64 pixels are those of the pretraining; 16 in their place collect 16 times the flux
    scale = [value * (16 if task == "16to64" else 1) for value in encoder.transform.scale]
    for name in ("transform", "model"):
        assert one.about[name] == two.about[name], name
    assert one.about["transform"] == {"name": "asinh", "scale": pytest.approx(scale)}


def test_an_encoder_that_does_not_fit_is_refused(enlarge, pretrained, train, pretend_ssl, tmp_path):
    with pytest.raises(ConfigError, match=r"through asinh, and this run has minmax. Fix: --input-transform asinh"):
        enlarge(f"--encoder={pretrained}", "--input-transform=minmax")
    with pytest.raises(ConfigError, match=r"encoder is for images of shape \(1, 16, 16\)"):
        enlarge(f"--encoder={train('--steps=1', out='small')}")
    with pytest.raises(CheckpointError, match=r"is by trainers\.superres; give a run of trainers\.mae or"):
        enlarge(f"--encoder={enlarge(out='other')}")
    pretend_ssl(tmp_path / "cnn", "cnn", (1, 64, 64))
    with pytest.raises(ConfigError, match=r"is of a cnn, and super-resolution needs a ViT: give one of --model vit"):
        enlarge(f"--encoder={tmp_path / 'cnn'}")


def test_a_resumed_run_needs_no_encoder_and_loses_nothing(enlarge, pretrained, large_blobs):
    folder = enlarge(f"--encoder={pretrained}", "--steps=4", "--checkpoint-every=2", "--keep=4")
    losses = [row["loss"] for row in read_table(folder / "train.csv")]
    hidden = pretrained.with_name("hidden")
    pretrained.rename(hidden)
    try:
        assert superres.main(["--resume", str(folder / "checkpoints" / "step_000002")]) == 0
    finally:
        hidden.rename(pretrained)
    assert [row["loss"] for row in read_table(folder / "train.csv")] == losses


def test_a_stream_is_trained_on_by_optics_and_judged_again(enlarge, large_blobs, capsys):
    flags = ("--stream", "--preset=model_a", "--low=optics", "--batch-size=4", "--validation.test=15")
    folder = enlarge(*flags, side=None)
    about = read_checkpoint(folder).about
    assert about["model"]["image_shape"] == [1, 16, 16] and about["model"]["units"]["flux_ratio"] == 16
    before = json.loads((folder / "metrics.json").read_text())
    common = ["--evaluate-only", str(folder), "--accelerator=cpu"]
    assert superres.main(common) == 0
    again = json.loads((folder / "evaluation_001" / "metrics.json").read_text())
    assert again["data_range"] == before["data_range"]
    assert superres.main([*common, "--preset=model_b", "--validation.test=12"]) == 0
    other = json.loads((folder / "evaluation_002" / "metrics.json").read_text())
    assert other["data"]["preset"] == "model_b" and other["images"] == 12
    out = folder / "stored"
    assert superres.main([*common, "--data", str(large_blobs[64]), "--out", str(out)]) == 0
    stored = json.loads((out / "metrics.json").read_text())
    assert stored["images"] == 140 and stored["pairs"]["low"] == "downsample"
    # in the papers' convention the units of a set do not matter: block sums are right for a model of the optics
    assert stored["own_range"]["bicubic"]["psnr"]["value"] > 25
    with pytest.raises(ConfigError, match=r"holds a metrics\.json already"):
        superres.main([*common, "--data", str(large_blobs[64]), "--out", str(out)])


def test_an_evaluation_can_be_interrupted(enlarge, monkeypatch, capsys):
    folder = enlarge()

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainers.superres_evaluation.score_tables", interrupted)
    assert superres.main(["--evaluate-only", str(folder), "--accelerator=cpu"]) == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err
    assert not list(folder.glob("evaluation_*"))


def test_only_superresolution_can_be_evaluated(pretrained):
    with pytest.raises(CheckpointError, match=r"by trainers\.mae, not by trainers\.superres"):
        superres.main(["--evaluate-only", str(pretrained)])
    with pytest.raises(CheckpointError, match=r"by trainers\.mae, not by trainers\.superres"):
        superres.main(["--evaluate-only", str(pretrained), "--preset=model_a", "--accelerator=cpu"])
