"""Whole small runs of trainers.ssl: what is left behind, resumed, refused; and that collapse is reported."""

import json
import re

import numpy as np
import pytest
import torch

from trainers import ssl
from trainers.checkpoint import best_or_newest, checkpoints, read_checkpoint
from trainers.loading import load
from trainers.logs import read_table
from trainers.models.encoders import load_encoder
from trainers.self_supervision.registry import METHODS
from trainers.stored import read_stored

SMALL = [
    "--accelerator=cpu", "--workers=0", "--batch-size=8", "--log-every=2", "--minutes=None", "--steps=6",
    "--validate-every=3", "--validation.fit=30", "--validation.score=12", "--validation.test=20",
    "--validation.neighbours=3", "--vit.patch-size=4", "--vit.depth=1", "--vit.width=16", "--vit.heads=2",
    "--head-hidden=32", "--head-width=16",
]  # fmt: skip
STREAM = ["--stream", "--set=grid.size=32", "--vit.patch-size=8"]


@pytest.fixture
def run(stored, tmp_path, monkeypatch):
    """`run("--method=byol", out=...)` -> the run's folder; without its figures unless they are asked for."""
    draw = ssl.SSLTask.draw

    def start(*flags, out="run", status=0, figures=False):
        monkeypatch.setattr(ssl.SSLTask, "draw", draw if figures else lambda self, folder: [])
        source = [] if "--stream" in flags else [f"--data={stored}"]
        assert ssl.main([*SMALL, *source, f"--out={tmp_path / out}", *flags]) == status
        return tmp_path / out

    return start


def losses(folder):
    return [(int(row["step"]), round(float(row["loss"]), 6)) for row in read_table(folder / "train.csv")]


def test_a_run_leaves_everything_behind(run, capsys):
    folder = run(figures=True)
    assert {path.name for path in folder.iterdir()} == {
        "checkpoints", "config.yaml", "encoder", "loss.png", "metrics.json", "predictions.npz", "probes.png",
        "summary.json", "tensorboard", "train.csv", "validation.csv", "views.png",
    }  # fmt: skip
    metrics, summary = (json.loads((folder / f"{name}.json").read_text()) for name in ("metrics", "summary"))
    for table in (metrics, metrics["untrained"], metrics["gain"]):
        for name in ("linear_accuracy", "knn_accuracy", "macro_auc"):
            assert table[name]["low"] <= table[name]["value"] <= table[name]["high"]
    for name in ("linear_accuracy", "macro_auc"):
        gain = metrics[name]["value"] - metrics["untrained"][name]["value"]
        assert metrics["gain"][name]["value"] == pytest.approx(gain)
    assert {"feature_rank", "alignment", "uniformity", "collapsed", "collapse"} <= metrics.keys()
    assert summary["collapsed"] is metrics["collapsed"] and summary["collapse"] == metrics["collapse"]
    assert {"knn_accuracy", "linear_accuracy", "r2/x", "feature_rank", "alignment", "uniformity"} <= set(
        summary["trained"]
    )
    with np.load(folder / "predictions.npz") as kept:
        assert set(kept) == {"index", "label", "probability", "untrained_probability"}
        assert kept["probability"].shape == kept["untrained_probability"].shape == (20, 3)
        np.testing.assert_allclose(kept["probability"].sum(axis=1), 1, rtol=1e-5)
        right = (kept["probability"].argmax(axis=1) == kept["label"]).mean()
    assert metrics["linear_accuracy"]["value"] == pytest.approx(right)
    assert "gain of the linear probe" in capsys.readouterr().out


def test_the_untrained_encoder_knows_the_images_and_nothing_else(run, stored, monkeypatch):
    """Its batch norms have the mean of the `fit` images: a probe's gain is not that of statistics."""
    seen = {}
    made = ssl.SSLTask._untrained

    def remembered(task):
        seen.update(untrained=made(task), images=task.data.transform(task.data.fit.image))
        return seen["untrained"]

    monkeypatch.setattr(ssl.SSLTask, "_untrained", remembered)
    folder = run("--model=cnn", "--method=byol", "--steps=2", "--validate-every=2")
    encoder = seen["untrained"].encoder
    folded, first, norm = list(encoder.layers)[:3]
    assert not encoder.training and isinstance(norm, torch.nn.BatchNorm2d)
    expected = first(folded(seen["images"])).mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, expected, rtol=1e-4, atol=1e-6)
    trained = load_encoder(folder).module.state_dict()
    own = encoder.state_dict()
    learnt = [name for name in own if name.endswith("weight")]
    assert own.keys() == trained.keys() and any(not torch.equal(own[name], trained[name]) for name in learnt)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "simclr"])
def test_every_method_runs_whole(method, run):
    folder = run(f"--method={method}", "--steps=2", "--validate-every=2")
    about = read_checkpoint(folder).about
    assert about["trainer"] == "ssl" and about["model"]["method"] == method
    assert set(about["model"]) == {"name", "image_shape", "vit", "method", "heads", "options"}


