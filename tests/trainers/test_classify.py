"""The classifier: that it learns what is there and nothing else, from what, and that its figures are what they say."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import trainers
from trainers import classification, classify, classify_evaluation, finetune, mae
from trainers.checkpoint import checkpoints, read_checkpoint
from trainers.classify_only import EvaluateConfig
from trainers.command_line import load_config
from trainers.config import DataConfig, RunConfig, ValidationConfig
from trainers.data import open_data
from trainers.errors import CheckpointError, ConfigError, TrainingError
from trainers.frozen import FrozenImages
from trainers.loop import Loop
from trainers.models.classifier import probabilities_and_logits
from trainers.models.encoders import load_encoder
from trainers.models.heads import take_encoder
from trainers.models.registry import build_model
from trainers.models.vit import ViTConfig
from trainers.probes import in_chunks
from trainers.stored import read_stored
from trainers.transform import InputTransform

CPU = torch.device("cpu")


@pytest.fixture
def save(make_blobs, tmp_path):
    """Writes a stored set with some arrays replaced: `save("a.npz", 90, label=...)` -> its path."""

    def write(name, count=200, side=16, **change):
        np.savez(tmp_path / name, **{**make_blobs(count, side), **change})
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def flags(tiny):
    """Those of `tiny` that are not of the decoder."""
    return [flag for flag in tiny if not flag.startswith("--decoder")]


@pytest.fixture
def run(stored, tmp_path, flags):
    """Runs the trainer on the stored set: `run("--steps=4", out=...)` -> the run's folder."""

    def train(*more, out="classify", data=stored, status=0):
        folder = tmp_path / out
        where = ["--data", str(data), "--out", str(folder), "--steps=6", "--validate-every=3", "--augment=none"]
        assert classify.main([*flags, *where, *more]) == status
        return folder

    return train


@pytest.fixture(scope="session")
def pretrained(stored, tiny, tmp_path_factory):
    """The folder of a short run of trainers.mae."""
    folder = tmp_path_factory.mktemp("runs") / "mae"
    assert mae.main([*tiny, "--data", str(stored), "--out", str(folder), "--steps=4", "--validate-every=4"]) == 0
    return folder


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_a_run_leaves_everything_behind(run, capsys):
    folder = run()
    names = {path.name for path in folder.iterdir()}
    assert names == {"checkpoints", "config.yaml", "encoder", "metrics.json", "predictions.npz", "summary.json",
                     "tensorboard", "test.png", "train.csv", "validation.csv"}  # fmt: skip
    found, summary = metrics(folder), json.loads((folder / "summary.json").read_text())
    assert found["images"] == 20 and np.sum(found["confusion"]) == 20 and len(found["auc"]) == 3
    assert set(summary["trained"]) == {"macro_auc", "accuracy", "loss"}
    assert (summary["images_seen"], summary["images_repeated"]) == (48, 0)
    said = capsys.readouterr().out
    assert "on 20 test images" in said and "AUC of class 2" in said and "48, all different" in said


def test_shuffled_labels_give_chance_on_test_and_true_ones_do_not(run, save, make_blobs):
    long = ["--model=cnn", "--steps=100", "--validate-every=100", "--batch-size=32", "--validation.test=150"]
    true = save("true.npz", 500)
    label = np.random.default_rng(1).permutation(make_blobs(500)["label"])
    shuffled = save("shuffled.npz", 500, label=label)
    found = metrics(run(*long, out="a", data=true))["macro_auc"]
    assert found["value"] > 0.95 and found["low"] > 0.9
    found = metrics(run(*long, out="b", data=shuffled))["macro_auc"]
    assert found["low"] < 0.5 < found["high"] and found["high"] < 0.65


def test_the_encoder_is_that_of_the_pretraining_with_its_options_and_transform(run, pretrained, monkeypatch):
    monkeypatch.setattr(Loop, "run", lambda self: tasks.append(self.task) or self._save())
    tasks = []
    with pytest.raises(TrainingError):  # nothing was trained, so nothing was best
        run("--encoder", str(pretrained), "--vit.depth=2", "--vit.drop-path=0.1", "--input-transform=minmax")
    task = tasks[0]
    encoder = load_encoder(pretrained)
    own, taken = task.model.state_dict(), encoder.module.state_dict()
    assert set(own) - set(taken) == {"head.weight", "head.bias"}
    assert all(torch.equal(own[name], value) for name, value in taken.items())
    assert task.data.transform == encoder.transform and task.about["transform"] == encoder.transform.as_json()
    assert task.about["model"]["vit"]["depth"] == 1 and task.about["model"]["vit"]["drop_path"] == 0.1


