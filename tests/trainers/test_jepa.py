"""Whole small runs of trainers.jepa: what is left behind, resumed, gone on with by others, and refused."""

import json
import re

import numpy as np
import pytest
import torch

from trainers import classify, jepa
from trainers.checkpoint import best_or_newest, checkpoints, read_checkpoint
from trainers.draws import key_of
from trainers.errors import ConfigError
from trainers.loading import load
from trainers.logs import read_table
from trainers.models.encoders import load_encoder
from trainers.models.jepa import NAMES, build, jepa_loss
from trainers.stored import read_stored

SMALL = [
    "--accelerator=cpu", "--workers=0", "--batch-size=8", "--log-every=2", "--minutes=None", "--steps=6",
    "--validate-every=3", "--validation.fit=30", "--validation.score=12", "--validation.test=20",
    "--validation.neighbours=3", "--vit.patch-size=2", "--vit.depth=1", "--vit.width=16", "--vit.heads=2",
    "--predictor.depth=1", "--predictor.width=16", "--predictor.heads=2",
]  # fmt: skip
STREAM = [
    "--stream",
    "--preset=lenspinn",
    "--set=grid.size=32",
    "--set=instrument.pixel_scale=0.2",
    "--vit.patch-size=4",
]
ENCODERS = list(NAMES)


@pytest.fixture
def run(stored, tmp_path, monkeypatch):
    """`run("--encoder=vit", out=...)` -> the run's folder; without its figures unless they are asked for."""
    draw = jepa.JEPATask.draw

    def start(*flags, out="run", status=0, figures=False):
        monkeypatch.setattr(jepa.JEPATask, "draw", draw if figures else lambda self, folder: [])
        source = [] if "--stream" in flags else [f"--data={stored}"]
        assert jepa.main([*SMALL, *source, f"--out={tmp_path / out}", *flags]) == status
        return tmp_path / out

    return start


def losses(folder):
    return [(int(row["step"]), round(float(row["loss"]), 6)) for row in read_table(folder / "train.csv")]


def test_a_run_leaves_everything_behind(run, capsys):
    folder = run("--encoder=physics", *STREAM, figures=True)
    assert {path.name for path in folder.iterdir()} == {
        "checkpoints", "config.yaml", "loss.png", "masks.png", "metrics.json", "predictions.npz", "probes.png",
        "sources.png", "summary.json", "tensorboard", "theta_E.npz", "train.csv", "validation.csv",
    }  # fmt: skip
    metrics, summary = (json.loads((folder / f"{name}.json").read_text()) for name in ("metrics", "summary"))
    for table in (metrics, metrics["untrained"], metrics["gain"]):
        for name in ("linear_accuracy", "knn_accuracy", "macro_auc"):
            assert table[name]["low"] <= table[name]["value"] <= table[name]["high"]
    assert {"feature_rank", "untrained_feature_rank", "theta_E_rms_arcsec"} <= metrics.keys()
    assert metrics["k_correlation"].keys() == {"no_sub", "cdm", "axion"} == metrics["k_correlation_with_others"].keys()
    assert metrics["k_correlation"]["no_sub"] is None  # the true k is 1
    assert -1 <= metrics["k_correlation"]["cdm"] <= 1
    assert {"prediction_loss", "constant_loss", "knn_accuracy", "linear_accuracy", "feature_rank", "compactness",
            "theta_E_rms_arcsec", "projection_deviation", "collapsed"} <= set(summary["trained"])  # fmt: skip
    said = capsys.readouterr().out
    assert "gain of the linear probe" in said and "theta_E          all alike, rms error" in said
    assert re.search(r"prediction +loss 0\.\d+, of the mean token of each place 0\.\d+: (better|no better yet)", said)
    assert re.search(r"k +correlation with the true one: cdm [+-]0\.\d\d \([+-]0\.\d\d with other lenses' k\); ", said)


def test_a_constant_prediction_is_that_of_the_mean_token(run, monkeypatch):
    made = []
    monkeypatch.setattr(jepa, "JEPATask", type("Kept", (jepa.JEPATask,), {
        "__init__": lambda self, *args: (made.append(self), super(type(self), self).__init__(*args))[0]}))  # fmt: skip
    run("--steps=1", "--validate-every=1")
    [task] = made
    data, masks = task.data, task._fixed
    with torch.no_grad():
        fit, score = (task.jepa.compared(data.transform(part.image)) for part in (data.fit, data.score))
        expected = [
            torch.nn.functional.smooth_l1_loss(fit.mean(0)[masks.targets[n]], score[n][masks.targets[n]])
            for n in range(12)
        ]
    assert task.validate()["constant_loss"] == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_target_encoder_is_loaded_exported_and_fine_tuned(encoder, run, stored, tmp_path):
    folder = run(f"--encoder={encoder}", "--steps=4", "--validate-every=4", "--momentum=0.5")
    image = read_stored(stored).image[:5]
    whole, transform = load(folder)
    features = whole.predict(image)
    found = load_encoder(folder)
    assert (found.name, features.shape) == (NAMES[encoder], (5, 16))
    with torch.no_grad():
        torch.testing.assert_close(found.module(found.transform(image)), features)
        # a running mean: no longer as it began, and not the encoder of the context
        torch.manual_seed(key_of(0, "weights"))
        assert not torch.allclose(build(whole.about["model"]).features(transform(image)), features, atol=1e-5)
        assert not torch.allclose(whole.module.encoder(transform(image)), features, atol=1e-5)
    assert (folder / "encoder").exists() is (encoder == "vit")
    if encoder == "vit":
        import timm

        exported = timm.create_model(f"local-dir:{folder / 'encoder'}", pretrained=True).eval()
        torch.testing.assert_close(exported(transform(image)), features)
    flags = [flag for flag in SMALL if not flag.startswith(("--predictor", "--vit"))]
    out = tmp_path / "classify"
    argv = [*flags, f"--data={stored}", f"--encoder={folder}", f"--out={out}", "--steps=2", "--validate-every=2"]
    assert classify.main(argv) == 0
    about = read_checkpoint(out).about
    assert about["model"]["name"] == NAMES[encoder] and about["pretrained_on"]["seen"] == [
        *read_checkpoint(best_or_newest(folder)).about["seen"]
    ]