@pytest.mark.parametrize("model", ["vit", "cnn", "resnet18"])
def test_the_encoder_is_loaded_exported_and_used(model, run, stored):
    folder = run(f"--model={model}", "--method=byol", "--steps=2", "--validate-every=2")
    image = read_stored(stored).image[:5]
    model_of_run, transform = load(folder)
    features = model_of_run.predict(image)
    encoder = load_encoder(folder)
    torch.testing.assert_close(encoder.module(encoder.transform(image)), features)
    assert features.shape == (5, {"vit": 16, "cnn": 128, "resnet18": 512}[model])
    assert (folder / "encoder").exists() is (model != "cnn")
    if model != "cnn":
        import timm

        exported = timm.create_model(f"local-dir:{folder / 'encoder'}", pretrained=True).eval()
        torch.testing.assert_close(exported(transform(image)), features)


@pytest.mark.parametrize("method", ["dino", "lejepa"])
def test_a_resumed_run_is_the_run_that_was_never_interrupted(method, run, after_steps):
    """DINO's teacher and centre, LeJEPA's directions; batch norms; dropout."""
    flags = [f"--method={method}", "--vit.dropout=0.1", "--steps=8", "--checkpoint-every=4", "--local-views=1"]
    whole = run(*flags)
    with after_steps(5):
        broken = run(*flags, out="broken", status=130)
    assert checkpoints(broken)[-1].name == "step_000005"
    assert ssl.main(["--resume", str(broken)]) == 0
    assert losses(broken) == losses(whole) and len(losses(whole)) == 8
    assert read_table(broken / "validation.csv") == read_table(whole / "validation.csv")
    ends = [read_checkpoint(folder / "checkpoints" / "step_000008").weights for folder in (broken, whole)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("method", ["byol", "dino"])
def test_a_time_limit_shortens_the_schedule_of_the_teacher_and_leaves_no_trace(method, run, monkeypatch):
    asked, original = [], ssl.cosine_schedule
    monkeypatch.setattr(ssl, "cosine_schedule", lambda *args: asked.append(args[:2]) or original(*args))
    monkeypatch.setattr("trainers.loop.affordable_steps", lambda step, *_: step() or step() or 3)
    limited = run(f"--method={method}", "--minutes=1")
    assert asked == [(5, 6), (5, 6), (0, 3), (1, 3), (2, 3)]
    assert losses(limited) == losses(run(f"--method={method}", "--steps=3", out="other"))


@pytest.mark.slow
def test_byol_without_teacher_and_predictor_collapses_and_says_so_and_byol_does_not(run, capsys):
    flags = ["--method=byol", "--steps=150", "--validate-every=25", "--optimizer.lr=3e-3", "--batch-size=32"]
    found = {}
    for name, more in (("byol", []), ("without", ["--no-ema", "--no-predictor"])):
        folder = run(*flags, *more, out=name)
        said = capsys.readouterr()
        found[name] = json.loads((folder / "metrics.json").read_text())
        assert ("warning: the projections of different images have become" in said.err) is (name == "without")
        assert ("collapsed        no" in said.out) is (name == "byol")
        last = read_table(folder / "validation.csv")[-1]
        assert float(last["collapsed"]) == found[name]["collapsed"] == (name == "without")
    assert found["byol"]["collapse"] == "" and "mean cosine" in found["without"]["collapse"]


@pytest.mark.slow
def test_simulated_pairs_train_with_workers_and_resume(run):
    flags = [*STREAM, "--views=simulate", "--method=byol", "--checkpoint-every=3"]
    one, two = run(*flags), run(*flags, "--workers=1", out="two")
    assert losses(one) == losses(two)
    assert ssl.main(["--resume", str(one / "checkpoints" / "step_000003")]) == 0
    assert losses(one) == losses(two)
    assert json.loads((one / "summary.json").read_text())["images_distinct"] == 48


def test_simulated_pairs_and_detectability(run):
    folder = run(*STREAM, "--views=simulate", "--telescope=euclid_vis_2022", "--detectability=4", "--steps=2",
                 "--validate-every=2", figures=True)  # fmt: skip
    with np.load(folder / "predictions.npz") as kept:
        assert kept["detectability"].shape == (4,) and (kept["detectability"] >= 0).all()
    assert (folder / "views.png").is_file()


def test_one_class_is_judged_without_labels(make_blobs, tmp_path):
    arrays = make_blobs(150) | {"label": np.zeros(150, dtype=np.int64)}
    np.savez(tmp_path / "one.npz", **arrays)
    out = tmp_path / "run"
    argv = [*SMALL, f"--data={tmp_path / 'one.npz'}", f"--out={out}", "--steps=2", "--validate-every=2"]
    assert ssl.main(argv) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert "linear_accuracy" not in metrics and metrics["feature_rank"] >= 1
    assert read_checkpoint(best_or_newest(out)).about["best"]["figure"] == "feature_rank"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--views=simulate"], "a stored set such as .* cannot: give --stream"),
        (["--change", "noise"], "--change is of --views simulate"),
        (["--telescope", "euclid_vis_2022"], "--telescope is of --views simulate"),
        (["--augment=none"], "shows the same image twice"),
        (["--detectability=3"], "--detectability is of simulated images"),
        (["--method=byol", "--temperature=0.1"], "--temperature does nothing to --method byol"),
        (["--no-ema"], "--no-ema does nothing to --method simclr"),
    ],
)
def test_what_cannot_be_is_refused_by_name(flags, message, run, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(*flags)
    assert re.search(message, " ".join(capsys.readouterr().err.replace("│", " ").split()))