def test_the_head_sees_the_features_that_pretraining_probes(pretrained, stored):
    encoder = load_encoder(pretrained)
    loaded = trainers.load(pretrained)
    images = read_stored(stored).image[:4]
    features = build_model("vit", (1, 16, 16), 0, ViTConfig(patch_size=4, depth=1, width=16, heads=2))
    take_encoder(features, encoder.module)
    torch.testing.assert_close(features.eval()(encoder.transform(images)), loaded.model.predict(images))


@pytest.mark.parametrize("method", ["linear", "knn"])
def test_a_frozen_encoder_stays_as_it_is_bit_for_bit(run, pretrained, method):
    folder = run("--encoder", str(pretrained), "--method", method, "--vit.dropout=0.5", "--optimizer.lr=0.1")
    saved, taken = read_checkpoint(folder).weights, load_encoder(pretrained).module.state_dict()
    assert all(torch.equal(saved[f"encoder.{name}"], value) for name, value in taken.items())


def test_a_linear_probe_keeps_even_the_batch_norms_of_its_encoder(run):
    folder = run("--model=test_resnet", "--method=linear")
    saved = [read_checkpoint(path).weights for path in checkpoints(folder)]
    assert len(saved) == 2
    for name in saved[0]:
        assert torch.equal(saved[0][name], saved[1][name]) == (not name.startswith("head.")), name
    assert saved[0]["deviation"].std() > 0


def test_knn_is_sklearns_on_standardised_features_with_cosine_distance(run, pretrained, stored):
    folder = run("--encoder", str(pretrained), "--method=knn")
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["steps"], summary["images_seen"], summary["images_repeated"]) == (0, 30, 0)
    config = load_config(classify.ClassifyConfig, folder)
    data = open_data(config.data, config.validation, 8, CPU)
    seen = [row for first, past in read_checkpoint(folder).about["seen"] for row in range(first, past)]
    held_out = torch.cat([data.fit.index, data.score.index, *(batch.index for batch in data.test())])
    assert len(seen) == 30 and not set(seen) & set(held_out.tolist())
    encoder = load_encoder(pretrained)
    features = lambda image: encoder.module.forward_features(encoder.transform(image))[:, 1:].mean(dim=1)  # noqa: E731
    rows = read_stored(stored).take(torch.tensor(seen), CPU)
    sklearn = make_pipeline(StandardScaler(), KNeighborsClassifier(3, metric="cosine"))
    sklearn.fit(in_chunks(features, rows.image), rows.label)
    test = next(data.test())
    votes = 3 * sklearn.predict_proba(in_chunks(features, test.image))
    found = trainers.load(folder).model.predict(test).numpy()
    np.testing.assert_allclose(found, (votes + 1 / 3) / 4, atol=1e-5)
    assert metrics(folder)["accuracy"]["value"] == pytest.approx((found.argmax(axis=1) == test.label.numpy()).mean())


def test_test_figures_are_of_the_best_checkpoint(run, monkeypatch):
    auc = iter([0.5, 0.9, 0.6, 0.7])  # of steps 0, 2, 4 and 6
    validate = classify.ClassifyTask.validate
    monkeypatch.setattr(classify.ClassifyTask, "validate", lambda self: validate(self) | {"macro_auc": next(auc)})
    folder = run("--validate-every=2", "--keep=1", "--optimizer.lr=0.01")
    found = metrics(folder)
    assert found["step"] == 2 and found["checkpoint"].endswith("step_000002")
    best = trainers.load(folder / "checkpoints" / "step_000002").model
    config = load_config(classify.ClassifyConfig, folder)
    test = next(open_data(config.data, config.validation, 8, CPU).test())
    right = float((best.predict(test).argmax(dim=1) == test.label).float().mean())
    assert found["accuracy"]["value"] == pytest.approx(right)


def test_validation_is_of_all_validation_images_and_test_images_are_looked_at_once(run, monkeypatch):
    looked = []
    batches = FrozenImages.held_out
    monkeypatch.setattr(FrozenImages, "held_out", lambda data: looked.append(data.test_size) or batches(data))
    sizes = []
    monkeypatch.setattr(
        classification,
        "probabilities_and_logits",
        lambda model, images: sizes.append(len(images)) or probabilities_and_logits(model, images),
    )
    run()
    assert looked == [20] and sizes == [42, 42, 42]


def test_evaluate_only_gives_the_figures_of_the_trainings_end(run, stored, capsys):
    folder = run("--average-d4")
    before = metrics(folder)
    for number in (1, 2):
        assert classify.main(["--evaluate-only", str(folder)]) == 0
        assert metrics(folder / f"evaluation_00{number}") == before
    assert metrics(folder) == before and f"written          {folder}/evaluation_002/test.png" in capsys.readouterr().out
    # the training's own set, named again: still what was held out
    assert classify.main(["--evaluate-only", str(folder), "--data", str(stored), "--out", f"{folder}/again"]) == 0
    assert metrics(folder / "again") == before
    with pytest.raises(ConfigError, match=r"again holds a metrics\.json already"):
        classify.main(["--evaluate-only", str(folder), "--out", f"{folder}/again"])


