"""The trainer of LensPINN and Lensformer: what teaches their lenses, what does not, and what is left of a run."""

import contextlib
import functools
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import trainers
from trainers import classify, classify_evaluation, pinn
from trainers.checkpoint import read_checkpoint
from trainers.command_line import load_config
from trainers.config import DataConfig, RunConfig, ValidationConfig
from trainers.data import open_data
from trainers.draws import Draws
from trainers.errors import CheckpointError
from trainers.finetune import Origin
from trainers.logs import read_table
from trainers.models.physics.compactness import compactness, seen
from trainers.pinn_config import PinnConfig
from trainers.pinn_seeing import draw_seen

CPU = torch.device("cpu")
SMALL = ValidationConfig(fit=30, score=12, test=20, neighbours=3)


@pytest.fixture(scope="session")
def rings(tmp_path_factory):
    """The path of a stored set of rings: their width is the class, their radius `lens.theta_E`; pixels of 1 arcsec."""
    rng = np.random.default_rng(2)
    label, theta_E = rng.integers(0, 3, 200), rng.uniform(3, 6, 200)
    axis = np.arange(16) - 7.5
    distance = np.hypot(axis[:, None], axis[None, :])
    width = 0.8 + 0.4 * label[:, None, None]
    image = 40 * np.exp(-(((distance - theta_E[:, None, None]) / width) ** 2)) + rng.normal(0, 1, (200, 16, 16))
    path = tmp_path_factory.mktemp("rings") / "rings.npz"
    arrays = {"image": image.astype(np.float32), "label": label, "lens.theta_E": theta_E}
    np.savez(path, **arrays, input_scale=1.0, pixel_scale=1.0, class_names=["thin", "middle", "broad"])
    return path


@pytest.fixture(scope="session")
def flags(tiny):
    """Those of `tiny` that are of neither network."""
    return [flag for flag in tiny if not flag.startswith(("--decoder", "--vit"))]


@pytest.fixture(scope="session")
def start(rings, flags):
    """Runs the trainer on the stored set: `start(folder, "--steps=4")` -> what it printed.

    Without pictures, which take longer than all the rest, unless they are asked for: then of one lens a class.
    """

    def train(folder, *more, data=rings, trainer=pinn, pictures=False):
        where = ["--data", str(data)] if data else ["--stream", "--set=grid.size=32"]
        argv = [*flags, *where, "--out", str(folder), "--steps=4", "--validate-every=2", "--augment=none", *more]
        return quietly(trainer, argv, pictures)

    return train


def quietly(trainer, argv, pictures=False):
    """What a trainer prints."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(pinn, "draw_seen", functools.partial(draw_seen, lenses_per_class=1) if pictures else no_pictures)
        if not pictures:
            patch.setattr(pinn, "draw_radii", no_pictures)
            patch.setattr(classify_evaluation, "draw_test", no_pictures)
        assert trainer.main(argv) == 0
    return printed.getvalue()


def no_pictures(*_):
    return []


@pytest.fixture
def run(start, tmp_path):
    """As `start`, in a folder of the test's own: `run("--steps=4", out=...)` -> the run's folder."""

    def train(*more, out="pinn", **how):
        start(tmp_path / out, *more, **how)
        return tmp_path / out

    return train


MODELS = ["lenspinn_small", "lensformer"]
OPTIONS = {"lenspinn_small": ["--no-preprocessing", "--average-d4"], "lensformer": ["--floor=0.05"]}


@pytest.fixture(scope="session")
def finished(start, tmp_path_factory):
    """Of each model's name a run that nobody changes, with pictures: its folder, and what it printed."""

    @functools.cache
    def once(model):
        folder = tmp_path_factory.mktemp(model) / "whole"
        own = [f"--model={model}", *OPTIONS[model], "--dropout=0.1", "--augment=d4", "--checkpoint-every=2"]
        return folder, start(folder, *own, pictures=True)

    return once


def task_of(rings, transform="asinh", **options):
    """A task on the stored set, as it is before the first step."""
    source = DataConfig(data=rings, input_transform=transform)
    config = PinnConfig(data=source, validation=SMALL, run=RunConfig(batch_size=8), **options)
    data = open_data(config.data, config.validation, 8, CPU)
    return pinn.PinnTask(config, data, CPU, Origin(None, None, {}))


