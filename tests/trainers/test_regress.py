"""The regressor: that it learns a value and how well it knows it, from one class, and says so in the right units."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import lensgen
import trainers
from lensgen.errors import UnknownNameError
from trainers import mae, regress
from trainers.checkpoint import read_checkpoint
from trainers.command_line import load_config
from trainers.config import DataConfig, ValidationConfig
from trainers.data import open_data
from trainers.errors import ConfigError, DataError
from trainers.frozen import FrozenImages
from trainers.models.encoders import load_encoder
from trainers.models.regressor import BOUND, Scaling, estimates, gaussian, gaussian_nll
from trainers.regress_evaluation import as_text, regression_figures
from trainers.regress_figures import draw_calibration, draw_predicted
from trainers.stored import read_stored
from trainers.targets import find_target

CPU = torch.device("cpu")
MASS = find_target("axion_mass")


@pytest.fixture(scope="session")
def masses(make_blobs, tmp_path_factory):
    """The path of a stored set whose third class is brighter, the heavier its axion."""
    path = tmp_path_factory.mktemp("masses") / "masses.npz"
    arrays = make_blobs(600)
    x, axion = arrays.pop("x"), arrays["label"] == 2
    arrays["image"] = arrays["image"] * np.exp(x / 3)[:, None, None].astype(np.float32)
    mass = np.where(axion, 10 ** (x / 4 - 23.0), 0)
    np.savez(path, **arrays, **{MASS.parameter: mass, "lens.e1": x / 9}, class_names=["no_sub", "cdm", "axion"])
    return path


@pytest.fixture
def run(masses, tiny, tmp_path):
    """Runs the trainer on that set: `run("--steps=4", out=...)` -> the run's folder."""
    flags = [flag for flag in tiny if not flag.startswith("--decoder")]

    def train(*more, out="regress", data=masses, status=0):
        folder = tmp_path / out
        where = ["--data", str(data)] if data else ["--stream", "--set=grid.size=16"]
        argv = [*flags, *where, "--out", str(folder), "--steps=6", "--validate-every=3", "--augment=none", *more]
        assert regress.main(argv) == status
        return folder

    return train


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_it_learns_a_mass_and_leaves_everything_behind(run, capsys):
    folder = run("--model=cnn", "--steps=200", "--validate-every=50", "--batch-size=32", "--optimizer.lr=3e-3")
    names = {path.name for path in folder.iterdir()}
    assert names == {"calibration.png", "checkpoints", "config.yaml", "metrics.json", "predicted.png",
                     "predictions.npz", "summary.json", "tensorboard", "train.csv", "validation.csv"}  # fmt: skip
    found, saved = metrics(folder), np.load(folder / "predictions.npz")
    assert found["rmse_dex"]["value"] < 0.35 * found["prior_rmse_dex"] and found["r2"] > 0.9
    assert found["rmse_dex"]["low"] < found["rmse_dex"]["value"] < found["rmse_dex"]["high"]
    error = saved["predicted"] - saved["truth"]
    assert found["rmse_dex"]["value"] == pytest.approx(np.sqrt((error**2).mean()))
    # of the class alone, in decades of eV
    stored = read_stored(Path(found["data"]["data"]))
    assert (stored.label[saved["index"]] == 2).all() and found["data"]["label"] == "axion"
    np.testing.assert_allclose(
        saved["truth"], np.log10(stored.params[MASS.parameter].numpy()[saved["index"]]), atol=1e-6
    )
    said = capsys.readouterr().out
    assert "log10(axion mass / eV) on 20 test images" in said and "RMSE [dex] near 1e-23 eV" in said