def test_evaluate_only_takes_all_rows_of_another_set_and_the_checkpoints_transform(run, save, make_blobs, tmp_path):
    folder = run()
    other = save("other.npz", 90, image=7 * make_blobs(90)["image"])
    out = tmp_path / "out"
    assert classify.main([f"--evaluate-only={folder}", "--data", str(other), "--out", str(out)]) == 0
    found, stored = metrics(out), read_stored(other)
    assert found["images"] == 90 and found["data"]["fingerprint"] == stored.fingerprint
    model = trainers.load(folder).model
    right = model.predict(stored.image).argmax(dim=1) == stored.label
    assert found["accuracy"]["value"] == pytest.approx(float(right.float().mean()))


def test_evaluate_only_refuses_what_does_not_fit(run, save):
    folder = run("--steps=2")
    small = save("small.npz", side=8)
    with pytest.raises(CheckpointError, match=r"takes images of \(1, 16, 16\), these are \(1, 8, 8\)"):
        classify.main(["--evaluate-only", str(folder), "--data", str(small)])
    more = save("more.npz", label=np.arange(200) % 5)
    with pytest.raises(CheckpointError, match=r"tells apart class 0, class 1, class 2; these .* class 4"):
        classify.main(["--evaluate-only", str(folder), "--data", str(more)])
    with pytest.raises(ConfigError, match="detectability is of simulated images"):
        classify.main(["--evaluate-only", str(folder), "--detectability=5"])


def test_a_loaded_model_averages_over_symmetries_as_its_run_was_tested(run):
    folder = run("--average-d4", "--steps=3")
    saved = np.load(folder / "predictions.npz")
    config = load_config(classify.ClassifyConfig, folder)
    test = next(open_data(config.data, config.validation, 8, CPU).test())
    assert saved["index"].tolist() == test.index.tolist()
    model, transform = trainers.load(folder)
    np.testing.assert_allclose(model.predict(test).numpy(), saved["probability"], atol=1e-6)
    assert np.abs(classify.predict(model.module, transform, test.image).numpy() - saved["probability"]).max() > 1e-4


def test_knn_under_torchrun_is_refused(run, monkeypatch):
    monkeypatch.setattr(classify, "launch", lambda config: SimpleNamespace(world_size=2))
    with pytest.raises(ConfigError, match="knn takes no training steps"):
        run("--method=knn")


def test_class_names_are_compared():
    images = FrozenImages(1, None, None, (1, 8, 8), ("no_sub", "cdm"), {}, True)
    about = {"model": {"image_shape": [1, 8, 8]}, "class_names": ["no_sub", "axion"]}
    with pytest.raises(CheckpointError, match="run tells apart no_sub, axion; these images are of no_sub, cdm"):
        classify_evaluation.require_same_kind(images, about, "run")
    classify_evaluation.require_same_kind(images, about | {"class_names": ["class 0", "class 1"]}, "run")


def test_evaluate_only_refuses_the_runs_of_other_trainers(pretrained):
    with pytest.raises(CheckpointError, match=r"by trainers\.mae, not by trainers\.classify"):
        classify.main(["--evaluate-only", str(pretrained)])


def test_a_loaded_model_predicts_what_was_evaluated_from_the_same_tensor(run, monkeypatch):
    seen = []
    transform = InputTransform.__call__

    def noted(self, image):
        seen.append((self, transform(self, image)))
        return seen[-1][1]

    monkeypatch.setattr(InputTransform, "__call__", noted)
    folder = run("--steps=3")
    assert len({own for own, _ in seen}) == 1
    config = load_config(classify.ClassifyConfig, folder)
    test = next(open_data(config.data, config.validation, 8, CPU).test())
    evaluated = seen[-1][1]
    model, own = trainers.load(folder)
    probabilities = model.predict(test)
    assert own == seen[0][0] and torch.equal(seen[-1][1], evaluated)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(20))
    confusion = torch.zeros(3, 3, dtype=torch.long)
    for true, predicted in zip(test.label, probabilities.argmax(dim=1), strict=True):
        confusion[true, predicted] += 1
    assert confusion.tolist() == metrics(folder)["confusion"]