def column(folder, name, table="train"):
    return [float(row[name]) for row in read_table(folder / f"{table}.csv")]


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("model", MODELS)
def test_a_run_leaves_everything_behind(finished, model):
    folder, printed = finished(model)
    names = {path.name for path in folder.iterdir()}
    assert names == {"checkpoints", "config.yaml", "grad_cam.png", "metrics.json", "predictions.npz", "sources.png",
                     "summary.json", "tensorboard", "test.png", "theta_E.npz", "theta_E.png", "train.csv",
                     "validation.csv"}  # fmt: skip
    summary, found, radii = json.loads((folder / "summary.json").read_text()), metrics(folder), np.load(
        folder / "theta_E.npz"
    )  # fmt: skip
    assert set(summary["trained"]) == {"macro_auc", "accuracy", "loss", "compactness", "theta_E_correlation",
                                       "theta_E_rms_arcsec"}  # fmt: skip
    assert [Path(path).name for path in summary["figures"]] == ["test.png", "theta_E.png", "sources.png",
                                                                "grad_cam.png"]  # fmt: skip
    assert found["theta_E_correlation"] == pytest.approx(np.corrcoef(radii["learned"], radii["true"])[0, 1])
    assert found["theta_E_rms_arcsec"] == pytest.approx(np.sqrt(np.mean((radii["learned"] - radii["true"]) ** 2)))
    assert "theta_E of 20 lenses: correlation" in printed


def learn_radii(task, steps):
    """Of a lens that is taught by compactness alone: what it says of the test images, and the truth, in pixels."""
    lens = [own for name, own in task.model.named_parameters() if name.startswith(("radius.", "correction.", "image_"))]
    adam, batches = torch.optim.Adam(lens, lr=1e-3), iter(task.data.source)
    for _ in range(steps):
        batch = next(batches)
        theta_E = task.network.einstein_radius(task.data.transform(batch.image))
        loss = task.lens_losses(batch.image, batch.params, theta_E)["compactness"].mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    test = next(task.data.test())
    return task.learned_radii(test.image), test.params["lens.theta_E"] / task.data.pixel_scale


@pytest.mark.parametrize("model", MODELS)
def test_compactness_finds_radii_that_no_label_tells(rings, model):
    learned, true = learn_radii(task_of(rings, model=model), 40)
    assert torch.corrcoef(torch.stack((learned, true)))[0, 1] > 0.9 and (learned - true).square().mean() < 0.5**2


def test_radii_of_streamed_lenses_are_learnt():
    """The slow test below in little: of lenses that vary as a preset has it, each of which is seen once."""
    lenses = DataConfig(stream=True, preset="model_a", set=("grid.size=32", "instrument.pixel_scale=0.2"))
    held_out = ValidationConfig(fit=10, score=10, test=100, neighbours=3)
    config = PinnConfig(data=lenses, validation=held_out)
    task = pinn.PinnTask(config, open_data(lenses, held_out, 16, CPU), CPU, Origin(None, None, {}))
    learned, true = learn_radii(task, 120)
    assert torch.corrcoef(torch.stack((learned, true)))[0, 1] > 0.9


def test_without_weights_it_is_trainers_classify(run):
    # minmax, as classify does not tell its models from where on there is only noise
    short = ("--augment=d4", "--steps=3", "--validate-every=3", "--input-transform=minmax")
    ours = run("--compactness=0", *short)
    theirs = run("--model=lenspinn_small", *short, out="classify", trainer=classify)
    assert column(ours, "loss") == column(theirs, "loss") and len(column(ours, "loss")) == 3
    one, two = metrics(ours), metrics(theirs)
    assert one["macro_auc"] == two["macro_auc"] and one["accuracy"] == two["accuracy"]


def test_the_loss_is_the_sum_of_its_parts(rings):
    task = task_of(rings, compactness=3.0, label_smoothing=0.1)
    batch = next(iter(task.data.source))
    draws = Draws(0, 0, batch.index)
    task.model.eval()
    images = task.data.transform(batch.image)
    found = task.network.explain(images)
    expected = functional.cross_entropy(found.outputs, batch.label, label_smoothing=0.1)
    expected = expected + 3.0 * compactness(seen(batch.image), found.theta_E).mean()
    torch.testing.assert_close(task.loss(task.model, batch, draws), expected)
    # whatever the network is shown
    minmax = task_of(rings, "minmax", compactness=3.0, augment="d4")
    own, other = (one.lens_losses(batch.image, batch.params, found.theta_E) for one in (task, minmax))
    assert torch.equal(own["compactness"], other["compactness"])


@pytest.mark.parametrize("model", MODELS)
def test_hard_leaves_the_lens_without_a_gradient_and_else_it_has_one(rings, model):
    for hard in (True, False):
        task = task_of(rings, model=model, hard=hard)
        batch = next(iter(task.data.source))
        task.loss(task.model, batch, Draws(0, 0, batch.index)).backward()
        lens = [own for name, own in task.model.named_parameters() if name.startswith(("radius.", "correction."))]
        others = [own for name, own in task.model.named_parameters() if not name.startswith(("radius.", "correction."))]
        assert lens and all((own.grad is None) == hard for own in lens)
        assert all(own.grad is not None for own in others)
        if not hard:
            assert all(own.grad.isfinite().all() for own in lens) and any(own.grad.any() for own in lens)