def test_test_images_are_disjoint_from_all_others_and_of_the_class(masses):
    validation = ValidationConfig(fit=30, score=12, test=20, neighbours=3)
    data = open_data(DataConfig(data=masses), validation, 20, CPU, label="axion")
    batches = iter(data.source)
    trained = torch.cat([next(batches).index for _ in range(40)]).unique()
    held_out = torch.cat([data.fit.index, data.score.index, data.test_index])
    label = read_stored(masses).label
    assert len(held_out.unique()) == 62 and not set(trained.tolist()) & set(held_out.tolist())
    assert len(trained) + 62 == int((label == 2).sum()) and (label[held_out] == 2).all()
    # with fewer test images, a part of the same
    fewer = open_data(DataConfig(data=masses), ValidationConfig(25, 12, 9, 3), 20, CPU, label="axion")
    assert torch.equal(fewer.test_index, data.test_index[:9])
    with pytest.raises(DataError, match=r"has no class axon, but no_sub, cdm, axion"):
        open_data(DataConfig(data=masses), validation, 20, CPU, label="axon")
    with pytest.raises(DataError, match=r"images of class axion, of which validation and test would hold out 142"):
        open_data(DataConfig(data=masses), ValidationConfig(100, 22, 20, 3), 20, CPU, label="axion")