def test_a_resumed_run_is_the_run_that_was_not_interrupted(run, pretrained, monkeypatch):
    # with the encoder gone: its weights, options and transform are in the checkpoint
    flags = ["--encoder", str(pretrained), "--augment=d4", "--vit.drop-path=0.3", "--vit.dropout=0.1",
             "--label-smoothing=0.1", "--optimizer.layer-decay=0.7", "--checkpoint-every=3"]  # fmt: skip
    whole = run(*flags, out="whole")
    part = run(*flags, out="part")
    monkeypatch.setattr(finetune, "load_encoder", None)
    assert classify.main(["--resume", str(part / "checkpoints" / "step_000003")]) == 0
    one, two = metrics(whole), metrics(part)
    assert one.pop("checkpoint") != two.pop("checkpoint") and one == two


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": Path("a"), "model": "vit"}, "--encoder a and --model vit were both given"),
        ({"encoder": Path("a"), "pretrained": True}, "--encoder other ones"),
        ({"detectability": 5, "data": DataConfig(data=Path("a.npz"))}, "detectability is of simulated images"),
        ({"label_smoothing": 1.0}, r"label_smoothing is 1\.0; allowed: 0 to 0\.9"),
        ({"method": "knn", "run": RunConfig(devices=2)}, "knn takes no training steps"),
        ({"method": "knn", "resume": Path("a")}, "knn takes no training steps"),
        ({"method": "knn", "data": DataConfig(images=999)}, r"remembers --validation\.fit 1000 .* --images 999 leaves"),
    ],
)
def test_options_that_exclude_one_another(options, message):
    with pytest.raises(ConfigError, match=message):
        classify.ClassifyConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 5}, "a stored set is tested whole"),
        ({"preset": "model_a"}, "--data a and a preset were both given"),
        ({"stream": True}, "--data a and a preset were both given"),
        ({"detectability": 5}, "detectability is of simulated images"),
    ],
)
def test_evaluate_only_options_that_exclude_one_another(options, message):
    with pytest.raises(ConfigError, match=message):
        EvaluateConfig(Path("run"), data=Path("a"), **options)


def test_sets_that_do_not_fit_are_refused(run, pretrained, save, make_blobs):
    small = save("small.npz", side=8)
    with pytest.raises(ConfigError, match=r"mae was trained on images of \(1, 16, 16\), these are \(1, 8, 8\)"):
        run("--encoder", str(pretrained), data=small)
    one = save("one.npz", label=np.zeros(200, int))
    with pytest.raises(ConfigError, match="all of class class 0; a classifier needs two"):
        run(data=one)
    oblong = save("oblong.npz", image=make_blobs(200)["image"][:, :, :12])
    with pytest.raises(ConfigError, match="d4 turns images by 90 degrees, which 16 x 12 pixels"):
        run("--augment=d4", "--model=test_resnet", data=oblong)


def test_streamed_images_detectability_and_another_preset(flags, tmp_path):
    folder = tmp_path / "run"
    argv = [*flags, "--stream", "--set=grid.size=16", "--out", str(folder), "--steps=2", "--validate-every=2",
            "--detectability=6", "--vit.patch-size=8"]  # fmt: skip
    assert classify.main(argv) == 0
    found = metrics(folder)
    assert found["class_names"] == ["no_sub", "cdm", "axion"] and (folder / "detectability.png").exists()
    data = open_data(DataConfig(stream=True, set=("grid.size=16",)), ValidationConfig(10, 10, 20, 3), 8, CPU)
    labels = next(data.test()).label[:6]
    assert sum(entry["images"] for entry in found["detectability"]) == int((labels != 0).sum())
    assert classify.main(["--evaluate-only", str(folder)]) == 0
    again = metrics(folder / "evaluation_001")
    assert again.pop("data").items() < found.pop("data").items() and again == found  # but for the training's seed
    other = ["--preset=model_b", "--set=grid.size=16", "--validation.test=7", "--detectability=0"]
    assert classify.main(["--evaluate-only", str(folder), *other]) == 0
    other = metrics(folder / "evaluation_002")
    assert other["data"]["preset"] == "model_b" and other["images"] == 7 and "detectability" not in other
    with pytest.raises(CheckpointError, match=r"these are \(1, 64, 64\); give --set grid.size=16"):
        classify.main(["--evaluate-only", str(folder), "--preset=model_b"])


@pytest.mark.parametrize("more", [(), ("--model=test_resnet",)], ids=["vit", "timm"])
def test_a_fine_tuned_encoder_is_timms_in_one_call(run, stored, more):
    folder = run(*more)
    encoder = timm.create_model(f"local-dir:{folder / 'encoder'}", pretrained=True).eval()
    model, transform = trainers.load(folder)
    images = transform(read_stored(stored).image[:5])
    with torch.no_grad():
        whole = model.module.forward_head(model.module.forward_features(images), pre_logits=True)
        torch.testing.assert_close(encoder(images), whole, rtol=0, atol=1e-5)