def test_chi_square_counts_after_its_time(flags, tmp_path):
    simulated = DataConfig(stream=True, preset="lenspinn", set=("grid.size=32",))
    config = PinnConfig(data=simulated, validation=SMALL, physics_weight=0.5, physics_after=0.5, compactness=0.0)
    task = pinn.PinnTask(config, open_data(simulated, SMALL, 8, CPU), CPU, Origin(None, None, {}))
    batch = next(iter(task.data.source))
    task.model.eval()
    with torch.no_grad():
        before, after = (float(task.loss(task.model, batch, Draws(0, step, batch.index, 10))) for step in (4, 5))
    part = task.lens_losses(batch.image, batch.params, task.learned_radii(batch.image))
    assert set(part) == {"chi_square"} and part["chi_square"].shape == (8,)
    assert after - before == pytest.approx(0.5 * float(part["chi_square"].mean()), rel=1e-4)
    true = batch.params["lens.theta_E"] / batch.pixel_scale
    right, wrong = (
        task.lens_losses(batch.image, batch.params, factor * true)["chi_square"].mean() for factor in (1.0, 0.9)
    )
    assert 0.8 < right < 0.5 * wrong


def test_chi_square_on_a_stream_is_validated(run):
    folder = run("--preset=lenspinn", "--physics-weight=0.01", "--physics-after=0", "--steps=2", "--validate-every=2",
                 data=None)  # fmt: skip
    figures = json.loads((folder / "summary.json").read_text())["trained"]
    assert figures["chi_square"] > 0.5 and figures["theta_E_rms_arcsec"] > 0
    assert "theta_E_correlation" not in figures  # theta_E is the same for all


@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_run_is_the_run_that_was_not_interrupted(finished, model, tmp_path):
    whole, part = finished(model)[0], tmp_path / "part"
    later = shutil.ignore_patterns("step_000004", "*.png", "*.npz", "metrics.json", "summary.json")
    shutil.copytree(whole, part, ignore=later)
    assert [path.name for path in (part / "checkpoints").glob("step_*")] == ["step_000002"]
    quietly(pinn, ["--resume", str(part / "checkpoints" / "step_000002")])
    one, two = metrics(whole), metrics(part)
    assert one.pop("checkpoint") != two.pop("checkpoint") and one == two
    assert column(whole, "loss") == column(part, "loss") and len(column(whole, "loss")) == 4
    assert (part / "checkpoints" / "step_000004").exists()


def test_a_loaded_model_has_the_options_of_its_run_and_predicts_as_it_was_tested(finished):
    folder, _ = finished("lenspinn_small")
    model, transform = trainers.load(folder)
    assert not model.module.preprocessing and model.module.floors == (0.02, 2.0)
    config = load_config(PinnConfig, folder)
    test = next(open_data(config.data, config.validation, 8, CPU).test())
    saved, radii = np.load(folder / "predictions.npz"), np.load(folder / "theta_E.npz")
    np.testing.assert_allclose(model.predict(test), saved["probability"], atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(model.module.einstein_radius(transform(test.image)), radii["learned"], rtol=1e-5)
    with pytest.raises(CheckpointError, match=r"by trainers\.pinn, not by trainers\.classify"):
        classify.main(["--evaluate-only", str(folder)])
    with pytest.raises(CheckpointError, match=r"by trainers\.mae, not by trainers\.pinn"):
        pinn.restore({"trainer": "mae"})
    options = read_checkpoint(folder).about["model"]["options"]
    assert options == {"preprocessing": False, "physics": True, "hard": False, "floor": 0.02, "noise_floor": 2.0,
                       "dropout": 0.1}  # fmt: skip


def test_a_cnn_alone_has_no_lens_to_speak_of(run):
    folder = run("--no-physics", "--steps=2", pictures=True)
    assert set(json.loads((folder / "summary.json").read_text())["trained"]) == {"macro_auc", "accuracy", "loss"}
    assert (folder / "grad_cam.png").exists() and not (folder / "sources.png").exists()
    assert "theta_E_rms_arcsec" not in metrics(folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", MODELS)
def test_a_short_streamed_run_learns_einstein_radii(tmp_path, model):
    """The recipe of the CPU with fewer steps, none of which sees a theta_E or an image twice."""
    folder = tmp_path / "run"
    short = ["--minutes=None", "--steps=500", "--validate-every=500", "--validation.fit=200", "--validation.score=100",
             "--workers=0", "--validation.test=500", "--accelerator=cpu"]  # fmt: skip
    argv = ["--config=pinn_cpu", "--stream", "--preset=model_a", f"--model={model}", f"--out={folder}", *short]
    assert pinn.main(argv) == 0
    found = metrics(folder)
    assert found["theta_E_correlation"] > 0.9 and found["theta_E_rms_arcsec"] < 0.12
    assert json.loads((folder / "summary.json").read_text())["images_repeated"] == 0