def test_a_stream_is_of_the_class_and_its_best_checkpoint_predicts(run):
    folder = run("--vit.patch-size=8", data=None)
    model = trainers.load(folder).model
    batch = lensgen.Simulator("model_a", seed=3, device="cpu").override({"grid.size": 16}).batch(0, 5, label="axion")
    found = model.predict(batch)
    assert found.shape == (5, 1, 2) and (found[..., 1] > 0).all()
    # log10 of 1e-24 to 1e-23 eV
    assert ((found[..., 0] > -24.5) & (found[..., 0] < -22.5)).all()
    config = load_config(regress.RegressConfig, folder)
    data = open_data(config.data, config.validation, 8, CPU, label="axion")
    for part in (data.fit, data.score, next(iter(data.source)), next(data.test())):
        assert {data.class_names[label] for label in part.label} == {"axion"}
    saved = np.load(folder / "predictions.npz")
    test = next(data.test())
    assert saved["index"].tolist() == test.index.tolist() and metrics(folder)["data"]["label"] == "axion"
    predicted, sigma = model.predict(test)[:, 0].T
    np.testing.assert_allclose(saved["predicted"], predicted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(saved["sigma"], sigma, rtol=0, atol=1e-6)
    np.testing.assert_allclose(saved["truth"], MASS.of(test.params))


def test_the_best_checkpoint_is_tested_and_the_test_looked_at_once(run, monkeypatch):
    nll, validate, looked = iter([0.0, 2.0, 1.0, 3.0]), regress.RegressTask.validate, []  # of steps 0, 2, 4 and 6
    monkeypatch.setattr(regress.RegressTask, "validate", lambda self: validate(self) | {"nll": next(nll)})
    held_out = FrozenImages.held_out
    monkeypatch.setattr(FrozenImages, "held_out", lambda data: looked.append(data.test_size) or held_out(data))
    folder = run("--validate-every=2", "--optimizer.lr=0.01")
    assert metrics(folder)["step"] == 4 and looked == [20]
    saved = np.load(folder / "predictions.npz")
    images = read_stored(Path(metrics(folder)["data"]["data"])).image[torch.from_numpy(saved["index"])]
    best, last = (trainers.load(folder / "checkpoints" / f"step_00000{step}").model for step in (4, 6))
    np.testing.assert_allclose(saved["predicted"], best.predict(images)[:, 0, 0], rtol=0, atol=1e-6)
    assert np.abs(saved["predicted"] - last.predict(images)[:, 0, 0].numpy()).max() > 1e-4


@pytest.mark.parametrize("more", [("--model=cnn",), ("--method=linear", "--model=test_resnet")])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(run, more):
    flags = [*more, "--augment=byol", "--checkpoint-every=3"]
    whole, part = run(*flags, out="whole"), run(*flags, out="part")
    assert regress.main(["--resume", str(part / "checkpoints" / "step_000003")]) == 0
    one, two = metrics(whole), metrics(part)
    assert one.pop("checkpoint") != two.pop("checkpoint") and one == two


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_an_encoder_of_ssl_is_fine_tuned_or_frozen(run, pretend_ssl, tmp_path, name):
    left = pretend_ssl(tmp_path / "ssl", name)
    folder = run(f"--encoder={tmp_path / 'ssl'}", "--method=linear", "--optimizer.lr=0.1")
    checkpoint = read_checkpoint(folder)
    assert all(torch.equal(checkpoint.weights[f"encoder.{key}"], own) for key, own in left.state_dict().items())
    assert checkpoint.about["transform"] == load_encoder(tmp_path / "ssl").transform.as_json()
    assert checkpoint.about["model"]["name"] == name and checkpoint.about["pretrained_on"]["seen"] == []
    tuned = run(f"--encoder={tmp_path / 'ssl'}", "--optimizer.lr=1e-9", out="tuned")
    own = read_checkpoint(tuned).weights
    for key, parameter in left.named_parameters():
        torch.testing.assert_close(own[key], parameter.detach(), rtol=1e-5, atol=1e-6)
    assert (tuned / "encoder").is_dir() == (name == "vit")


def test_an_encoder_that_saw_test_images_is_refused(run, masses, tiny, tmp_path):
    folder, sizes = tmp_path / "mae", ["--validation.fit=10", "--validation.score=10", "--validation.test=15"]
    argv = [*tiny, *sizes, "--data", str(masses), "--out", str(folder), "--steps=75", "--validate-every=75"]
    assert mae.main(argv) == 0
    with pytest.raises(
        ConfigError, match=r"mae: it was trained on \d+ of these 20 test images\. Raise --validation\.t"
    ):
        run(f"--encoder={folder}")
    run(f"--encoder={folder}", "--validation.test=2", out="fewer")


def test_the_scaling_is_of_the_fit_images_and_kept(run):
    folder = run()
    config = load_config(regress.RegressConfig, folder)
    data = open_data(config.data, config.validation, 8, CPU, label="axion")
    mass = MASS.of(data.fit.params)
    scaling = read_checkpoint(folder).about["scaling"]
    assert scaling == {"mean": [pytest.approx(mass.mean())], "deviation": [pytest.approx(mass.std(correction=0))]}
    target = metrics(folder)["target"]
    assert (target["mean"], target["unit"], target["log10"]) == (scaling["mean"][0], "eV", True)


def test_options_that_make_no_sense_are_refused(run):
    with pytest.raises(UnknownNameError, match=r"unknown target 'axionmass'. Did you mean 'axion_mass'"):
        regress.RegressConfig(target="axionmass")
    with pytest.raises(ConfigError, match=r"--augment d4 shows images for which e1 is another; allowed: none, noise"):
        regress.RegressConfig(target="lens.e1", augment="d4")
    with pytest.raises(ConfigError, match="--encoder a and --model vit were both given"):
        regress.RegressConfig(encoder=Path("a"), model="vit")
    with pytest.raises(DataError, match=r"target theta_E is the parameter lens\.theta_E, which these images do not"):
        run("--target=theta_E")
    with pytest.raises(ConfigError, match=r"theta_E is 1\.2\d* for all images: there is nothing to learn"):
        run("--target=theta_E", "--set=lens.theta_E=1.2", data=None, out="other")


def test_a_target_of_all_classes_has_its_own_unit(run):
    folder = run("--target=lens.e1", "--method=linear")
    found = metrics(folder)
    assert {"rmse", "prior_rmse"} <= found.keys() and not any("dex" in key or "near" in key for key in found)
    assert "label" not in found["data"] and read_checkpoint(folder).about["targets"] == ["e1"]


def test_the_likelihood_is_a_gaussians_of_standardised_targets():
    torch.manual_seed(0)
    value = 3 * torch.randn(50, 2, dtype=torch.float64) - 23
    scaling = Scaling.of(value)
    standard = scaling.standardise(value)
    torch.testing.assert_close(standard.mean(0), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(standard.std(0, correction=0), torch.ones(2))
    outputs = torch.randn(50, 4)
    mean, log_variance = gaussian(outputs)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    torch.testing.assert_close(gaussian_nll(outputs, standard), -normal.log_prob(standard).mean())
    # nothing said but the prior
    assert float(gaussian_nll(torch.zeros(50, 4), standard)) == pytest.approx(0.5 * np.log(2 * np.pi) + 0.5, abs=1e-4)
    found = estimates(torch.zeros(50, 4), scaling)
    assert found.shape == (50, 2, 2) and found[7, 1].tolist() == [scaling.mean[1], scaling.deviation[1]]


def test_no_output_makes_the_loss_infinite():
    outputs = torch.tensor([[0.0, 1e4], [0.0, -1e4]], requires_grad=True)
    loss = gaussian_nll(outputs, torch.tensor([[3.0], [0.0]]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(outputs.grad).all()
    assert gaussian(outputs)[1].abs().max() <= BOUND


@pytest.fixture
def known():
    """20,000 predictions whose errors are the Gaussians that they say."""
    rng = np.random.default_rng(0)
    truth, sigma = rng.uniform(-24, -22, 20_000), rng.uniform(0.05, 0.3, 20_000)
    return truth, truth + sigma * rng.normal(size=20_000), sigma


def test_figures_of_known_errors(known):
    truth, predicted, sigma = known
    found = regression_figures(truth, predicted, sigma, -23.0, MASS, resamples=200)
    assert found["z_std"] == pytest.approx(1, abs=0.02) and found["z_mean"] == pytest.approx(0, abs=0.03)
    assert found["coverage_68"] == pytest.approx(0.683, abs=0.01)
    assert found["coverage_95"] == pytest.approx(0.95, abs=0.006)
    expected = np.sqrt((sigma**2).mean())
    assert found["rmse_dex"]["value"] == pytest.approx(expected, rel=0.02)
    assert 0 < found["rmse_dex"]["high"] - found["rmse_dex"]["low"] < 0.1 * expected
    assert found["prior_rmse_dex"] == pytest.approx(2 / np.sqrt(12), rel=0.02)
    assert found["r2"] == pytest.approx(1 - 12 * expected**2 / 4, abs=0.01)
    # a quarter of two decades is within 0.25 dex of 1e-23 eV; its prior is a narrow one
    assert found["images_near"] == pytest.approx(5000, abs=200)
    assert found["prior_rmse_dex_near"] == pytest.approx(0.5 / np.sqrt(12), rel=0.03)
    overconfident = regression_figures(truth, predicted, sigma / 2, -23.0, MASS, resamples=2)
    assert overconfident["z_std"] == pytest.approx(2, abs=0.04) and overconfident["coverage_68"] < 0.4


def test_errors_near_a_value_are_of_the_images_near_it():
    truth = np.array([-23.2, -23.0, -22.8, -22.7, -24.0])
    error = np.array([0.1, -0.1, 0.1, 9.0, 9.0])
    found = regression_figures(truth, truth + error, np.ones(5), -23.0, MASS, resamples=20)
    assert found["images_near"] == 3 and found["rmse_dex_near"]["value"] == pytest.approx(0.1)
    far = regression_figures(truth[3:], truth[3:] + 1, np.ones(2), -23.0, MASS, resamples=20)
    assert far["rmse_dex_near"]["value"] is None and far["prior_rmse_dex_near"] is None
    assert "no such image" in as_text(far, MASS)


def test_figures_are_drawn_of_many_images_and_of_one(known, tmp_path):
    for count in (1, 300):
        truth, predicted, sigma = (values[:count] for values in known)
        found = regression_figures(truth, predicted, sigma, -23.0, MASS, resamples=5)
        draw_predicted(tmp_path / f"{count}.png", truth, predicted, sigma, found, -23.0, MASS)
        draw_calibration(tmp_path / f"z_{count}.png", (predicted - truth) / sigma, found)
    assert len(list(tmp_path.iterdir())) == 4