@pytest.mark.parametrize("encoder", ["vit", "physics"])
def test_a_resumed_run_is_the_run_that_was_never_interrupted(encoder, run, after_steps):
    flags = [f"--encoder={encoder}", "--vit.dropout=0.1", "--steps=8", "--checkpoint-every=4", "--augment=d4"]
    whole = run(*flags)
    with after_steps(5):
        broken = run(*flags, out="broken", status=130)
    assert checkpoints(broken)[-1].name == "step_000005"
    assert jepa.main(["--resume", str(broken)]) == 0
    assert losses(broken) == losses(whole) and len(losses(whole)) == 8
    assert read_table(broken / "validation.csv") == read_table(whole / "validation.csv")
    ends = [read_checkpoint(folder / "checkpoints" / "step_000008").weights for folder in (broken, whole)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_momentum_climbs_to_1_over_the_run(run, monkeypatch):
    moved, move = [], jepa.JEPA.move_target
    monkeypatch.setattr(jepa.JEPA, "move_target", lambda self, momentum: moved.append(momentum) or move(self, momentum))
    run("--steps=5", "--momentum=0.6", "--validate-every=5")
    assert moved[0] == pytest.approx(0.6) and moved[-1] == 1.0
    assert moved == sorted(moved) and moved[2] == pytest.approx(0.8)


def test_compactness_teaches_theta_E(run, monkeypatch):
    """Alone: with the prediction left out of the loss, which teaches next to nothing of it."""
    flags = ["--encoder=physics", *STREAM, "--steps=40", "--validate-every=40", "--optimizer.lr=3e-3",
             "--momentum=0.5", "--set=lens.theta_E=1.1"]  # fmt: skip
    monkeypatch.setattr(jepa, "jepa_loss", lambda outputs: 0.0 * jepa_loss(outputs))
    rows = read_table(run(*flags) / "validation.csv")
    assert float(rows[-1]["compactness"]) < 0.7 * float(rows[0]["compactness"])
    # that of the context, which a running mean has yet to follow
    assert float(rows[-1]["context_theta_E_rms_arcsec"]) < 0.5 * float(rows[0]["context_theta_E_rms_arcsec"])
    still = run(*flags, "--compactness=0", out="still")
    rows = read_table(still / "validation.csv")
    assert "compactness" not in rows[0]
    assert float(rows[-1]["theta_E_rms_arcsec"]) == pytest.approx(float(rows[0]["theta_E_rms_arcsec"]), rel=0.05)


def test_images_that_cannot_be_hidden_are_refused(make_blobs, tmp_path):
    arrays = make_blobs(150)
    np.savez(tmp_path / "wide.npz", **(arrays | {"image": arrays["image"][:, 2:-2]}))
    for flags, message in (
        ([f"--data={tmp_path / 'wide.npz'}"], r"images are 12 x 16 pixels; masks take square ones"),
        ([*STREAM, "--set=normalise=peak"], r"divided by their own peak, hidden or not.*--set normalise=none"),
    ):
        with pytest.raises(ConfigError, match=message):
            jepa.main([*SMALL, *flags, f"--out={tmp_path / 'run'}"])


def test_one_class_is_judged_without_labels(make_blobs, tmp_path):
    np.savez(tmp_path / "one.npz", **(make_blobs(150) | {"label": np.zeros(150, dtype=np.int64)}))
    out = tmp_path / "run"
    argv = [*SMALL, f"--data={tmp_path / 'one.npz'}", f"--out={out}", "--steps=2", "--validate-every=2"]
    assert jepa.main(argv) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert "linear_accuracy" not in metrics and metrics["feature_rank"] >= 1
    assert read_checkpoint(best_or_newest(out)).about["best"]["figure"] == "feature_rank"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--compactness=1"], "--compactness is of --encoder physics and does nothing to vit"),
        (["--encoder=physics", "--compactness=-1"], "compactness is -1.0; allowed: 0 or more"),
        (["--encoder=vitsd", "--vit.drop-path=0.1"], "--vit.drop-path does nothing to --encoder vitsd"),
        (["--augment=byol"], "invalid choice|byol"),
        (["--input-transform=minmax"], "scales an image by its brightest pixel, hidden or not"),
        (["--momentum=1.5"], "momentum is 1.5; allowed: 0 to 1"),
        (["--detectability=3"], "--detectability is of simulated images"),
        (["--vit.patch-size=4"], "no block of 4 x 4 patches has that share; .* smaller --vit.patch-size"),
        (["--predictor.width=10"], "predictor.width is 10 with predictor.heads 2"),
        (["--mask.target-scale", "0.9", "0.1"], "mask.target_scale is 0.9 0.1"),
        (["--encoder=physics", "--vit.timm-name=vit_tiny_patch16_224"], "is of --model vit"),
        (["--encoder=resnet"], "invalid choice|resnet"),
    ],
)
def test_what_cannot_be_is_refused_by_name(flags, message, run, capsys):
    with pytest.raises((ConfigError, SystemExit)) as refused:
        run(*flags)
    said = capsys.readouterr().err.replace("│", " ") if isinstance(refused.value, SystemExit) else str(refused.value)
    assert re.search(message, " ".join(said.split()))
